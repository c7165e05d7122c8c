package http1_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// disagreements are requests that three Go front ends were measured to read in
// different ways: net/http 1.26.8, fasthttp 1.77.0 and hertz 0.10.4. What two
// servers read differently is what one hides from the other, so that each has one
// answer here: a refusal, unless all who take it read the same.
var disagreements = []struct {
	name string // a sentence that is true of us
	raw  string
	who  string // takes it, and how
	want string // status and reason; "served" only where nobody reads it otherwise
}{
	{
		"a length beside chunks is refused, where two read a second request behind the body",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smug HTTP/1.1\r\nHost: a\r\n\r\n",
		"net/http and hertz serve /smug, fasthttp does not", "400 ambiguous_length",
	},
	{
		"two different lengths are refused, where one takes the first",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"hertz reads hello", "400 ambiguous_length",
	},
	{
		"two equal lengths are refused, where two take them for one",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"net/http and hertz read hello, fasthttp refuses", "400 ambiguous_length",
	},
	{
		"the coding xchunked is refused, where one reads no body",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"hertz serves it without a body", "501 transfer_coding_unsupported",
	},
	{
		"the coding 'chunked, identity' is refused, where one reads no body",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"hertz serves it without a body", "501 transfer_coding_unsupported",
	},
	{
		"the coding identity is refused, where two go by the length beside it",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
		"fasthttp and hertz read hello", "501 transfer_coding_unsupported",
	},
	{
		"the coding 'gzip, chunked' is refused, where one reads no body",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"hertz serves it without a body", "501 transfer_coding_unsupported",
	},
	{
		"two codings are refused, where one reads no body",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"hertz serves it", "400 ambiguous_length",
	},
	{
		"chunks in HTTP/1.0 are refused, where one reads chunks and one the bytes behind",
		"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"net/http reads no body, hertz hello, fasthttp refuses", "400 ambiguous_length",
	},
	{
		"the coding in capitals is refused, though all three take it for chunked",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
		"all three, and servers in other languages do not", "501 transfer_coding_unsupported",
	},
	{
		"a chunk's size with 0x is refused, in the body where net/http stops halfway",
		chunked("0x5\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a chunk's size with a sign is refused, in the body where net/http stops halfway",
		chunked("+5\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a chunk's size between blanks is refused, though all three read it",
		chunked(" 5 \r\nhello\r\n0\r\n\r\n"), "all three, and servers in other languages do not", "body bad_chunk",
	},
	{
		"a chunk's extension is refused, where one refuses it too",
		chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), "net/http and fasthttp read hello, hertz refuses", "body bad_chunk",
	},
	{
		"a chunk's extension with LF is refused before another reader ends the line there",
		chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a chunk's extension with CR is refused before another reader ends the line there",
		chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a chunk's size that ends in LF alone is refused",
		chunked("5\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"chunk data that ends in LF alone is refused",
		chunked("5\r\nhello\n0\r\n\r\n"), "net/http gives hello to the handler first", "body bad_chunk",
	},
	{
		"chunk data that goes on behind its size is refused",
		chunked("5\r\nhelloXX0\r\n\r\n"), "net/http gives hello to the handler first", "body bad_chunk",
	},
	{
		"a chunk's size that overflows is refused",
		chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a chunk without a size is refused",
		chunked("\r\nhello\r\n0\r\n\r\n"), "net/http runs the handler, which finds out", "body bad_chunk",
	},
	{
		"a trailer is refused, where one takes even a Content-Length there",
		chunked("0\r\nContent-Length: 5\r\n\r\n"), "net/http serves it, fasthttp and hertz refuse", "body trailer_refused",
	},
	{
		"a header on two lines is refused, though all three join them",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "all three; others see two fields", "400 folded_header",
	},
	{
		"lines that end in LF alone are refused, where two take them and one hangs up",
		"GET / HTTP/1.1\nHost: a\n\n", "net/http and hertz serve it, fasthttp says nothing", "400 bad_line_end",
	},
	{
		"a blank in a header's name is refused, where one keeps it",
		"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", "fasthttp serves it", "400 bad_header",
	},
	{
		"a header without a colon is refused and told so, where one hangs up",
		"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "hertz says nothing", "400 bad_header",
	},
	{
		"a header without a name is refused, where one takes it",
		"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "hertz serves it", "400 bad_header",
	},
	{
		"two hosts are refused, where one goes by the second",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "hertz serves b", "400 bad_host",
	},
	{
		"a host with a path is refused, where one takes it for a host",
		"GET / HTTP/1.1\r\nHost: a/evil?x\r\n\r\n", "hertz serves a/evil?x", "400 bad_host",
	},
	{
		"a target of another host is refused, though all three follow it",
		"GET http://internal/admin HTTP/1.1\r\nHost: a\r\n\r\n", "all three serve internal; a filter that reads Host sees a", "400 host_mismatch",
	},
	{
		"a method in small letters is refused, though all three take it",
		"get / HTTP/1.1\r\nHost: a\r\n\r\n", "all three; frameworks behind make it GET", "400 bad_request_line|501 method_unknown",
	},
	{
		"a method with a quote is refused, where one takes it",
		"G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", "hertz serves it", "400 bad_request_line",
	},
	{
		"a target outside ASCII is refused, though all three take it",
		"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", "all three; no two services decode it alike", "400 bad_target",
	},
	{
		"a fragment is refused, though all three take it",
		"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "all three; some services cut it off", "400 bad_target",
	},
	{
		"a target without a slash is refused, where one takes it",
		"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "hertz serves foo", "400 bad_target",
	},
	{
		"HTTP/1.2 is refused, though all three take it for HTTP/1.1",
		"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "all three", "505 version_unsupported",
	},
	{
		"HTTP/2.0 in a request line is refused, where two take it for HTTP/1.1",
		"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "fasthttp and hertz serve it", "505 version_unsupported",
	},
	{
		"a version with a letter behind is refused, where one takes it",
		"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", "hertz serves it", "400 bad_request_line",
	},
	{
		"dot segments are refused, though all three pass them on as they are",
		"GET /a/../b//c/./d HTTP/1.1\r\nHost: a\r\n\r\n", "all three; services resolve them", "400 ambiguous_path",
	},
	{
		"encoded slashes and dots are refused, though all three pass them on as they are",
		"GET /a%2fb/%2e%2e/c HTTP/1.1\r\nHost: a\r\n\r\n", "all three; services decode them", "400 ambiguous_path",
	},
	{
		"a GET with a body is served with the body, as all three do: it has one length",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "all three", `served <GET / a "hello">`,
	},
	{
		"a field that comes twice is served, as all three do",
		"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n", "all three", `served <GET / a "">`,
	},
}

func TestWhereFrontEndsDisagreeWeRefuse(t *testing.T) {
	f := newFront(t, http1.Config{MaxConnsPerAddress: 10_000}, nil)
	behind := "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, tt := range disagreements {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1 << 20, 1} {
				before := len(f.refusals())
				stream := f.talk(t, tt.raw+behind, piece)
				got := statuses(t, stream)
				if want, ok := strings.CutPrefix(tt.want, "served "); ok {
					if len(got) != 2 || got[0] != "200 "+want || got[1] != `200 <GET /behind a "">` {
						t.Fatalf("pieces of %d: got %q; who takes it: %s", piece, got, tt.who)
					}
					continue
				}
				// Whatever follows a refusal is not looked at.
				if len(got) != 1 || strings.Contains(stream, "/behind") || strings.Contains(stream, "/smug") {
					t.Fatalf("pieces of %d: got %q; who takes it: %s", piece, got, tt.who)
				}
				have := "body "
				if refused := f.refusals()[before:]; len(refused) == 1 {
					have = got[0] + " " + refused[0].Problem.Reason
				} else if got[0] == "400" {
					_, body, _ := strings.Cut(stream, "\r\n\r\n")
					have += strings.TrimSpace(body)
				}
				if !strings.Contains("|"+tt.want+"|", "|"+have+"|") {
					t.Fatalf("pieces of %d: got %q, want %q; who takes it: %s", piece, have, tt.want, tt.who)
				}
			}
		})
	}
}
