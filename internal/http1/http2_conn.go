package http1

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// An http2Conn is a TLS connection on which HTTP/2 is spoken. It looks at the
// heads of the frames that go by in both directions, and ends the connection
// when the peer floods: net/http bounds what one frame may take, and how many
// handlers run, but serves frames that are of no use for ever and at full speed
// (CVE-2023-44487, CVE-2025-8671, CVE-2019-9512 to 9518).
//
// net/http sees a connection without TLS that begins with the preface of
// HTTP/2, which is the only way to let it read through another type than
// *tls.Conn; so Request.TLS is filled in by http2Exchange.
//
// Read is called by one goroutine at a time, and so is Write.
type http2Conn struct {
	net.Conn // the *tls.Conn, with its ConnectionState hidden
	cfg      *Config
	tls      *tls.ConnectionState
	refused  func(*gatehouse.Problem)
	line     *http2Line // of the caller's address; nil: it speaks for many

	resets   http2Budget
	overhead http2Budget
	over     atomic.Pointer[error] // why it ends
	told     sync.Once
	slow     http2Watch // a frame under way
	starved  http2Watch // no room for DATA
	waiting  http2Open

	// Of what is read.
	in      http2Cursor
	hello   int // bytes of the preface not given away; -1: not read yet
	item    [6]byte
	items   int  // bytes of item seen
	open    bool // a head without its end
	pieces  int
	partial bool // what slow was told
	last    atomic.Uint32

	room  atomic.Int64 // bytes of DATA the peer will take on this connection
	tight atomic.Bool  // a stream may have less room than http2FirstWindow

	eager   atomic.Bool // a handler has flushed: heads are not held any more
	buffers *sync.Pool  // of *http2Held

	mu    sync.Mutex // held while writing
	out   http2Cursor
	first byte // of the payload of the frame last begun
	held  *http2Held
	left  bool // GOAWAY has been written
}

type http2Key struct{}

// An http2Held is what waits for the rest of its record.
type http2Held struct {
	n int
	b [http2FrameMost]byte
}

func (s *Server) newHTTP2(tc *tls.Conn, base *listenConn) *http2Conn {
	state := tc.ConnectionState()
	c := &http2Conn{Conn: tc, cfg: &s.cfg, tls: &state, hello: -1, buffers: &s.held}
	c.refused = func(p *gatehouse.Problem) { s.turnedAway(tc, true, p) }
	share := 1
	if base.exempt {
		share = 8 // it speaks for many callers
	} else {
		c.line = base.caller.line
	}
	now := time.Now()
	c.resets.fill(s.cfg.MaxResets*share, now)
	c.overhead.fill(s.cfg.MaxOverhead*share, now)
	c.room.Store(http2FirstWindow)
	c.slow.after, c.slow.cut = s.cfg.HeadTimeout, func() { c.cut(&errHTTP2SlowHead) }
	c.starved.after, c.starved.cut = s.cfg.WriteIdle, func() { c.cut(&errHTTP2Starved) }
	return c
}

// Read reads what the peer sent, until it floods.
func (c *http2Conn) Read(p []byte) (int, error) {
	if c.hello != 0 {
		return c.greet(p)
	}
	if c.line != nil && c.line.waiting.Load() > 0 && c.in.between() && c.line.take(nil) {
		c.line.give()
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.over.Load() == nil {
		c.came(p[:n])
	}
	if why := c.over.Load(); why != nil {
		return 0, c.end(*why)
	}
	return n, err
}

// greet gives the preface away after having read it whole: net/http would take
// a connection that begins otherwise for HTTP/1.1, which nobody has checked.
func (c *http2Conn) greet(p []byte) (int, error) {
	if c.hello < 0 {
		var b [len(http2Preface)]byte
		if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
		}
		if string(b[:]) != http2Preface {
			p := &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "malformed_request"}
			c.refused(p)
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: p} // net/http closes on it without an answer of its own
		}
		c.hello = len(b)
	}
	n := copy(p, http2Preface[len(http2Preface)-c.hello:])
	c.hello -= n
	return n, nil
}

// came looks at what was read.
func (c *http2Conn) came(p []byte) {
	for len(p) > 0 {
		if c.in.left > 0 && (c.in.kind() == http2Settings || c.in.kind() == http2WindowUpdate) {
			c.collect(p[:min(len(p), c.in.left)])
		}
		var begun bool
		if p, begun = c.in.next(p); begun {
			c.begun()
		}
	}
	// DATA is left to the pace of bodies, and to pings.
	partial := c.open || c.in.have > 0 || c.in.left > 0 && c.in.kind() != http2Data
	if partial != c.partial {
		c.partial = partial
		c.slow.turn()
	}
}

// begun weighs a frame whose head has been read.
func (c *http2Conn) begun() {
	kind, flags := c.in.kind(), c.in.flags()
	c.items = 0
	cost := int64(1)
	switch kind {
	case http2Data:
		// A byte that costs nine of framing, or padding alone, moves nothing. An
		// empty message of gRPC has five.
		if c.in.left >= http2Message && flags&http2Padded == 0 || flags&http2EndStream != 0 {
			cost = 0
		}
	case http2Headers:
		cost = 0
		c.overhead.earn(4)
		if id := c.in.stream(); id > c.last.Load() {
			c.last.Store(id)
			c.waiting.add(id)
		}
		c.pieces, c.open = 0, flags&http2EndHeaders == 0
	case http2Continuation:
		if c.pieces++; c.pieces > http2MaxPieces {
			c.fail(&errHTTP2Pieces)
		}
		c.open = c.open && flags&http2EndHeaders == 0
	case http2Reset:
		cost = 0
		c.reset(c.in.stream())
	case http2Settings:
		if flags&http2Ack == 0 {
			cost = 10
		}
	case http2Ping:
		if flags&http2Ack == 0 {
			cost = 2 // it is answered
		}
	case http2GoAway:
		cost = 100 // it is logged, and only the first says something
	}
	if cost > 0 && !c.overhead.spend(cost) {
		c.fail(&errHTTP2Overhead)
	}
}

// collect reads the payload of SETTINGS and WINDOW_UPDATE.
func (c *http2Conn) collect(p []byte) {
	size := 6
	if c.in.kind() == http2WindowUpdate {
		size = 4
	}
	for len(p) > 0 {
		n := copy(c.item[c.items:size], p)
		p = p[n:]
		if c.items += n; c.items < size {
			return
		}
		c.items = 0
		switch {
		case size == 4:
			if c.in.stream() == 0 {
				c.gained(int64(binary.BigEndian.Uint32(c.item[:]) & 0x7fffffff))
			}
		case binary.BigEndian.Uint16(c.item[:]) == http2WindowSize && binary.BigEndian.Uint32(c.item[2:]) < http2FirstWindow:
			c.tight.Store(true)
		}
	}
}

func (c *http2Conn) gained(n int64) {
	if now := c.room.Add(n); now > 0 && now-n <= 0 {
		c.starved.turn()
	}
}

// went looks at what is written.
func (c *http2Conn) went(p []byte) {
	for len(p) > 0 {
		var begun bool
		if p, begun = c.out.next(p); !begun {
			continue
		}
		c.first = 0 // of a frame that is cut behind its head
		if len(p) > 0 {
			c.first = p[0]
		}
		kind, flags := c.out.kind(), c.out.flags()
		switch kind {
		case http2Data, http2Headers:
			c.overhead.earn(4) // the peer may acknowledge it
			if flags&http2EndStream != 0 && c.waiting.remove(c.out.stream()) {
				c.resets.earn(1)
			}
			if n := int64(c.out.left); kind == http2Data && n > 0 {
				if now := c.room.Add(-n); now <= 0 && now+n > 0 {
					c.starved.turn()
				}
			}
		case http2Reset:
			c.reset(c.out.stream()) // the peer made us do it (CVE-2025-8671)
		}
	}
}

// reset counts a stream that either side has reset. After the answer that is
// how a body nobody wants is stopped, and there may be several.
func (c *http2Conn) reset(stream uint32) {
	switch {
	case c.waiting.remove(stream):
		if !c.resets.spend(1) {
			c.fail(&errHTTP2Resets)
		}
	case !c.overhead.spend(1):
		c.fail(&errHTTP2Overhead)
	}
}

// Write writes p, or holds it until more is written that is sure to follow.
// Once the connection is to end, nothing more leaves.
func (c *http2Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over.Load() != nil && c.out.between() {
		c.farewell()
		return len(p), nil
	}
	c.went(p)
	if c.held == nil && !c.holds(len(p)) {
		return c.send(p)
	}
	if c.held == nil {
		c.held, _ = c.buffers.Get().(*http2Held)
		if c.held == nil {
			c.held = new(http2Held)
		}
		c.held.n = 0
	}
	if c.held.n+len(p) > len(c.held.b) {
		if err := c.release(); err != nil {
			return 0, err
		}
		return c.send(p)
	}
	c.held.n += copy(c.held.b[c.held.n:], p)
	if c.holds(c.held.n) {
		return len(p), nil
	}
	return len(p), c.release()
}

// send writes p at last.
func (c *http2Conn) send(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.over.Load() != nil {
		c.farewell()
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // a Read under way ends the connection
	}
	return n, err
}

// holds reports that n bytes ending in the frame written last may wait.
//
// net/http writes the head of an answer and its first DATA apart, each with a
// record of TLS and a system call of its own, because the handler is asked in
// between. After the head of a final answer DATA follows at once if the handler
// did not flush and there is room for it. A final answer is one whose :status is
// of HPACK's static table: 100 and 103, which the peer may wait for, are not.
func (c *http2Conn) holds(n int) bool {
	return n <= http2FrameMost/4 && c.out.between() && c.out.kind() == http2Headers &&
		c.out.flags() == http2EndHeaders && c.first >= 0x88 && c.first <= 0x8e &&
		!c.eager.Load() && !c.tight.Load() && c.room.Load() > 0 && c.over.Load() == nil
}

// release writes what was held.
func (c *http2Conn) release() error {
	h := c.held
	c.held = nil
	_, err := c.send(h.b[:h.n])
	c.buffers.Put(h)
	return err
}

// Close closes the connection.
func (c *http2Conn) Close() error {
	c.slow.stop()
	c.starved.stop()
	return c.Conn.Close()
}

// fail lets the next Read end the connection.
func (c *http2Conn) fail(why *error) { c.over.CompareAndSwap(nil, why) }

// end tells the peer why (RFC 9113 §7) and the operator once, and gives the
// error that makes net/http close the connection.
func (c *http2Conn) end(why error) error {
	c.told.Do(func() {
		c.refused(&gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "http2_flood", Err: why})
		c.tryFarewell()
		c.linger()
		c.tryFarewell()
	})
	return &net.OpError{Op: "read", Net: "tcp", Err: why}
}

// linger reads on for a while: unread input would reset the connection, and the
// farewell with it.
func (c *http2Conn) linger() {
	until := time.Now().Add(headLinger)
	_ = c.Conn.SetReadDeadline(until)
	var sink [512]byte
	for total := 0; total < headLingerMost; {
		n, err := c.Conn.Read(sink[:])
		total += n
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(until):
			_ = c.Conn.SetReadDeadline(until) // it was a Write that woke a Read no longer under way
		default:
			return
		}
	}
}

// cut ends the connection though nobody reads from it.
func (c *http2Conn) cut(why *error) {
	c.fail(why)
	c.told.Do(func() {
		c.refused(&gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "http2_flood", Err: *why})
		c.tryFarewell()
	})
	_ = c.Close()
}

// tryFarewell says farewell unless a Write is under way, which does it then.
func (c *http2Conn) tryFarewell() {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		c.farewell()
	}
}

// farewell writes GOAWAY with ENHANCE_YOUR_CALM once, unless a frame is half
// written. It is called with mu held.
func (c *http2Conn) farewell() {
	if c.left || !c.out.between() {
		return
	}
	c.left = true
	if c.held != nil {
		_ = c.release()
	}
	b := []byte{0, 0, 8, http2GoAway, 0, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, c.last.Load())
	b = binary.BigEndian.AppendUint32(b, 11)
	_ = c.Conn.SetWriteDeadline(time.Now().Add(headLinger))
	_, _ = c.Conn.Write(b)
}

// http2Of gives the connection r came on; nil when it is not HTTP/2.
func http2Of(r *http.Request) *http2Conn {
	c, _ := r.Context().Value(http2Key{}).(*http2Conn)
	return c
}
