package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/pki"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// seen has the service answer with what it got of a request's head.
func seen(w http.ResponseWriter, r *http.Request) {
	_ = r.Header.Write(w)
}

func TestBehindAnEdgeOnlyTheEdgeIsServed(t *testing.T) {
	s := newSite(t, seen)
	s.write("secret", "the first secret of the edge\n")
	s.write("ranges.txt", "127.0.0.0/8\n")
	s.write("gatehouse.yaml", s.config("", "plaintext: The tests speak in the clear",
		`plaintext: The tests speak in the clear, edge: {profile: cloudflare, ranges: ./ranges.txt, secret: {header: X-Origin-Key, value: "${file:secret}"}}`))
	r := s.run(s.path())
	ask := func(header ...string) (int, http.Header, string) { return fetch(t, r.url+"/health", header...) }

	status, h, body := ask("X-Origin-Key", "the first secret of the edge", "CF-Connecting-IP", "203.0.113.7", "CloudFront-Viewer-Address", "1.1.1.1:1")
	if status != 200 || !strings.Contains(body, "X-Forwarded-For: 203.0.113.7\r\n") {
		t.Fatalf("%d %s", status, body)
	}
	for _, hidden := range []string{"secret", "X-Origin-Key", "Cf-Connecting-Ip", "Cloudfront-Viewer-Address"} {
		if strings.Contains(body, hidden) {
			t.Errorf("the service got %s: %s", hidden, body)
		}
	}
	e := must[*gatehouse.Event](t)(server.Explain(t.Context(), s.path(), h.Get("Gatehouse-Decision")))
	if e.Address != "203.0.113.7" {
		t.Errorf("recorded %s", e.Address)
	}
	// From the right place, but not through the edge: not even a path is told apart.
	for _, path := range []string{"/health", "/orders", "/nothing"} {
		status, h, body := fetch(t, r.url+path, "CF-Connecting-IP", "203.0.113.7", "X-Origin-Key", "guess")
		if status != 403 || !strings.Contains(body, `"reason":"not_from_edge"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
		e := must[*gatehouse.Event](t)(server.Explain(t.Context(), s.path(), h.Get("Gatehouse-Decision")))
		if e.Address != "127.0.0.1" || e.Operation != "" || !strings.Contains(e.Cause, "secret") || strings.Contains(e.Cause, "guess") {
			t.Errorf("recorded %+v", e)
		}
	}
	// Ranges and secrets are read again while the listener is open.
	digest := r.health().Config
	s.write("secret", "the second secret of the edge\n")
	s.write("ranges.txt", "127.0.0.1\n# changed\n")
	until(t, "the new ranges", 20*time.Second, func() bool { return r.health().Config != digest })
	if status, _, _ := ask("X-Origin-Key", "the first secret of the edge", "CF-Connecting-IP", "203.0.113.7"); status != 403 {
		t.Errorf("the old secret: %d", status)
	}
	if status, _, body := ask("X-Origin-Key", "the second secret of the edge", "CF-Connecting-IP", "203.0.113.7"); status != 200 {
		t.Errorf("the new secret: %d %s", status, body)
	}
	digest = r.health().Config
	s.write("ranges.txt", "198.51.100.0/24\n")
	until(t, "the other ranges", 20*time.Second, func() bool { return r.health().Config != digest })
	if c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil { // or reset before it was connected
		defer c.Close()
		_, _ = io.WriteString(c, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("from elsewhere: %q, %v", b, err)
		}
	}
	if strings.Contains(r.log.String(), "of the edge") {
		t.Error("the secret was logged")
	}
}

func TestAnEdgeIsKnownByItsCertificate(t *testing.T) {
	s := newSite(t, seen)
	edge := must[*pki.CA](t)(pki.LocalCA(filepath.Join(s.dir, "edge"), []string{"edge.test"}))
	other := must[*pki.CA](t)(pki.LocalCA(filepath.Join(s.dir, "other"), []string{"edge.test"}))
	s.write("ranges.txt", "127.0.0.0/8\n")
	s.write("gatehouse.yaml", s.config("", "plaintext: The tests speak in the clear",
		`edge: {profile: generic, ranges: ./ranges.txt, client_certificate: {ca: "`+edge.TrustPath()+`"}}`))
	r := s.run(s.path())
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(filepath.Join(s.dir, "data", "ca", "ca.pem"))))
	get := func(ca *pki.CA, h2 bool) (int, string, error) {
		conf := &tls.Config{RootCAs: pool, ServerName: "localhost"}
		if ca != nil {
			pair := must[*pki.Pair](t)(ca.IssueClient(pki.ClientRequest{DNS: []string{"edge.test"}}))
			conf.Certificates = []tls.Certificate{must[tls.Certificate](t)(tls.X509KeyPair(pair.Certificate, pair.Key))}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: h2, DisableKeepAlives: true}}
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", r.url+"/health", nil))
		req.Header.Set("X-Forwarded-For", "1.1.1.1, 203.0.113.7")
		res, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res.StatusCode, string(b), err
	}
	if status, body, err := get(nil, false); err == nil {
		t.Errorf("without a certificate: %d %s", status, body)
	}
	if status, body, err := get(other, false); err == nil {
		t.Errorf("with a stranger's: %d %s", status, body)
	}
	for _, h2 := range []bool{false, true} {
		if status, body, err := get(edge, h2); err != nil || status != 200 || !strings.Contains(body, "X-Forwarded-For: 203.0.113.7\r\n") {
			t.Errorf("with the edge's (HTTP/2: %t): %d %s, %v", h2, status, body, err)
		}
	}
}

func TestAProxyAnnouncesCallers(t *testing.T) {
	s := newSite(t, seen)
	s.write("gatehouse.yaml", s.config("", "plaintext: The tests speak in the clear", `plaintext: The tests speak in the clear, proxy_protocol: {from: [127.0.0.1]}`))
	r := s.run(s.path())
	ask := func(from, header string) string {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
		if errors.Is(err, syscall.ECONNRESET) { // turned away before we looked
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, header+"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("left open")
		}
		return string(b)
	}
	const header = "PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n"
	if got := ask("127.0.0.1", header); !strings.Contains(got, "X-Forwarded-For: 203.0.113.7\r\n") {
		t.Errorf("got %q", got)
	}
	if got := ask("127.0.0.1", ""); got != "" {
		t.Errorf("without a header: %q", got)
	}
	if got := ask("127.0.0.2", header); got != "" {
		t.Errorf("from elsewhere: %q", got)
	}
}
