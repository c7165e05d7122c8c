package pages_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// TestAnyColourCanBeRead takes what the style sheet says for many colours and
// measures it as WCAG 2.2 does.
func TestAnyColourCanBeRead(t *testing.T) {
	for _, color := range []string{"", "#000000", "#ffffff", "#ffff00", "#7f7f7f", "#767676", "#ff0000", "#00ff00", "#0000ff", "#1c1f26", "#c0ffee", "#123456", "#fefefe", "#010101"} {
		s := newSite(t, func(c *pages.Config) { c.Color = color })
		b := s.browser(t)
		css := b.get(attr(find(b.get("/signin").doc, "link", "rel", "stylesheet"), "href")).body
		found := regexp.MustCompile(`--accent:(#[0-9a-f]{6});--on-accent:(#[0-9a-f]{6});--link:(#[0-9a-f]{6})`).FindAllStringSubmatch(css, -1)
		cards := regexp.MustCompile(`--card: (#[0-9a-f]{6});`).FindAllStringSubmatch(css, -1)
		if len(found) != 2 || len(cards) != 2 {
			t.Fatalf("%d palettes, %d cards in\n%s", len(found), len(cards), css[:200])
		}
		for i, p := range found {
			card := cards[i][1]
			for _, pair := range []struct {
				what, a, b string
				least      float64
			}{{"the label of a button", p[1], p[2], 4.5}, {"a button on the card", p[1], card, 3}, {"a link on the card", p[3], card, 4.5}} {
				if got := ratio(t, pair.a, pair.b); got < pair.least {
					t.Errorf("colour %q, %s: %.2f for %s on %s", color, pair.what, got, pair.a, pair.b)
				}
			}
		}
	}
}

func ratio(t *testing.T, a, b string) float64 {
	t.Helper()
	light := func(s string) float64 {
		var c [3]int
		if _, err := fmt.Sscanf(s, "#%02x%02x%02x", &c[0], &c[1], &c[2]); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			v := float64(c[i]) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := light(a), light(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestConfig(t *testing.T) {
	png := []byte("\x89PNG\r\n\x1a\n rest")
	t.Run("a logo is served as what it is, and can do nothing", func(t *testing.T) {
		for kind, logo := range map[string][]byte{"image/png": png, "image/svg+xml": []byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)} {
			s := newSite(t, func(c *pages.Config) { c.Logo = logo })
			b := s.browser(t)
			v := b.get(attr(find(b.get("/signin").doc, "img", "", ""), "src"))
			if v.header.Get("Content-Type") != kind || !strings.Contains(v.header.Get("Content-Security-Policy"), "sandbox") || v.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %v", kind, v.header)
			}
		}
	})
	base := newSite(t, nil)
	for name, set := range map[string]func(*pages.Config){
		"an issuer without TLS is refused":                  func(c *pages.Config) { c.Issuer = "http://login.example.com" },
		"an issuer with a query is refused":                 func(c *pages.Config) { c.Issuer += "?x" },
		"pages without people are refused":                  func(c *pages.Config) { c.People = nil },
		"pages without a sealing key are refused":           func(c *pages.Config) { c.Seal = nil },
		"pages without an authorization server are refused": func(c *pages.Config) { c.Flow = nil },
		"a colour that is none is refused":                  func(c *pages.Config) { c.Color = "red;}" },
		"a colour with a sign is refused":                   func(c *pages.Config) { c.Color = "#+12345" },
		"a logo that is a page is refused":                  func(c *pages.Config) { c.Logo = []byte("<html>") },
		"a logo that is too large is refused":               func(c *pages.Config) { c.Logo = append(png, make([]byte, 300<<10)...) },
		"an upstream that can do nothing is refused":        func(c *pages.Config) { c.Upstreams = []pages.Upstream{{Name: "x"}} },
		"an upstream whose name leaves its path is refused": func(c *pages.Config) { c.Upstreams = []pages.Upstream{office("../x")} },
		"two upstreams of one name are refused":             func(c *pages.Config) { c.Upstreams = []pages.Upstream{office("x"), office("x")} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := base.cfg
			set(&cfg)
			if _, err := pages.New(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("below a path all links and cookies still work", func(t *testing.T) {
		cfg := base.cfg
		cfg.Issuer += "/auth/"
		p, err := pages.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		v := respond(t, p.Routes()["GET /signin"].ServeHTTP)
		if find(v.doc, "form", "action", "/auth/signin") == nil || !strings.HasPrefix(attr(find(v.doc, "link", "rel", "stylesheet"), "href"), "/auth/assets/") {
			t.Error(v.body)
		}
		if cookie := v.header.Get("Set-Cookie"); !strings.Contains(cookie, "Path=/;") { // __Host- wants it
			t.Error(cookie)
		}
	})
}
