package authn_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

var (
	byMain = authn.Way{Issuers: []string{"main"}}
	byKey  = authn.Way{Key: true}
	byCert = authn.Way{Certificate: true}
)

func ways(w ...authn.Way) authn.Ways { return authn.Ways{Any: w} }

func public(w ...authn.Way) authn.Ways { return authn.Ways{Any: w, Anonymous: true} }

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{})
	good := w.token(t, nil)
	billing := named(t, "spiffe://example/billing")
	stranger := named(t, "spiffe://example/stranger")
	bound := w.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": x5t(billing)}})
	tampered := good[:len(good)-4] + "AAAA"
	expired := w.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
	foreign := sign(t, w.other, claims(map[string]any{"iss": otherIssuer}))

	const (
		no200 = ""
		un    = gatehouse.Unauthenticated
		bad   = gatehouse.Malformed
	)
	all := ways(byMain, byKey, byCert)
	for _, c := range []struct {
		name    string
		ways    authn.Ways
		r       *http.Request
		subject string // when accepted
		kind    gatehouse.Kind
		reason  string
	}{
		{"a good token is accepted", all, bearer(good), "alice", 0, ""},
		{"the scheme's case does not matter", all, request("Authorization", "bEARER "+good), "alice", 0, ""},
		{"spaces after the scheme do not matter", all, request("Authorization", "Bearer   "+good), "alice", 0, ""},
		{"a key as bearer is accepted", all, bearer(key), "robot", 0, ""},
		{"a key in its header is accepted", all, request("X-API-Key", key), "robot", 0, ""},
		{"a certificate is accepted", all, over(request(), billing), "spiffe://example/billing", 0, ""},
		{"a token goes before the connection's certificate", all, over(bearer(good), billing), "alice", 0, ""},

		{"nothing is refused", all, request(), no200, un, "credentials_missing"},
		{"an empty Authorization is refused", all, request("Authorization", ""), no200, un, "credentials_not_accepted"},
		{"a scheme alone is refused", all, request("Authorization", "Bearer"), no200, un, "token_invalid"},
		{"an empty key header is refused", all, request("X-API-Key", ""), no200, un, "key_invalid"},
		{"Basic is refused", all, request("Authorization", "Basic YTpi"), no200, un, "credentials_not_accepted"},
		{"a token without a scheme is refused", all, request("Authorization", good), no200, un, "credentials_not_accepted"},
		{"DPoP is refused", all, request("Authorization", "DPoP "+good), no200, un, "dpop_unsupported"},
		{"a token in the query is not looked at", all, query("access_token", good), no200, un, "credentials_missing"},
		{"a key in the query is not looked at", all, query("X-API-Key", key), no200, un, "credentials_missing"},
		{"a token in a cookie is not looked at", all, request("Cookie", "access_token="+good), no200, un, "credentials_missing"},
		{"a certificate in a header is not looked at", all, request("X-Client-Cert", "spiffe://example/billing", "Client-Cert", ":AAAA:"), no200, un, "credentials_missing"},
		{"a token in X-API-Key is refused", all, request("X-API-Key", good), no200, un, "key_invalid"},

		{"two Authorization lines are refused", all, request("Authorization", "Bearer "+good, "Authorization", "Bearer "+good), no200, bad, "ambiguous_credentials"},
		{"two key lines are refused", all, request("X-API-Key", key, "X-API-Key", key), no200, bad, "ambiguous_credentials"},
		{"a token and a key are refused", all, request("Authorization", "Bearer "+good, "X-API-Key", key), no200, bad, "ambiguous_credentials"},
		{"a token and a key are refused where keys are not taken", ways(byMain), request("Authorization", "Bearer "+good, "X-API-Key", key), no200, bad, "ambiguous_credentials"},
		{"Basic and a key are refused", all, request("Authorization", "Basic YTpi", "X-API-Key", key), no200, bad, "ambiguous_credentials"},
		{"two tokens in one line are refused", all, request("Authorization", "Bearer "+good+", Bearer "+good), no200, un, "token_invalid"},

		{"a tampered token is refused", all, bearer(tampered), no200, un, "token_invalid"},
		{"an expired token is refused", all, bearer(expired), no200, un, "token_expired"},
		{"a token for another audience is refused", all, bearer(w.token(t, map[string]any{"aud": "billing"})), no200, un, "token_audience"},
		{"a token of an issuer nobody knows is refused", all, bearer(w.token(t, map[string]any{"iss": "https://evil.example"})), no200, un, "token_issuer_unknown"},
		{"a token of an issuer not taken here is refused", all, bearer(foreign), no200, un, "token_issuer_unknown"},
		{"one issuer can not sign for another", ways(authn.Way{Issuers: []string{"main", "other"}}), bearer(w.token(t, map[string]any{"iss": otherIssuer})), no200, un, "token_invalid"},
		{"a huge token is refused", all, bearer(strings.Repeat("a.", 1<<16)), no200, un, "token_invalid"},
		{"a token where keys are wanted is refused", ways(byKey), bearer(good), no200, un, "credentials_not_accepted"},
		{"a key where tokens are wanted is refused", ways(byMain), bearer(key), no200, un, "credentials_not_accepted"},
		{"a certificate where tokens are wanted is refused", ways(byMain), over(request(), billing), no200, un, "credentials_missing"},
		{"a token where certificates are wanted is refused", ways(byCert), over(bearer(good), billing), no200, un, "credentials_not_accepted"},

		{"a token bound to the certificate is accepted with it", ways(byMain), over(bearer(bound), billing), "alice", 0, ""},
		{"a token bound to a certificate is refused with another", ways(byMain), over(bearer(bound), stranger), no200, un, "certificate_mismatch"},
		{"a token bound to a certificate is refused without", ways(byMain), bearer(bound), no200, un, "certificate_mismatch"},
		{"a token bound to a DPoP key is refused", ways(byMain), bearer(w.token(t, map[string]any{"cnf": map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})), no200, un, "dpop_unsupported"},
		{"a token bound to a certificate that nobody has signed for is accepted", all, unverified(over(bearer(bound), billing)), "alice", 0, ""},
		{"with another certificate it is refused", all, unverified(over(bearer(bound), stranger)), no200, un, "certificate_mismatch"},
		{"a token bound to both is refused", ways(byMain), over(bearer(w.token(t, map[string]any{"cnf": map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "x5t#S256": x5t(billing)}})), billing), no200, un, "dpop_unsupported"},
		{"a token bound by something unknown is refused", ways(byMain), over(bearer(w.token(t, map[string]any{"cnf": map[string]any{"moon": "full"}})), billing), no200, un, "token_invalid"},

		{"no certificate where one is wanted is refused", ways(byCert), request(), no200, un, "certificate_required"},
		{"a certificate nobody configured is refused", ways(byCert), over(request(), stranger), no200, un, "certificate_unknown"},
		{"a certificate with two configured names is refused", ways(byCert), over(request(), certificate(t, func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{"billing.internal"}, []string{"ann@example.org"}
		})), no200, un, "certificate_unknown"},
		{"a certificate that expired meanwhile is refused", ways(byCert), over(request(), certificate(t, func(c *x509.Certificate) {
			c.DNSNames, c.NotAfter = []string{"billing.internal"}, time.Now().Add(-time.Minute)
		})), no200, un, "certificate_unknown"},
		{"a certificate the listener did not verify is refused", ways(byCert), unverified(over(request(), billing)), no200, un, "certificate_required"},
		{"token and certificate: both are accepted", ways(authn.Way{Issuers: []string{"main"}, Certificate: true}), over(bearer(good), billing), "alice", 0, ""},
		{"token and certificate: the token alone is refused", ways(authn.Way{Issuers: []string{"main"}, Certificate: true}), bearer(good), no200, un, "certificate_required"},
		{"token and certificate: with a stranger's it is refused", ways(authn.Way{Issuers: []string{"main"}, Certificate: true}), over(bearer(good), stranger), no200, un, "certificate_unknown"},
		{"token and certificate: the certificate alone is refused", ways(authn.Way{Issuers: []string{"main"}, Certificate: true}), over(request(), billing), no200, un, "credentials_missing"},
		{"key and certificate: the key alone is refused", ways(authn.Way{Key: true, Certificate: true}), bearer(key), no200, un, "certificate_required"},
		{"key and certificate: both are accepted", ways(authn.Way{Key: true, Certificate: true}), over(bearer(key), billing), "robot", 0, ""},

		{"public: nobody is accepted", public(byMain, byKey), request(), "", 0, ""},
		{"public: a good token counts", public(byMain, byKey), bearer(good), "alice", 0, ""},
		{"public: a bad token is refused", public(byMain, byKey), bearer(expired), no200, un, "token_expired"},
		{"public: two credentials are refused", public(byMain, byKey), request("Authorization", "Bearer "+good, "X-API-Key", key), no200, bad, "ambiguous_credentials"},
		{"public without ways: credentials are not looked at", public(), request("Authorization", "Basic YTpi", "X-API-Key", "x"), "", 0, ""},
		{"public: a certificate counts", public(byCert), over(request(), billing), "spiffe://example/billing", 0, ""},
		{"public: a stranger's certificate is nobody", public(byCert), over(request(), stranger), "", 0, ""},
		{"public: a certificate on another site's behalf is nobody", public(byCert), over(request("Sec-Fetch-Site", "cross-site"), billing), "", 0, ""},

		{"certificate alone: another site's page is refused", ways(byCert), over(request("Sec-Fetch-Site", "cross-site"), billing), no200, gatehouse.Forbidden, "cross_origin"},
		{"certificate alone: a sibling site's page is refused", ways(byCert), over(request("Sec-Fetch-Site", "same-site"), billing), no200, gatehouse.Forbidden, "cross_origin"},
		{"certificate alone: another Origin is refused", ways(byCert), over(request("Origin", "https://evil.example"), billing), no200, gatehouse.Forbidden, "cross_origin"},
		{"certificate alone: Origin null is refused", ways(byCert), over(request("Origin", "null"), billing), no200, gatehouse.Forbidden, "cross_origin"},
		{"certificate alone: the own page is accepted", ways(byCert), over(request("Origin", "https://orders.example", "Sec-Fetch-Site", "same-origin"), billing), "spiffe://example/billing", 0, ""},
		{"certificate alone: the own Origin is accepted", ways(byCert), over(request("Origin", "https://orders.example"), billing), "spiffe://example/billing", 0, ""},
		{"a token may come from another site's page", ways(byMain), over(request("Authorization", "Bearer "+good, "Origin", "https://spa.example"), billing), "alice", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			accept := w.accept(t, c.ways)
			for range 2 { // the second time from the cache
				who, err := w.Authenticate(t.Context(), c.r, accept)
				if c.reason != "" {
					p := wantProblem(t, who, err, c.kind, c.reason)
					if (p.Kind == gatehouse.Unauthenticated) != (len(p.Challenges) == 1) {
						t.Errorf("challenges %q", p.Challenges)
					}
					for _, secret := range []string{good, key, expired, tampered} {
						if strings.Contains(fmt.Sprintf("%+v %v", *p, err), secret) {
							t.Error("the problem holds the credential")
						}
					}
					continue
				}
				if err != nil || who == nil || who.Subject != c.subject || who.Anonymous() != (c.subject == "") {
					t.Fatalf("got %+v, %v; want %q", who, err, c.subject)
				}
			}
		})
	}
}

func query(name, value string) *http.Request {
	r := request()
	r.URL.RawQuery = name + "=" + value
	return r
}

func unverified(r *http.Request) *http.Request {
	r.TLS.VerifiedChains = nil
	return r
}

func TestThePrincipalOfAToken(t *testing.T) {
	w := newWorld(t)
	auth := time.Now().Add(-time.Minute).Unix()
	who := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(w.token(t, map[string]any{"auth_time": auth})), w.accept(t, ways(byMain))))
	if who.Issuer != "main" || who.Client != "shop" || who.Tenant != "t1" || who.Method != gatehouse.MethodJWT || who.AuthTime.Unix() != auth ||
		!slices.Equal(who.Roles, []string{"support"}) || !slices.Equal(who.Scopes, []string{"orders:read", "orders:write"}) ||
		who.Claims["sub"] != "alice" || time.Until(who.Expires) < 59*time.Minute {
		t.Errorf("got %+v", who)
	}
}

func TestRolesAndTenantComeFromTheConfiguredClaims(t *testing.T) {
	w := newWorld(t)
	accept := w.accept(t, ways(authn.Way{Issuers: []string{"main", "other"}}))
	roles := func(v any) map[string]any { return map[string]any{"realm_access": map[string]any{"roles": v}} }
	theirs := func(more map[string]any) map[string]any {
		c := claims(map[string]any{"iss": otherIssuer})
		maps.Copy(c, more)
		return c
	}
	for _, c := range []struct {
		name   string
		signer *token.Signer
		claims map[string]any
		roles  []string
		tenant string
	}{
		{"a path into objects", w.main, claims(nil), []string{"support"}, "t1"},
		{"roles twice count once", w.main, claims(roles([]string{"manager", "manager", "support"})), []string{"manager", "support"}, "t1"},
		{"one string is one role", w.main, claims(roles("manager")), []string{"manager"}, "t1"},
		{"a list that is not all strings gives none", w.main, claims(roles([]any{"manager", 1})), nil, "t1"},
		{"a number gives none", w.main, claims(roles(7)), nil, "t1"},
		{"a missing claim gives none", w.main, claims(map[string]any{"realm_access": nil, "tenant": nil}), nil, ""},
		{"a path that ends early gives none", w.main, claims(map[string]any{"realm_access": "roles"}), nil, "t1"},
		{"roles under another name give none", w.main, claims(map[string]any{"realm_access": nil, "roles": []string{"manager"}}), nil, "t1"},
		{"a tenant that is no string gives none", w.main, claims(map[string]any{"tenant": []string{"t1"}}), []string{"support"}, ""},
		{"a claim named like a URL, mapped", w.other, theirs(map[string]any{"https://other.example/roles": []string{"boss"}, "org": map[string]any{"id": 42}}), []string{"manager"}, "42"},
		{"a role of theirs that is two of ours", w.other, theirs(map[string]any{"https://other.example/roles": []string{"chief", "boss"}}), []string{"support", "manager"}, ""},
		{"with a map, our own names count for nothing", w.other, theirs(map[string]any{"https://other.example/roles": []string{"manager", "support"}}), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := w.Authenticate(t.Context(), bearer(sign(t, c.signer, c.claims)), accept)
			if err != nil || !slices.Equal(who.Roles, c.roles) || who.Tenant != c.tenant {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

func TestThePrincipalOfACertificate(t *testing.T) {
	w := newWorld(t)
	accept := w.accept(t, ways(byCert))
	for _, c := range []struct {
		name, subject string
		change        func(*x509.Certificate)
	}{
		{"DNS name, with a subject of its own", "billing", func(c *x509.Certificate) { c.DNSNames = []string{"x.internal", "billing.internal"} }},
		{"e-mail address", "ann@example.org", func(c *x509.Certificate) { c.EmailAddresses = []string{"ann@example.org"} }},
		{"common name, where it is written out", "cn:Legacy", func(c *x509.Certificate) { c.Subject.CommonName = "Legacy" }},
		{"a common name is no DNS name", "", func(c *x509.Certificate) { c.Subject.CommonName = "billing.internal" }},
		{"an e-mail address in place of a DNS name", "", func(c *x509.Certificate) { c.DNSNames = []string{"ann@example.org"} }},
		{"a DNS name in place of a URI", "", func(c *x509.Certificate) { c.URIs = []*url.URL{{Path: "billing.internal"}} }},
		{"a common name that looks like a kind", "", func(c *x509.Certificate) { c.Subject.CommonName = "dns:billing.internal" }},
		{"names are compared exactly", "", func(c *x509.Certificate) { c.DNSNames = []string{"Billing.internal"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := w.Authenticate(t.Context(), over(request(), certificate(t, c.change)), accept)
			if c.subject == "" {
				wantProblem(t, who, err, gatehouse.Unauthenticated, "certificate_unknown")
			} else if err != nil || who.Subject != c.subject {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
	billing := named(t, "spiffe://example/billing")
	who := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), over(request(), billing), accept))
	if who.Issuer != "mtls" || who.Method != gatehouse.MethodMTLS || who.KeyID != x5t(billing) || who.Tenant != "t1" ||
		!slices.Equal(who.Roles, []string{"support"}) || !slices.Equal(who.Scopes, []string{"orders:read"}) || !who.Expires.Equal(billing.NotAfter) {
		t.Errorf("got %+v", who)
	}
}

func TestChallenges(t *testing.T) {
	w := newWorld(t)
	meta := authn.Ways{Any: []authn.Way{byMain}, ResourceMetadata: "https://orders.example/.well-known/oauth-protected-resource"}
	for _, c := range []struct {
		name string
		ways authn.Ways
		r    *http.Request
		want string
	}{
		{"without credentials there is no error attribute", ways(byMain), request(), `Bearer realm="orders"`},
		{"with a scheme we do not take there is none either", ways(byMain), request("Authorization", "Basic YTpi"), `Bearer realm="orders"`},
		{"an expired token is an invalid_token", ways(byMain), bearer(w.token(t, map[string]any{"exp": 1})), `Bearer realm="orders", error="invalid_token", error_description="The access token has expired."`},
		{"a bad key is an invalid_token", ways(byKey), bearer("gk_x"), `Bearer realm="orders", error="invalid_token", error_description="The API key is not valid here."`},
		{"the metadata is named", meta, request(), `Bearer realm="orders", resource_metadata="https://orders.example/.well-known/oauth-protected-resource"`},
		{"where only certificates count, they are named", ways(byCert), request(), `ClientCertificate realm="orders"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.Authenticate(t.Context(), c.r, w.accept(t, c.ways))
			if p := gatehouse.AsProblem(err); p == nil || !slices.Equal(p.Challenges, []string{c.want}) {
				t.Errorf("got %v, want %s", p.Challenges, c.want)
			}
		})
	}
}

// A caller who tries keys must not learn which of them existed.
func TestKeysThatDoNotOpenLookAlike(t *testing.T) {
	w := newWorld(t)
	accept := w.accept(t, ways(byKey))
	revoked, k := w.key(t, authn.NewKey{})
	if err := w.keys.Revoke(t.Context(), "tester", k.ID); err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := newWorld(t).key(t, authn.NewKey{})
	var first string
	for name, key := range map[string]string{"revoked": revoked, "unknown": elsewhere, "malformed": "gk_live_x", "empty": ""} {
		_, err := w.Authenticate(t.Context(), request("X-API-Key", key), accept)
		p := gatehouse.AsProblem(err)
		seen := fmt.Sprint(p.Kind, p.Reason, p.Detail, p.Challenges, p.RetryAfter, p.Fields)
		if first == "" {
			first = seen
		}
		if p.Kind != gatehouse.Unauthenticated || seen != first || p.Err == nil {
			t.Errorf("%s: %s, want %s and a cause", name, seen, first)
		}
	}
}

func TestNothingIsAcceptedByZeroValues(t *testing.T) {
	w := newWorld(t)
	elsewhere := newWorld(t).accept(t, public())
	good := bearer(w.token(t, nil))
	for name, f := range map[string]func() (*gatehouse.Principal, error){
		"the nil Accept":                 func() (*gatehouse.Principal, error) { return w.Authenticate(t.Context(), good, nil) },
		"the zero Accept":                func() (*gatehouse.Principal, error) { return w.Authenticate(t.Context(), good, new(authn.Accept)) },
		"another Authenticator's Accept": func() (*gatehouse.Principal, error) { return w.Authenticate(t.Context(), good, elsewhere) },
		"the zero Authenticator": func() (*gatehouse.Principal, error) {
			return new(authn.Authenticator).Authenticate(t.Context(), good, "https", elsewhere)
		},
		"the zero Authenticator, nil Accept": func() (*gatehouse.Principal, error) {
			return new(authn.Authenticator).Authenticate(t.Context(), good, "https", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := f()
			wantProblem(t, who, err, gatehouse.Internal, "internal")
		})
	}
}

func TestAnIssuerThatCanNotBeReachedIsNoVerdict(t *testing.T) {
	w := newWorld(t)
	keys := must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{URL: mainIssuer + "/jwks"}, unreachable{}))
	a := must[*authn.Authenticator](t)(authn.New(authn.Config{Realm: "orders", Issuers: []authn.Issuer{
		{Name: "main", Keys: keys, Token: token.VerifierConfig{Issuer: mainIssuer, Audiences: []string{audience}}},
	}}))
	for name, ways := range map[string]authn.Ways{"guarded": ways(byMain), "public": public(byMain)} {
		t.Run(name, func(t *testing.T) {
			who, err := a.Authenticate(t.Context(), bearer(w.token(t, nil)), "https", must[*authn.Accept](t)(a.Accept(ways)))
			wantProblem(t, who, err, gatehouse.Overloaded, "issuer_unavailable")
		})
	}
}

type unreachable struct{}

func (unreachable) Fetch(context.Context, string) ([]byte, http.Header, error) {
	return nil, nil, errors.New("unreachable")
}

func TestAWithdrawnKeyEndsCachedTokens(t *testing.T) {
	w := newWorld(t)
	accept, r := w.accept(t, ways(byMain)), bearer(w.token(t, nil))
	first := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), r, accept))
	if second := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), r, accept)); second != first {
		t.Error("the token was checked twice")
	}
	w.mainKeySet.Flush()
	if third := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), r, accept)); third == first {
		t.Error("after Flush the token was not checked again")
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	good := authn.Issuer{Name: "main", Keys: w.mainKeySet, Token: token.VerifierConfig{Issuer: mainIssuer, Audiences: []string{audience}}}
	with := func(change func(*authn.Issuer)) authn.Config {
		is := good
		change(&is)
		return authn.Config{Realm: "x", Issuers: []authn.Issuer{is}, Roles: roles}
	}
	named := func(n string) authn.Config {
		return authn.Config{Realm: "x", Certificates: map[string]authn.Identity{n: {}}}
	}
	for name, cfg := range map[string]authn.Config{
		"no realm":                             {},
		"an issuer without a name":             with(func(i *authn.Issuer) { i.Name = "" }),
		"an issuer called keys":                with(func(i *authn.Issuer) { i.Name = "keys" }),
		"an issuer called mtls":                with(func(i *authn.Issuer) { i.Name = "mtls" }),
		"an issuer without keys":               with(func(i *authn.Issuer) { i.Keys = nil }),
		"an issuer without an audience":        with(func(i *authn.Issuer) { i.Token.Audiences = nil }),
		"an issuer without an iss":             with(func(i *authn.Issuer) { i.Token.Issuer = "" }),
		"a map to a role that is not ours":     with(func(i *authn.Issuer) { i.RoleMap = map[string][]string{"a": {"manager", "emperor"}} }),
		"an issuer twice":                      {Realm: "x", Issuers: []authn.Issuer{good, good}},
		"an empty certificate name":            named(""),
		"a certificate name with a space":      named("billing internal"),
		"a certificate name of no known kind":  named("ip:127.0.0.1"),
		"a certificate name that is only kind": named("cn:"),
		"an e-mail address without a host":     named("ann@"),
		"an e-mail address without a name":     named("@example.org"),
		"a URI that would never match":         named("spiffe://example/b illing"),
		"a certificate with an unknown role":   {Realm: "x", Certificates: map[string]authn.Identity{"a.internal": {Roles: []string{"emperor"}}}},
	} {
		if _, err := authn.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAcceptRefuses(t *testing.T) {
	w := newWorld(t)
	bare := must[*authn.Authenticator](t)(authn.New(authn.Config{Realm: "x"}))
	twins := must[*authn.Authenticator](t)(authn.New(authn.Config{Realm: "x", Issuers: []authn.Issuer{
		{Name: "a", Keys: w.mainKeySet, Token: token.VerifierConfig{Issuer: mainIssuer, Audiences: []string{"a"}}},
		{Name: "b", Keys: w.mainKeySet, Token: token.VerifierConfig{Issuer: mainIssuer, Audiences: []string{"b"}}},
	}}))
	for name, c := range map[string]struct {
		a    *authn.Authenticator
		ways authn.Ways
	}{
		"no way":                              {w.Authenticator, authn.Ways{}},
		"a way that asks for nothing":         {w.Authenticator, ways(authn.Way{})},
		"a public one with such a way":        {w.Authenticator, public(authn.Way{})},
		"an unknown issuer":                   {w.Authenticator, ways(authn.Way{Issuers: []string{"nobody"}})},
		"a token and a key at once":           {w.Authenticator, ways(authn.Way{Issuers: []string{"main"}, Key: true})},
		"keys where there are none":           {bare, ways(byKey)},
		"certificates where there are none":   {bare, ways(byCert)},
		"keys with and without a certificate": {w.Authenticator, ways(authn.Way{Key: true, Certificate: true}, byKey)},
		"an issuer with and without one":      {w.Authenticator, ways(byMain, authn.Way{Issuers: []string{"main"}, Certificate: true})},
		"two issuers with one iss":            {twins, ways(authn.Way{Issuers: []string{"a"}}, authn.Way{Issuers: []string{"b"}})},
		"a header name that is none":          {w.Authenticator, authn.Ways{Any: []authn.Way{byKey}, KeyHeader: "X API Key"}},
		"a header that means something else":  {w.Authenticator, authn.Ways{Any: []authn.Way{byKey}, KeyHeader: "host"}},
		"metadata that is not https":          {w.Authenticator, authn.Ways{Any: []authn.Way{byMain}, ResourceMetadata: "http://orders.example/"}},
		"metadata that ends the header":       {w.Authenticator, authn.Ways{Any: []authn.Way{byMain}, ResourceMetadata: "https://orders.example/\r\nX: y"}},
	} {
		if _, err := c.a.Accept(c.ways); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAKeyMayStandInTheHeaderTheDocumentNames(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{})
	for _, header := range []string{"api-key", "Authorization"} {
		accept := w.accept(t, authn.Ways{Any: []authn.Way{byKey}, KeyHeader: header})
		if _, err := w.Authenticate(t.Context(), request(header, key), accept); err != nil {
			t.Errorf("%s: %v", header, err)
		}
		if _, err := w.Authenticate(t.Context(), bearer(key), accept); err != nil {
			t.Errorf("%s: as bearer: %v", header, err)
		}
	}
	for in, ok := range map[string]bool{"header": true, "query": false, "cookie": false, "": false, "path": false} {
		if err := authn.KeyPlace(in, "api-key"); (err == nil) != ok {
			t.Errorf("in %q: %v", in, err)
		}
	}
}
