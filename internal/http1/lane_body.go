package http1

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A laneBody is a request's body. It is made anew for each request that has one,
// so that who still reads when the handler has returned reads nobody else's.
type laneBody struct {
	conn    *laneConn
	ctx     *laneContext // of the request
	chunked bool
	expect  bool        // the caller waits for 100 Continue
	closed  atomic.Bool // by the handler, or it has returned
	may     atomic.Bool // 100 Continue may still be sent

	say sync.Mutex // held while 100 Continue is sent

	mu     sync.Mutex // guards these, and the connection's buffer
	chunks headChunks
	left   int64 // without chunks
	pace   headPace
	whole  bool  // read to its end
	err    error // what every further Read returns
}

// Close ends reading. What is left is the lane's to read, or not.
func (b *laneBody) Close() error {
	b.closed.Store(true)
	return nil
}

// Read gives the next bytes. An ill-formed or slow body is a *gatehouse.Problem.
func (b *laneBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.may.Load() {
		b.goOn()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() { // and the buffer is another request's
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

// goOn sends 100 Continue, unless an answer has begun.
func (b *laneBody) goOn() {
	b.say.Lock()
	defer b.say.Unlock()
	if b.may.CompareAndSwap(true, false) {
		_, _ = b.conn.nc.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
}

// silence has no 100 Continue sent from now on.
func (b *laneBody) silence() {
	if b != nil && b.may.Load() {
		b.say.Lock()
		b.may.Store(false)
		b.say.Unlock()
	}
}

func (b *laneBody) read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.whole:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case b.chunked:
		n, err = b.readChunks(p)
	default:
		n, err = b.readLength(p)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // made here
		b.err = err
		b.ctx.leave() // nothing sensible can follow, as with net/http
		if n > 0 {
			err = nil // the good ones first
		}
	}
	b.whole = err == io.EOF //nolint:errorlint // made here
	return n, err
}

func (b *laneBody) readLength(p []byte) (n int, err error) {
	w := b.conn.work
	p = p[:min(int64(len(p)), b.left)]
	switch {
	case w.r < w.w:
	case len(p) < laneBuffer/4 && int64(len(p)) < b.left: // small reads of much
		if err = b.fill(); err != nil {
			return 0, err
		}
	default:
		n, err = b.await(p)
		return b.count(n, err)
	}
	n = copy(p, w.in[w.r:w.w])
	w.r += n
	return b.count(n, nil)
}

func (b *laneBody) count(n int, err error) (int, error) {
	if b.left -= int64(n); b.left == 0 {
		err = io.EOF
	}
	return n, err
}

func (b *laneBody) readChunks(p []byte) (n int, err error) {
	w, c := b.conn.work, &b.chunks
	for {
		if c.state != headChunkData {
			m, done, v := c.frame(w.in[w.r:w.w])
			w.r += m
			switch {
			case v != headOK:
				return n, v.problem()
			case done:
				return n, io.EOF
			case c.state != headChunkData && n > 0:
				return n, nil
			case c.state != headChunkData:
				if err = b.fill(); err != nil {
					return 0, err
				}
				continue
			}
		}
		if n == len(p) {
			return n, nil
		}
		if w.r < w.w {
			m := copy(p[n:], w.in[w.r:w.w][:min(int64(w.w-w.r), c.left)])
			c.take(m)
			w.r += m
			n += m
			continue
		}
		if n > 0 {
			return n, nil
		}
		if c.left < laneBuffer || len(p) < laneBuffer {
			err = b.fill()
		} else if n, err = b.await(p[:min(int64(len(p)), c.left)]); n > 0 {
			c.take(n)
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// fill reads more into the connection's buffer.
func (b *laneBody) fill() error {
	_, err := b.within(b.conn.more)
	return err
}

// await reads into p, past the buffer.
func (b *laneBody) await(p []byte) (int, error) {
	return b.within(func(own time.Time) (int, error) { return b.conn.read(p, own) })
}

// within reads some of the body within the pace asked for.
func (b *laneBody) within(read func(own time.Time) (int, error)) (int, error) {
	cfg := b.conn.lane.cfg
	start := time.Now()
	own := start.Add(cfg.BodyIdle)
	n, err := read(own)
	if !b.pace.fits(cfg, n, time.Since(start)) || n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && b.conn.owned(own) {
		return 0, headSlowBody.problem()
	}
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, io.ErrUnexpectedEOF
	}
	return 0, err
}

// owned reports whether own came before the handler's deadline.
func (c *laneConn) owned(own time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return headSooner(c.asked, own).Equal(own)
}

// tooMuch reports, when the answer begins, that so much is left of the body, or
// may never come, that end will not read it. duplex says that the handler means
// to read it beside the answer. done says that the handler has returned: then
// what is there already is judged, so that the answer tells that the connection
// ends if it must. What is not there is not waited for: the answer may be why it
// does not come.
func (b *laneBody) tooMuch(done, duplex bool) bool {
	if b == nil {
		return false
	}
	if !b.mu.TryLock() { // somebody reads just now
		return b.expect
	}
	defer b.mu.Unlock()
	if !b.whole && (b.expect || b.left >= laneDrain && (done || !duplex)) {
		return true
	}
	if done && !b.whole && b.err == nil {
		b.closed.Store(true)
		b.skip()
	}
	return done && b.err != nil
}

// skip takes what the buffer holds of the body and returns how much that is.
func (b *laneBody) skip() (n int) {
	w := b.conn.work
	if b.chunked {
		var v headVerdict
		if n, b.whole, v = b.chunks.next(w.in[w.r:w.w]); v != headOK {
			b.err = v.problem()
		}
	} else {
		n = int(min(int64(w.w-w.r), b.left))
		b.left -= int64(n)
		b.whole = b.left == 0
	}
	w.r += n
	return n
}

// end takes the body from the handler, and reads what is left of it if that is
// little. It reports whether the next request begins where the buffer does.
func (b *laneBody) end() bool {
	if b == nil {
		return true
	}
	b.take()
	defer b.mu.Unlock()
	if b.expect && !b.whole || b.left >= laneDrain {
		return false
	}
	var until time.Time
	for total := 0; b.err == nil && !b.whole && total <= laneDrain; {
		if total += b.skip(); b.err != nil || b.whole {
			break
		}
		// The answer is gone: who keeps the minimum rate must not keep us for long.
		if now := time.Now(); until.IsZero() {
			until = now.Add(b.conn.lane.cfg.BodyIdle)
		} else if now.After(until) {
			return false
		}
		b.err = b.fill()
	}
	return b.whole
}

// take has nobody else read, and leaves the body locked.
func (b *laneBody) take() {
	b.closed.Store(true)
	if !b.mu.TryLock() {
		_ = b.conn.ask(time.Unix(1, 0)) // somebody still reads
		b.mu.Lock()
	}
}

// expire ends the body of a connection that is no longer ours.
func (b *laneBody) expire() {
	if b != nil {
		b.closed.Store(true)
	}
}
