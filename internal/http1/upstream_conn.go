package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	bufferSize = 32 << 10
	// tick is how often a read that waits looks whether its caller is still
	// there. Watching the context itself would cost every request four
	// allocations and a lock; this costs the fast ones nothing.
	tick = 250 * time.Millisecond
)

// ErrTimeout says that the service was silent, or did not take our bytes, for
// longer than its pool allows.
var ErrTimeout = errors.New("http1: the service took too long")

// errSpent guards against use after Close.
var errSpent = errors.New("http1: connection used after its end")

// A Conn is a connection to a service that carries one exchange at a time, in
// the goroutine of its user: Send or Ask, ReadHead until the status is final, Next
// until io.EOF, Release. Only SendStream may run beside the others.
//
// What it lends is good until Release or Close: the bytes Next gave (until the
// next call of it), and the fields of a head or trailer as slices. The strings in
// them may be kept. Under the race detector what was lent is overwritten then.
type Conn struct {
	nc     net.Conn // nil after the end
	sock   net.Conn // the same, never nil, for Interrupt from elsewhere
	pool   *Pool
	probe  prober // looks for bytes nobody asked for
	talk   talker // asks and waits in one step
	since  int64  // when it became idle; times are the pool's: see Pool.now
	reused bool   // it has carried an exchange before

	pooled    *[bufferSize]byte // goes back to buffers
	bulk      *[bulkSize]byte   // goes back to bulks; nil but for long bodies
	buf       []byte            // pooled[:], or a larger one for a large head
	r, w      int               // what was read and not yet used: buf[r:w]
	readBy    int64             // deadlines as the runtime's poller knows them
	writeBy   int64
	headBy    atomic.Int64 // when the response's head is due
	last      atomic.Bool  // SendStream has no more to read
	within    time.Duration
	sent      int64 // when the request was
	early     error // what ended the reading before anybody asked
	heard     bool  // a byte of the response has come
	broken    bool
	halfSent  bool
	interim   int
	resp      Response
	framing   framing
	left      int64 // of the body, or of the chunk
	betweenCh bool  // the CRLF after a chunk's data is due
	reusable  bool
	ended     bool // the body is complete
	trailer   []Field
}

// Reused reports whether the connection carried an exchange before. When such a
// connection fails before its first byte, the service probably just closed it.
func (c *Conn) Reused() bool { return c.reused }

// Heard reports whether any byte of the response has come.
func (c *Conn) Heard() bool { return c.heard }

// Send starts an exchange with one write of b: the request's head, and its body
// if that is short. The final response's head is due within the given time after
// the request was sent whole; 0 stands for the pool's HeadTimeout. n tells how
// much went out before an error.
func (c *Conn) Send(b []byte, within time.Duration) (n int, err error) {
	now, err := c.begin(within)
	if err != nil {
		return 0, err
	}
	n, err = c.writeAt(now, b)
	c.halfSent = err != nil // the answer may be there all the same
	return n, err
}

// begin makes c ready for an exchange that begins now.
func (c *Conn) begin(within time.Duration) (now int64, err error) {
	if c.nc == nil {
		return 0, errSpent
	}
	c.heard, c.broken, c.interim, c.ended, c.early = false, false, 0, false, nil
	c.last.Store(false)
	if c.within = within; within == 0 {
		c.within = c.pool.cfg.HeadTimeout
	}
	now = c.pool.now()
	c.sent = now
	c.headBy.Store(now + int64(c.within))
	return now, nil
}

// Took is how long ago the exchange began.
func (c *Conn) Took() time.Duration { return time.Duration(c.pool.now() - c.sent) }

func (c *Conn) headDue() { c.headBy.Store(c.pool.now() + int64(c.within)) }

func (c *Conn) write(b []byte) (int, error) { return c.writeAt(c.pool.now(), b) }

func (c *Conn) writeAt(now int64, b []byte) (int, error) {
	idle := int64(c.pool.cfg.BodyTimeout)
	if c.writeBy-now < idle {
		c.writeBy = now + idle + idle/4
		if err := c.nc.SetWriteDeadline(c.pool.start.Add(time.Duration(c.writeBy))); err != nil {
			return 0, err
		}
	}
	n, err := c.nc.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrTimeout
	}
	return n, err
}

// readable moves the deadline of reads so far away that the next one has at
// least a tick.
func (c *Conn) readable(now int64) error {
	if c.readBy-now >= int64(tick) {
		return nil
	}
	c.readBy = now + int64(2*tick)
	return c.nc.SetReadDeadline(c.pool.start.Add(time.Duration(c.readBy)))
}

// SendStream sends the request's body after its head: length bytes of it, or,
// when length is -1, chunked and followed by the fields trailer gives (nil for
// none). It sends what it has at once, so that streams stay streams. An error
// from body comes back wrapped in a [*BodyError]. After any error the service
// has seen half a request, and the connection must be closed.
func (c *Conn) SendStream(body io.Reader, length int64, trailer func() http.Header) error {
	// The service need not answer before it has the whole request. A sender or
	// receiver that stalls is found out by its own timeout.
	c.headBy.Store(math.MaxInt64)
	defer c.headDue()
	p := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(p)
	if length >= 0 {
		for left := length; left > 0; {
			n, err := body.Read(p[:min(left, bufferSize)])
			if n > 0 {
				if left -= int64(n); left == 0 {
					c.last.Store(true)
				}
				if _, werr := c.write(p[:n]); werr != nil {
					return werr
				}
			}
			if err != nil && left > 0 {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return &BodyError{err}
			}
		}
		return nil
	}
	const room = 10 // "7ff6\r\n" fits
	for {
		n, err := body.Read(p[room : bufferSize-2])
		if errors.Is(err, io.EOF) {
			c.last.Store(true)
		}
		if n > 0 {
			size := strconv.AppendUint(p[room-6:room-6], uint64(n), 16)
			from := room - 2 - len(size)
			copy(p[from:], size)
			p[room-2], p[room-1] = '\r', '\n'
			p[room+n], p[room+n+1] = '\r', '\n'
			if _, werr := c.write(p[from : room+n+2]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &BodyError{err}
		}
	}
	end := append(p[:0], "0\r\n"...)
	if trailer != nil {
		for name, values := range trailer() {
			for _, v := range values {
				if !ValidField(name, v) {
					return &BodyError{errors.New("trailer field " + strconv.Quote(name))}
				}
				end = append(append(append(append(end, name...), ": "...), v...), "\r\n"...)
			}
		}
	}
	_, err := c.write(append(end, "\r\n"...))
	return err
}

// LastSent reports that SendStream has read the whole body: it has nothing to wait
// for but that the service takes the last of it. It may be asked beside it.
func (c *Conn) LastSent() bool { return c.last.Load() }

// A BodyError is a failure to read the request's body, as opposed to one of
// sending it.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "reading the request's body: " + e.Err.Error() }

// Unwrap returns the reader's error.
func (e *BodyError) Unwrap() error { return e.Err }

// ReadHead reads the next response head: an interim one (1xx), after which it
// is to be called again, or the final one. method is the request's. It waits no
// longer than the pool's HeadTimeout after Send, and no longer than ctx lives.
func (c *Conn) ReadHead(ctx context.Context, method string) (*Response, error) {
	if c.nc == nil {
		return nil, errSpent
	}
	line, seen := c.r, c.r
	for {
		end, err := lineEnds(c.buf[:c.w], c.r, &seen, &line)
		if err == nil && end == 0 && c.w-c.r >= maxResponseHead {
			err = fault("head too large")
		}
		if err == nil && end > 0 {
			head := string(c.buf[c.r:end])
			c.r = end
			if err = c.parseResponse(head, method); err == nil && c.resp.Status < 200 {
				if c.interim++; c.interim > maxInterim {
					err = fault("too many interim responses")
				}
			}
			if err == nil {
				return &c.resp, nil
			}
		}
		if err != nil {
			c.broken = true
			return nil, err
		}
		was := c.r
		if err := c.fill(ctx, 0); err != nil {
			return nil, err
		}
		line, seen = line-was+c.r, seen-was+c.r
	}
}

// Next gives the next piece of the body as it came, without copying: it is
// valid until the next call. After the last one it gives io.EOF. A connection
// that ends before the body does gives io.ErrUnexpectedEOF.
func (c *Conn) Next(ctx context.Context) ([]byte, error) {
	b, err := c.next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		c.broken = true
	}
	return b, err
}

func (c *Conn) next(ctx context.Context) ([]byte, error) {
	switch {
	case c.nc == nil:
		return nil, errSpent
	case c.broken:
		return nil, io.ErrUnexpectedEOF
	case c.ended:
		return nil, io.EOF
	}
	if c.framing == framedChunked {
		if err := c.nextChunk(ctx); err != nil {
			return nil, err
		}
	}
	if c.r == c.w {
		c.takeBulk()
		if err := c.fillBody(ctx); err != nil {
			if errors.Is(err, io.EOF) && c.framing == framedClose {
				c.ended = true
			} else if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	b := c.buf[c.r:c.w]
	if c.framing == framedClose {
		c.r = c.w
		return b, nil
	}
	b = b[:min(int64(len(b)), c.left, bufferSize)] // what a caller on a thin line takes before its deadline
	c.r += len(b)
	c.left -= int64(len(b))
	if c.left == 0 {
		c.betweenCh = c.framing == framedChunked
		c.ended = c.framing == framedLength
	}
	return b, nil
}

// Waiting reports whether Next would have to wait for the service: the moment
// to flush what one has. What is left of a chunk's framing is nothing to send.
func (c *Conn) Waiting() bool {
	b := c.buf[c.r:c.w]
	switch {
	case c.ended:
		return false
	case c.framing != framedChunked || c.left > 0:
		return len(b) == 0
	case c.betweenCh && len(b) < 2:
		return true
	case c.betweenCh:
		b = b[2:]
	}
	line := bytes.IndexByte(b, '\n')
	return line < 0 || line+1 == len(b)
}

// Whole reports whether the body has a known length and has all been received.
func (c *Conn) Whole() bool {
	return c.ended || c.framing == framedLength && int64(c.w-c.r) >= c.left
}

// Ended reports whether the body has been given whole: Next would give io.EOF.
func (c *Conn) Ended() bool { return c.ended && !c.broken }

// Await waits until a body whose length is known and fits the buffer has come
// whole, so that a service which dies in it can still be answered for with an
// error. For other bodies it does nothing.
func (c *Conn) Await(ctx context.Context) error {
	if c.framing != framedLength || c.left > bufferSize {
		return nil
	}
	for !c.Whole() {
		if err := c.fillFraming(ctx); err != nil {
			return err
		}
	}
	return nil
}

// nextChunk leaves c.left > 0, or gives io.EOF after the last chunk and its
// trailer section (RFC 9112 §7.1).
func (c *Conn) nextChunk(ctx context.Context) error {
	if c.left > 0 {
		return nil
	}
	if c.betweenCh {
		for c.w-c.r < 2 {
			if err := c.fillFraming(ctx); err != nil {
				return err
			}
		}
		if c.buf[c.r] != '\r' || c.buf[c.r+1] != '\n' {
			return fault("chunk longer than its size")
		}
		c.r += 2
		c.betweenCh = false
	}
	line := c.r
	for i := c.r; ; i++ {
		if i-line >= maxChunkLine {
			return fault("chunk size line too long")
		}
		for i == c.w {
			was := c.r
			if err := c.fillFraming(ctx); err != nil {
				return err
			}
			i, line = i-was+c.r, line-was+c.r
		}
		if c.buf[i] == '\n' {
			size, err := parseChunkLine(c.buf[line : i+1])
			if err != nil {
				return err
			}
			c.r = i + 1
			if size > 0 {
				c.left = size
				return nil
			}
			return c.readTrailer(ctx)
		}
	}
}

// parseChunkLine reads chunk-size [ chunk-ext ] CRLF. Extensions are ignored,
// as RFC 9112 §7.1.1 wants, but must be free of control bytes: a line feed
// hidden in one is how chunks are smuggled.
func parseChunkLine(line []byte) (size int64, err error) {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return 0, fault("bare LF after a chunk size")
	}
	line = line[:len(line)-2]
	digits := 0
	for ; digits < len(line); digits++ {
		var d byte
		switch b := line[digits]; {
		case '0' <= b && b <= '9':
			d = b - '0'
		case 'a' <= b && b <= 'f':
			d = b - 'a' + 10
		case 'A' <= b && b <= 'F':
			d = b - 'A' + 10
		default:
			d = 0xff
		}
		if d == 0xff {
			break
		}
		if digits == 15 {
			return 0, fault("chunk size too large")
		}
		size = size<<4 | int64(d)
	}
	if digits == 0 {
		return 0, fault("chunk size")
	}
	if rest := line[digits:]; len(rest) > 0 && (rest[0] != ';' || !cleanValue(string(rest))) {
		return 0, fault("chunk size")
	}
	return size, nil
}

func (c *Conn) readTrailer(ctx context.Context) error {
	line, seen := c.r, c.r
	for {
		end, err := lineEnds(c.buf[:c.w], c.r, &seen, &line)
		if err != nil {
			return err
		}
		if end > 0 {
			fields := string(c.buf[c.r:end])
			c.r, c.ended = end, true
			if c.trailer, err = parseFields(fields, c.trailer[:0]); err != nil {
				c.ended = false
				return err
			}
			return io.EOF
		}
		if c.w-c.r >= bufferSize {
			return fault("trailer too large")
		}
		was := c.r
		if err := c.fillFraming(ctx); err != nil {
			return err
		}
		line, seen = line-was+c.r, seen-was+c.r
	}
}

// Trailer gives the trailer fields, once Next has given io.EOF.
func (c *Conn) Trailer() []Field { return c.trailer }

func (c *Conn) fillBody(ctx context.Context) error {
	return c.fill(ctx, c.pool.now()+int64(c.pool.cfg.BodyTimeout))
}

func (c *Conn) fillFraming(ctx context.Context) error {
	err := c.fillBody(ctx)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// fill reads more into buf, moving what is unread to its start. It waits until
// by; 0 stands for headBy, which moves.
func (c *Conn) fill(ctx context.Context, by int64) error {
	if c.early != nil {
		c.broken = true
		return c.early
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.buf = append(make([]byte, 0, maxResponseHead), c.buf...)[:maxResponseHead]
	}
	for {
		now := c.pool.now()
		if err := c.readable(now); err != nil {
			c.broken = true
			return err
		}
		n, err := c.nc.Read(c.buf[c.w:])
		if n > 0 {
			c.w += n
			c.heard = true
			// A service that sends a byte now and then never lets a read run out.
			if by == 0 && now >= c.headBy.Load() {
				c.broken = true
				return ErrTimeout
			}
			return nil
		}
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			c.broken = true
			return err
		case ctx.Err() != nil:
			c.broken = true
			return context.Cause(ctx)
		default:
			due := by
			if by == 0 {
				due = c.headBy.Load()
			}
			if c.pool.now() >= due {
				c.broken = true
				return ErrTimeout
			}
		}
	}
}

// Hijack ends the exchange after a 101: the connection is the caller's, with
// the bytes that came behind the head.
func (c *Conn) Hijack() (nc net.Conn, rest []byte) {
	nc, rest = c.nc, append(rest, c.buf[c.r:c.w]...)
	c.drop()
	_ = nc.SetDeadline(time.Time{})
	return nc, rest
}

// Release ends the exchange. The connection goes back to its pool only if the
// response was read to its very end and nothing came behind it: bytes behind
// would be read as the answer to somebody else's request.
func (c *Conn) Release() {
	if c.nc == nil {
		return
	}
	if !c.ended || !c.reusable || c.broken || c.halfSent || c.r != c.w {
		c.Close()
		return
	}
	c.giveBuffer()
	c.pool.put(c)
}

// Interrupt closes the socket and nothing else, so that a SendStream beside us
// returns. Close must follow.
func (c *Conn) Interrupt() { _ = c.sock.Close() }

// Close ends the connection.
func (c *Conn) Close() {
	if c.nc != nil {
		nc := c.nc
		c.drop()
		_ = nc.Close()
	}
}

func (c *Conn) drop() {
	c.nc, c.broken = nil, true
	c.giveBuffer()
}

// ValidField reports whether name and value may stand in a message head: a
// token, and no byte that could end the line.
func ValidField(name, value string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !isToken[name[i]] {
			return false
		}
	}
	return cleanValue(value)
}
