package authz

import (
	"fmt"
	"strings"
)

// A Line is one condition of a policy with where it comes from.
type Line struct {
	Layer   Layer
	Kind    string // "public", "authenticated", "scope", "grant", "own", "require", "deny"
	ID      string // as in the reasons of a denial
	Text    string // the expression, or what is asked
	Because string
	Place   string // in the config; "" for what the document says
	Phase   Phase
}

// Effective lists everything a request must satisfy, in the order in which it
// is asked.
func (p *Policy) Effective() []Line {
	if p == nil || !p.compiled {
		return nil
	}
	var out []Line
	if p.public {
		out = append(out, Line{Layer: LayerOperation, Kind: "public", ID: "public", Text: "anyone", Place: p.place})
	} else {
		out = append(out, Line{Layer: LayerOperation, Kind: ruleAuthenticated, ID: ruleAuthenticated, Text: "a caller who proves who it is", Place: p.place})
	}
	if p.secured && !p.public {
		var alternatives []string
		for _, a := range p.alternatives {
			parts := []string{"method " + string(a.method)}
			for _, s := range a.scopes {
				parts = append(parts, fmt.Sprintf("scope %q", s))
			}
			alternatives = append(alternatives, strings.Join(parts, " and "))
		}
		out = append(out, Line{Layer: LayerDocument, Kind: ruleScope, ID: ruleScope, Text: strings.Join(alternatives, " or ")})
	}
	for i, g := range p.grants {
		out = append(out, Line{Layer: LayerOperation, Kind: ruleGrant, ID: ruleGrant, Text: g + " (" + neededRole(g, p.holders[i]) + ")", Place: p.place})
	}
	for _, rules := range p.rules {
		for _, r := range rules {
			out = append(out, Line{Layer: r.layer, Kind: r.kind, ID: r.id, Text: r.Expr, Because: r.Because, Place: r.Place, Phase: r.Phase})
		}
	}
	return out
}
