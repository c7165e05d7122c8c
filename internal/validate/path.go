package validate

import (
	"strings"
	"unicode/utf8"
)

// The classes of bytes in a request's target.
const (
	byteUnreserved = 1 << iota // RFC 3986 §2.3: never encoded
	bytePath                   // may stand bare in a segment: pchar without ';'
	byteQuery                  // may stand bare in a query
	byteHex
)

// byteClass is the alphabet of RFC 3986 as bits. ';' is in no class: servlet
// engines cut "/admin;x" to "/admin" and old query parsers split at it, after
// the gateway has read it as part of a value. '\' is in none: others read it
// as '/'. '#' never reaches a server from an honest client.
var byteClass = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		switch {
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("-._~", b) >= 0:
			t[c] = byteUnreserved | bytePath | byteQuery
		case strings.IndexByte("!$&'()*+,=:@", b) >= 0:
			t[c] = bytePath | byteQuery
		case strings.IndexByte("/?[]{}|^`\"<>", b) >= 0:
			// Not all of them are pchar, but deepObject names (filter[a]) and
			// JSON in a query are sent bare by common clients. The query that
			// goes on is encoded afresh, so nothing depends on it.
			t[c] = byteQuery
		}
		if unhex(b) >= 0 {
			t[c] |= byteHex
		}
	}
	return t
}()

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// CheckPath refuses an escaped path that a service, a framework or a file
// system could resolve differently than the [Router] does: dot segments (bare
// or encoded), empty segments, an encoded '/', '\' or NUL, control characters,
// ';', a second layer of encoding, an encoded unreserved character, invalid
// escapes and invalid UTF-8. Its error is a [*gatehouse.Problem] invalid_path.
func CheckPath(path string) error {
	if path == "" || path[0] != '/' {
		return badPath(ruleSyntax, "The path must start with '/'.")
	}
	start, escaped := 1, false // of the segment
	for i := 1; ; i++ {
		if i == len(path) || path[i] == '/' {
			segment := path[start:i]
			if i == start && i != len(path) {
				return badPath("empty_segment", "The path must not have an empty segment.")
			}
			if segment == "." || segment == ".." {
				return badPath("dot_segment", "The path must not have dot segments.")
			}
			if escaped {
				if err := checkEscapes(segment); err != nil {
					return err
				}
			}
			if i == len(path) {
				return nil
			}
			start, escaped = i+1, false
			continue
		}
		switch c := path[i]; {
		case c == '%':
			escaped = true
		case byteClass[c]&bytePath == 0:
			return badPath(ruleSyntax, "The path has a character that must not stand there.")
		}
	}
}

// checkEscapes judges the percent-encoding of one segment.
func checkEscapes(s string) error {
	var plain [256]byte // of the decoded bytes, for the UTF-8 check; longer ones go on the heap
	b := plain[:0]
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) || byteClass[s[i+1]]&byteClass[s[i+2]]&byteHex == 0 {
			return badPath(ruleEncoding, "The path has an invalid percent-encoding.")
		}
		c := byte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		switch {
		case c < 0x20 || c == 0x7f:
			return badPath(ruleControl, "The path must not have control characters.")
		case c == '/' || c == '\\' || c == ';':
			return badPath(ruleEncoding, "The path must not have an encoded separator.")
		case byteClass[c]&byteUnreserved != 0:
			// No client needs it; "/%61dmin" is how path rules are passed by.
			return badPath(ruleEncoding, "The path must not encode characters that need none.")
		case c == '%' && i+4 < len(s) && byteClass[s[i+3]]&byteClass[s[i+4]]&byteHex != 0:
			return badPath(ruleEncoding, "The path must not be encoded twice.")
		}
		b = append(b, c)
		i += 2
	}
	if !utf8.Valid(b) {
		return badPath(ruleUTF8, "The path must be UTF-8.")
	}
	return nil
}

// decodeSegment undoes the percent-encoding of what [CheckPath] let pass.
func decodeSegment(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

const upperHex = "0123456789ABCDEF"

// appendSegment encodes one decoded value for a path: everything but pchar.
func appendSegment(dst []byte, s string) []byte { return appendEncoded(dst, s, bytePath) }

// appendQuery encodes one decoded name or value for a query: everything but the
// unreserved characters, a space as %20 and never as '+', which only form
// decoders take for a space.
func appendQuery(dst []byte, s string) []byte { return appendEncoded(dst, s, byteUnreserved) }

func appendEncoded(dst []byte, s string, bare uint8) []byte {
	from := 0
	for i := range len(s) {
		if c := s[i]; byteClass[c]&bare == 0 {
			dst = append(append(dst, s[from:i]...), '%', upperHex[c>>4], upperHex[c&15])
			from = i + 1
		}
	}
	return append(dst, s[from:]...)
}
