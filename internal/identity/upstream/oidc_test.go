package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const clientSecret = "a client secret that is 32 bytes"

// A liar is an OpenID provider that answers as a test wants.
type liar struct {
	*httptest.Server
	key      *ecdsa.PrivateKey
	metadata map[string]any
	claims   map[string]any          // over those of an honest ID token; nil removes one
	sign     func(claims any) string // nil: ES256 with key
	info     map[string]any
	token    http.HandlerFunc // nil: an honest token endpoint
	asked    url.Values       // the authorization request
	codes    int              // token requests
}

func newLiar(t *testing.T) *liar {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{key: key, claims: map[string]any{}, info: map[string]any{"sub": "subject"}}
	mux := http.NewServeMux()
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	l.metadata = map[string]any{
		"issuer": l.URL, "authorization_endpoint": l.URL + "/authorize", "token_endpoint": l.URL + "/token", "jwks_uri": l.URL + "/jwks",
		"userinfo_endpoint": l.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"none", "HS256", "ES256"},
		"authorization_response_iss_parameter_supported": true,
	}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { answer(w, l.metadata) })
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &l.key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) { answer(w, l.info) })
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		l.codes++
		if l.token != nil {
			l.token(w, r)
			return
		}
		challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		id, secret, ok := r.BasicAuth()
		if base64.RawURLEncoding.EncodeToString(challenge[:]) != l.asked.Get("code_challenge") || !ok || id != "us" || secret != url.QueryEscape(clientSecret) {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{
			"iss": l.URL, "sub": "subject", "aud": "us", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "nonce": l.asked.Get("nonce"),
			"email": "alice@example.com", "email_verified": true, "groups": []string{"admins"}, "acr": "strong", "amr": []string{"otp"},
		}
		for name, v := range l.claims {
			if claims[name] = v; v == nil {
				delete(claims, name)
			}
		}
		sign := l.sign
		if sign == nil {
			sign = func(claims any) string { return signed(t, jose.ES256, l.key, claims) }
		}
		answer(w, map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": sign(claims)})
	})
	return l
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key, claims any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
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

func connector(t *testing.T, l *liar, change func(*upstream.OIDCConfig)) *upstream.OIDC {
	t.Helper()
	out, err := egress.New(egress.Config{Allow: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	cfg := upstream.OIDCConfig{
		Name: "liar", Issuer: l.URL, Gatehouse: "https://gatehouse.example", ClientID: "us", Secret: gatehouse.NewSecret(clientSecret),
		Seal: seal, HTTP: out.HTTP(), Rules: upstream.Rules{Roles: map[string][]string{"admins": {"operator"}}},
	}
	if change != nil {
		change(&cfg)
	}
	o, err := upstream.NewOIDC(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// begin leaves for the liar and returns what an honest browser would come back with.
func begin(t *testing.T, o *upstream.OIDC, l *liar, ask upstream.Ask) (url.Values, string) {
	t.Helper()
	to, cookie, err := o.Begin(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l.asked = u.Query()
	return url.Values{"code": {"a-code"}, "state": {l.asked.Get("state")}, "iss": {l.URL}}, cookie
}

func TestWhatIsAskedFor(t *testing.T) {
	l := newLiar(t)
	o := connector(t, l, func(c *upstream.OIDCConfig) { c.ACRValues = []string{"strong", "weak"} })
	_, cookie := begin(t, o, l, upstream.Ask{LoginHint: "alice", Then: "hidden"})
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "us", "redirect_uri": "https://gatehouse.example/signin/upstream/liar/callback",
		"scope": "openid profile email", "code_challenge_method": "S256", "login_hint": "alice", "acr_values": "strong weak",
	} {
		if got := l.asked.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(l.asked.Get("state")) < 26 || len(l.asked.Get("nonce")) < 26 || len(l.asked.Get("code_challenge")) != 43 {
		t.Errorf("asked %v", l.asked)
	}
	first := maps.Clone(l.asked)
	begin(t, o, l, upstream.Ask{})
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if l.asked.Get(name) == first.Get(name) {
			t.Errorf("%s is the same twice", name)
		}
	}
	if strings.Contains(cookie, "hidden") || len(cookie) > 3000 {
		t.Errorf("cookie %q", cookie)
	}
}

func TestAnHonestAnswer(t *testing.T) {
	l := newLiar(t)
	t.Run("gives what was proven, and acr and amr only where the config believes them", func(t *testing.T) {
		o := connector(t, l, nil)
		q, cookie := begin(t, o, l, upstream.Ask{})
		who, _, err := o.Finish(t.Context(), q, cookie)
		if err != nil {
			t.Fatal(err)
		}
		if who.Subject != "subject" || who.Email != "alice@example.com" || who.EmailVerified || who.ACR != "" || who.AMR != nil || who.Create || who.LinkEmail || !slices.Equal(who.Roles, []string{"operator"}) {
			t.Errorf("got %+v", who)
		}
		o = connector(t, l, func(c *upstream.OIDCConfig) {
			c.TrustAMR, c.TrustEmail, c.ACR = true, true, map[string]string{"strong": "aal2"}
		})
		q, cookie = begin(t, o, l, upstream.Ask{})
		if who, _, err = o.Finish(t.Context(), q, cookie); err != nil || who.ACR != "aal2" || !slices.Equal(who.AMR, []string{"otp"}) || !who.EmailVerified {
			t.Errorf("got %+v, %v", who, err)
		}
	})
	t.Run("with several audiences is good when we are who asked", func(t *testing.T) {
		l.claims = map[string]any{"aud": []string{"us", "an API"}, "azp": "us"}
		o := connector(t, l, nil)
		q, cookie := begin(t, o, l, upstream.Ask{})
		if _, _, err := o.Finish(t.Context(), q, cookie); err != nil {
			t.Error(err)
		}
	})
	t.Run("that says all there is to say needs no userinfo", func(t *testing.T) {
		l.claims = map[string]any{"preferred_username": "alice"}
		l.info = map[string]any{"sub": "another"} // would be refused
		o := connector(t, l, nil)
		q, cookie := begin(t, o, l, upstream.Ask{})
		if _, _, err := o.Finish(t.Context(), q, cookie); err != nil {
			t.Error(err)
		}
	})
	t.Run("may leave claims to userinfo, and signed ones win", func(t *testing.T) {
		l.claims = map[string]any{"email_verified": nil}
		l.info = map[string]any{"sub": "subject", "email": "root@example.com", "email_verified": true, "acr": "strong", "preferred_username": "alice"}
		o := connector(t, l, func(c *upstream.OIDCConfig) { c.TrustEmail = true })
		q, cookie := begin(t, o, l, upstream.Ask{})
		who, _, err := o.Finish(t.Context(), q, cookie)
		if err != nil {
			t.Fatal(err)
		}
		if who.Name != "alice" || who.Email != "alice@example.com" || who.EmailVerified {
			t.Errorf("got %+v", who)
		}
	})
}

// The matrix of the peers' advisories: an ID token taken without one of the checks
// is somebody else's sign-in.
func TestALyingProvider(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	claims := func(pairs ...any) func(*liar) {
		return func(l *liar) {
			for i := 0; i < len(pairs); i += 2 {
				l.claims[pairs[i].(string)] = pairs[i+1]
			}
		}
	}
	for name, lie := range map[string]func(*liar){
		"a token for another client is refused":               claims("aud", "them"),
		"a token without aud is refused":                      claims("aud", nil),
		"a token with an empty aud is refused":                claims("aud", []string{}),
		"a token of another issuer is refused":                claims("iss", "https://other.example"),
		"a token of the issuer with a slash more is refused":  func(l *liar) { l.claims["iss"] = l.URL + "/" },
		"a token without iss is refused":                      claims("iss", nil),
		"an expired token is refused":                         claims("exp", now-1),
		"a token without exp is refused":                      claims("exp", nil),
		"a token without iat is refused":                      claims("iat", nil),
		"a token from the future is refused":                  claims("iat", now+3600),
		"an old token is refused":                             claims("iat", now-3600),
		"a token that is not yet good is refused":             claims("nbf", now+3600),
		"a token of another sign-in is refused":               claims("nonce", "another"),
		"a token without nonce is refused":                    claims("nonce", nil),
		"a token without sub is refused":                      claims("sub", nil),
		"a token with an empty sub is refused":                claims("sub", ""),
		"a token with a sub of two lines is refused":          claims("sub", "a\nb"),
		"a token with several aud and no azp is refused":      claims("aud", []string{"us", "them"}),
		"a token that another client asked for is refused":    claims("azp", "them"),
		"a token whose azp is no string is refused":           claims("azp", []string{"us"}),
		"a token with another access token's hash is refused": claims("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
		"a token that is not signed is refused": func(l *liar) {
			l.sign = func(claims any) string {
				b, _ := json.Marshal(claims)
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
			}
		},
		"a token signed with the client's secret is refused": func(l *liar) {
			l.sign = func(claims any) string { return signed(t, jose.HS256, []byte(clientSecret), claims) }
		},
		"a token signed with the public key as a secret is refused": func(l *liar) {
			der, _ := x509.MarshalPKIXPublicKey(&l.key.PublicKey)
			l.sign = func(claims any) string { return signed(t, jose.HS256, der, claims) }
		},
		"a token signed with another key is refused": func(l *liar) {
			l.sign = func(claims any) string { return signed(t, jose.ES256, other, claims) }
		},
		"a token that is none is refused":            func(l *liar) { l.sign = func(any) string { return "ey.ey.ey" } },
		"an answer without token is refused":         func(l *liar) { l.sign = func(any) string { return "" } },
		"a token of a megabyte is refused":           func(l *liar) { l.claims["name"] = strings.Repeat("x", 1<<17) },
		"userinfo about another is refused":          func(l *liar) { l.info = map[string]any{"sub": "another"} },
		"a code that was refused is refused":         func(l *liar) { l.token = refuse("invalid_grant") },
		"a token endpoint that fails, proves nobody": func(l *liar) { l.token = refuse("server_error") },
		"a token endpoint that redirects, proves nobody": func(l *liar) {
			l.token = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
		},
		"a token endpoint that never ends, proves nobody": func(l *liar) {
			l.token = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3<<20)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			lie(l)
			o := connector(t, l, nil)
			q, cookie := begin(t, o, l, upstream.Ask{})
			who, _, err := o.Finish(t.Context(), q, cookie)
			if who != nil || err == nil {
				t.Fatalf("got %+v", who)
			}
			if strings.HasSuffix(name, "is refused") != errors.Is(err, upstream.ErrRefused) {
				t.Errorf("error %v", err)
			}
			if s := err.Error(); strings.Contains(s, "a-code") || strings.Contains(s, clientSecret) || len(s) > 500 {
				t.Errorf("the error tells too much: %.600s", s)
			}
			if l.codes > 1 {
				t.Errorf("the code was sent %d times", l.codes)
			}
		})
	}
}

func refuse(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"` + code + `","error_description":"a-code was wrong"}`))
	}
}

// What comes back through the browser is a stranger's until it is bound to it.
func TestALyingBrowser(t *testing.T) {
	l := newLiar(t)
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	o := connector(t, l, func(c *upstream.OIDCConfig) { c.Seal = seal })
	elsewhere := connector(t, l, func(c *upstream.OIDCConfig) { c.Name, c.Seal = "elsewhere", seal })
	for name, lie := range map[string]func(q url.Values, cookie string) string{
		"an answer without cookie is refused (login CSRF)": func(url.Values, string) string { return "" },
		"a cookie that was changed is refused":             func(_ url.Values, c string) string { return c[:len(c)-2] + "AA" },
		"another browser's cookie is refused": func(url.Values, string) string {
			_, c, err := o.Begin(t.Context(), upstream.Ask{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"another connector's answer is refused (mix-up)": func(q url.Values, _ string) string {
			answer, c := begin(t, elsewhere, l, upstream.Ask{})
			maps.Copy(q, answer)
			return c
		},
		"an answer without state is refused":                  func(q url.Values, c string) string { q.Del("state"); return c },
		"an answer with two states is refused":                func(q url.Values, c string) string { q.Add("state", "x"); return c },
		"an answer with two codes is refused":                 func(q url.Values, c string) string { q.Add("code", "x"); return c },
		"an answer without code is refused":                   func(q url.Values, c string) string { q.Del("code"); return c },
		"an answer of another issuer is refused (mix-up)":     func(q url.Values, c string) string { q.Set("iss", "https://other.example"); return c },
		"an answer without the announced iss is refused":      func(q url.Values, c string) string { q.Del("iss"); return c },
		"an answer that says access_denied is refused":        func(q url.Values, c string) string { q.Set("error", "access_denied"); return c },
		"an error without our state is refused as a stranger": func(q url.Values, c string) string { q.Set("error", "x"); q.Set("state", "y"); return c },
	} {
		t.Run(name, func(t *testing.T) {
			q, cookie := begin(t, o, l, upstream.Ask{})
			before := l.codes
			if who, _, err := o.Finish(t.Context(), q, lie(q, cookie)); who != nil || !errors.Is(err, upstream.ErrRefused) {
				t.Fatalf("got %+v, %v", who, err)
			}
			if l.codes != before {
				t.Error("the code was sent all the same")
			}
		})
	}
}

func TestAnswersThatMustBeFresh(t *testing.T) {
	for name, tt := range map[string]struct {
		at any
		ok bool
	}{
		"who was asked again is in":          {time.Now().Unix(), true},
		"who was asked yesterday is refused": {time.Now().Add(-24 * time.Hour).Unix(), false},
		"who does not say when is refused":   {nil, false},
		"who says it in words is refused":    {"now", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			l.claims["auth_time"] = tt.at
			o := connector(t, l, nil)
			q, cookie := begin(t, o, l, upstream.Ask{Fresh: true})
			if l.asked.Get("prompt") != "login" || l.asked.Get("max_age") != "0" {
				t.Errorf("asked %v", l.asked)
			}
			if _, _, err := o.Finish(t.Context(), q, cookie); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRequiredClaims(t *testing.T) {
	for name, tt := range map[string]struct {
		claim any
		ok    bool
	}{
		"the wanted value is let in":         {"example.com", true},
		"another value is refused":           {"example.org", false},
		"no value is refused":                {nil, false},
		"a part of the value is refused":     {"example.com.evil.example", false},
		"one of several values is let in":    {[]string{"a", "example.com"}, true},
		"a value of another type is refused": {map[string]any{"example.com": true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			l.claims["hd"] = tt.claim
			o := connector(t, l, func(c *upstream.OIDCConfig) { c.Require = map[string][]string{"hd": {"example.com", "example.net"}} })
			q, cookie := begin(t, o, l, upstream.Ask{})
			if _, _, err := o.Finish(t.Context(), q, cookie); errors.Is(err, upstream.ErrRefused) == tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLyingMetadata(t *testing.T) {
	for name, lie := range map[string]func(*liar){
		"another issuer":                         func(l *liar) { l.metadata["issuer"] = "https://other.example" },
		"a plain http authorization endpoint":    func(l *liar) { l.metadata["authorization_endpoint"] = "http://other.example/" },
		"a script as authorization endpoint":     func(l *liar) { l.metadata["authorization_endpoint"] = "javascript:alert(1)" },
		"a token endpoint with user information": func(l *liar) { l.metadata["token_endpoint"] = "https://a@b.example/" },
		"no keys":                                func(l *liar) { l.metadata["jwks_uri"] = "" },
		"no way to show the client's secret":     func(l *liar) { l.metadata["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} },
	} {
		t.Run(name+" is an error before anybody leaves", func(t *testing.T) {
			l := newLiar(t)
			lie(l)
			if to, _, err := connector(t, l, nil).Begin(t.Context(), upstream.Ask{}); err == nil {
				t.Errorf("sent to %s", to)
			}
		})
	}
	t.Run("metadata that is not to be had is an error, and had the next time", func(t *testing.T) {
		l := newLiar(t)
		o := connector(t, l, nil)
		issuer := l.metadata["issuer"]
		l.metadata["issuer"] = "broken"
		if _, _, err := o.Begin(t.Context(), upstream.Ask{}); err == nil {
			t.Error("no error")
		}
		l.metadata["issuer"] = issuer
		if _, _, err := o.Begin(t.Context(), upstream.Ask{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("an upstream inside the network is not asked unless it is allowed", func(t *testing.T) {
		l := newLiar(t)
		out, err := egress.New(egress.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		o := connector(t, l, func(c *upstream.OIDCConfig) { c.HTTP = out.HTTP() })
		if _, _, err := o.Begin(t.Context(), upstream.Ask{}); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOIDCConfig(t *testing.T) {
	l := newLiar(t)
	for name, change := range map[string]func(*upstream.OIDCConfig){
		"a name with a slash":                 func(c *upstream.OIDCConfig) { c.Name = "a/b" },
		"no name":                             func(c *upstream.OIDCConfig) { c.Name = "" },
		"no client id":                        func(c *upstream.OIDCConfig) { c.ClientID = "" },
		"no issuer":                           func(c *upstream.OIDCConfig) { c.Issuer = "" },
		"a plain http issuer":                 func(c *upstream.OIDCConfig) { c.Issuer = "http://idp.example" },
		"no sealer":                           func(c *upstream.OIDCConfig) { c.Seal = nil },
		"no client to call with":              func(c *upstream.OIDCConfig) { c.HTTP = nil },
		"an acr that is none of ours":         func(c *upstream.OIDCConfig) { c.ACR = map[string]string{"x": "aal9"} },
		"GitHub, which is no OpenID provider": func(c *upstream.OIDCConfig) { c.Preset = "github" },
		"a preset nobody knows":               func(c *upstream.OIDCConfig) { c.Preset = "x" },
		"everybody's Microsoft":               func(c *upstream.OIDCConfig) { c.Preset, c.Tenant = "microsoft", "common" },
		"Microsoft's addresses as verified":   func(c *upstream.OIDCConfig) { c.Preset, c.Tenant, c.TrustEmail = "microsoft", "t", true },
		"Microsoft without a directory":       func(c *upstream.OIDCConfig) { c.Preset = "microsoft" },
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			seal, err := token.NewSealer()
			if err != nil {
				t.Fatal(err)
			}
			cfg := upstream.OIDCConfig{Name: "x", Issuer: l.URL, Gatehouse: "https://gatehouse.example", ClientID: "us", Seal: seal, HTTP: l.Client()}
			if _, err := upstream.NewOIDC(cfg); err != nil {
				t.Fatal(err)
			}
			change(&cfg)
			if _, err := upstream.NewOIDC(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
	for _, preset := range upstream.Presets() {
		seal, err := token.NewSealer()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := upstream.NewOIDC(upstream.OIDCConfig{Name: preset, Preset: preset, Tenant: "11111111-2222-3333-4444-555555555555", Gatehouse: "https://gatehouse.example", ClientID: "us", Seal: seal, HTTP: l.Client()}); err != nil {
			t.Error(err)
		}
	}
}
