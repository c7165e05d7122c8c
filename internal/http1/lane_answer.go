package http1

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A laneDate is the Date of one second.
type laneDate struct {
	second int64
	line   string
}

// dateLine gives the Date field. Who finds it old writes the new one.
func (l *lane) dateLine() string {
	now := time.Now()
	if d := l.date.Load(); d != nil && d.second == now.Unix() {
		return d.line
	}
	d := &laneDate{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	l.date.Store(d)
	return d.line
}

func (w *laneWriter) appendStatus(status int) {
	switch {
	case status == http.StatusOK && w.is11:
		w.buf = append(w.buf, "HTTP/1.1 200 OK\r\n"...)
		return
	case w.is11:
		w.buf = append(w.buf, "HTTP/1.1 "...)
	default:
		w.buf = append(w.buf, "HTTP/1.0 "...)
	}
	w.buf = append(strconv.AppendInt(w.buf, int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		w.buf = append(w.buf, text...)
	} else {
		w.buf = strconv.AppendInt(append(w.buf, "status code "...), int64(status), 10)
	}
	w.buf = append(w.buf, "\r\n"...)
}

// appendMap appends the handler's fields, sorted, but those of the framing,
// which endHead decides on, and notes what they say.
func (w *laneWriter) appendMap(status int) {
	s, final := &w.set, status >= 200 || status == http.StatusSwitchingProtocols
	names := w.names[:0]
	for name := range w.header {
		names = append(names, name)
	}
	slices.Sort(names)
	w.names = names
	for _, name := range names {
		switch name {
		case "Content-Length", "Transfer-Encoding":
			continue
		case "Connection":
			if final {
				continue
			}
		case "Content-Type":
			if s.kind = final; status == http.StatusNotModified {
				continue
			}
		case "Content-Encoding":
			s.encoding = final && len(w.header[name]) > 0 && w.header[name][0] != ""
		case "Date":
			s.date = final
		case "Upgrade":
			s.switches = status == http.StatusSwitchingProtocols && laneListed(s.connection, "upgrade")
		case "Trailer":
			if final {
				for _, v := range w.header[name] {
					w.announce(v)
				}
			}
		}
		if strings.HasPrefix(name, http.TrailerPrefix) {
			s.trailer = s.trailer || final
			continue
		}
		for _, v := range w.header[name] {
			w.appendField(name, v)
		}
	}
}

// appendField appends one line. A name that is none is dropped, and what would
// end the line becomes a blank, as with net/http: no value begins another field.
func (w *laneWriter) appendField(name, value string) {
	if name == "" {
		return
	}
	for i := range len(name) {
		if !isToken[name[i]] {
			return
		}
	}
	w.buf = append(append(w.buf, name...), ": "...)
	value = trimBlank(value)
	if strings.IndexByte(value, '\n') < 0 && strings.IndexByte(value, '\r') < 0 {
		w.buf = append(append(w.buf, value...), "\r\n"...)
		return
	}
	value = trimBlank(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, value))
	w.buf = append(append(w.buf, value...), "\r\n"...)
}

// announce notes the trailer fields that names lists.
func (w *laneWriter) announce(names string) {
	w.set.trailer = true
	for name := range strings.SplitSeq(names, ",") {
		name = textproto.CanonicalMIMEHeaderKey(trimBlank(name))
		if name == "" || !laneTrailer(name) {
			continue
		}
		w.trailers = append(w.trailers, name)
	}
}

// laneTrailer reports whether a field may come behind a body, as net/http judges
// it (RFC 9110 §6.5.1).
func laneTrailer(name string) bool {
	if strings.HasPrefix(name, "If-") {
		return false
	}
	switch name {
	case "Authorization", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type",
		"Expect", "Host", "Keep-Alive", "Max-Forwards", "Pragma", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Range", "Realm", "Te", "Trailer", "Transfer-Encoding", "Www-Authenticate":
		return false
	}
	return true
}

// endHead writes the end of the head, given the beginning of the body: how the
// body is framed, and whether the connection goes on.
func (w *laneWriter) endHead(p []byte) {
	w.begun = true
	s := &w.set
	body := laneHasBody(w.status)
	coding := ""
	if len(s.coding) > 0 {
		coding = s.coding[0]
	}
	connection := ""
	if len(s.connection) > 0 {
		connection = s.connection[0]
	}
	length := w.declared // to be told; -1: is not
	if w.done && !s.trailer && coding == "" && body && !s.length && (!w.isHead || len(p) > 0) {
		length = int64(len(p))
		w.declared = length
	}
	goesOn := !w.conn.lane.stopping.Load()
	keep := "" // the Connection field of ours
	if w.wants10 && (w.isHead || length >= 0 || !body) {
		if s.connection == nil {
			keep = "keep-alive"
		}
	} else if !w.is11 || w.wantsEnd {
		w.closing = true
	}
	if connection == "close" || !goesOn || w.body.tooMuch(w.done, w.duplex) {
		w.closing = true
	}
	if length >= 0 && coding != "" && coding != "identity" {
		w.conn.lane.server.ErrorLog.Printf("http: WriteHeader called with both Transfer-Encoding of %q and a Content-Length of %d", coding, length)
		length = -1
	}
	tell := length >= 0
	var codings []string
	switch {
	case !body:
		tell = false
	case w.isHead, length >= 0:
	case w.is11 && coding == "identity": // until the connection ends
		w.closing = true
	case w.is11:
		w.chunked = true
		if codings = s.coding; coding == "chunked" {
			codings = nil
		}
	default:
		w.closing = true
	}
	if !s.date {
		w.buf = append(w.buf, w.conn.lane.dateLine()...)
	}
	if tell {
		w.buf = append(strconv.AppendInt(append(w.buf, "Content-Length: "...), length, 10), "\r\n"...)
	}
	if body && !s.kind && !s.encoding && coding == "" && len(p) > 0 {
		w.appendField("Content-Type", http.DetectContentType(p))
	}
	theirs := s.connection
	if w.closing && (!goesOn || !HasToken(connection, "close")) && !s.switches {
		theirs, keep = nil, ""
		if w.is11 {
			keep = "close"
		}
	}
	for _, v := range theirs {
		w.appendField("Connection", v)
	}
	if keep != "" {
		w.appendField("Connection", keep)
	}
	for _, v := range codings {
		w.appendField("Transfer-Encoding", v)
	}
	if w.chunked {
		w.buf = append(w.buf, "Transfer-Encoding: chunked\r\n"...)
	}
	w.buf = append(w.buf, "\r\n"...)
}

// appendTrailers appends the fields announced, and those named by
// [http.TrailerPrefix].
func (w *laneWriter) appendTrailers() {
	for _, name := range w.trailers {
		for _, v := range w.header[name] {
			w.appendField(name, v)
		}
	}
	var more []string
	for name := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			more = append(more, bare)
		}
	}
	slices.Sort(more)
	for _, name := range more {
		for _, v := range w.header[http.TrailerPrefix+name] {
			w.appendField(name, v)
		}
	}
}
