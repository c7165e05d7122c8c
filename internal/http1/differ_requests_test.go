package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// sentinel is sent after every stream: it is answered only where the connection was kept.
const sentinel = "GET /sentinel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// bodyIdle ends the wait for bodies that never come: net/http waits for one that
// was announced with an expectation nobody answered.
const bodyIdle = 300 * time.Millisecond

// byPath is the handler of the request table: the path says what it does with the body.
func byPath(s *sight, w http.ResponseWriter, r *http.Request) {
	read := func(b io.Reader) string {
		all, err := io.ReadAll(b)
		s.say("read %s, %s", shortly(string(all)), errorClass(err))
		if err == nil {
			_, err = b.Read(make([]byte, 8))
			s.say("then %s", errorClass(err))
		} else {
			_, again := b.Read(make([]byte, 8))
			s.say("and again %s", errorClass(again))
		}
		return string(all)
	}
	switch r.URL.Path {
	case "/sentinel":
		_, _ = io.WriteString(w, "here")
	case "/lazy": // does not read
		_, _ = io.WriteString(w, "lazy")
	case "/mute": // neither reads nor writes
	case "/half": // reads a little
		b := make([]byte, 3)
		n, err := io.ReadFull(r.Body, b)
		s.say("read %q, %s", b[:n], errorClass(err))
		_, _ = io.WriteString(w, "half")
	case "/duplex": // answers, then reads, which net/http must be asked for
		s.say("duplex %s", errorClass(http.NewResponseController(w).EnableFullDuplex()))
		_, _ = io.WriteString(w, "early ")
		s.say("flush %s", errorClass(http.NewResponseController(w).Flush()))
		_, _ = io.WriteString(w, shortly(read(r.Body)))
	case "/shut": // closes the body unread
		s.say("close %s", errorClass(r.Body.Close()))
		_, err := r.Body.Read(make([]byte, 1))
		s.say("after close %s", errorClass(err))
		_, _ = io.WriteString(w, "shut")
	case "/big":
		_, _ = w.Write(make([]byte, 100_000))
	case "/wrong": // answers with an error and does not read
		http.Error(w, "no", http.StatusForbidden)
	case "/switch":
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			s.say("hijack %s", errorClass(err))
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		n, err := io.Copy(c, rw.Reader)
		s.say("echoed %d, %s", n, errorClass(err))
		_, err = io.WriteString(w, "x")
		s.say("write after hijack %s", errorClass(err))
	default:
		body := read(r.Body)
		s.say("trailer %v", r.Trailer)
		fmt.Fprintf(w, "<%s %s %s>", r.Method, r.RequestURI, shortly(body))
	}
}

// A stream is the bytes of a caller; more are sent after an answer's head each.
type stream struct {
	name string
	raw  string
	more []string
}

func requestOf(line string, fields ...string) string {
	return line + "\r\nHost: a\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

func post(path, body string, fields ...string) string {
	return requestOf("POST "+path+" HTTP/1.1", append(fields, fmt.Sprint("Content-Length: ", len(body)))...) + body
}

func chunkedPost(path, body string, fields ...string) string {
	return requestOf("POST "+path+" HTTP/1.1", append(fields, "Transfer-Encoding: chunked")...) + body
}

// chunksOf is body in chunks of n bytes.
func chunksOf(body string, n int) string {
	var b strings.Builder
	for len(body) > 0 {
		k := min(n, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", k, body[:k])
		body = body[k:]
	}
	return b.String() + "0\r\n\r\n"
}

// streams is what callers send, besides [wires].
func streams() (out []stream) {
	add := func(name, raw string, more ...string) { out = append(out, stream{name, raw, more}) }
	get := requestOf("GET /x?q=1 HTTP/1.1")

	// Pipelines, with and without a refused request inside.
	for _, n := range []int{2, 3, 5, 9, 20} {
		add(fmt.Sprint(n, " requests at once"), strings.Repeat(get, n))
		add(fmt.Sprint(n, " requests with bodies at once"), strings.Repeat(post("/x", "hello"), n))
		add(fmt.Sprint(n, " chunked requests at once"), strings.Repeat(chunkedPost("/x", chunksOf("hello world", 4)), n))
		add(fmt.Sprint(n, " requests of three kinds at once"), strings.Repeat(get+post("/x", "abc")+chunkedPost("/lazy", chunksOf("hello", 2))+requestOf("HEAD / HTTP/1.1"), n/2))
		for name, bad := range map[string]string{
			"two Host":               "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
			"both framings":          chunkedPost("/bad", "0\r\n\r\n", "Content-Length: 5"),
			"a bare LF":              "GET /bad HTTP/1.1\nHost: a\n\n",
			"a chunk of other parts": chunkedPost("/bad", "5;x\r\nhello\r\n0\r\n\r\n"),
			"a lower-case method":    "get /bad HTTP/1.1\r\nHost: a\r\n\r\n",
			"Connection: close":      requestOf("GET /last HTTP/1.1", "Connection: close"),
			"HTTP/1.0":               requestOf("GET /last HTTP/1.0"),
		} {
			add(fmt.Sprint(n, " requests with ", name, " in the middle"), strings.Repeat(get, n/2)+bad+strings.Repeat(get, n-n/2))
		}
	}
	add("a body that looks like a request", post("/x", get))
	add("an unread body that looks like a request", post("/lazy", get))
	add("a chunked body that looks like a request", chunkedPost("/lazy", chunksOf(get, 7)))

	// Bodies and what handlers do with them.
	for _, path := range []string{"/x", "/lazy", "/mute", "/half", "/duplex", "/shut", "/wrong"} {
		add("a body of 5 bytes to "+path, post(path, "hello"))
		add("an empty body to "+path, post(path, ""))
		add("a chunked body to "+path, chunkedPost(path, chunksOf("hello world", 4)))
		add("an empty chunked body to "+path, chunkedPost(path, "0\r\n\r\n"))
		add("a GET with a body to "+path, requestOf("GET "+path+" HTTP/1.1", "Content-Length: 5")+"hello")
		add("a HEAD to "+path, requestOf("HEAD "+path+" HTTP/1.1"))
		add("HTTP/1.0 to "+path, requestOf("GET "+path+" HTTP/1.0"))
		add("HTTP/1.0 with a body to "+path, requestOf("POST "+path+" HTTP/1.0", "Content-Length: 5")+"hello")
		add("HTTP/1.0 with a body and keep-alive to "+path, requestOf("POST "+path+" HTTP/1.0", "Content-Length: 5", "Connection: keep-alive")+"hello")
		add("Connection: close with a body to "+path, post(path, "hello", "Connection: close"))
		add("a bad chunk to "+path, chunkedPost(path, "5\r\nhello\r\nZ\r\n"))
		add("a bad first chunk to "+path, chunkedPost(path, "Z\r\n"))
		add("a trailer to "+path, chunkedPost(path, "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"))
		add("a body without its end to "+path, requestOf("POST "+path+" HTTP/1.1", "Content-Length: 5000")+"hello")
		add("a chunked body without its end to "+path, chunkedPost(path, "5\r\nhello\r\n"))
		add("an expectation and its body at once to "+path, post(path, "hello", "Expect: 100-continue"))
		add("an expectation and a body that comes when called to "+path, requestOf("POST "+path+" HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"), "hello")
		add("an expectation and a chunked body when called to "+path, chunkedPost(path, "", "Expect: 100-continue"), chunksOf("hello", 2))
		add("an expectation and no body at all to "+path, requestOf("POST "+path+" HTTP/1.1", "Expect: 100-continue", "Content-Length: 0"))
		add("an expectation in HTTP/1.0 to "+path, requestOf("POST "+path+" HTTP/1.0", "Expect: 100-continue", "Content-Length: 5")+"hello")
		for _, n := range []int{4_000, 32_768, 200_000, 255 << 10, 280_000, 1 << 20} {
			body := strings.Repeat("0123456789abcdef", n/16+1)[:n]
			add(fmt.Sprint("a body of ", n, " to ", path), post(path, body))
			add(fmt.Sprint("a chunked body of ", n, " to ", path), chunkedPost(path, chunksOf(body, 10_000)))
		}
	}

	// Connections.
	for _, v := range []string{"1.0", "1.1"} {
		for _, fields := range [][]string{
			{},
			{"Connection: close"},
			{"Connection: keep-alive"},
			{"Connection: Keep-Alive"},
			{"Connection: CLOSE"},
			{"Connection: keep-alive, close"},
			{"Connection: close, keep-alive"},
			{"Connection: keep-alive", "Connection: close"},
			{"Connection: "},
			{"Connection: ,"},
			{"Connection: upgrade"},
			{"Connection: Upgrade", "Upgrade: echo"},
			{"Upgrade: echo"},
			{"Connection: te", "TE: trailers"},
			{"Keep-Alive: timeout=5"},
			{"Proxy-Connection: keep-alive"},
			{"Connection: upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"},
			{"Connection: close \t"},
			{"connection:close"},
			{"Connection:  keep-alive"},
		} {
			for _, path := range []string{"/x", "/big", "/mute"} {
				add("HTTP/"+v+" "+strings.Join(fields, " + ")+" to "+path, requestOf("GET "+path+" HTTP/"+v, fields...))
			}
		}
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			add(m+" in HTTP/"+v, requestOf(m+" /x HTTP/"+v))
			add(m+" with keep-alive in HTTP/"+v, requestOf(m+" /big HTTP/"+v, "Connection: keep-alive"))
		}
	}
	add("an upgrade", requestOf("GET /switch HTTP/1.1", "Connection: Upgrade", "Upgrade: echo"), "\x00\n\nraw\r\n\r\n")
	add("an upgrade with early bytes", requestOf("GET /switch HTTP/1.1", "Connection: Upgrade", "Upgrade: echo")+"\x81\x05hello\n")
	add("a hijack without upgrade", requestOf("GET /switch HTTP/1.1")+"\x81\x05hello\n")
	add("a hijack of a request with a body", post("/switch", "hello"))
	add("an upgrade after a request", get+requestOf("GET /switch HTTP/1.1", "Connection: Upgrade", "Upgrade: echo")+"tail")
	add("an upgrade with a body", post("/x", "hello", "Connection: Upgrade", "Upgrade: echo"))
	add("a request after an upgrade nobody takes", requestOf("GET /x HTTP/1.1", "Connection: Upgrade", "Upgrade: echo")+get+get)

	// Targets.
	for _, t := range []string{
		"/", "/?", "/?a=b&c", "/a%20b", "/a%2Cb?x=%2f", "/caf%C3%A9", "/a+b?c+d", "/a:b@c", "/$&'()*+,=", "/~u/!", "/%41%7e", "/?a=b?c=d", "/a,b=c",
		"/?%5B=%5D&[x]={y}|z", "/?a=b;c=d", "/:80", "/@", "/a?http://b/c", "/a?../../b", "/a/", "/%E2%82%AC", "/?\"", "/?^`",
		"http://a/", "http://a/x?y", "http://A/x", "https://a/x", "http://a/a%20b?c", "http://a/?", "http://a/x:y@z",
	} {
		add("the target "+t, requestOf("GET "+t+" HTTP/1.1"))
	}
	add("an absolute target with a port", "GET http://a:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n")
	add("an absolute target of an IPv6 host", "GET http://[::1]:8080/x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n")
	add("OPTIONS of the server", requestOf("OPTIONS * HTTP/1.1"))
	add("OPTIONS of the server with a body", requestOf("OPTIONS * HTTP/1.1", "Content-Length: 5")+"hello")
	add("OPTIONS of the server after a request", get+requestOf("OPTIONS * HTTP/1.1")+get)
	add("OPTIONS of the server in HTTP/1.0", requestOf("OPTIONS * HTTP/1.0"))

	// Fields.
	for _, f := range [][]string{
		{"x-lower: 1"},
		{"X-UPPER: 1"},
		{"x-MiXeD-cAsE: 1"},
		{"X: 1", "x: 2", "X: 3"},
		{"X:1"},
		{"X:  1  "},
		{"X:\t1\t"},
		{"X:"},
		{"X: "},
		{"X: a,b , c"},
		{"X: \xe4\xf6"},
		{"X: a\tb"},
		{"!#$%&'*+-.^`|~9: 1"},
		{"A: 1", "B: 2", "A: 3"},
		{"Accept: */*", "accept-encoding: gzip", "User-Agent: ü"},
		{"Cookie: a=b; c=d"},
		{"Authorization: Bearer x"},
		{"authorization:Bearer x"},
		{"Content-Type: application/json"},
		{"content-type:a/b; c=\"d\""},
		{"If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"},
		{"Range: bytes=0-1"},
		{"Pragma: no-cache"},
		{"Pragma: no-cache", "Cache-Control: a"},
		{"TE: trailers"},
		{"X-Forwarded-For: 1.2.3.4", "Forwarded: for=x"},
		{"Expect: 100-CONTINUE"},
		{"Traceparent: 00-0-0-01"},
		{"Content-MD5: x", "ETag: y", "WWW-Authenticate: z"},
		{"Origin: http://b"},
		{"DPoP: a.b.c"},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"sec-ch-ua: \"x\""},
		{"X-Request-ID: 1", "x-request-id: 2"},
		{"Content-Encoding: gzip"},
		{"Date: x"},
		{"Accept-Language: de, en;q=0.5"},
		{"Referer: http://a/b?c"},
		{"DNT: 1"},
		{"-: 1"},
		{"1: 2"},
	} {
		add("fields "+fmt.Sprintf("%q", f), requestOf("GET /x HTTP/1.1", f...))
	}
	add("ninety-nine fields", requestOf("GET /x HTTP/1.1", strings.Split(strings.Repeat("X: a\n", 98)+"X: a", "\n")...))
	add("fields of 98 names", "GET /x HTTP/1.1\r\nHost: a\r\n"+manyFields(98)+"\r\n")
	for _, n := range []int{3_900, 4_000, 4_060, 4_096, 4_097, 8_000, 16_000, 31_000, 32_700} {
		add(fmt.Sprint("a head with a field of ", n), requestOf("GET /x HTTP/1.1", "X: "+strings.Repeat("v", n)))
		add(fmt.Sprint("a body behind a head with a field of ", n), post("/x", "hello", "X: "+strings.Repeat("v", n)))
		add(fmt.Sprint("two requests, the second with a field of ", n), get+requestOf("GET /x HTTP/1.1", "X: "+strings.Repeat("v", n)))
	}
	add("a target of 8 KiB", requestOf("GET /"+strings.Repeat("a", 8191)+" HTTP/1.1"))
	add("a Host in capitals", "GET / HTTP/1.1\r\nHOST: EXAMPLE.com:443\r\n\r\n")
	add("a Host after other fields", "GET / HTTP/1.1\r\nA: b\r\nHost: a\r\nC: d\r\n\r\n")
	add("nothing at all", "")
	add("one byte", "G")
	add("half a head", "GET / HTTP/1.1\r\nHost: a\r\n")
	add("an empty line", "\r\n")
	add("a request, an empty line, and a request", get+"\r\n"+get)

	// Chunk forms.
	for _, c := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n", "00000005\r\nhello\r\n0\r\n\r\n", "000000005\r\nhello\r\n0\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n",
		"A\r\n0123456789\r\n0\r\n\r\n", "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", "0\r\n\r\n", "00\r\n\r\n", "00000000\r\n\r\n", "5\r\nhello\r\n00\r\n\r\n", "5\r\nhello\r\n0\r\n",
		"5\r\nhello\r\n0\r", "5\r\nhello\r\n0", "5\r\nhello\r\n", "5\r\nhello\r", "5\r\nhello", "5\r\nhell", "5\r\n", "5\r", "5", "", "5\r\nhello\r\n0\r\n\rX", "5\r\nhello\r\n0\rX",
		"5\r\nhelloXX0\r\n\r\n", "-1\r\n", "+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n",
		"ffffffff\r\nhello", "fffffffff\r\nhello", "5\r\nhello\r\n0;x\r\n\r\n", "5\r\nhello\r\n0\r\nA: b\r\n\r\n", "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
		"5\r\nhello\r\n0\r\n\n", "5\r\nhello\n0\r\n\r\n", "G\r\n", "\x00", "5\r\r\nhello\r\n0\r\n\r\n", "5\r\n\r\nhello\r\n0\r\n\r\n",
	} {
		add(fmt.Sprintf("the chunks %q", c), chunkedPost("/x", c))
		add(fmt.Sprintf("the unread chunks %q", c), chunkedPost("/lazy", c))
	}
	add("ten thousand chunks of a byte", chunkedPost("/x", chunksOf(strings.Repeat("x", 10_000), 1)))
	add("ten thousand unread chunks of a byte", chunkedPost("/lazy", chunksOf(strings.Repeat("x", 10_000), 1)))
	for _, w := range wires {
		add("the wire: "+w.name, w.raw)
	}
	return out
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: %d\r\n", i, i)
	}
	return b.String()
}

func TestBothLanesGiveTheSameAnswersToTheSameBytes(t *testing.T) {
	all := streams()
	t.Logf("%d streams", len(all))
	p := newSecurePair(t, http1.Config{BodyIdle: bodyIdle}, byPath)
	for _, way := range []struct {
		name  string
		talk  talk
		limit int // of the stream's bytes
	}{
		{"TCP, whole", talk{way: "tcp"}, 1 << 30},
		{"TCP, in pieces of 7", talk{way: "tcp", piece: 7}, 1_000},
		{"TLS, whole", talk{way: "tls"}, 1 << 30},
		{"memory, whole", talk{way: "pipe"}, 200_000},
		{"memory, byte by byte", talk{way: "pipe", piece: 1}, 2_000},
		{"memory, in pieces of 61", talk{way: "pipe", piece: 61}, 50_000},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range all {
				if len(c.raw) > way.limit || testing.Short() && len(c.raw) > 4_000 {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					k := way.talk
					k.sends = append([]string{c.raw}, c.more...)
					k.sends[len(k.sends)-1] += sentinel
					p.compare(t, k)
				})
			}
		})
	}
}

// The bytes end anywhere; what was complete before is answered the same.
func TestACallerMayStopAtEveryByte(t *testing.T) {
	for name, raw := range map[string]string{
		"a GET":                  requestOf("GET /x?a=b HTTP/1.1", "Accept: */*"),
		"a body with a length":   post("/x", "hello world"),
		"a chunked body":         chunkedPost("/x", chunksOf("hello world", 4)),
		"an unread body":         post("/lazy", "hello"),
		"an unread chunked body": chunkedPost("/lazy", chunksOf("hello", 4)),
		"a late reader":          post("/duplex", "hello"),
		"HTTP/1.0":               requestOf("POST /x HTTP/1.0", "Content-Length: 5") + "hello",
		"an expectation":         post("/x", "hello", "Expect: 100-continue"),
		"a pipeline":             requestOf("GET /1 HTTP/1.1") + post("/2", "ab") + chunkedPost("/3", chunksOf("cd", 1)) + requestOf("GET /4 HTTP/1.1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, http1.Config{BodyIdle: bodyIdle}, byPath)
			for n := range len(raw) + 1 {
				for _, k := range []talk{{way: "tcp"}, {way: "pipe"}, {way: "tcp", rst: true}} {
					k.sends = []string{raw[:n]}
					if k.rst && n == len(raw) {
						continue // an answer was under way: whether it met the reset is luck
					}
					p.compare(t, k)
					if t.Failed() {
						t.Fatalf("after %d bytes: %q", n, raw[:n])
					}
				}
			}
		})
	}
}

// A server that has said all it will say closes, without waiting for its caller to do so.
func TestTheServerClosesOfItself(t *testing.T) {
	p := newSecurePair(t, http1.Config{BodyIdle: bodyIdle}, byPath)
	for name, raw := range map[string]string{
		"Connection: close":             requestOf("GET /x HTTP/1.1", "Connection: close"),
		"HTTP/1.0":                      requestOf("GET /x HTTP/1.0"),
		"a long answer to HTTP/1.0":     requestOf("GET /big HTTP/1.0", "Connection: keep-alive"),
		"a refused head":                "GET / HTTP/1.1\r\n\r\n",
		"a body nobody reads":           requestOf("POST /lazy HTTP/1.1", "Content-Length: 1000000") + "x",
		"a body nobody called for":      requestOf("POST /lazy HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"),
		"a bad chunk":                   chunkedPost("/x", "Z\r\n"),
		"a bad chunk nobody reads":      chunkedPost("/lazy", "Z\r\n"),
		"a pipeline with an end":        requestOf("GET /x HTTP/1.1") + requestOf("GET /x HTTP/1.1", "Connection: close"),
		"a body shut before its end":    requestOf("POST /shut HTTP/1.1", "Content-Length: 1000000") + "x",
		"an answer without a body read": requestOf("GET /mute HTTP/1.0"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, way := range []string{"tcp", "tls", "pipe"} {
				p.compare(t, talk{way: way, sends: []string{raw}, stay: true})
			}
		})
	}
}

// Answers to a pipeline leave in its order though the handlers of its first wait.
func TestAnswersLeaveInOrder(t *testing.T) {
	p := newPair(t, http1.Config{}, func(_ *sight, w http.ResponseWriter, r *http.Request) {
		rw := bufio.NewWriter(w)
		fmt.Fprintf(rw, "%s %s", r.URL.Path, strings.Repeat(r.URL.Path, 2000))
		_ = rw.Flush()
	})
	var raw strings.Builder
	for i := range 20 {
		raw.WriteString(requestOf(fmt.Sprintf("GET /%d HTTP/1.1", i)))
	}
	o := p.compare(t, talk{way: "tcp", sends: []string{raw.String()}})
	if len(o.answers) != 20 {
		t.Fatalf("%d answers", len(o.answers))
	}
	for i, a := range o.answers {
		if !strings.Contains(a, fmt.Sprintf("/%d ", i)) {
			t.Fatalf("answer %d is %s", i, a)
		}
	}
}
