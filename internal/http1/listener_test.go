package http1_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

func (f *front) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if errors.Is(err, syscall.ECONNRESET) { // turned away before we looked
		var far net.Conn
		c, far = net.Pipe()
		err = far.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func (f *front) awaitRefusal(t *testing.T, reason string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		for _, r := range f.refusals() {
			if r.Problem.Reason == reason {
				return
			}
		}
		select {
		case <-f.event:
		case <-timeout:
			t.Fatalf("no refusal %q in %+v", reason, f.refusals())
		}
	}
}

// ended reads c to its end and fails when that is the test's own deadline.
func ended(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatal("the connection was left open")
	}
	return string(b)
}

func TestAHeadThatStallsIsCut(t *testing.T) {
	f := newFront(t, http1.Config{HeadTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour}, nil)
	for name, raw := range map[string]string{
		"the first head":            "GET / HTTP/1.1\r\nHost: a\r\n",
		"a head after a request":    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n",
		"one byte after a request":  "GET / HTTP/1.1\r\nHost: a\r\n\r\nG",
		"nothing at all":            "",
		"four bytes after a body":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET ",
		"a head after a chunked":    chunked("1\r\nx\r\n0\r\n\r\nGET / HT"),
		"half a head of six KB":     "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 6<<10),
		"half a line, no CR in it ": "GET /aaaaaaa",
	} {
		t.Run(name, func(t *testing.T) {
			c := f.dial(t)
			_, _ = io.WriteString(c, raw)
			ended(t, c)
		})
	}
}

func TestABodyThatStallsIsCut(t *testing.T) {
	for name, cfg := range map[string]http1.Config{
		"by silence": {BodyIdle: 50 * time.Millisecond},
		"by pace":    {BodyIdle: 50 * time.Millisecond, MinBodyRate: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, cfg, nil)
			for _, head := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
				c := f.dial(t)
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+head+"\r\n\r\nf4240\r\n")
				if name == "by pace" {
					go func() {
						for { // never silent, never enough
							if _, err := io.WriteString(c, "x"); err != nil {
								return
							}
							timer := time.NewTimer(10 * time.Millisecond)
							<-timer.C
						}
					}()
				}
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 400 || !strings.Contains(string(b), "body_timeout") {
					t.Fatalf("%s: got %d %q", head, resp.StatusCode, b)
				}
			}
		})
	}
}

func TestACallerThatDoesNotReadIsCut(t *testing.T) {
	failed := make(chan error, 1)
	f := newFront(t, http1.Config{WriteIdle: 100 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for {
			if _, err := w.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}))
	_, _ = io.WriteString(f.dial(t), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-failed:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still writes")
	}
}

func TestOneAddressHasItsShareOfConnections(t *testing.T) {
	f := newFront(t, http1.Config{MaxConnsPerAddress: 2}, nil)
	a, b := f.dial(t), f.dial(t)
	for _, c := range []net.Conn{a, b} { // both are in: served before the third comes
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := ended(t, f.dial(t)); got != "" {
		t.Fatalf("the third connection got %q", got)
	}
	f.awaitRefusal(t, "too_many_connections")
	_ = a.Close()
	deadline := time.Now().Add(20 * time.Second)
	for { // the server learns of the close in its own time
		c := f.dial(t)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if strings.HasPrefix(ended(t, c), "HTTP/1.1 200") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection is still counted")
		}
	}
}

func TestAFloodOfConnectionsIsNoFloodOfRecords(t *testing.T) {
	f := newFront(t, http1.Config{MaxConns: 1}, nil)
	c := f.dial(t)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 200 {
		ended(t, f.dial(t))
	}
	seconds := int(time.Since(begun)/time.Second) + 2
	if n := len(f.refusals()); n == 0 || n > 10*seconds {
		t.Errorf("%d records in %d s", n, seconds)
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-release
		_, _ = io.WriteString(w, "finished")
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- f.server.Shutdown(t.Context()) }()
	for { // until the listener is closed
		n, err := net.Dial("tcp", f.addr)
		if err != nil {
			break
		}
		_ = n.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v before the request was answered", err)
	default:
	}
	close(release)
	if got := ended(t, c); !strings.HasSuffix(got, "finished") {
		t.Fatalf("got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestAHijackedConnectionIsNoLongerHTTP(t *testing.T) {
	f := newFront(t, http1.Config{HeadTimeout: 50 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, rw.Reader)
	}))
	for _, early := range []string{"", "\x00\n\n early frame\r\n\r\n"} {
		c := f.dial(t)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+early)
		br := bufio.NewReader(c)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		sent := "\x81\x05hello\n\n\x00 GET / HTTP/9\r\n\r\n"
		_, _ = io.WriteString(c, sent)
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(br); err != nil || string(got) != early+sent {
			t.Fatalf("echoed %q, %v", got, err)
		}
	}
	if n := len(f.refusals()); n != 0 {
		t.Errorf("%d refusals", n)
	}
}

func TestACallerWhoLeavesCancelsTheRequest(t *testing.T) {
	started, left := make(chan struct{}), make(chan struct{})
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(left)
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-started
	_ = c.Close()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still runs")
	}
}

func TestExpectContinueIsAnswered(t *testing.T) {
	f := newFront(t, http1.Config{}, nil)
	c := f.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
	br := bufio.NewReader(c)
	line, err := br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = io.WriteString(c, "hi")
	rest, _ := io.ReadAll(br)
	if !strings.Contains(string(rest), `"hi"`) {
		t.Fatalf("got %q", rest)
	}
}

// A party is a certificate with its key, issued by a CA of the test.
func party(t *testing.T, ca *tls.Certificate, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := tpl, any(key)
	if ca == nil {
		tpl.IsCA = true
		tpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// newTLSFront is a front that demands client certificates, and a client that has one.
func newTLSFront(t *testing.T, cfg http1.Config, h http.Handler) (*front, *tls.Config) {
	t.Helper()
	ca := party(t, nil, "ca")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	f := newFront(t, cfg, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = f.server.Serve(l, &tls.Config{
			Certificates: []tls.Certificate{party(t, &ca, "api.test")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		})
	}()
	t.Cleanup(func() {
		_ = f.server.Close()
		<-served
	})
	return f, &tls.Config{RootCAs: pool, ServerName: "api.test", Certificates: []tls.Certificate{party(t, &ca, "caller.test")}}
}

func TestBothProtocolsShowTheClientCertificate(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			t.Errorf("%s: no verified chain", r.Proto)
			return
		}
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: client.Clone(), ForceAttemptHTTP2: h2}
		want := "HTTP/1.1 caller.test"
		if h2 {
			want = "HTTP/2.0 caller.test"
		}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + f.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
		if string(b) != want {
			t.Errorf("got %q, want %q", b, want)
		}
	}
}

func TestHTTP1InTLSIsChecked(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, nil)
	client.NextProtos = []string{"http/1.1"}
	c := tls.Client(f.dial(t), client)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	if got := statuses(t, ended(t, c)); len(got) != 1 || got[0] != "400" {
		t.Fatalf("got %q", got)
	}
	if r := f.refusals(); len(r) != 1 || !r[0].TLS || r[0].Problem.Reason != "bad_host" {
		t.Fatalf("recorded %+v", r)
	}
}

func TestAHandshakeThatFailsIsCutAndRecorded(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{HandshakeTimeout: 50 * time.Millisecond}, nil)
	t.Run("silence", func(t *testing.T) {
		ended(t, f.dial(t))
		f.awaitRefusal(t, "tls_handshake_failed")
	})
	t.Run("plain HTTP is told so", func(t *testing.T) {
		if got := f.talk(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1<<20); !strings.Contains(got, "speaks HTTPS") {
			t.Fatalf("got %q", got)
		}
	})
	t.Run("no client certificate", func(t *testing.T) {
		bare := client.Clone()
		bare.Certificates = nil
		c := tls.Client(f.dial(t), bare)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

func TestCheckRequestHoldsHTTP2ToTheSameRules(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		want string
	}{
		{"a plain request passes", func(*http.Request) {}, ""},
		{"a host field that repeats the authority passes", func(r *http.Request) { r.Header["Host"] = []string{"a.test"} }, ""},
		{"te: trailers passes", func(r *http.Request) { r.Header["Te"] = []string{"trailers"} }, ""},
		{"a host field of another host is refused", func(r *http.Request) { r.Header["Host"] = []string{"b.test"} }, "host_mismatch"},
		{"an absolute path is refused", func(r *http.Request) { r.RequestURI = "https://a.test/x" }, "host_mismatch"},
		{"an encoded slash is refused", func(r *http.Request) { r.RequestURI = "/a%2Fb" }, "ambiguous_path"},
		{"a dot segment is refused", func(r *http.Request) { r.RequestURI = "/a/../b" }, "ambiguous_path"},
		{"no target is refused", func(r *http.Request) { r.RequestURI = "" }, "bad_target"},
		{"a long target is refused", func(r *http.Request) { r.RequestURI = "/" + strings.Repeat("a", 8<<10) }, "target_too_long"},
		{"CONNECT is refused", func(r *http.Request) { r.Method = "CONNECT" }, "method_unknown"},
		{"no authority is refused", func(r *http.Request) { r.Host = "" }, "bad_host"},
		{"an authority with a user is refused", func(r *http.Request) { r.Host = "a@b" }, "bad_host"},
		{"an underscore is refused", func(r *http.Request) { r.Header["X_A"] = []string{"1"} }, "underscore_header"},
		{"two authorizations are refused", func(r *http.Request) { r.Header["Authorization"] = []string{"a", "b"} }, "duplicate_header"},
		{"a method override is refused", func(r *http.Request) { r.Header["X-Http-Method-Override"] = []string{"PUT"} }, "override_header"},
		{"a connection field is refused", func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} }, "connection_header"},
		{"a Connection that takes a field away is refused", func(r *http.Request) { r.ProtoMajor, r.Header["Connection"] = 1, []string{"close", "x-tenant"} }, "connection_header"},
		{"te: gzip is refused", func(r *http.Request) { r.Header["Te"] = []string{"gzip"} }, "connection_header"},
		{"LF in a value is refused", func(r *http.Request) { r.Header["X"] = []string{"a\r\nb"} }, "bad_header"},
		{"101 fields are refused", func(r *http.Request) { r.Header["X"] = make([]string, 101) }, "too_many_headers"},
		{"an announced trailer is refused", func(r *http.Request) { r.Trailer = http.Header{"X": nil} }, "trailer_refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v1/orders?q=1", nil)
			r.Host, r.ProtoMajor, r.ProtoMinor, r.Proto = "a.test", 2, 0, "HTTP/2.0"
			tt.edit(r)
			err := http1.CheckRequest(r)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if p, ok := errors.AsType[*gatehouse.Problem](err); !ok || p.Reason != tt.want {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// BenchmarkFront is a request on one kept connection: net/http alone, and with
// the checks below it.
func BenchmarkFront(b *testing.B) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	type server interface{ Close() error }
	plain := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	strict := http1.NewServer(http1.Config{}, h)
	for name, s := range map[string]struct {
		server
		serve func(net.Listener) error
	}{
		"net-http": {plain, plain.Serve},
		"strict":   {strict, func(l net.Listener) error { return strict.Serve(l, nil) }},
	} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			go func() { _ = s.serve(l) }()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			request := []byte("GET /v1/orders?limit=50 HTTP/1.1\r\nHost: api.example.com\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n")
			answer := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				if n, err := c.Read(answer); err != nil || n < 100 {
					b.Fatal(n, err)
				}
			}
		})
	}
	_ = plain.Close()
	_ = strict.Close()
}

// A pipes listener yields connections that claim to come from given addresses.
type pipes struct {
	conns chan net.Conn
	fail  chan error
	done  chan struct{}
}

type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case err := <-p.fail:
		return nil, err
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// get says whether a request on a new connection from ip is served; the connection stays open.
func (p *pipes) get(t *testing.T, ip string) bool {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close() })
	p.conns <- from{far, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	_ = near.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return false
	}
	_, err := http.ReadResponse(bufio.NewReader(near), nil)
	return err == nil
}

func TestWhoCountsAsOneAddress(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		both                bool
	}{
		{"an IPv4 address is one", "192.0.2.1", "192.0.2.1", false},
		{"two IPv4 addresses are two", "192.0.2.1", "192.0.2.2", true},
		{"a mapped address is the IPv4 address", "192.0.2.1", "::ffff:192.0.2.1", false},
		{"an IPv6 /64 is one", "2001:db8::1", "2001:db8::2:3:4:5", false},
		{"two IPv6 /64 are two", "2001:db8::1", "2001:db8:0:1::1", true},
		{"a trusted hop is not counted", "10.0.0.1", "10.0.0.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &pipes{conns: make(chan net.Conn), fail: make(chan error, 1), done: make(chan struct{})}
			s := http1.NewServer(http1.Config{
				MaxConnsPerAddress: 1, Trusted: func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") },
			}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			l.fail <- errors.New("accept: too many open files") // passes: the server goes on
			served := make(chan error, 1)
			go func() { served <- s.Serve(l, nil) }()
			if !l.get(t, tt.first) {
				t.Error("the first connection is not served")
			}
			if got := l.get(t, tt.second); got != tt.both {
				t.Errorf("the second connection is served: %v", got)
			}
			_ = s.Close()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}
