package authn_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
)

func use(scheme, kind string) gatehouse.SchemeUse {
	return gatehouse.SchemeUse{Scheme: scheme, Kind: kind}
}

func TestWaysOfTheDocumentsSecurity(t *testing.T) {
	w := newWorld(t)
	all, bare := authn.Scheme{Issuers: []string{"main", "other"}, Key: true, Certificate: true}, authn.Scheme{}
	oauth, bearer, oidc := use("oauth", "oauth2"), use("jwt", "http:bearer"), use("oidc", "openIdConnect")
	key, mtls, basic := use("key", "apiKey"), use("mtls", "mutualTLS"), use("basic", "http:basic")
	type reqs = []gatehouse.Requirement
	for _, c := range []struct {
		name     string
		all      authn.Scheme
		security []gatehouse.Requirement
		serve    map[string]authn.Scheme
		want     string
	}{
		{"no security: any method", all, nil, nil, "main,other | key | cert"},
		{"oauth2: every issuer", all, reqs{{oauth}}, nil, "main,other"},
		{"bearer and openIdConnect: every issuer", all, reqs{{bearer}, {oidc}}, nil, "main,other | main,other"},
		{"a scheme served by one issuer", all, reqs{{oauth}}, map[string]authn.Scheme{"oauth": {Issuers: []string{"main"}}}, "main"},
		{"a scheme served by an issuer or keys", all, reqs{{oauth}}, map[string]authn.Scheme{"oauth": {Issuers: []string{"main"}, Key: true}}, "main | key"},
		{"basic, served by keys", all, reqs{{basic}}, map[string]authn.Scheme{"basic": {Key: true}}, "key"},
		{"alternatives", all, reqs{{oauth}, {key}, {mtls}}, nil, "main,other | key | cert"},
		{"token and certificate", all, reqs{{oauth, mtls}}, nil, "main,other+cert"},
		{"certificate and key", all, reqs{{mtls, key}}, nil, "key+cert"},
		{"two token schemes: an issuer of both", all, reqs{{oauth, oidc}}, map[string]authn.Scheme{"oidc": {Issuers: []string{"other"}}}, "other"},
		{
			"two token schemes without a common issuer", all,
			reqs{{oauth, oidc}},
			map[string]authn.Scheme{"oauth": {Issuers: []string{"main"}}, "oidc": {Issuers: []string{"other"}}},
			"error: second credential",
		},
		{"token and key", all, reqs{{oauth, key}}, nil, "error: second credential"},
		{"token and key, or a key", all, reqs{{oauth, key}, {key}}, nil, "key"},
		{"basic", all, reqs{{basic}}, nil, `error: serves the scheme "basic"`},
		{"or nobody is passed over", all, reqs{{}, {key}}, nil, "key"},
		{"only nobody leaves no way", all, reqs{{}}, nil, ""},
		{"nothing configured", bare, reqs{{oauth}, {key}, {mtls}}, nil, "error: nobody can meet"},
		{"nothing configured and none asked for", bare, nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ways, err := authn.WaysOf(c.security, c.serve, c.all)
			if wanted, isError := strings.CutPrefix(c.want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), wanted) {
					t.Fatalf("got %+v, %v; want an error about %q", ways, err, wanted)
				}
				return
			}
			var got []string
			for _, way := range ways.Any {
				s := strings.Join(way.Issuers, ",")
				if way.Key {
					s += "key"
				}
				if way.Certificate {
					s = strings.TrimPrefix(s+"+cert", "+")
				}
				got = append(got, s)
			}
			if err != nil || ways.Anonymous || strings.Join(got, " | ") != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			if _, err := w.Accept(ways); (err == nil) != (c.want != "") {
				t.Errorf("compiled: %v", err)
			}
		})
	}
}

func TestCredentialHeadersAreThoseThatWereJudged(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		ways authn.Ways
		want []string
	}{
		{ways(byMain), []string{"Authorization", "X-Api-Key"}},
		{public(byKey), []string{"Authorization", "X-Api-Key"}},
		{authn.Ways{Any: []authn.Way{byKey}, KeyHeader: "api-key"}, []string{"Authorization", "Api-Key"}},
		{authn.Ways{Any: []authn.Way{byKey}, KeyHeader: "authorization"}, []string{"Authorization"}},
		{public(), nil},
	} {
		if got := w.accept(t, c.ways).CredentialHeaders(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.ways, got, c.want)
		}
	}
}

// Over real connections: full handshakes, a resumed session and none at all.
func TestACertificateOverRealConnections(t *testing.T) {
	w := newWorld(t)
	accept := w.accept(t, ways(byCert))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		who, err := w.Authenticate(r.Context(), r, accept)
		if err != nil {
			rw.WriteHeader(gatehouse.AsProblem(err).Kind.Status())
			return
		}
		_, _ = fmt.Fprintf(rw, "%s resumed=%v", who.Subject, r.TLS.DidResume)
	}))
	pair := pairOf(t, func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/billing"}}
	})
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	client := srv.Client()
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("not a Transport")
	}
	get := func() string {
		t.Helper()
		resp, err := client.Do(must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)))
		if err != nil {
			t.Fatal(err)
		}
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		return resp.Status[:3] + " " + string(body)
	}
	if got := get(); got != "401 " {
		t.Errorf("without a certificate: %q", got)
	}
	transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if got := get(); got != "200 spiffe://example/billing resumed=false" {
		t.Errorf("with a certificate: %q", got)
	}
	if got := get(); got != "200 spiffe://example/billing resumed=true" {
		t.Errorf("with a resumed session: %q", got)
	}
}
