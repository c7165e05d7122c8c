package jsonschema

import (
	"bytes"
	"unicode/utf8"
)

func isIPv4(b []byte) bool {
	parts := 0
	for i := 0; ; i++ {
		start, v := i, 0
		for i < len(b) && digit(b[i]) && i-start < 4 {
			v = v*10 + int(b[i]-'0')
			i++
		}
		if n := i - start; n == 0 || n > 3 || v > 255 || n > 1 && b[start] == '0' {
			return false // a leading zero is octal to some readers
		}
		if parts++; i == len(b) {
			return parts == 4
		}
		if b[i] != '.' || parts == 4 {
			return false
		}
	}
}

// isIPv6 takes RFC 4291 §2.2; a zone is no part of an address.
func isIPv6(b []byte) bool {
	groups, double := 0, false
	if len(b) < 2 || b[0] == ':' && b[1] != ':' {
		return false
	}
	for i := 0; i < len(b); {
		if b[i] == ':' && i+1 < len(b) && b[i+1] == ':' {
			if double {
				return false
			}
			double = true
			if i += 2; i == len(b) {
				break
			}
			if b[i] == ':' {
				return false
			}
			continue
		}
		if i > 0 && b[i] == ':' {
			i++
		}
		start := i
		for i < len(b) && isHex(b[i]) {
			i++
		}
		if i < len(b) && b[i] == '.' {
			if !isIPv4(b[start:]) {
				return false
			}
			groups += 2
			break
		}
		if n := i - start; n == 0 || n > 4 {
			return false
		}
		groups++
		if i < len(b) && b[i] != ':' {
			return false
		}
	}
	return groups == 8 || double && groups < 8
}

// isURI takes RFC 3986, or RFC 3987 when international. Backslashes, spaces
// and raw brackets are refused: they are what readers of URLs disagree about.
func isURI(b []byte, absolute, international bool) bool {
	scheme := 0
	for scheme < len(b) && (alpha(b[scheme]) || scheme > 0 && (digit(b[scheme]) || b[scheme] == '+' || b[scheme] == '-' || b[scheme] == '.')) {
		scheme++
	}
	if scheme > 0 && scheme < len(b) && b[scheme] == ':' {
		b = b[scheme+1:]
	} else if absolute {
		return false
	} else if first, _, _ := bytes.Cut(b, []byte("/")); bytes.IndexByte(first, ':') >= 0 && !bytes.ContainsAny(first[:bytes.IndexByte(first, ':')], "?#") {
		return false // a relative reference may not look like a scheme
	}
	b, fragment, hasFragment := bytes.Cut(b, []byte("#"))
	if hasFragment && !uriChars(fragment, "/?:@", international) {
		return false
	}
	b, query, hasQuery := bytes.Cut(b, []byte("?"))
	if hasQuery && !uriChars(query, "/?:@", international) {
		return false
	}
	if rest, ok := bytes.CutPrefix(b, []byte("//")); ok {
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		if !isAuthority(rest[:end], international) {
			return false
		}
		b = rest[end:]
	}
	return uriChars(b, "/:@", international)
}

func isAuthority(b []byte, international bool) bool {
	if at := bytes.LastIndexByte(b, '@'); at >= 0 {
		if !uriChars(b[:at], ":", international) {
			return false
		}
		b = b[at+1:]
	}
	var host, port []byte
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		port = b[end+1:]
		if in := b[1:end]; !isIPv6(in) && !isIPvFuture(in) {
			return false
		}
		if len(port) > 0 && port[0] != ':' {
			return false
		}
		port = bytes.TrimPrefix(port, []byte(":"))
	} else {
		host, port, _ = bytes.Cut(b, []byte(":"))
	}
	for _, c := range port {
		if !digit(c) {
			return false
		}
	}
	return uriChars(host, "", international)
}

func isIPvFuture(b []byte) bool {
	if len(b) < 4 || b[0]|0x20 != 'v' {
		return false
	}
	version, rest, ok := bytes.Cut(b[1:], []byte("."))
	if !ok || len(version) == 0 || len(rest) == 0 {
		return false
	}
	for _, c := range version {
		if !isHex(c) {
			return false
		}
	}
	return uriChars(rest, ":", false) && bytes.IndexByte(rest, '%') < 0
}

// uriChars takes unreserved, sub-delims, percent-encodings and what extra adds.
func uriChars(b []byte, extra string, international bool) bool {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case alpha(c) || digit(c):
		case c == '%':
			if i+2 >= len(b) || !isHex(b[i+1]) || !isHex(b[i+2]) {
				return false
			}
			i += 2
		case c >= utf8.RuneSelf:
			if !international {
				return false
			}
		case bytes.IndexByte([]byte("-._~!$&'()*+,;="), c) >= 0 || bytes.IndexByte([]byte(extra), c) >= 0:
		default:
			return false
		}
	}
	return true
}

// isURITemplate takes RFC 6570 up to level 4.
func isURITemplate(b []byte) bool {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '{':
			end := bytes.IndexByte(b[i:], '}')
			if end < 0 || !isExpression(b[i+1:i+end]) {
				return false
			}
			i += end
		case c == '%':
			if i+2 >= len(b) || !isHex(b[i+1]) || !isHex(b[i+2]) {
				return false
			}
		case c <= 0x20 || c == 0x7f || bytes.IndexByte([]byte("\"<>\\^`|}"), c) >= 0:
			return false
		}
	}
	return true
}

func isExpression(b []byte) bool {
	if len(b) > 0 && bytes.IndexByte([]byte("+#./;?&=,!@|"), b[0]) >= 0 {
		b = b[1:]
	}
	for {
		spec, rest, more := bytes.Cut(b, []byte(","))
		name, prefix, cut := bytes.Cut(spec, []byte(":"))
		if cut {
			if len(prefix) == 0 || len(prefix) > 4 || prefix[0] == '0' {
				return false
			}
			for _, c := range prefix {
				if !digit(c) {
					return false
				}
			}
		} else {
			name = bytes.TrimSuffix(name, []byte("*"))
		}
		if len(name) == 0 || name[0] == '.' || name[len(name)-1] == '.' {
			return false
		}
		for i := 0; i < len(name); i++ {
			switch c := name[i]; {
			case alpha(c) || digit(c) || c == '_' || c == '.' && name[i-1] != '.':
			case c == '%' && i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]):
				i += 2
			default:
				return false
			}
		}
		if !more {
			return true
		}
		b = rest
	}
}
