package pages_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	host         = "login.example.com"
	origin       = "https://" + host
	goodPassword = "correct horse battery staple"
	appRedirect  = "https://app.example.net/callback"
)

// A site is the pages over TLS with a real directory behind them. Only what waits
// for a sign-in is made up.
type site struct {
	*identity.Directory
	pages  *pages.Pages
	server *httptest.Server
	flow   *flow
	keys   *authn.Keys
	db     *store.DB
	log    *auditlog.Changes
	mails  *mails
	events *events
	cfg    pages.Config
}

// flow is the authorization server as far as the pages see it.
type flow struct {
	mu      sync.Mutex
	people  *identity.Directory
	pages   *pages.Pages
	waiting map[string]*pages.Waiting
	browser map[string]string // whose it is, by request: digest of the cookie
	grants  []pages.Grant
	owner   string // of grants
	revoked []string
}

func (f *flow) Waiting(_ context.Context, r *http.Request, id string) (*pages.Waiting, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, ok := f.waiting[id]
	c, err := r.Cookie("__Host-gatehouse-flow")
	if !ok || err != nil || f.browser[id] != digest(c.Value) {
		return nil, pages.ErrWaiting
	}
	out := *w
	if s, _, _, err := f.pages.Session(r); err == nil && time.Since(s.AuthTime) < time.Minute {
		out.Reauth = out.Reauth && !slices.Contains(f.revoked, "fresh "+id) // the test says when it was done
	}
	return &out, nil
}

func (f *flow) Continue(id string) string { return "/continue?request=" + url.QueryEscape(id) }

func (f *flow) Grants(_ context.Context, user string) ([]pages.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if user != f.owner {
		return nil, nil
	}
	return slices.Clone(f.grants), nil
}

func (f *flow) RevokeGrant(_ context.Context, _, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked = append(f.revoked, id)
	f.grants = slices.DeleteFunc(f.grants, func(g pages.Grant) bool { return g.ID == id })
	return nil
}

func (f *flow) EndSession(ctx context.Context, actor, sid string) error {
	return f.people.End(ctx, actor, sid)
}

// mails keeps what would have been sent.
type mails struct {
	mu   sync.Mutex
	sent []string
}

func (m *mails) Send(_ context.Context, to, subject, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, "To: "+to+"\nSubject: "+subject+"\n\n"+text)
	return nil
}

func (m *mails) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

// events keeps what the gateway would have logged.
type events struct {
	mu  sync.Mutex
	all []gatehouse.Event
}

func (e *events) last() gatehouse.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[len(e.all)-1]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func newSite(t testing.TB, set func(*pages.Config)) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{mails: &mails{}, events: &events{}}
	var err error
	if s.db, err = store.Open(t.Context(), storetest.At(filepath.Join(dir, "gatehouse.db"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	if s.log, err = auditlog.OpenChanges(filepath.Join(dir, "events")); err != nil {
		t.Fatal(err)
	}
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	if s.Directory, err = identity.Open(t.Context(), identity.Config{DB: s.db, Seal: seal, Log: s.log, Issuer: origin, Mail: s.mails}); err != nil {
		t.Fatal(err)
	}
	if s.keys, err = authn.NewKeys(t.Context(), authn.KeysConfig{DB: s.db, Environment: "test", Log: s.log}); err != nil {
		t.Fatal(err)
	}
	standings, err := identity.OpenStandings(t.Context(), s.db)
	if err != nil {
		t.Fatal(err)
	}
	s.keys.Follow(t.Context(), owners{standings})
	s.flow = &flow{people: s.Directory, waiting: map[string]*pages.Waiting{}, browser: map[string]string{}}
	cfg := pages.Config{
		Issuer: origin, People: s.Directory, Seal: seal, Flow: s.flow, Keys: s.keys, Name: "Example & Sons",
		Scopes: map[string]string{"orders:read": "See your orders", "orders:write": "Change your orders"},
	}
	if set != nil {
		set(&cfg)
	}
	s.cfg = cfg
	if s.pages, err = pages.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.flow.pages = s.pages
	s.serve(t)
	return s
}

// serve mounts the pages as the authorization server does, and what it would add.
func (s *site) serve(t testing.TB) {
	mux := http.NewServeMux()
	for pattern, h := range s.pages.Routes() {
		mux.Handle(pattern, h)
	}
	foreign(mux)
	// start is what /authorize does first.
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		id, value := r.FormValue("id"), s.pages.Browser(w, r)
		wait := &pages.Waiting{Client: pages.Client{Name: "Orders", URI: "https://orders.example.net"}, RedirectURI: appRedirect, Reauth: r.FormValue("again") != ""}
		if r.FormValue("client") == "long" {
			wait.Client.Name = strings.Repeat("Application", 12)
		}
		if acr := r.FormValue("acr"); acr != "" {
			wait.ACR = []string{acr}
		}
		s.flow.mu.Lock()
		s.flow.waiting[id], s.flow.browser[id] = wait, digest(value)
		s.flow.mu.Unlock()
		http.Redirect(w, r, "/signin?request="+id, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /continue", func(w http.ResponseWriter, r *http.Request) {
		wait, err := s.flow.Waiting(r.Context(), r, r.FormValue("request"))
		if err != nil {
			s.pages.Fail(w, r, err)
			return
		}
		if strings.HasPrefix(r.FormValue("request"), "consent") {
			http.Redirect(w, r, "/consent", http.StatusSeeOther)
			return
		}
		http.Redirect(w, r, wait.RedirectURI+"?code=abc", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /consent", func(w http.ResponseWriter, r *http.Request) { s.pages.Consent(w, r, consent) })
	mux.HandleFunc("POST /consent", func(w http.ResponseWriter, r *http.Request) {
		form, err := s.pages.Form(w, r, "request", "decision")
		if err != nil {
			s.pages.Fail(w, r, err)
			return
		}
		http.Redirect(w, r, appRedirect+"?"+form.Get("decision"), http.StatusSeeOther)
	})
	mux.HandleFunc("GET /device", func(w http.ResponseWriter, r *http.Request) {
		s.pages.Device(w, r, pages.DeviceView{State: r.FormValue("state"), Code: "BCDF-GHJK", Problem: r.FormValue("problem"), Request: "q1", User: "alice", Client: pages.Client{Name: "Television"}, Scopes: []pages.Item{{Name: "openid", Text: "Know who you are"}}})
	})
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		s.pages.Logout(w, r, pages.LogoutView{Client: pages.Client{Name: "Orders"}, User: "alice", Fields: []pages.Field{{Name: "state", Value: `x"><script>`}}, Done: r.FormValue("done") != ""})
	})
	mux.HandleFunc("GET /formpost", func(w http.ResponseWriter, r *http.Request) {
		s.pages.FormPost(w, r, r.FormValue("action"), []pages.Field{{Name: "code", Value: "abc"}, {Name: "state", Value: `"><b>`}})
	})
	mux.HandleFunc("GET /sign-in-first", func(w http.ResponseWriter, r *http.Request) {
		if err := s.pages.SignIn(w, r, "/device"); err != nil {
			s.pages.Fail(w, r, err)
		}
	})
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ev := gatehouse.Event{}
		r.Header.Set("Gatehouse-Decision", "01TESTDECISION")
		mux.ServeHTTP(w, r.WithContext(gatehouse.WithEvent(r.Context(), &ev)))
		s.events.mu.Lock()
		s.events.all = append(s.events.all, ev)
		s.events.mu.Unlock()
	}))
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
}

var consent = pages.ConsentView{
	Request: "one-time", User: "alice", RedirectURI: appRedirect, Offline: true,
	Client:    pages.Client{Name: "Orders", URI: "https://orders.example.net", PolicyURI: "https://orders.example.net/privacy"},
	Scopes:    []pages.Item{{Name: "openid", Text: "Know who you are"}, {Name: "orders:read"}},
	Resources: []pages.Item{{Name: "Orders API", Text: "https://api.example.com/orders"}},
}

// wait makes an authorization request wait for b.
func (s *site) wait(b *browser, id string, w pages.Waiting) {
	b.get("/signin") // has the cookie from now on
	if w.Client.Name == "" {
		w.Client.Name = "Orders"
	}
	if w.RedirectURI == "" {
		w.RedirectURI = appRedirect
	}
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	s.flow.waiting[id], s.flow.browser[id] = &w, digest(b.cookie("__Host-gatehouse-flow"))
}

func (s *site) alice(t testing.TB) *identity.User {
	t.Helper()
	return s.create(t, identity.NewUser{
		Name: "alice", Email: "alice@example.com", EmailVerified: true, Roles: []string{"editor", "viewer"},
		Claims: map[string]any{"name": "Alice Liddell"}, Password: gatehouse.NewSecret(goodPassword),
	})
}

func (s *site) create(t testing.TB, n identity.NewUser) *identity.User {
	t.Helper()
	u, err := s.Create(t.Context(), "root", n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// age makes every session as if its user had signed in some time before.
func (s *site) age(t testing.TB, by time.Duration) {
	t.Helper()
	s.exec(t, `UPDATE sessions SET auth_time = auth_time - $1`, by.Milliseconds())
	// A user is not younger than the sign-in.
	s.exec(t, `UPDATE users SET valid_from = 0`)
}

// A browser has cookies, follows no redirect by itself, and sends the headers real
// ones send.
type browser struct {
	t      testing.TB
	client *http.Client
	jar    *cookiejar.Jar
	header http.Header // added to each request; an empty value removes
}

func (s *site) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	address := s.server.Listener.Addr().String()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: t, jar: jar, header: http.Header{}, client: &http.Client{
		Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *browser) cookie(name string) string {
	u, _ := url.Parse(origin)
	for _, c := range b.jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// A view is what came back.
type view struct {
	status int
	header http.Header
	body   string
	doc    *html.Node
	at     string // path it was asked for
}

func (v *view) to() string { return v.header.Get("Location") }

func (b *browser) get(path string) *view { return b.do(http.MethodGet, path, nil) }

func (b *browser) post(path string, form url.Values) *view { return b.do(http.MethodPost, path, form) }

func (b *browser) do(method, path string, form url.Values) *view {
	b.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = origin + path
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, values := range b.header {
		r.Header.Del(name)
		for _, v := range values {
			if v != "" {
				r.Header.Add(name, v)
			}
		}
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	doc, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	return &view{status: resp.StatusCode, header: resp.Header, body: string(body), doc: doc, at: path}
}

// follow goes where a redirect of our own leads, as often as there is one.
func (b *browser) follow(v *view) *view {
	b.t.Helper()
	for range 10 {
		if v.to() == "" || !strings.HasPrefix(v.to(), "/") {
			return v
		}
		v = b.get(v.to())
	}
	b.t.Fatalf("redirects without end at %s", v.at)
	return nil
}

// submit posts the form of v with that action as a browser would: its fields, with
// some of them filled in.
func (b *browser) submit(v *view, action string, fill url.Values) *view {
	b.t.Helper()
	form := find(v.doc, "form", "action", action)
	if form == nil {
		b.t.Fatalf("%s (%d) has no form to %s:\n%s", v.at, v.status, action, v.body)
	}
	values := fieldsOf(form)
	maps.Copy(values, fill)
	return b.post(action, values)
}

func fieldsOf(form *html.Node) url.Values {
	values := url.Values{}
	for n := range form.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "input" && attr(n, "name") != "" && attr(n, "type") != "checkbox":
			values.Set(attr(n, "name"), attr(n, "value"))
		case n.Data == "select":
			for o := range n.Descendants() {
				if o.Data == "option" && (!values.Has(attr(n, "name")) || has(o, "selected")) {
					values.Set(attr(n, "name"), attr(o, "value"))
				}
			}
		}
	}
	return values
}

func find(n *html.Node, tag, name, value string) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Data == tag && (name == "" || attr(d, name) == value) {
			return d
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// text is what a reader sees below n.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// says wants status and some words in what the reader sees.
func (v *view) says(t testing.TB, status int, words ...string) *view {
	t.Helper()
	if v.status != status {
		t.Fatalf("%s: status %d, want %d:\n%s", v.at, v.status, status, v.body)
	}
	seen := text(find(v.doc, "body", "", ""))
	for _, w := range words {
		if !strings.Contains(seen, w) {
			t.Fatalf("%s does not say %q:\n%s", v.at, w, seen)
		}
	}
	return v
}

// leads wants a 303 to a place that begins with to.
func (v *view) leads(t testing.TB, to string) *view {
	t.Helper()
	if v.status != http.StatusSeeOther || !strings.HasPrefix(v.to(), to) {
		t.Fatalf("%s: status %d to %q, want 303 to %q:\n%s", v.at, v.status, v.to(), to, v.body)
	}
	return v
}

// signIn signs in with name and password, without anything waiting.
func (b *browser) signIn(name, password string) *view {
	b.t.Helper()
	return b.submit(b.get("/signin"), "/signin", url.Values{"name": {name}, "password": {password}})
}

func keyOf(u *identity.User) authn.NewKey {
	return authn.NewKey{Owner: u.ID, Roles: []string{"viewer"}, Scopes: []string{"orders:read"}, Note: "Nightly report", Life: 90 * 24 * time.Hour}
}

func secret(s string) gatehouse.Secret { return gatehouse.NewSecret(s) }

func (s *site) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	err := s.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// forget lets a code of this half-minute be used once more, and attempts be counted
// from none.
func (s *site) forget(t testing.TB) {
	t.Helper()
	s.exec(t, `UPDATE totp SET step = 0`)
	s.exec(t, `DELETE FROM throttles`)
}

// run runs the directory until the test ends: it sends the mail.
func (s *site) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func(err error) { t.Logf("reported: %v", err) })
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// mailed waits for a mail with a link to such a path, and returns the link.
func (s *site) mailed(t testing.TB, path string) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		for _, m := range s.mails.all() {
			for word := range strings.FieldsSeq(m) {
				if strings.Contains(word, path) {
					return word
				}
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("no mail with %s among %q", path, s.mails.all())
		}
	}
}

// withoutToken leaves out of a page what differs between any two.
func withoutToken(body string) string {
	return regexp.MustCompile(`name="csrf" value="[^"]*"`).ReplaceAllString(body, `name="csrf"`)
}

// respond calls h by itself.
func respond(t testing.TB, h http.HandlerFunc) *view {
	t.Helper()
	w := httptest.NewRecorder()
	h(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, origin+"/x", nil))
	doc, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return &view{status: w.Code, header: w.Header(), body: w.Body.String(), doc: doc, at: "a renderer"}
}

func (s *site) read(t testing.TB, query string, into ...any) error {
	t.Helper()
	return s.db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), query).Scan(into...) })
}

// owners are the users as keys follow them.
type owners struct{ *identity.Standings }

func (o owners) OwnersVersion(ctx context.Context) (int64, error) { return o.Version(ctx) }

func (o owners) Owners(ctx context.Context, ids []string) (map[string]authn.Owner, error) {
	all := map[string]authn.Owner{}
	found, err := o.Of(ctx, ids)
	for id, s := range found {
		all[id] = authn.Owner(s)
	}
	return all, err
}
