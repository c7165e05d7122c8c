package http1

import (
	"bytes"
	"net/textproto"
	"strings"
)

// Bounds of what a service may send before its body starts, and after it.
const (
	maxResponseHead   = 64 << 10
	maxResponseFields = 200
	maxInterim        = 8   // 1xx responses before the final one
	maxChunkLine      = 256 // a chunk's size with its extensions
)

// A Field is one header or trailer field line. Name is in canonical form
// (net/textproto), Value has its outer white space cut off.
type Field struct{ Name, Value string }

// A Response is the head of a response (RFC 9112 §4). It is valid until the
// next call of [Conn.ReadHead]; the strings in it stay valid for ever.
type Response struct {
	Status int     // 100 to 599
	Minor  int     // of the version: 0 or 1
	Fields []Field // every field in the order received, hop-by-hop ones included
	Length int64   // of the body; -1 when only its end will tell
}

// A ResponseError says how a service's message broke RFC 9112. Such a message
// has more than one reading, so that none of it is passed on.
type ResponseError struct{ Fault string }

func (e *ResponseError) Error() string { return "malformed response: " + e.Fault }

func fault(s string) error { return &ResponseError{s} }

// framing is how a response's body ends.
type framing uint8

const (
	framedNone framing = iota
	framedLength
	framedChunked
	framedClose
)

// lineEnds looks for the empty line that ends a head or a trailer section which
// starts at buf[start:]. It looks only at bytes from *seen on, and moves *seen,
// so that a head that comes byte by byte costs no more than one that comes whole.
// A line feed without a carriage return is refused where it stands: waiting for
// the right end of such a head would mean to wait for the next response.
func lineEnds(buf []byte, start int, seen, line *int) (end int, err error) {
	for {
		n := bytes.IndexByte(buf[*seen:], '\n')
		if n < 0 {
			*seen = len(buf)
			return 0, nil
		}
		i := *seen + n
		if i == start || buf[i-1] != '\r' {
			return 0, fault("bare LF")
		}
		if i-1 == *line {
			return i + 1, nil
		}
		*line, *seen = i+1, i+1
	}
}

// parseResponse reads head, which ends in the empty line, into r. method is of
// the request, because the answer to HEAD has no body whatever it says.
func (c *Conn) parseResponse(head, method string) error {
	r := &c.resp
	r.Fields, r.Length = r.Fields[:0], -1
	line, rest, _ := strings.Cut(head, "\r\n")
	if err := r.parseStatusLine(line); err != nil {
		return err
	}
	fields, err := parseFields(rest, r.Fields)
	if err != nil {
		return err
	}
	r.Fields = fields
	return c.frame(method)
}

func (r *Response) parseStatusLine(line string) error {
	switch {
	case len(line) < len("HTTP/1.1 200"):
		return fault("status line too short")
	case strings.HasPrefix(line, "HTTP/1.1 "):
		r.Minor = 1
	case strings.HasPrefix(line, "HTTP/1.0 "):
		r.Minor = 0
	default:
		return fault("not HTTP/1.1 or HTTP/1.0")
	}
	r.Status = 0
	for _, d := range []byte(line[9:12]) {
		if d < '0' || d > '9' {
			return fault("status code")
		}
		r.Status = 10*r.Status + int(d-'0')
	}
	if r.Status < 100 || r.Status > 599 {
		return fault("status code out of range") // RFC 9110 §15
	}
	// The space before an empty reason phrase is required, but so often left
	// out that refusing it would only break services.
	if len(line) > 12 && (line[12] != ' ' || !cleanValue(line[13:])) {
		return fault("status line")
	}
	return nil
}

// parseFields reads the field lines in s, which ends with an empty line.
func parseFields(s string, into []Field) ([]Field, error) {
	for {
		end := strings.IndexByte(s, '\n')
		if end < 1 || s[end-1] != '\r' {
			return into, fault("field section without end")
		}
		line := s[:end-1]
		if line == "" {
			return into, nil
		}
		if len(into) == maxResponseFields {
			return into, fault("too many fields")
		}
		name, value, err := parseField(line)
		if err != nil {
			return into, err
		}
		into = append(into, Field{name, value})
		s = s[end+1:]
	}
}

func parseField(line string) (name, value string, err error) {
	colon, canonical, upper := -1, true, true
	for i := range len(line) {
		b := line[i]
		if b == ':' {
			colon = i
			break
		}
		if !isToken[b] { // a leading space, which is obs-fold, fails here too
			return "", "", fault("field name")
		}
		if upper && 'a' <= b && b <= 'z' || !upper && 'A' <= b && b <= 'Z' {
			canonical = false
		}
		upper = b == '-'
	}
	if colon <= 0 {
		return "", "", fault("field without name")
	}
	if name = line[:colon]; !canonical {
		name = textproto.CanonicalMIMEHeaderKey(name)
	}
	value = trimBlank(line[colon+1:])
	if !cleanValue(value) {
		return "", "", fault("control byte in field value")
	}
	return name, value, nil
}

// trimBlank cuts off optional white space (RFC 9110 §5.6.3).
func trimBlank(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// cleanValue reports whether s is a field value or reason phrase: RFC 9110 §5.5
// without CR, LF, NUL and the other controls. obs-text is let through: it is
// opaque, and no reader takes it for syntax.
func cleanValue(s string) bool {
	for i := range len(s) {
		if b := s[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// isToken holds the tchar of RFC 9110 §5.6.2.
var isToken = func() (t [256]bool) {
	for _, b := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[b] = true
	}
	return t
}()

// frame decides by RFC 9112 §6.3 how the body of c.resp ends, and whether the
// connection may carry another exchange. Where that section lets a recipient
// repair a contradiction we refuse: a contradiction is how responses are split.
func (c *Conn) frame(method string) error {
	r := &c.resp
	var te string
	var haveTE, haveCL bool
	c.reusable = r.Minor == 1
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.Name {
		case "Content-Length":
			if haveCL {
				return fault("more than one Content-Length")
			}
			n, ok := parseLength(f.Value)
			if !ok {
				return fault("Content-Length")
			}
			haveCL, r.Length = true, n
		case "Transfer-Encoding":
			if haveTE {
				return fault("more than one Transfer-Encoding")
			}
			haveTE, te = true, f.Value
		case "Connection":
			if HasToken(f.Value, "close") {
				c.reusable = false
			}
		}
	}
	bodiless := r.Status < 200 || r.Status == 204
	switch {
	case haveTE && haveCL:
		return fault("Content-Length beside Transfer-Encoding")
	case haveTE && r.Minor == 0:
		return fault("Transfer-Encoding in HTTP/1.0")
	case haveTE && !strings.EqualFold(te, "chunked"):
		return fault("Transfer-Encoding other than chunked")
	case bodiless && (haveTE || r.Length > 0):
		return fault("body announced for a status that has none")
	}
	c.left, c.trailer = 0, c.trailer[:0]
	switch {
	case bodiless || r.Status == 304 || method == "HEAD":
		c.framing = framedNone
		if bodiless || !haveCL {
			r.Length = 0
		}
	case haveTE:
		c.framing = framedChunked
	case haveCL:
		c.framing, c.left = framedLength, r.Length
	default:
		c.framing, c.reusable = framedClose, false
	}
	c.ended = c.framing == framedNone || c.framing == framedLength && c.left == 0
	return nil
}

// parseLength reads a Content-Length: digits only, at most 18 of them, because
// signs, blanks and lists are where two parsers part.
func parseLength(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return n, true
}

// HasToken reports whether the comma-separated list holds token, compared
// without case (RFC 9110 §5.6.1).
func HasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), token) {
			return true
		}
	}
	return false
}
