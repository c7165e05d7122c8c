package http1_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A rawPeer writes frames of HTTP/2 as no client would.
type rawPeer struct {
	*http2.Framer
	conn   *tls.Conn
	head   []byte // of a GET, every field of it in HPACK's static table or literal
	stream uint32 // last used
	seen   chan rawFrame
	polite bool // it stops at GOAWAY
}

// A rawFrame is what the server sent: HEADERS, RST_STREAM or GOAWAY.
type rawFrame struct {
	kind   http2.FrameType
	stream uint32
	code   http2.ErrCode
	block  []byte
}

// newRawPeer greets the server and reads what it sends: heads, resets, GOAWAY and
// the end, which closes seen.
func newRawPeer(t *testing.T, f *front, client *tls.Config, settings ...http2.Setting) *rawPeer {
	t.Helper()
	conf := client.Clone()
	conf.NextProtos = []string{"h2"}
	p := &rawPeer{conn: tls.Client(f.dial(t), conf), seen: make(chan rawFrame, 1<<16)}
	p.stream--
	p.Framer = http2.NewFramer(p.conn, p.conn)
	p.AllowIllegalWrites = true
	if _, err := io.WriteString(p.conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	p.head = rawHead(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/")
	go func() {
		defer close(p.seen)
		in := http2.NewFramer(io.Discard, p.conn)
		for {
			fr, err := in.ReadFrame()
			if err != nil {
				return
			}
			got := rawFrame{kind: fr.Header().Type, stream: fr.Header().StreamID}
			switch fr := fr.(type) {
			case *http2.GoAwayFrame:
				got.code = fr.ErrCode
			case *http2.RSTStreamFrame:
				got.code = fr.ErrCode
			case *http2.HeadersFrame:
				got.block = bytes.Clone(fr.HeaderBlockFragment())
			default:
				continue
			}
			select {
			case p.seen <- got:
			default:
			}
		}
	}()
	return p
}

func rawHead(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// open begins a stream; with end, it is a whole request.
func (p *rawPeer) open(end bool) error {
	p.stream += 2
	return p.WriteHeaders(http2.HeadersFrameParam{StreamID: p.stream, BlockFragment: p.head, EndHeaders: true, EndStream: end})
}

// goAway waits for the end of the connection and returns the first code of an
// error it came with; 0 for none.
func (p *rawPeer) goAway(t *testing.T) (code http2.ErrCode) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case fr, ok := <-p.seen:
			if !ok {
				return code
			}
			if fr.kind == http2.FrameGoAway && code == 0 {
				if code = fr.code; p.polite {
					_ = p.conn.CloseWrite()
				}
			}
		case <-limit:
			t.Fatal("the connection was left open")
		}
	}
}

// attacks are one round each of what is done again and again.
var attacks = []struct {
	name  string
	first func(p *rawPeer) error
	round func(p *rawPeer) error
	code  http2.ErrCode // of GOAWAY
	std   bool          // net/http ends it by itself
}{
	{name: "streams that are reset at once (CVE-2023-44487)", round: func(p *rawPeer) error {
		return errors.Join(p.open(true), p.WriteRSTStream(p.stream, http2.ErrCodeCancel))
	}},
	{name: "uploads that are reset at once", round: func(p *rawPeer) error {
		return errors.Join(p.open(false), p.WriteData(p.stream, false, p.head), p.WriteRSTStream(p.stream, http2.ErrCodeCancel))
	}},
	{name: "streams the server must reset: an increment of zero (CVE-2025-8671)", round: func(p *rawPeer) error {
		return errors.Join(p.open(false), p.WriteWindowUpdate(p.stream, 0))
	}},
	{name: "streams the server must reset: a window too wide", round: func(p *rawPeer) error {
		return errors.Join(p.open(false), p.WriteWindowUpdate(p.stream, 1<<31-1))
	}},
	{name: "streams the server must reset: one that depends on itself", round: func(p *rawPeer) error {
		return errors.Join(p.open(false), p.WritePriority(p.stream, http2.PriorityParam{StreamDep: p.stream}))
	}},
	{name: "streams the server must reset: DATA after the end", round: func(p *rawPeer) error {
		return errors.Join(p.open(true), p.WriteData(p.stream, false, p.head))
	}},
	{name: "streams the server must reset: a head that is malformed", round: func(p *rawPeer) error {
		p.stream += 2
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: p.stream, BlockFragment: rawHead("X", "upper"), EndHeaders: true, EndStream: true})
	}},
	{name: "streams above the number allowed", round: func(p *rawPeer) error { return p.open(true) }},
	{name: "a head that never ends, in empty pieces (CVE-2023-45288)", first: func(p *rawPeer) error {
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head})
	}, round: func(p *rawPeer) error { return p.WriteContinuation(1, false, nil) }},
	{name: "a head that never ends, in large pieces", first: func(p *rawPeer) error {
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head})
	}, round: func(p *rawPeer) error {
		return p.WriteContinuation(1, false, rawHead("x", strings.Repeat("~", 12<<10)))
	}, code: http2.ErrCodeProtocol, std: true},
	{name: "pings", round: func(p *rawPeer) error { return p.WritePing(false, [8]byte{}) }},
	{name: "answers to pings nobody sent", round: func(p *rawPeer) error { return p.WritePing(true, [8]byte{}) }},
	{name: "settings", round: func(p *rawPeer) error { return p.WriteSettings() }},
	{name: "priorities", round: func(p *rawPeer) error { return p.WritePriority(1, http2.PriorityParam{Weight: 1}) }},
	{name: "windows widened by a byte", round: func(p *rawPeer) error { return p.WriteWindowUpdate(0, 1) }},
	{name: "frames of a type that is not known", round: func(p *rawPeer) error { return p.WriteRawFrame(0xbe, 0, 0, nil) }},
	{name: "farewells", round: func(p *rawPeer) error { return p.WriteGoAway(0, http2.ErrCodeInternal, nil) }},
	{
		name: "DATA without data", first: func(p *rawPeer) error { return p.open(false) },
		round: func(p *rawPeer) error { return p.WriteData(1, false, nil) },
	},
	{
		name: "DATA of a byte", first: func(p *rawPeer) error { return p.open(false) },
		round: func(p *rawPeer) error { return p.WriteData(1, false, []byte{0}) },
	},
	{
		name: "DATA of padding", first: func(p *rawPeer) error { return p.open(false) },
		round: func(p *rawPeer) error { return p.WriteDataPadded(1, false, nil, make([]byte, 200)) },
	},
	{
		name: "a connection's window that overflows", round: func(p *rawPeer) error {
			return errors.Join(p.WriteWindowUpdate(0, 1<<31-1), io.EOF) // once is enough
		}, code: http2.ErrCodeFlowControl, std: true,
	},
}

func TestFloodsOfHTTP2AreEnded(t *testing.T) {
	const streams = 20
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			var running, most, served atomic.Int64
			f, client := newTLSFront(t, http1.Config{MaxStreams: streams, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/bystander" {
					return
				}
				served.Add(1)
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done() // a service that is slow: every stream stays until it is reset
				running.Add(-1)
			}))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p := newRawPeer(t, f, client)
			if tt.first != nil {
				if err := tt.first(p); err != nil {
					t.Fatal(err)
				}
			}
			rounds, stop := atomic.Int64{}, time.Now().Add(10*time.Second)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for time.Now().Before(stop) && tt.round(p) == nil {
					rounds.Add(1)
				}
			}()
			other := &http.Client{Transport: &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}}
			defer other.CloseIdleConnections()
			resp, err := other.Get("https://" + f.addr + "/bystander")
			if err != nil {
				t.Fatalf("another caller: %v", err)
			}
			_ = resp.Body.Close()
			want := tt.code
			if want == 0 {
				want = http2.ErrCodeEnhanceYourCalm
			}
			// One who goes on sending may have the connection reset before GOAWAY is read.
			if got := p.goAway(t); got != want && got != 0 {
				t.Errorf("GOAWAY %v, want %v", got, want)
			}
			<-sent
			runtime.ReadMemStats(&after)
			if n := most.Load(); n > streams {
				t.Errorf("%d handlers ran at once", n)
			}
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
			if !tt.std {
				f.awaitRefusal(t, "http2_flood")
				if n := len(f.refusals()); n != 1 {
					t.Errorf("%d records", n)
				}
			}
			t.Logf("%d rounds sent, %d requests begun, %d at once", rounds.Load(), served.Load(), most.Load())
		})
	}
}

func TestOneFrameTooManyIsToldToThePeer(t *testing.T) {
	// net/http ends a connection by itself, and tells nobody, when four times as many
	// requests as streams wait for others to end: rounds stay below that.
	const most, streams = 30, 20
	for _, tt := range attacks {
		if tt.std {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			f, client := newTLSFront(t, http1.Config{MaxStreams: streams, MaxResets: most, MaxOverhead: most}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}))
			p := newRawPeer(t, f, client)
			p.polite = true
			if tt.first != nil {
				if err := tt.first(p); err != nil {
					t.Fatal(err)
				}
			}
			for range 2*most + 10 { // a request earns some, and the server resets what is above MaxStreams
				if tt.round(p) != nil {
					break // it has ended already
				}
			}
			if code := p.goAway(t); code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v", code)
			}
			f.awaitRefusal(t, "http2_flood")
			if n := len(f.refusals()); n != 1 {
				t.Errorf("%d records", n)
			}
		})
	}
}

func TestAFloodOfFloodsIsNoFloodOfRecords(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{MaxOverhead: 20}, nil)
	start := time.Now()
	for range 30 {
		p := newRawPeer(t, f, client)
		for p.WritePing(false, [8]byte{}) == nil { // until it is cut
		}
		p.goAway(t)
	}
	most := 10 * (1 + int(time.Since(start)/time.Second))
	if n := len(f.refusals()); n == 0 || n > most+10 {
		t.Errorf("%d records", n)
	}
}

// rawBomb is a head whose HPACK grows a thousandfold.
func rawBomb() (first, bomb []byte) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}, {"x", strings.Repeat("~", 3900)}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	first = bytes.Clone(b.Bytes())
	b.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	b.Write(bytes.Repeat([]byte{0x80 | 62}, 15<<10)) // the newest entry, again and again
	return first, b.Bytes()
}

func TestAnHPACKBombIsNotUnpacked(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p := newRawPeer(t, f, client)
	first, bomb := rawBomb()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 50
	for i := range rounds {
		b := bomb
		if i == 0 {
			b = first
		}
		p.stream += 2
		if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: p.stream, BlockFragment: b, EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
	}
	dec := hpack.NewDecoder(4096, nil)
	for range rounds {
		h := <-p.seen
		fields, err := dec.DecodeFull(h.block)
		if h.kind != http2.FrameHeaders || err != nil || h.stream != 1 && fields[0].Value != "431" {
			t.Fatalf("answered %v %v, %v", h, fields, err)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / rounds; per > 256<<10 { // a bomb is 15 KiB and means 60 MiB
		t.Errorf("%d bytes allocated for each", per)
	}
}

func TestAnswersNobodyTakesAreGivenUp(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 1<<20)
	for _, tt := range []struct {
		name    string
		window  uint32 // of a stream
		answer  []byte
		flush   bool
		streams int
		conn    bool // the connection ends, not only the stream
	}{
		{"a large answer and no room in the stream", 0, big, false, 1, false},
		{"a small answer and no room in the stream", 0, big[:100], false, 1, false},
		{"a flushed answer and no room in the stream", 0, big[:100], true, 1, false},
		{"a little room in the stream", 10, big[:100], false, 1, false},
		{"a large answer and room for its start", 65535, big, false, 1, false},
		{"room in the streams and none on the connection", 1 << 30, big[:30<<10], false, 5, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{}, tt.streams)
			f, client := newTLSFront(t, http1.Config{WriteIdle: 150 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { ended <- struct{}{} }()
				_, _ = w.Write(tt.answer)
				if tt.flush {
					_ = http.NewResponseController(w).Flush()
				}
			}))
			p := newRawPeer(t, f, client, http2.Setting{ID: http2.SettingInitialWindowSize, Val: tt.window})
			for range tt.streams {
				if err := p.open(true); err != nil {
					t.Fatal(err)
				}
			}
			for range tt.streams {
				select {
				case <-ended:
				case <-time.After(10 * time.Second):
					t.Fatal("the handler waits for ever")
				}
			}
			if tt.conn {
				if code := p.goAway(t); code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("GOAWAY %v", code)
				}
				return
			}
			limit := time.After(10 * time.Second)
			for {
				select {
				case fr, ok := <-p.seen:
					if !ok {
						t.Fatal("the connection ended")
					}
					if fr.kind == http2.FrameRSTStream && fr.stream == 1 {
						return
					}
				case <-limit:
					t.Fatal("the stream was not reset")
				}
			}
		})
	}
}

func TestAnHTTP2HeadThatStallsIsCut(t *testing.T) {
	whole := func(p *rawPeer) error { return p.open(true) }
	for _, tt := range []struct {
		name   string
		before func(p *rawPeer) error
		bytes  string // one now, and one more now and then
	}{
		{"a frame's own head", whole, "\x00\x00\x20\x01"},
		{"a head's frame", whole, "\x00\x00\x20\x01\x04\x00\x00\x00\x03\x82\x84"},
		{"a first frame", nil, "\x00\x00\x20\x01\x04\x00\x00\x00\x01\x82\x84\x82\x84"},
		{"a head without its end", whole, "\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82"},
		{"a ping", whole, "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x82\x84"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, client := newTLSFront(t, http1.Config{HeadTimeout: 200 * time.Millisecond}, nil)
			p := newRawPeer(t, f, client)
			if tt.before != nil {
				if err := tt.before(p); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			go func() {
				tick := time.NewTicker(30 * time.Millisecond)
				defer tick.Stop()
				for i := range len(tt.bytes) {
					if _, err := io.WriteString(p.conn, tt.bytes[i:i+1]); err != nil {
						return
					}
					<-tick.C
				}
			}()
			if code := p.goAway(t); code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v", code)
			}
			if d := time.Since(start); d < 180*time.Millisecond {
				t.Errorf("cut after %v", d)
			}
			f.awaitRefusal(t, "http2_flood")
		})
	}
}

func TestHTTP2BeginsWithItsPreface(t *testing.T) {
	served := atomic.Int64{}
	f, client := newTLSFront(t, http1.Config{HeadTimeout: 200 * time.Millisecond}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	client.NextProtos = []string{"h2"}
	for name, raw := range map[string]string{
		"HTTP/1.1 where h2 was agreed":    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"a preface that is not quite one": "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n",
		"half a preface":                  "PRI * HTTP/2.0\r\n\r\n",
		"nothing":                         "",
	} {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(f.dial(t), client)
			if _, err := io.WriteString(c, raw); err != nil {
				t.Fatal(err)
			}
			if got := ended(t, c); strings.Contains(got, "HTTP/") {
				t.Errorf("answered %q", got)
			}
		})
	}
	plain := newFront(t, http1.Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	if got := statuses(t, plain.talk(t, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00", 1000)); len(got) != 1 || got[0] != "501" {
		t.Errorf("on a plain port: %q", got)
	}
	if served.Load() > 0 {
		t.Error("the handler ran")
	}
}

// A client that is about to send its body when it is refused must see why. curl
// 7.88 takes the reset of such a stream for a failure of it.
func TestARefusedRequestIsNotResetWhileItsBodyComes(t *testing.T) {
	f, client := newTLSFront(t, http1.Patient(time.Minute), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "no such operation")
	}))
	p := newRawPeer(t, f, client)
	for range 20 {
		if err := p.open(false); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
		if err := p.WriteData(p.stream, true, []byte(`{"host":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	for limit := time.After(time.Minute); ; {
		select {
		case fr := <-p.seen:
			switch {
			case fr.kind == http2.FrameRSTStream:
				t.Fatalf("stream %d was reset with %v", fr.stream, fr.code)
			case fr.kind == http2.FrameHeaders && fr.stream == p.stream:
				return
			}
		case <-limit:
			t.Fatal("no answer")
		}
	}
}

func TestABodyThatDoesNotComeHoldsNoAnswerUp(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	p := newRawPeer(t, f, client)
	if err := p.open(false); err != nil {
		t.Fatal(err)
	}
	for limit := time.After(time.Minute); ; {
		select {
		case fr := <-p.seen:
			if fr.kind == http2.FrameHeaders {
				return
			}
		case <-limit:
			t.Fatal("no answer")
		}
	}
}
