package cost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
)

// ErrNotAllowed says that the operation does not let the request made for it pass.
var ErrNotAllowed = errors.New("refuses the request made for it")

// operationLines are the requests to one operation of a config: that of a test of
// the config which allows it, or one made of its document, and what is refused.
func (g *rig) operationLines(ctx context.Context, operation string) ([]*line, error) {
	n := slices.IndexFunc(g.whole.Operations(), func(o *gatehouse.Operation) bool { return o.API+"."+o.ID == operation })
	op := g.whole.Operations()[n]
	r, who, err := g.example(ctx, operation, n)
	if err != nil {
		return nil, err
	}
	credential, err := g.credential(ctx, n, who)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	host := "localhost"
	if hosts := g.whole.File.APIs[op.API].Hosts; len(hosts) > 0 {
		host = hosts[0]
	}
	write := func(target, credential string) []byte {
		var b strings.Builder
		_, _ = fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", op.Method, target, host)
		if credential != "" {
			b.WriteString(credential + "\r\n")
		}
		for _, own := range [][2]string{{"Accept", "application/json"}, {"User-Agent", "gatehouse-bench"}} { // unless the request has its own
			if r.Header.Get(own[0]) == "" {
				b.WriteString(own[0] + ": " + own[1] + "\r\n")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			for _, v := range r.Header[name] {
				_, _ = fmt.Fprintf(&b, "%s: %s\r\n", name, v)
			}
		}
		if len(body) > 0 {
			_, _ = fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		}
		b.WriteString("\r\n" + string(body))
		return []byte(b.String())
	}
	lines := []*line{{id: "operation", name: operation + ", everything on", method: op.Method, status: http.StatusOK, broken: true, request: write(r.RequestURI, credential)}}
	if credential != "" {
		lines = append(lines, &line{id: "refused-401", name: "refused: nobody (401)", method: op.Method, status: http.StatusUnauthorized, request: write(r.RequestURI, "")})
	}
	const missing = "/zq-there-is-no-such-operation"
	lines = append(lines, &line{id: "refused-404", name: "refused: no operation (404)", method: op.Method, status: http.StatusNotFound, request: write(missing, credential)})
	return lines, nil
}

// example finds a request and who may send it.
func (g *rig) example(ctx context.Context, operation string, n int) (*http.Request, *identity, error) {
	f, a := g.whole.File, g.whole.Access(n)
	who := &identity{subject: "bench", scopes: g.whole.Snapshot.Routes[n].Policy.Scopes(gatehouse.MethodJWT), roles: slices.Sorted(maps.Keys(f.Roles))}
	r, as, err := g.tested.Example(ctx, operation)
	if err != nil || r != nil {
		if as != nil {
			who = &identity{
				issuer: as.Issuer, subject: as.Subject, client: as.Client, tenant: as.Tenant, roles: config.Values(as.Roles), scopes: config.Values(as.Scopes), claims: as.Claims,
			}
			if who.subject == "" {
				who.subject = "test"
			}
		}
		return r, who, err
	}
	api := f.APIs[a.API]
	op := g.whole.Snapshot.Routes[n].Op.Op()
	r, params, err := attack.Right(attack.Document{File: api.OpenAPI.Value, Base: api.Base}, op.ID)
	if err != nil {
		return nil, nil, err
	}
	if cfg := api.Operations[op.ID]; cfg != nil {
		for _, own := range cfg.Own { // whose object it is asks for it
			v, known := params[own.Object.Value]
			switch owner := own.Owner.Value; {
			case !known:
			case owner == "claims.sub", owner == "principal.subject":
				who.subject = v
			case strings.HasPrefix(owner, "claims."):
				if who.claims == nil {
					who.claims = map[string]any{}
				}
				put(who.claims, strings.TrimPrefix(owner, "claims."), v)
			}
		}
	}
	return r, who, nil
}
