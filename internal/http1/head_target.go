package http1

// headText is a request's text as bytes off the wire or as net/http's strings.
type headText interface{ ~string | ~[]byte }

func headMethodKnown[T headText](m T) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// headCheckTarget judges a request target (RFC 9112 §3.2) and returns where the
// authority of an absolute-form one lies; start == end says it has none.
// CONNECT's authority-form never gets here: the method is unknown.
func headCheckTarget[M, T headText](method M, t T) (v headVerdict, start, end int) {
	if len(t) == 0 {
		return headBadTarget, 0, 0
	}
	if t[0] == '/' {
		return headCheckPath(t, 0), 0, 0
	}
	if len(t) == 1 && t[0] == '*' {
		if string(method) != "OPTIONS" {
			return headBadTarget, 0, 0
		}
		return headOK, 0, 0
	}
	switch {
	case len(t) > 7 && string(t[:7]) == "http://":
		start = 7
	case len(t) > 8 && string(t[:8]) == "https://":
		start = 8
	default:
		return headBadTarget, 0, 0
	}
	for end = start; end < len(t) && t[end] != '/'; end++ {
		// A '?' straight after the authority means an empty path, which some
		// read as "/" and others refuse.
		if t[end] == '?' {
			return headBadTarget, 0, 0
		}
	}
	if end == start || end == len(t) {
		return headBadTarget, 0, 0
	}
	return headCheckPath(t, end), start, end
}

// headCheckPath judges path and query from t[at], a '/'. What it refuses is
// what servers, frameworks and file systems resolve differently: `..`, `//`,
// `%2f`, `%5c`, `%2e`, `%00`, `%252f`, overlong UTF-8, and `;` (servlet engines
// cut "/admin;x" to "/admin" after the gateway has matched it as a parameter).
func headCheckPath[T headText](t T, at int) headVerdict {
	segment := at + 1
	i := at + 1
	var more, lo, hi uint8 // continuation bytes of UTF-8 still due, and the range of the next
	for ; i < len(t) && t[i] != '?'; i++ {
		c := t[i]
		if c == '%' {
			b, ok := headUnhex(t, i)
			if !ok {
				return headBadTarget
			}
			i += 2
			switch {
			case more > 0:
				if b < lo || b > hi {
					return headAmbiguousPath
				}
				more, lo, hi = more-1, 0x80, 0xbf
			case b >= 0x80:
				if more, lo, hi = headLead(b); more == 0 {
					return headAmbiguousPath
				}
			case b < 0x20 || b == 0x7f || b == '/' || b == '\\' || b == '.':
				return headAmbiguousPath
			case b == '%':
				if i+2 < len(t) && headClass[t[i+1]]&headHex != 0 && headClass[t[i+2]]&headHex != 0 {
					return headAmbiguousPath
				}
			}
			continue
		}
		if more > 0 {
			return headAmbiguousPath
		}
		if headClass[c]&headPath == 0 {
			if c == ';' {
				return headAmbiguousPath
			}
			return headBadTarget
		}
		if c == '/' {
			if n := i - segment; n == 0 || headDots(t, segment, n) {
				return headAmbiguousPath
			}
			segment = i + 1
		}
	}
	if more > 0 || headDots(t, segment, i-segment) {
		return headAmbiguousPath
	}
	for i++; i < len(t); i++ {
		if c := t[i]; c == '%' {
			b, ok := headUnhex(t, i)
			if !ok || b == 0 {
				return headBadTarget
			}
			i += 2
		} else if headClass[c]&headQuery == 0 {
			return headBadTarget
		}
	}
	return headOK
}

func headDots[T headText](t T, at, n int) bool {
	return n == 1 && t[at] == '.' || n == 2 && t[at] == '.' && t[at+1] == '.'
}

// headLead gives what must follow the first byte of a UTF-8 sequence (RFC 3629
// §4); none follow a byte that starts none, such as the overlong c0 and c1.
func headLead(b byte) (more, lo, hi uint8) {
	switch {
	case b < 0xc2 || b > 0xf4:
		return 0, 0, 0
	case b < 0xe0:
		return 1, 0x80, 0xbf
	case b == 0xe0:
		return 2, 0xa0, 0xbf
	case b == 0xed:
		return 2, 0x80, 0x9f
	case b < 0xf0:
		return 2, 0x80, 0xbf
	case b == 0xf0:
		return 3, 0x90, 0xbf
	case b == 0xf4:
		return 3, 0x80, 0x8f
	}
	return 3, 0x80, 0xbf
}

func headUnhex[T headText](t T, i int) (byte, bool) {
	if i+2 >= len(t) || headClass[t[i+1]]&headHex == 0 || headClass[t[i+2]]&headHex == 0 {
		return 0, false
	}
	return headNibble(t[i+1])<<4 | headNibble(t[i+2]), true
}

func headNibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// headHostOK accepts a name, an IPv4 address or a bracketed IPv6 address, with
// or without a port (RFC 9110 §7.2). Empty labels and the trailing dot are
// refused: they are other spellings of a name that certificates and virtual
// hosts compare letter by letter.
func headHostOK[T headText](h T) bool {
	if len(h) == 0 || len(h) > 261 {
		return false
	}
	i := 0
	if h[0] == '[' {
		colons := 0
		for i = 1; i < len(h) && h[i] != ']'; i++ {
			switch {
			case h[i] == ':':
				colons++
			case h[i] != '.' && headClass[h[i]]&headHex == 0:
				return false
			}
		}
		if i == len(h) || colons < 2 {
			return false
		}
		i++
	} else {
		label := 0
		for ; i < len(h) && h[i] != ':'; i++ {
			switch {
			case headClass[h[i]]&headName != 0:
				label++
			case h[i] == '.' && label > 0:
				label = 0
			default:
				return false
			}
		}
		if label == 0 {
			return false
		}
	}
	if i == len(h) {
		return true
	}
	if h[i] != ':' || i+1 == len(h) || len(h)-i > 6 {
		return false
	}
	port := 0
	for i++; i < len(h); i++ {
		if h[i] < '0' || h[i] > '9' {
			return false
		}
		port = port*10 + int(h[i]-'0')
	}
	return port > 0 && port < 1<<16
}

// headFold compares ASCII letters without case; lower must be lower case.
func headFold[T headText](s T, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// headSame compares two hosts without case.
func headSame[A, B headText](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}
