package jsonschema

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Character classes of the scanner.
const (
	charPlain byte = iota // part of a string as it is
	charStop              // quote, backslash, control, beyond ASCII
)

var charClass = func() (t [256]byte) {
	for i := range t {
		if i < 0x20 || i == '"' || i == '\\' || i >= utf8.RuneSelf {
			t[i] = charStop
		}
	}
	return t
}()

// stopByte reports the offset in w of the first byte that is no plain string
// byte, 8 when there is none (the classic zero-byte test, eight bytes at once).
func stopByte(w uint64) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, slash := w^ones*'"', w^ones*'\\'
	stop := (w | (w - ones*0x20) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)) & high
	return bits.TrailingZeros64(stop) / 8
}

// scanString reads the string that starts at src[i], a quote.
func (r *run) scanString(src []byte, i int) (int, *Error) {
	i++
	begin := r.at(i)
	flag := flagASCII
	for {
		for i+8 <= len(src) {
			n := stopByte(binary.LittleEndian.Uint64(src[i:]))
			i += n
			if n < 8 {
				break
			}
		}
		for i < len(src) && charClass[src[i]] == charPlain {
			i++
		}
		if i >= len(src) {
			return i, syntaxAt(i, "the end of a string")
		}
		switch c := src[i]; {
		case c == '"':
			r.scalar(kindString, flag, begin, r.at(i))
			return i + 1, nil
		case c == '\\':
			rn, n, fault := unescape(src, i)
			if fault != nil {
				return i, fault
			}
			if n == 2 && rn != '/' { // the shortest form it has
				flag |= flagEscaped
				i += n
				continue
			}
			r.flush(src, i)
			before := len(r.out)
			r.out = appendEscaped(r.out, rn)
			if r.out[before] == '\\' {
				flag |= flagEscaped
			}
			if rn >= utf8.RuneSelf {
				flag &^= flagASCII
			}
			i += n
			r.from = i
		case c < 0x20:
			return i, syntaxAt(i, "no raw control character in a string")
		default:
			rn, n := utf8.DecodeRune(src[i:])
			if rn == utf8.RuneError && n == 1 {
				return i, malformed("invalid_utf8", "byte "+strconv.Itoa(i)+": strings are UTF-8 (RFC 3629)")
			}
			flag &^= flagASCII
			i += n
		}
	}
}

// unescape reads the escape at src[i], a backslash (RFC 8259 §7). A surrogate
// without its other half is refused: readers replace it, keep it or stop.
func unescape(src []byte, i int) (rn rune, n int, fault *Error) {
	if i+1 >= len(src) {
		return 0, 0, syntaxAt(i, "an escape")
	}
	switch c := src[i+1]; c {
	case '"', '\\', '/':
		return rune(c), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	case 'u':
		rn, ok := hex4(src, i+2)
		if !ok {
			return 0, 0, syntaxAt(i, "four hexadecimal digits")
		}
		if !utf16.IsSurrogate(rn) {
			return rn, 6, nil
		}
		if i+7 < len(src) && src[i+6] == '\\' && src[i+7] == 'u' {
			if low, ok := hex4(src, i+8); ok {
				if full := utf16.DecodeRune(rn, low); full != utf8.RuneError {
					return full, 12, nil
				}
			}
		}
		return 0, 0, malformed("invalid_utf8", "byte "+strconv.Itoa(i)+": half of a surrogate pair")
	}
	return 0, 0, syntaxAt(i, "an escape")
}

func hex4(src []byte, i int) (rune, bool) {
	if i+4 > len(src) {
		return 0, false
	}
	var v rune
	for _, c := range src[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			v = v<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// appendEscaped writes rn inside a string with the fewest escapes; the form is
// unique, so equal strings have equal canonical bytes.
func appendEscaped(b []byte, rn rune) []byte {
	switch rn {
	case '"', '\\':
		return append(b, '\\', byte(rn))
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	if rn < 0x20 {
		const hex = "0123456789abcdef"
		return append(b, '\\', 'u', '0', '0', hex[rn>>4], hex[rn&15])
	}
	return utf8.AppendRune(b, rn)
}

// textOf returns the characters of string cell i, unescaped. The bytes are
// valid until the run ends.
func (r *run) textOf(i int32) []byte {
	c := &r.cells[i]
	raw := r.out[c.start:c.end]
	if c.flag&flagEscaped == 0 {
		return raw
	}
	start := len(r.text)
	r.text = appendUnescaped(r.text, raw)
	return r.text[start:]
}

// appendUnescaped appends the characters of a canonical string.
func appendUnescaped(dst, raw []byte) []byte {
	for k := 0; k < len(raw); {
		if raw[k] != '\\' {
			dst = append(dst, raw[k])
			k++
			continue
		}
		rn, n, _ := unescape(raw, k)
		dst = utf8.AppendRune(dst, rn)
		k += n
	}
	return dst
}
