package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/pki"
)

func TestTheLocalCAIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first := must[*pki.CA](t)(pki.LocalCA(dir, nil))
	if err := os.Remove(first.TrustPath()); err != nil { // it is only a copy
		t.Fatal(err)
	}
	second := must[*pki.CA](t)(pki.LocalCA(dir, []string{"ignored.example.org"}))
	if !first.Pool().Equal(second.Pool()) {
		t.Error("the second start made another CA")
	}
	for name, mode := range map[string]os.FileMode{"": 0o700, "local-ca.pem": 0o600, "ca.pem": 0o644} {
		if got := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, name))).Mode().Perm(); got != mode {
			t.Errorf("mode of %q is %o, want %o", name, got, mode)
		}
	}
	if n := len(must[[]os.DirEntry](t)(os.ReadDir(dir))); n != 2 {
		t.Errorf("%d files in the folder, want 2", n)
	}
	if strings.Contains(string(must[[]byte](t)(os.ReadFile(second.TrustPath()))), "PRIVATE") {
		t.Error("the file to hand out holds the key")
	}
}

func TestProcessesThatStartTogetherAgreeOnOneCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	pools := make([]*x509.CertPool, 8)
	var wg sync.WaitGroup
	for i := range pools {
		wg.Go(func() {
			ca, err := pki.LocalCA(dir, nil)
			if err != nil {
				t.Error(err)
				return
			}
			pools[i] = ca.Pool()
		})
	}
	wg.Wait()
	for _, p := range pools {
		if p == nil || !p.Equal(pools[0]) {
			t.Fatal("two CAs were made")
		}
	}
}

func TestLocalCARefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(path string) error
		wants  string
	}{
		"a broken file":                {func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }, "delete it to have a new CA"},
		"a file others can read":       {func(p string) error { return os.Chmod(p, 0o640) }, "may be read by others"},
		"half a file":                  {func(p string) error { return os.Truncate(p, 100) }, "delete it to have a new CA"},
		"a leaf in place of the CA":    {func(p string) error { return leafFile(t, p) }, "not a CA made by Gatehouse"},
		"a folder in place of the key": {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "directory"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			dir := t.TempDir()
			must[*pki.CA](t)(pki.LocalCA(dir, nil))
			if err := c.change(filepath.Join(dir, "local-ca.pem")); err != nil {
				t.Fatal(err)
			}
			if _, err := pki.LocalCA(dir, nil); err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("error %v, want one about %q", err, c.wants)
			}
		})
	}
	if _, err := pki.LocalCA(t.TempDir(), []string{"not a name"}); err == nil {
		t.Error("a CA for a name that is none was made")
	}
}

func leafFile(t *testing.T, path string) error {
	return must[*pki.Pair](t)(localCA(t).IssueClient(pki.ClientRequest{CommonName: "x"})).Save(path)
}

func TestTheLocalCASignsOnlyForPrivateAndItsOwnNames(t *testing.T) {
	ca := must[*pki.CA](t)(pki.LocalCA(t.TempDir(), []string{"api.example.org", "203.0.113.7", "2001:db8::7"}))
	for name, ok := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "orders.internal": true, "printer.local": true, "127.0.0.1": true, "::1": true, "192.168.7.7": true,
		"api.example.org": true, "v1.api.example.org": true, "*.api.example.org": true, "203.0.113.7": true, "2001:db8::7": true,
		"example.org": false, "bank.example.com": false, "localhost.example.com": false, "8.8.8.8": false, "203.0.113.8": false, "2001:db8::8": false,
		"": false, "*": false, "a..b": false, "-a.internal": false, "a b.internal": false, "*.*.internal": false, "a_b.internal": false,
	} {
		if _, err := ca.Server([]string{name}); (err == nil) != ok {
			t.Errorf("%q: error %v, want success %v", name, err, ok)
		}
	}
	if _, err := ca.Server(nil); err == nil {
		t.Error("a certificate for nobody was made")
	}
}

// A stolen CA key signs whatever it likes; what protects is that clients obey the constraint.
func TestClientsObeyTheConstraint(t *testing.T) {
	ca := localCA(t)
	pair := must[tls.Certificate](t)(tls.LoadX509KeyPair(filepath.Join(filepath.Dir(ca.TrustPath()), "local-ca.pem"), filepath.Join(filepath.Dir(ca.TrustPath()), "local-ca.pem")))
	if !pair.Leaf.PermittedDNSDomainsCritical || len(pair.Leaf.PermittedDNSDomains) == 0 || len(pair.Leaf.PermittedIPRanges) == 0 || !pair.Leaf.MaxPathLenZero {
		t.Errorf("constraints are %v %v %v", pair.Leaf.PermittedDNSDomainsCritical, pair.Leaf.PermittedDNSDomains, pair.Leaf.PermittedIPRanges)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < 9*365*24*time.Hour {
		t.Errorf("it lasts only %v", left)
	}
}

func TestIssueClient(t *testing.T) {
	ca := localCA(t)
	for name, c := range map[string]struct {
		req pki.ClientRequest
		ok  bool
	}{
		"a SPIFFE id is accepted":              {pki.ClientRequest{URIs: []string{"spiffe://example/billing"}}, true},
		"an e-mail address is accepted":        {pki.ClientRequest{Emails: []string{"ann@example.org"}}, true},
		"a private host name is accepted":      {pki.ClientRequest{DNS: []string{"billing.internal"}}, true},
		"a public host name is refused":        {pki.ClientRequest{DNS: []string{"billing.example.org"}}, false},
		"a common name is accepted":            {pki.ClientRequest{CommonName: "billing"}, true},
		"no name is refused":                   {pki.ClientRequest{}, false},
		"a URI without a scheme is refused":    {pki.ClientRequest{URIs: []string{"billing"}}, false},
		"a URI that is not one is refused":     {pki.ClientRequest{URIs: []string{"spiffe://exa mple/%zz"}}, false},
		"an empty URI is refused":              {pki.ClientRequest{URIs: []string{""}}, false},
		"a life longer than the CA's is cut":   {pki.ClientRequest{CommonName: "x", Life: 1 << 62}, true},
		"a negative life becomes the usual 24": {pki.ClientRequest{CommonName: "x", Life: -1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ca.IssueClient(c.req)
			if (err == nil) != c.ok {
				t.Fatalf("error %v, want success %v", err, c.ok)
			}
			if err != nil {
				return
			}
			leaf := must[tls.Certificate](t)(tls.X509KeyPair(p.Certificate, p.Key)).Leaf
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
				t.Error("a client certificate would do for a server")
			}
		})
	}
}

func TestTheServerCertificateIsRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := localCA(t)
		s := must[*pki.Self](t)(ca.Server([]string{"localhost"}))
		first := serial(t, s)
		time.Sleep(19 * 24 * time.Hour)
		if serial(t, s) != first {
			t.Error("renewed on day 19 of 30")
		}
		time.Sleep(2 * 24 * time.Hour)
		var wg sync.WaitGroup
		serials := make([]string, 4)
		for i := range serials {
			wg.Go(func() { serials[i] = serial(t, s) })
		}
		wg.Wait()
		for _, n := range serials {
			if n == first || n != serials[0] {
				t.Errorf("on day 21 serials are %v, want one new", serials)
			}
		}
		leaf := must[*tls.Certificate](t)(s.GetCertificate(&tls.ClientHelloInfo{})).Leaf
		if left := time.Until(leaf.NotAfter); left < 29*24*time.Hour {
			t.Errorf("the new one lasts %v", left)
		}
		time.Sleep(10 * 365 * 24 * time.Hour)
		if _, err := s.GetCertificate(&tls.ClientHelloInfo{}); err == nil {
			t.Error("an expired CA still signs")
		}
		if _, err := pki.LocalCA(filepath.Dir(ca.TrustPath()), nil); err == nil {
			t.Error("an expired CA was loaded")
		}
	})
}

func TestFilesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		files := must[*pki.Files](t)(pki.LoadFiles(pair(t, dir, nil, nothing)))
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var reports []error
		done := make(chan struct{})
		go func() {
			defer close(done)
			files.Run(ctx, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, err)
			})
		}()
		tick := func(want int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(reports) != want {
				t.Fatalf("%d reports, want %d: %v", len(reports), want, reports)
			}
		}
		first := serial(t, files)
		tick(0)
		write(t, filepath.Join(dir, "cert.pem"), []byte("half a renew"))
		tick(1)
		tick(1) // told once
		if serial(t, files) != first {
			t.Error("a broken file replaced the certificate")
		}
		pair(t, dir, nil, nothing)
		tick(2)
		if serial(t, files) == first {
			t.Error("the renewed certificate is not shown")
		}
		if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
			t.Fatal(err)
		}
		tick(3)
		stop()
		<-done
		if reports[0] == nil || reports[1] != nil || reports[2] == nil {
			t.Errorf("reports are %v, want a failure, a success, a failure", reports)
		}
	})
}

func TestTrustLineIsSafeToPaste(t *testing.T) {
	ca := must[*pki.CA](t)(pki.LocalCA(filepath.Join(t.TempDir(), "o'brien & co"), nil))
	line := ca.TrustLine("https://localhost:8443/orders?limit=1")
	out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, "curl", "printf '%s\n'", 1)).Output()
	if want := "--cacert\n" + ca.TrustPath() + "\nhttps://localhost:8443/orders?limit=1\n"; err != nil || string(out) != want {
		t.Errorf("the shell reads %q (%v), want %q", out, err, want)
	}
}

// OpenSSL has its own reading of name constraints; what is printed must work there too.
func TestTheTrustLineWorks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl here")
	}
	ca := localCA(t)
	source := must[*pki.Self](t)(ca.Server([]string{"localhost", "127.0.0.1"}))
	client := filepath.Join(t.TempDir(), "client.pem")
	if err := must[*pki.Pair](t)(ca.IssueClient(pki.ClientRequest{URIs: []string{"spiffe://example/billing"}})).Save(client); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.VerifiedChains[0][0].URIs[0])
	})}
	l := must[net.Listener](t)(tls.Listen("tcp", "127.0.0.1:0", config(t, source, pki.Clients{Mode: pki.ClientsRequired, Pool: ca.Pool()})))
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"localhost", "127.0.0.1"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", ca.TrustLine("https://"+host+":"+port+"/")+" -sS --noproxy '*' --cert "+client).CombinedOutput()
		if err != nil || string(out) != "spiffe://example/billing" {
			t.Errorf("%s: %v: %s", host, err, out)
		}
	}
}

func TestSavedPairIsForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.pem")
	if err := leafFile(t, path); err != nil {
		t.Fatal(err)
	}
	must[tls.Certificate](t)(tls.LoadX509KeyPair(path, path))
	if mode := must[os.FileInfo](t)(os.Stat(path)).Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
}
