package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A lane serves the connections that speak HTTP/1.x, each from one goroutine in
// a straight loop: wait, read a head, check it, call the handler, finish the
// answer, go on. What it does not do it gives to net/http with the bytes read
// so far, before any of them was acted on.
//
// # What is lent
//
// The *http.Request, its header map with the slices in it, its URL, and the
// ResponseWriter belong to a laneWork, which serves one request after another,
// of any connection: they are the handler's until ServeHTTP returns, and nobody
// may keep them. Strings, and the request's body, are never used again. The
// context is used again only if nobody asked for its Done channel. Under the
// race detector nothing is used twice, and what was lent is spoilt when the
// handler has returned: who kept it finds out.
type lane struct {
	cfg     *Config
	server  *http.Server // what handlers find in their context
	handler http.Handler
	refuse  func(c net.Conn, secure bool, line string, p *gatehouse.Problem) string
	other   func(c net.Conn, secure bool) *headConn // for net/http
	works   sync.Pool                               // of *laneWork
	date    atomic.Pointer[laneDate]
	stacks  atomic.Int64 // left behind by goroutines that rest

	stopping atomic.Bool
	mu       sync.Mutex // taken when a connection comes or goes, never for a request
	conns    map[*laneConn]struct{}
	quiet    chan struct{} // closed when the last one has gone; made by stop
}

// What a connection does, as stop sees it.
const (
	laneIdle int32 = iota
	laneBusy
	laneOver
)

const (
	laneBuffer = 4 << 10
	laneDrain  = 256 << 10 // of a body nobody read, to keep the connection

	laneRestAfter  = 2 * time.Second // without a request, and a connection rests
	laneManyStacks = 1000
	laneGather     = 5 * time.Second
)

// A laneConn is one connection. It is all there is of an idle one: whatever a
// request needs is taken when its first byte has come.
type laneConn struct {
	lane   *lane
	feed   *listenFeed
	nc     net.Conn // HTTP's bytes: base, or TLS over it
	base   *listenConn
	raw    syscall.RawConn // the socket; nil when there is none
	try    func(fd uintptr) bool
	work   *laneWork // nil while idle
	remote string
	local  net.Addr
	tls    *tls.ConnectionState // nil: plain
	ctx    *laneContext
	blank  *http.Request // every request begins as a copy of it
	state  atomic.Int32
	end    error // of the last try
	one    [1]byte
	gone   bool      // handed to net/http, or hijacked
	headBy time.Time // when the first head is due
	due    time.Time // when the next is, or at least its first byte
	rest   time.Time // when to rest; zero: not, or already

	mu      sync.Mutex // guards the deadlines: a handler may move them while another goroutine reads
	asked   time.Time  // the handler's
	own     time.Time  // ours, of the read under way
	armed   time.Time  // the one the poller knows
	reading bool
}

// A laneWork is what one request needs beside its connection.
type laneWork struct {
	in    []byte // in[r:w] was read and not yet used
	r, w  int
	frame headFrame

	req    http.Request
	url    url.URL
	header http.Header
	values []string
	coding [1]string
	out    laneWriter

	inRoom     [laneBuffer]byte
	valuesRoom [24]string
}

func newLane(s *Server, h http.Handler) *lane {
	return &lane{
		cfg: &s.cfg, server: s.http, handler: h, refuse: s.refused, other: s.checked, conns: map[*laneConn]struct{}{},
	}
}

func (l *lane) take() *laneWork {
	if w, ok := l.works.Get().(*laneWork); ok {
		return w
	}
	w := &laneWork{header: make(http.Header, 16)}
	w.in = w.inRoom[:]
	w.values = w.valuesRoom[:0]
	w.out.init()
	return w
}

func (l *lane) give(w *laneWork) {
	if lentIsPoisoned {
		return
	}
	w.in, w.r, w.w = w.inRoom[:], 0, 0
	l.works.Put(w)
}

// enter counts c, unless the lane is closed.
func (l *lane) enter(c *laneConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping.Load() {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *lane) leave(c *laneConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if l.quiet != nil && len(l.conns) == 0 {
		close(l.quiet)
		l.quiet = nil
	}
}

// stop closes the connections that wait and has the others end with their
// answer. The channel is closed when all have.
func (l *lane) stop() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping.Store(true)
	for c := range l.conns {
		if c.state.CompareAndSwap(laneIdle, laneOver) {
			_ = c.nc.Close()
		}
	}
	done := make(chan struct{})
	if len(l.conns) == 0 {
		close(done)
		return done
	}
	if l.quiet == nil {
		l.quiet = done
	}
	return l.quiet
}

// serve speaks HTTP/1.x on an accepted connection; tc is the TLS over it, or nil.
func (l *lane) serve(feed *listenFeed, base *listenConn, tc *tls.Conn) {
	c := &laneConn{lane: l, feed: feed, nc: base, base: base, local: base.LocalAddr()}
	if ra := base.RemoteAddr(); ra != nil {
		c.remote = ra.String()
	}
	switch s := base.Conn.(type) { // no others: one may read in a way of its own
	case *net.TCPConn:
		c.raw, _ = s.SyscallConn()
	case *net.UnixConn:
		c.raw, _ = s.SyscallConn()
	}
	switch {
	case tc != nil:
		state := tc.ConnectionState()
		c.nc, c.tls = tc, &state
	case c.raw != nil:
		c.try = c.tryRead
	}
	c.fresh()
	if !l.enter(c) {
		_ = c.nc.Close()
		return
	}
	c.headBy = time.Now().Add(l.cfg.HeadTimeout) // a connection is opened to be used
	c.due = c.headBy
	c.run()
}

// run serves c until it ends or comes to rest. Then a new goroutine waits on: the
// stack of this one has grown with the requests it served, and is most of what an
// idle connection would hold.
func (c *laneConn) run() {
	rests := false
	defer func() {
		if rests {
			return
		}
		if p := recover(); p != nil {
			c.lane.server.ErrorLog.Printf("http: panic outside of a handler, serving %v: %v\n%s", c.remote, p, debug.Stack())
		}
		c.lane.leave(c)
		if !c.gone {
			_ = c.nc.Close()
		}
	}()
	if rests = c.loop(); rests {
		go c.run()
		c.lane.rested()
	}
}

// rested counts the stacks that were left behind. When they are many the memory
// goes back to the system soon, and not at the next collection, which may be minutes
// away while nobody asks for anything. Those who come to rest at the same time wait
// for one another.
func (l *lane) rested() {
	if l.stacks.Add(1) == laneManyStacks {
		time.AfterFunc(laneGather, func() {
			l.stacks.Store(0)
			debug.FreeOSMemory()
		})
	}
}

// fresh gives the connection a context nobody has seen.
func (c *laneConn) fresh() {
	c.ctx = &laneContext{conn: c}
	c.blank = (&http.Request{ProtoMajor: 1, RemoteAddr: c.remote, TLS: c.tls}).WithContext(c.ctx)
}

// loop serves one request after the other. It reports true when the connection has
// come to rest.
func (c *laneConn) loop() (rests bool) {
	for {
		if c.work == nil {
			if ok, rests := c.park(); !ok {
				return rests
			}
		}
		if !c.request() {
			return false
		}
		c.headBy = time.Time{}
		if c.work.r == c.work.w { // else the next request is there already
			c.lane.give(c.work)
			c.work = nil
			c.state.Store(laneIdle)
		} else if lentIsPoisoned {
			c.work = c.work.renew()
		}
		if c.lane.stopping.Load() {
			return false
		}
		if c.work == nil {
			now := time.Now()
			c.due, c.rest = now.Add(c.lane.cfg.IdleTimeout), now.Add(laneRestAfter)
		}
	}
}

// renew is a work with the same unread bytes, for who must not use one twice.
func (w *laneWork) renew() *laneWork {
	n := &laneWork{header: make(http.Header, 16)}
	n.in, n.r, n.w = w.in, w.r, w.w
	n.values = n.valuesRoom[:0]
	n.out.init()
	return n
}

// spoil makes later use of what was lent visible.
func (w *laneWork) spoil() {
	const poison = "POISONED"
	w.req.Method, w.req.RequestURI, w.url.Path = poison, poison, poison
	for _, h := range [2]http.Header{w.header, w.out.header} {
		clear(h)
		h["Poisoned"] = []string{"used after ServeHTTP has returned"}
	}
	for i := range w.values {
		w.values[i] = poison
	}
	w.out.conn = nil // every method panics
}

// park waits for the first byte of a request and holds no buffer while it does.
// Without one, rests tells that it has waited long enough to rest.
func (c *laneConn) park() (ok, rests bool) {
	for {
		c.mu.Lock()
		err := c.arm(headSooner(c.due, c.rest))
		c.mu.Unlock()
		switch {
		case err != nil:
		case c.try != nil:
			if err = c.raw.Read(c.try); err == nil {
				err = c.end
			}
		default:
			var n int
			if n, err = c.nc.Read(c.one[:]); n == 1 {
				// The rest of the record is there, decrypted.
				c.work = c.lane.take()
				c.work.in[0], c.work.w = c.one[0], 1
				err = nil
			}
		}
		if err == nil {
			return c.state.CompareAndSwap(laneIdle, laneBusy), false
		}
		now := time.Now()
		if !errors.Is(err, os.ErrDeadlineExceeded) || !now.Before(c.due) {
			return false, false
		}
		if !c.rest.IsZero() && !now.Before(c.rest) {
			c.rest = time.Time{}
			return false, true
		}
	}
}

// tryRead reads what is there; false has the poller wait for more.
func (c *laneConn) tryRead(fd uintptr) bool {
	w := c.lane.take()
	n, err := socketRead(fd, w.in)
	if n > 0 {
		w.w, c.work, c.end = n, w, nil
		return true
	}
	c.lane.give(w)
	if err == syscall.EAGAIN { //nolint:errorlint // a system call's bare number
		return false
	}
	if c.end = err; err == nil {
		c.end = net.ErrClosed // by the peer
	}
	return true
}

// arm tells the poller how long the read to come may wait. Telling it costs as
// much as a check: an earlier deadline may stand, if it is not near, and who
// finds that it came too soon waits on.
func (c *laneConn) arm(due time.Time) error {
	if !c.armed.IsZero() && (due.IsZero() || !c.armed.After(due)) {
		left := time.Until(c.armed)
		if left > time.Second || !due.IsZero() && left > time.Until(due)/2 {
			return nil
		}
	} else if c.armed.Equal(due) {
		return nil
	}
	c.armed = due
	return c.nc.SetReadDeadline(due)
}

// read reads within the deadline own and the handler's.
func (c *laneConn) read(p []byte, own time.Time) (int, error) {
	for {
		c.mu.Lock()
		c.own, c.reading = own, true
		err := c.arm(headSooner(c.asked, own))
		c.mu.Unlock()
		n := 0
		if err == nil {
			n, err = c.nc.Read(p)
		}
		c.mu.Lock()
		c.reading = false
		due := headSooner(c.asked, own)
		c.mu.Unlock()
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !due.IsZero() && !time.Now().Before(due) {
			return n, err
		}
	}
}

// ask sets the handler's deadline, also for a read under way.
func (c *laneConn) ask(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	if !c.reading {
		return nil
	}
	due := headSooner(t, c.own)
	if !c.armed.IsZero() && !due.IsZero() && !due.Before(c.armed) {
		return nil // the read will find out
	}
	c.armed = due
	return c.nc.SetReadDeadline(due)
}

// more reads into the buffer behind what is there, making room if need be.
func (c *laneConn) more(own time.Time) (int, error) {
	w := c.work
	switch {
	case w.r == w.w:
		w.r, w.w = 0, 0
	case len(w.in)-w.w >= laneBuffer/4:
	case w.r >= len(w.in)/2:
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	default:
		size := min(max(2*(w.w-w.r), laneBuffer), c.lane.cfg.MaxHeadBytes) + laneBuffer
		in := make([]byte, size)
		w.w = copy(in, w.in[w.r:w.w])
		w.in, w.r = in, 0
	}
	n, err := c.read(w.in[w.w:], own)
	w.w += n
	return n, err
}

// head reads up to the end of a head and checks it. It returns 0 when there is
// none, and whoever sent it has been told.
func (c *laneConn) head() int {
	w, seen, due := c.work, 0, c.headBy
	for {
		b := w.in[w.r:w.w]
		end, ok := headEnd(b, seen)
		v := headOK
		switch {
		case !ok:
			v = headBadLineEnd
		case end > c.lane.cfg.MaxHeadBytes:
			v = headTooLarge
		case end > 0:
			if v = headCheck(b[:end], &w.frame); v == headOK {
				return end
			}
		case len(b) > 1 && (b[0] < 'A' || b[0] > 'Z'): // in TLS the first byte comes alone
			// Not HTTP, or the rest of a body that another parser ended
			// elsewhere: no reason to wait for more of it.
			v = headBadLine
		case len(b) >= c.lane.cfg.MaxHeadBytes:
			v = headTooLarge
			if bytes.IndexByte(b, '\n') < 0 {
				v = headTargetTooLong
			}
		}
		if v != headOK {
			_ = headRefuse(c.nc, func(nc net.Conn, p *gatehouse.Problem, line string) string {
				return c.lane.refuse(nc, c.tls != nil, line, p)
			}, b, v)
			return 0
		}
		if seen = len(b); due.IsZero() {
			due = time.Now().Add(c.lane.cfg.HeadTimeout)
		}
		if n, _ := c.more(due); n == 0 {
			return 0
		}
	}
}

// request serves one request and reports whether the connection may carry another.
func (c *laneConn) request() (again bool) {
	end := c.head()
	if end == 0 {
		return false
	}
	w := c.work
	text := string(w.in[w.r : w.r+end]) // every string of the request is a part of it
	body, ok := w.fill(c, text)
	if !ok {
		c.handOver()
		return false
	}
	w.r += end
	c.ctx.begin()
	out := &w.out
	out.begin(c, &w.req, body)
	served := c.call(out, &w.req)
	if c.ctx.over() {
		c.fresh()
	}
	if w.req.MultipartForm != nil {
		_ = w.req.MultipartForm.RemoveAll()
	}
	defer func() {
		if lentIsPoisoned {
			w.spoil()
		}
	}()
	switch {
	case out.hijacked:
		c.gone = true
		body.expire()
		return false
	case !served:
		// What is not sent stays unsent: the answer must not look whole.
		out.breakOff()
		body.expire()
		return false
	}
	out.finish()
	clean := body.end()
	_ = c.ask(time.Time{})
	alive, more := out.err == nil, w.r < w.w || body != nil
	again = out.end() && clean
	if again {
		return true
	}
	c.work = nil
	c.lane.give(w)
	// There may be more than was read, in TLS the caller's own farewell: closed over
	// unread bytes, a connection is reset and takes with it what is on its way.
	if alive && (more || !clean || c.tls != nil) {
		headLast(c.nc)
	}
	return false
}

// call runs the handler. It reports false when the handler has panicked.
func (c *laneConn) call(w http.ResponseWriter, r *http.Request) (served bool) {
	defer func() {
		if served {
			return
		}
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // the value itself, as net/http has it
			c.lane.server.ErrorLog.Printf("http: panic serving %v: %v\n%s", c.remote, p, debug.Stack())
		}
	}()
	c.lane.handler.ServeHTTP(w, r)
	return true
}

// handOver gives the connection to net/http as if nothing had been read of it.
func (c *laneConn) handOver() {
	w := c.work
	hc := c.lane.other(c.nc, c.tls != nil)
	hc.keep(w.in[w.r:w.w])
	c.lane.give(w)
	c.work = nil
	c.gone = true
	_ = c.nc.SetReadDeadline(time.Time{})
	if tc, ok := c.nc.(*tls.Conn); ok {
		c.feed.give(headTLSConn{hc, tc})
		return
	}
	c.feed.give(hc)
}
