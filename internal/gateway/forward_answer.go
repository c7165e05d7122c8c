package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// answer is a service's final answer, whatever lane it came by.
type answer struct {
	status int
	fields []http1.Field
	length int64 // -1: unknown
	body   answerBody
}

// answerBody gives the body in pieces that are valid until the next call.
type answerBody interface {
	next(ctx context.Context) ([]byte, error) // io.EOF after the whole of it, another error if it broke off
	waiting() bool                            // next would wait for the service
	trailer() []http1.Field                   // after io.EOF
}

const (
	defaultCheckLimit = 1 << 20
	maxWatched        = 64 << 10
)

// answer passes a on to the caller.
func (f *flight) answer(a answer) error {
	f.res.Status = a.status
	if f.changed != nil && a.status/100 != 4 { // before anybody hears that it has changed
		f.changed.Forget(f.group)
	}
	if f.fill != nil {
		return f.answerToKeep(a)
	}
	if f.x.CheckResponse != nil {
		return f.answerChecked(a)
	}
	if f.answerPlain(&a) {
		return f.answerBody(a, false)
	}
	f.writeFields(f.w.Header(), &a)
	return f.answerRest(a, nil)
}

// answerChecked holds the answer back until it has been checked whole.
func (f *flight) answerChecked(a answer) error {
	h := http.Header{}
	f.writeFields(h, &a)
	limit := f.x.CheckLimit
	if limit <= 0 {
		limit = defaultCheckLimit
	}
	var held []byte
	var err error
	stream := isEventStream(h)
	for !stream && err == nil && int64(len(held)) <= limit {
		var b []byte
		b, err = a.body.next(f.ctx)
		held = append(held, b...)
	}
	long := stream || int64(len(held)) > limit
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return f.problem(err)
	case long && !f.x.CheckReport:
		return &gatehouse.Problem{
			Kind: gatehouse.BadUpstream, Reason: "upstream_unchecked", Detail: "The service's answer could not be checked.",
			Err: errors.New("the answer is an event stream, or longer than can be checked"),
		}
	case !long:
		if cerr := f.x.CheckResponse(a.status, h, held); cerr != nil {
			return cerr
		}
		if a.length < 0 && h["Trailer"] == nil { // now it is known
			h["Content-Length"] = []string{strconv.Itoa(len(held))}
		}
	}
	f.tell()
	mergeFields(f.w.Header(), h)
	return f.answerRest(a, held)
}

// answerRest sends the head, what is held already, and the rest as it comes.
// From here on a failure can only be told by cutting the caller off.
func (f *flight) answerRest(a answer, held []byte) error {
	f.res.Committed, f.x.begun = true, true
	f.w.WriteHeader(a.status)
	if len(held) > 0 {
		n, err := f.w.Write(held)
		f.res.Bytes += int64(n)
		if err != nil {
			return callerLeft(err)
		}
	}
	return f.answerBody(a, isEventStream(f.w.Header()))
}

// answerBody sends the body as it comes, at once where somebody may wait for a
// part of it.
func (f *flight) answerBody(a answer, stream bool) error {
	w := f.w
	var flusher http.Flusher
	if a.length < 0 || stream {
		flusher, _ = w.(http.Flusher)
	}
	var pace pacer
	for {
		if flusher != nil && a.body.waiting() {
			flusher.Flush()
		}
		b, err := a.body.next(f.ctx)
		if len(b) > 0 {
			pace.before(f, len(b))
			n, werr := w.Write(b)
			f.res.Bytes += int64(n)
			if room := maxWatched - len(f.x.Seen); f.x.Watch != nil && room > 0 {
				f.x.Seen = append(f.x.Seen, b[:min(room, len(b))]...)
			}
			if werr != nil {
				return callerLeft(werr)
			}
		}
		if err == nil {
			continue
		}
		pace.end(f)
		if !errors.Is(err, io.EOF) {
			if !f.x.Request.ProtoAtLeast(1, 1) {
				f.reset()
			}
			return f.problem(err)
		}
		f.writeTrailer(a.body.trailer())
		if f.x.Watch != nil {
			_ = f.x.Watch(a.status, w.Header(), f.x.Seen) // it has gone on
		}
		return nil
	}
}

// pacer moves the deadline by which the caller must take what we write, so that
// a caller who reads nothing cannot hold a service's connection for ever. Short
// answers, which fit the socket, never touch it.
type pacer struct{ last time.Time }

func (p *pacer) before(f *flight, n int) {
	if f.res.Bytes+int64(n) < 16<<10 {
		return
	}
	if now := time.Now(); now.Sub(p.last) > time.Second {
		p.last = now
		_ = http.NewResponseController(f.w).SetWriteDeadline(now.Add(f.u.cfg.BodyIdle))
	}
}

func (p *pacer) end(f *flight) {
	if !p.last.IsZero() {
		_ = http.NewResponseController(f.w).SetWriteDeadline(time.Time{})
	}
}

// reset breaks the caller's connection. To HTTP/1.0 the end of the connection is
// the end of the body: only a reset tells that it came too early.
func (f *flight) reset() {
	nc, _, err := http.NewResponseController(f.w).Hijack()
	if err != nil {
		return
	}
	for at := nc; at != nil; {
		if tcp, ok := at.(interface{ SetLinger(int) error }); ok {
			_ = tcp.SetLinger(0)
			_ = at.Close()
			break
		}
		inner, ok := at.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		at = inner.NetConn()
	}
	_ = nc.Close()
}

// answerFieldStays reports whether a service's field may go to the caller. What
// stays behind is about the other connection, tells attackers what runs there,
// or, as Alt-Svc, would lead the caller around the gateway.
func answerFieldStays(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Alt-Svc", "Content-Length",
		"Server", "X-Powered-By", "X-Aspnet-Version", "X-Aspnetmvc-Version", "X-Runtime":
		return false
	}
	return !strings.HasPrefix(name, "Gatehouse-") && name != ""
}

// writeFields puts a's fields into h. Fields h holds already are ours, and the
// service does not change them; only Vary, Link and Set-Cookie add up.
func (f *flight) writeFields(h http.Header, a *answer) {
	var room [24]string
	ours := room[:0]
	values := make([]string, 0, len(a.fields)+len(f.own)+2) // of all fields, in one piece
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	for i := range f.own {
		set(f.own[i].Name, f.own[i].Value)
	}
	f.own = nil
	for name := range h {
		ours = append(ours, name)
	}
	var listed []string
	for i := range a.fields {
		if n := &a.fields[i]; n.Name == "Connection" && !strings.EqualFold(n.Value, "close") && !strings.EqualFold(n.Value, "keep-alive") {
			listed = append(listed, n.Value)
		}
	}
	for i := range a.fields {
		name, value := a.fields[i].Name, a.fields[i].Value
		if name == "Trailer" {
			announce(h, value)
			continue
		}
		if !answerFieldStays(name) || listed != nil && isListed(listed, name) {
			continue
		}
		have, again := h[name]
		if !again {
			set(name, value)
			continue
		}
		if name == "Vary" || name == "Link" || name == "Set-Cookie" || !slices.Contains(ours, name) {
			h[name] = append(have, value)
		}
	}
	if h["Trailer"] != nil {
		a.length = -1 // HTTP/1.1 has trailers only in chunks
	}
	if a.length >= 0 && (a.length > 0 || a.status != http.StatusNoContent && a.status != http.StatusNotModified) && f.lengthTold(a) {
		set("Content-Length", strconv.FormatInt(a.length, 10))
	}
	if _, ok := h["X-Content-Type-Options"]; !ok {
		set("X-Content-Type-Options", "nosniff")
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
}

// lengthTold reports whether a's length came from the service: in the answer to
// HEAD, zero also stands for "not said".
func (f *flight) lengthTold(a *answer) bool {
	return a.length > 0 || f.x.Request.Method != http.MethodHead
}

func announce(h http.Header, names string) {
	for name := range strings.SplitSeq(names, ",") {
		if name = http.CanonicalHeaderKey(strings.Trim(name, " \t")); trailerStays(name) && http1.ValidField(name, "") {
			h["Trailer"] = append(h["Trailer"], name)
		}
	}
}

func mergeFields(into, from http.Header) {
	for name, values := range from {
		if have, ok := into[name]; !ok {
			into[name] = values
		} else if name == "Vary" || name == "Link" || name == "Set-Cookie" {
			into[name] = append(have, values...)
		}
	}
}

func (f *flight) writeTrailer(fields []http1.Field) {
	if len(fields) == 0 {
		return
	}
	h := f.w.Header()
	for _, t := range fields {
		if !trailerStays(t.Name) {
			continue
		}
		name := t.Name
		if !slices.Contains(h["Trailer"], name) {
			name = http.TrailerPrefix + name
		}
		h[name] = append(h[name], t.Value)
	}
}

// interim passes a 1xx answer on: Early Hints (RFC 8297) and the like. A caller
// that speaks HTTP/1.0 does not know them (RFC 9110 §15.2).
func (f *flight) interim(status int, fields []http1.Field) {
	if !f.x.Request.ProtoAtLeast(1, 1) {
		return
	}
	f.tell()
	h := f.w.Header()
	ours := h.Clone()
	for _, n := range fields {
		if _, mine := ours[n.Name]; !mine && answerFieldStays(n.Name) && n.Name != "Set-Cookie" {
			h.Add(n.Name, n.Value)
		}
	}
	f.w.WriteHeader(status)
	clear(h)
	maps.Copy(h, ours)
}

func isEventStream(h http.Header) bool {
	v := h["Content-Type"]
	return len(v) > 0 && isEventStreamType(v[0])
}

func isEventStreamType(v string) bool {
	const t = "text/event-stream"
	return len(v) >= len(t) && strings.EqualFold(v[:len(t)], t)
}
