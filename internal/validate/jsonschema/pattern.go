package jsonschema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

var errPattern = errors.New("the pattern cannot run in linear time")

// compilePattern compiles an ECMA 262 expression, as JSON Schema wants them
// (2020-12 core §6.4). Only what RE2 can run in linear time is taken: an
// expression that backtracks lets one short string occupy a processor.
func compilePattern(src string) (*pattern, error) {
	t := translator{src: src}
	goSrc, err := t.translate()
	if err != nil {
		return nil, fmt.Errorf("%w: %q", err, src)
	}
	tree, err := syntax.Parse(goSrc, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q does not compile: %w", src, err)
	}
	re, err := regexp.Compile(goSrc)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q does not compile: %w", src, err)
	}
	return &pattern{source: src, expr: goSrc, class: newClass(tree), table: newDFA(tree), re: re}, nil
}

// cost is what one match takes from the run's budget.
func (p *pattern) cost(text []byte) int {
	if p.table != nil {
		return 1 + len(text)/256
	}
	return 4 + len(text)/8
}

// A translator rewrites ECMA 262 syntax (with the u flag) as RE2's. Where both
// know a construct and mean different things, ECMA's meaning is spelled out.
type translator struct {
	src string
	i   int
	out strings.Builder
}

// space is ECMA's \s: more than RE2's.
const space = `\t\n\x0b\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`

func (t *translator) translate() (string, error) {
	atom := 0 // where the last atom begins in out, for repeats above RE2's 1,000
	var groups []int
	for t.i < len(t.src) {
		start := t.out.Len()
		switch c := t.src[t.i]; c {
		case '\\':
			if err := t.escape(false); err != nil {
				return "", err
			}
			atom = start
		case '[':
			if err := t.class(); err != nil {
				return "", err
			}
			atom = start
		case '.':
			t.out.WriteString(`[^\n\r\x{2028}\x{2029}]`)
			t.i++
			atom = start
		case '(':
			if err := t.group(); err != nil {
				return "", err
			}
			groups = append(groups, start)
		case ')':
			t.out.WriteByte(c)
			t.i++
			if n := len(groups); n > 0 {
				atom, groups = groups[n-1], groups[:n-1]
			}
		case '{':
			t.repeat(atom)
		default:
			if c != '*' && c != '+' && c != '?' {
				atom = start
			}
			t.out.WriteByte(c)
			t.i++
			for t.i < len(t.src) && t.src[t.i]&0xc0 == 0x80 { // the rest of a character
				t.out.WriteByte(t.src[t.i])
				t.i++
			}
		}
	}
	return t.out.String(), nil
}

// group passes (, (?: and (?<name>; looking around is refused.
func (t *translator) group() error {
	rest := t.src[t.i:]
	for _, look := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		if strings.HasPrefix(rest, look) {
			return fmt.Errorf("%w: it looks around with %s", errPattern, look)
		}
	}
	t.out.WriteByte('(')
	t.i++
	if strings.HasPrefix(rest, "(?") { // what follows the question mark is not a repeat
		t.out.WriteByte('?')
		t.i++
	}
	return nil
}

// repeat writes {n,m}. RE2 stops at 1,000 repeats of one atom, people write
// ^.{1,2048}$: a larger one becomes several in a row.
func (t *translator) repeat(atom int) {
	end := strings.IndexByte(t.src[t.i:], '}')
	if end < 0 {
		t.out.WriteString(`\{`)
		t.i++
		return
	}
	body := t.src[t.i+1 : t.i+end]
	low, high, ranged := strings.Cut(body, ",")
	lo, err := strconv.Atoi(low)
	hi := lo
	var errHigh error
	if ranged && high == "" {
		hi = -1
	} else if ranged {
		hi, errHigh = strconv.Atoi(high)
	}
	if err != nil || errHigh != nil {
		t.out.WriteString(`\{`)
		t.i++
		return
	}
	t.i += end + 1
	const most = 1000
	if lo <= most && hi <= most || lo > 10*most || hi > 10*most {
		t.out.WriteString("{" + body + "}")
		return
	}
	unit := t.out.String()[atom:]
	first := true
	piece := func(s string) {
		if !first {
			t.out.WriteString(unit)
		}
		first = false
		t.out.WriteString(s)
	}
	rest := hi - lo
	for ; lo > 0; lo -= min(lo, most) {
		piece("{" + strconv.Itoa(min(lo, most)) + "}")
	}
	if hi < 0 {
		piece("*")
		return
	}
	for ; rest > 0; rest -= min(rest, most) {
		piece("{0," + strconv.Itoa(min(rest, most)) + "}")
	}
}

func (t *translator) class() error {
	rest := t.src[t.i:]
	switch {
	case strings.HasPrefix(rest, "[^]"):
		t.out.WriteString(`[\x00-\x{10ffff}]`)
		t.i += 3
		return nil
	case strings.HasPrefix(rest, "[]"):
		t.out.WriteString(`[^\x00-\x{10ffff}]`)
		t.i += 2
		return nil
	}
	t.out.WriteByte('[')
	t.i++
	if t.i < len(t.src) && t.src[t.i] == '^' {
		t.out.WriteByte('^')
		t.i++
	}
	for t.i < len(t.src) {
		switch c := t.src[t.i]; c {
		case ']':
			t.out.WriteByte(c)
			t.i++
			return nil
		case '\\':
			if err := t.escape(true); err != nil {
				return err
			}
		case '[': // [:alpha:] means nothing in ECMA
			t.out.WriteString(`\[`)
			t.i++
		default:
			t.out.WriteByte(c)
			t.i++
		}
	}
	return errors.New("the pattern's [ is not closed")
}

func (t *translator) escape(class bool) error {
	if t.i+1 >= len(t.src) {
		return errors.New("the pattern ends in a backslash")
	}
	c := t.src[t.i+1]
	switch {
	case c == 'd' || c == 'D' || c == 'w' || c == 'W' || (c == 'b' || c == 'B') && !class:
		t.take(2, t.src[t.i:t.i+2])
	case c == 'b':
		t.take(2, `\x08`)
	case c == 's' && class:
		t.take(2, space)
	case c == 's':
		t.take(2, "["+space+"]")
	case c == 'S' && class:
		return fmt.Errorf(`%w: \S inside brackets`, errPattern)
	case c == 'S':
		t.take(2, "[^"+space+"]")
	case c == 't' || c == 'n' || c == 'v' || c == 'f' || c == 'r':
		t.take(2, t.src[t.i:t.i+2])
	case c == '0' && (t.i+2 >= len(t.src) || t.src[t.i+2]-'0' > 9):
		t.take(2, `\x00`)
	case c >= '0' && c <= '9' || c == 'k':
		return fmt.Errorf("%w: it refers back to a group", errPattern)
	case c == 'c' && t.i+2 < len(t.src) && (t.src[t.i+2]|0x20)-'a' < 26:
		t.take(3, fmt.Sprintf(`\x%02x`, t.src[t.i+2]&31))
	case c == 'x' && t.i+3 < len(t.src):
		t.take(4, t.src[t.i:t.i+4])
	case c == 'u':
		return t.unicode()
	case c == 'p' || c == 'P':
		return t.property()
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return fmt.Errorf(`\%c means nothing in a pattern (ECMA 262)`, c)
	default:
		t.take(1, `\`)
		n := 1
		for t.i+n < len(t.src) && t.src[t.i+n]&0xc0 == 0x80 {
			n++
		}
		if c >= 0x80 { // RE2 escapes ASCII only
			s := t.out.String()
			t.out.Reset()
			t.out.WriteString(s[:len(s)-1])
		}
		t.take(n, t.src[t.i:t.i+n])
	}
	return nil
}

func (t *translator) take(n int, s string) {
	t.i += n
	t.out.WriteString(s)
}

func (t *translator) unicode() error {
	rest := t.src[t.i+2:]
	digits := ""
	n := 0
	if strings.HasPrefix(rest, "{") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return errors.New(`the pattern's \u{ is not closed`)
		}
		digits, n = rest[1:end], end+1
	} else if len(rest) >= 4 {
		digits, n = rest[:4], 4
	}
	v, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || v > 0x10ffff {
		return errors.New(`the pattern's \u wants hexadecimal digits`)
	}
	if v >= 0xd800 && v < 0xdc00 && len(rest) >= 10 && rest[4:6] == `\u` {
		if low, err := strconv.ParseUint(rest[6:10], 16, 32); err == nil && low >= 0xdc00 && low < 0xe000 {
			v, n = (v-0xd800)<<10+(low-0xdc00)+0x10000, 10
		}
	}
	t.take(2+n, fmt.Sprintf(`\x{%x}`, v))
	return nil
}

// property writes \p{...}: general categories and scripts by short or long name.
func (t *translator) property() error {
	rest := t.src[t.i+2:]
	end := strings.IndexByte(rest, '}')
	if !strings.HasPrefix(rest, "{") || end < 0 {
		return errors.New(`the pattern's \p wants a name in braces`)
	}
	name := rest[1:end]
	if _, value, ok := strings.Cut(name, "="); ok {
		name = value
	}
	t.take(2+end+1, t.src[t.i:t.i+2]+"{"+name+"}")
	return nil
}
