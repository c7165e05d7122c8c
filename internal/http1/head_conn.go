package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	headBufferSize = 4 << 10
	headLineLogged = 256 // bytes of the first line that are reported
	headLinger     = 500 * time.Millisecond
	headLingerMost = 64 << 10
)

// A headRefuser records a refused head and returns the id to show the caller.
type headRefuser func(c net.Conn, p *gatehouse.Problem, line string) string

// A headConn gives net/http the bytes of a connection one message at a time,
// each only after its head has been read whole and found in order. A Read never
// goes past the end of a message, so what follows a message is judged when
// net/http asks for it, and its refusal is written after the answer before it.
//
// Reads come from one goroutine at a time, as net/http does them; deadlines may
// be set from another.
type headConn struct {
	net.Conn
	cfg     *Config
	refuser headRefuser
	buffers *sync.Pool // of *[headBufferSize]byte

	mu      sync.Mutex  // guards these
	asked   time.Time   // the read deadline net/http or a handler wants
	own     time.Time   // ours, for a head or a body under way
	armed   time.Time   // the one the poller knows
	reading bool        // somebody is in Conn.Read
	resting bool        // somebody is in rest
	woken   sync.Cond   // resting has ended
	alarm   *time.Timer // ends it

	store  *[headBufferSize]byte // where buf began, to be given back
	buf    []byte                // read, not yet given away
	lent   int                   // 1 when buf[0] has been given away before its head was judged
	seen   int                   // bytes of buf known to hold no end of head
	pass   int                   // bytes of buf found in order, to be given away
	begun  time.Time             // when net/http began to wait for the rest of this head
	frame  headFrame             // of the head last judged; a field so that it stays off the heap
	inBody bool
	chunks headChunks
	left   int64 // of a body with a Content-Length
	pace   headPace
	err    error // what every further Read returns
	raw    bool  // hijacked: HTTP has ended
}

// A headTLSConn is a headConn in TLS: net/http fills Request.TLS from it.
type headTLSConn struct {
	*headConn
	tls *tls.Conn
}

// ConnectionState is how net/http learns of the client's certificate.
func (c headTLSConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// NetConn gives the connection beneath, so that who hijacks can reset it.
func (c *headConn) NetConn() net.Conn { return c.Conn }

// hijacked turns the checks off: what follows a 101 is not HTTP.
func (c *headConn) hijacked() {
	c.raw = true
	c.setOwn(time.Time{})
}

// CloseWrite closes the sending half, where the connection has halves.
func (c *headConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetReadDeadline keeps the sooner of t and the deadline of the checks.
func (c *headConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	if c.resting && !t.IsZero() {
		c.resting = false
		c.woken.Signal()
	}
	return c.arm()
}

// SetDeadline sets both deadlines.
func (c *headConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *headConn) setOwn(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = t
	_ = c.arm() // fails only on a closed connection, as the Read will
}

// arm tells the poller how long the Read under way may wait. net/http moves the
// deadline six times a request, mostly with nobody reading, and each time costs
// as much as a check: so an earlier deadline may stand, if it is not much
// earlier, and read finds out that it came too soon.
func (c *headConn) arm() error {
	if !c.reading {
		return nil
	}
	due := headSooner(c.asked, c.own)
	switch {
	case due.Equal(c.armed):
		return nil
	case c.armed.IsZero(), !due.IsZero() && due.Before(c.armed):
	case time.Until(c.armed) > max(time.Second, time.Until(due)/2):
		return nil
	}
	c.armed = due
	return c.Conn.SetReadDeadline(due)
}

// read reads from the connection within the deadlines.
func (c *headConn) read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		c.reading = true
		err := c.arm()
		c.mu.Unlock()
		n := 0
		if err == nil {
			n, err = c.Conn.Read(p)
		}
		c.mu.Lock()
		c.reading = false
		due := headSooner(c.asked, c.own)
		c.mu.Unlock()
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !due.IsZero() && !time.Now().Before(due) {
			return n, err
		}
	}
}

func headSooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Read gives at most the rest of the message under way.
func (c *headConn) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case c.raw:
		return c.readRaw(p)
	case c.pass > 0:
		n := copy(p, c.buf[:c.pass])
		c.pass -= n
		c.drop(n)
		return n, nil
	case c.err != nil:
		return 0, c.err
	case c.inBody:
		return c.readBody(p)
	case len(p) == 1 && c.lent == 0:
		return c.lend(p)
	}
	return c.readHead(p)
}

func (c *headConn) readRaw(p []byte) (int, error) {
	if c.lent > 0 {
		c.lent = 0
		c.drop(1)
	}
	if len(c.buf) > 0 {
		n := copy(p, c.buf)
		c.drop(n)
		return n, nil
	}
	return c.read(p)
}

// lend gives away the first byte of a head before the head is judged. While a
// handler runs, net/http waits with a one-byte read to learn that the caller
// has gone; no request can begin from one byte, and the refusal of what it
// belongs to must not be written in the middle of the answer under way.
func (c *headConn) lend(p []byte) (int, error) {
	if len(c.buf) == 0 {
		if !c.rest() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := c.read(p)
		if n == 0 {
			return 0, err
		}
		c.keep(p)
	}
	p[0] = c.buf[0]
	c.lent = 1
	return 1, nil
}

// rest waits a moment before the caller is watched: most handlers have answered
// by then, and looking at the socket for nothing costs each of them a system
// call. It reports false when the deadline has passed, which is how net/http
// says that it watches no more.
func (c *headConn) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() {
		c.resting = true
		if c.alarm == nil {
			c.woken.L = &c.mu
			c.alarm = time.AfterFunc(tick, c.rested)
		} else {
			c.alarm.Reset(tick)
		}
		for c.resting {
			c.woken.Wait()
		}
		c.alarm.Stop()
	}
	return c.asked.IsZero() || time.Now().Before(c.asked)
}

func (c *headConn) rested() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting = false
	c.woken.Signal()
}

func (c *headConn) readHead(p []byte) (int, error) {
	if len(c.buf) == 0 {
		// The usual case: a head in one read, judged where it lies.
		n, err := c.read(p)
		if n == 0 {
			return 0, err
		}
		end, ok := headEnd(p[:n], 0)
		if !ok {
			return c.refuse(p[:n], headBadLineEnd)
		}
		if end > 0 {
			if v := c.judge(p[:end]); v != headOK {
				return c.refuse(p[:n], v)
			}
			return end + c.take(p[end:n]), nil
		}
		c.keep(p[:n])
	}
	for {
		end, ok := headEnd(c.buf, c.seen)
		switch {
		case !ok:
			return c.refuse(c.buf, headBadLineEnd)
		case end > 0:
			if v := c.judge(c.buf[:end]); v != headOK {
				return c.refuse(c.buf, v)
			}
			c.setOwn(time.Time{})
			c.begun = time.Time{}
			c.pass = end
			c.drop(c.lent)
			c.pass -= c.lent
			c.lent, c.seen = 0, 0
			return c.Read(p)
		case c.buf[0] < 'A' || c.buf[0] > 'Z':
			// Not HTTP, or the rest of a body that another parser ended
			// elsewhere: no reason to wait for more of it.
			return c.refuse(c.buf, headBadLine)
		case len(c.buf) >= c.cfg.MaxHeadBytes:
			if bytes.IndexByte(c.buf, '\n') < 0 {
				return c.refuse(c.buf, headTargetTooLong)
			}
			return c.refuse(c.buf, headTooLarge)
		}
		c.seen = len(c.buf)
		if c.begun.IsZero() {
			c.begun = time.Now()
			c.setOwn(c.begun.Add(c.cfg.HeadTimeout))
		}
		c.grow()
		n, err := c.read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if n == 0 {
			return 0, err
		}
	}
}

// judge checks the head b and prepares for the body behind it.
func (c *headConn) judge(b []byte) headVerdict {
	if len(b) > c.cfg.MaxHeadBytes {
		return headTooLarge
	}
	v := headCheck(b, &c.frame)
	if v == headOK {
		c.left, c.chunks, c.pace = c.frame.length, headChunks{}, headPace{}
		c.inBody = c.frame.chunked || c.left > 0
	}
	return v
}

// take returns how many bytes of b, which follow what has been given away,
// belong to the message under way, and keeps the others.
func (c *headConn) take(b []byte) int {
	n := c.follow(b)
	if n < len(b) && c.err == nil {
		c.keep(b[n:])
	}
	return n
}

// follow moves through the body by b and returns how much of b is of it.
func (c *headConn) follow(b []byte) (n int) {
	if !c.inBody {
		return 0
	}
	if c.frame.chunked {
		var done bool
		var v headVerdict
		if n, done, v = c.chunks.next(b); v != headOK {
			c.err = v.problem()
		}
		c.inBody = !done
	} else {
		n = int(min(int64(len(b)), c.left))
		c.left -= int64(n)
		c.inBody = c.left > 0
	}
	if !c.inBody {
		c.setOwn(time.Time{})
	}
	return n
}

func (c *headConn) readBody(p []byte) (int, error) {
	if !c.frame.chunked && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	for {
		if len(c.buf) > 0 {
			if c.pass = c.follow(c.buf); c.pass > 0 || c.err != nil {
				return c.Read(p)
			}
			// The start of the end of a chunked body: see more of it.
			c.grow()
			n, err := c.await(c.buf[len(c.buf):cap(c.buf)])
			if c.buf = c.buf[:len(c.buf)+n]; err != nil {
				return 0, err
			}
			continue
		}
		n, err := c.await(p)
		if err != nil {
			return 0, err
		}
		if n = c.take(p[:n]); n > 0 {
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
	}
}

// await reads some of a body into p, within the pace asked for.
func (c *headConn) await(p []byte) (int, error) {
	start := time.Now()
	c.setOwn(start.Add(c.cfg.BodyIdle))
	n, err := c.read(p)
	if !c.pace.fits(c.cfg, n, time.Since(start)) || n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.ownPassed() {
		c.err = headSlowBody.problem()
		return 0, c.err
	}
	if n == 0 {
		return 0, err
	}
	return n, nil
}

func (c *headConn) ownPassed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return headSooner(c.asked, c.own).Equal(c.own)
}

// refuse answers a head that will not be served, given the bytes read of it,
// and ends the connection.
func (c *headConn) refuse(b []byte, v headVerdict) (int, error) {
	c.err = headRefuse(c.Conn, c.refuser, b, v)
	return 0, c.err
}

// headRefuse writes the refusal of b to c and sees that it arrives.
func headRefuse(c net.Conn, refuser headRefuser, b []byte, v headVerdict) error {
	p := v.problem()
	id := refuser(c, p, headLine(b))
	if _, err := c.Write(headAnswer(p, id)); err == nil {
		headLast(c)
	}
	return &net.OpError{Op: "read", Net: "tcp", Err: p} // net/http closes on it without an answer of its own
}

// headLast ends sending and reads on for a moment. Only after the peer has read
// the answer is it safe to close: unread input would reset the connection and
// the answer with it. Who sends much is waited for, not read.
func headLast(c net.Conn) {
	h, ok := c.(interface{ CloseWrite() error })
	if !ok || h.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(headLinger)
	_ = c.SetReadDeadline(end)
	var sink [512]byte
	for total := 0; total < headLingerMost; {
		n, err := c.Read(sink[:])
		if total += n; err != nil {
			return
		}
	}
	<-time.After(time.Until(end))
}

// headLine is the first line for the operator: without the query, which may
// hold a token, cut, and with everything unprintable escaped.
func headLine(b []byte) string {
	if i := bytes.IndexAny(b, "?\r\n"); i >= 0 {
		b = b[:i]
	}
	q := strconv.QuoteToASCII(string(b[:min(len(b), headLineLogged)]))
	return q[1 : len(q)-1]
}

// headAnswer is the gateway's problem document (RFC 9457) at its smallest.
// Nothing of the request is in it: id comes from the gateway, the rest from here.
func headAnswer(p *gatehouse.Problem, id string) []byte {
	status := p.Kind.Status()
	body := `{"type":"urn:gatehouse:problem:` + p.Reason + `","title":` + strconv.Quote(http.StatusText(status)) + `,"status":` + strconv.Itoa(status) +
		`,"detail":` + strconv.Quote(p.Detail) + `,"reason":"` + p.Reason + `"`
	decision := ""
	if id != "" {
		body += `,"decision":` + strconv.Quote(id)
		decision = "\r\nGatehouse-Decision: " + id
	}
	body += "}\n"
	return []byte("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) +
		"\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff" + decision + "\r\nConnection: close\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// keep stores bytes that were read too early.
func (c *headConn) keep(b []byte) {
	if len(c.buf) == 0 {
		if c.store == nil {
			b, ok := c.buffers.Get().(*[headBufferSize]byte)
			if !ok {
				b = new([headBufferSize]byte)
			}
			c.store = b
		}
		c.buf = c.store[:0]
	}
	c.buf = append(c.buf, b...)
}

// drop forgets the first n stored bytes.
func (c *headConn) drop(n int) {
	if c.buf = c.buf[n:]; len(c.buf) == 0 {
		c.buf = nil
		if c.store != nil {
			c.buffers.Put(c.store)
			c.store = nil
		}
	}
}

// grow makes room behind buf, by moving it to the front if that is enough.
func (c *headConn) grow() {
	if cap(c.buf)-len(c.buf) >= headBufferSize/4 {
		return
	}
	if c.store != nil && len(c.buf) <= headBufferSize/2 {
		c.buf = c.store[:copy(c.store[:], c.buf)]
		return
	}
	size := min(max(2*len(c.buf), headBufferSize), c.cfg.MaxHeadBytes+headBufferSize)
	c.buf = append(make([]byte, 0, size), c.buf...)
}

// A headPace measures how fast a body comes, by the time spent waiting for it:
// a service that takes its time does not make its caller slow.
type headPace struct {
	waited time.Duration
	bytes  int64
}

// fits adds n bytes that took d and reports whether the body still keeps pace
// with cfg.MinBodyRate; the first BodyIdle of waiting is free.
func (p *headPace) fits(cfg *Config, n int, d time.Duration) bool {
	p.waited += d
	p.bytes += int64(n)
	return p.waited <= cfg.BodyIdle || p.bytes >= int64(p.waited.Seconds()*float64(cfg.MinBodyRate))
}
