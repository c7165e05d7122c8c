package waf

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// Can returns the rules that can match some text of l where it stands at that
// place and name, alone or as a link of their chain. What is not in it can not
// match whatever is sent. l nil is all texts, name "" any name.
func (r *Rules) Can(in In, name string, l *rx.Language) Mask {
	return r.can(in, name, ofMembers, l)
}

// CanName is [Rules.Can] of names that are in l.
func (r *Rules) CanName(in In, l *rx.Language) Mask { return r.can(in, "", ofNames, l) }

// Text returns the rules that can match this very text, alone or as a link of
// their chain.
func (r *Rules) Text(in In, name, text string) Mask {
	m := make(Mask, (len(r.rules)+63)/64)
	r.seen(in, name, ofMembers, func(x *rule, l *link) {
		if l.always || l.op == nil || l.matches(text) {
			m[x.n>>6] |= 1 << (x.n & 63)
		}
	})
	return m
}

func (r *Rules) can(in In, name string, kind aimKind, l *rx.Language) Mask {
	m := make(Mask, (len(r.rules)+63)/64)
	p := r.provers.of(r, l)
	r.seen(in, name, kind, func(x *rule, k *link) {
		if !m.Has(x.n) && (p == nil || p.possible(k)) {
			m[x.n>>6] |= 1 << (x.n & 63)
		}
	})
	return m
}

// seen is each, where the name may be unknown.
func (r *Rules) seen(in In, name string, kind aimKind, do func(*rule, *link)) {
	if name != "" || in == Line {
		r.each(in, name, kind, do)
		return
	}
	for _, x := range r.rules {
		for i := range x.links {
			l := &x.links[i]
			if slices.ContainsFunc(l.targets, func(s aim) bool { return !s.count && s.kind == kind && s.in.has(in) }) {
				do(x, l)
			}
		}
	}
}

// provers are what was proven about languages while documents were loaded.
type provers struct {
	mu    sync.Mutex
	sets  []*asked
	index map[rx.Pattern]where
	known map[*rx.Language]*prover
	exact int // languages that expressions were held against, step by step
}

// maxExact bounds the time a document with thousands of languages takes to load:
// behind it, only the bytes of a language are held against the expressions.
const maxExact = 128

// Settle lets go of what was only needed to prove something about the documents
// that were loaded: as much again as the rules themselves. [Rules.Can] and its
// like can still be asked; they begin anew.
func (r *Rules) Settle() {
	p := &r.provers
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets, p.index, p.known = nil, nil, nil
}

// A where is the place of an expression in the sets.
type where struct{ set, n int }

// An asked is a set of expressions and what each needs.
type asked struct {
	set   *rx.Set
	needs []need
}

func (p *provers) of(r *Rules, l *rx.Language) *prover {
	if l == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.index == nil && !p.read(r) {
		return nil
	}
	x, ok := p.known[l]
	if !ok {
		x = &prover{all: p}
		x.first = x.newVariant(l)
		p.known[l] = x
	}
	return x
}

// read collects the expressions of the rules: most stand in the sets that scans
// are made of.
func (p *provers) read(r *Rules) bool {
	p.index, p.known = map[rx.Pattern]where{}, map[*rx.Language]*prover{}
	seen := map[*bundle]bool{}
	for _, s := range [...]*scan{r.request, r.answer} {
		for _, places := range [...][]*place{s.members[:], s.names[:], s.singles} {
			for _, at := range places {
				if at != nil && !seen[at.bundle] {
					seen[at.bundle] = true
					p.add(at.sets[0].set, at.patterns)
				}
			}
		}
	}
	var rest []rx.Pattern
	for _, x := range r.rules {
		for i := range x.links {
			if op, ok := x.links[i].op.(*regex); ok {
				pattern := op.pattern
				if _, known := p.index[pattern]; !known && !slices.Contains(rest, pattern) {
					rest = append(rest, pattern)
				}
			}
		}
	}
	set, err := rx.NewSet(rest, rx.Options{})
	if err != nil {
		return false
	}
	p.add(set, rest)
	return true
}

func (p *provers) add(set *rx.Set, patterns []rx.Pattern) {
	a := &asked{set: set, needs: make([]need, len(patterns))}
	for i, pattern := range patterns {
		a.needs[i] = needOf(pattern.Expr)
		if _, known := p.index[pattern]; !known {
			p.index[pattern] = where{len(p.sets), i}
		}
	}
	p.sets = append(p.sets, a)
}

// A prover proves what can match the texts of one language.
type prover struct {
	all   *provers
	mu    sync.Mutex
	first *variant
}

// A variant is a language as transformations make it.
type variant struct {
	l       *rx.Language
	bytes   byteSet
	fold    *variant            // lower-cased
	cut     map[string]*variant // shorter texts of these bytes and some more
	rx      []rx.Bits           // by set: which expressions are possible
	phrases map[*phrases]bool
	exact   bool
	sqli    *bool
	xss     *bool
}

func (p *prover) newVariant(l *rx.Language) *variant {
	return &variant{l: l, bytes: byteSet(l.Alphabet()), rx: make([]rx.Bits, len(p.all.sets)), phrases: map[*phrases]bool{}, cut: map[string]*variant{}}
}

// possible reports whether some text of the language may match the link.
func (p *prover) possible(l *link) bool {
	if l.always || l.op == nil || l.negate {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.first
	if l.multi && p.matches(l, f) {
		return true
	}
	for i := range l.chain {
		if f = p.transformed(f, &l.chain[i]); f == nil {
			return true
		}
		if l.multi && p.matches(l, f) {
			return true
		}
	}
	return p.matches(l, f)
}

// transformed is the language of what a transformation makes of the texts of f;
// nil when nothing is known of it.
func (p *prover) transformed(f *variant, t *transform) *variant {
	if t.idle(f.bytes) {
		return f
	}
	switch t.name {
	case "lowercase":
		if f.fold == nil {
			f.fold = p.newVariant(f.l.Fold())
		}
		if f.bytes[2]|f.bytes[3] != 0 { // a Kelvin sign becomes a k, a capital i with its dot an i
			return p.cut(f.fold, "ik")
		}
		return f.fold
	case "removewhitespace", "removenulls", "trim", "trimleft", "trimright", "removecommentschar":
		return p.cut(f, "")
	case "removecomments": // which leaves a zero byte behind the last of a text, a space for one without end
		return p.cut(f, "\x00 ")
	case "compresswhitespace", "replacecomments", "replacenulls":
		return p.cut(f, " ")
	case "urldecode", "urldecodeuni":
		if !f.bytes.has('%') { // a plus becomes a space
			return p.cut(f, " ")
		}
	}
	return nil
}

// cut is the language of all texts of f's bytes and some more.
func (p *prover) cut(f *variant, more string) *variant {
	if out, ok := f.cut[more]; ok {
		return out
	}
	allowed := f.bytes.or(setOf(more))
	var out *variant
	if l, err := rx.LanguageOf(classOf(allowed), 0); err == nil {
		out = p.newVariant(l)
	}
	f.cut[more] = out
	return out
}

// classOf is an expression for the texts of some bytes; those beyond ASCII are
// all characters there.
func classOf(allowed byteSet) string {
	const hex = "0123456789abcdef"
	b := []byte(`^[`)
	for c := range 0x80 {
		if allowed.has(byte(c)) {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	if allowed[2]|allowed[3] != 0 {
		b = append(b, `\x{80}-\x{10ffff}`...)
	}
	if len(b) == 2 {
		return `^$`
	}
	return string(append(b, `]*$`...))
}

func (p *prover) matches(l *link, f *variant) bool {
	switch op := l.op.(type) {
	case *regex:
		return p.regex(f, op.pattern)
	case *phrases:
		return p.phrase(f, op)
	case detectSQLi:
		return f.ask(&f.sqli, func() bool { return f.canSQLi() })
	case detectXSS:
		return f.ask(&f.xss, func() bool { return f.one(`=|<[!?/%\x00A-Za-z]`) })
	case comparison:
		switch l.name {
		case "streq", "contains", "strmatch", "containsWord", "beginsWith", "endsWith":
			return f.one(regexp.QuoteMeta(op.arg))
		}
	case byteRange:
		return op.matchBytes(f.bytes)
	case constant:
		return bool(op)
	}
	return true
}

func (f *variant) ask(known **bool, prove func() bool) bool {
	if *known == nil {
		answer := prove()
		*known = &answer
	}
	return **known
}

// one reports whether some text of f may match an expression.
func (f *variant) one(expr string) bool {
	need := needOf(expr)
	if !need.met(f.bytes) {
		return false
	}
	s, err := rx.NewSet([]rx.Pattern{{Expr: expr}}, rx.Options{})
	return err != nil || s.Possible(f.l).Has(0)
}

func (p *prover) regex(f *variant, pattern rx.Pattern) bool {
	at, ok := p.all.index[pattern]
	if !ok {
		return true
	}
	if f.rx[at.set] == nil {
		a := p.all.sets[at.set]
		only := rx.NewBits(a.set.Len())
		for i := range a.needs {
			if a.needs[i].met(f.bytes) {
				only.Set(i)
			}
		}
		if p.mayBeExact(f) {
			only = a.set.PossibleAmong(f.l, only)
		}
		f.rx[at.set] = only
	}
	return f.rx[at.set].Has(at.n)
}

func (p *prover) mayBeExact(f *variant) bool {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if !f.exact && p.all.exact < maxExact {
		f.exact = true
		p.all.exact++
	}
	return f.exact
}

// mostPhrases is how many phrases are looked for one by one whose bytes are all
// in a language.
const mostPhrases = 64

func (p *prover) phrase(f *variant, op *phrases) bool {
	answer, ok := f.phrases[op]
	if !ok {
		answer = f.canPhrase(op)
		f.phrases[op] = answer
	}
	return answer
}

// canPhrase reports whether some text may hold one of the phrases, in capitals or
// not.
func (f *variant) canPhrase(op *phrases) bool {
	var some []string
	for _, phrase := range op.list {
		if f.spells(phrase) {
			some = append(some, regexp.QuoteMeta(phrase))
		}
	}
	switch {
	case len(some) == 0:
		return false
	case len(some) > mostPhrases:
		return true
	}
	return f.one(`(?i)` + strings.Join(some, "|"))
}

func (f *variant) spells(phrase string) bool {
	for i := range len(phrase) {
		c := phrase[i]
		if !f.bytes.has(c) && !(c|0x20 >= 'a' && c|0x20 <= 'z' && f.bytes.has(c^0x20)) {
			return false
		}
	}
	return true
}

// canSQLi reports whether libinjection could find something in a text of f: some
// entry of its table needs only kinds of tokens that a text could give.
func (f *variant) canSQLi() bool {
	var have kinds
	var letters uint32
	alone := true // a text is one word
	for c := range 0x80 {
		b := byte(c)
		if !f.bytes.has(b) {
			continue
		}
		class := sqliBytes[b]
		alone = alone && class == sqliWord && b != '.'
		switch class {
		case sqliOther:
			return true
		case sqliWord:
			have |= sqlBareword
			switch {
			case b|0x20 >= 'a' && b|0x20 <= 'z':
				letters |= 1 << (b | 0x20 - 'a')
			case b >= '0' && b <= '9', b == '.':
				have |= sqlNumeral
			}
		case sqliOperator:
			have |= sqlSymbol
			switch b {
			case '&', '|':
				have |= sqlLogic
			case '#':
				have |= sqlComment
			case ':':
				have |= sqlColon
			case '@':
				have |= sqlVariable
			case '\\':
				have |= sqlNumeral
			}
		case sqliQuote:
			have |= sqlQuoted | sqlTwoQuoted | sqlNumeral
		case sqliPoint:
			have |= pointKinds(b)
		}
	}
	if f.bytes[2]|f.bytes[3] != 0 {
		return true // capitals of some letters beyond ASCII are in it
	}
	if alone && !f.one(`^[0-9]`) {
		return false // one token, and no entry of one is a word
	}
	if f.one(`--`) {
		have |= sqlComment
	}
	if f.one(`/\*`) {
		have |= sqlComment | sqlSlashed | sqlEvil
	}
	for _, s := range sqliSpelled {
		if s.letters&^letters == 0 {
			have |= s.kinds
		}
	}
	return sqli().matches(have)
}
