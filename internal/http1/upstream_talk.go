package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A talker writes a request and waits for its answer within one visit to the
// runtime's poller. Write and Read, one after the other, would look for the answer
// the moment the request is gone, when it cannot be there: a system call for
// nothing in every exchange. The poller is told to watch before the request
// leaves, so that the answer's arrival cannot be missed.
//
// The zero talker is not able to; TLS, for one, has records of its own.
type talker struct {
	raw syscall.RawConn
	do  func(fd uintptr) (done bool) // made once: a closure for each request would be garbage

	out   []byte // the request, until the first visit
	asked bool
	n     int // of out that was written
	err   error
}

func (t *talker) init(c *Conn) {
	if !canProbe || c.probe.tls {
		return
	}
	t.raw = c.probe.raw
	t.do = c.visit
}

// Ask is Send of a request that b has whole, and waits for the first bytes of the
// answer, which [Conn.ReadHead] then finds. What goes wrong in waiting is told
// there, too.
func (c *Conn) Ask(b []byte, within time.Duration) (n int, err error) {
	t := &c.talk
	if t.raw == nil {
		return c.Send(b, within)
	}
	now, err := c.begin(within)
	if err != nil {
		return 0, err
	}
	t.out, t.asked, t.n, t.err = b, false, 0, nil
	for {
		if err := c.readable(now); err != nil {
			return 0, err
		}
		if err = t.raw.Read(t.do); t.asked || !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		now = c.pool.now() // we slept through the whole of it
	}
	t.out = nil
	switch {
	case !t.asked: // the connection is not ours any more
		c.halfSent = true
		return 0, err
	case t.err != nil:
		c.halfSent = true
		return t.n, c.opError("write", t.err)
	case t.n < len(b): // the service's buffers are full
		more, err := c.writeAt(now, b[t.n:])
		c.halfSent = err != nil
		return t.n + more, err
	}
	c.halfSent = false
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // with which ReadHead goes on waiting
		c.early = err
	}
	return t.n, nil
}

// visit writes what is to be written, and is called again when there is something
// to read.
func (c *Conn) visit(fd uintptr) (done bool) {
	t := &c.talk
	if !t.asked {
		t.asked = true
		for t.n < len(t.out) {
			n, err := socketWrite(fd, t.out[t.n:])
			if t.n += max(n, 0); errors.Is(err, syscall.EAGAIN) {
				return true
			}
			if err != nil {
				t.err = err
				return true
			}
		}
		return false
	}
	n, err := socketRead(fd, c.buf[c.w:])
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		c.early = c.opError("read", err)
	case n <= 0:
		c.early = io.EOF
	default:
		c.w += n
		c.heard = true
	}
	return true
}

// opError is err as net would have told it.
func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.sock.LocalAddr(), Addr: c.sock.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
