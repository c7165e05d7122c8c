package posture_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/posture"
)

func usersCalled(prefix string) identity.Query { return identity.Query{Search: prefix, Limit: 10} }

// field reads a string of a JSON object.
func field(b []byte, name string) string {
	var doc map[string]any
	if json.Unmarshal(b, &doc) != nil {
		return ""
	}
	s, _ := doc[name].(string)
	return s
}

func TestTheRealServerHolds(t *testing.T) {
	for _, profile := range []string{"oauth21", "fapi2", "mcp"} {
		t.Run(profile, func(t *testing.T) {
			w := newWorld(t, profile)
			p := w.prove("")
			for _, r := range p.Results {
				if r.Verdict == posture.Fail {
					t.Errorf("%s: %s\n\t%s", r.ID, r.Says, strings.Join(r.Evidence, "\n\t"))
				}
				// Everything else can be tried here.
				may := []string{"mtls", "dpop-nonce"}
				if profile == "fapi2" {
					may = append(may, "refresh-reuse", "iss-in-errors")
				}
				if r.Verdict == posture.LeftOut && !slices.Contains(may, r.ID) {
					t.Errorf("%s is left out: %s", r.ID, r.Why)
				}
				if r.Verdict != posture.LeftOut && r.ID != "sign-in-303" && len(r.Evidence) == 0 {
					t.Errorf("%s has no evidence", r.ID)
				}
			}
			t.Logf("%d requests in %.1f s", p.Requests, p.Seconds)
			text, err := json.Marshal(p)
			ok(t, err)
			if p.Requests > 600 || len(w.shown) < 20 {
				t.Errorf("%d requests, %d tokens seen", p.Requests, len(w.shown))
			}
			for secret := range w.shown {
				if bytes.Contains(text, []byte(secret)) {
					t.Error("a token is in the report")
				}
			}
		})
	}
}

func answer(w http.ResponseWriter, status int, body string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}

func body(a *http.Response) []byte {
	b, _ := io.ReadAll(a.Body)
	a.Body = io.NopCloser(bytes.NewReader(b))
	return b
}

func replaceBody(a *http.Response, b []byte) {
	a.Body = io.NopCloser(bytes.NewReader(b))
	a.ContentLength = int64(len(b))
	a.Header.Set("Content-Length", fmt.Sprint(len(b)))
}

func setQuery(r *http.Request, change func(url.Values)) {
	q := r.URL.Query()
	change(q)
	r.URL.RawQuery = q.Encode()
}

func metadata(change func(doc map[string]any)) func(*memory, *http.Response, url.Values) {
	return func(_ *memory, a *http.Response, _ url.Values) {
		if !strings.Contains(a.Request.URL.Path, "/.well-known/") {
			return
		}
		var doc map[string]any
		if json.Unmarshal(body(a), &doc) == nil {
			change(doc)
			b, _ := json.Marshal(doc)
			replaceBody(a, b)
		}
	}
}

func is(r *http.Request, method, path string) bool { return r.Method == method && r.URL.Path == path }

// headOf is the header, or with n 1 the claims, of a JWT nobody has checked.
func headOf(raw string, n int) (doc map[string]any) {
	parts := strings.Split(raw, ".")
	if len(parts) == 3 {
		b, _ := base64.RawURLEncoding.DecodeString(parts[n])
		_ = json.Unmarshal(b, &doc)
	}
	return doc
}

// replays answers a second request with the same key as it answered the first.
func replays(path string, key func(r *http.Request, form url.Values) string) *breach {
	return &breach{
		before: func(m *memory, w http.ResponseWriter, r *http.Request, form url.Values) bool {
			old := m.get(key(r, form))
			return is(r, "POST", path) && old != "" && answer(w, 200, old)
		},
		after: func(m *memory, a *http.Response, form url.Values) {
			if k := key(a.Request, form); is(a.Request, "POST", path) && a.StatusCode == 200 && k != "" {
				m.put(k, string(body(a)))
			}
		},
	}
}

// impersonates lets another client act as the one that was heard before it.
func impersonates(path string, when func(form url.Values) bool) *breach {
	return &breach{before: func(m *memory, _ http.ResponseWriter, r *http.Request, form url.Values) bool {
		id, _, _ := r.BasicAuth()
		switch {
		case strings.HasPrefix(id, "prove-main-"):
			m.put("main", r.Header.Get("Authorization"))
		case strings.HasPrefix(id, "prove-other-") && is(r, "POST", path) && when(form):
			r.Header.Set("Authorization", m.get("main"))
		}
		return false
	}}
}

func redeems(form url.Values) bool { return form.Get("grant_type") == "authorization_code" }

// Each of these breaks one rule; the proof must find it, at the right probe.
func TestWhatIsBrokenIsFound(t *testing.T) {
	w := newWorld(t, "oauth21")
	const ourVerifier = "test-dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	for _, c := range []struct {
		name, probe string
		b           *breach
	}{
		{"the metadata offers the implicit grant", "metadata", &breach{after: metadata(func(doc map[string]any) { doc["grant_types_supported"] = []string{"implicit", "authorization_code"} })}},
		{"the metadata is another issuer's", "metadata", &breach{after: metadata(func(doc map[string]any) { doc["issuer"] = "https://evil.invalid" })}},
		{"an endpoint is announced and not there", "metadata-answers", &breach{after: metadata(func(doc map[string]any) { doc["backchannel_authentication_endpoint"] = issuer + "/bc" })}},
		{"a private key is published", "keys-public", &breach{after: func(_ *memory, a *http.Response, _ url.Values) {
			if a.Request.URL.Path == "/jwks.json" {
				replaceBody(a, bytes.Replace(body(a), []byte(`"kty"`), []byte(`"d":"AAAA","kty"`), 1))
			}
		}}},
		{"X-Forwarded-Host is believed", "host-poisoning", &breach{after: func(_ *memory, a *http.Response, _ url.Values) {
			if host := a.Request.Header.Get("X-Forwarded-Host"); host != "" {
				replaceBody(a, bytes.ReplaceAll(body(a), []byte(issuer), []byte("https://"+host)))
			}
		}}},
		{"scripts may read the authorization endpoint", "cors", &breach{after: func(_ *memory, a *http.Response, _ url.Values) { a.Header.Set("Access-Control-Allow-Origin", "*") }}},
		{"pages can be framed", "page-headers", &breach{after: func(_ *memory, a *http.Response, _ url.Values) { a.Header.Del("Content-Security-Policy") }}},
		{"pages may be kept", "page-headers", &breach{after: func(_ *memory, a *http.Response, _ url.Values) { a.Header.Set("Cache-Control", "max-age=60") }}},
		{"the sign-in page redirects where a link says", "no-redirector", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			to := r.URL.Query().Get("to")
			if strings.HasPrefix(to, "https://") {
				http.Redirect(w, r, to, http.StatusFound)
			}
			return strings.HasPrefix(to, "https://")
		}}},
		{"an unknown client is redirected to", "no-redirector", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			stranger := r.URL.Query().Get("client_id") == "no-such-client"
			if stranger {
				http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"?error=invalid_client", http.StatusFound)
			}
			return stranger
		}}},
		{"the sign-in form is taken from other sites", "login-csrf", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			r.Header.Set("Origin", issuer)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			return false
		}}},
		{"userinfo takes a token from the URL", "token-in-url", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			return r.URL.Query().Has("access_token") && answer(w, 200, `{"sub":"x"}`)
		}}},
		{"a redirect_uri is compared by its prefix", "redirect-exact", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			uri := r.URL.Query().Get("redirect_uri")
			loose := is(r, "GET", "/authorize") && uri != "https://prove.invalid/callback" && strings.HasPrefix(uri, "https://prove.invalid/callback") &&
				!strings.Contains(uri, "\x00") // which no Location can hold
			if loose {
				http.Redirect(w, r, uri, http.StatusSeeOther)
			}
			return loose
		}}},
		{"localhost is as good as 127.0.0.1", "redirect-loopback", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			uri := r.URL.Query().Get("redirect_uri")
			loose := strings.HasPrefix(uri, "http://localhost:")
			if loose {
				http.Redirect(w, r, uri+"?error=login_required", http.StatusSeeOther)
			}
			return loose
		}}},
		{"errors have no iss", "iss-in-errors", &breach{after: withoutIss}},
		{"answers have no iss", "iss-in-answers", &breach{after: withoutIss}},
		{"PKCE may be left out", "pkce-required", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if is(r, "GET", "/authorize") && !r.URL.Query().Has("code_challenge") {
				setQuery(r, func(q url.Values) {
					q.Set("code_challenge", challengeOf(ourVerifier))
					q.Set("code_challenge_method", "S256")
				})
			}
			return false
		}}},
		{"a plain challenge is taken", "pkce-required", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if r.URL.Query().Get("code_challenge_method") == "plain" {
				setQuery(r, func(q url.Values) { q.Set("code_challenge_method", "S256") })
			}
			return false
		}}},
		{"the implicit flow answers", "no-implicit", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			implicit := r.URL.Query().Get("response_type") == "token"
			if implicit {
				http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"#access_token=x", http.StatusSeeOther)
			}
			return implicit
		}}},
		{"answers come in fragments", "no-post-message", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			fragment := r.URL.Query().Get("response_mode") == "fragment"
			if fragment {
				http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"#code=x", http.StatusSeeOther)
			}
			return fragment
		}}},
		{"a request_uri is fetched", "no-request-uri", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if uri := r.URL.Query().Get("request_uri"); strings.HasPrefix(uri, "http://127.") {
				if res, err := http.Get(uri); err == nil {
					_ = res.Body.Close()
				}
			}
			return false
		}}},
		{"of a repeated parameter the last counts", "repeated-parameters", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			setQuery(r, func(q url.Values) {
				for name, v := range q {
					q[name] = v[:1]
				}
			})
			return false
		}}},
		{"the verifier is not looked at", "verifier", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, form url.Values) bool {
			if is(r, "GET", "/authorize") && r.URL.Query().Has("code_challenge") {
				setQuery(r, func(q url.Values) { q.Set("code_challenge", challengeOf(ourVerifier)) })
			}
			if redeems(form) {
				form.Set("code_verifier", ourVerifier)
			}
			return false
		}}},
		{"a code is good for every client", "code-bound", impersonates("/token", redeems)},
		{"a code is good twice", "code-once", replays("/token", func(_ *http.Request, form url.Values) string { return form.Get("code") })},
		{"a code is good for whoever is fast", "code-race", &breach{before: func(m *memory, w http.ResponseWriter, _ *http.Request, form url.Values) bool {
			return form.Get("code") != "" && m.get("x"+form.Get("code")) == "" && answer(w, 200, `{"access_token":"made-up","token_type":"Bearer"}`)
		}}},
		{"a code shown twice ends nothing", "code-once", &breach{before: func(m *memory, w http.ResponseWriter, _ *http.Request, form url.Values) bool {
			code := form.Get("code")
			if code != "" && m.get(code) != "" {
				return answer(w, 400, `{"error":"invalid_grant"}`)
			}
			m.put(code, "seen")
			return false
		}}},
		{"an unknown resource is passed over", "audience", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, form url.Values) bool {
			if strings.Contains(form.Get("resource"), "evil") {
				form.Del("resource")
			}
			return false
		}}},
		{"token answers may be kept", "token-answers", &breach{after: func(_ *memory, a *http.Response, _ url.Values) { a.Header.Set("Cache-Control", "max-age=60") }}},
		{"a secret in the URL is taken", "one-method", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if q := r.URL.Query(); q.Get("client_secret") != "" {
				r.SetBasicAuth(q.Get("client_id"), q.Get("client_secret"))
				r.URL.RawQuery = ""
			}
			return false
		}}},
		{"an unknown client is told so", "client-enumeration", &breach{after: func(_ *memory, a *http.Response, _ url.Values) {
			if id, _, _ := a.Request.BasicAuth(); a.StatusCode == 401 && len(id) == len("prove-main-")+12 {
				replaceBody(a, []byte(`{"error":"invalid_client","n":"`+id+`"}`))
			}
		}}},
		{"an assertion is good twice", "assertions", replays("/token", func(_ *http.Request, form url.Values) string { return form.Get("client_assertion") })},
		{"everybody may introspect", "introspection-closed", impersonates("/introspect", func(url.Values) bool { return true })},
		{"an old refresh token is refused and no more", "refresh-reuse", &breach{before: func(m *memory, w http.ResponseWriter, _ *http.Request, form url.Values) bool {
			raw := form.Get("refresh_token")
			if raw != "" && m.get(raw) != "" {
				return answer(w, 400, `{"error":"invalid_grant"}`)
			}
			m.put(raw, "used")
			return false
		}}},
		{"racing refreshes get different successors", "refresh-race", &breach{
			before: func(_ *memory, _ http.ResponseWriter, _ *http.Request, form url.Values) bool {
				raw, _, _ := strings.Cut(form.Get("refresh_token"), "~")
				if raw != "" {
					form.Set("refresh_token", raw)
				}
				return false
			},
			after: func(m *memory, a *http.Response, _ url.Values) {
				if b := body(a); is(a.Request, "POST", "/token") && field(b, "refresh_token") != "" {
					m.put("n", m.get("n")+"x")
					raw := field(b, "refresh_token")
					replaceBody(a, bytes.Replace(b, []byte(raw), []byte(raw+"~"+m.get("n")), 1))
				}
			},
		}},
		{"a refresh asks for more and is not refused", "refresh-scope", &breach{before: func(_ *memory, _ http.ResponseWriter, _ *http.Request, form url.Values) bool {
			if form.Has("refresh_token") {
				form.Del("scope")
			}
			return false
		}}},
		{"a refresh token is good for every client", "refresh-bound", impersonates("/token", func(form url.Values) bool { return form.Has("refresh_token") })},
		{"a DPoP proof is good twice", "dpop-proofs", replays("/token", func(r *http.Request, _ url.Values) string { return r.Header.Get("DPoP") })},
		{"a bound token is taken as a bearer token", "dpop-bound", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			raw, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			return bearer && headOf(raw, 1)["cnf"] != nil && answer(w, 200, `{"sub":"x"}`)
		}}},
		{"alg none is active", "forged", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, form url.Values) bool {
			return is(r, "POST", "/introspect") && headOf(form.Get("token"), 0)["alg"] == "none" && answer(w, 200, `{"active":true}`)
		}}},
		{"the gateway takes HS256", "forged", &breach{before: takesHeader("/orders", func(head map[string]any) bool { return head["alg"] == "HS256" })}},
		{"the gateway takes a key the token brings", "forged", &breach{before: takesHeader("/orders", func(head map[string]any) bool { return head["jwk"] != nil })}},
		{"userinfo takes alg none", "forged", &breach{before: takesHeader("/userinfo", func(head map[string]any) bool { return head["alg"] == "none" })}},
		{"a truncated token is completed", "damaged", &breach{
			before: func(m *memory, _ http.ResponseWriter, r *http.Request, form url.Values) bool {
				if whole := m.get("last"); is(r, "POST", "/introspect") && len(form.Get("token")) > 40 && strings.HasPrefix(whole, form.Get("token")) {
					form.Set("token", whole)
				}
				return false
			},
			after: func(m *memory, a *http.Response, _ url.Values) {
				if raw := field(body(a), "access_token"); raw != "" {
					m.put("last", raw)
				}
			},
		}},
		{"an ID token opens an operation", "confused", &breach{before: takesHeader("/orders", func(head map[string]any) bool { return head["typ"] == "JWT" })}},
		{"the gateway takes a token from the URL", "url-tokens", &breach{before: func(_ *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if raw := r.URL.Query().Get("access_token"); raw != "" && r.URL.Path == "/orders" {
				r.Header.Set("Authorization", "Bearer "+raw)
				r.URL.RawQuery = ""
				r.URL.Path = "/userinfo"
			}
			return false
		}}},
		{"the password form is repeated at the next place", "sign-in-303", &breach{after: func(_ *memory, a *http.Response, _ url.Values) {
			if is(a.Request, "POST", "/signin") && a.StatusCode == http.StatusSeeOther {
				a.StatusCode = http.StatusTemporaryRedirect
			}
		}}},
		{"the session is the one the browser came with", "session-fixation", &breach{
			before: func(m *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
				if c, err := r.Cookie("__Host-gatehouse"); err == nil && m.get(c.Value) != "" {
					r.Header.Set("Cookie", strings.ReplaceAll(r.Header.Get("Cookie"), c.Value, m.get(c.Value)))
				}
				return false
			},
			after: func(m *memory, a *http.Response, _ url.Values) {
				planted, err := a.Request.Cookie("__Host-gatehouse")
				for i, line := range a.Header["Set-Cookie"] {
					if c, cerr := http.ParseSetCookie(line); err == nil && cerr == nil && c.Name == "__Host-gatehouse" && c.MaxAge >= 0 {
						m.put(planted.Value, c.Value)
						a.Header["Set-Cookie"][i] = strings.Replace(line, c.Value, planted.Value, 1)
					}
				}
			},
		}},
		{"a stranger's link signs out", "logout", &breach{after: func(_ *memory, a *http.Response, _ url.Values) {
			if is(a.Request, "GET", "/logout") {
				a.Header.Add("Set-Cookie", "__Host-gatehouse=; Path=/; Max-Age=0; Secure; HttpOnly")
			}
		}}},
		{"an unknown name is told so", "user-enumeration", &breach{after: func(_ *memory, a *http.Response, form url.Values) {
			if strings.Contains(form.Get("name"), "xxxx") {
				replaceBody(a, append(body(a), "who?"...))
			}
		}}},
		{"a revocation is acknowledged and forgotten", "revoke-token", &breach{before: func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			return is(r, "POST", "/revoke") && answer(w, 200, "")
		}}},
		{"the gateway goes on with what it knows", "end-grant", &breach{before: func(m *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			return r.URL.Path == "/orders" && m.get(r.Header.Get("Authorization")) != "" && answer(w, 403, `{}`)
		}, after: func(m *memory, a *http.Response, _ url.Values) {
			if a.Request.URL.Path == "/orders" && a.StatusCode == 403 {
				m.put(a.Request.Header.Get("Authorization"), "known")
			}
		}}},
		{"a client revokes the tokens of another", "revoke-foreign", impersonates("/revoke", func(url.Values) bool { return true })},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.breach.Store(c.b)
			defer w.breach.Store(nil)
			p := w.prove(c.probe)
			if i := slices.IndexFunc(p.Results, func(r posture.Result) bool { return r.ID == c.probe }); i < 0 || p.Results[i].Verdict != posture.Fail || p.Results[i].Fix == "" {
				t.Fatalf("not found: %+v", p.Results)
			} else if e := p.Results[i].Evidence; strings.Contains(e[0], "could not be tried") {
				t.Errorf("found for another reason: %q", e)
			} else {
				t.Log(e[0])
			}
			if !p.Failed() {
				t.Error("and the proof did not fail")
			}
		})
	}
}

func withoutIss(_ *memory, a *http.Response, _ url.Values) {
	if u, err := url.Parse(a.Header.Get("Location")); err == nil && u.Query().Has("iss") {
		q := u.Query()
		q.Del("iss")
		u.RawQuery = q.Encode()
		a.Header.Set("Location", u.String())
	}
}

// takesHeader lets a protected resource take tokens by what their header says.
func takesHeader(path string, when func(head map[string]any) bool) func(*memory, http.ResponseWriter, *http.Request, url.Values) bool {
	return func(_ *memory, w http.ResponseWriter, r *http.Request, _ url.Values) bool {
		_, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		head := headOf(raw, 0)
		return r.URL.Path == path && head != nil && when(head) && answer(w, 200, `{}`)
	}
}

func TestFromOutsideOnlyWhatAStrangerCanTryIsTried(t *testing.T) {
	w := newWorld(t, "oauth21")
	w.config.OAuth, w.config.People = nil, nil
	p, err := posture.ProveOAuth(t.Context(), w.config)
	ok(t, err)
	count := map[posture.Verdict]int{}
	for _, r := range p.Results {
		count[r.Verdict]++
		if r.Verdict == posture.LeftOut && r.Why == "" {
			t.Errorf("%s is left out without a word", r.ID)
		}
	}
	if count[posture.Fail] > 0 || count[posture.Pass] < 12 || count[posture.LeftOut] < 40 || len(p.Clients) > 0 {
		t.Errorf("%v", count)
	}
	secret, c, err := w.office.OAuth.CreateClient(t.Context(), "test", "shop", oauth.Metadata{ClientName: "Shop", RedirectURIs: []string{"https://shop.example/cb"}})
	ok(t, err)
	w.config.Client = &posture.KnownClient{ID: c.ID, Secret: secret.Reveal(), RedirectURI: "https://shop.example/cb"}
	p, err = posture.ProveOAuth(t.Context(), w.config)
	ok(t, err)
	with := map[posture.Verdict]int{}
	for _, r := range p.Results {
		if with[r.Verdict]++; r.Verdict == posture.Fail {
			t.Errorf("%s: %q", r.ID, r.Evidence)
		}
	}
	if with[posture.Pass] < count[posture.Pass]+6 {
		t.Errorf("with a client: %v, without %v", with, count)
	}
}

func TestWhatWasMadeIsRemovedWhenTheProofIsCutShort(t *testing.T) {
	w := newWorld(t, "oauth21")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.breach.Store(&breach{before: func(m *memory, _ http.ResponseWriter, r *http.Request, _ url.Values) bool {
		if is(r, "POST", "/signin") {
			cancel()
		}
		return false
	}})
	p, err := posture.ProveOAuth(ctx, w.config)
	if err == nil && !p.Failed() {
		t.Error("a proof that was cut short has not failed")
	}
	w.nothingLeft()
}

func TestAServerThatIsNotThereIsAnError(t *testing.T) {
	w := newWorld(t, "oauth21")
	w.breach.Store(&breach{before: func(_ *memory, rw http.ResponseWriter, _ *http.Request, _ url.Values) bool {
		return answer(rw, http.StatusBadGateway, "")
	}})
	if _, err := posture.ProveOAuth(t.Context(), w.config); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.nothingLeft()
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
