package oauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	issuer   = "https://id.example/auth"
	callback = "https://app.example/callback"
	orders   = "https://api.example/orders"
	mail     = "https://api.example/mail"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// A house is a real server on a real database, with one user in it.
type house struct {
	*oauth.Server
	t       testing.TB
	path    string // of the database
	db      *store.DB
	people  *identity.Directory
	keys    *token.Keyring
	seal    *token.Sealer
	handler http.Handler
	user    *identity.User
	secrets map[string]string // of the clients made
}

func newHouse(t testing.TB, change func(*oauth.Config)) *house {
	t.Helper()
	return newFaultyHouse(t, nil, change)
}

// newFaultyHouse makes one whose database fails when fault says so.
func newFaultyHouse(t testing.TB, fault func(string) error, change func(*oauth.Config)) *house {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.db")
	at := storetest.At(path)
	at.Fault = fault
	db, err := store.Open(ctx, at)
	ok(t, err)
	t.Cleanup(func() { _ = db.Close() })
	seal, err := token.NewSealer()
	ok(t, err)
	keys, err := shopKeys()
	ok(t, err)
	changes, err := auditlog.OpenChanges(filepath.Join(dir, "log"))
	ok(t, err)
	people, err := identity.Open(ctx, identity.Config{DB: db, Seal: seal, Log: changes, Issuer: issuer})
	ok(t, err)
	var running sync.WaitGroup
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() { people.Run(run, func(error) {}) })
	t.Cleanup(func() { stop(); running.Wait() })
	cfg := oauth.Config{
		Issuer: issuer, DB: db, Keys: keys, Seal: seal, People: people, Log: changes,
		Scopes: map[string]string{"orders:read": "See your orders", "orders:write": "Change your orders", "mail": "Read your mail"},
		Resources: []oauth.Resource{
			{ID: orders, Name: "Orders", Scopes: []string{"orders:read", "orders:write"}, Introspect: []string{"orders-api"}},
			{ID: mail, Name: "Mail", Scopes: []string{"mail"}, Format: "opaque", Introspect: []string{"mail-api"}},
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := oauth.New(ctx, cfg)
	ok(t, err)
	h := &house{Server: s, t: t, path: path, db: db, people: people, keys: keys, seal: seal, handler: s.Handler(), secrets: map[string]string{}}
	h.user, err = people.Create(ctx, "test", identity.NewUser{
		Name: "ada", Email: "ada@example.org", EmailVerified: true, Roles: []string{"clerk"}, Claims: map[string]any{"name": "Ada L.", "given_name": "Ada"},
	})
	ok(t, err)
	return h
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client registers one; change may be nil.
func (h *house) client(id string, change func(*oauth.Metadata)) {
	h.t.Helper()
	m := oauth.Metadata{
		ClientName: "The " + id, RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
		Scope: "openid profile email offline_access orders:read orders:write mail", Trusted: true,
	}
	if change != nil {
		change(&m)
	}
	secret, _, err := h.CreateClient(h.t.Context(), "test", id, m)
	ok(h.t, err)
	h.secrets[id] = secret.Reveal()
}

func public(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "none" }

func machine(m *oauth.Metadata) {
	m.GrantTypes, m.RedirectURIs, m.Scope, m.Roles = []string{"client_credentials"}, nil, "orders:read orders:write mail", []string{"robot"}
}

// A reply is what came back.
type reply struct {
	*httptest.ResponseRecorder
	json map[string]any
}

func (a *reply) text(name string) string { s, _ := a.json[name].(string); return s }

// post sends a form as the client, "" for nobody.
func (h *house) post(path, client string, form url.Values, with ...func(*http.Request)) *reply {
	form = clone(form)
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, issuer+path, nil)
	if secret := h.secrets[client]; secret != "" {
		r.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(secret))
	} else if client != "" {
		form.Set("client_id", client)
	}
	r.Body = io.NopCloser(strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range with {
		f(r)
	}
	return h.do(r)
}

func (h *house) do(r *http.Request) *reply {
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	a := &reply{ResponseRecorder: w}
	_ = json.Unmarshal(w.Body.Bytes(), &a.json)
	return a
}

func (h *house) token(client string, form url.Values, with ...func(*http.Request)) *reply {
	return h.post("/token", client, form, with...)
}

func clone(v url.Values) url.Values {
	out := url.Values{}
	for name, values := range v {
		out[name] = append([]string(nil), values...)
	}
	return out
}

// form makes values of pairs.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// A browser keeps cookies.
type browser struct {
	h       *house
	cookies map[string]string
}

func (h *house) browser() *browser { return &browser{h, map[string]string{}} }

// signIn gives the browser a session of user, reached as acr.
func (b *browser) signIn(user, acr string, amr ...string) *identity.Session {
	b.h.t.Helper()
	if len(amr) == 0 {
		amr = []string{"pwd"}
	}
	<-time.After(2 * time.Millisecond) // who really signs in is not done in the millisecond in which the request began
	cookie, session, err := b.h.people.Start(b.h.t.Context(), &identity.Login{User: user, ACR: acr, AMR: amr, AuthTime: time.Now()}, identity.Origin{})
	ok(b.h.t, err)
	b.cookies["__Host-gatehouse"] = cookie.Reveal()
	return session
}

func (b *browser) do(r *http.Request) *reply {
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := b.h.do(r)
	for _, c := range a.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return a
}

func (b *browser) get(target string) *reply {
	if strings.HasPrefix(target, "/") {
		target = "https://id.example" + target
	}
	return b.do(httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil))
}

func (b *browser) post(target string, form url.Values, headers ...string) *reply {
	if strings.HasPrefix(target, "/") {
		target = "https://id.example" + target
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(headers) == 0 {
		headers = []string{"Origin", "https://id.example", "Sec-Fetch-Site", "same-origin"}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.do(r)
}

// request is a good authorization request; pairs override, an empty value removes.
func request(client string, pairs ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	v := form("client_id", client, "redirect_uri", callback, "response_type", "code", "scope", "openid orders:read", "state", "s t&a=te", "nonce", "n-1",
		"code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method", "S256")
	for i := 0; i < len(pairs); i += 2 {
		if v.Del(pairs[i]); pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func (b *browser) authorize(v url.Values) *reply { return b.get(issuer + "/authorize?" + v.Encode()) }

// back reads an answer that came to the client by redirect; nil when it did not.
func (a *reply) back() url.Values {
	u, err := url.Parse(a.Header().Get("Location"))
	if a.Code != http.StatusSeeOther || err != nil || u.Host == "id.example" || u.Host == "" {
		return nil
	}
	return u.Query()
}

// code gets one for a user who is signed in; the client is trusted.
func (h *house) code(client string, pairs ...string) string {
	h.t.Helper()
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	a := b.authorize(request(client, pairs...))
	code := a.back().Get("code")
	if code == "" {
		h.t.Fatalf("no code: %d %s %s", a.Code, a.Header().Get("Location"), a.Body)
	}
	return code
}

func redeem(code string, pairs ...string) url.Values {
	v := form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
	for i := 0; i < len(pairs); i += 2 {
		if v.Del(pairs[i]); pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// tokens goes through the whole code flow.
func (h *house) tokens(client string, pairs ...string) *reply {
	h.t.Helper()
	a := h.token(client, redeem(h.code(client, pairs...)))
	if a.Code != http.StatusOK {
		h.t.Fatalf("no tokens: %d %s", a.Code, a.Body)
	}
	return a
}

func refresh(tok string, pairs ...string) url.Values {
	return form(append([]string{"grant_type", "refresh_token", "refresh_token", tok}, pairs...)...)
}

// claims reads a JWT of ours, whose signature must hold.
func (h *house) claims(raw, typ string) map[string]any {
	h.t.Helper()
	keys, err := token.NewKeySet(token.KeySetConfig{Static: h.keys.JWKS()}, nil)
	ok(h.t, err)
	c, err := keys.Signed(h.t.Context(), raw, typ)
	ok(h.t, err)
	return c.Raw
}

// active asks the token's own client's view.
func (h *house) active(client, tok string) bool {
	h.t.Helper()
	a := h.post("/introspect", client, form("token", tok))
	if a.Code != http.StatusOK {
		h.t.Fatalf("introspection: %d %s", a.Code, a.Body)
	}
	return a.json["active"] == true
}

// eventually waits for what follows the database by a poll.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal(what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func wantError(t testing.TB, a *reply, status int, code string) {
	t.Helper()
	if a.Code != status || a.text("error") != code {
		t.Errorf("%d %s, want %d %s", a.Code, a.Body, status, code)
	}
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		if a.json[name] != nil {
			t.Errorf("an error with %s in it", name)
		}
	}
}

var hidden = regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`)

// fields are the hidden ones of the form on a page.
func fields(page string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		if m[1] != "decision" {
			v.Set(m[1], m[2])
		}
	}
	return v
}

// register makes a client by dynamic registration.
func (h *house) register(metadata string) *reply {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, issuer+"/register", strings.NewReader(metadata))
	r.Header.Set("Content-Type", "application/json")
	return h.do(r)
}

func decodeHeader(t testing.TB, raw string) string {
	t.Helper()
	head, _, _ := strings.Cut(raw, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	ok(t, err)
	return string(b)
}

// discard is a log of changes for servers that are only made.
type discard struct{}

func (discard) Append(context.Context, auditlog.Change) error { return nil }
