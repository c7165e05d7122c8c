package http1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

const laneGet = "GET /v1/orders?limit=50 HTTP/1.1\r\nHost: api.example.com\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n"

type laneKey struct{}

// headWriter is what the gateway asks of a writer.
type headWriter interface {
	WriteHead(status int, fields []http1.Field, length int64)
}

func TestErrTellsThatTheCallerHasGone(t *testing.T) {
	told := make(chan error, 1)
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.Context().Err(); err != nil {
			t.Errorf("%v, though the caller is there", err)
		}
		for end := time.After(20 * time.Second); ; {
			if err := r.Context().Err(); err != nil {
				told <- err
				return
			}
			select {
			case <-end:
				told <- nil
				return
			default:
			}
		}
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, laneGet)
	_ = c.Close()
	if err := <-told; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAContextIsOfOneRequest(t *testing.T) {
	var kept []context.Context
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		for _, k := range kept {
			if k.Err() == nil {
				t.Error("the context of a request before is alive again")
			}
		}
		if srv, ok := ctx.Value(http.ServerContextKey).(*http.Server); !ok || srv == nil {
			t.Error("no server in the context")
		}
		if a, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); !ok || a.String() == "" {
			t.Error("no address in the context")
		}
		before := runtime.NumGoroutine()
		sub, cancel := context.WithCancel(ctx)
		defer cancel()
		timed, cancel2 := context.WithTimeout(context.WithValue(sub, laneKey{}, "v"), time.Hour)
		defer cancel2()
		context.AfterFunc(timed, func() {})
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines more", n-before)
		}
		if ctx.Err() != nil || timed.Err() != nil {
			t.Error("cancelled, though the caller is there")
		}
		detached := context.WithoutCancel(ctx)
		kept = append(kept, ctx, sub, timed)
		if detached.Err() != nil {
			t.Error("a detached context is cancelled")
		}
		_, _ = io.WriteString(w, "x")
	}))
	c := f.dial(t)
	br := bufio.NewReader(c)
	for range 4 {
		_, _ = io.WriteString(c, laneGet)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	for _, k := range kept {
		select {
		case <-k.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("a context outlives its request")
		}
	}
}

func TestABodyOutlivesNoRequest(t *testing.T) {
	bodies := make(chan io.ReadCloser, 10)
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { bodies <- r.Body }))
	c := f.dial(t)
	br := bufio.NewReader(c)
	for _, raw := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000),
	} {
		_, _ = io.WriteString(c, raw)
		if _, err := http.ReadResponse(br, nil); err != nil {
			t.Fatal(err) // and the connection is kept: what nobody read is gone
		}
		var b [1]byte
		if n, err := (<-bodies).Read(b[:]); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("read %d, %v", n, err)
		}
	}
}

func TestABodyIsReadBesideTheAnswer(t *testing.T) {
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		var b [16]byte
		for {
			n, err := r.Body.Read(b[:])
			_, _ = fmt.Fprintf(w, "%q ", b[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two", "three"} {
		_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", len(s), s)
		want := fmt.Sprintf("%q ", s)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	_, _ = io.WriteString(c, "0\r\n\r\n")
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != `"" ` {
		t.Fatalf("then %q, %v", b, err)
	}
}

// What a handler that panics has written must not look like an answer.
func TestAHandlerThatPanicsGivesNoWholeAnswer(t *testing.T) {
	for _, length := range []int{0, 5, 3000} {
		for _, told := range []bool{true, false} {
			f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if told {
					w.Header().Set("Content-Length", fmt.Sprint(length))
				}
				_, _ = w.Write(make([]byte, length))
				panic(http.ErrAbortHandler)
			}))
			c := f.dial(t)
			_, _ = io.WriteString(c, laneGet)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				continue
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%d bytes, length told %v: a whole answer of %d bytes", length, told, len(b))
			}
		}
	}
}

func TestHijackGivesWhatWasRead(t *testing.T) {
	taken := make(chan struct{})
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("writing to it gives %v", err)
		}
		if n := rw.Reader.Buffered(); n != 5 {
			t.Errorf("%d bytes buffered, want 5", n)
		}
		close(taken)
		go func() {
			defer nc.Close()
			_, _ = io.Copy(nc, rw.Reader)
		}()
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, laneGet+"early")
	<-taken
	_, _ = io.WriteString(c, " and late")
	_ = c.(*net.TCPConn).CloseWrite()
	if got := ended(t, c); got != "early and late" {
		t.Fatalf("echoed %q", got)
	}
}

func TestWhoHijacksGetsWhatComesNext(t *testing.T) {
	reads := make(chan error, 1)
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var first [1]byte
		if _, err := io.ReadFull(r.Body, first[:]); err != nil {
			t.Error(err)
		}
		go func() {
			_, err := r.Body.Read(make([]byte, 100))
			reads <- err
		}()
		<-time.After(20 * time.Millisecond) // for the Read to wait; if it does not yet, nothing is shown
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "go on")
		_, _ = io.CopyN(nc, rw.Reader, int64(len("late")))
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
	var told [5]byte
	if _, err := io.ReadFull(c, told[:]); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "late")
	if err := <-reads; err == nil {
		t.Fatal("the body is read, though the connection is another's")
	}
	if got := ended(t, c); got != "late" {
		t.Errorf("echoed %q", got)
	}
}

func TestABodyNobodyWantsIsNotAwaitedForLong(t *testing.T) {
	f := newFront(t, http1.Config{BodyIdle: 100 * time.Millisecond, MinBodyRate: 1}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 401 {
		t.Fatal(res, err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = c.Read(make([]byte, 1))
	}()
	drip := time.NewTicker(10 * time.Millisecond)
	defer drip.Stop()
	for end := time.After(5 * time.Second); ; {
		select {
		case <-over:
			return
		case <-end:
			t.Fatal("the connection is kept by who sends a byte now and then")
		case <-drip.C:
			_, _ = io.WriteString(c, "x")
		}
	}
}

func TestShutdownEndsIdleConnectionsAtOnce(t *testing.T) {
	f := newFront(t, http1.Config{}, nil)
	var conns []net.Conn
	for range 3 {
		c := f.dial(t)
		_, _ = io.WriteString(c, laneGet)
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	start := time.Now()
	if err := f.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	for _, c := range conns {
		ended(t, c)
	}
}

func TestShutdownTellsWhoIsServedThatTheConnectionEnds(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(started)
		<-release
	}))
	c := f.dial(t)
	_, _ = io.WriteString(c, laneGet)
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown gives %v while a request is served", err)
	}
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || !resp.Close {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestTheHeadCanBeWrittenInOrder(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		length     int64
		status     int
		want       string
	}{
		{"a length that is known", "hello", 5, 200, "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-A: 2\r\nDATE\r\nContent-Length: 5\r\n\r\nhello"},
		{"a short body whose length is not", "hello", -1, 200, "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-A: 2\r\nDATE\r\nContent-Length: 5\r\n\r\nhello"},
		{"nothing", "", 0, 204, "HTTP/1.1 204 No Content\r\nX-B: 1\r\nX-A: 2\r\nDATE\r\n\r\n"},
		{"an odd status", "", 0, 799, "HTTP/1.1 799 status code 799\r\nX-B: 1\r\nX-A: 2\r\nDATE\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Never", "sent")
				w.(headWriter).WriteHead(tt.status, []http1.Field{
					{Name: "X-B", Value: "1"},
					{Name: "Connection", Value: "x"},
					{Name: "Content-Length", Value: "9"},
					{Name: "X-A", Value: "2"},
				}, tt.length)
				_, _ = io.WriteString(w, tt.body)
			}))
			got := f.talk(t, laneGet, 1<<20)
			i := strings.Index(got, "Date: ")
			if i < 0 {
				t.Fatalf("no date in %q", got)
			}
			if got = got[:i] + "DATE" + got[i+len("Date: ")+len(http.TimeFormat):]; got != tt.want {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

// An answer of any size, in pieces of any size, is what was written.
func TestWhatIsWrittenArrives(t *testing.T) {
	pattern := strings.Repeat("0123456789abcdef", 20_000)
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var size, piece, flush, told int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d/%d/%d/%d", &size, &piece, &flush, &told)
		if told == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		for n, i := 0, 0; n < size; i++ {
			m := min(piece, size-n)
			_, _ = io.WriteString(w, pattern[n:n+m])
			if n += m; flush > 0 && i%flush == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	c := f.dial(t)
	br := bufio.NewReader(c)
	for _, size := range []int{0, 1, 511, 2047, 2048, 2049, 3900, 4095, 4096, 4097, 9000, 65_536, 70_000, 300_000} {
		for _, piece := range []int{1, 7, 100, 2048, 4000, 5000, 100_000, 400_000} {
			if size/piece > 5000 {
				continue
			}
			for _, flush := range []int{0, 1, 3} {
				for told := range 2 {
					_, _ = fmt.Fprintf(c, "GET /%d/%d/%d/%d HTTP/1.1\r\nHost: a\r\n\r\n", size, piece, flush, told)
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					if err != nil || string(b) != pattern[:size] {
						t.Fatalf("size %d piece %d flush %d told %d: %d bytes, %v", size, piece, flush, told, len(b), err)
					}
				}
			}
		}
	}
}

func TestAllocsOfAKeptGET(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("the race detector has nothing used twice")
	}
	body := []byte(`{"orders":[]}`)
	kind, length := []string{"application/json"}, []string{"13"}
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Content-Length"] = kind, length
		_, _ = w.Write(body)
	}))
	c := f.dial(t)
	request, answer := []byte(laneGet), make([]byte, 4096)
	n := testing.AllocsPerRun(200, func() {
		_, _ = c.Write(request)
		if n, err := c.Read(answer); err != nil || n < 100 {
			t.Fatal(n, err)
		}
	})
	t.Logf("%v allocations", n)
	if n > 2 {
		t.Errorf("%v allocations, want 2 at most", n)
	}
}

func TestAllocsOfAnIdleConnection(t *testing.T) {
	if raced {
		t.Skip("the race detector takes memory of its own")
	}
	const conns = 1000
	var deep func(n int) int
	deep = func(n int) int { // as deep as a handler goes
		var room [64]int
		if n == 0 {
			return room[0]
		}
		return deep(n-1) + room[n%64]
	}
	var served atomic.Int64
	f := newFront(t, http1.Config{MaxConnsPerAddress: 2 * conns}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(int64(1 + deep(16)))
		_, _ = io.WriteString(w, "hello")
	}))
	memory := func() int64 {
		var m runtime.MemStats
		for range 6 { // a stack that was needed once shrinks by half each time
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := memory()
	answer := make([]byte, 4096)
	for range conns {
		c := f.dial(t)
		_, _ = io.WriteString(c, laneGet)
		if _, err := c.Read(answer); err != nil {
			t.Fatal(err)
		}
	}
	var each int64
	for end := time.Now().Add(20 * time.Second); ; <-time.After(100 * time.Millisecond) { // until they have come to rest
		if each = (memory() - before) / conns; each <= 8<<10 || time.Now().After(end) {
			break
		}
	}
	t.Logf("%d bytes for each idle connection, with its caller's side", each)
	if each > 8<<10 {
		t.Errorf("%d bytes for each idle connection, want 8 KiB at most", each)
	}
}
