package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// laneHold is how much of a body of unknown length is held, in the hope that it
// is all of it and its length can be told. It is what net/http holds.
const laneHold = 2 << 10

// laneWhole is the most of a body that is sent in one piece with what is before it.
const laneWhole = 64 << 10

// A laneWriter is what a handler answers to. The head is put into the buffer
// when its status is said, and its last lines, on which the body has a say, when
// the body is seen; both leave with as much of the body as there is.
type laneWriter struct {
	conn   *laneConn
	body   *laneBody // of the request
	header http.Header

	is11, isHead      bool
	wants10, wantsEnd bool // the caller's wishes for the connection

	status   int // 0: not said yet
	declared int64
	written  int64
	held     []byte // of the body, until the head is whole
	buf      []byte // what is to be sent
	chunk    int    // where the chunk under way begins in buf; -1: none
	err      error

	set       laneSet // what the handler said in its fields
	begun     bool    // the head is whole
	done      bool    // the handler has returned
	hijacked  bool
	closing   bool // after this answer
	deadline  bool // the handler has set one for writing
	duplex    bool
	chunked   bool
	trailers  []string
	names     []string // room for sorting
	both      net.Buffers
	bothRoom  [2][]byte
	heldRoom  [laneHold]byte
	bufRoom   [laneBuffer]byte
	namesRoom [24]string
}

// A laneSet is what an answer's fields say about the answer itself, when the
// status was said. The fields the handler changes afterwards are trailers.
type laneSet struct {
	connection, coding   []string
	kind, date, encoding bool // there is one
	length               bool
	trailer              bool
	switches             bool // to another protocol
}

func (w *laneWriter) init() {
	w.header = make(http.Header, 8)
	w.held, w.buf, w.names = w.heldRoom[:0], w.bufRoom[:0], w.namesRoom[:0]
}

func (w *laneWriter) begin(c *laneConn, r *http.Request, body *laneBody) {
	w.conn, w.body = c, body
	w.is11, w.isHead = r.ProtoMinor == 1, r.Method == http.MethodHead
	w.wants10, w.wantsEnd = !w.is11 && laneListed(r.Header["Connection"], "keep-alive"), r.Close
	w.status, w.declared, w.written, w.chunk, w.err = 0, -1, 0, -1, nil
	w.set = laneSet{}
	w.begun, w.done, w.hijacked, w.closing, w.chunked, w.deadline, w.duplex = false, false, false, false, false, false, false
}

// end forgets the answer and reports whether the connection may carry another.
func (w *laneWriter) end() bool {
	again := !w.closing && w.err == nil && (w.isHead || w.declared < 0 || !laneHasBody(w.status) || w.declared == w.written)
	if w.deadline {
		_ = w.conn.nc.SetWriteDeadline(time.Time{})
	}
	if len(w.header) > 64 {
		w.header = make(http.Header, 8) // a map never shrinks
	}
	clear(w.header)
	clear(w.names)
	w.trailers, w.held, w.buf, w.names = nil, w.heldRoom[:0], w.bufRoom[:0], w.names[:0]
	w.conn, w.body, w.set = nil, nil, laneSet{}
	return again
}

func laneHasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Header gives the fields of the answer, and later those of its trailer.
func (w *laneWriter) Header() http.Header { return w.header }

// WriteHeader says the status. What Header holds now is the head.
func (w *laneWriter) WriteHeader(status int) {
	if !w.mayBegin(status) {
		return
	}
	if status >= 100 && status <= 199 && status != http.StatusSwitchingProtocols {
		w.interim(status)
		return
	}
	w.status = status
	v, ok := w.header["Content-Length"]
	w.set.length = ok // said by the handler, if only by a key without a value
	if len(v) > 0 && v[0] != "" {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			w.declared = n
		} else {
			w.conn.lane.server.ErrorLog.Printf("http: invalid Content-Length of %q", v[0])
			delete(w.header, "Content-Length")
		}
	}
	s := &w.set
	s.connection, s.coding = w.header["Connection"], w.header["Transfer-Encoding"]
	w.appendStatus(status)
	w.appendMap(status)
}

// WriteHead says the status, and the fields in order, without the map of net/http.
// After it Write, Flush and trailers work as after WriteHeader. Names are
// canonical. length is the body's, -1 when it is not known. Connection,
// Transfer-Encoding and Content-Length are ours to say: they are left out.
func (w *laneWriter) WriteHead(status int, fields []Field, length int64) {
	if !w.mayBegin(status) {
		return
	}
	early := status < 200 && status != http.StatusSwitchingProtocols
	if w.set.kind = true; !early {
		w.status, w.declared, w.set.length = status, length, length >= 0
	}
	w.appendStatus(status)
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case "Connection", "Transfer-Encoding", "Content-Length":
		case "Date":
			w.set.date = true
			w.appendField(f.Name, f.Value)
		case "Trailer":
			w.announce(f.Value)
			w.appendField(f.Name, f.Value)
		case "Content-Type":
			if status == http.StatusNotModified {
				continue
			}
			fallthrough
		default:
			w.appendField(f.Name, f.Value)
		}
	}
	switch {
	case early:
		w.buf = append(w.buf, "\r\n"...)
		_ = w.send()
		w.set, w.trailers = laneSet{}, nil
	case w.set.trailer:
		w.declared, w.set.length = -1, false // HTTP/1.1 has trailers only in chunks
	}
}

// mayBegin reports whether a head may be written still.
func (w *laneWriter) mayBegin(status int) bool {
	switch {
	case w.conn == nil:
		panic("http1: ResponseWriter used after ServeHTTP has returned")
	case w.hijacked:
		w.log("response.WriteHeader on hijacked connection")
		return false
	case w.status != 0:
		w.log("superfluous response.WriteHeader call")
		return false
	case status < 100 || status > 999:
		panic("invalid WriteHeader code " + strconv.Itoa(status))
	}
	if status < 101 || status > 199 {
		w.body.silence()
	}
	return true
}

// log tells of a mistake of the handler's, in net/http's words: its call is
// three frames up.
func (w *laneWriter) log(what string) {
	pc, file, line, _ := runtime.Caller(3)
	w.conn.lane.server.ErrorLog.Printf("http: %s from %s (%s:%d)", what, runtime.FuncForPC(pc).Name(), path.Base(file), line)
}

// interim sends a 1xx answer.
func (w *laneWriter) interim(status int) {
	w.appendStatus(status)
	w.appendMap(status)
	w.buf = append(w.buf, "\r\n"...)
	_ = w.send()
}

// Write sends p, or holds it for what follows.
func (w *laneWriter) Write(p []byte) (int, error) {
	if ok, err := w.mayWrite(len(p)); !ok {
		return 0, err
	}
	if !w.begun && len(w.held)+len(p) <= laneHold && !w.known() {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	n := 0
	if !w.begun {
		n = w.start(p)
	}
	if !w.isHead {
		w.put(p[n:])
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// WriteString is Write without a copy, as long as s can be held.
func (w *laneWriter) WriteString(s string) (int, error) {
	if w.conn == nil || w.begun || len(w.held)+len(s) > laneHold {
		return w.Write([]byte(s))
	}
	if ok, err := w.mayWrite(len(s)); !ok {
		return 0, err
	}
	w.held = append(w.held, s...)
	return len(s), nil
}

// mayWrite reports whether n bytes of a body may follow.
func (w *laneWriter) mayWrite(n int) (bool, error) {
	switch {
	case w.conn == nil:
		panic("http1: ResponseWriter used after ServeHTTP has returned")
	case w.hijacked:
		if n > 0 {
			w.log("response.Write on hijacked connection")
		}
		return false, http.ErrHijacked
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	w.body.silence()
	switch {
	case n == 0:
		return false, nil
	case !laneHasBody(w.status):
		return false, http.ErrBodyNotAllowed
	}
	if w.written += int64(n); w.declared >= 0 && w.written > w.declared {
		return false, http.ErrContentLength
	}
	return w.err == nil, w.err
}

// known reports whether the head can be ended without a look at the body.
func (w *laneWriter) known() bool {
	return w.declared >= 0 && (w.set.kind || w.set.encoding || w.set.coding != nil)
}

// start ends the head, with what is held and p to judge by, and returns how much
// of p it took.
func (w *laneWriter) start(p []byte) (n int) {
	if len(w.held) == 0 {
		w.endHead(p)
		return 0
	}
	n = min(len(p), laneHold-len(w.held))
	w.held = append(w.held, p[:n]...)
	w.endHead(w.held)
	if !w.isHead {
		w.put(w.held)
	}
	w.held = w.held[:0]
	return n
}

// put sends p as part of the body.
func (w *laneWriter) put(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	if !w.chunked {
		w.pass(p)
		return
	}
	const frame = 5 // a size of three digits, and its line's end
	if w.chunk < 0 {
		if cap(w.buf)-len(w.buf) < frame+len("\r\n")+min(len(p), 64) {
			if w.send() != nil {
				return
			}
		}
		w.chunk = len(w.buf)
		w.buf = append(w.buf, "\x00\x00\x00\r\n"...)
	}
	if len(p) <= cap(w.buf)-len(w.buf)-len("\r\n") && len(w.buf)-w.chunk-frame+len(p) <= 0xfff {
		w.buf = append(w.buf, p...)
		return
	}
	if len(w.buf)-w.chunk == frame {
		w.buf, w.chunk = w.buf[:w.chunk], -1
	}
	w.endChunk()
	w.buf = append(strconv.AppendInt(w.buf, int64(len(p)), 16), "\r\n"...)
	w.pass(p)
	w.buf = append(w.buf, "\r\n"...) // it leaves with what follows
}

// endChunk writes the size of the chunk under way.
func (w *laneWriter) endChunk() {
	if w.chunk < 0 {
		return
	}
	at, size := w.chunk, len(w.buf)-w.chunk-5
	var room [8]byte
	digits := strconv.AppendInt(room[:0], int64(size), 16)
	if gap := 3 - len(digits); gap > 0 {
		w.buf = append(w.buf[:at], w.buf[at+gap:]...)
	}
	copy(w.buf[at:], digits)
	w.buf = append(w.buf, "\r\n"...)
	w.chunk = -1
}

// pass sends p behind what is in the buffer, without copying it if it is large.
func (w *laneWriter) pass(p []byte) {
	if len(p) <= cap(w.buf)-len(w.buf) {
		w.buf = append(w.buf, p...)
		return
	}
	c := w.conn
	if c.tls == nil && len(p) <= laneWhole {
		w.bothRoom = [2][]byte{w.buf, p}
		w.both = w.bothRoom[:]
		err := c.base.writeBoth(&w.both)
		w.bothRoom = [2][]byte{}
		w.buf = w.buf[:0]
		w.failed(err)
		return
	}
	n := cap(w.buf) - len(w.buf)
	w.buf = append(w.buf, p[:n]...)
	if w.send() != nil {
		return
	}
	if p = p[n:]; len(p) < laneBuffer/2 {
		w.buf = append(w.buf, p...)
		return
	}
	_, err := c.nc.Write(p)
	w.failed(err)
}

// send writes the buffer out.
func (w *laneWriter) send() error {
	if w.err == nil && len(w.buf) > 0 {
		_, err := w.conn.nc.Write(w.buf)
		w.failed(err)
	}
	if w.buf = w.buf[:0]; cap(w.buf) > laneBuffer {
		w.buf = w.bufRoom[:0]
	}
	return w.err
}

func (w *laneWriter) failed(err error) {
	if err != nil {
		w.err = err
		w.conn.ctx.leave()
	}
}

// ReadFrom copies from src until its end.
func (w *laneWriter) ReadFrom(src io.Reader) (n int64, err error) {
	room := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(room)
	for {
		m, err := src.Read(room[:])
		if m > 0 {
			k, werr := w.Write(room[:m])
			n += int64(k)
			if werr != nil {
				return n, werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// Flush sends what there is.
func (w *laneWriter) Flush() { _ = w.FlushError() }

// FlushError sends what there is.
func (w *laneWriter) FlushError() error {
	switch {
	case w.conn == nil:
		panic("http1: ResponseWriter used after ServeHTTP has returned")
	case w.hijacked:
		return http.ErrHijacked
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		w.start(nil)
	}
	w.endChunk()
	return w.send()
}

// finish completes the answer when the handler has returned.
func (w *laneWriter) finish() {
	w.done = true
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		w.start(nil)
	}
	if w.chunked && !w.isHead {
		w.endChunk()
		w.buf = append(w.buf, "0\r\n"...)
		w.appendTrailers()
		w.buf = append(w.buf, "\r\n"...)
	}
	_ = w.send()
}

// breakOff ends the connection in the middle of an answer. Where the connection's
// end is the answer's, as in HTTP/1.0, and in TLS where it is said, only a reset
// tells that it came too early.
func (w *laneWriter) breakOff() {
	if !w.begun || w.chunked || w.declared >= 0 || w.isHead || !laneHasBody(w.status) {
		return
	}
	listenReset(w.conn.base)
}

// SetReadDeadline bounds reading the request's body.
func (w *laneWriter) SetReadDeadline(t time.Time) error { return w.conn.ask(t) }

// SetWriteDeadline bounds writing; the zero time leaves it to the server.
func (w *laneWriter) SetWriteDeadline(t time.Time) error {
	w.deadline = !t.IsZero()
	return w.conn.nc.SetWriteDeadline(t)
}

// EnableFullDuplex says that a body too long to be thrown away will be read
// beside the answer. A body may always be read so; without this the answer to a
// long one that has not been read says that the connection ends.
func (w *laneWriter) EnableFullDuplex() error {
	w.duplex = true
	return nil
}

// Hijack gives the connection away, with what was read of it and not used.
func (w *laneWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	switch {
	case w.conn == nil:
		panic("http1: Hijack called after ServeHTTP has returned")
	case w.hijacked:
		return nil, nil, http.ErrHijacked
	}
	w.body.silence()
	if w.status != 0 {
		if !w.begun {
			w.endHead(nil)
		}
		w.endChunk()
		_ = w.send()
	}
	c := w.conn
	if w.body != nil { // a reader in another goroutine would take what is the hijacker's
		w.body.take()
		defer w.body.mu.Unlock()
	}
	w.hijacked = true
	c.state.Store(laneOver)
	c.lane.leave(c) // it is the handler's to end
	_ = c.nc.SetDeadline(time.Time{})
	rest := c.work.in[c.work.r:c.work.w]
	br := bufio.NewReaderSize(&laneRest{c.nc, strings.NewReader(string(rest))}, max(len(rest), laneBuffer))
	if _, err := br.Peek(len(rest)); err != nil {
		return nil, nil, err
	}
	return c.nc, bufio.NewReadWriter(br, bufio.NewWriter(c.nc)), nil
}

// A laneRest reads what was read already, and then the connection.
type laneRest struct {
	nc   net.Conn
	rest *strings.Reader
}

func (r *laneRest) Read(p []byte) (int, error) {
	if r.rest.Len() > 0 {
		return r.rest.Read(p)
	}
	return r.nc.Read(p)
}
