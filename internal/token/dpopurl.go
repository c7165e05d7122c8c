package token

import "strings"

// sameURL compares htu with the URL of the request, both without query and
// fragment, after the normalisation of RFC 3986 §6.2.2 and §6.2.3 that RFC 9449
// §4.3 asks for. Dot segments are not resolved: only byte for byte do URLs with
// them compare equal, since a proof for one path must not serve for another.
func sameURL(htu, want string) bool {
	if htu == want && htu != "" {
		return true
	}
	a, ok := canonicalURL(htu)
	if !ok {
		return false
	}
	b, ok := canonicalURL(want)
	return ok && a == b
}

// canonicalURL returns the normal form of an absolute http(s) URL; false when s
// is none, has user information, or holds what a URL cannot.
func canonicalURL(s string) (string, bool) {
	if end := strings.IndexAny(s, "?#"); end >= 0 {
		s = s[:end]
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "", false
	}
	port := ":443"
	if strings.EqualFold(scheme, "http") {
		port = ":80"
	} else if !strings.EqualFold(scheme, "https") {
		return "", false
	}
	authority, path := rest, "/"
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		authority, path = rest[:at], rest[at:]
	}
	if !visible(s) || strings.ContainsAny(authority, `@\%`) {
		return "", false
	}
	authority = strings.TrimSuffix(strings.TrimSuffix(authority, port), ":")
	if authority == "" {
		return "", false
	}
	path, ok = canonicalPath(path)
	return strings.ToLower(scheme) + "://" + strings.ToLower(authority) + path, ok
}

// visible reports whether s is ASCII without spaces and controls (RFC 3986 §2).
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// canonicalPath decodes what need not be encoded and writes the rest in capitals.
func canonicalPath(path string) (string, bool) {
	if strings.IndexByte(path, '%') >= 0 {
		b := make([]byte, 0, len(path))
		for i := 0; i < len(path); i++ {
			if path[i] != '%' {
				b = append(b, path[i])
				continue
			}
			if i+2 >= len(path) {
				return "", false
			}
			hi, lo := unhex(path[i+1]), unhex(path[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			if c := hi<<4 | lo; unreserved(c) {
				b = append(b, c)
			} else {
				const digits = "0123456789ABCDEF"
				b = append(b, '%', digits[hi], digits[lo])
			}
			i += 2
		}
		path = string(b)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "", false
		}
	}
	return path, true
}

// unhex returns the value of a hexadecimal digit, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
