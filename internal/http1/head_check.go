package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	headMaxTarget = 8 << 10
	headMaxFields = 100
)

// A headFrame is what the check of a head found: where its parts lie and how
// long the body is. Its slices are views, good only as long as the bytes are.
type headFrame struct {
	method, target, host []byte
	fields               int
	length               int64 // of the body, when it is not chunked
	chunked              bool
	old                  bool // HTTP/1.0
}

// The fields that may occur once, as bits of one word. Two Host, two
// Content-Length or two Authorization lines are the classic ways to make a
// gateway and its service read different ones.
const (
	headSeenHost = 1 << iota
	headSeenLength
	headSeenCoding
	headSeenAuthorization
	headSeenType
	headSeenCookie
	headSeenExpect
	headSeenOrigin
	headSeenDPoP
	headSeenConnection // may repeat; what it names is limited
)

// headField names the fields with a rule of their own. It returns the bit of a
// field that may occur once, or a verdict against the field itself.
func headField[T headText](name T) (once uint, v headVerdict) {
	// Length first: most fields end here.
	switch len(name) {
	case 4:
		if headFold(name, "host") {
			return headSeenHost, headOK
		}
		if headFold(name, "dpop") {
			return headSeenDPoP, headOK
		}
	case 5:
		if headFold(name, "proxy") { // CGI turns it into HTTP_PROXY (CVE-2016-5385)
			return 0, headOverride
		}
	case 6:
		if headFold(name, "cookie") {
			return headSeenCookie, headOK
		}
		if headFold(name, "expect") {
			return headSeenExpect, headOK
		}
		if headFold(name, "origin") {
			return headSeenOrigin, headOK
		}
	case 7:
		if headFold(name, "trailer") {
			return 0, headTrailer
		}
	case 10:
		if headFold(name, "connection") {
			return headSeenConnection, headOK
		}
	case 12:
		if headFold(name, "content-type") {
			return headSeenType, headOK
		}
	case 13:
		if headFold(name, "authorization") {
			return headSeenAuthorization, headOK
		}
		if headFold(name, "x-http-method") || headFold(name, "x-rewrite-url") {
			return 0, headOverride
		}
	case 14:
		if headFold(name, "content-length") {
			return headSeenLength, headOK
		}
		if headFold(name, "x-original-url") { // IIS and Symfony route by it: access rules on the path would not hold
			return 0, headOverride
		}
	case 17:
		if headFold(name, "transfer-encoding") {
			return headSeenCoding, headOK
		}
		if headFold(name, "x-method-override") {
			return 0, headOverride
		}
	case 22:
		if headFold(name, "x-http-method-override") {
			return 0, headOverride
		}
	}
	return 0, headOK
}

// headConnectionOK reports whether a Connection field names nothing but what is
// about the connection. A field it names is taken out before the request goes on
// (RFC 9110 §7.6.1): a caller could have any field checked here, a tenant or the
// Content-Type, and then kept from the service (hop-by-hop abuse).
func headConnectionOK[T headText](v T) bool {
	for start, i := 0, 0; i <= len(v); i++ {
		if i < len(v) && v[i] != ',' {
			continue
		}
		from, to := start, i
		for from < to && (v[from] == ' ' || v[from] == '\t') {
			from++
		}
		for from < to && (v[to-1] == ' ' || v[to-1] == '\t') {
			to--
		}
		switch name := v[from:to]; {
		case len(name) == 0, headFold(name, "close"), headFold(name, "keep-alive"), headFold(name, "upgrade"), headFold(name, "te"),
			headFold(name, "http2-settings"):
		default:
			return false
		}
		start = i + 1
	}
	return true
}

// headEnd finds the end of a head in b, looking only at what came after seen.
// It returns 0 while there is none. An LF without CR is an end of line to
// net/http but not to us: ok is false then, without waiting for more.
func headEnd(b []byte, seen int) (end int, ok bool) {
	if i := bytes.Index(b[max(0, seen-3):], []byte("\r\n\r\n")); i >= 0 {
		return max(0, seen-3) + i + 4, true
	}
	for i := seen; i < len(b); i++ {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			break
		}
		i += j
		if i == 0 || b[i-1] != '\r' {
			return 0, false
		}
	}
	return 0, true
}

// headCheck reads the whole head b, which ends in an empty line, and fills f.
func headCheck(b []byte, f *headFrame) headVerdict {
	*f = headFrame{}
	i, v := headCheckLine(b, f)
	if v != headOK {
		return v
	}
	var seen uint
	var authority, authorityEnd int
	if v, authority, authorityEnd = headCheckTarget(f.method, f.target); v != headOK {
		return v
	}
	for i < len(b)-2 {
		// Name.
		start := i
		for headClass[b[i]]&headToken != 0 {
			if b[i] == '_' {
				// CGI and WSGI turn X_User and X-User into the same variable.
				return headUnderscore
			}
			i++
		}
		if b[i] != ':' || i == start {
			switch {
			case i == start && (b[i] == ' ' || b[i] == '\t'):
				return headFolded
			case b[i] == '\n', b[i] == '\r' && b[i+1] != '\n', b[i] == 0:
				return headBadLineEnd
			}
			return headBadField
		}
		name := b[start:i]
		// Value.
		from := i + 1
		i = headValueEnd(b, from)
		if b[i] != '\r' || b[i+1] != '\n' {
			return headBadLineEnd
		}
		value := b[from:i]
		i += 2
		if f.fields++; f.fields > headMaxFields {
			return headTooManyFields
		}
		once, v := headField(name)
		if v != headOK {
			return v
		}
		switch once {
		case 0:
			continue
		case headSeenConnection:
			if !headConnectionOK(value) {
				return headConnectionField
			}
			continue
		}
		if seen&once != 0 {
			switch once {
			case headSeenHost:
				return headBadHost
			case headSeenLength, headSeenCoding:
				return headAmbiguousLength
			}
			return headDuplicate
		}
		seen |= once
		// One space is what every client sends; parsers have differed on tabs
		// and trailing blanks around exactly these values.
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		switch once {
		case headSeenHost:
			if !headHostOK(value) {
				return headBadHost
			}
			f.host = value
		case headSeenLength:
			n, ok := headLength(value)
			if !ok {
				return headAmbiguousLength
			}
			f.length = n
		case headSeenCoding:
			if string(value) != "chunked" {
				return headBadCoding
			}
			f.chunked = true
		case headSeenExpect:
			if !headFold(value, "100-continue") {
				return headBadExpect
			}
		}
	}
	switch {
	case seen&headSeenHost == 0:
		return headBadHost
	case f.chunked && (f.old || seen&headSeenLength != 0):
		return headAmbiguousLength
	case authority != authorityEnd && !headSame(f.target[authority:authorityEnd], f.host):
		return headHostMismatch
	}
	return headOK
}

// headCheckLine reads the request line and returns where the fields begin.
func headCheckLine(b []byte, f *headFrame) (int, headVerdict) {
	end := bytes.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return 0, headBadLineEnd
	}
	line := b[:end-1]
	sp := bytes.IndexByte(line, ' ')
	if sp < 1 {
		return 0, headBadLine
	}
	f.method = line[:sp]
	if !headMethodKnown(f.method) {
		for _, c := range f.method {
			if headClass[c]&headToken == 0 {
				return 0, headBadLine
			}
		}
		return 0, headBadMethod
	}
	rest := line[sp+1:]
	if sp = bytes.IndexByte(rest, ' '); sp < 1 {
		return 0, headBadLine
	}
	f.target = rest[:sp]
	if len(f.target) > headMaxTarget {
		return 0, headTargetTooLong
	}
	switch version := rest[sp+1:]; {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		f.old = true
	case len(version) == 8 && string(version[:5]) == "HTTP/" && version[6] == '.':
		return 0, headBadVersion
	default:
		return 0, headBadLine
	}
	return end + 1, headOK
}

// headValueEnd returns the place of the first control character from i on; a
// head always ends in one. It reads eight bytes at a time: values are most of a head.
func headValueEnd(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			del := x ^ 0x7f*ones
			hit := ((x-0x20*ones)&^x | (del-ones)&^del) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		for b[i] >= 0x20 && b[i] != 0x7f {
			i++
		}
		if b[i] != '\t' {
			return i
		}
		i++
	}
}

// headLength reads a Content-Length: digits, no sign, no list, no leading zero
// (some libraries read 010 as eight).
func headLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
