package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// Matrix is who may call what.
func (p *Plan) Matrix() []authz.Row {
	all := make([]*authz.Policy, 0, len(p.Snapshot.Routes))
	for _, r := range p.Snapshot.Routes {
		if !r.Raw || !r.Policy.Public() { // a protocol that anybody may speak would be half of the table
			all = append(all, r.Policy)
		}
	}
	return authz.Matrix(all)
}

// Effective is everything enforced on one operation.
type Effective struct {
	Operation string   `json:"operation"`
	Method    string   `json:"method"`
	Path      string   `json:"path"`
	Place     string   `json:"place"`
	Services  []string `json:"services"`
	Lines     []Line   `json:"lines"`

	Content []validate.FieldRules `json:"content,omitempty"` // which rules for content look at which value, and why the others do not
}

// A Line is one thing that is enforced, with where it was written.
type Line struct {
	Step  string `json:"step"` // of the request's way
	Layer string `json:"layer,omitempty"`
	ID    string `json:"id,omitempty"`
	Text  string `json:"text"`
	Place string `json:"place,omitempty"`
}

// Effective shows the merged result for api.operation, or for operation alone
// where no two APIs have it.
func (p *Plan) Effective(name string) (*Effective, error) {
	var at []int
	var known, bare []string
	for i, a := range p.access {
		full := a.API + "." + a.op.ID
		known, bare = append(known, full), append(bare, a.op.ID)
		if name == full || name == a.op.ID {
			at = append(at, i)
		}
	}
	switch {
	case len(at) == 0:
		return nil, fmt.Errorf("there is no operation %q%s", name, config.DidYouMean(name, slices.Concat(known, bare)))
	case len(at) > 1:
		var names []string
		for _, i := range at {
			names = append(names, known[i])
		}
		return nil, fmt.Errorf("%q is in several APIs; write %s", name, strings.Join(names, " or "))
	}
	a, route := p.access[at[0]], p.Snapshot.Routes[at[0]]
	out := &Effective{
		Operation: a.API + "." + a.op.ID, Method: a.op.Method, Path: a.op.Path, Place: route.Op.Place(),
		Services: config.Values(a.api.Upstreams),
	}
	add := func(step, layer, id, place, text string, args ...any) {
		out.Lines = append(out.Lines, Line{step, layer, id, fmt.Sprintf(text, args...), place})
	}
	limits := func(now func(*gateway.Limit) bool) {
		for _, l := range route.Limits() {
			if now(&l) {
				describeLimit(l, func(id, text string) { add("limit", "", id, l.Place, "%s", text) })
			}
		}
	}
	limits(func(l *gateway.Limit) bool { return !l.NeedsCaller() })
	for _, w := range a.Ways.Any {
		add("authenticate", "", "", "", "%s", describeWay(w))
	}
	if a.Ways.Anonymous {
		add("authenticate", "", "", "", "nobody: credentials are not needed")
	}
	wishes(a.Ways, add)
	limits(func(l *gateway.Limit) bool { return l.NeedsCaller() && !l.NeedsParams() })
	lines := route.Policy.Effective()
	rulesOf := func(phase authz.Phase) {
		for _, l := range lines {
			if l.Phase == phase {
				text := l.Text
				if l.Kind == "deny" {
					text = "never: " + text
				}
				if l.Because != "" {
					text += "  (" + l.Because + ")"
				}
				add("authorize", string(l.Layer), l.ID, l.Place, "%s", text)
			}
		}
	}
	rulesOf(authz.Caller)
	if route.Raw {
		add("validate", "", "", "", "by the service itself, which is in this process; at most %s", bodyLimit(a))
		return out, nil
	}
	for _, q := range a.op.Params {
		need := "optional"
		if q.Required {
			need = "required"
		}
		add("validate", "document", q.In+"."+q.Name, "", "%s %s", need, typeName(q.Shape))
	}
	limits((*gateway.Limit).NeedsParams)
	rulesOf(authz.Head)
	if a.op.Body != nil {
		add("validate", "document", "body", "", "%s by its schema, at most %s", typeName(a.op.Body), bodyLimit(a))
	}
	for _, u := range route.Op.Unchecked() {
		add("validate", "document", "", "", "not looked into, only bounded: %s", u)
	}
	rulesOf(authz.Body)
	if a.House() {
		return out, nil
	}
	p.effectiveWAF(&a, route.Op, add)
	out.Content = route.Op.Remaining()
	n := &a.api.Upstream.Concurrency
	add("room", "", "", a.api.Upstream.Place.String(), "%s priority; %d to %d at a service until their answers begin, %d at first, by what is measured", orElse(a.api.PriorityOf(a.cfg), "default"), *n.Min, *n.Max, *n.Initial)
	add("forward", "", "", a.api.Upstream.Place.String(), "caller's credential: %s; audience %s", a.api.Upstream.Token, route.Audience)
	if m := route.Op.CheckResponses(); m != validate.Off {
		add("validate response", "", "", "", "%s", map[validate.Mode]string{validate.Report: "report", validate.Enforce: "enforce"}[m])
	}
	return out, nil
}

func bodyLimit(a Access) string {
	if a.cfg != nil && a.cfg.MaxBody != nil {
		return a.cfg.MaxBody.String()
	}
	return a.api.MaxBody.String()
}

func describeWay(w authn.Way) string {
	var parts []string
	if len(w.Issuers) > 0 {
		parts = append(parts, "a JWT of "+strings.Join(w.Issuers, " or "))
	}
	if w.Key {
		parts = append(parts, "an API key")
	}
	if w.Certificate {
		parts = append(parts, "a client certificate")
	}
	return strings.Join(parts, " and ")
}

// wishes tells what a token must say beside who calls.
func wishes(w authn.Ways, add func(step, layer, id, place, text string, args ...any)) {
	if len(w.Audience) > 0 {
		add("authenticate", "token", "aud", "", "tokens of our own authorization server must be for %s", strings.Join(w.Audience, " or "))
	}
	if len(w.ACR) > 0 {
		add("authenticate", "token", "acr", "", "signed in as %s", strings.Join(w.ACR, " or "))
	}
	if w.MaxAge > 0 {
		add("authenticate", "token", "max_age", "", "signed in within %s", w.MaxAge)
	}
	if len(w.Details) > 0 {
		add("authenticate", "token", "authorization_details", "", "with authorization_details of type %s", strings.Join(w.Details, " or "))
	}
	if w.Bound {
		add("authenticate", "token", "cnf", "", "bound to the caller's key")
	}
}
