package auditlog

import (
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf8"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// Bounds of one line: strangers choose paths and hosts, and a refused body can
// have any number of faults.
const (
	maxText  = 1024 // bytes of one string
	cutText  = 128  // of one string in an event that was too large
	listText = 256  // of one string in a list
	maxList  = 64   // entries of one list
	maxEvent = 32 << 10
)

// AppendEvent appends e as one line of JSON with its newline. Fields are in a
// fixed order, the id first; empty ones are left out, except allow and status.
func AppendEvent(dst []byte, e *gatehouse.Event) []byte {
	start := len(dst)
	dst = appendAll(dst, e, maxText)
	if len(dst)-start > maxEvent { // the record says that it is cut, rather than not at all
		dst = appendAll(dst[:start], e, cutText)
	}
	return dst
}

func appendAll(dst []byte, e *gatehouse.Event, limit int) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, e.ID, limit)
	dst = append(dst, `,"time":"`...)
	dst = appendTime(dst, e.Time)
	dst = append(dst, '"')
	dst = appendText(dst, `,"node":`, e.Node, limit)
	dst = appendText(dst, `,"config":`, e.Config, limit)
	dst = appendText(dst, `,"address":`, e.Address, limit)
	dst = appendText(dst, `,"host":`, e.Host, limit)
	dst = appendText(dst, `,"method":`, e.Method, limit)
	dst = appendText(dst, `,"path":`, e.Path, limit)
	dst = appendText(dst, `,"protocol":`, e.Protocol, limit)
	dst = appendText(dst, `,"tls":`, e.TLS, limit)
	dst = appendText(dst, `,"api":`, e.API, limit)
	dst = appendText(dst, `,"operation":`, e.Operation, limit)
	dst = appendText(dst, `,"subject":`, e.Subject, limit)
	dst = appendText(dst, `,"issuer":`, e.Issuer, limit)
	dst = appendText(dst, `,"client":`, e.Client, limit)
	dst = appendText(dst, `,"auth":`, string(e.Auth), limit)
	dst = appendText(dst, `,"key_id":`, e.KeyID, limit)
	dst = append(dst, `,"allow":`...)
	dst = strconv.AppendBool(dst, e.Allow)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(e.Status), 10)
	dst = appendText(dst, `,"reason":`, e.Reason, limit)
	dst = appendText(dst, `,"cause":`, e.Cause, limit)
	dst = appendNumber(dst, `,"score":`, int64(e.Score))
	if limit == maxText {
		dst = appendReasons(dst, e.Reasons)
		dst = appendFields(dst, `,"fields":[`, e.Fields)
		dst = appendFields(dst, `,"reported":[`, e.Reported)
		dst = appendMatches(dst, e.Matches)
	} else {
		dst = append(dst, `,"truncated":true`...)
	}
	dst = appendText(dst, `,"upstream":`, e.Upstream, limit)
	dst = appendText(dst, `,"cache":`, e.Cache, limit)
	dst = appendNumber(dst, `,"duration_ns":`, int64(e.Duration))
	dst = appendNumber(dst, `,"service_ns":`, int64(e.Service))
	dst = appendNumber(dst, `,"in":`, e.In)
	dst = appendNumber(dst, `,"out":`, e.Out)
	dst = appendText(dst, `,"trace_id":`, e.TraceID, limit)
	return append(dst, "}\n"...)
}

func appendReasons(dst []byte, reasons []gatehouse.Reason) []byte {
	for i := range reasons[:min(len(reasons), maxList)] {
		r := &reasons[i]
		dst = append(dst, separator(i, `,"reasons":[`)...)
		dst = append(dst, `{"rule":`...)
		dst = appendString(dst, r.Rule, listText)
		dst = append(dst, `,"effect":`...)
		dst = appendString(dst, string(r.Effect), listText)
		dst = appendText(dst, `,"text":`, r.Text, listText)
		dst = appendText(dst, `,"saw":`, r.Saw, listText)
		dst = appendText(dst, `,"needed":`, r.Needed, listText)
		dst = append(dst, '}')
	}
	return closeList(dst, len(reasons))
}

func appendFields(dst []byte, name string, fields []gatehouse.FieldError) []byte {
	for i := range fields[:min(len(fields), maxList)] {
		f := &fields[i]
		dst = append(dst, separator(i, name)...)
		dst = append(dst, `{"in":`...)
		dst = appendString(dst, f.In, listText)
		dst = appendText(dst, `,"name":`, f.Name, listText)
		dst = appendText(dst, `,"pointer":`, f.Pointer, listText)
		dst = append(dst, `,"rule":`...)
		dst = appendString(dst, f.Rule, listText)
		dst = append(dst, `,"detail":`...)
		dst = appendString(dst, f.Detail, listText)
		dst = append(dst, '}')
	}
	return closeList(dst, len(fields))
}

func appendMatches(dst []byte, matches []gatehouse.Match) []byte {
	for i := range matches[:min(len(matches), maxList)] {
		m := &matches[i]
		dst = append(dst, separator(i, `,"matches":[`)...)
		dst = strconv.AppendInt(append(dst, `{"rule":`...), int64(m.Rule), 10)
		dst = appendText(dst, `,"text":`, m.Text, listText)
		dst = appendText(dst, `,"severity":`, m.Severity, listText)
		dst = appendNumber(dst, `,"level":`, int64(m.Level))
		dst = appendText(dst, `,"in":`, m.In, listText)
		dst = appendText(dst, `,"name":`, m.Name, listText)
		dst = appendText(dst, `,"pointer":`, m.Pointer, listText)
		dst = appendText(dst, `,"part":`, m.Part, listText)
		dst = appendText(dst, `,"decoded":`, m.Decoded, listText)
		dst = append(dst, '}')
	}
	return closeList(dst, len(matches))
}

func separator(i int, open string) string {
	if i == 0 {
		return open
	}
	return ","
}

func closeList(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return append(dst, ']')
}

func appendText(dst []byte, name, s string, limit int) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, name...), s, limit)
}

func appendNumber(dst []byte, name string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), v, 10)
}

// appendTime writes t in UTC with nine decimals (RFC 3339), so that lines sort. A
// year outside 0 to 9999 is not RFC 3339 and is written as the zero time.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		t = time.Time{}
	}
	y, m, d := t.Date()
	hour, minute, second := t.Clock()
	ns := t.Nanosecond()
	b := [...]byte{
		digits[y/100*2], digits[y/100*2+1], digits[y%100*2], digits[y%100*2+1], '-', digits[m*2], digits[m*2+1], '-', digits[d*2], digits[d*2+1], 'T',
		digits[hour*2], digits[hour*2+1], ':', digits[minute*2], digits[minute*2+1], ':', digits[second*2], digits[second*2+1], '.',
		byte('0' + ns/1e8), '0', '0', '0', '0', '0', '0', '0', '0', 'Z',
	}
	for rest, at := ns%1e8, len(b)-3; rest > 0; at -= 2 {
		pair := rest % 100 * 2
		b[at], b[at+1] = digits[pair], digits[pair+1]
		rest /= 100
	}
	return append(dst, b[:]...)
}

// digits are the numbers from 00 to 99.
const digits = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"

// plain are the ASCII bytes that stand for themselves in a string of a line.
var plain = func() (p [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		p[c] = c != '"' && c != '\\'
	}
	return p
}()

// isPlain reports whether every byte of b is plain, eight at a time: nearly every
// string of nearly every event is.
func isPlain(b []byte) bool {
	if len(b) < 8 {
		for _, c := range b {
			if !plain[c] {
				return false
			}
		}
		return true
	}
	odd := oddBytes(b[len(b)-8:])
	for ; len(b) > 8; b = b[8:] {
		odd |= oddBytes(b)
	}
	return odd == 0
}

// oddBytes is zero when the first eight bytes of b are plain. In a word without a
// byte above 0x7f each of the other terms sets the high bit of bytes of one kind
// that are not; what a borrow or a carry may set besides stands beside such a byte.
func oddBytes(b []byte) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(b)
	control, del, quote, backslash := w-' '*ones, w+ones, (w^('"'*ones))-ones, (w^('\\'*ones))-ones
	return (w | control | del | quote | backslash) & high
}

// appendString writes s as a JSON string, cut at limit bytes. Control
// characters, line separators and the marks that turn the direction of text are
// escaped: a line stays one line, and shows in a terminal what it holds. Invalid
// UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string, limit int) []byte {
	dst = append(dst, '"')
	if len(s) <= limit {
		if dst = append(dst, s...); isPlain(dst[len(dst)-len(s):]) {
			return append(dst, '"')
		}
		dst = dst[:len(dst)-len(s)]
	}
	return appendOdd(dst, s, limit)
}

// appendOdd goes on where a string is too long or holds what is not plain.
func appendOdd(dst []byte, s string, limit int) []byte {
	cut := len(s) > limit
	if cut {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	begin := 0
	for i := 0; i < len(s); {
		for i < len(s) && plain[s[i]] {
			i++
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			dst = append(dst, s[begin:i]...)
			dst = appendEscaped(dst, c)
			i++
			begin = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if invalid := r == utf8.RuneError && size == 1; invalid || unsafeRune(r) {
			dst = append(dst, s[begin:i]...)
			dst = appendRune(dst, r)
			begin = i + size
		}
		i += size
	}
	dst = append(dst, s[begin:]...)
	if cut {
		dst = append(dst, "…"...)
	}
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return appendRune(dst, rune(c))
}

// appendRune writes \uXXXX; r is in the Basic Multilingual Plane.
func appendRune(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// unsafeRune reports what must not reach a reader's terminal as it is: C1
// controls, line and paragraph separators, marks of direction ("trojan source"),
// the byte order mark.
func unsafeRune(r rune) bool {
	return r >= 0x80 && r <= 0x9f || r == 0x61c || r >= 0x200b && r <= 0x200f ||
		r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}
