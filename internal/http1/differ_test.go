package http1_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// The differential suite sends the same bytes to the same handler behind our
// lane and behind net/http, and compares all that can be seen from outside and
// by the handler. A difference is a bug of the lane.

// A script is a handler that tells its side what it sees.
type script func(s *sight, w http.ResponseWriter, r *http.Request)

// A sight is what one request's handler noted.
type sight struct {
	side *side
	key  string // the caller's address
}

// say notes something that must be the same on both lanes.
func (s *sight) say(format string, args ...any) {
	s.side.mu.Lock()
	defer s.side.mu.Unlock()
	s.side.saw[s.key] = append(s.side.saw[s.key], fmt.Sprintf(format, args...))
}

// A side is one of the two servers.
type side struct {
	name   string
	server *http1.Server
	tcp    string
	tls    string
	pipes  *halfPipes

	dialed   atomic.Int64
	accepted atomic.Int64

	mu      sync.Mutex
	quiet   sync.Cond           // a handler has returned
	running map[string]int      // handlers, by caller
	saw     map[string][]string // by caller, in order
	methods map[string][]string
	refused map[string][]string
	logs    []string
}

// A pair is one handler on both lanes.
type pair struct {
	lane, plain *side
	client      *tls.Config
}

// newPair starts both.
func newPair(t testing.TB, cfg http1.Config, h script) *pair {
	t.Helper()
	return &pair{lane: newSide(t, "lane", http1.NewServer, cfg, h, nil), plain: newSide(t, "net/http", http1.NewPlain, cfg, h, nil)}
}

// newSecurePair starts both, with a listener that speaks TLS too.
func newSecurePair(t *testing.T, cfg http1.Config, h script) *pair {
	t.Helper()
	ca := party(t, nil, "ca")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	conf := &tls.Config{Certificates: []tls.Certificate{party(t, &ca, "api.test")}}
	return &pair{
		lane: newSide(t, "lane", http1.NewServer, cfg, h, conf), plain: newSide(t, "net/http", http1.NewPlain, cfg, h, conf),
		client: &tls.Config{RootCAs: pool, ServerName: "api.test", NextProtos: []string{"http/1.1"}},
	}
}

func newSide(t testing.TB, name string, server func(http1.Config, http.Handler) *http1.Server, cfg http1.Config, h script, conf *tls.Config) *side {
	t.Helper()
	s := &side{
		name: name, running: map[string]int{}, saw: map[string][]string{}, methods: map[string][]string{}, refused: map[string][]string{},
		pipes: &halfPipes{conns: make(chan net.Conn), done: make(chan struct{})},
	}
	s.quiet.L = &s.mu
	cfg.MaxConnsPerAddress = 10_000
	cfg.OnRefuse = func(r http1.Refusal) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		key := callerKey(r.Address, r.TLS)
		s.refused[key] = append(s.refused[key], fmt.Sprintf("refused %q as %s, TLS %v", r.Line, r.Problem.Reason, r.TLS))
		return "d-1"
	}
	cfg.Log = slog.New(differLog{slog.DiscardHandler, s})
	s.server = server(cfg, s.handler(h))
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	var served sync.WaitGroup
	serve := func(l net.Listener, conf *tls.Config) {
		served.Go(func() { _ = s.server.Serve(counted{l, s, new(bool)}, conf) })
	}
	plain := listen()
	s.tcp = plain.Addr().String()
	if conf != nil { // handlers read both addresses: they are known before anybody can be served
		secure := listen()
		s.tls = secure.Addr().String()
		serve(secure, conf)
	}
	serve(plain, nil)
	served.Go(func() { _ = s.server.Serve(s.pipes, nil) })
	t.Cleanup(func() { _ = s.server.Close(); served.Wait() })
	return s
}

// handler notes the request, runs h and counts the handlers there are.
func (s *side) handler(h script) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := callerKey(r.RemoteAddr, r.TLS != nil)
		s.mu.Lock()
		s.running[key]++
		s.methods[key] = append(s.methods[key], r.Method)
		s.saw[key] = append(s.saw[key], requestDump(s, r))
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.running[key]--
			s.quiet.Broadcast()
		}()
		h(&sight{s, key}, w, r)
	})
}

// callerKey tells callers apart. Two may have the same address and port, one on
// the plain listener and one on that with TLS.
func callerKey(address string, secure bool) string {
	if secure {
		return address + " over TLS"
	}
	return address
}

// awaitHandler waits until the handler of the caller at key runs.
func (s *side) awaitHandler(t testing.TB, key string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		s.mu.Lock()
		n := s.running[key]
		s.mu.Unlock()
		if n > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no handler runs for %s", s.name, key)
		}
		<-time.After(100 * time.Microsecond)
	}
}

// requestDump is all a handler can see of r before it reads the body.
func requestDump(s *side, r *http.Request) string {
	var b strings.Builder
	u := r.URL
	fmt.Fprintf(&b, "%s %q %s %d.%d host=%q length=%d te=%q close=%v nobody=%v\n", r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor,
		r.Host, r.ContentLength, r.TransferEncoding, r.Close, r.Body == http.NoBody)
	fmt.Fprintf(&b, "  url scheme=%q opaque=%q user=%v host=%q path=%q raw=%q omit=%v force=%v query=%q fragment=%q %q\n",
		u.Scheme, u.Opaque, u.User, u.Host, u.Path, u.RawPath, u.OmitHost, u.ForceQuery, u.RawQuery, u.Fragment, u.RawFragment)
	fmt.Fprintf(&b, "  trailer=%v form=%v %v multipart=%v response=%v pattern=%q getbody=%v\n", r.Trailer, r.Form, r.PostForm,
		r.MultipartForm, r.Response, r.Pattern, r.GetBody != nil)
	if r.TLS != nil {
		fmt.Fprintf(&b, "  tls %x %q %q done=%v\n", r.TLS.Version, r.TLS.ServerName, r.TLS.NegotiatedProtocol, r.TLS.HandshakeComplete)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "  %s=%q\n", name, r.Header[name])
	}
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	at := local != nil && (local.String() == s.tcp || local.String() == s.tls || local.Network() == "half")
	_, deadline := r.Context().Deadline()
	fmt.Fprintf(&b, "  server=%v local=%v deadline=%v stranger=%v trace=%v", server != nil, at, deadline,
		r.Context().Value(differKey{}), httptrace.ContextClientTrace(r.Context()))
	return b.String()
}

type differKey struct{}

// differLog gives a side what its server logs, without what differs by nature.
type differLog struct {
	slog.Handler
	s *side
}

func (differLog) Enabled(context.Context, slog.Level) bool { return true }

func (l differLog) Handle(_ context.Context, r slog.Record) error {
	line, _, _ := strings.Cut(r.Message, "\n")
	line, _, _ = strings.Cut(line, " from ") // where in the source
	line = differAddress.ReplaceAllString(line, "")
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.logs = append(l.s.logs, line)
	return nil
}

var differAddress = regexp.MustCompile(` (127\.0\.0\.1:\d+|caller-\d+): .*`) // and what a panic was about

// takeLogs empties the log.
func (s *side) takeLogs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	logs := s.logs
	s.logs = nil
	return logs
}

// A talk is what one caller does.
type talk struct {
	way   string   // tcp, tls or pipe
	piece int      // bytes written at a time; 0: all at once
	sends []string // each after the one before, and after one more answer's head
	cuts  []int    // where the first of them is cut, instead of piece
	rst   bool     // the caller breaks off after the last; otherwise it stops sending and reads to the end
	stay  bool     // the caller keeps its sending half open and waits for the server to close
}

// pieces are what is written at a time of the send numbered i.
func (k talk) pieces(i int, raw string) iter.Seq[[]byte] {
	if i > 0 || k.cuts == nil {
		return slices.Chunk([]byte(raw), cmp.Or(k.piece, len(raw), 1))
	}
	return func(yield func([]byte) bool) {
		from := 0
		for _, to := range append(slices.Sorted(slices.Values(k.cuts)), len(raw)) {
			if to = min(to, len(raw)); to > from {
				if !yield([]byte(raw[from:to])) {
					return
				}
				from = to
			}
		}
	}
}

// An outcome is what is compared.
type outcome struct {
	answers, saw, refused []string
	fate                  string // how the connection ended
}

func (o outcome) String() string {
	var b strings.Builder
	for _, l := range []struct {
		name string
		all  []string
	}{{"answer", o.answers}, {"saw", o.saw}, {"refused", o.refused}} {
		for i, s := range l.all {
			fmt.Fprintf(&b, "%s %d: %s\n", l.name, i, s)
		}
	}
	return b.String() + "fate: " + o.fate
}

// dial connects by the way the talk goes.
func (s *side) dial(way string, client *tls.Config) (net.Conn, error) {
	s.dialed.Add(1)
	switch way {
	case "pipe":
		s.accepted.Add(1) // it is when dial returns
		return s.pipes.dial()
	case "tls":
		c, err := tls.Dial("tcp", s.tls, client)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return net.Dial("tcp", s.tcp)
}

// hold talks to one side and returns what came of it.
func (s *side) hold(k talk, client *tls.Config) (outcome, error) {
	c, err := s.dial(k.way, client)
	if err != nil {
		return outcome{}, err
	}
	defer c.Close()
	key := callerKey(c.LocalAddr().String(), k.way == "tls")
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := &incoming{}
	in.more.L = &in.mu
	var reader sync.WaitGroup
	if !k.rst {
		reader.Go(func() { in.readFrom(c) })
	}
	for i, raw := range k.sends {
		if !k.rst {
			in.await(i)
		}
		for b := range k.pieces(i, raw) {
			if _, err := c.Write(b); err != nil {
				break // the server has heard enough
			}
		}
	}
	if k.rst {
		// What was sent is seen before the reset is.
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
		}
		_ = c.Close()
		if err := s.ended(); err != nil {
			return outcome{}, err
		}
		return s.outcome(key, nil, "left"), nil
	}
	if h, ok := c.(interface{ CloseWrite() error }); ok && !k.stay {
		_ = h.CloseWrite()
	}
	reader.Wait()
	fate := "closed"
	switch {
	case errors.Is(in.err, os.ErrDeadlineExceeded):
		fate = "left open"
	case errors.Is(in.err, syscall.ECONNRESET):
		fate = "reset"
	case in.err != nil:
		fate = in.err.Error()
	}
	return s.outcome(key, in.all, fate), nil
}

// counted tells its side of the connections that were accepted and registered.
type counted struct {
	net.Listener
	s    *side
	last *bool
}

// Accept counts the connection before: who asks for the next has registered it.
func (c counted) Accept() (net.Conn, error) {
	if *c.last {
		*c.last = false
		c.s.accepted.Add(1)
	}
	nc, err := c.Listener.Accept()
	*c.last = err == nil
	return nc, err
}

// ended waits until the server has let go of every connection.
func (s *side) ended() error {
	for end := time.Now().Add(10 * time.Second); s.accepted.Load() < s.dialed.Load() || http1.OpenConns(s.server) > 0; {
		if time.Now().After(end) {
			return errors.New(s.name + ": a connection is held though its caller has gone")
		}
		<-time.After(200 * time.Microsecond)
	}
	return nil
}

// outcome waits for the handlers of the caller at key and gathers what they saw.
func (s *side) outcome(key string, stream []byte, fate string) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running[key] > 0 {
		s.quiet.Wait()
	}
	o := outcome{answers: readAnswers(stream, s.methods[key]), saw: s.saw[key], refused: s.refused[key], fate: fate}
	delete(s.saw, key)
	delete(s.methods, key)
	delete(s.refused, key)
	delete(s.running, key)
	return o
}

// incoming is what a caller has read so far.
type incoming struct {
	mu   sync.Mutex
	more sync.Cond
	all  []byte
	done bool
	err  error
}

func (in *incoming) readFrom(c net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		in.mu.Lock()
		in.all = append(in.all, buf[:n]...)
		if err != nil {
			in.done = true
			if !errors.Is(err, io.EOF) {
				in.err = err
			}
		}
		in.more.Broadcast()
		in.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits for n heads of answers, or the end.
func (in *incoming) await(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for strings.Count(string(in.all), "\r\n\r\n") < n && !in.done {
		in.more.Wait()
	}
}

// errorClass is an error as far as handlers may tell errors apart.
func errorClass(err error) string {
	if p, ok := errors.AsType[*gatehouse.Problem](err); ok {
		return p.Reason
	}
	for _, known := range []error{
		io.EOF, io.ErrUnexpectedEOF, http.ErrBodyReadAfterClose, http.ErrBodyNotAllowed, http.ErrContentLength, http.ErrHijacked,
		http.ErrNotSupported, errors.ErrUnsupported, http.ErrAbortHandler, os.ErrDeadlineExceeded, net.ErrClosed,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	switch {
	case err == nil:
		return "nil"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe):
		return "the caller has gone"
	}
	return err.Error()
}

// same reports how the two outcomes differ, "" when they do not. A server that
// closes with bytes unread resets the connection or not as the kernel's clock has it.
func same(lane, plain outcome) string {
	for _, o := range []*outcome{&lane, &plain} {
		known(o)
		switch o.fate {
		case "reset", io.ErrUnexpectedEOF.Error(): // the latter in TLS
			o.fate = "closed"
		case "left":
			o.saw = firstSeen(o.saw)
		}
	}
	a, b := lane.String(), plain.String()
	if a == b {
		return ""
	}
	only := func(name, x, y string) (out string) {
		rest := strings.Split(y, "\n")
		for l := range strings.SplitSeq(x, "\n") {
			if i := slices.Index(rest, l); i >= 0 {
				rest = slices.Delete(rest, i, i+1)
				continue
			}
			out += name + l + "\n"
		}
		return out
	}
	return only("only our lane: ", a, b) + only("only net/http: ", b, a) + "all of our lane's:\n" + a
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

// firstSeen keeps what a reset cannot change: the first request and the bytes of
// its body. How soon a write or a read meets the reset is luck.
func firstSeen(saw []string) (out []string) {
	for i, s := range saw {
		read, _, ok := strings.Cut(s, ", ")
		switch {
		case i == 0:
			out = append(out, s)
		case strings.Contains(s, "\n"): // the next request
			return out
		case ok && strings.HasPrefix(s, "read "):
			out = append(out, read)
		}
	}
	return out
}

// compare holds k on both sides. How the kernel puts pieces together is luck, and
// a head that is refused is refused as soon as enough of it has come to know: such
// a talk may be held again. So may one in which net/http, closing with bytes unread,
// has reset its own answer.
func (p *pair) compare(t testing.TB, k talk) outcome {
	t.Helper()
	var a outcome
	var d string
	for range 4 {
		var err error
		if a, err = p.lane.hold(k, p.client); err != nil {
			t.Fatal(err)
		}
		b, err := p.plain.hold(k, p.client)
		if err != nil {
			t.Fatal(err)
		}
		if k.cuts != nil {
			knownRefusal(&a)
			knownRefusal(&b)
		}
		if d = same(a, b); d == "" || b.fate != "reset" && (k.way == "pipe" || k.piece == 0 && k.cuts == nil) {
			break
		}
	}
	if d != "" {
		t.Errorf("by %s in pieces of %d (0: whole):\n%s\nsent %s", k.way, k.piece, d, strconv.Quote(cut(strings.Join(k.sends, " … "), 2000)))
	}
	if a.fate == "left open" {
		t.Errorf("by %s: the connection hangs", k.way)
	}
	return a
}
