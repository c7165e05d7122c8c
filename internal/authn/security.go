package authn

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
)

// A Scheme says what serves a security scheme of an OpenAPI document; each of
// its parts is enough.
type Scheme struct {
	Issuers     []string // tokens of these issuers, by name
	Key         bool     // API keys
	Certificate bool     // client certificates
}

// WaysOf reads the ways of one operation from its document's security. All is
// everything the config has. Schemes not in serve are served by kind: oauth2,
// openIdConnect and http:bearer by every issuer, apiKey by API keys, mutualTLS by
// client certificates. Where the document names no security, every configured
// method will do, since who may call is then the config's to say. An empty
// requirement ("or nobody") is passed over: whether an operation is public is
// the caller's to add.
//
// It fails when no requirement can be met by what is configured, saying why.
func WaysOf(security []gatehouse.Requirement, serve map[string]Scheme, all Scheme) (Ways, error) {
	var w Ways
	if len(security) == 0 {
		w.Any = options(all)
		return w, nil
	}
	var why []string
	for _, requirement := range security {
		if len(requirement) == 0 {
			continue
		}
		ways, err := meet(requirement, serve, all)
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		w.Any = append(w.Any, ways...)
	}
	if len(w.Any) == 0 && len(why) > 0 {
		return Ways{}, fmt.Errorf("authn: nobody can meet the document's security: %s", strings.Join(why, "; "))
	}
	return w, nil
}

// meet returns what shows all schemes of requirement at once.
func meet(requirement gatehouse.Requirement, serve map[string]Scheme, all Scheme) ([]Way, error) {
	ways := []Way{{}}
	for _, use := range requirement {
		scheme, ok := serve[use.Scheme]
		if !ok {
			switch use.Kind {
			case "oauth2", "openIdConnect", "http:bearer":
				scheme.Issuers = all.Issuers
			case "apiKey":
				scheme.Key = all.Key
			case "mutualTLS":
				scheme.Certificate = all.Certificate
			}
		}
		choices := options(scheme)
		if len(choices) == 0 {
			return nil, fmt.Errorf("nothing configured serves the scheme %q (%s)", use.Scheme, use.Kind)
		}
		var next []Way
		for _, have := range ways {
			for _, option := range choices {
				if both, ok := together(have, option); ok {
					next = append(next, both)
				}
			}
		}
		if len(next) == 0 {
			return nil, fmt.Errorf("the scheme %q asks for a second credential in one request, where one and a certificate are taken", use.Scheme)
		}
		ways = next
	}
	return ways, nil
}

func options(s Scheme) (ways []Way) {
	if len(s.Issuers) > 0 {
		ways = append(ways, Way{Issuers: s.Issuers})
	}
	if s.Key {
		ways = append(ways, Way{Key: true})
	}
	if s.Certificate {
		ways = append(ways, Way{Certificate: true})
	}
	return ways
}

// together joins two ways into one that shows both, if one request can.
func together(a, b Way) (Way, bool) {
	out := Way{Key: a.Key || b.Key, Certificate: a.Certificate || b.Certificate}
	switch {
	case len(a.Issuers) == 0:
		out.Issuers = b.Issuers
	case len(b.Issuers) == 0:
		out.Issuers = a.Issuers
	default: // one token has to serve both schemes
		for _, i := range a.Issuers {
			if slices.Contains(b.Issuers, i) {
				out.Issuers = append(out.Issuers, i)
			}
		}
		if len(out.Issuers) == 0 {
			return Way{}, false
		}
	}
	return out, !out.Key || len(out.Issuers) == 0
}
