package waf

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// An operator is the question that a rule asks about a text, as Coraza 3.8.1
// answers it. It knows nothing of the rule's "!". Safe for concurrent use.
type operator interface {
	match(text string, caps *captures) bool // caps nil: nothing is captured
	cost(text string) int64                 // of match in about nanoseconds, at most
}

// captures are what an operator leaves in TX:0 to TX:n-1. It sets them only when
// it matches, and not those behind.
type captures struct {
	n     int
	field [10]string
}

func (c *captures) add(text string) (room bool) {
	c.field[c.n] = text
	c.n++
	return c.n < len(c.field)
}

// A byteOperator asks only which bytes a text has.
type byteOperator interface {
	operator
	matchBytes(text byteSet) bool
}

// newOperator makes the operator of a rule. Of those whose argument may hold
// macros, see [compare], the argument is taken as it is.
func newOperator(op seclang.Operator) (operator, error) {
	fail := func(err error) (operator, error) { return nil, fmt.Errorf("@%s: %w", op.Name, err) }
	if asks, ok := compare(op.Name); ok {
		if op.Arg == "" {
			return fail(errors.New("the argument is missing"))
		}
		if n, ok := relations(op.Name); ok {
			return numeric{sets: n, than: number(op.Arg)}, nil
		}
		return comparison{asks: asks, arg: op.Arg}, nil
	}
	switch op.Name {
	case "rx":
		return newRegex(op.Arg)
	case "pm":
		return newPhrases(strings.Split(op.Arg, " ")), nil
	case "pmFromFile", "pmf":
		return newPhrases(phraseLines(op.Data)), nil
	case "ipMatch":
		nets, err := networks(strings.Split(op.Arg, ","))
		if err != nil {
			return fail(err)
		}
		return nets, nil
	case "ipMatchFromFile", "ipMatchF":
		nets, err := networks(strings.Split(strings.Join(lines(op.Data), ","), ","))
		if err != nil {
			return fail(err)
		}
		return nets, nil
	case "validateByteRange":
		if op.Arg == "" {
			return constant(true), nil
		}
		allowed, err := parseBytes(op.Arg)
		if err != nil {
			return fail(err)
		}
		return byteRange{allowed: allowed}, nil
	case "validateUrlEncoding":
		return textual(badURLEncoding), nil
	case "validateUtf8Encoding":
		return textual(func(text string) bool { return !utf8.ValidString(text) }), nil
	case "detectSQLi":
		return detectSQLi{}, nil
	case "detectXSS":
		return detectXSS{}, nil
	case "unconditionalMatch":
		return constant(true), nil
	case "noMatch":
		return constant(false), nil
	}
	return nil, fmt.Errorf("operator @%s is not supported", op.Name)
}

// compare is the question of an operator whose argument may hold macros; the
// caller expands them.
func compare(name string) (asks func(text, arg string) bool, ok bool) {
	if is, ok := relations(name); ok {
		return func(text, arg string) bool { return is.of(number(text), number(arg)) }, true
	}
	switch name {
	case "beginsWith":
		return strings.HasPrefix, true
	case "endsWith":
		return strings.HasSuffix, true
	case "contains", "strmatch":
		return strings.Contains, true
	case "containsWord":
		return containsWord, true
	case "within":
		return func(text, arg string) bool { return strings.Contains(arg, text) }, true
	case "streq":
		return func(text, arg string) bool { return text == arg }, true
	}
	return nil, false
}

type constant bool

func (c constant) match(string, *captures) bool { return bool(c) }
func (constant) cost(string) int64              { return 1 }
func (c constant) matchBytes(byteSet) bool      { return bool(c) }

type textual func(text string) bool

func (f textual) match(text string, _ *captures) bool { return f(text) }
func (textual) cost(text string) int64                { return 5 + int64(len(text)) }

type comparison struct {
	asks func(text, arg string) bool
	arg  string
}

func (c comparison) match(text string, _ *captures) bool { return c.asks(text, c.arg) }
func (comparison) cost(text string) int64                { return 10 + int64(len(text)) }

// A relation says for which orders of two numbers an operator matches.
type relation struct{ less, same, more bool }

func relations(name string) (relation, bool) {
	switch name {
	case "eq":
		return relation{same: true}, true
	case "ge":
		return relation{same: true, more: true}, true
	case "gt":
		return relation{more: true}, true
	case "le":
		return relation{less: true, same: true}, true
	case "lt":
		return relation{less: true}, true
	}
	return relation{}, false
}

func (r relation) of(a, b int64) bool {
	switch {
	case a < b:
		return r.less
	case a > b:
		return r.more
	}
	return r.same
}

type numeric struct {
	sets relation
	than int64
}

func (n numeric) match(text string, _ *captures) bool { return n.sets.of(number(text), n.than) }
func (numeric) cost(text string) int64                { return 5 + int64(len(text)) }

// number reads a decimal number as strconv.Atoi does whose error is passed over:
// what is none is 0, what is too large the largest there is.
func number(text string) int64 {
	digits := text
	if text != "" && (text[0] == '-' || text[0] == '+') {
		digits = text[1:]
	}
	if len(digits) > 18 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0
		}
		return n
	}
	var n int64
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0
		}
		n = n*10 + int64(digits[i]-'0')
	}
	if text != "" && text[0] == '-' {
		return -n
	}
	return n
}

// containsWord is contains where no letter, digit or _ stands beside the word. It
// is ModSecurity's; Coraza has no such operator.
func containsWord(text, word string) bool {
	part := func(c byte) bool { return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }
	if word == "" {
		return true
	}
	for from := 0; from < len(text); {
		at := strings.Index(text[from:], word)
		if at < 0 {
			return false
		}
		at += from
		end := at + len(word)
		if (at == 0 || !part(text[at-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		from = at + 1
	}
	return false
}

// A network list matches addresses. IPv4 in IPv6 is IPv4.
type networkList []netip.Prefix

func networks(list []string) (networkList, error) {
	var nets networkList
	for _, text := range list {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "/") {
			if strings.Contains(text, ":") {
				text += "/128"
			} else {
				text += "/32"
			}
		}
		// Coraza passes over what it can not read. A list of networks with one less
		// than its author thinks is a hole, so it is an error here.
		_, net, err := net.ParseCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address and no network", text)
		}
		addr, _ := netip.AddrFromSlice(net.IP)
		bits, _ := net.Mask.Size()
		if addr.Is4In6() && bits >= 96 {
			bits -= 96
		}
		nets = append(nets, netip.PrefixFrom(addr.Unmap(), bits))
	}
	return nets, nil
}

func (l networkList) match(text string, _ *captures) bool {
	if len(text) > 64 {
		return false // no address is that long
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	for _, net := range l {
		if net.Contains(addr) {
			return true
		}
	}
	return false
}

func (l networkList) cost(string) int64 { return 100 + 5*int64(len(l)) }

// A byteRange matches texts with a byte that is not allowed.
type byteRange struct{ allowed byteSet }

func parseBytes(arg string) (set byteSet, err error) {
	for part := range strings.SplitSeq(arg, ",") {
		part = strings.TrimSpace(part)
		from, to, ok := strings.Cut(part, "-")
		if !ok {
			to = from
		}
		var n [2]int
		for i, text := range []string{from, to} {
			if n[i], err = strconv.Atoi(text); err != nil || n[i] < 0 || n[i] > math.MaxUint8 {
				return set, fmt.Errorf("%q is no byte and no range of bytes", part)
			}
		}
		for c := n[0]; c <= n[1]; c++ {
			set = set.with(byte(c))
		}
	}
	return set, nil
}

func (r byteRange) match(text string, _ *captures) bool {
	for i := range len(text) {
		if !r.allowed.has(text[i]) {
			return true
		}
	}
	return false
}

func (byteRange) cost(text string) int64 { return 5 + int64(len(text)) }

func (r byteRange) matchBytes(text byteSet) bool { return !text.within(r.allowed) }

// badURLEncoding finds a percent sign without two hexadecimal digits.
func badURLEncoding(text string) bool {
	for {
		at := strings.IndexByte(text, '%')
		if at < 0 {
			return false
		}
		if at+2 >= len(text) || nibble(text[at+1])|nibble(text[at+2]) > 15 {
			return true
		}
		text = text[at+3:]
	}
}

// lines are the lines of a data file that are not empty and no comments.
func lines(data []byte) (out []string) {
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}
