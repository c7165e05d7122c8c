package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// maxInline is the longest body sent in one write with its head, by the
// goroutine that reads the answer. A longer one could fill the service's buffers
// while the service waits for us to read its answer, and is sent beside.
const maxInline = 32 << 10

// over1 carries the request over an HTTP/1.1 connection. heard reports that the
// service answered.
func (f *flight) over1(e *endpoint) (again, heard bool, err error) {
	head, ok := f.appendHead(f.buf[:0], e)
	f.buf = head
	if !ok {
		return false, false, &gatehouse.Problem{Reason: "internal", Err: errors.New("forward: a field would break its line")}
	}
	beside := f.x.Stream != nil || len(f.x.Body) > maxInline
	if !beside {
		head = append(head, f.x.Body...)
		f.buf = head
	}
	for fresh := false; ; fresh = true {
		c, err := e.pool.Get(f.ctx, fresh)
		if err != nil {
			return true, false, f.problem(err) // nothing was sent: safe for any request
		}
		var n int
		if beside {
			if n, err = c.Send(head, f.x.Timeout); err == nil {
				return f.stream(c)
			}
		} else {
			n, err = c.Ask(head, f.x.Timeout)
		}
		// A service that refuses a request may close before it has read it
		// whole: what it said is still to be read.
		if err == nil || n > 0 {
			resp, rerr := f.readHead(c)
			if rerr == nil {
				f.heard(resp.Status, c.Took())
				err = f.answer1(c, resp)
				c.Release()
				return false, true, err
			}
			if err == nil || !errors.Is(rerr, io.EOF) {
				err = rerr
			}
		}
		safe := !c.Heard() && f.ctx.Err() == nil && !errors.Is(err, http1.ErrTimeout) && (n == 0 || f.repeatable())
		stale := c.Reused()
		c.Close()
		if safe && stale {
			continue // the service closed a connection it held idle: no failure of its
		}
		return safe, false, f.problem(err)
	}
}

// spare is what of f's room may be kept: one large request must not pin its own
// for ever.
func (f *flight) spare() []byte {
	if cap(f.buf) > 4*maxInline {
		return nil
	}
	return f.buf[:0]
}

// stream sends the body beside reading the answer, which may come before the
// body's end.
func (f *flight) stream(c *http1.Conn) (again, heard bool, err error) {
	body, length, trailer := f.x.Stream, f.x.Length, f.requestTrailer
	if body == nil {
		body, length = bytes.NewReader(f.x.Body), int64(len(f.x.Body))
	} else {
		body = guardedBody{body}
	}
	sent := make(chan error, 1)
	go func() {
		err := c.SendStream(body, length, trailer)
		sent <- err
		if _, ok := errors.AsType[*http1.BodyError](err); ok {
			c.Interrupt() // and readHead ends, with its cause told already
		}
	}()
	over := false
	defer func() {
		if !over { // a check of the answer has panicked: what is sent must not be another's by then
			f.stopSending(c, sent)
			c.Close()
		}
	}()
	resp, err := f.readHead(c)
	if err == nil {
		heard = true
		f.heard(resp.Status, c.Took())
		err = f.answer1(c, resp)
	}
	if err != nil {
		err = f.problem(err) // before we stop reading: it would look as if the caller had left
	}
	over = true
	serr, ended := sentBy(c, sent)
	switch {
	case !ended:
		// The answer is over, its request is not. Nobody needs the rest.
		f.stopSending(c, sent)
	case serr == nil && err == nil:
		c.Release()
		return false, heard, nil
	case err != nil:
		if _, ok := errors.AsType[*http1.BodyError](serr); ok {
			err = f.problem(serr) // the cause
		}
	}
	c.Close()
	return false, heard, err
}

// A guardedBody makes an error of a panic in what checks a body as it comes: it is
// read in goroutines where a panic would end the gateway.
type guardedBody struct{ io.Reader }

func (g guardedBody) Read(b []byte) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = 0, &gatehouse.Problem{Kind: gatehouse.Internal, Reason: "internal", Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return g.Reader.Read(b)
}

// sentSoon is how long a sender may take to say that its last bytes are gone.
const sentSoon = 50 * time.Millisecond

// sentBy asks whether the request was sent whole. A service that has read the
// last of it may answer before the sender runs again: one that has no more to
// read is waited for, lest a connection that is in order is closed.
func sentBy(c *http1.Conn, sent <-chan error) (err error, ended bool) {
	select {
	case err = <-sent:
		return err, true
	default:
	}
	if !c.LastSent() {
		return nil, false
	}
	late := time.NewTimer(sentSoon)
	defer late.Stop()
	select {
	case err = <-sent:
		return err, true
	case <-late.C:
		return nil, false
	}
}

// stopSending ends the sender, wherever it waits.
func (f *flight) stopSending(c *http1.Conn, sent <-chan error) {
	c.Interrupt()
	if f.x.Stream != nil {
		_ = http.NewResponseController(f.w).SetReadDeadline(time.Unix(1, 0))
	}
	<-sent
}

// readHead reads up to the final answer's head and passes interim ones on.
func (f *flight) readHead(c *http1.Conn) (*http1.Response, error) {
	for {
		resp, err := c.ReadHead(f.ctx, f.x.Request.Method)
		switch {
		case err != nil:
			return nil, err
		case resp.Status == http.StatusSwitchingProtocols:
			if !f.upgrade {
				return nil, &http1.ResponseError{Fault: "101 nobody asked for"}
			}
			return resp, nil
		case resp.Status >= 200:
			return resp, nil
		case resp.Status != http.StatusContinue: // which answers an Expect we never sent
			f.interim(resp.Status, resp.Fields)
		}
	}
}

func (f *flight) answer1(c *http1.Conn, resp *http1.Response) error {
	if resp.Status == http.StatusSwitchingProtocols {
		return f.join(c, resp)
	}
	if f.x.CheckResponse == nil {
		if err := c.Await(f.ctx); err != nil {
			return f.problem(err)
		}
	}
	return f.answer(answer{status: resp.Status, fields: resp.Fields, length: resp.Length, body: conn1{c}})
}

// conn1 is an answer's body on an HTTP/1.1 connection.
type conn1 struct{ *http1.Conn }

func (c conn1) next(ctx context.Context) ([]byte, error) {
	b, err := c.Next(ctx)
	if err == nil && c.Ended() {
		err = io.EOF
	}
	return b, err
}

func (c conn1) waiting() bool          { return c.Waiting() }
func (c conn1) trailer() []http1.Field { return c.Trailer() }
