package validate

import (
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// FieldRules say which rules look at one value of an operation, and why the
// others do not.
type FieldRules struct {
	In       string    `json:"in"`                // query, path, header, cookie, body
	Name     string    `json:"name,omitempty"`    // of a parameter or a form's field
	Pointer  string    `json:"pointer,omitempty"` // of a leaf of a JSON body: "/items/*/note"; {} is any member the schema does not name
	Content  string    `json:"content,omitempty"` // media type of the body
	Language string    `json:"language"`          // what can stand there, in words: "pattern ^ord_[a-z0-9]{10}$"
	Rules    int       `json:"rules"`             // that look at such a place at all
	Left     []int     `json:"left"`              // ids of those that can match there
	Removed  []Removal `json:"removed,omitempty"`
}

// A Removal is a reason for which rules do not look at a value.
type Removal struct {
	Why   string `json:"why"`
	Rules []int  `json:"rules"` // their ids
}

// A field is one FieldRules, before anyone asks for it.
type field struct {
	in, name, pointer, content string
	language                   string
	text                       jsonschema.Text
	where                      waf.In
	kind                       jsonschema.Kind
	proven, left               waf.Mask
}

// Remaining says for each value of the operation which rules look at it and why
// the others do not: what was proven when the document was loaded. Nil: nothing
// was, all rules look at everything.
func (o *Operation) Remaining() []FieldRules {
	if o.plan == nil || o.plan.waf.prover == nil {
		return nil
	}
	w := o.plan.waf
	out := make([]FieldRules, 0, len(o.plan.fields))
	for i := range o.plan.fields {
		f := &o.plan.fields[i]
		all := w.can(f.where, "", &jsonschema.Text{})
		r := FieldRules{In: f.in, Name: f.name, Pointer: f.pointer, Content: f.content, Language: f.language}
		if r.Language == "" {
			r.Language = f.text.String()
		}
		var proven, front, excluded []int
		for n := range w.prover.Len() {
			if !all.Has(n) {
				continue
			}
			r.Rules++
			id := w.prover.Rule(n).ID
			switch {
			case f.left.Has(n):
				r.Left = append(r.Left, id)
			case !f.proven.Has(n):
				proven = append(proven, id)
			case !o.plan.rules.Has(n) && o.plan.front[id] != "":
				front = append(front, id)
			default:
				excluded = append(excluded, id)
			}
		}
		remove := func(why string, ids []int) {
			if len(ids) > 0 {
				r.Removed = append(r.Removed, Removal{Why: why, Rules: ids})
			}
		}
		remove("no text that can stand there matches", proven)
		for _, id := range front {
			why := o.plan.front[id]
			if at := slices.IndexFunc(r.Removed, func(x Removal) bool { return x.Why == why }); at >= 0 {
				r.Removed[at].Rules = append(r.Removed[at].Rules, id)
			} else {
				remove(why, []int{id})
			}
		}
		remove("excluded by the config", excluded)
		out = append(out, r)
	}
	return out
}

// jsonFields are the fields of one place of a JSON body, for people: what is a
// string there, and what else can be.
func jsonFields(f *jsonschema.Field, content string, p *jsonField) []field {
	var out []field
	add := func(kind jsonschema.Kind, language string, proven waf.Mask) {
		out = append(out, field{
			in: inBody, pointer: f.Pointer, content: content, language: language, where: waf.ArgPost, kind: kind, proven: proven, left: p.text[kind],
		})
	}
	if !f.Text.None {
		add(jsonschema.String, f.Text.String(), p.proven[jsonschema.String])
	}
	if f.Number && f.Integer {
		add(jsonschema.Integer, "integer", p.proven[jsonschema.Integer])
	} else if f.Number {
		add(jsonschema.Number, "number", p.proven[jsonschema.Number])
	}
	if f.Bool {
		add(jsonschema.Bool, "boolean", p.proven[jsonschema.Bool])
	}
	return out
}

// Refuses reports whether the rule of the Core Rule Set that refuses what the
// others find is left at this operation. It is true where nobody can know.
func (o *Operation) Refuses() bool {
	if o.plan == nil || o.plan.waf.prover == nil {
		return true
	}
	for n := range o.plan.waf.prover.Len() {
		if o.plan.waf.prover.Rule(n).ID == ruleRefuses && o.plan.rules.Has(n) {
			return true
		}
	}
	return false
}
