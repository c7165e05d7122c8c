package waf

import "strings"

// pairs adds the names and texts of a query or a form. The separator is & alone;
// an escape that is none stays as it is; a name without = has the text "".
func (f *Facts) pairs(in In, s string) {
	for count := 0; s != ""; {
		pair := s
		if i := strings.IndexByte(s, '&'); i >= 0 {
			pair, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if pair == "" {
			continue
		}
		if count == maxArgs {
			f.ArgsCut = true
			return
		}
		count++
		name, text, _ := strings.Cut(pair, "=")
		f.addEscaped(in, name, text)
	}
}

// addEscaped adds a value whose name and text may be percent-encoded.
func (f *Facts) addEscaped(in In, name, text string) {
	s := span{value: len(f.Values), nameLo: -1, textLo: -1}
	if escaped(name) {
		s.nameLo = f.mark()
		f.unescape(name)
		s.nameHi = f.mark()
	}
	if escaped(text) {
		s.textLo = f.mark()
		f.unescape(text)
		s.textHi = f.mark()
	}
	if s.nameLo >= 0 || s.textLo >= 0 {
		f.read.spans = append(f.read.spans, s)
	}
	f.Values = append(f.Values, Value{In: in, Name: name, Text: text})
}

func escaped(s string) bool {
	for i := range len(s) {
		if s[i] == '%' || s[i] == '+' {
			return true
		}
	}
	return false
}

// unescape appends s, decoded, to the arena.
func (f *Facts) unescape(s string) {
	b := f.read.arena
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
				b = append(b, hexValue(s[i+1])<<4|hexValue(s[i+2]))
				i += 2
				continue
			}
			b = append(b, c)
		default:
			b = append(b, c)
		}
	}
	f.read.arena = b
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// cookies adds the cookies of one Cookie field. Nothing is decoded, space and
// control characters around names and texts fall away. A cookie without a name
// stays, some servers read it.
func (f *Facts) cookies(s string) {
	for s != "" {
		part := s
		if i := strings.IndexByte(s, ';'); i >= 0 {
			part, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		name, text, _ := strings.Cut(part, "=")
		name, text = trimControls(name), trimControls(text)
		if name != "" || text != "" {
			f.Values = append(f.Values, Value{In: Cookie, Name: name, Text: text})
		}
	}
}

// trimControls cuts off the bytes 0x00 to 0x20 and 0x7F at both ends.
func trimControls(s string) string {
	for s != "" && (s[0] <= ' ' || s[0] == 0x7f) {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] <= ' ' || s[len(s)-1] == 0x7f) {
		s = s[:len(s)-1]
	}
	return s
}
