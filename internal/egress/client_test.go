package egress_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/egress"
)

func newClient(t *testing.T, cfg egress.Config) *egress.Client {
	t.Helper()
	c, err := egress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// secret answers like a service that must not be reached, and fails the test if it is.
func secret(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the inside was reached")
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAddresses(t *testing.T) {
	port := mustURL(t, secret(t).URL).Port()
	c := newClient(t, egress.Config{Dial: 500 * time.Millisecond})
	for _, tt := range []struct{ name, url string }{
		{"loopback is refused", "https://127.0.0.1:PORT/"},
		{"all of 127/8 is refused", "https://127.8.9.10:PORT/"},
		{"loopback by name is refused", "https://localhost:PORT/"},
		{"loopback over http is refused", "http://127.0.0.1:PORT/"},
		{"the unspecified address is refused", "https://0.0.0.0:PORT/"},
		{"this network is refused", "https://0.1.2.3:PORT/"},
		{"the IPv6 unspecified address is refused", "https://[::]:PORT/"},
		{"the IPv6 loopback is refused", "https://[::1]:PORT/"},
		{"an IPv4-mapped loopback is refused", "https://[::ffff:127.0.0.1]:PORT/"},
		{"an IPv4-mapped loopback in hexadecimal is refused", "https://[::ffff:7f00:1]:PORT/"},
		{"an IPv4-compatible loopback is refused", "https://[::127.0.0.1]:PORT/"},
		{"a NAT64 loopback is refused", "https://[64:ff9b::7f00:1]:PORT/"},
		{"a 6to4 loopback is refused", "https://[2002:7f00:1::]:PORT/"},
		{"the metadata service is refused", "https://169.254.169.254/latest/meta-data/"},
		{"the metadata service over http is refused", "http://169.254.169.254/latest/meta-data/"},
		{"the mapped metadata service is refused", "https://[::ffff:a9fe:a9fe]/"},
		{"Amazon's IPv6 metadata service is refused", "https://[fd00:ec2::254]/"},
		{"Alibaba's metadata service is refused", "https://100.100.100.200/"},
		{"Azure's wire server is refused", "https://168.63.129.16/"},
		{"Oracle's metadata service is refused", "https://192.0.0.192/"},
		{"10/8 is refused", "https://10.0.0.1/"},
		{"172.16/12 is refused", "https://172.31.255.255/"},
		{"192.168/16 is refused", "https://192.168.1.1/"},
		{"unique local addresses are refused", "https://[fd12:3456::1]/"},
		{"link-local IPv6 is refused", "https://[fe80::1]/"},
		{"link-local IPv6 with a zone is refused", "https://[fe80::1%25lo]/"},
		{"multicast is refused", "https://224.0.0.1/"},
		{"IPv6 multicast is refused", "https://[ff02::1]/"},
		{"broadcast is refused", "https://255.255.255.255/"},
		{"reserved addresses are refused", "https://240.0.0.1/"},
		{"http to a public address is refused", "http://192.31.196.1/"},
		{"user information is refused", "https://login.example.com@127.0.0.1:PORT/"},
		{"a password is refused", "https://a:b@login.example.com/"},
		{"a file is refused", "file:///etc/passwd"},
		{"gopher is refused", "gopher://127.0.0.1:PORT/"},
		{"a scheme in capitals is a scheme", "FILE:///etc/passwd"},
		{"a relative URL is refused", "/etc/passwd"},
		{"no host is refused", "https:///path"},
		{"an opaque URL is refused", "https:127.0.0.1"},
		{"no URL at all is refused", "https://[::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := c.Fetch(t.Context(), strings.ReplaceAll(tt.url, "PORT", port))
			if !errors.Is(err, egress.ErrRefused) {
				t.Fatalf("error %v, want one that is ErrRefused", err)
			}
		})
	}
}

func TestSpellingsOfLoopback(t *testing.T) {
	port := mustURL(t, secret(t).URL).Port()
	c := newClient(t, egress.Config{Dial: 500 * time.Millisecond, Total: time.Second})
	// Whether these resolve at all is the resolver's matter; that they lead nowhere is ours.
	for _, host := range []string{"2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "127.0.0.1.", "localhost."} {
		t.Run(host+" leads nowhere", func(t *testing.T) {
			if _, _, err := c.Fetch(t.Context(), "https://"+net.JoinHostPort(host, port)+"/"); err == nil {
				t.Fatal("fetched")
			}
		})
	}
}

func TestAllow(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprint(w, r.Header.Get("Cookie")+"body")
	}))
	defer s.Close()
	port := mustURL(t, s.URL).Port()
	for _, tt := range []struct {
		name, allow, host string
		ok                bool
	}{
		{"an address with its port is allowed", "127.0.0.1:" + port, "127.0.0.1", true},
		{"an address with another port is not", "127.0.0.1:1", "127.0.0.1", false},
		{"an address without port allows every port", "127.0.0.1", "127.0.0.1", true},
		{"a network is allowed", "127.0.0.0/8", "127.0.0.1", true},
		{"another network is not", "10.0.0.0/8", "127.0.0.1", false},
		{"a name allows its loopback address", "localhost:" + port, "localhost", true},
		{"a name in capitals is the same name", "LOCALHOST", "localhost", true},
		{"a name does not allow the address as such", "localhost", "127.0.0.1", false},
		{"an address does not allow the name", "127.0.0.1", "localhost", false},
		{"a mapped address is the address", "127.0.0.1", "[::ffff:127.0.0.1]", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, egress.Config{Allow: []string{tt.allow}})
			body, h, err := c.Fetch(t.Context(), "http://"+tt.host+":"+port+"/x")
			if tt.ok && (err != nil || string(body) != "body" || h.Get("Cache-Control") != "max-age=60") {
				t.Fatalf("got %q, %v", body, err)
			}
			if !tt.ok && !errors.Is(err, egress.ErrRefused) {
				t.Fatalf("error %v, want one that is ErrRefused", err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, allow := range []string{"", "a b", "https://host/", "host:0", "host:99999", "host:x", "10.0.0.0/33", "2130706433", "user@host", "*", "*.example.com"} {
		t.Run(fmt.Sprintf("%q is refused", allow), func(t *testing.T) {
			if _, err := egress.New(egress.Config{Allow: []string{allow}}); err == nil {
				t.Fatal("accepted")
			}
		})
	}
	if _, err := egress.New(egress.Config{Total: -1}); err == nil {
		t.Fatal("a negative limit is accepted")
	}
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"https://Login.Example.com/realms/a", "login.example.com:443"},
		{"http://127.0.0.1/", "127.0.0.1:80"},
		{"https://[::1]:8443/", "[::1]:8443"},
		{"https://user@host/", ""},
		{"ftp://host/", ""},
		{"host", ""},
	} {
		got, err := egress.Origin(tt.url)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Origin(%q) = %q, %v; want %q", tt.url, got, err, tt.want)
		}
		if err == nil {
			newClient(t, egress.Config{Allow: []string{got}})
		}
	}
}

func TestRedirects(t *testing.T) {
	inside := secret(t)
	for _, to := range []string{inside.URL, "http://169.254.169.254/", "/same-origin", "file:///etc/passwd"} {
		t.Run("a redirect to "+to+" is refused", func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, to, http.StatusFound)
			}))
			defer s.Close()
			c := newClient(t, egress.Config{Allow: []string{"127.0.0.0/8"}})
			if _, _, err := c.Fetch(t.Context(), s.URL); !errors.Is(err, egress.ErrRefused) {
				t.Fatalf("error %v, want one that is ErrRefused", err)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	stop := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/exact", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1000)) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1001)) })
	mux.HandleFunc("/missing", http.NotFound)
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = w.Write([]byte("123"))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("["))
		w.(http.Flusher).Flush()
		<-stop
	})
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) { <-stop })
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(stop)
	c := newClient(t, egress.Config{Allow: []string{"127.0.0.1"}, MaxBody: 1000, Total: 200 * time.Millisecond})

	if body, _, err := c.Fetch(t.Context(), s.URL+"/exact"); err != nil || len(body) != 1000 {
		t.Errorf("an answer of exactly the limit: %d bytes, %v", len(body), err)
	}
	for _, path := range []string{"/large", "/missing", "/empty", "/cut", "/slow", "/silent"} {
		t.Run(path[1:]+" is an error", func(t *testing.T) {
			body, _, err := c.Fetch(t.Context(), s.URL+path+"?key=hunter2")
			if err == nil || body != nil {
				t.Fatalf("got %d bytes", len(body))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("the error quotes the query: %v", err)
			}
		})
	}
	t.Run("the caller's deadline counts", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := c.Fetch(ctx, s.URL+"/exact"); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
	})
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	allow := []string{"127.0.0.1"}

	if body, _, err := newClient(t, egress.Config{Allow: allow, Roots: roots}).Fetch(t.Context(), s.URL); err != nil || string(body) != "ok" {
		t.Errorf("a trusted server: %q, %v", body, err)
	}
	if _, _, err := newClient(t, egress.Config{Allow: allow}).Fetch(t.Context(), s.URL); err == nil {
		t.Error("a server with an unknown certificate is trusted")
	}
	if _, _, err := newClient(t, egress.Config{Allow: []string{"localhost"}, Roots: roots}).Fetch(t.Context(), strings.Replace(s.URL, "127.0.0.1", "localhost", 1)); err == nil {
		t.Error("a certificate for another name is trusted")
	}
}

func TestHTTPHoldsTheSameRules(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/large":
			_, _ = w.Write(make([]byte, 1001))
		default:
			_, _ = w.Write(make([]byte, 1000))
		}
	}))
	defer s.Close()
	closed := newClient(t, egress.Config{}).HTTP()
	open := newClient(t, egress.Config{Allow: []string{"127.0.0.1"}, MaxBody: 1000}).HTTP()
	get := func(c *http.Client, url string) (int, error) {
		res, err := c.Post(url, "text/plain", strings.NewReader("x"))
		if err != nil {
			return 0, err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		return len(body), err
	}
	if n, err := get(open, s.URL); n != 1000 || err != nil {
		t.Errorf("an answer of exactly the limit: %d bytes, %v", n, err)
	}
	if _, err := get(open, s.URL+"/large"); err == nil {
		t.Error("an answer over the limit is given whole")
	}
	for name, err := range map[string]error{
		"a loopback address that is not allowed": func() error { _, err := get(closed, s.URL); return err }(),
		"a redirect":                             func() error { _, err := get(open, s.URL+"/elsewhere"); return err }(),
		"user information":                       func() error { _, err := get(open, strings.Replace(s.URL, "://", "://user@", 1)); return err }(),
		"another scheme":                         func() error { _, err := get(open, "file:///etc/passwd"); return err }(),
		"plain http to somewhere public":         func() error { _, err := get(open, "http://8.8.8.8/"); return err }(),
	} {
		if !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s: error %v, want one that is ErrRefused", name, err)
		}
	}
	open.CheckRedirect, open.Transport = nil, nil
	if _, err := get(newClient(t, egress.Config{}).HTTP(), s.URL); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("a client changed by whom it was given to changes others: %v", err)
	}
}

func TestProxiesAreOff(t *testing.T) {
	t.Setenv("HTTP_PROXY", secret(t).URL)
	t.Setenv("HTTPS_PROXY", secret(t).URL)
	c := newClient(t, egress.Config{})
	if _, _, err := c.Fetch(t.Context(), "https://10.0.0.1/"); !errors.Is(err, egress.ErrRefused) {
		t.Fatalf("error %v, want one that is ErrRefused", err)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
