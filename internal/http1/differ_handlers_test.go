package http1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

func writes(sizes ...int) script {
	return func(s *sight, w http.ResponseWriter, _ *http.Request) {
		for _, n := range sizes {
			got, err := w.Write([]byte(strings.Repeat("0123456789abcdef", n/16+1)[:n]))
			s.say("wrote %d: %d, %s", n, got, errorClass(err))
		}
	}
}

func withHeader(name string, values []string, then script) script {
	return func(s *sight, w http.ResponseWriter, r *http.Request) {
		w.Header()[name] = values
		then(s, w, r)
	}
}

func status(code int, then script) script {
	return func(s *sight, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		then(s, w, r)
	}
}

func flushed(s *sight, w http.ResponseWriter, _ *http.Request) {
	s.say("flush %s", errorClass(http.NewResponseController(w).Flush()))
}

// inTurn runs scripts one after the other.
func inTurn(all ...script) script {
	return func(s *sight, w http.ResponseWriter, r *http.Request) {
		for _, one := range all {
			one(s, w, r)
		}
	}
}

// duplex asks for what our lane always gives: to read after the answer has begun.
func duplex(s *sight, w http.ResponseWriter, _ *http.Request) {
	s.say("duplex %s", errorClass(http.NewResponseController(w).EnableFullDuplex()))
}

func panics(v any) script { return func(*sight, http.ResponseWriter, *http.Request) { panic(v) } }

func readsAll(s *sight, _ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.say("read %s, %s", shortly(string(b)), errorClass(err))
}

func hijacks(s *sight, w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	s.say("hijack %s", errorClass(err))
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nraw")
	_ = rw.Flush()
	_, err = w.Write([]byte("x"))
	s.say("write after hijack %s", errorClass(err))
	w.WriteHeader(500)
	_, _, err = http.NewResponseController(w).Hijack()
	s.say("again %s", errorClass(err))
}

var errOfHandler = errors.New("of the handler")

// scripts are handlers whose answers must be the same on both lanes.
var scripts = []struct {
	name string
	run  script
}{
	{"writes nothing", writes()},
	{"writes zero bytes", writes(0)},
	{"writes one byte", writes(1)},
	{"writes 2,047 bytes", writes(2047)},
	{"writes 2,048 bytes", writes(2048)},
	{"writes 2,049 bytes", writes(2049)},
	{"writes 4,095 bytes", writes(4095)},
	{"writes 4,096 bytes", writes(4096)},
	{"writes 4,097 bytes", writes(4097)},
	{"writes 100,000 bytes", writes(100_000)},
	{"writes a little and then much", writes(10, 100_000, 10)},
	{"writes 2,048 bytes one by one", writes(slices.Repeat([]int{1}, 2048)...)},
	{"writes 5,000 bytes one by one", writes(slices.Repeat([]int{1}, 5000)...)},
	{"writes 1,000 bytes five times", writes(slices.Repeat([]int{1000}, 5)...)},
	{"flushes before it writes", inTurn(flushed, writes(5))},
	{"flushes and writes nothing", inTurn(flushed)},
	{"flushes between writes", inTurn(writes(5), flushed, writes(5), flushed, flushed)},
	{"flushes through the old door", inTurn(writes(3), func(_ *sight, w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, writes(3))},
	{"declares the right length", withHeader("Content-Length", []string{"10"}, writes(4, 6))},
	{"declares the right length of much", withHeader("Content-Length", []string{"100000"}, writes(50_000, 50_000))},
	{"declares more than it writes", withHeader("Content-Length", []string{"10"}, writes(4))},
	{"declares more and writes nothing", withHeader("Content-Length", []string{"10"}, writes())},
	{"declares less than it writes", withHeader("Content-Length", []string{"10"}, writes(8, 8, 1))},
	{"declares less than its only write", withHeader("Content-Length", []string{"3"}, writes(8))},
	{"declares zero and writes", withHeader("Content-Length", []string{"0"}, writes(8))},
	{"declares zero and writes nothing", withHeader("Content-Length", []string{"0"}, writes())},
	{"declares a length that is none", withHeader("Content-Length", []string{"ten"}, writes(8))},
	{"declares a negative length", withHeader("Content-Length", []string{"-1"}, writes(8))},
	{"declares a length with blanks", withHeader("Content-Length", []string{" 8 "}, writes(8))},
	{"declares two lengths", withHeader("Content-Length", []string{"8", "9"}, writes(8))},
	{"declares an empty length", withHeader("Content-Length", []string{""}, writes(8))},
	{"answers 200 explicitly", status(200, writes(5))},
	{"answers 204", status(204, writes())},
	{"answers 204 with a body", status(204, writes(5, 5))},
	{"answers 204 with a length", withHeader("Content-Length", []string{"5"}, status(204, writes()))},
	{"answers 304", withHeader("Etag", []string{`"a"`}, status(304, writes()))},
	{"answers 304 with a body and a length", withHeader("Content-Length", []string{"5"}, status(304, writes(5)))},
	{"answers 304 with a type", withHeader("Content-Type", []string{"a/b"}, status(304, writes()))},
	{"answers 205", status(205, writes())},
	{"answers 404 with a body", status(404, writes(5))},
	{"answers 599", status(599, writes(5))},
	{"answers 299, which has no name", status(299, writes(5))},
	{"answers 999", status(999, writes(5))},
	{"answers 600", status(600, writes())},
	{"answers 99", status(99, writes(5))},
	{"answers 1000", status(1000, writes(5))},
	{"answers 0", status(0, writes(5))},
	{"answers 401 and has the caller know how", withHeader("Www-Authenticate", []string{"Bearer", "Basic"}, status(401, writes()))},
	{"answers 103 and then 200", withHeader("Link", []string{"</a>; rel=preload"}, status(103, status(200, writes(5))))},
	{"answers 103 twice and then 404", withHeader("Link", []string{"</a>"}, status(103, status(103, status(404, writes(5)))))},
	{"answers 103 and never more", withHeader("Link", []string{"</a>"}, status(103, writes()))},
	{"answers 103 with a length", withHeader("Content-Length", []string{"5"}, status(103, writes(5)))},
	{"answers 102", status(102, status(200, writes(5)))},
	{"answers 100 itself", status(100, inTurn(readsAll, status(200, writes(5))))},
	{"answers 101 without a hijack", withHeader("Upgrade", []string{"echo"}, status(101, writes()))},
	{"answers 199", status(199, status(200, writes(5)))},
	{"answers twice", status(201, status(500, writes(5)))},
	{"answers after the body", inTurn(writes(5), status(500, writes(5)))},
	{"answers 103 after the body", inTurn(writes(5), status(103, writes(5)))},
	{"announces a trailer", withHeader("Trailer", []string{"X-Sum"}, inTurn(writes(5), withHeader("X-Sum", []string{"1"}, writes(5))))},
	{"announces trailers and sends one", withHeader("Trailer", []string{"X-Sum, X-B", "x-c"}, inTurn(writes(5), withHeader("X-C", []string{"1", "2"}, writes(5))))},
	{"announces a trailer for no body", withHeader("Trailer", []string{"X-Sum"}, inTurn(withHeader("X-Sum", []string{"1"}, writes())))},
	{"announces a trailer and a length", withHeader("Trailer", []string{"X-Sum"}, withHeader("Content-Length", []string{"5"}, inTurn(writes(5), withHeader("X-Sum", []string{"1"}, writes()))))},
	{"announces forbidden trailers", withHeader("Trailer", []string{"Content-Length, Transfer-Encoding, Trailer, X-Ok"}, inTurn(writes(5), withHeader("X-Ok", []string{"1"}, writes())))},
	{"sends a trailer nobody announced", inTurn(writes(5), flushed, withHeader(http.TrailerPrefix+"X-Sum", []string{"1"}, writes(5)))},
	{"sends a trailer nobody announced of a short body", inTurn(writes(5), withHeader(http.TrailerPrefix+"X-Sum", []string{"1"}, writes()))},
	{"sends a trailer with a line break", inTurn(writes(5), flushed, withHeader(http.TrailerPrefix+"X-Sum", []string{"a\r\nb: c"}, writes()))},
	{"sets a field after the head", status(200, withHeader("X-Late", []string{"1"}, writes(5)))},
	{"sets a field after the first byte", inTurn(writes(5), withHeader("X-Late", []string{"1"}, writes(5)))},
	{"deletes a field after the head", withHeader("X-Early", []string{"1"}, status(200, func(s *sight, w http.ResponseWriter, r *http.Request) {
		w.Header().Del("X-Early")
		writes(5)(s, w, r)
	}))},
	{"changes a value after the head", func(s *sight, w http.ResponseWriter, r *http.Request) {
		v := []string{"before"}
		w.Header()["X-V"] = v
		w.WriteHeader(200)
		v[0] = "after"
		writes(5)(s, w, r)
	}},
	{"sets Content-Length after the head", status(200, withHeader("Content-Length", []string{"3"}, writes(5)))},
	{"sets a value with CR LF", withHeader("X-V", []string{"a\r\nSet-Cookie: b"}, writes(5))},
	{"sets a value with LF", withHeader("X-V", []string{"a\nb"}, writes(5))},
	{"sets a value with CR", withHeader("X-V", []string{"a\rb"}, writes(5))},
	{"sets a value with NUL", withHeader("X-V", []string{"a\x00b"}, writes(5))},
	{"sets a value with blanks around", withHeader("X-V", []string{"  a  ", "\tb\t"}, writes(5))},
	{"sets a value outside ASCII", withHeader("X-V", []string{"\xe4ü"}, writes(5))},
	{"sets an empty value", withHeader("X-V", []string{""}, writes(5))},
	{"sets no values", withHeader("X-V", nil, writes(5))},
	{"sets a name with CR LF", withHeader("X\r\nY", []string{"a"}, writes(5))},
	{"sets a name with a colon", withHeader("X: Y", []string{"a"}, writes(5))},
	{"sets a name with a blank", withHeader("X Y", []string{"a"}, writes(5))},
	{"sets an empty name", withHeader("", []string{"a"}, writes(5))},
	{"sets a name that is not canonical", withHeader("x-low", []string{"a"}, writes(5))},
	{"sets content-length in lower case", withHeader("content-length", []string{"5"}, writes(5))},
	{"sets a date", withHeader("Date", []string{"yesterday"}, writes(5))},
	{"wants no date", withHeader("Date", nil, writes(5))},
	{"wants no type", withHeader("Content-Type", nil, writes(5))},
	{"sets an empty type", withHeader("Content-Type", []string{""}, writes(5))},
	{"sets a type", withHeader("Content-Type", []string{"application/json"}, writes(5))},
	{"says nosniff and no type", withHeader("X-Content-Type-Options", []string{"nosniff"}, writes(5))},
	{"sets a content coding", withHeader("Content-Encoding", []string{"gzip"}, writes(5))},
	{"writes HTML", func(_ *sight, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html><body>") }},
	{"writes PNG in two writes", func(_ *sight, w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "\x89PNG")
		_, _ = io.WriteString(w, "\x0d\x0a\x1a\x0a")
	}},
	{"writes an empty piece first", inTurn(writes(0), func(_ *sight, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "%PDF-") })},
	{"sets the coding chunked", withHeader("Transfer-Encoding", []string{"chunked"}, writes(5))},
	{"sets the coding chunked and a length", withHeader("Transfer-Encoding", []string{"chunked"}, withHeader("Content-Length", []string{"5"}, writes(5)))},
	{"sets the coding identity", withHeader("Transfer-Encoding", []string{"identity"}, writes(5))},
	{"sets the coding gzip", withHeader("Transfer-Encoding", []string{"gzip"}, writes(5))},
	{"sets Connection: close", withHeader("Connection", []string{"close"}, writes(5))},
	{"sets Connection: close for much", withHeader("Connection", []string{"close"}, writes(50_000))},
	{"sets Connection: keep-alive", withHeader("Connection", []string{"keep-alive"}, writes(5))},
	{"sets Connection: keep-alive and a length", withHeader("Connection", []string{"keep-alive"}, withHeader("Content-Length", []string{"5"}, writes(5)))},
	{"sets Connection: Close, x", withHeader("Connection", []string{"x, Close"}, writes(5))},
	{"sets Connection: upgrade", withHeader("Connection", []string{"upgrade"}, writes(5))},
	{"sets Connection: close after the head", status(200, withHeader("Connection", []string{"close"}, writes(5)))},
	{"sets Keep-Alive", withHeader("Keep-Alive", []string{"timeout=5"}, writes(5))},
	{"sets very many fields", func(s *sight, w http.ResponseWriter, r *http.Request) {
		for i := range 500 {
			w.Header().Add("X-"+strconv.Itoa(i%250), strings.Repeat("v", i))
		}
		writes(5)(s, w, r)
	}},
	{"sets a very long value", withHeader("X-Long", []string{strings.Repeat("v", 100_000)}, writes(5, 50_000))},
	{"sets two cookies", withHeader("Set-Cookie", []string{"a=b", "c=d"}, writes(5))},
	{"panics before the head", panics("boom")},
	{"panics with an error", panics(errOfHandler)},
	{"panics after the head", status(200, panics("boom"))},
	{"panics after a byte", inTurn(writes(1), panics("boom"))},
	{"panics after a flush", inTurn(writes(1), flushed, panics("boom"))},
	{"panics after much", inTurn(writes(100_000), panics("boom"))},
	{"panics with a length", withHeader("Content-Length", []string{"10"}, inTurn(writes(5), flushed, panics("boom")))},
	{"aborts before the head", panics(http.ErrAbortHandler)},
	{"aborts after a byte", inTurn(writes(1), panics(http.ErrAbortHandler))},
	{"aborts after a flush", inTurn(writes(1), flushed, panics(http.ErrAbortHandler))},
	{"aborts after the whole of a known length", withHeader("Content-Length", []string{"5"}, inTurn(writes(5), flushed, panics(http.ErrAbortHandler)))},
	{"aborts after reading", inTurn(readsAll, writes(5), panics(http.ErrAbortHandler))},
	{"hijacks before it reads", hijacks},
	{"hijacks after it read", inTurn(readsAll, hijacks)},
	{"hijacks after the head", status(200, hijacks)},
	{"hijacks after a byte", inTurn(writes(3), hijacks)},
	{"hijacks after a flush", inTurn(writes(3), flushed, hijacks)},
	{"hijacks with a field set", withHeader("X-V", []string{"a"}, hijacks)},
	{"hijacks and panics", inTurn(hijacks, panics("boom"))},
	{"reads after it answered", inTurn(writes(5), readsAll)},
	{"reads after it flushed", inTurn(duplex, writes(5), flushed, readsAll, writes(5))},
	{"reads after much", inTurn(duplex, writes(100_000), readsAll)},
	{"reads, writes, reads", inTurn(readsAll, writes(5), readsAll)},
	{"closes the body and reads", func(s *sight, w http.ResponseWriter, r *http.Request) {
		s.say("close %s", errorClass(r.Body.Close()))
		readsAll(s, w, r)
		s.say("close again %s", errorClass(r.Body.Close()))
		writes(5)(s, w, r)
	}},
	{"reads nothing into nothing", func(s *sight, w http.ResponseWriter, r *http.Request) {
		n, err := r.Body.Read(nil)
		s.say("read %d, %s", n, errorClass(err))
		writes(5)(s, w, r)
	}},
	{"copies the body back", func(s *sight, w http.ResponseWriter, r *http.Request) {
		duplex(s, w, r)
		n, err := io.Copy(w, r.Body)
		s.say("copied %d, %s", n, errorClass(err))
	}},
	{"copies from a reader", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := w.(io.ReaderFrom).ReadFrom(io.LimitReader(zeros{}, 10_000))
		s.say("copied %d, %s", n, errorClass(err))
	}},
	{"copies from a reader with a length", withHeader("Content-Length", []string{"10000"}, func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := w.(io.ReaderFrom).ReadFrom(io.LimitReader(zeros{}, 10_000))
		s.say("copied %d, %s", n, errorClass(err))
	})},
	{"copies more than the length", withHeader("Content-Length", []string{"100"}, func(s *sight, w http.ResponseWriter, _ *http.Request) {
		_, err := io.Copy(w, io.LimitReader(zeros{}, 10_000))
		s.say("copied, %s", errorClass(err))
	})},
	{"copies from a reader that fails", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := io.Copy(w, io.MultiReader(strings.NewReader("some"), failing{}))
		s.say("copied %d, %s", n, errorClass(err))
	}},
	{"copies little", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("<html>some")})
		s.say("copied %d, %s", n, errorClass(err))
	}},
	{"copies nothing", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("")})
		s.say("copied %d, %s", n, errorClass(err))
	}},
	{"writes a string", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		n, err := w.(io.StringWriter).WriteString("a string")
		s.say("wrote %d, %s", n, errorClass(err))
	}},
	{"writes through a buffer", func(_ *sight, w http.ResponseWriter, _ *http.Request) {
		b := bufio.NewWriterSize(w, 10)
		fmt.Fprint(b, strings.Repeat("x", 105))
		_ = b.Flush()
	}},
	{"sets deadlines", func(s *sight, w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		s.say("%s %s %s", errorClass(rc.SetReadDeadline(time.Now().Add(time.Hour))), errorClass(rc.SetWriteDeadline(time.Now().Add(time.Hour))), errorClass(rc.EnableFullDuplex()))
		readsAll(s, w, r)
		writes(5)(s, w, r)
	}},
	{"takes deadlines off", func(s *sight, w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		s.say("%s %s", errorClass(rc.SetReadDeadline(time.Time{})), errorClass(rc.SetWriteDeadline(time.Time{})))
		readsAll(s, w, r)
		writes(5)(s, w, r)
	}},
	{"lets its time to write pass", func(s *sight, w http.ResponseWriter, r *http.Request) {
		s.say("%s", errorClass(http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))))
		writes(5)(s, w, r)
		flushed(s, w, r)
	}},
	{"looks what its writer can do", func(s *sight, w http.ResponseWriter, _ *http.Request) {
		_, flusher := w.(http.Flusher)
		_, hijacker := w.(http.Hijacker)
		_, from := w.(io.ReaderFrom)
		_, str := w.(io.StringWriter)
		_, pusher := w.(http.Pusher)
		s.say("flusher %v hijacker %v from %v string %v pusher %v", flusher, hijacker, from, str, pusher)
		writes(5)(s, w, nil)
	}},
	{"clears all fields after it set them", withHeader("X-V", []string{"a"}, func(s *sight, w http.ResponseWriter, r *http.Request) {
		clear(w.Header())
		writes(5)(s, w, r)
	})},
	{"changes the request", func(s *sight, w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.Host = "/changed", "changed"
		r.Header.Set("X-Changed", "1")
		r.Header.Del("Content-Length")
		r.Close = true
		readsAll(s, w, r)
		writes(5)(s, w, r)
	}},
	{"changes the request's method", func(s *sight, w http.ResponseWriter, r *http.Request) {
		r.Method = "PATCH"
		writes(5)(s, w, r)
	}},
	{"takes the body away", func(s *sight, w http.ResponseWriter, r *http.Request) {
		r.Body = http.NoBody
		writes(5)(s, w, r)
	}},
	{"works with a copy of the request", func(s *sight, w http.ResponseWriter, r *http.Request) {
		c := r.Clone(context.WithValue(r.Context(), differKey{}, 1))
		c.Header.Set("X", "1")
		readsAll(s, w, c)
		s.say("%v %v", c.Context().Value(differKey{}), r.Header["X"])
		writes(5)(s, w, r)
	}},
	{"lets MaxBytesReader stop the body", func(s *sight, w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 3)
		readsAll(s, w, r)
		writes(5)(s, w, r)
	}},
	{"reads a form", func(s *sight, w http.ResponseWriter, r *http.Request) {
		s.say("%s %v", errorClass(r.ParseForm()), r.Form)
		writes(5)(s, w, r)
	}},
	{"routes by http.ServeMux", func(s *sight, w http.ResponseWriter, r *http.Request) {
		mux := http.NewServeMux()
		mux.HandleFunc("/{name...}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("name")) })
		mux.ServeHTTP(w, r)
		s.say("pattern %q", r.Pattern)
	}},
	{"redirects", func(_ *sight, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/else?where", http.StatusFound)
	}},
	{"serves content with ranges", func(_ *sight, w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Range", "bytes=2-5")
		http.ServeContent(w, r, "a.txt", time.Unix(1_700_000_000, 0), strings.NewReader("0123456789"))
	}},
	{"times out by http.TimeoutHandler", func(_ *sight, w http.ResponseWriter, r *http.Request) {
		http.TimeoutHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), time.Millisecond, "late").ServeHTTP(w, r)
	}},
	{"answers with http.Error", func(_ *sight, w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }},
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errOfHandler }

// byScript runs the script whose number stands in the path.
func byScript(s *sight, w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/s/"))
	if err != nil {
		_, _ = io.WriteString(w, "here")
		return
	}
	scripts[n].run(s, w, r)
}

// checkOurs holds k with our lane, where it is meant to differ: what it says must
// have one reading.
func (p *pair) checkOurs(t *testing.T, k talk) {
	t.Helper()
	o, err := p.lane.hold(k, p.client)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range o.answers {
		lengths := ownLength.FindAllString(a, -1)
		if len(lengths) > 1 || strings.Count(a, "Content-Length:") != len(lengths) || len(lengths) > 0 && strings.Contains(a, "Transfer-Encoding") || strings.Contains(a, "NO HEAD") {
			t.Errorf("by %s: %s", k.way, a)
		}
	}
}

var ownLength = regexp.MustCompile(`(?m)^  Content-Length: \d+$`)

func TestBothLanesServeEveryHandlerTheSame(t *testing.T) {
	t.Logf("%d handlers", len(scripts))
	// Some wait for bodies that never come: they wait side by side.
	const shares = 16
	for share := range shares {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			t.Parallel()
			p := newSecurePair(t, http1.Config{BodyIdle: bodyIdle}, byScript)
			for n := share; n < len(scripts); n += shares {
				t.Run(scripts[n].name, func(t *testing.T) { p.compareScript(t, scripts[n].name, fmt.Sprint("/s/", n)) })
			}
		})
	}
}

func (p *pair) compareScript(t *testing.T, name, path string) {
	for _, raw := range []string{
		requestOf("GET " + path + " HTTP/1.1"),
		requestOf("HEAD " + path + " HTTP/1.1"),
		requestOf("GET " + path + " HTTP/1.0"),
		requestOf("GET "+path+" HTTP/1.0", "Connection: keep-alive"),
		requestOf("HEAD "+path+" HTTP/1.0", "Connection: keep-alive"),
		post(path, "a=b&c=d", "Content-Type: application/x-www-form-urlencoded"),
		chunkedPost(path, chunksOf("hello world", 4)),
		post(path, "hello", "Expect: 100-continue"),
		requestOf("GET "+path+" HTTP/1.1", "Connection: close"),
		requestOf("GET "+path+" HTTP/1.1") + requestOf("HEAD "+path+" HTTP/1.1"),
		requestOf("POST "+path+" HTTP/1.1", "Content-Length: 300000") + strings.Repeat("x", 300_000),
	} {
		k, meant := knownScripts[name]
		meant = meant && strings.Contains(raw, k.in)
		for _, way := range []string{"tcp", "tls", "pipe"} {
			if way != "tcp" && len(raw) > 10_000 {
				continue
			}
			if meant {
				p.checkOurs(t, talk{way: way, sends: []string{raw + sentinel}})
				continue
			}
			p.compare(t, talk{way: way, sends: []string{raw + sentinel}})
		}
	}
	if _, meant := knownScripts[name]; meant {
		p.lane.takeLogs()
		p.plain.takeLogs()
		return
	}
	// A panic may be logged after its connection has ended.
	a, b := p.lane.takeLogs(), p.plain.takeLogs()
	for end := time.Now().Add(2 * time.Second); len(a) != len(b) && time.Now().Before(end); {
		<-time.After(time.Millisecond)
		a, b = append(a, p.lane.takeLogs()...), append(b, p.plain.takeLogs()...)
	}
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("our lane logs %q,\nnet/http %q", a, b)
	}
}

// What the context says of the caller: nothing while he waits, and the end when he has left.
func TestBothLanesTellThatTheCallerHasGone(t *testing.T) {
	told := make(chan string, 100)
	waits := func(s *sight, _ http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		before := r.Context().Err()
		switch r.URL.Path {
		case "/Err":
			for r.Context().Err() == nil && ctx.Err() == nil {
				<-time.After(time.Millisecond)
			}
		case "/Done":
			<-r.Context().Done()
		case "/WithTimeout":
			<-ctx.Done()
		case "/AfterFunc":
			ran := make(chan struct{})
			context.AfterFunc(r.Context(), func() { close(ran) })
			<-ran
		}
		told <- fmt.Sprint(s.side.name, r.Header["X-Way"], r.URL.Path, before, r.Context().Err(), context.Cause(r.Context()))
	}
	p := newSecurePair(t, http1.Config{}, waits)
	want := map[string]bool{}
	for _, s := range []*side{p.plain, p.lane} {
		for _, way := range []string{"tcp", "tls"} { // in memory nobody can look without reading
			for _, leave := range []string{"FIN", "half", "RST"} {
				for _, ask := range []string{"/Err", "/Done", "/WithTimeout", "/AfterFunc"} {
					c, err := s.dial(way, p.client)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					_, _ = io.WriteString(c, requestOf("GET "+ask+" HTTP/1.1", "X-Way: "+way+" "+leave))
					s.awaitHandler(t, callerKey(c.LocalAddr().String(), way == "tls"))
					tc, isTCP := c.(*net.TCPConn)
					switch {
					case leave == "half" && way == "tls":
						// Our lane cannot see the end of sending within TLS without reading. Who
						// only ends sending may still want his answer.
						_ = c.Close()
					case leave == "half":
						_ = c.(interface{ CloseWrite() error }).CloseWrite()
					case leave == "RST" && isTCP:
						_ = tc.SetLinger(0)
						fallthrough
					default:
						_ = c.Close()
					}
					want[fmt.Sprint(s.name, []string{way + " " + leave}, ask, error(nil), context.Canceled, context.Canceled)] = true
				}
			}
		}
	}
	late := time.After(10 * time.Second)
	for len(want) > 0 {
		select {
		case got := <-told:
			if !want[got] {
				t.Errorf("a handler was told %q", got)
			}
			delete(want, got)
		case <-late:
			t.Fatalf("handlers were not told: %v", want)
		}
	}
}

// An answer that only the connection's end would end is not ended by breaking off.
func TestABrokenAnswerWithoutAnEndIsReset(t *testing.T) {
	p := newSecurePair(t, http1.Config{}, func(s *sight, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/much" {
			_, _ = w.Write(make([]byte, 100_000))
		}
		_, _ = io.WriteString(w, "half")
		flushed(s, w, r)
		if r.URL.Path != "/whole" {
			panic(http.ErrAbortHandler)
		}
	})
	for _, tt := range []struct {
		name, raw string
		whole     bool
	}{
		{"a little in HTTP/1.0", requestOf("GET /half HTTP/1.0"), false},
		{"a little in HTTP/1.0 with keep-alive", requestOf("GET /half HTTP/1.0", "Connection: keep-alive"), false},
		{"much in HTTP/1.0", requestOf("GET /much HTTP/1.0"), false},
		{"the whole in HTTP/1.0", requestOf("GET /whole HTTP/1.0"), true},
	} {
		for _, way := range []string{"tcp", "tls"} {
			o, err := p.lane.hold(talk{way: way, sends: []string{tt.raw}, stay: true}, p.client)
			if err != nil {
				t.Fatal(err)
			}
			if whole := o.fate == "closed"; whole != tt.whole || o.fate == "left open" {
				t.Errorf("%s by %s: the connection is %s", tt.name, way, o.fate)
			}
		}
	}
}
