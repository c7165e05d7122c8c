package validate

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

const (
	maxMatches = 32 // of one message that its record names
	maxPart    = 64 // characters of what matched
)

// match is a hit as the record of the request has it: where, and what matched,
// masked.
func (m *room) match(h *waf.Hit, body *Body) gatehouse.Match {
	x := gatehouse.Match{Rule: h.Rule, Severity: strings.ToLower(h.Severity), Level: h.Level}
	in := m.placeOf(h)
	x.In = placeName(in)
	hidden := m.hidden(in, h)
	if in != waf.Line {
		x.Name = clip(h.Name)
		if in == waf.ArgPost && body != nil && body.class == mediaJSON && strings.HasPrefix(h.Name, "json") {
			if pointer, ok := body.tape.Pointer(body.Bytes, "json", h.Name); ok {
				x.Name, x.Pointer = "", clip(pointer)
			}
		}
	} else {
		x.Name = clip(h.Target)
	}
	part := h.Match
	if part == "" {
		part = h.Text
	}
	if x.Part = masked(part); hidden {
		x.Part = "(secret)"
	}
	sentence := h.Msg
	for _, shown := range [...]string{h.Text, h.Match} { // macros put them into sentences
		if len(shown) > 3 {
			sentence = strings.ReplaceAll(sentence, shown, x.Part)
		}
	}
	if hidden { // and pieces of them
		words := strings.Fields(sentence)
		for i, word := range words {
			if word = strings.Trim(word, `"'()[],.;:`); len(word) > 3 && word != x.Part && strings.Contains(h.Text, word) {
				words[i] = x.Part
			}
		}
		sentence = strings.Join(words, " ")
	}
	x.Text = clipText(sentence)
	return x
}

// placeOf finds where the value of a hit stands: rules ask for ARGS, which is the
// query, the path and the body.
func (m *room) placeOf(h *waf.Hit) waf.In {
	switch target, names := strings.CutSuffix(h.Target, "_NAMES"); target {
	case "ARGS_GET":
		return waf.ArgGet
	case "ARGS_POST":
		return waf.ArgPost
	case "ARGS_PATH":
		return waf.ArgPath
	case "ARGS":
		for i := range m.facts.Values {
			v := &m.facts.Values[i]
			if (v.In == waf.ArgGet || v.In == waf.ArgPost || v.In == waf.ArgPath) && strings.EqualFold(v.Name, h.Name) {
				return v.In
			}
		}
		return waf.ArgPost
	case "REQUEST_COOKIES":
		return waf.Cookie
	case "REQUEST_HEADERS":
		return waf.Header
	case "FILES":
		return waf.File
	case "MULTIPART_PART_HEADERS":
		return waf.PartHeader
	case "XML":
		return waf.XMLText
	case "REQUEST_BODY":
		if !names {
			return waf.XMLText
		}
	case "RESPONSE_HEADERS", "RESPONSE_BODY", "RESPONSE_STATUS":
		return waf.AnswerHeader
	}
	return waf.Line
}

// hidden reports whether nothing of the value may be shown, not even its shape.
func (m *room) hidden(in waf.In, h *waf.Hit) bool {
	switch in {
	case waf.Cookie:
		return true
	case waf.Header:
		if m.keys[http.CanonicalHeaderKey(h.Name)] {
			return true
		}
	case waf.Line:
		return slices.ContainsFunc(m.secrets, func(s secret) bool { return s.in == waf.ArgGet || s.in == waf.ArgPath })
	case waf.XMLText:
		return slices.ContainsFunc(m.secrets, func(s secret) bool { return s.in == waf.ArgPost })
	default:
	}
	return slices.ContainsFunc(m.secrets, func(s secret) bool { return s.in == in && strings.EqualFold(s.name, h.Name) })
}

// masked shows the shape of a text: letters as a, digits as 9, what stands between
// them as it is.
func masked(s string) string {
	b := make([]byte, 0, min(len(s), 4*maxPart))
	n := 0
	for len(s) > 0 {
		if n == maxPart {
			return string(b) + "…"
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, '?')
		case unicode.IsLetter(r) || unicode.IsMark(r):
			b = append(b, 'a')
		case unicode.IsNumber(r):
			b = append(b, '9')
		case r < ' ' || r == 0x7f:
			b = append(b, ' ')
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		default:
			b = append(b, '?')
		}
		s = s[size:]
		n++
	}
	return string(b)
}

// clipText keeps a rule's sentence, into which macros put parts of values, short
// and on one line.
func clipText(s string) string {
	const most = 160
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
