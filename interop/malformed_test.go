package interop_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const (
	verifier  = "a-verifier-of-forty-three-characters-or-more"
	challenge = "y5UF_tmp_ICTDGza-Ou2vUvx2cu7DBN-Xwf_z0RDfTw" // its SHA-256
)

// A peer is an authorization server that malformed requests are sent to.
type peer struct {
	name    string
	issuer  string
	http    *http.Client
	secrets map[string]string // of clients
	key     *ecdsa.PrivateKey // of the client "signer"
	mint    func(t *testing.T, client string) string
	token   string // a good access token of web
	nonce   string // a good DPoP nonce
}

// An ask is a request to a peer, as the table leaves it.
type ask struct {
	method string
	query  string
	form   url.Values
	raw    string // body instead of form
	header http.Header
}

// An edit makes a good request a bad one.
type edit func(t *testing.T, p *peer, a *ask)

func set(name string, values ...string) edit {
	return func(_ *testing.T, _ *peer, a *ask) { a.form[name] = values }
}

func without(names ...string) edit {
	return func(_ *testing.T, _ *peer, a *ask) {
		for _, name := range names {
			delete(a.form, name)
		}
	}
}

func twice(name string) edit {
	return func(_ *testing.T, _ *peer, a *ask) { a.form.Add(name, a.form.Get(name)) }
}

func header(name string, values ...string) edit {
	return func(_ *testing.T, _ *peer, a *ask) { a.header[name] = values }
}

func method(m string) edit { return func(_ *testing.T, _ *peer, a *ask) { a.method = m } }

func tail(text string) edit {
	return func(_ *testing.T, _ *peer, a *ask) { a.raw = a.form.Encode() + text }
}

func body(text, contentType string) edit {
	return func(_ *testing.T, _ *peer, a *ask) {
		a.raw, a.header = text, with(a.header, "Content-Type", contentType)
	}
}

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	h.Set(name, value)
	return h
}

// basic authenticates as client, with a secret that is not its own where one is given.
func basic(client string, secret ...string) edit {
	return func(_ *testing.T, p *peer, a *ask) {
		r := http.Request{Header: a.header}
		s := p.secrets[client]
		if len(secret) > 0 {
			s = secret[0]
		}
		r.SetBasicAuth(client, s)
	}
}

// as authenticates client by its secret in the body.
func as(client string) edit {
	return func(_ *testing.T, p *peer, a *ask) {
		delete(a.header, "Authorization")
		a.form.Set("client_id", client)
		a.form.Set("client_secret", p.secrets[client])
	}
}

// signed sends a client assertion of "signer"; claims and head replace those of a good one.
func signed(alg string, claims, head map[string]any) edit {
	return func(t *testing.T, p *peer, a *ask) {
		now := time.Now().Unix()
		c := map[string]any{"iss": "signer", "sub": "signer", "aud": p.issuer, "jti": rand.Text(), "iat": now, "exp": now + 60}
		for k, v := range claims {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		delete(a.header, "Authorization")
		a.form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		a.form.Set("client_assertion", sign(t, alg, p.key, c, head))
	}
}

// proof sends a DPoP proof; claims and head replace those of a good one.
func proof(claims, head map[string]any) edit {
	return func(t *testing.T, p *peer, a *ask) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": p.issuer + "/token", "iat": time.Now().Unix(), "nonce": p.nonce}
		for k, v := range claims {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		h := map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: key.Public()}}
		maps.Copy(h, head)
		if h["jwk"] == "private" {
			h["jwk"] = jose.JSONWebKey{Key: key}
		}
		a.header["DPoP"] = []string{sign(t, "ES256", key, c, h)}
	}
}

func sign(t *testing.T, alg string, key any, claims, head map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if alg == "none" {
		b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		return b64(`{"alg":"none"}`) + "." + b64(string(payload)) + "."
	}
	if alg == "HS256" {
		key = []byte(strings.Repeat("k", 32))
	}
	o := &jose.SignerOptions{}
	for k, v := range head {
		o.WithHeader(jose.HeaderKey(k), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// good is a request that is answered as its client hopes.
func (p *peer) good(t *testing.T, at string) (path string, a *ask) {
	t.Helper()
	a = &ask{method: http.MethodPost, form: url.Values{}, header: http.Header{}}
	request := map[string]string{
		"client_id": "web", "response_type": "code", "redirect_uri": app, "scope": "openid", "state": "s", "code_challenge": challenge, "code_challenge_method": "S256",
	}
	var fields map[string]string
	who := basic("web")
	switch path = at; at {
	case "authorize":
		a.method, fields, who = http.MethodGet, request, nil
	case "par":
		fields = request
	case "code":
		path, fields = "token", map[string]string{"grant_type": "authorization_code", "code": p.mint(t, "web"), "redirect_uri": app, "code_verifier": verifier}
	case "client":
		path, fields = "token", map[string]string{"grant_type": "client_credentials"}
	case "assertion":
		path, fields, who = "token", map[string]string{"grant_type": "client_credentials"}, signed("ES256", nil, nil)
	case "refresh":
		path, fields = "token", map[string]string{"grant_type": "refresh_token", "refresh_token": "unknown"}
	case "device_authorization":
		fields, who = map[string]string{"client_id": "tv"}, nil
	case "device":
		path, fields, who = "token", map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "unknown", "client_id": "tv"}, nil
	case "introspect", "revoke":
		fields = map[string]string{"token": "unknown"}
	case "userinfo":
		a.method, who = http.MethodGet, header("Authorization", "Bearer "+p.token)
	default:
		t.Fatalf("no such request: %s", at)
	}
	for k, v := range fields {
		a.form.Set(k, v)
	}
	if who != nil {
		who(t, p, a)
	}
	return path, a
}

// send says in words what came of it: where the answer went (to the client by
// redirect, to the user as a page, to who asked as JSON), its class of status and
// its error code, or that there were tokens.
func (p *peer) send(t *testing.T, path string, a *ask) string {
	t.Helper()
	text, target := a.raw, p.issuer+"/"+path
	if text == "" {
		text = a.form.Encode()
	}
	query := a.query
	if a.method == http.MethodGet || a.method == http.MethodHead {
		query, text = strings.TrimPrefix(query+"&"+text, "&"), ""
	}
	if query != "" {
		target += "?" + query
	}
	r, err := http.NewRequestWithContext(t.Context(), a.method, target, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if text != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	maps.Copy(r.Header, a.header)
	resp, err := p.http.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if n := resp.Header.Get("DPoP-Nonce"); n != "" {
		p.nonce = n
	}
	class := fmt.Sprintf("%dxx", resp.StatusCode/100)
	if to := resp.Header.Get("Location"); to != "" {
		if !strings.HasPrefix(to, app) {
			return "asks the user"
		}
		u, _ := url.Parse(to)
		for _, text := range []string{u.RawQuery, u.Fragment} {
			if q, err := url.ParseQuery(text); err == nil && q.Get("error") != "" {
				return "redirects with " + q.Get("error")
			}
		}
		return "redirects without an error"
	}
	var v struct {
		Error  string `json:"error"`
		Token  string `json:"access_token"`
		URI    string `json:"request_uri"`
		Device string `json:"device_code"`
		Sub    string `json:"sub"`
		Active *bool  `json:"active"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		challenge := resp.Header.Get("WWW-Authenticate")
		if _, code, ok := strings.Cut(challenge, `error="`); ok {
			code, _, _ = strings.Cut(code, `"`)
			return class + " " + code
		}
		if path == "authorize" {
			return class + " page"
		}
		return class
	}
	switch {
	case v.Error != "":
		return class + " " + v.Error
	case v.Token != "":
		return class + " tokens"
	case v.URI != "" || v.Device != "" || v.Sub != "":
		return class + " answer"
	case v.Active != nil:
		return fmt.Sprintf("%s active=%t", class, *v.Active)
	}
	return class
}

// peers starts both with the same clients.
func peers(t *testing.T) (ours, theirs *peer) {
	t.Helper()
	node, modules := nodeWith(t, "oidc-provider", "oidc-provider")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "s", Use: "sig", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	const device = "urn:ietf:params:oauth:grant-type:device_code"
	clients := map[string]oauth.Metadata{
		"web":    {RedirectURIs: []string{app}, GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"}, Scope: "openid email offline_access orders:read"},
		"poster": {GrantTypes: []string{"client_credentials"}, TokenEndpointAuthMethod: "client_secret_post", Scope: "orders:read"},
		"pub":    {RedirectURIs: []string{app}, GrantTypes: []string{"authorization_code"}, TokenEndpointAuthMethod: "none", Scope: "openid"},
		"signer": {GrantTypes: []string{"client_credentials"}, TokenEndpointAuthMethod: "private_key_jwt", JWKS: jwks, Scope: "orders:read"},
		"tv":     {GrantTypes: []string{device}, TokenEndpointAuthMethod: "none", ApplicationType: "native", Scope: "openid"},
	}
	g := startGate(t, "oauth21")
	g.user(t, "mallory")
	ours = &peer{name: "gatehouse", issuer: g.issuer, http: g.http(), secrets: map[string]string{}, key: key}
	var list []map[string]any
	for id, m := range clients {
		ours.secrets[id] = g.client(t, id, m)
		c := map[string]any{}
		b, err := json.Marshal(m)
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		c["client_id"], c["redirect_uris"], c["response_types"] = id, append([]string{}, m.RedirectURIs...), []string{}
		if len(m.RedirectURIs) > 0 {
			c["response_types"] = []string{"code"}
		}
		if s := ours.secrets[id]; s != "" {
			c["client_secret"] = s
		}
		list = append(list, c)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	user := g.browser("mallory")
	ours.mint = func(t *testing.T, client string) string {
		q := url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {app}, "scope": {"openid email"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}}
		if client == "pub" {
			q.Set("scope", "openid")
		}
		p, err := user.visit(g.issuer+"/authorize?"+q.Encode(), app)
		if err != nil || p.Status != 0 {
			t.Fatalf("no code: %+v %v", p, err)
		}
		return query(t, p.URL).Get("code")
	}

	cmd := exec.CommandContext(t.Context(), node, "peer.mjs", modules, string(text))
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	theirs = &peer{name: "oidc-provider", http: g.http(), secrets: ours.secrets, key: key}
	for !strings.HasPrefix(theirs.issuer, "http://") { // it also warns
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("oidc-provider ended: %v", err)
		}
		theirs.issuer = strings.TrimSpace(line)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	theirs.mint = func(t *testing.T, client string) string {
		resp, err := theirs.http.Get(theirs.issuer + "/mint?client_id=" + client + "&challenge=" + challenge)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return string(b)
	}
	for _, p := range []*peer{ours, theirs} {
		path, a := p.good(t, "code")
		p.token = p.accessToken(t, path, a)
	}
	return ours, theirs
}

// accessToken redeems a code.
func (p *peer) accessToken(t *testing.T, path string, a *ask) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.issuer+"/"+path, strings.NewReader(a.form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = a.header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := p.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	var v struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &v); err != nil || v.Token == "" {
		t.Fatalf("%s gives no token: %s", p.name, b)
	}
	return v.Token
}
