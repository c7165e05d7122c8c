package validate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

var errNoRules = errors.New("the operation asks for rules, and there are none")

// An Engine asks the rules about one message: ours, or Coraza.
type Engine interface {
	Request(f *waf.Facts, v *waf.Verdict)
	Answer(f *waf.Facts, v *waf.Verdict)
}

// A prover is an engine that says, before any message comes, which of its rules
// can match what. Ours is one, Coraza is not: it looks at everything.
type prover interface {
	Len() int
	Rule(n int) *seclang.Rule
	Can(in waf.In, name string, l *rx.Language) waf.Mask
	CanName(in waf.In, l *rx.Language) waf.Mask
	Text(in waf.In, name, text string) waf.Mask
	Names(in waf.In, name string) waf.Mask
}

// A knower is an engine that can be spared looking names up.
type knower interface {
	Member(in waf.In, name string) *waf.Member
	Known(in waf.In, name []byte) *waf.Member
}

// A WAF is one engine with its rules, for all operations of a config. It is safe
// for concurrent use.
type WAF struct {
	engine Engine
	prover prover    // nil: none
	rooms  sync.Pool // of *room
	knower knower    // nil: none
	proofs proofs
}

func newWAF(e Engine) *WAF {
	w := &WAF{engine: e}
	w.prover, _ = e.(prover)
	w.knower, _ = e.(knower)
	w.rooms.New = func() any { return new(room) }
	return w
}

// proofs remembers what was proven about languages: documents say the same about
// many fields.
type proofs struct {
	mu        sync.Mutex
	languages map[string]*rx.Language
	masks     map[string]waf.Mask
}

// Settle lets go of what was only needed to load documents: call it behind the
// last one. What was proven is kept: a document that is loaded again says the same.
func (w *WAF) Settle() {
	if e, ok := w.engine.(interface{ Settle() }); ok {
		e.Settle()
	}
	w.proofs.mu.Lock()
	defer w.proofs.mu.Unlock()
	w.proofs.languages = nil
}

// can returns the rules that can match a text of t at a place, proven once. name
// is "" where it is not known.
func (w *WAF) can(in waf.In, name string, t *jsonschema.Text) waf.Mask {
	if t.None {
		return nothing()
	}
	key := fmt.Sprintf("%d %q %s", in, name, t.Key())
	w.proofs.mu.Lock()
	defer w.proofs.mu.Unlock()
	if m, ok := w.proofs.masks[key]; ok {
		return m
	}
	m := emptied(w.prove(in, name, t))
	w.remember(key, m)
	return m
}

// What is not worth a proof: a list of more words, and texts of any kind that are
// longer, among which is one for nearly every rule.
const (
	fewWords  = 64
	shortText = 8
)

// maxLanguages bounds the time a document of thousands of paths takes to load: a
// language costs about half a millisecond before anything is proven of it. To
// what comes behind it all rules are asked.
const maxLanguages = 1024

func (w *WAF) prove(in waf.In, name string, t *jsonschema.Text) waf.Mask {
	if t.Literals != nil && len(t.Literals) <= fewWords {
		m := nothing()
		for _, text := range t.Literals {
			m = either(m, w.prover.Text(in, name, text))
		}
		return m
	}
	return w.prover.Can(in, name, w.language(t))
}

// language is t for the prover; nil is every text. What cannot be written as an
// expression there is every text, too.
func (w *WAF) language(t *jsonschema.Text) *rx.Language {
	if t.Free() || t.Pattern == "" && t.Literals == nil && len(t.All) == 0 && len(t.Any) == 0 && t.MaxLength > shortText {
		return nil
	}
	key := t.Key()
	if l, ok := w.proofs.languages[key]; ok {
		return l
	}
	if len(w.proofs.languages) >= maxLanguages {
		return nil
	}
	l := w.newLanguage(t)
	if w.proofs.languages == nil {
		w.proofs.languages = map[string]*rx.Language{}
	}
	w.proofs.languages[key] = l
	return l
}

func (w *WAF) newLanguage(t *jsonschema.Text) *rx.Language {
	var l *rx.Language
	and := func(m *rx.Language) {
		switch {
		case m == nil:
		case l == nil:
			l = m
		default:
			l = l.And(m)
		}
	}
	if t.Literals != nil {
		and(rx.Texts(t.Literals...))
	}
	if t.Pattern != "" || t.MaxLength > 0 {
		if m, err := rx.LanguageOf(t.Pattern, t.MaxLength); err == nil {
			and(m)
		}
	}
	for i := range t.All {
		and(w.language(&t.All[i]))
	}
	if len(t.Any) > 0 {
		var some *rx.Language
		for i := range t.Any {
			m := w.language(&t.Any[i])
			if m == nil {
				return l // one alternative is every text
			}
			if some == nil {
				some = m
			} else {
				some = some.Or(m)
			}
		}
		and(some)
	}
	return l
}

// nothing is the mask of no rule.
func nothing() waf.Mask { return waf.Mask{} }

func empty(m waf.Mask) bool { return m != nil && len(m) == 0 }

// member is what the engine knows of a place and name, nil where it does not say.
func (w *WAF) member(in waf.In, name string) *waf.Member {
	if w.knower == nil || name == "" {
		return nil
	}
	return w.knower.Member(in, name)
}

// emptied gives a mask without rules its one form.
func emptied(m waf.Mask) waf.Mask {
	for _, word := range m {
		if word != 0 {
			return m
		}
	}
	if m == nil {
		return nil
	}
	return nothing()
}

// both is the rules that are in a and in b.
func both(a, b waf.Mask) waf.Mask {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := make(waf.Mask, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] & b[i]
	}
	return emptied(out)
}

// either is the rules that are in a or in b.
func either(a, b waf.Mask) waf.Mask {
	if a == nil || b == nil {
		return nil
	}
	out := make(waf.Mask, max(len(a), len(b)))
	copy(out, a)
	for i := range b {
		out[i] |= b[i]
	}
	return emptied(out)
}

// asksSizes reports whether a rule asks how long all names and texts are together.
func (w *WAF) asksSizes() bool {
	asks := func(r *seclang.Rule) bool {
		return slices.ContainsFunc(r.Targets, func(t seclang.Target) bool { return t.Collection == "ARGS_COMBINED_SIZE" })
	}
	for n := range w.prover.Len() {
		if r := w.prover.Rule(n); asks(r) || slices.ContainsFunc(r.Chain, asks) {
			return true
		}
	}
	return false
}

// names is [WAF.can] of one name.
func (w *WAF) names(in waf.In, name string) waf.Mask {
	w.proofs.mu.Lock()
	defer w.proofs.mu.Unlock()
	key := "name " + strconv.Itoa(int(in)) + " =" + name
	m, ok := w.proofs.masks[key]
	if !ok {
		m = emptied(w.prover.Names(in, name))
		w.remember(key, m)
	}
	return m
}

func (w *WAF) remember(key string, m waf.Mask) {
	if w.proofs.masks == nil {
		w.proofs.masks = map[string]waf.Mask{}
	}
	w.proofs.masks[key] = m
}

// canName is [WAF.can] of names that match an expression.
func (w *WAF) canName(in waf.In, expr string) waf.Mask {
	w.proofs.mu.Lock()
	defer w.proofs.mu.Unlock()
	key := "name " + strconv.Itoa(int(in)) + " " + expr
	m, ok := w.proofs.masks[key]
	if !ok {
		if l, err := rx.LanguageOf(expr, 0); err == nil {
			m = emptied(w.prover.CanName(in, l))
		}
		w.remember(key, m)
	}
	return m
}
