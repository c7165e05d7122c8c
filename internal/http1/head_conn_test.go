package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A front is a Server on a loopback port whose handler says what it read.
type front struct {
	addr    string
	server  *http1.Server
	mu      sync.Mutex
	refused []http1.Refusal
	event   chan struct{} // after each refusal
}

func (f *front) refusals() []http1.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.refused)
}

func newFront(t *testing.T, cfg http1.Config, h http.Handler) *front {
	t.Helper()
	f := &front{event: make(chan struct{}, 1000)}
	cfg.OnRefuse = func(r http1.Refusal) string {
		f.mu.Lock()
		f.refused = append(f.refused, r)
		f.mu.Unlock()
		select {
		case f.event <- struct{}{}:
		default:
		}
		return "d-1"
	}
	if h == nil {
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				p := gatehouse.AsProblem(err)
				http.Error(w, p.Reason, p.Kind.Status())
				return
			}
			fmt.Fprintf(w, "<%s %s %s %q>", r.Method, r.RequestURI, r.Host, body)
		})
	}
	f.server = http1.NewServer(cfg, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l, nil) }()
	t.Cleanup(func() {
		_ = f.server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return f
}

// talk sends raw in pieces of the given size, ends sending, and returns everything that came back.
func (f *front) talk(t *testing.T, raw string, piece int) string {
	t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for b := []byte(raw); len(b) > 0; {
		n := min(piece, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			break // refused before all was sent
		}
		b = b[n:]
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return string(got)
}

// statuses lists the status of each answer in an HTTP/1.1 stream, with the body of those that are 200.
func statuses(t *testing.T, stream string) (out []string) {
	t.Helper()
	br := bufio.NewReader(strings.NewReader(stream))
	for {
		if _, err := br.Peek(1); err != nil {
			return out
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("reading answers %q: %v", stream, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 200 {
			out = append(out, "200 "+string(body))
			continue
		}
		if !resp.Close {
			t.Errorf("answer %d keeps the connection", resp.StatusCode)
		}
		out = append(out, fmt.Sprint(resp.StatusCode))
	}
}

// wires are the cases of research on how three Go front ends differ, and more,
// each with the one verdict here. A want that begins with '<' is served.
var wires = []struct{ name, raw, want string }{
	{"a plain GET is served", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", `<GET / a "">`},
	{"a body with a length is served", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", `<POST /x a "hello">`},
	{"a chunked body is served", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", `<POST / a "hello world">`},
	{"a length without a blank is served", "POST / HTTP/1.1\r\nHost:a\r\nContent-Length:5\r\n\r\nhello", `<POST / a "hello">`},
	{"a GET with a body is framed", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", `<GET / a "hello">`},
	{"HTTP/1.0 with Host is served", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", `<GET / a "">`},
	{"a field that may repeat is served", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n", `<GET / a "">`},
	{"an absolute target of the same host is served", "GET http://A:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n", `<GET http://A:80/x A:80 "">`},
	{"OPTIONS of the server reaches the handler", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", `<OPTIONS * a "">`},
	{"an IPv6 host is served", "GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", `<GET / [::1]:8443 "">`},
	{"a tab inside a value is served", "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", `<GET / a "">`},
	{"brackets in a query are served", "GET /?f[a]=b HTTP/1.1\r\nHost: a\r\n\r\n", `<GET /?f[a]=b a "">`},
	{"encoded UTF-8 in a path is served", "GET /caf%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n", `<GET /caf%C3%A9 a "">`},
	{"headers of 20 KiB are served", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", `<GET / a "">`},
	{"a body of 20 KiB after its head is served", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20480\r\n\r\n" + strings.Repeat("a", 20<<10), `<POST / a "` + strings.Repeat("a", 20<<10) + `">`},

	{"length and chunked are refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 ambiguous_length"},
	{"chunked and length are refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 ambiguous_length"},
	{"two different lengths are refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400 ambiguous_length"},
	{"two equal lengths are refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400 ambiguous_length"},
	{"a list of lengths is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", "400 ambiguous_length"},
	{"a length with a sign is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "400 ambiguous_length"},
	{"a hexadecimal length is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", "400 ambiguous_length"},
	{"a length with an underscore is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\nhello", "400 ambiguous_length"},
	{"an empty length is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400 ambiguous_length"},
	{"a negative length is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", "400 ambiguous_length"},
	{"a length that overflows is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello", "400 ambiguous_length"},
	{"a length with a leading zero is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\nhellohello", "400 ambiguous_length"},
	{"a length before a tab is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\t\r\n\r\nhello", "400 ambiguous_length"},
	{"a blank before the colon is refused", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", "400 bad_header"},
	{"coding xchunked is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501 transfer_coding_unsupported"},
	{"coding 'chunked, identity' is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "501 transfer_coding_unsupported"},
	{"coding identity is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", "501 transfer_coding_unsupported"},
	{"coding 'gzip, chunked' is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 transfer_coding_unsupported"},
	{"coding twice is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 ambiguous_length"},
	{"chunked on HTTP/1.0 is refused", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 ambiguous_length"},
	{"coding after a vertical tab is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400 bad_line_end"},
	{"coding in capitals is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", "501 transfer_coding_unsupported"},
	{"coding after a tab is refused", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", "501 transfer_coding_unsupported"},

	{"chunk size 0x5 is refused", chunked("0x5\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"chunk size +5 is refused", chunked("+5\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a blank after the chunk size is refused", chunked("5 \r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a blank before the chunk size is refused", chunked(" 5\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a chunk extension is refused", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a chunk extension with LF is refused", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a chunk extension with CR is refused", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a chunk size before a bare LF is refused", chunked("5\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"chunk data before a bare LF is refused", chunked("5\r\nhello\n0\r\n\r\n"), "body bad_chunk"},
	{"chunk data with another end is refused", chunked("5\r\nhelloXX0\r\n\r\n"), "body bad_chunk"},
	{"a chunk size that overflows is refused", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"an empty chunk size is refused", chunked("\r\nhello\r\n0\r\n\r\n"), "body bad_chunk"},
	{"a trailer is refused", chunked("5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"), "body trailer_refused"},
	{"an announced trailer is refused", "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 trailer_refused"},
	{"an end of body without its CR is refused", chunked("5\r\nhello\r\n0\r\n\n"), "body bad_chunk"},

	{"a folded header is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400 folded_header"},
	{"bare LF lines are refused", "GET / HTTP/1.1\nHost: a\n\n", "400 bad_line_end"},
	{"one bare LF is refused", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 bad_line_end"},
	{"a bare LF that would end the head early is refused", "GET / HTTP/1.1\r\nHost: a\r\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_line_end"},
	{"NUL in a value is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "400 bad_line_end"},
	{"a bare CR in a value is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400 bad_line_end"},
	{"DEL in a value is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", "400 bad_line_end"},
	{"a blank in a header name is refused", "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", "400 bad_header"},
	{"a header without a colon is refused", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "400 bad_header"},
	{"a first header after a blank is refused", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 folded_header"},
	{"an empty header name is refused", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400 bad_header"},
	{"an underscore in a header name is refused", "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", "400 underscore_header"},
	{"a header name outside ASCII is refused", "GET / HTTP/1.1\r\nHost: a\r\nX\xe9: 5\r\n\r\n", "400 bad_header"},
	{"two Authorization are refused", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", "400 duplicate_header"},
	{"two Content-Type are refused", "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n", "400 duplicate_header"},
	{"two Cookie are refused", "GET / HTTP/1.1\r\nHost: a\r\nCookie: a\r\nCookie: b\r\n\r\n", "400 duplicate_header"},
	{"a Connection of its usual names is served", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, TE,,\tHTTP2-Settings \r\nConnection: close\r\n\r\n", `<GET / a "">`},
	{"a Connection that takes a field from the service is refused", "GET / HTTP/1.1\r\nHost: a\r\nX-Tenant: t1\r\nConnection: keep-alive, X-Tenant\r\n\r\n", "400 connection_header"},
	{"a Connection that takes the Content-Type is refused", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection:Content-Type\r\n\r\n", "400 connection_header"},
	{"a method override is refused", "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", "400 override_header"},
	{"a path override is refused", "GET / HTTP/1.1\r\nHost: a\r\nX-Original-URL: /admin\r\n\r\n", "400 override_header"},
	{"another expectation is refused", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", "400 expectation_unsupported"},

	{"no Host is refused", "GET / HTTP/1.1\r\n\r\n", "400 bad_host"},
	{"no Host on HTTP/1.0 is refused", "GET / HTTP/1.0\r\n\r\n", "400 bad_host"},
	{"two Host are refused", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 bad_host"},
	{"an empty Host is refused", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400 bad_host"},
	{"a Host with a path is refused", "GET / HTTP/1.1\r\nHost: a/evil?x\r\n\r\n", "400 bad_host"},
	{"a Host with a user is refused", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400 bad_host"},
	{"a Host with a list is refused", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "400 bad_host"},
	{"a Host with a trailing dot is refused", "GET / HTTP/1.1\r\nHost: a.\r\n\r\n", "400 bad_host"},
	{"a Host with port 0 is refused", "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", "400 bad_host"},
	{"an absolute target of another host is refused", "GET http://internal/admin HTTP/1.1\r\nHost: a\r\n\r\n", "400 host_mismatch"},
	{"an absolute target without a path is refused", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"an absolute target of another scheme is refused", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},

	{"a lower-case method is refused", "get / HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line|501 method_unknown"},
	{"CONNECT is refused", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501 method_unknown"},
	{"TRACE is refused", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "501 method_unknown"},
	{"a method with a quote is refused", "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"two blanks in the line are refused", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"a tab in the line is refused", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"a blank in the target is refused", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"a target outside ASCII is refused", "GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a fragment is refused", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a fragment in the query is refused", "GET /a?x#b HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a backslash is refused", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a target without a slash is refused", "GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"an asterisk for GET is refused", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a bad escape is refused", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"a bad escape in the query is refused", "GET /?a=%z HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"an encoded NUL in the query is refused", "GET /?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_target"},
	{"dot segments are refused", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a last dot segment is refused", "GET /a/.. HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a single dot segment is refused", "GET /./a HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an empty segment is refused", "GET /a//b HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an empty first segment is refused", "GET //evil/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an encoded slash is refused", "GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an encoded backslash is refused", "GET /a%5Cb HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"encoded dots are refused", "GET /%2e%2e/c HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an encoded NUL is refused", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an encoded LF is refused", "GET /a%0ab HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a path encoded twice is refused", "GET /a%252fb HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an overlong slash is refused", "GET /a%c0%afb HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a cut UTF-8 sequence is refused", "GET /a%e2%82 HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"an encoded surrogate is refused", "GET /%ed%a0%80 HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a path parameter is refused", "GET /admin;x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "400 ambiguous_path"},
	{"a target over 8 KiB is refused", "GET /" + strings.Repeat("a", 8<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", "414 target_too_long"},
	{"a target without end is refused", "GET /" + strings.Repeat("a", 40<<10), "414 target_too_long"},
	{"headers over 32 KiB are refused", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", "431 head_too_large"},
	{"101 headers are refused", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: a\r\n", 100) + "\r\n", "431 too_many_headers"},
	{"HTTP/1.2 is refused", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 version_unsupported"},
	{"HTTP/2.0 as text is refused", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 version_unsupported"},
	{"HTTP/2 with prior knowledge is refused", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "501 method_unknown|505 version_unsupported"},
	{"HTTP/1.1x is refused", "GET / HTTP/1.1x\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"HTTP/0.9 is refused", "GET /\r\n\r\n", "400 bad_request_line"},
	{"an empty line before the request is refused", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 bad_request_line"},
	{"bytes that are not HTTP are refused", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 bad_request_line"},
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestEveryAmbiguousMessageIsRefused(t *testing.T) {
	f := newFront(t, http1.Config{MaxConnsPerAddress: 10_000}, nil)
	for _, tt := range wires {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1 << 20, 1, 7} {
				if piece == 1 && len(tt.raw) > 4<<10 {
					continue
				}
				before := len(f.refusals())
				got := statuses(t, f.talk(t, tt.raw, piece))
				if strings.HasPrefix(tt.want, "<") {
					if want := "200 " + tt.want; len(got) != 1 || got[0] != want {
						t.Fatalf("pieces of %d: got %q, want %q", piece, got, want)
					}
					continue
				}
				if len(got) != 1 {
					t.Fatalf("pieces of %d: got answers %q, want one", piece, got)
				}
				if reason, ok := strings.CutPrefix(tt.want, "body "); ok {
					if got[0] != "400" || !strings.Contains(f.talk(t, tt.raw, piece), reason) {
						t.Fatalf("pieces of %d: got %q, want the handler to read %q", piece, got, reason)
					}
					continue
				}
				refused := f.refusals()[before:]
				if len(refused) != 1 {
					t.Fatalf("pieces of %d: %d refusals recorded, want 1", piece, len(refused))
				}
				p := refused[0].Problem
				if have := got[0] + " " + p.Reason; !slices.Contains(strings.Split(tt.want, "|"), have) || got[0] != fmt.Sprint(p.Kind.Status()) {
					t.Fatalf("pieces of %d: got %q, want %q", piece, have, tt.want)
				}
			}
		})
	}
}

func TestPipelinedRequestsAreServedInOrder(t *testing.T) {
	f := newFront(t, http1.Config{}, nil)
	raw := "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n" +
		"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n"
	want := []string{`200 <GET /1 a "">`, `200 <POST /2 a "abc">`, `200 <POST /3 a "def">`, `200 <GET /4 a "">`}
	for piece := range 64 {
		if got := statuses(t, f.talk(t, raw, piece+1)); !slices.Equal(got, want) {
			t.Fatalf("pieces of %d: got %q", piece+1, got)
		}
	}
	if got := statuses(t, f.talk(t, raw, len(raw))); !slices.Equal(got, want) {
		t.Fatalf("at once: got %q", got)
	}
}

func TestARefusalWaitsForTheAnswerBeforeIt(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{})
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-release
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request before the bad one was cancelled: %v", err)
		}
		_, _ = io.WriteString(w, "first")
	}))
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	<-started
	if n := len(f.refusals()); n != 0 {
		t.Fatalf("%d refusals while the first request is served", n)
	}
	close(release)
	got, _ := io.ReadAll(c)
	if s := statuses(t, string(got)); !slices.Equal(s, []string{"200 first", "400"}) {
		t.Fatalf("got %q", s)
	}
	if !bytes.Contains(got, []byte(`"decision":"d-1"`)) || !bytes.Contains(got, []byte("application/problem+json")) {
		t.Errorf("the answer is no problem document with the decision's id: %q", got)
	}
}

func TestARefusalTellsTheOperatorButNoSecret(t *testing.T) {
	f := newFront(t, http1.Config{}, nil)
	f.talk(t, "GET /a\x1b[31m?access_token=hunter2 HTTP/1.1\r\nHost: a\r\nX_Y: secret\r\n\r\n", 1<<20)
	r := f.refusals()
	if len(r) != 1 || r[0].Line != `GET /a\x1b[31m` || !strings.HasPrefix(r[0].Address, "127.0.0.1:") || r[0].Local != f.addr || r[0].TLS {
		t.Fatalf("got %+v", r)
	}
}
