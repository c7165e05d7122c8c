package waf

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// decode replaces the escapes that at finds. At is asked about text from i on and
// answers with the byte that stands there and how many bytes write it; 0: that is
// no escape. It knows by the first byte, which is an escape's alone.
func decode(text string, at func(text string, i int) (c byte, n int)) string {
	var out strings.Builder
	kept := 0
	for i := 0; i < len(text); {
		switch text[i] {
		case '%', '+', '\\':
		default:
			i++
			continue
		}
		c, n := at(text, i)
		if n == 0 {
			i++
			continue
		}
		if out.Cap() == 0 {
			out.Grow(len(text))
		}
		out.WriteString(text[kept:i])
		out.WriteByte(c)
		i += n
		kept = i
	}
	if kept == 0 {
		return text
	}
	out.WriteString(text[kept:])
	return out.String()
}

func urlAt(text string, i int) (byte, int) {
	switch {
	case text[i] == '+':
		return ' ', 1
	case text[i] == '%' && i+2 < len(text):
		if hi, lo := nibble(text[i+1]), nibble(text[i+2]); hi|lo < 16 {
			return hi<<4 | lo, 3
		}
	}
	return 0, 0
}

func urlUniAt(text string, i int) (byte, int) {
	if text[i] != '%' || i+1 >= len(text) || text[i+1]|0x20 != 'u' {
		return urlAt(text, i)
	}
	if i+5 >= len(text) {
		return 0, 0
	}
	a, b, c, d := nibble(text[i+2]), nibble(text[i+3]), nibble(text[i+4]), nibble(text[i+5])
	if a|b|c|d >= 16 {
		return 0, 0
	}
	if fit := bestFit(rune(a)<<12 | rune(b)<<8 | rune(c)<<4 | rune(d)); fit != 0 {
		return fit, 6
	}
	low := c<<4 | d
	if a == 15 && b == 15 && low > 0 && low < 0x5f { // full width ASCII
		low += 0x20
	}
	return low, 6
}

func jsAt(text string, i int) (byte, int) {
	rest := text[i:]
	if rest[0] != '\\' || len(rest) < 2 {
		return 0, 0
	}
	switch {
	case rest[1] == 'u':
		if c, n := jsUnicode(rest); n > 0 {
			return c, n
		}
	case rest[1] == 'x' && len(rest) > 3:
		if hi, lo := nibble(rest[2]), nibble(rest[3]); hi|lo < 16 {
			return hi<<4 | lo, 4
		}
	case octal(rest[1]):
		most := 3
		if rest[1] > '3' {
			most = 2 // three digits would not fit a byte
		}
		c, n := octals(rest[1:], most)
		return byte(c), 1 + n
	}
	return control(rest[1]), 2
}

// jsUnicode reads \uHHHH and \u{H...}. The low byte is used, as in ModSecurity,
// and full width ASCII becomes ASCII.
func jsUnicode(rest string) (byte, int) {
	var code uint32
	if len(rest) > 2 && rest[2] == '{' {
		n := 0
		for n < 6 && 3+n < len(rest) && nibble(rest[3+n]) < 16 {
			code = code<<4 | uint32(nibble(rest[3+n]))
			n++
		}
		if n == 0 || 3+n >= len(rest) || rest[3+n] != '}' {
			return 0, 0
		}
		if code >= 0xff01 && code <= 0xff5e {
			code += 0x20
		}
		return byte(code), n + 4
	}
	if len(rest) < 6 {
		return 0, 0
	}
	for k := 2; k < 6; k++ {
		h := nibble(rest[k])
		if h >= 16 {
			return 0, 0
		}
		code = code<<4 | uint32(h)
	}
	if code > 0xff00 && code < 0xff5f {
		code += 0x20
	}
	return byte(code), 6
}

func escapeAt(text string, i int) (byte, int) {
	rest := text[i:]
	if rest[0] != '\\' || len(rest) < 2 {
		return 0, 0
	}
	switch c := rest[1]; {
	case c|0x20 == 'x' && len(rest) > 3:
		if hi, lo := nibble(rest[2]), nibble(rest[3]); hi|lo < 16 {
			return hi<<4 | lo, 4
		}
	case octal(c):
		c, n := octals(rest[1:], 3)
		return byte(c), 1 + n
	}
	return control(rest[1]), 2
}

// control is what a letter behind a backslash stands for, or itself.
func control(c byte) byte {
	switch c {
	case 'a':
		return '\a'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// octals reads up to most octal digits, of which there is one; what is above a
// byte is lost.
func octals(text string, most int) (c, n int) {
	for n < most && n < len(text) && octal(text[n]) {
		c = c<<3 | int(text[n]-'0')
		n++
	}
	return c & 255, n
}

// nibble is the value of a hexadecimal digit, 255 of anything else.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// cssDecode reads CSS escapes: up to six hexadecimal digits and one space behind
// them are a code point, written in UTF-8; U+0000 is U+FFFD.
func cssDecode(text string) string {
	at := strings.IndexByte(text, '\\')
	if at < 0 {
		return text
	}
	out := make([]byte, at, len(text))
	copy(out, text)
	for i := at; i < len(text); {
		if text[i] != '\\' {
			next := strings.IndexByte(text[i:], '\\')
			if next < 0 {
				next = len(text) - i
			}
			out = append(out, text[i:i+next]...)
			i += next
			continue
		}
		i++
		var code rune
		n := 0
		for n < 6 && i+n < len(text) && nibble(text[i+n]) < 16 {
			code = code<<4 | rune(nibble(text[i+n]))
			n++
		}
		switch {
		case n > 0:
			if code == 0 {
				code = utf8.RuneError
			}
			if code >= 0xff01 && code <= 0xff5e { // full width ASCII
				code -= 0xfee0
			}
			out = utf8.AppendRune(out, code)
			i += n
			if i < len(text) && strings.IndexByte(spaces, text[i]) >= 0 {
				i++
			}
		case i < len(text):
			if text[i] != '\n' { // a line that goes on
				out = append(out, text[i])
			}
			i++
		}
	}
	return string(out)
}

// htmlDecode resolves character references as HTML 5 does. An ampersand that
// starts none is common in prose and costs nothing.
func htmlDecode(text string) string {
	for i := 0; i+1 < len(text); i++ {
		next := strings.IndexByte(text[i:], '&')
		if next < 0 || i+next+1 >= len(text) {
			return text
		}
		i += next
		if c := text[i+1]; c == '#' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			return html.UnescapeString(text)
		}
	}
	return text
}

func allHex(text string) bool {
	for i := range len(text) {
		if nibble(text[i]) > 15 {
			return false
		}
	}
	return len(text)%2 == 0
}

func hexDecode(text string) string {
	if !allHex(text) {
		return text
	}
	out, err := hex.DecodeString(text)
	if err != nil {
		return text
	}
	return string(out)
}

// decodeBase64 decodes until the first character that is not of the alphabet.
// The forgiving one passes over such characters, and knows the URL alphabet.
func decodeBase64(text string, forgiving bool) string {
	if text == "" {
		return ""
	}
	var out strings.Builder
	out.Grow(len(text)/4*3 + 2)
	var bits uint32
	n := 0
loop:
	for i := range len(text) {
		var v byte
		switch c := text[i]; {
		case c >= 'A' && c <= 'Z':
			v = c - 'A'
		case c >= 'a' && c <= 'z':
			v = c - 'a' + 26
		case c >= '0' && c <= '9':
			v = c - '0' + 52
		case c == '+', c == '-' && forgiving:
			v = 62
		case c == '/', c == '_' && forgiving:
			v = 63
		case c == '\r', c == '\n':
			continue
		case c == '=', !forgiving:
			break loop
		default:
			continue
		}
		bits = bits<<6 | uint32(v)
		if n++; n == 4 {
			out.Write([]byte{byte(bits >> 16), byte(bits >> 8), byte(bits)})
			bits, n = 0, 0
		}
	}
	switch n {
	case 2:
		out.WriteByte(byte(bits >> 4))
	case 3:
		out.Write([]byte{byte(bits >> 10), byte(bits >> 2)})
	}
	return out.String()
}

func urlEncode(text string) string {
	const digits = "0123456789abcdef"
	grow := 0
	same := true
	for i := range len(text) {
		if !urlPlain(text[i]) {
			same = false
			if text[i] != ' ' {
				grow += 2
			}
		}
	}
	if same {
		return text
	}
	var out strings.Builder
	out.Grow(len(text) + grow)
	for i := range len(text) {
		switch c := text[i]; {
		case urlPlain(c):
			out.WriteByte(c)
		case c == ' ':
			out.WriteByte('+')
		default:
			out.WriteByte('%')
			out.WriteByte(digits[c>>4])
			out.WriteByte(digits[c&15])
		}
	}
	return out.String()
}

func urlPlain(c byte) bool {
	return c == '*' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// utf8ToUnicode writes every character beyond ASCII as %uHHHH, what is not UTF-8
// as %ufffd.
func utf8ToUnicode(text string) string {
	const digits = "0123456789abcdef"
	at := 0
	for at < len(text) && text[at] < utf8.RuneSelf {
		at++
	}
	if at == len(text) {
		return text
	}
	out := make([]byte, at, len(text)+len(text)/2+6)
	copy(out, text)
	for _, r := range text[at:] {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
			continue
		}
		out = append(out, '%', 'u')
		for shift := 20; shift >= 0; shift -= 4 {
			if shift < 16 || r>>shift != 0 {
				out = append(out, digits[r>>shift&15])
			}
		}
	}
	return string(out)
}
