package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

// sharedLimits are those of several operations: compiled once, but for those that
// name parameters, which each operation has of its own.
type sharedLimits struct {
	of   string
	once []gateway.Limit
	each []config.Limit
}

// shareLimits compiles what it can without an operation. of is whose they are; it
// is in the limits' names, and so in what they count: two APIs share nothing.
func (p *Plan) shareLimits(c *authz.Compiler, of string, in []config.Limit) (sharedLimits, error) {
	out := sharedLimits{of: of}
	var errs []error
	for _, l := range in {
		made, err := p.limit(c, nil, of, l)
		switch {
		case errors.Is(err, authz.ErrNeedsOperation):
			out.each = append(out.each, l)
		case err != nil:
			errs = append(errs, err)
		default:
			out.once = append(out.once, made)
		}
	}
	return out, errors.Join(errs...)
}

// of gives the limits as op has them.
func (p *Plan) limitsOf(c *authz.Compiler, op *gatehouse.Operation, s sharedLimits) ([]gateway.Limit, error) {
	own, err := p.limits(c, op, s.of, s.each)
	return slices.Concat(s.once, own), err
}

// limits compiles the limits of one operation.
func (p *Plan) limits(c *authz.Compiler, op *gatehouse.Operation, of string, in []config.Limit) ([]gateway.Limit, error) {
	var out []gateway.Limit
	var errs []error
	for _, l := range in {
		made, err := p.limit(c, op, of, l)
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, made)
	}
	return out, errors.Join(errs...)
}

func (p *Plan) limit(c *authz.Compiler, op *gatehouse.Operation, of string, l config.Limit) (gateway.Limit, error) {
	id := strings.ReplaceAll(of, ":", "-") + "." + l.ID
	if of == "" {
		id = l.ID
	}
	out := gateway.Limit{Place: l.Place.String()}
	spec := ratelimit.Spec{
		Name: limitName(id), By: limitBy(l.Per), IPv6Prefix: l.IPv6Prefix, Rate: textOf(l.Rate), Burst: l.Burst,
		Quota: textOf(l.Quota), Timezone: l.Timezone, Strict: l.Strict, Failures: l.Count == "failures", Shadow: l.Mode == "shadow",
	}
	if l.Cost != nil {
		spec.Cost = l.Cost.Number
	}
	var err error
	if out.Limit, err = ratelimit.Compile(spec); err != nil {
		return out, config.Errorf(placeOf(l.Place, l.Rate, l.Quota), "%v", err)
	}
	expr := func(part string, t config.Text, want authz.Want) (e *authz.Expr) {
		if t.Value != "" && err == nil {
			e, err = c.CompileExpr(op, authz.Rule{ID: "limits." + l.ID + "." + part, Expr: t.Value, Place: t.Place.String()}, want)
		}
		return e
	}
	out.Only = expr("only", l.Only, authz.WantTruth)
	out.Key = expr("per", l.Per.CEL, authz.WantText)
	if l.Cost != nil {
		out.Price = expr("cost", l.Cost.CEL, authz.WantNumber)
	}
	if t := l.Tiers; t != nil {
		out.By = expr("tiers.by", t.By, authz.WantText)
		for _, tier := range t.Each {
			spec.Name, spec.Rate, spec.Burst = limitName(id+":"+tier.Name), tier.Rate.Value, tier.Burst
			made, wrong := ratelimit.Compile(spec)
			if wrong != nil {
				return out, config.Errorf(tier.Rate.Place, "%v", wrong)
			}
			out.Tiers = append(out.Tiers, gateway.Tier{Name: tier.Name, Limit: made})
		}
	}
	if err != nil {
		return out, err
	}
	p.dearCost(op, l, out.Price)
	return out, nil
}

// dearCost warns of a cost that fails where a parameter is left out, as it may be.
func (p *Plan) dearCost(op *gatehouse.Operation, l config.Limit, price *authz.Expr) {
	if price == nil || op == nil || strings.Contains(price.String(), "has(") {
		return
	}
	for i, named := range price.Params() {
		if q := op.Params[i]; named && !q.Required {
			p.warn(l.Cost.CEL.Place.String(), "limit_cost", "limits.%s: without %s.%s, which is optional, a request is refused; write has(%s.%s) ? … : 1",
				l.ID, q.In, q.Name, q.In, q.Name)
		}
	}
}

// tellings are the words of limit_headers.
var tellings = map[string]gateway.Telling{"standard": gateway.TellFields, "both": gateway.TellBoth, "none": gateway.TellNobody}

// wholeLimits gives the snapshot the limits that are taken before a request is
// matched, and returns those that wait for an operation or a caller.
func (p *Plan) wholeLimits(c *authz.Compiler) (sharedLimits, error) {
	all, err := p.shareLimits(c, "", p.File.Limits)
	if err != nil {
		return all, err
	}
	var first []gateway.Limit
	all.once = slices.DeleteFunc(all.once, func(l gateway.Limit) bool {
		if l.Early() {
			first = append(first, l)
		}
		return l.Early()
	})
	p.Snapshot.SetLimits(first, tellings[p.File.LimitHeaders])
	return all, nil
}

// limitBy writes what a limit counts by in ratelimit's words: parts joined by +.
func limitBy(per config.Per) string {
	parts := config.Values(per.Words)
	// One count for all callers of the API: its name is in the limit's.
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "api" || p == "all" })
	if per.CEL.Value != "" {
		parts = append(parts, "custom")
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, "+")
}

// limitName keeps a limit's name to what a header may hold, and unique.
func limitName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' || r == '-' || r == ':' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, id)
	if len(name) > 64 {
		sum := sha256.Sum256([]byte(id))
		name = name[:55] + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}

// describeLimit says what a limit does, in lines.
func describeLimit(l gateway.Limit, add func(id, text string)) {
	text := l.Limit.String()
	if l.Key != nil {
		text = strings.Replace(text, "custom", fmt.Sprintf("{%s}", l.Key), 1)
	}
	if l.Price != nil {
		text += ", a request costs {" + l.Price.String() + "}"
	}
	if l.Only != nil {
		text += ", only when {" + l.Only.String() + "}"
	}
	add(l.Name(), text)
	for _, t := range l.Tiers {
		add(t.Limit.Name(), fmt.Sprintf("instead, when {%s} is %q: %s", l.By, t.Name, t.Limit))
	}
}
