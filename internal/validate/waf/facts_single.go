package waf

import (
	"crypto/rand"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A target is what the request-target says.
type target struct {
	known            bool
	uri, path, query string
	bad              bool // URI_PARSE_ERROR: not a URI; path and query are what stands before and behind the ?
}

// An answer is what was computed for an answer's single variables.
type answer struct {
	status, body string
	known        bool // body is
}

// singleOf returns what reads the single variable of that name, and false when
// name is no single variable of a message.
func singleOf(name string) (func(f *Facts) string, bool) {
	read, ok := map[string]func(f *Facts) string{
		"REMOTE_ADDR":             func(f *Facts) string { return f.Address },
		"REQUEST_METHOD":          func(f *Facts) string { return f.Method },
		"REQUEST_PROTOCOL":        func(f *Facts) string { return f.Protocol },
		"REQUEST_URI_RAW":         func(f *Facts) string { return f.Target },
		"REQUEST_LINE":            (*Facts).requestLine,
		"REQUEST_URI":             func(f *Facts) string { return f.targetParts().uri },
		"REQUEST_FILENAME":        func(f *Facts) string { return f.targetParts().path },
		"REQUEST_BASENAME":        func(f *Facts) string { return basename(f.targetParts().path) },
		"QUERY_STRING":            func(f *Facts) string { return f.targetParts().query },
		"URI_PARSE_ERROR":         func(f *Facts) string { return bit(f.targetParts().bad) },
		"REQUEST_BODY":            func(f *Facts) string { return f.RequestBody },
		"REQUEST_BODY_LENGTH":     func(f *Facts) string { return strconv.Itoa(len(f.RequestBody)) },
		"REQBODY_PROCESSOR":       func(f *Facts) string { return f.BodyProcessor },
		"REQBODY_ERROR":           func(f *Facts) string { return bit(f.BodyError != "") },
		"REQBODY_ERROR_MSG":       func(f *Facts) string { return f.BodyError },
		"MULTIPART_STRICT_ERROR":  func(f *Facts) string { return strings.TrimLeft(bit(f.MultipartStrict), "0") }, // "" for none
		"ARGUMENTS_LIMIT_REACHED": func(f *Facts) string { return bit(f.ArgsCut) },
		"ARGS_COMBINED_SIZE":      func(f *Facts) string { return strconv.Itoa(f.argsSize()) },
		"FILES_COMBINED_SIZE":     func(f *Facts) string { return strconv.FormatInt(f.FilesSize, 10) },
		"UNIQUE_ID":               (*Facts).uniqueID,
		"RESPONSE_STATUS":         (*Facts).responseStatus,
		"RESPONSE_PROTOCOL":       func(f *Facts) string { return f.Protocol },
		"RESPONSE_CONTENT_TYPE":   (*Facts).responseType,
		"RESPONSE_CONTENT_LENGTH": (*Facts).responseLength,
		"RESPONSE_BODY":           (*Facts).responseBody,
	}[name]
	return read, ok
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (f *Facts) requestLine() string {
	if f.RequestLine != "" {
		return f.RequestLine
	}
	if f.read.line == "" {
		f.read.line = f.Method + " " + f.Target + " " + f.Protocol
	}
	return f.read.line
}

// targetParts takes the request-target apart, once.
func (f *Facts) targetParts() *target {
	if !f.read.target.known {
		f.read.target = parseTarget(f.Target)
	}
	return &f.read.target
}

// parseTarget is [url.ParseRequestURI], with nothing to allocate for a target
// that has no escapes in its path and no character there that would get one.
func parseTarget(s string) target {
	if i := strings.IndexByte(s, '#'); i >= 0 {
		s = s[:i]
	}
	path, query, _ := strings.Cut(s, "?")
	if plainPath(path) && !hasControl(query) {
		return target{known: true, uri: s, path: path, query: query}
	}
	u, err := url.ParseRequestURI(s)
	if err != nil {
		return target{known: true, uri: s, path: path, query: query, bad: true}
	}
	return target{known: true, uri: u.String(), path: u.Path, query: u.RawQuery}
}

// plainPath reports whether url.URL gives path back as it is, decoded and encoded.
func plainPath(path string) bool {
	if path == "" || path[0] != '/' || len(path) > 1 && path[1] == '/' {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '/', c == '-', c == '_', c == '.', c == '~', c == ':', c == '@', c == '=', c == '+', c == '$', c == '&', c == ',', c == ';':
		default:
			return false
		}
	}
	return true
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// basename is what stands behind the last slash or backslash; all of path when
// nothing does.
func basename(path string) string {
	if i := strings.LastIndexAny(path, `/\`); i >= 0 && i+1 < len(path) {
		return path[i+1:]
	}
	return path
}

// argsSize is the length of the names and texts of query and body.
func (f *Facts) argsSize() int {
	n := 0
	for i := range f.Values {
		if v := &f.Values[i]; v.In == ArgGet || v.In == ArgPost {
			n += len(v.Name) + len(v.Text)
		}
	}
	return n
}

// processorIn is REQBODY_PROCESSOR in that phase: a body of no known type was read
// as a form, which REQBODY_PROCESSOR says from phase 2 on.
func (f *Facts) processorIn(phase int) string {
	if phase > 1 && f.BodyProcessor == "" && len(f.Body) > 0 {
		return "URLENCODED"
	}
	return f.BodyProcessor
}

// uniqueID is a random name of the message.
func (f *Facts) uniqueID() string {
	if f.read.unique == "" {
		f.read.unique = rand.Text()
	}
	return f.read.unique
}

func (f *Facts) responseStatus() string {
	if f.read.answer.status == "" && f.Status != 0 {
		f.read.answer.status = strconv.Itoa(f.Status)
	}
	return f.read.answer.status
}

// responseType is the media type of the answer without parameters. The last
// Content-Type counts.
func (f *Facts) responseType() string {
	for _, h := range slices.Backward(f.Answer) {
		if named(h.Name, "Content-Type") {
			media, _, _ := strings.Cut(h.Value, ";")
			return media
		}
	}
	return ""
}

// responseBody is the answer's body when it is text, as far as rules look.
func (f *Facts) responseBody() string {
	if a := &f.read.answer; !a.known {
		a.known = true
		switch f.responseType() {
		case "text/plain", "text/html", "text/xml":
			a.body = string(f.AnswerBody[:min(len(f.AnswerBody), maxAnswer)])
		}
	}
	return f.read.answer.body
}

func (f *Facts) responseLength() string {
	switch f.responseType() {
	case "text/plain", "text/html", "text/xml":
		return strconv.Itoa(min(len(f.AnswerBody), maxAnswer))
	}
	return ""
}
