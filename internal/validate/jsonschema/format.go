package jsonschema

import (
	"bytes"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// A format checks one value of "format" (2020-12 validation §7, the OpenAPI
// format registry). It looks at strings or at numbers, never allocates, and
// passes every value of another type. With neither function it only informs.
type format struct {
	name    string // for messages, with its article
	keyword string // as schemas write it
	expr    string // an expression that every text of it matches; "" none
	text    func([]byte) bool
	number  func([]byte) bool
}

// formatNamed returns nil for a format it does not know.
func formatNamed(name string) *format {
	switch name {
	case "date-time":
		return &format{name: "a date and time (RFC 3339)", text: isDateTime}
	case "date":
		return &format{name: "a date (RFC 3339)", text: isDate}
	case "time":
		return &format{name: "a time with offset (RFC 3339)", text: isTime}
	case "duration":
		return &format{name: "a duration (RFC 3339 appendix A)", text: isDuration}
	case "email":
		return &format{name: "an email address (RFC 5321)", text: func(b []byte) bool { return isEmail(b, false) }}
	case "idn-email":
		return &format{name: "an email address (RFC 6531)", text: func(b []byte) bool { return isEmail(b, true) }}
	case "hostname":
		return &format{name: "a host name (RFC 1123)", text: isHostname}
	case "idn-hostname":
		return &format{name: "an internationalized host name (RFC 5890)", text: isIDNHostname}
	case "ipv4":
		return &format{name: "an IPv4 address", text: isIPv4}
	case "ipv6":
		return &format{name: "an IPv6 address (RFC 4291)", text: isIPv6}
	case "uri":
		return &format{name: "an absolute URI (RFC 3986)", text: func(b []byte) bool { return isURI(b, true, false) }}
	case "uri-reference":
		return &format{name: "a URI reference (RFC 3986)", text: func(b []byte) bool { return isURI(b, false, false) }}
	case "iri":
		return &format{name: "an absolute IRI (RFC 3987)", text: func(b []byte) bool { return isURI(b, true, true) }}
	case "iri-reference":
		return &format{name: "an IRI reference (RFC 3987)", text: func(b []byte) bool { return isURI(b, false, true) }}
	case "uri-template":
		return &format{name: "a URI template (RFC 6570)", text: isURITemplate}
	case "uuid":
		return &format{name: "a UUID (RFC 9562)", text: isUUID}
	case "json-pointer":
		return &format{name: "a JSON Pointer (RFC 6901)", text: isJSONPointer}
	case "relative-json-pointer":
		return &format{name: "a relative JSON Pointer", text: isRelativePointer}
	case "regex":
		return &format{name: "a regular expression (ECMA 262)", text: isRegex}
	case "byte":
		return &format{name: "base64 (RFC 4648)", text: isBase64}
	case "int32":
		return &format{name: "a 32-bit integer", number: func(b []byte) bool { return fitsInt(b, 32) }}
	case "int64":
		return &format{name: "a 64-bit integer", number: func(b []byte) bool { return fitsInt(b, 64) }}
	case "float":
		return &format{name: "a number a float holds", number: fitsFloat32}
	case "double", "password", "binary", "unix-time", "decimal":
		// Every number is bound to what a double holds; passwords and binary are free text.
		return &format{name: name}
	}
	return nil
}

// formatExpr returns an expression in Go's syntax that every text of a format
// matches: it may match more, never fewer. "" where that would say too little.
func formatExpr(name string) string {
	const (
		date = `[0-9]{4}-[0-9]{2}-[0-9]{2}`
		time = `[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+\-][0-9]{2}:[0-9]{2})`
		uri  = `[A-Za-z0-9%\-._~!$&'()*+,;=/?#:@\[\]]*`
		iri  = `[A-Za-z0-9%\-._~!$&'()*+,;=/?#:@\[\]\x{80}-\x{10ffff}]*`
	)
	switch name {
	case "date-time":
		return `^` + date + `[Tt]` + time + `$`
	case "date":
		return `^` + date + `$`
	case "time":
		return `^` + time + `$`
	case "duration":
		return `^P[0-9YMWDTHS]+$`
	case "email": // a quoted local part may hold anything
		return `^([A-Za-z0-9!#$%&'*+\-/=?^_` + "`" + `{|}~.]{1,64}|"(?s:.){0,62}")@([A-Za-z0-9.\-]{1,253}|\[[A-Za-z0-9.:]{1,253}\])$`
	case "hostname":
		return `^[A-Za-z0-9.\-]{1,253}$`
	case "ipv4":
		return `^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$`
	case "ipv6":
		return `^[0-9A-Fa-f:.]{2,45}$`
	case "uri":
		return `^[A-Za-z][A-Za-z0-9+.\-]*:` + uri + `$`
	case "uri-reference":
		return `^` + uri + `$`
	case "iri":
		return `^[A-Za-z][A-Za-z0-9+.\-]*:` + iri + `$`
	case "iri-reference":
		return `^` + iri + `$`
	case "uri-template":
		return "^[^\\x00-\\x20\\x7f\"<>\\\\^`]*$"
	case "uuid":
		return `^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`
	case "relative-json-pointer":
		return `^[0-9]+(#|/|$)`
	case "byte":
		return `^[A-Za-z0-9+/]*={0,2}$`
	}
	return ""
}

func digit(c byte) bool { return c-'0' <= 9 }
func alpha(c byte) bool { return (c|0x20)-'a' <= 25 }
func isHex(c byte) bool { return digit(c) || (c|0x20)-'a' <= 5 }

func number2(b []byte, i int) int {
	if i+2 > len(b) || !digit(b[i]) || !digit(b[i+1]) {
		return -1
	}
	return int(b[i]-'0')*10 + int(b[i+1]-'0')
}

func isDate(b []byte) bool {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return false
	}
	century, year, month, day := number2(b, 0), number2(b, 2), number2(b, 5), number2(b, 8)
	if century < 0 || year < 0 || month < 1 || month > 12 || day < 1 {
		return false
	}
	year += century * 100
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day <= days
}

func isDateTime(b []byte) bool {
	return len(b) > 11 && (b[10]|0x20) == 't' && isDate(b[:10]) && isTime(b[11:])
}

// isTime takes RFC 3339's full-time. A leap second is 23:59:60 in UTC only.
func isTime(b []byte) bool {
	if len(b) < 9 || b[2] != ':' || b[5] != ':' {
		return false
	}
	h, m, s := number2(b, 0), number2(b, 3), number2(b, 6)
	if h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s > 60 {
		return false
	}
	b = b[8:]
	if b[0] == '.' {
		i := 1
		for i < len(b) && digit(b[i]) {
			i++
		}
		if i == 1 || i == len(b) {
			return false
		}
		b = b[i:]
	}
	offset := 0
	switch {
	case len(b) == 1 && b[0]|0x20 == 'z':
	case len(b) == 6 && (b[0] == '+' || b[0] == '-') && b[3] == ':':
		oh, om := number2(b, 1), number2(b, 4)
		if oh < 0 || oh > 23 || om < 0 || om > 59 {
			return false
		}
		if offset = oh*60 + om; b[0] == '-' {
			offset = -offset
		}
	default:
		return false
	}
	return s < 60 || (h*60+m-offset+2880)%1440 == 1439
}

// isDuration takes RFC 3339 appendix A: PnW, or date units in order, then T and
// time units in order, none left out between.
func isDuration(b []byte) bool {
	if len(b) < 3 || b[0] != 'P' {
		return false
	}
	b = b[1:]
	units, last, inTime, some := "YMD", -1, false, false
	for len(b) > 0 {
		if b[0] == 'T' {
			if inTime || len(b) == 1 {
				return false
			}
			units, last, inTime = "HMS", -1, true
			b = b[1:]
			continue
		}
		i := 0
		for i < len(b) && digit(b[i]) {
			i++
		}
		if i == 0 || i == len(b) {
			return false
		}
		if b[i] == 'W' {
			return !some && !inTime && i == len(b)-1
		}
		at := bytes.IndexByte([]byte(units), b[i])
		if at < 0 || at <= last || last >= 0 && at != last+1 {
			return false
		}
		last, some = at, true
		b = b[i+1:]
	}
	return some
}

func isUUID(b []byte) bool {
	if len(b) != 36 {
		return false
	}
	for i, c := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isHex(c) {
			return false
		}
	}
	return true
}

func isJSONPointer(b []byte) bool {
	if len(b) > 0 && b[0] != '/' {
		return false
	}
	for i, c := range b {
		if c == '~' && (i+1 == len(b) || b[i+1] != '0' && b[i+1] != '1') {
			return false
		}
	}
	return true
}

func isRelativePointer(b []byte) bool {
	i := 0
	for i < len(b) && digit(b[i]) {
		i++
	}
	if i == 0 || i > 1 && b[0] == '0' {
		return false
	}
	return string(b[i:]) == "#" || isJSONPointer(b[i:])
}

// isRegex parses only: what strangers send is never compiled.
func isRegex(b []byte) bool {
	if len(b) > 4096 {
		return false
	}
	t := translator{src: string(b)}
	src, err := t.translate()
	if err == nil {
		_, err = syntax.Parse(src, syntax.Perl)
	}
	return err == nil
}

func isBase64(b []byte) bool {
	n := len(b)
	if n%4 != 0 {
		return false
	}
	for range 2 {
		if n > 0 && n > len(b)-2 && b[n-1] == '=' {
			n--
		}
	}
	for _, c := range b[:n] {
		if !digit(c) && !alpha(c) && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// fitsInt takes whole numbers of so many bits; a fraction is left to "type".
func fitsInt(b []byte, bits uint) bool {
	d := parseDecimal(b)
	if !d.integer() {
		return false
	}
	v, ok := d.int64()
	return ok && (bits == 64 || v == int64(int32(v)))
}

func fitsFloat32(b []byte) bool {
	p := splitNumber(b)
	if p.magnitude() < 38 {
		return true
	}
	return parseDecimal(bytes.TrimPrefix(b, []byte("-"))).cmp(parseDecimal([]byte("3.4028234663852886e38"))) <= 0
}

// isEmail takes RFC 5321's Mailbox; international allows RFC 6531's letters.
func isEmail(b []byte, international bool) bool {
	at := bytes.LastIndexByte(b, '@')
	if at < 1 || at > 64 || len(b) > 254 {
		return false
	}
	local, domain := b[:at], b[at+1:]
	if local[0] == '"' {
		if len(local) < 2 || local[len(local)-1] != '"' {
			return false
		}
		inner := local[1 : len(local)-1]
		for i := 0; i < len(inner); i++ {
			if c := inner[i]; c == '\\' {
				if i++; i == len(inner) {
					return false
				}
			} else if c == '"' || c < 0x20 || c == 0x7f || c >= utf8.RuneSelf && !international {
				return false
			}
		}
	} else if !isDotAtom(local, international) {
		return false
	}
	if n := len(domain); n > 2 && domain[0] == '[' && domain[n-1] == ']' {
		if v6, ok := bytes.CutPrefix(domain[1:n-1], []byte("IPv6:")); ok {
			return isIPv6(v6)
		}
		return isIPv4(domain[1 : n-1])
	}
	if international && !ascii(domain) {
		return isDotAtom(domain, true)
	}
	return isHostname(domain)
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isDotAtom(b []byte, international bool) bool {
	dot := true
	for _, c := range b {
		switch {
		case c == '.':
			if dot {
				return false
			}
			dot = true
			continue
		case alpha(c) || digit(c) || bytes.IndexByte([]byte("!#$%&'*+-/=?^_`{|}~"), c) >= 0:
		case c >= utf8.RuneSelf && international:
		default:
			return false
		}
		dot = false
	}
	return !dot
}

func isHostname(b []byte) bool {
	if len(b) == 0 || len(b) > 253 {
		return false
	}
	for {
		label, rest, more := bytes.Cut(b, []byte("."))
		if !isLabel(label) {
			return false
		}
		if !more {
			return true
		}
		b = rest
	}
}

// isLabel takes one LDH label; of those with hyphens in third and fourth place
// only A-labels exist (RFC 5890 §2.3.1).
func isLabel(b []byte) bool {
	if len(b) == 0 || len(b) > 63 || b[0] == '-' || b[len(b)-1] == '-' {
		return false
	}
	for _, c := range b {
		if !alpha(c) && !digit(c) && c != '-' {
			return false
		}
	}
	return len(b) < 4 || b[2] != '-' || b[3] != '-' || len(b) > 4 && b[0]|0x20 == 'x' && b[1]|0x20 == 'n' && isIDN(b)
}

// isIDN checks the rare name that is, or encodes, more than ASCII.
func isIDN(b []byte) bool {
	p := idna.New(idna.ValidateForRegistration(), idna.BidiRule(), idna.CheckJoiners(true))
	_, err := p.ToUnicode(strings.ToLower(string(b)))
	if err == nil {
		_, err = p.ToASCII(strings.ToLower(string(b)))
	}
	return err == nil
}

// isIDNHostname takes labels parted by any of IDNA's four dots (RFC 3490 §3.1).
func isIDNHostname(b []byte) bool {
	if ascii(b) {
		return isHostname(b)
	}
	return len(b) <= 1024 && isIDN([]byte(strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".").Replace(string(b))))
}
