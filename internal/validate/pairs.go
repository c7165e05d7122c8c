package validate

import (
	"unicode/utf8"
)

// maxPairs bounds the names and values of one query or form.
const maxPairs = 256

// A pair is one name=value of a query or a form, decoded.
type pair struct {
	name, value string
	bare        bool  // "name" without '='
	known       int32 // of a query: see queryName
}

// pairFault is why a query or a form cannot be read in one way only.
type pairFault struct{ rule, detail string }

// appendPairs reads application/x-www-form-urlencoded text (WHATWG URL §5.1),
// strictly: no ';' (old parsers split there), no invalid escape (net/url drops
// such a pair in silence), no invalid UTF-8, no control character, no empty
// name. In a form the line breaks and tabs of a text field are allowed.
func appendPairs(dst []pair, raw string, form bool) ([]pair, *pairFault) {
	if raw == "" {
		return dst, nil
	}
	for from := 0; from <= len(raw); {
		// One pair ends at the next '&'; its name at the first '='.
		end, equals, plain := from, -1, true
		for ; end < len(raw) && raw[end] != '&'; end++ {
			c := raw[end]
			if c == '=' && equals < 0 {
				equals = end
			}
			plain = plain && byteClass[c]&byteQuery != 0 && c != '+' // '%' is of no class
		}
		if len(dst) >= maxPairs {
			return dst, &pairFault{ruleTooMany, "There are too many parameters."}
		}
		p := pair{bare: equals < 0}
		if p.name = raw[from:end]; equals >= 0 {
			p.name, p.value = raw[from:equals], raw[equals+1:end]
		}
		from = end + 1
		if p.name == "" {
			return dst, &pairFault{ruleSyntax, "A parameter has no name."}
		}
		if !plain {
			var fault *pairFault
			if p.name, fault = decodePair(p.name, false); fault != nil {
				return dst, fault
			}
			if p.value, fault = decodePair(p.value, form); fault != nil {
				return dst, fault
			}
		}
		dst = append(dst, p)
	}
	return dst, nil
}

// decodePair undoes '+' and percent-encoding. Text that has neither is returned
// as it is, without a copy.
func decodePair(s string, text bool) (string, *pairFault) {
	plain := true
	for i := range len(s) {
		c := s[i]
		if c == '%' || c == '+' {
			plain = false
			continue
		}
		if byteClass[c]&byteQuery == 0 {
			if c == ';' {
				return "", &pairFault{ruleSyntax, "';' must be written %3B."}
			}
			return "", &pairFault{ruleSyntax, "There is a character that must be percent-encoded."}
		}
	}
	if plain {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) || byteClass[s[i+1]]&byteClass[s[i+2]]&byteHex == 0 {
				return "", &pairFault{ruleEncoding, "There is an invalid percent-encoding."}
			}
			d := byte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			if (d < 0x20 || d == 0x7f) && !(text && (d == '\t' || d == '\n' || d == '\r')) {
				return "", &pairFault{ruleControl, "There must be no control characters."}
			}
			b = append(b, d)
			i += 2
		default:
			b = append(b, c)
		}
	}
	if !utf8.Valid(b) {
		return "", &pairFault{ruleUTF8, "The text must be UTF-8."}
	}
	return string(b), nil
}
