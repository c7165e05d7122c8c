package gateway_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/token"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const houseDocument = `
openapi: 3.1.0
info: {title: Orders, version: "1"}
security: [oauth2: []]
paths:
  /orders:
    get:
      operationId: listOrders
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
        - {name: q, in: query, schema: {type: string, maxLength: 20}}
      responses:
        "200":
          description: ok
          content: {application/json: {schema: {type: object, required: [count], properties: {count: {type: integer}}}}}
  /customers/{customerId}/refunds:
    post:
      operationId: refund
      parameters:
        - {name: customerId, in: path, required: true, schema: {type: string, maxLength: 20}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              required: [amount, reason]
              properties: {amount: {type: integer, minimum: 1}, reason: {type: string, maxLength: 20}}
      responses: {"201": {description: ok}}
  /uploads:
    put:
      operationId: upload
      requestBody: {content: {application/octet-stream: {}}}
      responses: {"204": {description: ok}}
  /events:
    get: {operationId: events, responses: {"200": {description: ok, content: {text/event-stream: {}}}}}
  /chat:
    get: {operationId: chat, responses: {"101": {description: ok}}}
  /health:
    get: {operationId: health, security: [], responses: {"200": {description: ok}}}
components:
  securitySchemes:
    oauth2: {type: oauth2, flows: {}}
`

const houseIssuer = "https://auth.example"

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// shelf keeps events in memory, and can be told to fail.
type shelf struct {
	mu        sync.Mutex
	events    []gatehouse.Event
	err       error // of Err: known before the request
	appendErr error // of Append: found out at its end
}

func (s *shelf) Append(e *gatehouse.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.appendErr != nil {
		return s.appendErr
	}
	s.events = append(s.events, *e)
	return nil
}

func (s *shelf) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *shelf) fail(known, atAppend error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.appendErr = known, atAppend
}

func (s *shelf) all() []gatehouse.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// counter is a Meter that holds what it was told.
type counter struct {
	mu             sync.Mutex
	begun, refused int
	observed       []gatehouse.Event
}

func (c *counter) Begin() { c.mu.Lock(); c.begun++; c.mu.Unlock() }
func (c *counter) Observe(e *gatehouse.Event) {
	c.mu.Lock()
	c.observed = append(c.observed, *e)
	c.mu.Unlock()
}
func (c *counter) Refused(*gatehouse.Event) { c.mu.Lock(); c.refused++; c.mu.Unlock() }

// last is the event observed last.
func (c *counter) last() gatehouse.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observed[len(c.observed)-1]
}

func (c *counter) counts() (begun, observed, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun, len(c.observed), c.refused
}

// A house is a whole gateway of real parts in front of one service.
type house struct {
	t      testing.TB
	gate   *gateway.Gateway
	record *shelf
	meter  *counter
	signer *token.Signer
	snap   *gateway.Snapshot
	routes map[string]*gateway.Route // by operation
	entry  *gateway.Entry
}

// A houseConfig is what a test wants otherwise.
type houseConfig struct {
	service   string                             // URL
	responses validate.Mode                      // of listOrders
	access    func(map[string]authz.Access)      // before it is compiled
	routes    func(map[string]*gateway.Route)    // before they are put to work
	keys      *token.KeySet                      // of the issuer; nil: its real ones
	authn     func(*authn.Config)                // before it is compiled
	ways      func(id string, w *authn.Ways)     // before they are compiled
	upstream  func(*gateway.UpstreamConfig)      // before it is opened
	record    gateway.Recorder                   // nil: a shelf
	document  string                             // "": houseDocument
	base      string                             // of the paths; "": none
	prepare   func(*gateway.Snapshot)            // the last word
	meter     gateway.Meter                      // nil: a counter
	settings  map[string]validate.Settings       // of operations
	limits    map[string][]gateway.Limit         // of operations, in order
	minter    func(*token.Signer) gateway.Minter // nil: a real one
	guard     *ddos.Guard                        // nil: none
	waf       *validate.WAF                      // nil: no rules
}

func newHouse(t testing.TB, c houseConfig) *house {
	t.Helper()
	h := &house{t: t, record: &shelf{}, meter: &counter{}, routes: map[string]*gateway.Route{}}
	h.signer = must[*token.Signer](t)(token.NewSigner(token.ES256))
	if c.keys == nil {
		c.keys = must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{Static: h.signer.JWKS()}, nil))
	}
	settings := map[string]validate.Settings{}
	if c.document == "" {
		c.document = houseDocument
		settings["listOrders"] = validate.Settings{Responses: c.responses}
	}
	maps.Copy(settings, c.settings)
	doc := must[*validate.Document](t)(validate.Load(fstest.MapFS{"o.yaml": {Data: []byte(c.document)}}, "o.yaml", validate.Options{
		API: "orders", Base: c.base, Operations: settings, WAF: c.waf,
	}))
	policies := must[*authz.Compiler](t)(authz.New(authz.Config{
		Roles:  map[string]authz.Role{"support": {Grants: []string{"orders:read", "orders:refund"}}, "manager": {Grants: []string{"orders:*"}}},
		Claims: map[string]string{"suspended": "bool"},
		Guardrails: authz.Rules{Deny: []authz.Rule{{
			ID: "suspended", Expr: "has(claims.suspended) && claims.suspended", Because: "Accounts under review may do nothing", Place: "house.yaml:1:1",
		}}},
	}))
	access := map[string]authz.Access{
		"listOrders": {Grant: []string{"orders:read"}},
		"refund": {
			Grant: []string{"orders:refund"}, Own: map[string]string{"path.customerId": "claims.sub"},
			Rules: authz.Rules{Require: []authz.Rule{{ID: "amount", Expr: `body.amount <= 500 || role("manager")`, Place: "house.yaml:2:1"}}},
		},
		"health": {Public: true},
	}
	if c.access != nil {
		c.access(access)
	}
	ac := authn.Config{
		Realm: "test", Roles: []string{"support", "manager"},
		Issuers: []authn.Issuer{{
			Name: "main", Keys: c.keys, RolesClaim: "roles", TenantClaim: "tenant",
			Token: token.VerifierConfig{Issuer: houseIssuer, Audiences: []string{"orders"}},
		}},
	}
	if c.authn != nil {
		c.authn(&ac)
	}
	h.snap = &gateway.Snapshot{Digest: "d1", Router: new(validate.Router), Authn: must[*authn.Authenticator](t)(authn.New(ac))}
	var minter gateway.Minter = must[*token.Minter](t)(token.NewMinter(token.MinterConfig{Issuer: "gatehouse"}, h.signer))
	if c.minter != nil {
		minter = c.minter(h.signer)
	}
	uc := gateway.UpstreamConfig{URLs: []string{c.service}, Connect: time.Minute} // a busy machine is late
	if c.service == "" {
		uc.URLs[0] = deadAddress(t)
	}
	if c.upstream != nil {
		c.upstream(&uc)
	}
	service := must[*gateway.Upstreams](t)(gateway.NewUpstreams(uc, minter))
	t.Cleanup(service.Release)
	for n, checks := range doc.Operations() {
		op := checks.Op()
		policy := must[*authz.Policy](t)(policies.Compile(op, access[op.ID]))
		ways := must[authn.Ways](t)(authn.WaysOf(op.Security, nil, authn.Scheme{Issuers: []string{"main"}}))
		ways.Anonymous = policy.Public()
		if c.ways != nil {
			c.ways(op.ID, &ways)
		}
		r := &gateway.Route{Op: checks, Policy: policy, Accept: must[*authn.Accept](t)(h.snap.Authn.Accept(ways)), Upstreams: service, Audience: "orders"}
		r.SetLimits(h.snap, c.limits[op.ID])
		h.routes[op.ID] = r
		h.snap.Routes = append(h.snap.Routes, r)
		if err := h.snap.Router.Add("", op.Method, op.Path, n); err != nil {
			t.Fatal(err)
		}
	}
	if c.routes != nil {
		c.routes(h.routes)
	}
	if c.prepare != nil {
		c.prepare(h.snap)
	}
	d := gateway.Deps{
		Record: h.record, Meter: h.meter, Limiter: must[*ratelimit.Limiter](t)(ratelimit.New(ratelimit.Config{})), NewID: auditlog.NewID, Node: "n1",
	}
	d.Guard = c.guard
	if c.record != nil {
		d.Record = c.record
	}
	if c.meter != nil {
		d.Meter = c.meter
	}
	h.gate = must[*gateway.Gateway](t)(gateway.New(d))
	h.gate.Swap(h.snap)
	h.entry = h.gate.On(nil)
	return h
}

func limit(t testing.TB, name, by, rate string, burst int) gateway.Limit {
	t.Helper()
	return gateway.Limit{Limit: must[*ratelimit.Limit](t)(ratelimit.Compile(ratelimit.Spec{Name: name, By: by, Rate: rate, Burst: burst}))}
}

// token gives the Authorization header of a caller; claims come in pairs.
func (h *house) token(subject string, claims ...any) string {
	h.t.Helper()
	now := time.Now()
	all := map[string]any{
		"iss": houseIssuer, "sub": subject, "aud": "orders", "client_id": "shop", "roles": []string{"support"}, "tenant": "t1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for i := 0; i < len(claims); i += 2 {
		all[claims[i].(string)] = claims[i+1]
	}
	return "Bearer " + must[string](h.t)(h.signer.Sign("at+jwt", must[[]byte](h.t)(json.Marshal(all))))
}

// ask sends one request straight into the gateway; header lines come in pairs.
func (h *house) ask(method, target, body string, header ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.entry.ServeHTTP(w, h.request(method, target, body, header...))
	return w
}

func (h *house) request(method, target, body string, header ...string) *http.Request {
	h.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(h.t.Context(), method, target, in)
	r.Host = "api.example"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header[http.CanonicalHeaderKey(header[i])] = append(r.Header[http.CanonicalHeaderKey(header[i])], header[i+1])
	}
	return r
}

// start puts the gateway behind the real front and gives its URL.
func (h *house) start() string {
	h.t.Helper()
	l := must[net.Listener](h.t)(net.Listen("tcp", "127.0.0.1:0"))
	s := http1.NewServer(http1.Config{OnRefuse: h.gate.Refused, Log: slog.New(slog.DiscardHandler)}, h.entry)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l, nil) }()
	h.t.Cleanup(func() { _ = s.Close(); <-done })
	return "http://" + l.Addr().String()
}

// event waits for the only event there should be.
func (h *house) event() gatehouse.Event {
	h.t.Helper()
	until(h.t, "an event", func() bool { return len(h.record.all()) > 0 })
	all := h.record.all()
	if len(all) != 1 {
		h.t.Fatalf("%d events, want exactly one: %+v", len(all), all)
	}
	return all[0]
}

// a problemAnswer is application/problem+json as a caller reads it.
type problemAnswer struct {
	Type, Title, Detail, Reason, Decision string
	Status                                int
	Errors                                []gatehouse.FieldError
	Violated                              []string `json:"violated-policies"`
}

func problemOf(t testing.TB, w *httptest.ResponseRecorder) problemAnswer {
	t.Helper()
	var p problemAnswer
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%d %q is no problem: %v", w.Code, w.Body, err)
	}
	if p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d, header %v, body %s", w.Code, w.Header(), w.Body)
	}
	return p
}

// asks is a service that tells what it was asked.
type asks struct {
	mu  sync.Mutex
	got []recorded
}

func (a *asks) all() []recorded {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

func listening(t testing.TB, answer http.HandlerFunc) (url string, a *asks) {
	t.Helper()
	a = &asks{}
	return service(t, false, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.got = append(a.got, recorded{method: r.Method, uri: r.RequestURI, host: r.Host, body: string(b), proto: r.Proto, header: r.Header.Clone()})
		a.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"count":1}`)
	}), a
}
