package interop_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const apacheModules = "/usr/lib/apache2/modules"

const apacheConfig = `ServerRoot %[1]q
ServerName 127.0.0.1
PidFile apache.pid
Mutex file:%[1]s
ErrorLog %[1]s/error.log
LogLevel warn
Listen 127.0.0.1:%[2]s
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so
DocumentRoot %[1]s/pages
OIDCProviderMetadataURL %[3]s/.well-known/openid-configuration
OIDCClientID apache
OIDCClientSecret %[4]s
OIDCRedirectURI http://127.0.0.1:%[2]s/oidc/callback
OIDCCryptoPassphrase "of this test alone"
OIDCCABundlePath %[1]s/ca.pem
OIDCPKCEMethod S256
OIDCScope "openid email"
OIDCRemoteUserClaim email
OIDCSessionType server-cache
OIDCCacheType shm
<Location />
AuthType openid-connect
Require valid-user
Header always set X-User "expr=%%{REMOTE_USER}"
</Location>
`

// TestApache is Debian's mod_auth_openidc, an OpenID Connect client in C.
func TestApache(t *testing.T) {
	apache, err := exec.LookPath("apache2")
	if err != nil {
		apache = "/usr/sbin/apache2"
	}
	for _, file := range []string{apache, filepath.Join(apacheModules, "mod_auth_openidc.so")} {
		if _, err := os.Stat(file); err != nil {
			t.Skip("NOT TESTED against Apache: apt-get install apache2 libapache2-mod-auth-openidc")
		}
	}
	g := startGate(t, "oauth21")
	ada := g.user(t, "ada")
	site := g.apache(t, apache)
	b := g.browser("ada")

	forged, err := b.visit(site+"/oidc/callback?code=gho_x&state=forged&iss="+g.issuer, "none:")
	if err != nil || strings.Contains(forged.Body, "for members") {
		t.Fatalf("a forged answer got %+v %v", forged, err)
	}
	if status, _ := see(t, b.http, site); status != http.StatusFound {
		t.Errorf("without a session the page answers %d", status)
	}
	home, err := b.visit(site+"/index.html", "none:")
	if err != nil || home.Status != http.StatusOK || !strings.Contains(home.Body, "for members") {
		t.Fatalf("sign-in ended at %+v %v", home, err)
	}
	if status, user := see(t, b.http, site); status != http.StatusOK || !strings.HasPrefix(user, "ada@example.com") {
		t.Errorf("with a session the page answers %d, for %q", status, user)
	}

	t.Run("a user who signs out here is signed out there, by the back channel", func(t *testing.T) {
		if p, err := b.visit(g.issuer+"/logout", "none:"); err != nil || p.Status != http.StatusOK {
			t.Fatalf("sign-out ended at %+v %v", p, err)
		}
		until(t, "Apache has ended the session", func() bool { status, _ := see(t, b.http, site); return status == http.StatusFound })
	})
	t.Run("a user who is locked is signed out there, too", func(t *testing.T) {
		if p, err := b.visit(site+"/index.html", "none:"); err != nil || p.Status != http.StatusOK || !strings.Contains(p.Body, "for members") {
			t.Fatalf("sign-in ended at %+v %v", p, err)
		}
		if err := g.office.People.Lock(t.Context(), "test", ada.ID, "lost laptop"); err != nil {
			t.Fatal(err)
		}
		until(t, "Apache has ended the session", func() bool { status, _ := see(t, b.http, site); return status == http.StatusFound })
	})
}

// see looks at the protected page without following.
func see(t *testing.T, c *http.Client, site string) (status int, user string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/index.html", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html") // others are answered 401
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-User")
}

// apache starts one with a page for members, and returns its address.
func (g *gate) apache(t *testing.T, program string) string {
	t.Helper()
	// As root Apache works as another user, who must be able to read this.
	dir, err := os.MkdirTemp("", "gatehouse-apache") //nolint:usetesting // its parents are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := freePort(t)
	site := "http://127.0.0.1:" + port
	secret := g.client(t, "apache", oauth.Metadata{
		ClientName: "Members", ApplicationType: "native", RedirectURIs: []string{site + "/oidc/callback"}, Scope: "openid email",
		BackchannelLogoutURI: site + "/oidc/callback?logout=backchannel", BackchannelLogoutSID: true,
	})
	ca, err := os.ReadFile(g.ca())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ca.pem": string(ca), "pages/index.html": "<title>Members</title><p>for members",
		"apache.conf": fmt.Sprintf(apacheConfig, dir, port, g.issuer, secret),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	out := &buffer{}
	cmd := exec.Command(program, "-X", "-f", filepath.Join(dir, "apache.conf"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("Apache says: %s\n%s", out.bytes(), log)
		}
	})
	until(t, "Apache is ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("Apache ended: %v", err)
		default:
		}
		resp, err := g.http().Get(site + "/index.html")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return true
	})
	return site
}
