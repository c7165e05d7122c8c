package waf

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// maxGroups is how many groups of an expression are captured, the whole match
// among them: Coraza stops before TX:9.
const maxGroups = 9

// A regex is the operator rx. Syntax is checked when it is made; the program,
// which takes longer and more room, is made when it is first needed: most are
// never, as the one pass over all expressions comes before them.
type regex struct {
	pattern  rx.Pattern
	groups   int // that a match captures, itself among them
	shortest int // no text with fewer bytes matches
	compiled func() *regexp.Regexp
}

func newRegex(arg string) (*regex, error) {
	p := patternOf(arg)
	tree, err := syntax.Parse(p.Expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("@rx: %w", err)
	}
	return &regex{pattern: p, groups: min(tree.MaxCap()+1, maxGroups), shortest: shortestOf(tree), compiled: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(p.Expr) })}, nil
}

// patternOf is the expression of rx as it is compiled: dots match line breaks, ^
// and $ match at lines, but not where it has bytes that are no UTF-8; that one
// matches bytes.
func patternOf(arg string) rx.Pattern {
	if prefixed := "(?sm)" + arg; utf8.ValidString(escapedBytes(prefixed)) {
		return rx.Pattern{Expr: prefixed}
	}
	return rx.Pattern{Expr: arg, Binary: true}
}

// escapedBytes is expr with its \xHH and \x{HH} as the bytes they stand for,
// which says whether they are meant as bytes or as characters.
func escapedBytes(expr string) string {
	var out []byte
	for i := 0; i < len(expr); i++ {
		if expr[i] != '\\' {
			out = append(out, expr[i])
			continue
		}
		rest := expr[i:]
		if len(rest) < 4 {
			out = append(out, rest...)
			break
		}
		if rest[1] != 'x' {
			out = append(out, '\\')
			continue
		}
		hex, size := rest[2:4], 4
		if end := strings.IndexByte(rest, '}'); len(rest) >= 6 && rest[2] == '{' && end >= 0 {
			hex, size = rest[3:end], end+1
		}
		if len(hex) > 2 {
			hex = hex[:2] // Coraza reads two digits and passes over the rest
		}
		b, err := strconv.ParseUint(hex, 16, 8)
		if err != nil || len(hex) < 2 {
			out = append(out, '\\')
			continue
		}
		out = append(out, byte(b))
		i += size - 1
	}
	return string(out)
}

func (r *regex) match(text string, caps *captures) bool {
	subject := text
	if r.pattern.Binary {
		subject = latin1(text)
	}
	if caps == nil {
		return r.compiled().MatchString(subject)
	}
	at := r.compiled().FindStringSubmatchIndex(subject)
	for i := 0; i+1 < len(at) && i < 2*maxGroups; i += 2 {
		group := ""
		if at[i] >= 0 {
			from, to := at[i], at[i+1]
			if r.pattern.Binary { // a character of subject is a byte of text
				from, to = utf8.RuneCountInString(subject[:from]), utf8.RuneCountInString(subject[:to])
			}
			group = text[from:to]
		}
		caps.add(group)
	}
	return at != nil
}

func (r *regex) cost(text string) int64 { return 500 + 100*int64(len(text)) }

// latin1 is text with each byte as the character of that number.
func latin1(text string) string {
	i := 0
	for i < len(text) && text[i] < utf8.RuneSelf {
		i++
	}
	if i == len(text) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/2)
	for i := range len(text) {
		out = utf8.AppendRune(out, rune(text[i]))
	}
	return string(out)
}
