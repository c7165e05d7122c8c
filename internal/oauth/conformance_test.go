package oauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/net/html"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// The modules of the OpenID Foundation's conformance suite, by their names: each
// test asserts on the wire what the module of that name asserts. They are written
// anew, after what the modules say they want. That they hold here is no
// certification, and no claim to one: the suite itself has not run.
//
// All of them send PKCE, also where the modules of OpenID Connect do not: without
// it this server answers no request.
type module struct {
	name string
	not  string // why it does not apply here; "": it does
	run  func(t *testing.T)
}

// conform runs the modules of one plan and says how many of them hold.
func conform(t *testing.T, plan string, list []module) {
	t.Helper()
	held, apart := 0, 0
	for _, m := range list {
		if m.not != "" {
			apart++
			t.Run(m.name, func(t *testing.T) { t.Skip("does not apply: " + m.not) })
		} else if t.Run(m.name, m.run) {
			held++
		}
	}
	t.Logf("%s: %d of %d modules hold, %d do not apply", plan, held, len(list), apart)
}

// A provider is a house behind a TLS listener, reached under its issuer's name.
type provider struct {
	*house
	listener *httptest.Server
}

// newProvider has one user, ada, who has a password and every claim there is.
func newProvider(t *testing.T, change func(*oauth.Config)) *provider {
	t.Helper()
	p := newDirectProvider(t, change)
	p.listener = httptest.NewUnstartedServer(p.handler)
	// Self-signed certificates of clients are taken as they are (RFC 8705 §2.2).
	p.listener.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	p.listener.StartTLS()
	t.Cleanup(p.listener.Close)
	return p
}

// newDirectProvider is the same without a network.
func newDirectProvider(t *testing.T, change func(*oauth.Config)) *provider {
	t.Helper()
	h := newHouse(t, change)
	p := &provider{house: h}
	ok(t, h.people.SetPassword(t.Context(), "test", h.user.ID, gatehouse.NewSecret(password)))
	var err error
	h.user, err = h.people.Update(t.Context(), "test", h.user.ID, 0, func(u *identity.User) error {
		u.Claims = maps.Clone(everyClaim)
		return nil
	})
	ok(t, err)
	// The password is as old as if somebody had signed in with it a minute ago.
	p.exec(`UPDATE users SET valid_from = valid_from - 60000, created = created - 60000`)
	return p
}

// everyClaim is what the modules want to find in a user (OpenID Connect Core §5.1).
var everyClaim = map[string]any{
	"name": "Ada Lovelace", "given_name": "Ada", "family_name": "Lovelace", "middle_name": "King", "nickname": "ada",
	"profile": "https://people.example/ada", "picture": "https://people.example/ada.png", "website": "https://ada.example",
	"gender": "female", "birthdate": "1815-12-10", "zoneinfo": "Europe/London", "locale": "en-GB",
	"phone_number": "+44 20 7946 0000", "phone_number_verified": true,
	"address": map[string]any{"formatted": "12 St James's Square, London", "country": "GB"},
}

// A direct carries requests without a network, for modules that wait: in a synctest
// bubble time passes only while nobody reads from a socket.
type direct struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.Host, in.RequestURI, in.RemoteAddr = r.URL.Host, r.URL.RequestURI(), "192.0.2.1:1234"
	w := httptest.NewRecorder()
	d.ServeHTTP(w, in)
	return w.Result(), nil
}

// http is what programs and browsers reach p with; certificates are the client's.
func (p *provider) http(certificates ...tls.Certificate) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if p.listener == nil {
		return &http.Client{Transport: direct{p.handler}, CheckRedirect: stay}
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.listener.Certificate())
	address := p.listener.Listener.Addr().String()
	tr := &http.Transport{
		// The name the listener's certificate has; the issuer's is in Host.
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", Certificates: certificates, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: stay}
}

// wire sends r over c and reads the whole answer.
func wire(t testing.TB, c *http.Client, r *http.Request) *reply {
	t.Helper()
	resp, err := c.Do(r)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	a := &reply{ResponseRecorder: httptest.NewRecorder()}
	a.Code = resp.StatusCode
	maps.Copy(a.Header(), resp.Header)
	_, err = io.Copy(a.Body, resp.Body)
	ok(t, err)
	_ = json.Unmarshal(a.Body.Bytes(), &a.json)
	return a
}

// wants is a request for a URL of p; body nil is a GET.
func wants(t testing.TB, method, target string, body url.Values) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body.Encode()))
	ok(t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// An agent is a browser with a person before it, who does what the pages ask for.
type agent struct {
	t      *testing.T
	p      *provider
	http   *http.Client
	asked  []string // what the pages asked for: signin, consent
	refuse bool     // the person does not allow anything
	trail  []step   // what the browser has seen
}

// A step is one answer a browser got.
type step struct {
	method string
	at     *url.URL
	*reply
}

func (p *provider) agent(t *testing.T) *agent {
	t.Helper()
	c := p.http()
	jar, err := cookiejar.New(nil)
	ok(t, err)
	c.Jar = jar
	return &agent{t: t, p: p, http: c}
}

// A screen is where a browser has come to: a page of the provider's, or away at
// another one's address.
type screen struct {
	*reply
	away *url.URL
	form url.Values // of the page, as it would be sent
	to   string     // where that form goes, below the issuer
}

// open goes where r leads.
func (a *agent) open(r *http.Request) *screen {
	a.t.Helper()
	for range 12 {
		answer := wire(a.t, a.http, r)
		a.trail = append(a.trail, step{r.Method, r.URL, answer})
		if answer.Code/100 != 3 {
			return readScreen(a.t, answer)
		}
		if r.Method == http.MethodPost && answer.Code != http.StatusSeeOther {
			a.t.Errorf("a form is answered with %d: the next place would get it, too", answer.Code) // RFC 9700 §4.12
		}
		next, err := r.URL.Parse(answer.Header().Get("Location"))
		ok(a.t, err)
		if next.Host != r.URL.Host || next.Scheme != "https" {
			return &screen{reply: answer, away: next}
		}
		r = wants(a.t, http.MethodGet, next.String(), nil)
	}
	a.t.Fatal("a browser sent in circles")
	return nil
}

func (a *agent) visit(target string) *screen {
	a.t.Helper()
	return a.open(wants(a.t, http.MethodGet, target, nil))
}

// submit sends the form of s, with more fields.
func (a *agent) submit(s *screen, pairs ...string) *screen {
	a.t.Helper()
	if s.to == "" {
		a.t.Fatalf("no form on this page: %d %s", s.Code, s.Body)
	}
	for i := 0; i < len(pairs); i += 2 {
		s.form.Set(pairs[i], pairs[i+1])
	}
	r := wants(a.t, http.MethodPost, "https://id.example"+s.to, s.form)
	r.Header.Set("Origin", "https://id.example")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return a.open(r)
}

// readScreen finds the first form on a page.
func readScreen(t testing.TB, answer *reply) *screen {
	t.Helper()
	s := &screen{reply: answer, form: url.Values{}}
	if !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
		return s
	}
	doc, err := html.Parse(strings.NewReader(answer.Body.String()))
	ok(t, err)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		s.to = attribute(n, "action")
		for in := range n.Descendants() {
			if in.Type == html.ElementNode && in.Data == "input" && attribute(in, "name") != "" {
				s.form.Set(attribute(in, "name"), attribute(in, "value"))
			}
		}
		return s
	}
	return s
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// answer does what s asks for, until the browser is away or nothing more is asked.
func (a *agent) answer(s *screen) *screen {
	a.t.Helper()
	for s.away == nil {
		switch s.to {
		case "/auth/signin":
			a.asked = append(a.asked, "signin")
			s = a.submit(s, "name", "ada", "password", password)
		case "/auth/consent":
			a.asked = append(a.asked, "consent")
			decision := "allow"
			if a.refuse {
				decision = "deny"
			}
			s = a.submit(s, "decision", decision)
		default:
			return s
		}
	}
	return s
}

// back is what a client is told in the query of its redirect URI.
func (a *agent) back(s *screen) url.Values {
	a.t.Helper()
	if s.away == nil {
		a.t.Fatalf("the browser did not come back: %d %s", s.Code, s.Body)
	}
	if s.away.Fragment != "" {
		a.t.Error("an answer in the fragment:", s.away.Fragment)
	}
	return s.away.Query()
}

// stays wants that the browser is shown an error, and goes nowhere.
func (a *agent) stays(s *screen) {
	a.t.Helper()
	if s.away != nil || s.Code < 400 || s.Code >= 500 {
		a.t.Errorf("%d, away at %v: want an error page", s.Code, s.away)
	}
}

// A party is a client's own server.
type party struct {
	t      *testing.T
	p      *provider
	id     string
	secret string
	method string      // token_endpoint_auth_method
	key    *signingKey // of its assertions
	proofs *signingKey // of its DPoP proofs; nil: it makes none
	http   *http.Client
	push   bool // its requests are pushed
	uri    string
	scope  string
}

// party registers one as an operator does: it proves itself by a secret, and its
// users are asked.
func (p *provider) party(t *testing.T, change func(*oauth.Metadata)) *party {
	t.Helper()
	id := fmt.Sprintf("rp-%d", len(p.secrets)+1)
	var kept oauth.Metadata
	p.client(id, func(m *oauth.Metadata) {
		m.Trusted, m.Scope = false, "openid profile email address phone offline_access orders:read"
		if change != nil {
			change(m)
		}
		kept = *m
	})
	method := kept.TokenEndpointAuthMethod
	if method == "" {
		method = "client_secret_basic"
	}
	return &party{t: t, p: p, id: id, secret: p.secrets[id], method: method, http: p.http(), uri: kept.RedirectURIs[0], scope: "openid"}
}

// request is a good one; pairs override, an empty value removes.
func (c *party) request(pairs ...string) url.Values {
	return request(c.id, append([]string{"redirect_uri", c.uri, "scope", c.scope}, pairs...)...)
}

// begin takes a browser to the authorization endpoint.
func (c *party) begin(a *agent, pairs ...string) *screen {
	c.t.Helper()
	v := c.request(pairs...)
	if c.push {
		pushed := c.call("/par", v)
		if pushed.Code != http.StatusCreated {
			c.t.Fatalf("not pushed: %d %s", pushed.Code, pushed.Body)
		}
		v = byReference(c.id, pushed.text("request_uri"))
	}
	return a.visit(issuer + "/authorize?" + v.Encode())
}

// authorize goes all the way, and reads what comes back.
func (c *party) authorize(a *agent, pairs ...string) url.Values {
	c.t.Helper()
	return a.back(a.answer(c.begin(a, pairs...)))
}

// code is authorize's, when it must come.
func (c *party) code(a *agent, pairs ...string) string {
	c.t.Helper()
	back := c.authorize(a, pairs...)
	if back.Get("code") == "" || back.Get("error") != "" {
		c.t.Fatal("no code:", back)
	}
	if back.Get("iss") != issuer { // RFC 9207
		c.t.Error("iss:", back.Get("iss"))
	}
	return back.Get("code")
}

// call posts form to an endpoint, with the client's proof of who it is. change is
// done last, and may spoil it.
func (c *party) call(path string, form url.Values, change ...func(url.Values, http.Header)) *reply {
	c.t.Helper()
	form, head := clone(form), http.Header{}
	switch c.method {
	case "client_secret_basic":
		head.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.id)+":"+url.QueryEscape(c.secret))))
	case "client_secret_post":
		form.Set("client_id", c.id)
		form.Set("client_secret", c.secret)
	case "private_key_jwt":
		form.Set("client_id", c.id)
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", c.key.assertion(c.id))
	default: // by its certificate, or not at all
		form.Set("client_id", c.id)
	}
	if c.proofs != nil {
		head.Set("DPoP", c.proofs.proof(http.MethodPost, issuer+path, ""))
	}
	for _, f := range change {
		f(form, head)
	}
	r := wants(c.t, http.MethodPost, issuer+path, form)
	maps.Copy(r.Header, head)
	return wire(c.t, c.http, r)
}

func (c *party) redeem(code string, change ...func(url.Values, http.Header)) *reply {
	c.t.Helper()
	return c.call("/token", redeem(code, "redirect_uri", c.uri), change...)
}

// userinfo asks with a token, in the header.
func (c *party) userinfo(access string, change ...func(http.Header)) *reply {
	c.t.Helper()
	r := wants(c.t, http.MethodGet, issuer+"/userinfo", nil)
	if r.Header.Set("Authorization", "Bearer "+access); c.proofs != nil {
		r.Header.Set("Authorization", "DPoP "+access)
		r.Header.Set("DPoP", c.proofs.proof(r.Method, issuer+"/userinfo", access))
	}
	for _, f := range change {
		f(r.Header)
	}
	return wire(c.t, c.http, r)
}

// tokens redeems a code and checks what every module checks of the answer
// (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
func (c *party) tokens(code string) *reply {
	c.t.Helper()
	a := c.redeem(code)
	kind := "Bearer"
	if c.proofs != nil {
		kind = "DPoP"
	}
	switch {
	case a.Code != http.StatusOK:
		c.t.Fatalf("no tokens: %d %s", a.Code, a.Body)
	case a.text("token_type") != kind || a.text("access_token") == "" || a.json["expires_in"] == nil:
		c.t.Errorf("token_type %q, expires_in %v", a.text("token_type"), a.json["expires_in"])
	case a.Header().Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.Header().Get("Content-Type"), "application/json"):
		c.t.Error(a.Header())
	}
	return a
}

// identity reads the ID token of an answer, and checks what every module checks
// of it, with a library nobody here wrote.
func (c *party) identity(a *reply) map[string]any {
	c.t.Helper()
	claims, _ := c.signed(a.text("id_token"))
	exp, _ := claims["exp"].(float64)
	iat, _ := claims["iat"].(float64)
	if claims["iss"] != issuer || claims["aud"] != c.id || claims["sub"] != c.p.user.ID || exp <= iat || iat == 0 {
		c.t.Error("ID token:", claims)
	}
	return claims
}

// signed verifies a token of the provider's with its published keys.
func (c *party) signed(raw string) (map[string]any, jose.Header) {
	c.t.Helper()
	var keys jose.JSONWebKeySet
	ok(c.t, json.Unmarshal(wire(c.t, c.http, wants(c.t, http.MethodGet, issuer+"/jwks.json", nil)).Body.Bytes(), &keys))
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	ok(c.t, err)
	head := jws.Signatures[0].Header
	named := keys.Key(head.KeyID)
	if len(named) != 1 || head.KeyID == "" {
		c.t.Fatalf("kid %q names %d keys", head.KeyID, len(named))
	}
	body, err := jws.Verify(named[0].Key)
	ok(c.t, err)
	var claims map[string]any
	ok(c.t, json.Unmarshal(body, &claims))
	return claims, head
}

// metadata is what the provider says of itself.
func (p *provider) metadata(t *testing.T) map[string]any {
	t.Helper()
	a := wire(t, p.http(), wants(t, http.MethodGet, issuer+"/.well-known/openid-configuration", nil))
	if a.Code != http.StatusOK || !strings.HasPrefix(a.Header().Get("Content-Type"), "application/json") {
		t.Fatal(a.Code, a.Header())
	}
	return a.json
}

// lists reads a list of words out of metadata.
func lists(m map[string]any, name string) (out []string) {
	list, _ := m[name].([]any)
	for _, v := range list {
		if s, is := v.(string); is {
			out = append(out, s)
		}
	}
	return out
}

// sees wants that these pages, and no others, have asked for something since.
func (a *agent) sees(pages ...string) {
	a.t.Helper()
	if !slices.Equal(a.asked, pages) {
		a.t.Errorf("asked for %v, want %v", a.asked, pages)
	}
	a.asked = nil
}

func base64url(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
