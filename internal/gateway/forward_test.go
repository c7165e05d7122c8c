package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

// minter gives a token that says what it was asked for.
type minter struct{ err error }

func (m minter) Mint(who *gatehouse.Principal, audience string) (string, error) {
	return "internal." + who.Subject + "." + audience, m.err
}

// front is a gateway reduced to its last step: what Forward leaves to its caller
// it does as gateway's close will.
type front struct {
	t    testing.TB
	u    *gateway.Upstreams
	edit func(*gateway.Outbound)
	own  bool // our own listener is in front

	mu   sync.Mutex
	last gateway.Result
	err  error
	done chan struct{} // one element for each request that ended
}

func newFront(t testing.TB, cfg gateway.UpstreamConfig, edit func(*gateway.Outbound)) *front {
	t.Helper()
	u, err := gateway.NewUpstreams(cfg, minter{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Release)
	return &front{t: t, u: u, edit: edit, done: make(chan struct{}, 10000)}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &gateway.Outbound{
		Request: r, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Audience: "orders", Decision: "d1",
		ClientAddr: netip.MustParseAddrPort(r.RemoteAddr).Addr(), Proto: "http", Host: r.Host,
	}
	if r.Body != http.NoBody {
		x.Stream, x.Length = r.Body, r.ContentLength
	}
	if f.edit != nil {
		f.edit(x)
	}
	res, err := f.u.Forward(w, x)
	f.mu.Lock()
	f.last, f.err = res, err
	f.mu.Unlock()
	defer func() { f.done <- struct{}{} }()
	if err == nil {
		return
	}
	if res.Committed {
		panic(http.ErrAbortHandler)
	}
	p := gatehouse.AsProblem(err)
	w.Header().Set("Problem", p.Reason)
	w.WriteHeader(p.Kind.Status())
}

// result waits for the next request to end.
func (f *front) result() (gateway.Result, error) {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(10 * time.Second):
		f.t.Fatal("the request did not end")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.err
}

func (f *front) start() *httptest.Server {
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = nil
	s.Start()
	f.t.Cleanup(s.Close)
	return s
}

// rawUpstream answers each request by script, which gets the request's head and
// the connection.
func rawUpstream(t testing.TB, script func(n int, head string, br *bufio.Reader, c net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	open := map[net.Conn]bool{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range maps.Keys(open) {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					var head strings.Builder
					for {
						line, err := br.ReadString('\n')
						if err != nil {
							return
						}
						head.WriteString(line)
						if line == "\r\n" {
							break
						}
					}
					mu.Lock()
					n++
					now := n
					mu.Unlock()
					script(now, head.String(), br, c)
				}
			})
		}
	})
	return "http://" + l.Addr().String()
}

func say(s string) func(int, string, *bufio.Reader, net.Conn) {
	return func(_ int, _ string, _ *bufio.Reader, c net.Conn) { _, _ = io.WriteString(c, s) }
}

func sayAndClose(s string) func(int, string, *bufio.Reader, net.Conn) {
	return func(_ int, _ string, _ *bufio.Reader, c net.Conn) {
		_, _ = io.WriteString(c, s)
		_ = c.Close()
	}
}

func get(t testing.TB, url string) (status int, h http.Header, body string, err error) {
	t.Helper()
	return do(t, http.MethodGet, url, nil)
}

func do(t testing.TB, method, url string, body io.Reader) (status int, h http.Header, got string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	res, err := tr.RoundTrip(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(b), err
}

func none(urls ...string) gateway.UpstreamConfig {
	return gateway.UpstreamConfig{URLs: urls, Token: gateway.TokenNone, Connect: time.Minute} // a busy machine is late
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	for _, c := range []struct {
		name, says string
		close      bool
		method     string
		status     int
		body       string
		cut        bool // the caller must not hold it for whole
		problem    string
	}{
		{name: "a body of known length", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello"},
		{name: "an empty body", says: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		{name: "no reason phrase and no space before it", says: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "a chunked body", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n", status: 200, body: "hello0123456789"},
		{name: "a body until close", says: "HTTP/1.1 200 OK\r\n\r\nhello", close: true, status: 200, body: "hello"},
		{name: "HTTP/1.0", says: "HTTP/1.0 200 OK\r\n\r\nhello", close: true, status: 200, body: "hello"},
		{name: "a long body", says: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), status: 200, body: long},
		{name: "a long chunk", says: fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(long), long), status: 200, body: long},
		{name: "204", says: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "204 that says it has no body", says: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: 204},
		{name: "304 with the length of what it stands for", says: "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", status: 304},
		{name: "HEAD", method: "HEAD", says: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", status: 200},
		{name: "an interim answer first", says: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},

		{name: "both framings are refused", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", problem: "upstream_failed"},
		{name: "two lengths are refused", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", problem: "upstream_failed"},
		{name: "two equal lengths are refused", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", problem: "upstream_failed"},
		{name: "a list of lengths is refused", says: "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", problem: "upstream_failed"},
		{name: "a signed length is refused", says: "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", problem: "upstream_failed"},
		{name: "an unknown coding is refused", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", problem: "upstream_failed"},
		{name: "the coding twice is refused", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", problem: "upstream_failed"},
		{name: "chunks in HTTP/1.0 are refused", says: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", problem: "upstream_failed"},
		{name: "a folded line is refused", says: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "bare line feeds are refused", says: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", problem: "upstream_failed"},
		{name: "one bare line feed is refused", says: "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "a bare CR is refused", says: "HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "NUL is refused", says: "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "a blank before the colon is refused", says: "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", problem: "upstream_failed"},
		{name: "a line without colon is refused", says: "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", problem: "upstream_failed"},
		{name: "an empty name is refused", says: "HTTP/1.1 200 OK\r\n: x\r\n\r\n", problem: "upstream_failed"},
		{name: "an empty line first is refused", says: "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "HTTP/2.0 is refused", says: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "HTTP/1.2 is refused", says: "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "a status of four digits is refused", says: "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "a status out of range is refused", says: "HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n", problem: "upstream_failed"},
		{name: "204 with a body is refused", says: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", problem: "upstream_failed"},
		{name: "101 nobody asked for is refused", says: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", problem: "upstream_failed"},
		{name: "endless interim answers are refused", says: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), problem: "upstream_failed"},
		{name: "a head too long is refused", says: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", problem: "upstream_failed"},
		{name: "too many fields are refused", says: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: a\r\n", 300) + "\r\n", problem: "upstream_failed"},
		{name: "another protocol is refused", says: "SSH-2.0-OpenSSH_9.2\r\n\r\n", problem: "upstream_failed"},
		{name: "silence and close", says: "", close: true, problem: "upstream_failed"},
		{name: "half a head", says: "HTTP/1.1 200 OK\r\nContent-Le", close: true, problem: "upstream_failed"},

		{name: "a short body that breaks off is told", says: "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", close: true, problem: "upstream_failed"},
		{name: "a long body that breaks off is cut", says: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long)+1, long), close: true, cut: true},
		{name: "chunks that break off are cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close: true, cut: true},
		{name: "a chunk that breaks off is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello", close: true, cut: true},
		{name: "the last chunk without its end is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", close: true, cut: true},
		{name: "a chunk size with sign is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a chunk size with 0x is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a chunk size with blanks is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a chunk size that overflows is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a chunk size with a bare line feed is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a control byte in an extension is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;\x01\r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a chunk longer than it says is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", cut: true},
		{name: "an endless extension is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", 1000) + "\r\nhello\r\n0\r\n\r\n", cut: true},
		{name: "a malformed trailer is cut", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno colon\r\n\r\n", cut: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			script := say(c.says)
			if c.close {
				script = sayAndClose(c.says)
			}
			f := newFront(t, none(rawUpstream(t, script)), nil)
			status, h, body, err := do(t, max(c.method, "GET"), f.start().URL+"/x", nil)
			res, ferr := f.result()
			switch {
			case c.cut:
				if err == nil {
					t.Fatalf("the caller took half an answer for whole: %d %q", status, body)
				}
				if !res.Committed || ferr == nil {
					t.Fatalf("result %+v, %v", res, ferr)
				}
			case c.problem != "":
				if err != nil || status != 502 || h.Get("Problem") != c.problem || res.Committed {
					t.Fatalf("got %d %v %v, %+v", status, h, err, res)
				}
			default:
				if err != nil || status != c.status || body != c.body {
					t.Fatalf("got %d %.40q, %v (%v)", status, body, err, ferr)
				}
				if h.Get("Transfer-Encoding") != "" {
					t.Fatal("framing of the service passed on")
				}
			}
		})
	}
}

func TestNothingIsForwardedWithoutTheToken(t *testing.T) {
	var asked bool
	url := rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) { asked = true; _ = c.Close() })
	u, err := gateway.NewUpstreams(gateway.UpstreamConfig{URLs: []string{url}}, minter{errors.New("no key")})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Release()
	w := httptest.NewRecorder()
	res, err := u.Forward(w, &gateway.Outbound{
		Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), Path: "/",
		Principal: &gatehouse.Principal{Subject: "alice", Method: gatehouse.MethodJWT},
	})
	if p := gatehouse.AsProblem(err); p == nil || p.Reason != "internal_token_failed" || p.Kind.Status() != 503 || res.Committed || asked {
		t.Fatalf("got %v, %+v, asked %v", err, res, asked)
	}
}
