package interop_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestChromium has a real browser do what browser_test.go only imitates, see chromium.mjs.
func TestChromium(t *testing.T) {
	node, modules := nodeWith(t, ".", "playwright-core")
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && chromium == "" {
			chromium = p
		}
	}
	if chromium == "" {
		t.Skip("NOT TESTED in a browser: there is no chromium")
	}
	g := startGate(t, "oauth21")
	for _, name := range []string{"paul", "tina", "petra"} {
		g.user(t, name)
	}
	secret := g.client(t, "shop", oauth.Metadata{
		ClientName: "Shop", RedirectURIs: []string{app}, PostLogoutRedirectURIs: []string{"https://app.example/bye"}, Scope: "openid email",
	})
	shop := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<title>Shop</title>") }))
	t.Cleanup(shop.Close)
	at, err := url.Parse(g.issuer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", "127.0.0.1:"+at.Port(), &tls.Config{RootCAs: g.pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	spki := pin(c.ConnectionState().PeerCertificates[0]) + "," + pin(shop.Certificate())
	_ = c.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(shop.URL, "https://"), ":")
	g.scenarios(t, node, "chromium.mjs", 4, "MODULES="+modules, "CHROMIUM="+chromium, "SECRET="+secret, "SPKI="+spki, "APP_PORT="+port)
}

func pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}
