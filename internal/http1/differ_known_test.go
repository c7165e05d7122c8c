package http1_test

import (
	"regexp"
	"slices"
	"strings"
)

// The differences that are meant. Each is where net/http does less well, or
// where it cannot be told from outside who is right.

// known takes out of an outcome what may differ in every talk.
func known(o *outcome) {
	o.saw, o.refused, o.answers = slices.Clone(o.saw), slices.Clone(o.refused), slices.Clone(o.answers)
	// Once a body has failed, our lane says why again; net/http says EOF, or forgets.
	o.saw = slices.DeleteFunc(o.saw, func(s string) bool { return strings.HasPrefix(s, "and again ") })
	body := false
	for i, s := range o.saw {
		// Closing a body reads the rest of it in net/http, which may fail; our lane
		// reads it when the handler has returned.
		if strings.HasPrefix(s, "close ") {
			o.saw[i] = "close"
		}
		if strings.Contains(s, " host=") {
			body = !strings.Contains(s, " length=0 ")
		}
	}
	// What is left of a body is found out to be bad or too long before or after
	// the answer's head leaves: the connection ends, but the head may not say so.
	if n := len(o.answers) - 1; n >= 0 && body {
		o.answers[n] = knownConnection.ReplaceAllString(o.answers[n], "")
	}
	// Bytes that cannot begin a request are refused as soon as there are enough of
	// them to say so, and in our lane a single one is not.
	o.refused = slices.DeleteFunc(o.refused, func(s string) bool {
		n := len(o.answers) - 1
		if !knownBadStart.MatchString(s) || n < 0 || !strings.Contains(o.answers[n], "urn:gatehouse:problem:") {
			return false
		}
		o.answers = o.answers[:n]
		return true
	})
}

// knownRefusal leaves of a refusal only that there was one. Bytes that are wrong in
// two ways are refused for what shows first, and net/http, which looks for the
// start of HTTP/2, takes the first fourteen alone.
func knownRefusal(o *outcome) {
	if len(o.refused) > 0 && len(o.answers) > 0 && !knownBadStart.MatchString(o.refused[0]) {
		o.refused[len(o.refused)-1], o.answers[len(o.answers)-1] = "refused", "refused"
	}
}

var knownConnection = regexp.MustCompile(`\n  Connection: [^\n]*`)

var knownBadStart = regexp.MustCompile(`^refused "([^A-Z]|\\x)`)

// knownScripts are handlers with which the lanes differ, in requests that hold
// the given text, and why.
var knownScripts = map[string]struct{ in, why string }{
	"declares a length that is none":       {"", "net/http sends the field it could not read; ours sends the body's length"},
	"declares a negative length":           {"", "as above"},
	"declares a length with blanks":        {"", "as above"},
	"declares an empty length":             {"", "as above"},
	"declares two lengths":                 {"", "net/http sends both, which no strict client takes; ours sends the first"},
	"sets the coding chunked and a length": {"HTTP/1.0", "net/http promises to keep a connection that it closes"},
	"lets MaxBytesReader stop the body":    {"", "net/http's own reader has a private way to close net/http's own connection"},
	"changes the request's method":         {"HEAD", "net/http asks the request, which the handler changed, whether it was HEAD"},
	"takes the body away":                  {"Expect", "net/http forgets that the caller waits for 100 Continue, and may read his next request as a body"},
	"answers 101 without a hijack":         {"", "what follows is no HTTP, and there is nobody to say what it is"},
	"sets Connection: Close, x":            {"300000", "both close; net/http says so in its own words when it found out itself"},
	"panics after much":                    {"HEAD", "net/http sends what it held when the handler panicked; ours sends nothing more"},
}
