package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// ours are the parts of our own authorization server as the gateway needs them.
type ours struct {
	down    atomic.Bool // nobody can tell what is revoked, or what a token means
	revoked atomic.Bool
	opaque  map[string]any
}

func (o *ours) Revoked(*token.Claims) bool { return o.revoked.Load() }

func (o *ours) RevocationsErr() error {
	if o.down.Load() {
		return errors.New("the database is gone")
	}
	return nil
}

func (o *ours) OpenToken(context.Context, string) (*token.Claims, error) {
	if o.opaque == nil {
		return nil, errors.New("the database is gone")
	}
	b, err := json.Marshal(o.opaque)
	if err != nil {
		return nil, err
	}
	return token.ParseClaims(b)
}

const ordersResource = "https://api.example/orders"

// newOurs is a house whose issuer is our own, with what edit asks of tokens.
func newOurs(t testing.TB, service string, proofs token.ProofsConfig, edit func(id string, w *authn.Ways)) (*house, *ours) {
	t.Helper()
	o := &ours{}
	h := newHouse(t, houseConfig{
		service: service,
		authn: func(c *authn.Config) {
			c.Issuers[0].Own = true
			c.Proofs, c.Revocations, c.Opaque = must[*token.Proofs](t)(token.NewProofs(proofs)), o, o
			c.Issuers[0].Token.Audiences = []string{"orders", ordersResource}
		},
		ways: func(id string, w *authn.Ways) {
			w.Audience = []string{ordersResource}
			if edit != nil {
				edit(id, w)
			}
		},
	})
	return h, o
}

// A client has a DPoP key.
type client struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	jwk map[string]any
	jkt string
}

func newClient(t testing.TB) *client {
	t.Helper()
	c := &client{t: t, key: must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	enc := base64.RawURLEncoding
	point := must[[]byte](t)(c.key.PublicKey.Bytes())
	c.jwk = map[string]any{"kty": "EC", "crv": "P-256", "x": enc.EncodeToString(point[1:33]), "y": enc.EncodeToString(point[33:])}
	c.jkt = must[string](t)(token.Thumbprint(must[[]byte](t)(json.Marshal(c.jwk))))
	return c
}

func (c *client) proof(method, url, auth string, more map[string]any) string {
	c.t.Helper()
	enc := base64.RawURLEncoding
	_, tok, _ := strings.Cut(auth, " ")
	ath := sha256.Sum256([]byte(tok))
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix(), "ath": enc.EncodeToString(ath[:])}
	maps.Copy(claims, more)
	message := enc.EncodeToString(must[[]byte](c.t)(json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": c.jwk}))) + "." +
		enc.EncodeToString(must[[]byte](c.t)(json.Marshal(claims)))
	sum := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return message + "." + enc.EncodeToString(sig[:])
}

// bound gives the Authorization of a token bound to c's key.
func (h *house) bound(c *client, claims ...any) string {
	h.t.Helper()
	all := append([]any{"aud", ordersResource, "cnf", map[string]any{"jkt": c.jkt}}, claims...)
	return strings.Replace(h.token("ann", all...), "Bearer ", "DPoP ", 1)
}

// TestDPoPThroughTheListeners shows proofs to the real front, HTTP/1.1 in clear
// and HTTP/2 over TLS: what a proof names is what the caller sees.
func TestDPoPThroughTheListeners(t *testing.T) {
	url, asked := listening(t, nil)
	h, _ := newOurs(t, url, token.ProofsConfig{}, nil)
	c := newClient(t)
	secure := httptest.NewUnstartedServer(h.entry)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := h.start()
	for _, front := range []struct {
		name, url string
		http      *http.Client
	}{{"HTTP/1.1", plain, http.DefaultClient}, {"HTTP/2.0", secure.URL, secure.Client()}} {
		auth := h.bound(c)
		good := func() string { return c.proof("GET", front.url+"/orders", auth, nil) }
		used := good()
		for _, q := range []struct {
			name   string
			auth   string
			proofs []string
			status int
			says   string // in WWW-Authenticate
		}{
			{"a good proof", auth, []string{used}, 200, ""},
			{"the same proof again", auth, []string{used}, 401, `DPoP realm="test", error="invalid_dpop_proof"`},
			{"another good proof", auth, []string{good()}, 200, ""},
			{"none", auth, nil, 401, `DPoP realm="test", error="invalid_dpop_proof"`},
			{"two", auth, []string{good(), good()}, 400, ""},
			{"for another path", auth, []string{c.proof("GET", front.url+"/health", auth, nil)}, 401, `error="invalid_dpop_proof"`},
			{"for another method", auth, []string{c.proof("POST", front.url+"/orders", auth, nil)}, 401, `error="invalid_dpop_proof"`},
			{"for another host", auth, []string{c.proof("GET", "https://evil.example/orders", auth, nil)}, 401, `error="invalid_dpop_proof"`},
			{"of another key", auth, []string{newClient(t).proof("GET", front.url+"/orders", auth, nil)}, 401, `error="invalid_dpop_proof"`},
			{"the token as a bearer token", strings.Replace(auth, "DPoP", "Bearer", 1), nil, 401, `DPoP realm="test", error="invalid_token"`},
			{"a bearer token with the scheme", strings.Replace(h.token("ann", "aud", ordersResource), "Bearer", "DPoP", 1), []string{good()}, 401, `DPoP realm="test", error="invalid_token"`},
			{"nothing at all", "", nil, 401, `Bearer realm="test"`},
		} {
			before := len(asked.all())
			r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, front.url+"/orders", nil))
			if q.auth != "" {
				r.Header["Authorization"] = []string{q.auth}
			}
			r.Header["Dpop"] = q.proofs
			res := must[*http.Response](t)(front.http.Do(r))
			body := must[string](t)(readAll(res))
			told := strings.Join(res.Header["Www-Authenticate"], "\n")
			if res.Proto != front.name || res.StatusCode != q.status || !strings.Contains(told, q.says) || (q.says == "") != (told == "") {
				t.Errorf("%s, %s: %s %d %q %s", front.name, q.name, res.Proto, res.StatusCode, told, body)
			}
			if q.status == 401 && !strings.Contains(told, `DPoP realm="test"`) || told != "" && !strings.Contains(told, `algs="ES256 ES384 EdDSA PS256"`) {
				t.Errorf("%s, %s: DPoP is not offered: %q", front.name, q.name, told)
			}
			now := asked.all()
			if (len(now) > before) != (q.status == 200) {
				t.Errorf("%s, %s: the service was asked: %v", front.name, q.name, len(now) > before)
			}
			if q.status == 200 && (now[before].header["Dpop"] != nil || strings.HasPrefix(now[before].header.Get("Authorization"), "DPoP")) {
				t.Errorf("%s: the service got the proof: %v", front.name, now[before].header)
			}
		}
	}
}

func readAll(res *http.Response) (string, error) {
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestANonceIsGivenWithTheRefusal(t *testing.T) {
	h, _ := newOurs(t, "", token.ProofsConfig{Seal: must[*token.Sealer](t)(token.NewSealer()), RequireNonce: true}, nil)
	c := newClient(t)
	auth := h.bound(c)
	ask := func(nonce map[string]any) *httptest.ResponseRecorder {
		return h.ask("GET", "/orders", "", "Authorization", auth, "DPoP", c.proof("GET", "http://api.example/orders", auth, nonce))
	}
	w := ask(nil)
	nonce := w.Header().Get("Dpop-Nonce")
	if w.Code != 401 || nonce == "" || !strings.Contains(w.Header().Get("Www-Authenticate"), `error="use_dpop_nonce"`) {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if w = ask(map[string]any{"nonce": nonce}); w.Code != 502 { // let through, to a service that is not there
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w.Header().Get("Dpop-Nonce") != "" {
		t.Errorf("%v", w.Header())
	}
}

// Behind a proxy that ends TLS the caller's URL is https, if the proxy is trusted.
func TestAProofNamesTheURLInFrontOfATrustedHop(t *testing.T) {
	h, _ := newOurs(t, "", token.ProofsConfig{}, nil)
	c := newClient(t)
	trusting := h.gate.On(must[*gateway.Trust](t)(gateway.NewTrust([]string{"192.0.2.1"}, "x-forwarded-for")))
	for _, q := range []struct {
		name   string
		entry  http.Handler
		htu    string
		status int
	}{
		{"a trusted hop is believed", trusting, "https://api.example/orders", 502},
		{"its word counts, not the connection", trusting, "http://api.example/orders", 401},
		{"a stranger is not believed", h.entry, "https://api.example/orders", 401},
		{"for him it is the connection", h.entry, "http://api.example/orders", 502},
	} {
		auth := h.bound(c)
		w := newRecorder()
		q.entry.ServeHTTP(w, h.request("GET", "/orders", "", "Authorization", auth, "DPoP", c.proof("GET", q.htu, auth, nil), "X-Forwarded-Proto", "https"))
		if w.Code != q.status {
			t.Errorf("%s: %d %s", q.name, w.Code, w.Body)
		}
	}
}

func TestAStepUpIsAskedForOnTheWire(t *testing.T) {
	url, asked := listening(t, nil)
	h, _ := newOurs(t, url, token.ProofsConfig{}, func(id string, w *authn.Ways) {
		if id == "refund" {
			w.ACR, w.MaxAge = []string{"phr"}, 5*time.Minute
			w.Details = []string{"refund"}
		}
	})
	refund := func(claims ...any) *httptest.ResponseRecorder {
		return h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, "Authorization", h.token("ann", append(claims, "aud", ordersResource)...))
	}
	w := refund()
	if p := problemOf(t, w); w.Code != 401 || p.Reason != "insufficient_user_authentication" ||
		!strings.Contains(w.Header()["Www-Authenticate"][0], `error="insufficient_user_authentication", error_description="A stronger or more recent sign-in is needed.", acr_values="phr", max_age="300"`) {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	strong := []any{"acr", "phr", "auth_time", time.Now().Unix()}
	if w = refund(strong...); w.Code != 403 || problemOf(t, w).Reason != "insufficient_authorization_details" || !strings.Contains(w.Header()["Www-Authenticate"][0], `error="insufficient_scope"`) {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if len(asked.all()) != 0 {
		t.Fatal("the service was asked")
	}
	if w = refund(append(strong, "authorization_details", []any{map[string]any{"type": "refund"}})...); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w = h.ask("GET", "/orders", "", "Authorization", h.token("ann", "aud", ordersResource)); w.Code != 200 {
		t.Fatalf("where no step-up is asked for: %d %s", w.Code, w.Body)
	}
}

// What a token was granted for (RFC 9396) can be held against what is asked.
func TestRulesSeeAuthorizationDetails(t *testing.T) {
	url, asked := listening(t, nil)
	o := &ours{}
	h := newHouse(t, houseConfig{
		service: url,
		authn: func(c *authn.Config) {
			c.Issuers[0].Own, c.Revocations, c.Opaque = true, o, o
			c.Issuers[0].Token.Audiences = []string{ordersResource}
			c.Proofs = must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{}))
		},
		ways: func(_ string, w *authn.Ways) { w.Audience = []string{ordersResource} },
		access: func(a map[string]authz.Access) {
			a["refund"] = authz.Access{Grant: []string{"orders:refund"}, Rules: authz.Rules{Require: []authz.Rule{{
				ID: "granted", Place: "house.yaml:3:1",
				Expr: `has(claims.authorization_details) && claims.authorization_details.exists(d, d.type == "refund" && body.amount <= d.amount)`,
			}, {
				ID: "bound", Place: "house.yaml:4:1", Expr: `has(claims.cnf) && has(claims.cnf.jkt) && claims.acr == "phr" && "user" in claims.amr`,
			}}}}
		},
	})
	c := newClient(t)
	details := []any{map[string]any{"type": "refund", "amount": 50}}
	o.opaque = map[string]any{
		"iss": houseIssuer, "sub": "ann", "aud": ordersResource, "roles": []string{"support"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"cnf": map[string]any{"jkt": c.jkt}, "acr": "phr", "amr": []string{"hwk", "user"}, "authorization_details": details,
	}
	signed := h.bound(c, "acr", "phr", "amr", []string{"hwk", "user"}, "authorization_details", details)
	for _, auth := range []string{signed, "DPoP gha_x"} {
		for body, status := range map[string]int{`{"amount":50,"reason":"late"}`: 200, `{"amount":51,"reason":"late"}`: 403} {
			before := len(asked.all())
			w := h.ask("POST", "/customers/ann/refunds", body, "Authorization", auth, "DPoP", c.proof("POST", "http://api.example/customers/ann/refunds", auth, nil))
			if w.Code != status || len(asked.all()) > before != (status == 200) {
				t.Errorf("%.10s %s: %d %s", auth, body, w.Code, w.Body)
			}
		}
	}
}

func TestAChallengeForScopesNamesTheSchemeThatWasUsed(t *testing.T) {
	scoped := newHouse(t, houseConfig{
		document: strings.Replace(houseDocument, "operationId: listOrders", "operationId: listOrders\n      security: [oauth2: [orders.read]]", 1),
		authn: func(c *authn.Config) {
			c.Issuers[0].Own, c.Revocations = true, &ours{}
			c.Issuers[0].Token.Audiences = []string{ordersResource}
			c.Proofs = must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{}))
		},
		ways: func(_ string, w *authn.Ways) {
			w.Audience, w.ResourceMetadata = []string{ordersResource}, "https://api.example/meta"
		},
	})
	c := newClient(t)
	const more = ` error="insufficient_scope", scope="orders.read"`
	auth := scoped.bound(c)
	w := scoped.ask("GET", "/orders", "", "Authorization", auth, "DPoP", c.proof("GET", "http://api.example/orders", auth, nil))
	if got := w.Header().Get("Www-Authenticate"); w.Code != 403 || got != "DPoP"+more+`, algs="ES256 ES384 EdDSA PS256", resource_metadata="https://api.example/meta"` {
		t.Errorf("%d %s", w.Code, got)
	}
	w = scoped.ask("GET", "/orders", "", "Authorization", scoped.token("ann", "aud", ordersResource))
	if got := w.Header().Get("Www-Authenticate"); w.Code != 403 || got != "Bearer"+more+`, resource_metadata="https://api.example/meta"` {
		t.Errorf("%d %s", w.Code, got)
	}
}

// TestEveryPartOfATokenFailsClosed takes out each part our own tokens depend on.
func TestEveryPartOfATokenFailsClosed(t *testing.T) {
	const opaque = "Bearer gha_x"
	good := map[string]any{
		"iss": houseIssuer, "sub": "ann", "aud": ordersResource, "roles": []string{"support"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for _, q := range []struct {
		name   string
		auth   func(*house, *client) string
		spoil  func(*ours)
		status int
		reason string
	}{
		{"nothing is wrong", func(h *house, _ *client) string { return h.token("ann", "aud", ordersResource) }, func(*ours) {}, 200, ""},
		{"nothing is wrong with an opaque token", func(*house, *client) string { return opaque }, func(o *ours) { o.opaque = good }, 200, ""},
		{"nobody knows what is revoked", func(h *house, _ *client) string { return h.token("ann", "aud", ordersResource) }, func(o *ours) { o.down.Store(true) }, 503, "revocations_unavailable"},
		{"it is revoked", func(h *house, _ *client) string { return h.token("ann", "aud", ordersResource) }, func(o *ours) { o.revoked.Store(true) }, 401, "token_revoked"},
		{"nobody knows what it means", func(*house, *client) string { return opaque }, func(*ours) {}, 503, "tokens_unavailable"},
		{"it is for another API", func(h *house, _ *client) string { return h.token("ann") }, func(*ours) {}, 401, "token_audience"},
		{"no proof", func(h *house, c *client) string { return h.bound(c) }, func(*ours) {}, 401, "invalid_dpop_proof"},
	} {
		t.Run(q.name, func(t *testing.T) {
			url, asked := listening(t, nil)
			h, o := newOurs(t, url, token.ProofsConfig{}, nil)
			q.spoil(o)
			w := h.ask("GET", "/orders", "", "Authorization", q.auth(h, newClient(t)))
			if w.Code != q.status || len(asked.all()) > 0 != (q.status == 200) {
				t.Fatalf("%d %s; the service was asked %d times", w.Code, w.Body, len(asked.all()))
			}
			if e := h.event(); e.Reason != q.reason || q.reason != "" && e.Cause == "" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestOfFiftyUsesOfOneProofAtOnceOneIsLetThrough(t *testing.T) {
	url, asked := listening(t, nil)
	h, _ := newOurs(t, url, token.ProofsConfig{}, nil)
	c := newClient(t)
	auth := h.bound(c)
	proof := c.proof("GET", "http://api.example/orders", auth, nil)
	var good, replayed atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			switch w := h.ask("GET", "/orders", "", "Authorization", auth, "DPoP", proof); w.Code {
			case 200:
				good.Add(1)
			case 401:
				replayed.Add(1)
			}
		})
	}
	all.Wait()
	if good.Load() != 1 || replayed.Load() != 49 || len(asked.all()) != 1 {
		t.Errorf("%d let through, %d refused, the service asked %d times", good.Load(), replayed.Load(), len(asked.all()))
	}
}
