package validate

import "strings"

// A mediaKind is what the room can do with content.
type mediaKind uint8

const (
	mediaOpaque     mediaKind = iota // bounded in size, not looked into
	mediaJSON                        // checked and written afresh
	mediaForm                        // application/x-www-form-urlencoded: the same
	mediaMultipart                   // multipart/form-data: the same
	mediaParts                       // other multipart types: bounded in size, not looked into
	mediaXML                         // well-formed, bounded and written afresh
	mediaGRPC                        // messages counted and bounded in size
	mediaGraphQLRaw                  // application/graphql: a document as it is, where the operation is a GraphQL endpoint
)

// A media is one parsed media type (RFC 9110 §8.3.1), in lower case.
type media struct {
	kind, sub string // sub may be "*", kind too in a media range
	charset   string
	boundary  string
}

func (m media) String() string { return m.kind + "/" + m.sub }

// tokenByte reports the alphabet of RFC 9110 §5.6.2.
func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// parseMedia reads a Content-Type strictly. mime.ParseMediaType takes more than
// services do (RFC 2231 continuations, empty parameters), and two readings of a
// content type are two readings of the body.
func parseMedia(s string) (media, bool) {
	head, params, _ := strings.Cut(s, ";")
	kind, sub, ok := strings.Cut(strings.Trim(head, " \t"), "/")
	if !ok || !isToken(kind) || !isToken(sub) {
		return media{}, false
	}
	m := media{kind: strings.ToLower(kind), sub: strings.ToLower(sub)}
	seen := 0
	for len(params) > 0 {
		name, rest, ok := strings.Cut(strings.TrimLeft(params, " \t"), "=")
		if !ok || !isToken(name) {
			return media{}, false
		}
		var value string
		if value, params, ok = cutParameter(rest); !ok {
			return media{}, false
		}
		if seen++; seen > 8 {
			return media{}, false
		}
		var into *string
		switch strings.ToLower(name) {
		case "charset":
			into = &m.charset
		case "boundary":
			into = &m.boundary
		default:
			continue
		}
		if *into != "" || value == "" {
			return media{}, false // twice: one reader takes the first, another the last
		}
		*into = value
	}
	m.charset = strings.ToLower(m.charset)
	return m, true
}

// cutParameter takes one value, a token or a quoted string, off the front.
func cutParameter(s string) (value, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s[1:], '"')
		if end < 0 || strings.IndexByte(s[1:1+end], '\\') >= 0 {
			return "", "", false
		}
		value, rest = s[1:1+end], s[2+end:]
		for i := range len(value) {
			if value[i] < 0x20 || value[i] >= 0x7f {
				return "", "", false
			}
		}
	} else {
		end := 0
		for end < len(s) && tokenByte(s[end]) {
			end++
		}
		if end == 0 {
			return "", "", false
		}
		value, rest = s[:end], s[end:]
	}
	rest = strings.TrimLeft(rest, " \t")
	if rest == "" {
		return value, "", true
	}
	if rest[0] != ';' || strings.Trim(rest[1:], " \t") == "" {
		return "", "", false
	}
	return value, rest[1:], true
}

// class says what can be done with content of this type.
func (m media) class() mediaKind {
	switch {
	case m.sub == "json" && (m.kind == "application" || m.kind == "text"), strings.HasSuffix(m.sub, "+json"):
		return mediaJSON
	case m.kind == "application" && m.sub == "x-www-form-urlencoded":
		return mediaForm
	case m.kind == "multipart" && m.sub == "form-data":
		return mediaMultipart
	case m.kind == "multipart":
		return mediaParts
	case m.sub == "xml" && (m.kind == "application" || m.kind == "text"), strings.HasSuffix(m.sub, "+xml"):
		return mediaXML
	case m.kind == "application" && (m.sub == "grpc" || strings.HasPrefix(m.sub, "grpc+") ||
		m.sub == "grpc-web" || strings.HasPrefix(m.sub, "grpc-web+")):
		return mediaGRPC
	case m.kind == "application" && m.sub == "graphql":
		return mediaGraphQLRaw
	}
	return mediaOpaque
}

// within reports whether m is in the media range r and how specific r is:
// type/subtype 4, */*+suffix or type/*+suffix 3, type/* 2, */* 1.
func (m media) within(r media) int {
	switch {
	case r.kind == m.kind && r.sub == m.sub:
		return 4
	case r.kind == m.kind && r.sub == "*":
		return 2
	case r.kind == "*" && r.sub == "*":
		return 1
	case r.kind == m.kind && strings.HasPrefix(r.sub, "*+") && strings.HasSuffix(m.sub, r.sub[1:]):
		return 3
	}
	return 0
}
