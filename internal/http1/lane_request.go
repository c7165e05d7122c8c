package http1

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// fill makes the request of a head that is in order, text, as net/http would.
// ok is false for one that net/http must serve: to switch protocols.
func (w *laneWork) fill(c *laneConn, text string) (body *laneBody, ok bool) {
	f, r := &w.frame, &w.req
	*r = *c.blank // every field, those of package http alone too
	r.Method = text[:len(f.method)]
	r.RequestURI = text[len(f.method)+1:][:len(f.target)]
	r.Proto, r.ProtoMinor = "HTTP/1.1", 1
	if f.old {
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	}
	host, ok := w.fields(text[strings.IndexByte(text, '\n')+1:])
	if !ok {
		return nil, false
	}
	r.Header = w.header
	if !w.target(r.RequestURI) {
		return nil, false // what was checked can be read; if not, net/http may say so
	}
	r.URL = &w.url
	if r.Host = w.url.Host; r.Host == "" {
		r.Host = host
	}
	if v := w.header["Pragma"]; len(v) > 0 && v[0] == "no-cache" && w.header["Cache-Control"] == nil {
		w.header["Cache-Control"] = []string{"no-cache"} // RFC 7234 §5.4, as net/http does it
	}
	connection := w.header["Connection"]
	r.Close = connection != nil && laneListed(connection, "close") || f.old && !laneListed(connection, "keep-alive")
	r.Body = http.NoBody
	if !f.chunked && f.length == 0 {
		return nil, true
	}
	body = &laneBody{conn: c, ctx: c.ctx, chunked: f.chunked, left: f.length}
	if r.ContentLength = f.length; f.chunked {
		w.coding[0] = "chunked"
		r.ContentLength, r.TransferEncoding = -1, w.coding[:]
	}
	if !f.old && w.header["Expect"] != nil {
		body.expect = true
		body.may.Store(true)
	}
	r.Body = body
	return body, true
}

func laneListed(values []string, token string) bool {
	for _, v := range values {
		if HasToken(v, token) {
			return true
		}
	}
	return false
}

// fields reads the lines of text, which ends in the empty one, into the header.
// Host and Transfer-Encoding are not fields to a handler.
func (w *laneWork) fields(text string) (host string, ok bool) {
	if len(w.header) > 2*len(w.valuesRoom) {
		w.header = make(http.Header, 16) // a map never shrinks
	}
	clear(w.header)
	w.values = w.values[:0]
	if w.frame.fields > cap(w.values) {
		w.values = make([]string, 0, w.frame.fields)
	}
	for text != "\r\n" {
		colon, end := strings.IndexByte(text, ':'), strings.IndexByte(text, '\n')
		name, value := laneName(text[:colon]), trimBlank(text[colon+1:end-1])
		text = text[end+1:]
		switch name {
		case "Host":
			host = value
			continue
		case "Transfer-Encoding":
			continue
		case "Upgrade":
			return "", false
		}
		if have, again := w.header[name]; again {
			w.header[name] = append(have, value)
			continue
		}
		n := len(w.values)
		w.values = append(w.values, value)
		w.header[name] = w.values[n : n+1 : n+1]
	}
	return host, true
}

// laneName is the canonical form of a name. That it is a token has been checked, so
// whoever writes it as most do costs less than half of what net/textproto takes.
func laneName(name string) string {
	upper := true
	for i := range len(name) {
		if b := name[i]; upper && 'a' <= b && b <= 'z' || !upper && 'A' <= b && b <= 'Z' {
			return textproto.CanonicalMIMEHeaderKey(name)
		}
		upper = name[i] == '-'
	}
	return name
}

// target fills the URL as [url.ParseRequestURI] would.
func (w *laneWork) target(t string) bool {
	i := 0
	if t[0] == '/' {
		for i < len(t) && headClass[t[i]]&headPlain != 0 {
			i++
		}
		if i == len(t) || t[i] == '?' && i+1 < len(t) {
			w.url = url.URL{Path: t[:i]}
			if i < len(t) {
				w.url.RawQuery = t[i+1:]
			}
			return true
		}
	}
	u, err := url.ParseRequestURI(t)
	if err != nil {
		return false
	}
	w.url = *u
	return true
}
