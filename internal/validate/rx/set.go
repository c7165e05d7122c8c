package rx

import (
	"fmt"
	"regexp/syntax"
	"unicode/utf8"
)

// A Pattern is one expression as its operator compiles it.
type Pattern struct {
	Expr   string // in Go's syntax with its flags: (?sm)...
	Binary bool   // over bytes, each a character of its own (Latin-1), as rsc.io/binaryregexp has it
}

// Options bound a set. The zero value is good.
type Options struct {
	MaxBytes int       // of memory for states made while scanning; 0: 24 MiB
	Programs *Programs // nil: none are shared
}

// Programs are expressions as they were compiled, for sets made one after the
// other that have some in common. The zero value is good.
type Programs struct{ known map[string]*syntax.Prog }

func (p *Programs) of(expr string) (*syntax.Prog, error) {
	if p == nil {
		return compile(expr)
	}
	if prog, ok := p.known[expr]; ok {
		return prog, nil
	}
	prog, err := compile(expr)
	if err != nil {
		return nil, err
	}
	if p.known == nil {
		p.known = map[string]*syntax.Prog{}
	}
	p.known[expr] = prog
	return prog, nil
}

const defaultBytes = 24 << 20

// A Set answers for many patterns at once. Its methods are safe for concurrent
// use.
type Set struct {
	n     int
	loose Bits // patterns that are not exact
	text  side // all expressions, over the characters of texts

	// Those over bytes once more, over bytes, for texts beyond ASCII. On ASCII
	// there is no difference.
	binary side
}

// NewSet compiles patterns. The error names the one that is wrong.
func NewSet(patterns []Pattern, o Options) (*Set, error) {
	s := &Set{n: len(patterns)}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	known := map[Pattern]int{}
	var progs, byteProgs []*syntax.Prog
	for i, p := range patterns {
		if e, ok := known[p]; ok {
			s.text.members[e] = append(s.text.members[e], i)
			if b := s.text.twin[e]; b >= 0 {
				s.binary.members[b] = s.text.members[e]
			}
			continue
		}
		prog, err := o.Programs.of(p.Expr)
		if err != nil {
			return nil, fmt.Errorf("pattern %d, %q: %w", i, p.Expr, err)
		}
		known[p] = len(progs)
		twin := -1
		if p.Binary {
			twin = len(byteProgs)
			byteProgs = append(byteProgs, prog)
			s.binary.members = append(s.binary.members, []int{i})
		}
		progs = append(progs, prog)
		s.text.twin = append(s.text.twin, twin)
		s.text.members = append(s.text.members, []int{i})
	}
	s.text.build(progs, false, o.MaxBytes/16*15)
	s.binary.build(byteProgs, true, o.MaxBytes/16)
	s.loose = NewBits(s.n)
	for _, side := range []*side{&s.text, &s.binary} {
		for e, members := range side.members {
			if side.nfa.loose[e] {
				for _, i := range members {
					s.loose.Set(i)
				}
			}
		}
	}
	return s, nil
}

func compile(expr string) (*syntax.Prog, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return syntax.Compile(tree.Simplify())
}

// Len is the number of patterns.
func (s *Set) Len() int { return s.n }

// Exact reports whether a bit for pattern i means that it matches. Where it is
// false it means "may match", and the caller asks the expression; no bit means
// everywhere that it does not match.
func (s *Set) Exact(i int) bool { return !s.loose.Has(i) }

// Bytes is about how much memory the states take that texts needed so far.
func (s *Set) Bytes() int {
	sum := int64(0)
	for _, side := range []*side{&s.text, &s.binary} {
		for _, r := range side.rooms {
			sum += r.used.Load()
		}
	}
	return int(sum)
}

// Scan sets in hits the bits of the patterns that match text anywhere, as
// MatchString of Go's regexp has it, and leaves the other bits as they are. Only
// the patterns of only are asked for, nil: all. left is what may be spent, in
// about nanoseconds, and is counted down; false: it did not suffice and hits is
// incomplete.
func (s *Set) Scan(text string, hits, only Bits, left *int64) (complete bool) {
	if s.binary.nfa == nil || isASCII(text) {
		return s.text.scan(text, hits, only, left, false)
	}
	return s.text.scan(text, hits, only, left, true) && s.binary.scan(text, hits, only, left, false)
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
