package plan

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// caching is how the answers of an operation are kept. Parameters in headers are in
// the key: path and query are anyway.
func caching(checks *validate.Operation, c *config.Caching) (*gateway.Caching, error) {
	op := checks.Op()
	if op.Method != http.MethodGet {
		return nil, errors.New("cache: only answers to GET are kept, and given to HEAD, too")
	}
	if op.Body != nil {
		return nil, errors.New("cache: the operation takes a body, which is not in the key")
	}
	out := &gateway.Caching{Policy: cache.Policy{TTL: c.TTL, StaleIfError: c.StaleIfError, StaleRefresh: c.StaleRefresh}, Shared: c.Shared}
	for _, p := range op.Params {
		switch p.In {
		case "cookie":
			return nil, errors.New("cache: the operation has parameters in cookies, which the service would not get")
		case "header":
			out.Vary = append(out.Vary, http.CanonicalHeaderKey(p.Name))
		}
	}
	for _, v := range c.Vary {
		if !gateway.Passes(http.CanonicalHeaderKey(v.Value)) {
			return nil, fmt.Errorf("cache: vary: %s never goes to a service", v.Value)
		}
		out.Vary = append(out.Vary, http.CanonicalHeaderKey(v.Value))
	}
	slices.Sort(out.Vary)
	out.Vary = slices.DeleteFunc(slices.Compact(out.Vary), func(name string) bool { return name == "Accept" || name == "Accept-Encoding" })
	if len(out.Vary) > gateway.MaxVary {
		return nil, errors.New("cache: there are too many header parameters and fields of vary to keep answers by")
	}
	return out, nil
}

// forgets has what changes something at an API make room for what it has become
// (RFC 9111 §4.4).
func (p *Plan) forgets(api string) {
	routes := p.Snapshot.Routes
	if !slices.ContainsFunc(routes, func(r *gateway.Route) bool { return r.Cache != nil && r.Op.Op().API == api }) {
		return
	}
	for _, r := range routes {
		switch op := r.Op.Op(); op.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
		default:
			r.Forgets = r.Forgets || op.API == api
		}
	}
}
