package authn_test

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const opaque = "gha_4Zr0Wm2k"

func TestWhatATokenMustSay(t *testing.T) {
	w := newOwn(t, nil)
	billing, other := named(t, "spiffe://example/billing"), named(t, "spiffe://example/other")
	signedIn := func(ago time.Duration) map[string]any {
		return map[string]any{"auth_time": time.Now().Add(-ago).Unix()}
	}
	details := func(types ...string) map[string]any {
		all := []any{}
		for _, d := range types {
			all = append(all, map[string]any{"type": d, "amount": 5})
		}
		return map[string]any{"authorization_details": all}
	}
	acr := func(w *authn.Ways) { w.ACR = []string{"aal2", "phr"} }
	recent := func(w *authn.Ways) { w.MaxAge = time.Minute }
	both := func(w *authn.Ways) { acr(w); recent(w) }
	payment := func(w *authn.Ways) { w.Details = []string{"payment", "refund"} }
	bound := func(w *authn.Ways) { w.Bound = true }
	un, no := gatehouse.Unauthenticated, gatehouse.Forbidden
	certified := map[string]any{"cnf": map[string]any{"x5t#S256": x5t(billing)}}
	for _, c := range []struct {
		name   string
		ways   func(*authn.Ways)
		r      *http.Request
		kind   gatehouse.Kind
		reason string // "": accepted
		says   []string
	}{
		{"a token for this API is accepted", nil, bearer(w.token(nil)), 0, "", nil},
		{"a token for this and another API is accepted", nil, bearer(w.token(map[string]any{"aud": []string{otherAPI, ordersAPI}})), 0, "", nil},
		{"a token for another API of ours is refused", nil, bearer(w.token(map[string]any{"aud": otherAPI})), un, "token_audience", []string{`error="invalid_token"`}},
		{"a token for an API nobody knows is refused", nil, bearer(w.token(map[string]any{"aud": "https://evil.example"})), un, "token_audience", nil},
		{"a token without audience is refused", nil, bearer(w.token(map[string]any{"aud": nil})), un, "token_audience", nil},
		{"a prefix of the audience is another audience", nil, bearer(w.token(map[string]any{"aud": ordersAPI + "/"})), un, "token_audience", nil},
		{"of another issuer's token its own audiences count", nil, bearer(w.theirs(map[string]any{"aud": otherAPI})), 0, "", nil},

		{"an acr that is listed is enough", acr, bearer(w.token(map[string]any{"acr": "phr"})), 0, "", nil},
		{"no acr is too little", acr, bearer(w.token(nil)), un, "insufficient_user_authentication", []string{`error="insufficient_user_authentication"`, `acr_values="aal2 phr"`}},
		{"a weaker acr is too little", acr, bearer(w.token(map[string]any{"acr": "aal1"})), un, "insufficient_user_authentication", nil},
		{"both acr values in one are neither", acr, bearer(w.token(map[string]any{"acr": "aal2 phr"})), un, "insufficient_user_authentication", nil},
		{"acr is compared by case", acr, bearer(w.token(map[string]any{"acr": "AAL2"})), un, "insufficient_user_authentication", nil},
		{"another issuer's token needs the acr too", acr, bearer(w.theirs(nil)), un, "insufficient_user_authentication", nil},
		{"a recent sign-in is enough", recent, bearer(w.token(signedIn(50 * time.Second))), 0, "", nil},
		{"a sign-in too long ago is too little", recent, bearer(w.token(signedIn(2 * time.Minute))), un, "insufficient_user_authentication", []string{`max_age="60"`}},
		{"no auth_time is too little", recent, bearer(w.token(nil)), un, "insufficient_user_authentication", nil},
		{"a sign-in in the future is none", recent, bearer(w.token(signedIn(-time.Hour))), un, "insufficient_user_authentication", nil},
		{"acr and age are both asked for", both, bearer(w.token(map[string]any{"acr": "phr"})), un, "insufficient_user_authentication", []string{`acr_values="aal2 phr", max_age="60"`}},

		{"authorization details of the type are enough", payment, bearer(w.token(details("account", "refund"))), 0, "", nil},
		{"none are too few", payment, bearer(w.token(nil)), no, "insufficient_authorization_details", []string{`error="insufficient_scope"`}},
		{"those of another type are, too", payment, bearer(w.token(details("payments"))), no, "insufficient_authorization_details", nil},
		{"an empty list is, too", payment, bearer(w.token(details())), no, "insufficient_authorization_details", nil},

		{"where a bound token is asked for a bearer token is refused", bound, bearer(w.token(nil)), un, "token_not_bound", []string{`error="invalid_token"`}},
		{"a token bound to the connection's certificate is accepted there", bound, over(bearer(w.token(certified)), billing), 0, "", nil},
		{"over another connection it is refused", bound, over(bearer(w.token(certified)), other), un, "certificate_mismatch", nil},
		{"over one without a certificate, too", bound, bearer(w.token(certified)), un, "certificate_mismatch", nil},
		{"a header does not make a connection", bound, func() *http.Request {
			r := bearer(w.token(certified))
			r.Header.Set("X-Client-Cert", "x")
			return r
		}(), un, "certificate_mismatch", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			acc := w.accept(c.ways)
			for range 2 { // the second time from the cache
				who, err := w.ask(c.r, acc)
				if c.reason == "" {
					if err != nil || who.Subject != "alice" || who.Method != gatehouse.MethodJWT {
						t.Fatalf("%+v, %v", who, err)
					}
					continue
				}
				p := wantProblem(t, who, err, c.kind, c.reason)
				wantChallenge(t, p, "Bearer", c.says...)
				if p.Err == nil {
					t.Error("the operator is told no cause")
				}
			}
		})
	}
}

// One cache serves all operations of an issuer: what one accepts, another must
// still refuse.
func TestWhatOneOperationAcceptsAnotherRefuses(t *testing.T) {
	w := newOwn(t, nil)
	r := bearer(w.token(map[string]any{"acr": "aal1"}))
	easy := w.accept(nil)
	for range 3 {
		must[*gatehouse.Principal](t)(w.ask(r, easy))
		for reason, hard := range map[string]*authn.Accept{
			"insufficient_user_authentication":   w.accept(func(w *authn.Ways) { w.ACR = []string{"aal2"} }),
			"token_audience":                     w.accept(func(w *authn.Ways) { w.Audience = []string{otherAPI} }),
			"token_not_bound":                    w.accept(func(w *authn.Ways) { w.Bound = true }),
			"insufficient_authorization_details": w.accept(func(w *authn.Ways) { w.Details = []string{"payment"} }),
		} {
			if who, err := w.ask(r, hard); err == nil || gatehouse.AsProblem(err).Reason != reason {
				t.Errorf("%+v, %v; want %s", who, err, reason)
			}
		}
	}
}

func TestNoWayAroundAStepUp(t *testing.T) {
	keys := newWorld(t)
	key, _ := keys.key(t, authn.NewKey{})
	w := newOwn(t, func(c *authn.Config) { c.Keys = keys.keys })
	billing := named(t, "spiffe://example/billing")
	asked := map[string]func(*authn.Ways){
		"acr":     func(w *authn.Ways) { w.ACR = []string{"aal2"} },
		"max_age": func(w *authn.Ways) { w.MaxAge = time.Hour },
		"details": func(w *authn.Ways) { w.Details = []string{"payment"} },
		"bound":   func(w *authn.Ways) { w.Bound = true },
	}
	for name, ask := range asked {
		acc := w.accept(func(ways *authn.Ways) { ways.Any = append(ways.Any, byKey, byCert); ask(ways) })
		who, err := w.ask(bearer(key), acc)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "credentials_not_accepted")
		who, err = w.ask(request("X-API-Key", key), acc)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "credentials_not_accepted")
		who, err = w.ask(over(request(), billing), acc)
		if name == "bound" { // the certificate is the key it would be bound to
			if err != nil || who.Method != gatehouse.MethodMTLS {
				t.Errorf("%+v, %v", who, err)
			}
		} else {
			wantProblem(t, who, err, gatehouse.Unauthenticated, "credentials_missing")
		}
	}
}

func TestOnAPublicOperationATokenThatIsShownMustBeBound(t *testing.T) {
	w := newOwn(t, nil)
	client, acc := newProver(t), w.accept(func(w *authn.Ways) { w.Anonymous, w.Bound = true, true })
	if who, err := w.ask(request(), acc); err != nil || !who.Anonymous() {
		t.Errorf("nobody: %+v, %v", who, err)
	}
	if who, err := w.ask(client.proven(w.token(client.cnf())), acc); err != nil || who.Subject != "alice" {
		t.Errorf("bound: %+v, %v", who, err)
	}
	who, err := w.ask(bearer(w.token(nil)), acc)
	wantProblem(t, who, err, gatehouse.Unauthenticated, "token_not_bound")
}

func TestWaysThatAskForTheImpossibleAreRefused(t *testing.T) {
	w := newOwn(t, func(c *authn.Config) { c.Keys = newWorld(t).keys })
	own := []authn.Way{{Issuers: []string{"own"}}}
	for name, ways := range map[string]authn.Ways{
		"our own tokens without an audience": {Any: own},
		"an empty audience":                  {Any: own, Audience: []string{""}},
		"an empty acr":                       {Any: own, Audience: []string{ordersAPI}, ACR: []string{""}},
		"an acr of two words":                {Any: own, Audience: []string{ordersAPI}, ACR: []string{"a b"}},
		"an acr that ends the challenge":     {Any: own, Audience: []string{ordersAPI}, ACR: []string{`a"`}},
		"an acr with a line end":             {Any: own, Audience: []string{ordersAPI}, ACR: []string{"a\n"}},
		"a negative age":                     {Any: own, Audience: []string{ordersAPI}, MaxAge: -time.Second},
		"half a second":                      {Any: own, Audience: []string{ordersAPI}, MaxAge: time.Second / 2},
		"an empty type of details":           {Any: own, Audience: []string{ordersAPI}, Details: []string{""}},
		"an acr of keys":                     {Any: []authn.Way{byKey}, ACR: []string{"aal2"}},
		"an acr of certificates":             {Any: []authn.Way{byCert}, ACR: []string{"aal2"}},
		"a bound key":                        {Any: []authn.Way{byKey}, Bound: true},
		"an acr of nobody":                   {Any: own, Audience: []string{ordersAPI}, Anonymous: true, ACR: []string{"aal2"}},
	} {
		if acc, err := w.Accept(ways); err == nil || acc != nil {
			t.Errorf("%s: compiled", name)
		}
	}
	keys := must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{Static: w.signer.JWKS()}, nil))
	is := authn.Issuer{Name: "own", Own: true, Keys: keys, Token: token.VerifierConfig{Issuer: ownIssuer, Audiences: []string{ordersAPI}}}
	second := is
	second.Name, second.Token.Issuer = "second", "https://second.example"
	for name, cfg := range map[string]authn.Config{
		"our own issuer without revocations": {Realm: "x", Issuers: []authn.Issuer{is}},
		"two issuers of our own":             {Realm: "x", Issuers: []authn.Issuer{is, second}, Revocations: w.revoked},
	} {
		if a, err := authn.New(cfg); err == nil || a != nil {
			t.Errorf("%s: made", name)
		}
	}
}

func TestARevokedTokenIsRefusedAtOnceThoughItIsRemembered(t *testing.T) {
	w := newOwn(t, nil)
	w.opener.known = map[string]map[string]any{opaque: ownClaims(nil)}
	acc := w.accept(nil)
	rs := map[string]*http.Request{"JWT": bearer(w.token(nil)), "opaque": bearer(opaque)}
	theirs := bearer(w.theirs(nil))
	for range 2 {
		for name, r := range rs {
			if _, err := w.ask(r, acc); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	alice := "alice"
	w.revoked.users.Store(&alice)
	for _, r := range rs {
		who, err := w.ask(r, acc)
		wantChallenge(t, wantProblem(t, who, err, gatehouse.Unauthenticated, "token_revoked"), "Bearer", `error="invalid_token"`)
	}
	if _, err := w.ask(theirs, acc); err != nil {
		t.Errorf("another issuer's alice is not ours: %v", err)
	}
	w.revoked.users.Store(nil)
	w.revoked.err.Store(new(errDown))
	for name, r := range rs {
		who, err := w.ask(r, acc)
		if p := wantProblem(t, who, err, gatehouse.Overloaded, "revocations_unavailable"); p.RetryAfter <= 0 || !errors.Is(p, errDown) || len(p.Challenges) > 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if _, err := w.ask(theirs, acc); err != nil {
		t.Errorf("another issuer's tokens do not depend on it: %v", err)
	}
	w.revoked.err.Store(nil)
	for _, r := range rs {
		must[*gatehouse.Principal](t)(w.ask(r, acc))
	}
}

func TestOpaqueTokens(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		change map[string]any
		kind   gatehouse.Kind
		reason string
	}{
		{"one of ours is accepted", nil, 0, ""},
		{"of another issuer is refused", map[string]any{"iss": otherIssuer}, gatehouse.Unauthenticated, "token_invalid"},
		{"for another API is refused", map[string]any{"aud": otherAPI}, gatehouse.Unauthenticated, "token_audience"},
		{"expired is refused", map[string]any{"exp": now.Add(-time.Hour).Unix()}, gatehouse.Unauthenticated, "token_expired"},
		{"without an end is refused", map[string]any{"exp": nil}, gatehouse.Unauthenticated, "token_invalid"},
		{"without a subject is refused", map[string]any{"sub": nil}, gatehouse.Unauthenticated, "token_invalid"},
		{"not good yet is refused", map[string]any{"nbf": now.Add(time.Hour).Unix()}, gatehouse.Unauthenticated, "token_invalid"},
		{"bound to what nobody knows is refused", map[string]any{"cnf": map[string]any{"kid": "x"}}, gatehouse.Unauthenticated, "token_invalid"},
		{"bound to a DPoP key is refused as a bearer token", map[string]any{"cnf": map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}, gatehouse.Unauthenticated, "dpop_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newOwn(t, nil)
			w.opener.known = map[string]map[string]any{opaque: ownClaims(c.change)}
			acc := w.accept(nil)
			for n := range 3 {
				who, err := w.ask(bearer(opaque), acc)
				if c.reason != "" {
					wantProblem(t, who, err, c.kind, c.reason)
					continue
				}
				if err != nil || who.Subject != "alice" || who.Issuer != "own" || who.Method != gatehouse.MethodJWT || who.Claims["grant_id"] != "g1" {
					t.Fatalf("%+v, %v", who, err)
				}
				if w.opener.asked != 1 {
					t.Fatalf("asked %d times for %d requests", w.opener.asked, n+1)
				}
			}
		})
	}
}

func TestWhatCannotBeOpenedIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		raw    string
		change func(*authn.Config)
		ways   func(*authn.Ways)
		opener opener
		kind   gatehouse.Kind
		reason string
		asked  int
	}{
		{"an unknown token, each time anew", opaque, nil, nil, opener{}, gatehouse.Unauthenticated, "token_invalid", 2},
		{"while the database is down it is no 401", opaque, nil, nil, opener{err: errDown}, gatehouse.Overloaded, "tokens_unavailable", 2},
		{"a problem of another kind is no verdict", opaque, nil, nil, opener{err: &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "x"}}, gatehouse.Overloaded, "tokens_unavailable", 2},
		{"an opener that says nothing", opaque, nil, nil, opener{empty: true}, gatehouse.Overloaded, "tokens_unavailable", 2},
		{"longer than any of ours", "gha_" + strings.Repeat("x", 8<<10), nil, nil, opener{}, gatehouse.Unauthenticated, "token_invalid", 0},
		{"without an opener", opaque, func(c *authn.Config) { c.Opaque = nil }, nil, opener{}, gatehouse.Unauthenticated, "token_invalid", 0},
		{"where our own tokens are not taken", opaque, nil, func(w *authn.Ways) { w.Any = []authn.Way{{Issuers: []string{"foreign"}}} }, opener{}, gatehouse.Unauthenticated, "token_invalid", 0},
		{"encrypted, without a key", "a.b.c.d.e", nil, nil, opener{}, gatehouse.Unauthenticated, "token_invalid", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newOwn(t, c.change)
			*w.opener = c.opener
			acc := w.accept(c.ways)
			for range 2 {
				who, err := w.ask(bearer(c.raw), acc)
				p := wantProblem(t, who, err, c.kind, c.reason)
				if (p.Kind == gatehouse.Overloaded) != (p.RetryAfter > 0) {
					t.Errorf("%+v", p)
				}
			}
			if w.opener.asked != c.asked {
				t.Errorf("asked %d times, want %d", w.opener.asked, c.asked)
			}
		})
	}
}

func TestAnOpaqueTokenEndsThoughItIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newOwn(t, nil)
		w.opener.known = map[string]map[string]any{opaque: ownClaims(map[string]any{"exp": time.Now().Add(2 * time.Minute).Unix()})}
		acc := w.accept(nil)
		must[*gatehouse.Principal](t)(w.ask(bearer(opaque), acc))
		time.Sleep(time.Minute)
		must[*gatehouse.Principal](t)(w.ask(bearer(opaque), acc))
		time.Sleep(2 * time.Minute)
		who, err := w.ask(bearer(opaque), acc)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "token_expired")
	})
}

func TestAServerThatHangsIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newOwn(t, nil)
		w.opener.hangs = true
		begun := time.Now()
		who, err := w.ask(bearer(opaque), w.accept(nil))
		wantProblem(t, who, err, gatehouse.Overloaded, "tokens_unavailable")
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// What rules may read of a token is every claim, whatever form it came in.
func TestRulesSeeEveryClaim(t *testing.T) {
	w := newOwn(t, nil)
	client := newProver(t)
	all := map[string]any{
		"acr": "phr", "amr": []any{"hwk", "user"}, "authorization_details": []any{map[string]any{"type": "payment", "amount": int64(5)}},
		"cnf": map[string]any{"jkt": client.jkt},
	}
	w.opener.known = map[string]map[string]any{opaque: ownClaims(all)}
	for _, tok := range []string{w.token(all), opaque} {
		who := must[*gatehouse.Principal](t)(w.ask(client.proven(tok), w.accept(nil)))
		for name, want := range all {
			if !reflect.DeepEqual(who.Claims[name], want) {
				t.Errorf("%s: %#v, want %#v", name, who.Claims[name], want)
			}
		}
		if who.KeyID != client.jkt || who.Method != gatehouse.MethodJWT {
			t.Errorf("%+v", who)
		}
	}
}

func TestEncryptedTokens(t *testing.T) {
	key := must[*token.Decrypter](t)(token.NewDecrypter())
	elsewhere := must[*token.Decrypter](t)(token.NewDecrypter())
	w := newOwn(t, func(c *authn.Config) { c.Decrypter = key })
	client := newProver(t)
	to := func(d *token.Decrypter, jws string) string {
		return must[string](t)(must[*token.Encrypter](t)(token.NewEncrypter(d.PublicJWK())).Encrypt(jws))
	}
	stranger := must[*token.Signer](t)(token.NewSigner(token.ES256))
	good, bound := to(key, w.token(nil)), to(key, w.token(client.cnf()))
	for _, c := range []struct {
		name   string
		r      *http.Request
		reason string // "": accepted
	}{
		{"signed by us and encrypted to us is accepted", bearer(good), ""},
		{"bound to a key, with a proof for what was sent", client.proven(bound), ""},
		{"encrypted to somebody else is refused", bearer(to(elsewhere, w.token(nil))), "token_invalid"},
		{"signed by a stranger is refused: anybody can encrypt", bearer(to(key, sign(t, stranger, ownClaims(nil)))), "token_invalid"},
		{"of another issuer is refused", bearer(to(key, w.theirs(nil))), "token_invalid"},
		{"for another API is refused", bearer(to(key, w.token(map[string]any{"aud": otherAPI}))), "token_audience"},
		{"expired is refused", bearer(to(key, w.token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))), "token_expired"},
		{"bound to a key is refused as a bearer token", bearer(bound), "dpop_required"},
		{"changed is refused", bearer(good[:len(good)-4] + "AAAA"), "token_invalid"},
		{"one part too many is refused", bearer(good + ".x"), "token_invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range 2 { // the second time from the cache
				if n > 0 && c.r.Header["Dpop"] != nil {
					c.r = client.proven(bound)
				}
				who, err := w.ask(c.r, w.accept(nil))
				if c.reason != "" {
					wantProblem(t, who, err, gatehouse.Unauthenticated, c.reason)
				} else if err != nil || who.Subject != "alice" {
					t.Fatalf("%+v, %v", who, err)
				}
			}
		})
	}
	alice := "alice"
	w.revoked.users.Store(&alice)
	who, err := w.ask(bearer(good), w.accept(nil))
	wantProblem(t, who, err, gatehouse.Unauthenticated, "token_revoked")
}
