package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// pseudonym is our name in Via (RFC 9110 §7.6.3).
const pseudonym = "1.1 gatehouse"

// lineSafe reports whether s can stand in a head's line: nothing in it ends the line.
func lineSafe(s string) bool {
	return strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, 0) < 0
}

// targetSafe reports whether s can stand in a request line, which a blank ends too.
func targetSafe(s string) bool { return lineSafe(s) && strings.IndexByte(s, ' ') < 0 }

// requestFieldStays reports whether the caller's field may go to the service.
// What stays behind, by reason: it is about this connection (RFC 9110 §7.6.1);
// it claims what only we know (who the caller is, what was asked for), and is
// written anew; or it makes a framework read another method, path or host than
// the one that was checked.
func requestFieldStays(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect",
		"Host", "Content-Length", "Forwarded", "Via", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip",
		"True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip", "Cloudfront-Viewer-Address", "Forwarded-For", "Client-Cert", "Client-Cert-Chain", "X-Client-Cert",
		"Remote-User", "X-Original-Url", "X-Original-Uri", "X-Original-Path", "X-Original-Host", "X-Original-Method", "X-Rewrite-Url", "X-Override-Url", "X-Http-Destinationurl", "X-Host",
		"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
		"X-Request-Id", "Traceparent", "Tracestate":
		return false
	}
	switch name[0] {
	case 'P':
		return !strings.HasPrefix(name, "Proxy") // Proxy-*, and Proxy itself, which CGI turns into HTTP_PROXY
	case 'X':
		for _, family := range claimed {
			if strings.HasPrefix(name, family) {
				return false
			}
		}
	case 'S':
		return !strings.HasPrefix(name, "Ssl-Client-")
	case 'G':
		return !strings.HasPrefix(name, "Gatehouse-")
	}
	return true
}

// claimed are families of fields by which proxies tell services who calls, from
// where, or what was asked for. A service that once stood behind such a proxy
// still believes them.
var claimed = [...]string{
	"X-Forwarded-", "X-Original-Forwarded-", "X-Originating-", "X-Ssl-", "X-Arr-", "X-Envoy-", "X-Azure-", "X-Appengine-",
	"X-Remote-", "X-Auth-Request-", "X-Authenticated-", "X-Webauth-", "X-Consumer-", "X-Credential-",
	"X-Amzn-Oidc-", "X-Goog-Authenticated-", "X-Goog-Iap-", "X-Ms-Client-Principal",
	"X-Accel-", "X-Sendfile-", "X-Middleware-", // which choose the file sent, or skip a framework's own checks
}

// eachField gives every field of the request to a service but Host, those of the
// framing and the internal token, the same for all lanes.
func (f *flight) eachField(emit func(name, value string)) {
	x, u, c := f.x, f.u, &f.x.computed
	in := x.Request.Header
	listed := in["Connection"]
	for i := range x.Narrow {
		if name := x.Narrow[i].Name; requestFieldStays(name) && !u.removed[name] {
			emit(name, x.Narrow[i].Value)
		}
	}
	if x.Narrow != nil {
		in = nil
	}
	for name, values := range in {
		if name == "" || !requestFieldStays(name) || u.removed[name] || strings.IndexByte(name, '_') >= 0 {
			continue // many servers read X_A as X-A
		}
		if _, replaced := x.Header[name]; replaced || listed != nil && isListed(listed, name) {
			continue
		}
		if name == "Accept-Encoding" && x.CheckResponse != nil {
			continue
		}
		for _, v := range values {
			emit(name, v)
		}
	}
	for name, values := range x.Header {
		for _, v := range values {
			emit(name, v)
		}
	}
	if x.CheckResponse != nil {
		emit("Accept-Encoding", "identity") // what cannot be read cannot be checked
	}
	if u.cfg.Token != TokenPass && x.Narrow == nil && x.Cookie != "" {
		emit("Cookie", x.Cookie)
	}
	emit("Via", c.via)
	if c.address != "" {
		emit("Forwarded", c.forwarded)
		emit("X-Forwarded-For", c.address)
	}
	if c.address != "" || x.Narrow != nil {
		emit("X-Forwarded-Host", x.Host)
		emit("X-Forwarded-Proto", x.Proto)
	}
	emit("Traceparent", c.traceparent)
	if c.tracestate != nil {
		emit("Tracestate", strings.Join(c.tracestate, ","))
	}
	emit("X-Request-Id", c.requestID)
	if x.Decision != "" {
		emit("Gatehouse-Decision", x.Decision)
	}
}

// isListed reports whether a Connection field names name as hop-by-hop.
func isListed(connection []string, name string) bool {
	for _, v := range connection {
		if http1.HasToken(v, name) {
			return true
		}
	}
	return false
}

// computed are the field values we write ourselves. They are substrings of one
// string, so that they cost one allocation.
type computed struct {
	via, address, forwarded string
	traceparent, traceID    string
	requestID               string
	tracestate              []string
}

// make appends the values to b, which is returned, and with it the string they are
// parts of: b's as well.
func (c *computed) make(x *Outbound, b []byte) ([]byte, string) {
	h, client := x.Request.Header, x.ClientAddr
	if x.Narrow != nil {
		h, client = nil, netip.Addr{}
	}
	start := len(b)
	for _, v := range h["Via"] {
		b = append(append(b, v...), ", "...)
	}
	b = append(b, pseudonym...)
	endVia := len(b)
	b, address := appendForwarded(b, client, x.Host, x.Proto)
	endForwarded := len(b)
	b, sampled := appendTrace(b, h["Traceparent"])
	s := string(b)
	c.via, c.forwarded, c.address = s[start:endVia], s[endVia:endForwarded], s[endVia:endForwarded][address[0]:address[1]]
	c.traceparent = s[endForwarded:]
	c.traceID = c.traceparent[3:35]
	c.tracestate = nil
	if sampled {
		c.tracestate = h["Tracestate"]
	}
	c.requestID = x.Decision
	if id := h["X-Request-Id"]; len(id) == 1 && plainID(id[0]) {
		c.requestID = id[0]
	} else if x.Decision == "" {
		c.requestID = c.traceID
	}
	return b, s
}

// plainID reports whether an id of the caller's may go to the service's logs.
func plainID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '_', b == '.', b == ':', b == '=', b == '+', b == '/':
		default:
			return false
		}
	}
	return true
}

// appendTrace appends a traceparent (W3C Trace Context §3.2): the caller's
// trace with a new parent, or a new trace. kept reports the former, where the
// tracestate stays valid.
func appendTrace(b []byte, in []string) (_ []byte, kept bool) {
	var fresh [24]byte
	_, _ = rand.Read(fresh[:]) // never fails: crypto/rand
	b = append(b, "00-"...)
	if len(in) == 1 && validTraceparent(in[0]) {
		b = append(append(b, in[0][3:35]...), '-')
		b = append(hex.AppendEncode(b, fresh[16:]), '-')
		return append(b, in[0][53:55]...), true
	}
	b = append(hex.AppendEncode(b, fresh[:16]), '-')
	return append(hex.AppendEncode(b, fresh[16:]), "-00"...), false
}

// validTraceparent takes version 00 only: others may be longer, and are started anew.
func validTraceparent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, parent := false, false // not all zero
	for i := 3; i < len(s); i++ {
		if i == 35 || i == 52 {
			continue
		}
		if b := s[i]; (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
		if s[i] != '0' {
			trace = trace || i < 35
			parent = parent || 35 < i && i < 52
		}
	}
	return trace && parent
}

// appendForwarded appends the value of a Forwarded field (RFC 7239 §4), and tells
// from where to where in it the address stands.
func appendForwarded(b []byte, address netip.Addr, host, proto string) (_ []byte, at [2]int) {
	if !address.IsValid() {
		return b, at
	}
	address = address.Unmap().WithZone("")
	start := len(b)
	b = append(b, "for="...)
	if address.Is6() {
		b = append(b, `"[`...)
		at[0] = len(b) - start
		b = address.AppendTo(b)
		at[1] = len(b) - start
		b = append(b, `]"`...)
	} else {
		at[0] = len(b) - start
		b = address.AppendTo(b)
		at[1] = len(b) - start
	}
	if host != "" {
		b = append(b, ";host="...)
		b = appendQuoted(b, host)
	}
	return append(append(b, ";proto="...), proto...), at
}

// appendQuoted appends s as a quoted-string, at little cost where nothing in it
// needs more than the quotes: in every host that was checked.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return strconv.AppendQuote(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendHead appends the head of an HTTP/1.1 request to b, which is empty. It fails
// when what it wrote has more lines than it meant to write: no field that breaks
// out of its line comes from the network, but a config or a claim might hold one.
func (f *flight) appendHead(b []byte, e *endpoint) (_ []byte, ok bool) {
	x := f.x
	b = append(append(b, x.Request.Method...), ' ')
	b = append(append(b, e.base...), x.Path...)
	if x.RawQuery != "" {
		b = append(append(b, '?'), x.RawQuery...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(append(b, f.host(e)...), "\r\n"...)
	lines := 3 // these two and the empty one
	f.eachField(func(name, value string) {
		lines++
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	})
	if f.token != "" { // put together here: it is most of a head, and would be garbage elsewhere
		b = append(append(append(b, "Authorization: Bearer "...), f.token...), "\r\n"...)
		lines++
	}
	switch {
	case f.upgrade:
		b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
		lines += 2
	case x.Narrow == nil && isListed(x.Request.Header["Te"], "trailers"):
		b = append(b, "Connection: TE\r\nTE: trailers\r\n"...)
		lines += 2
	}
	switch n := f.length(); {
	case n < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		lines++
		had := len(b)
		if b = appendTrailerNames(b, x.Request.Trailer); len(b) > had {
			lines++
		}
	case n > 0 || bodyExpected(x.Request.Method):
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), "\r\n"...)
		lines++
	}
	b = append(b, "\r\n"...)
	return b, bytes.Count(b, []byte{'\n'}) == lines && bytes.Count(b, []byte{'\r'}) == lines && bytes.IndexByte(b, 0) < 0
}

func (f *flight) host(e *endpoint) string {
	if f.u.cfg.OriginalHost && f.x.Host != "" {
		return f.x.Host
	}
	return e.host
}

// length is the request body's; -1 when unknown.
func (f *flight) length() int64 {
	if f.x.Stream != nil {
		return f.x.Length
	}
	return int64(len(f.x.Body))
}

// bodyExpected reports whether a request of that method without a body should
// say so (RFC 9110 §8.6).
func bodyExpected(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func appendTrailerNames(b []byte, trailer http.Header) []byte {
	sep := "Trailer: "
	for name := range trailer {
		if trailerStays(name) {
			b = append(append(b, sep...), name...)
			sep = ", "
		}
	}
	if sep == ", " {
		b = append(b, "\r\n"...)
	}
	return b
}

// trailerStays reports whether a field may come behind a body, in either
// direction. One that frames, routes or authenticates must be known before
// (RFC 9110 §6.5.1), or it gets past the checks.
func trailerStays(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Set-Cookie", "Content-Encoding", "Content-Type", "Content-Range", "Cache-Control",
		"Www-Authenticate", "Location", "Max-Forwards", "Range", "If-Match", "If-None-Match", "Dpop":
		return false
	}
	return name != "" && requestFieldStays(name) && answerFieldStays(name) && strings.IndexByte(name, '_') < 0
}

// requestTrailer gives the trailer fields that came behind the request's body.
func (f *flight) requestTrailer() http.Header {
	return passTrailer(f.x.Request.Trailer, f.u.removed)
}

func passTrailer(in http.Header, removed map[string]bool) http.Header {
	out := http.Header{}
	for name, values := range in {
		if trailerStays(name) && !removed[name] {
			out[name] = values
		}
	}
	return out
}
