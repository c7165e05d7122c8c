package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxForm   = 64 << 10
	maxFields = 64
)

// parseForm reads the body of a POST to an endpoint: form-encoded, each parameter
// once but for resource (RFC 8707 §2), nothing in the query, where it would be
// logged (RFC 6749 §2.3.1, §3.2). An empty parameter counts as left out (§3.1).
func parseForm(r *http.Request) (url.Values, error) {
	switch {
	case r.Method != http.MethodPost:
		return nil, &Error{Code: "invalid_request", Description: "POST is the only method here.", Status: http.StatusMethodNotAllowed}
	case r.URL.RawQuery != "":
		return nil, refuse("invalid_request", "Parameters belong in the body, not in the URL.")
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, refuse("invalid_request", "The body must be application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &Error{Code: "invalid_request", Description: "The body is too long.", Status: http.StatusRequestEntityTooLarge}
		}
		return nil, refuse("invalid_request", "The body could not be read.").because(err)
	}
	v, repeated, err := parseFields(string(body))
	if err != nil {
		return nil, err
	}
	if repeated != "" {
		return nil, refuse("invalid_request", "A parameter is repeated.")
	}
	return v, nil
}

// parseFields reads a query or a form. repeated is a parameter that is there more
// than once and must not be; which of its values was meant, nobody can know.
func parseFields(text string) (v url.Values, repeated string, err error) {
	if strings.Count(text, "&") >= maxFields {
		return nil, "", refuse("invalid_request", "There are too many parameters.")
	}
	all, err := url.ParseQuery(text)
	if err != nil {
		return nil, "", refuse("invalid_request", "The parameters are not form-encoded.").because(err)
	}
	v = make(url.Values, len(all))
	for name, values := range all {
		for _, value := range values {
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) || !utf8.ValidString(name) {
				return nil, "", refuse("invalid_request", "A parameter is not UTF-8 text.")
			}
			if value != "" {
				v.Add(name, value)
			}
		}
		if len(values) > 1 && name != "resource" {
			repeated = name
		}
	}
	return v, repeated, nil
}

// scopesOf reads a scope parameter (RFC 6749 §3.3): words of printable ASCII
// without " and \, each once.
func scopesOf(text string) ([]string, error) {
	var list []string
	for w := range strings.SplitSeq(text, " ") {
		if w == "" {
			continue
		}
		for i := range len(w) {
			if c := w[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
				return nil, refuse("invalid_scope", "The scope has a character that no scope has.")
			}
		}
		if !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	if len(list) > 64 {
		return nil, refuse("invalid_scope", "There are too many scopes.")
	}
	return list, nil
}
