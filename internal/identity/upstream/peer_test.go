package upstream_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// startPeer runs npm's oidc-provider, and returns its issuer URL.
func startPeer(t *testing.T, redirect string) string {
	t.Helper()
	modules, err := filepath.Abs("../../../.testdeps/oidc-provider/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT TESTED against a real OpenID provider: there is no node")
	}
	if _, err := os.Stat(filepath.Join(modules, "oidc-provider")); err != nil {
		t.Skip("NOT TESTED against a real OpenID provider: tools/test.sh fetches oidc-provider from npm")
	}
	cmd := exec.Command(node, "testdata/op.mjs", modules, redirect)
	cmd.Stderr = os.Stderr
	if testing.Short() || !testing.Verbose() {
		cmd.Stderr = nil
	}
	stdin, err := cmd.StdinPipe() // its end ends the script, also when this process is killed
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	})
	issuer, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal("the provider does not start: ", err)
	}
	return strings.TrimSpace(issuer)
}

var (
	formAction = regexp.MustCompile(`action="([^"]+)"`)
	formPrompt = regexp.MustCompile(`name="prompt" value="([^"]+)"`)
)

// browse walks a browser from to through the provider's pages until they send it
// back to us, and returns the query it is sent with.
func browse(t *testing.T, to, back string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	form := url.Values(nil)
	for range 20 {
		if strings.HasPrefix(to, back) {
			u, err := url.Parse(to)
			if err != nil {
				t.Fatal(err)
			}
			return u.Query()
		}
		var res *http.Response
		if form != nil {
			res, err = browser.PostForm(to, form)
		} else {
			res, err = browser.Get(to)
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if where, err := res.Location(); err == nil {
			to, form = where.String(), nil
			continue
		}
		action, prompt := formAction.FindSubmatch(body), formPrompt.FindSubmatch(body)
		if res.StatusCode != http.StatusOK || action == nil || prompt == nil {
			t.Fatalf("the provider answers %d %s", res.StatusCode, body)
		}
		next, err := res.Request.URL.Parse(string(action[1]))
		if err != nil {
			t.Fatal(err)
		}
		to, form = next.String(), url.Values{"prompt": {string(prompt[1])}, "login": {"alice-subject"}, "password": {"any"}}
	}
	t.Fatal("the provider sends the browser in circles")
	return nil
}

func TestARealProvider(t *testing.T) {
	const back = "https://gatehouse.example/signin/upstream/peer/callback"
	issuer := startPeer(t, back)
	out, err := egress.New(egress.Config{Allow: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"confidential": "a-secret: with/odd%bytes", "elliptic": "another", "public": ""} {
		t.Run("somebody signs in through its client "+name, func(t *testing.T) {
			o, err := upstream.NewOIDC(upstream.OIDCConfig{
				Name: "peer", Issuer: issuer, Gatehouse: "https://gatehouse.example/", ClientID: name, Secret: gatehouse.NewSecret(secret),
				Scopes: []string{"profile", "email", "groups"}, Seal: seal, HTTP: out.HTTP(),
				Rules: upstream.Rules{Create: true, TrustEmail: true, Roles: map[string][]string{"admins": {"operator", "reader"}, "absent": {"root"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if o.Redirect() != back {
				t.Fatalf("redirect URI %s", o.Redirect())
			}
			to, cookie, err := o.Begin(t.Context(), upstream.Ask{Then: "the page before", Fresh: true})
			if err != nil {
				t.Fatal(err)
			}
			q := browse(t, to, back)
			if q.Get("iss") != issuer {
				t.Errorf("the provider, which announces iss, sent %q", q.Get("iss"))
			}
			who, then, err := o.Finish(t.Context(), q, cookie)
			if err != nil {
				t.Fatal(err)
			}
			if who.Subject != "alice-subject" || who.Source != "peer" || who.Name != "alice" || who.Email != "alice@example.com" || !who.EmailVerified ||
				!slices.Equal(who.Groups, []string{"staff", "admins"}) || !slices.Equal(who.Roles, []string{"operator", "reader"}) || then != "the page before" {
				t.Errorf("got %+v, then %q", who, then)
			}
			if who.Claims["name"] != "Alice Liddell" || who.Claims["picture"] != nil {
				t.Errorf("claims %v", who.Claims)
			}
			if _, _, err := o.Finish(t.Context(), q, cookie); err == nil {
				t.Error("a code is good for two sign-ins")
			}
		})
	}
}
