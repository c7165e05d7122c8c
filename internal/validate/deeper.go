package validate

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"html"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of what a text is decoded to.
const (
	deeperLayers = 3    // encodings inside one another
	deeperTimes  = 4    // bytes for each byte of the text, all results together
	deeperRun    = 16   // characters of Base64 or hex that are worth a try
	deeperMost   = 64   // results of one text
	deeperExtra  = 1024 // bytes for short texts, beside deeperTimes
)

// deeper yields what text may be under an encoding that no parser has undone:
// Base64 (UTF-16 in it, too, as PowerShell wants it), hex, the strings of JSON
// within a string, percent-encoding and HTML entities. The rules see such a text
// only as it came, and an attack that the service decodes gets past them. kind
// names the encodings from the outermost: "base64", "percent base64".
//
// The work is bounded, and a text without any of them costs one pass and no
// memory. deeper stops when yield returns false.
func deeper(text string, yield func(kind, decoded string) bool) {
	if !encoded(text) {
		return
	}
	d := decoder{yield: yield, left: deeperTimes*len(text) + deeperExtra, most: deeperMost}
	d.text("", text, deeperLayers)
}

// encoded is the quick look: whether there is anything to undo.
func encoded(text string) bool {
	if len(text) < 3 {
		return false
	}
	run, entity := 0, false
	for i := range len(text) {
		switch c := text[i]; {
		case base64Class[c]:
			if run++; run >= deeperRun {
				return true
			}
			continue
		case c == '%':
			if i+2 < len(text) && byteClass[text[i+1]]&byteClass[text[i+2]]&byteHex != 0 {
				return true
			}
		case c == '&':
			entity = true
		case c == ';' && entity:
			return true
		case (c == '{' || c == '[' || c == '"') && looksLikeJSON(text):
			return true
		}
		run = 0
	}
	return false
}

// looksLikeJSON reports whether text has JSON's first and last character.
func looksLikeJSON(text string) bool {
	text = strings.Trim(text, " \t\r\n")
	if len(text) < 3 {
		return false
	}
	switch text[0] {
	case '{':
		return text[len(text)-1] == '}'
	case '[':
		return text[len(text)-1] == ']'
	case '"':
		return text[len(text)-1] == '"'
	}
	return false
}

// base64Class is the alphabet of both Base64s (RFC 4648), without padding.
var base64Class = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_") {
		t[c] = true
	}
	return t
}()

type decoder struct {
	yield func(kind, decoded string) bool
	left  int // bytes that may still be yielded
	most  int
	over  bool
}

// give yields one result and looks into it.
func (d *decoder) give(kind, outer, decoded string, layers int) {
	if d.over || decoded == "" {
		return
	}
	if outer != "" {
		kind = outer + " " + kind
	}
	d.most--
	if d.left -= len(decoded); d.left < 0 || d.most < 0 || !d.yield(kind, decoded) {
		d.over = true
		return
	}
	if encoded(decoded) {
		d.text(kind, decoded, layers-1)
	}
}

func (d *decoder) text(outer, text string, layers int) {
	if layers <= 0 || d.over {
		return
	}
	if looksLikeJSON(text) {
		d.json(outer, text, layers)
	}
	if plain := unpercent(text); plain != text && utf8.ValidString(plain) {
		d.give("percent", outer, plain, layers)
	}
	if strings.IndexByte(text, '&') >= 0 {
		if plain := html.UnescapeString(text); plain != text {
			d.give("html", outer, plain, layers)
		}
	}
	d.runs(outer, text, layers)
}

// json yields the strings and names inside a JSON text.
func (d *decoder) json(outer, text string, layers int) {
	var found []string
	for dec := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); ; {
		tok, err := dec.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			for _, s := range found {
				d.give("json", outer, s, layers)
			}
			return
		case err != nil || dec.StackDepth() > 64:
			return // no JSON
		case tok.Kind() == '"' && len(found) < deeperMost:
			if s := tok.String(); s != "" {
				found = append(found, s)
			}
		}
	}
}

// runs tries the parts of a text that could be hex or Base64.
func (d *decoder) runs(outer, text string, layers int) {
	// Base64 in lines, as in mail.
	if strings.IndexByte(text, '\n') >= 0 {
		if joined := strings.NewReplacer("\r", "", "\n", "").Replace(text); onlyBase64(joined) {
			if d.run(outer, joined, layers) {
				return
			}
		}
	}
	for i := 0; i < len(text) && !d.over; {
		if !base64Class[text[i]] {
			i++
			continue
		}
		end := i
		for end < len(text) && base64Class[text[end]] {
			end++
		}
		if run := text[i:end]; len(run) >= deeperRun && !d.run(outer, run, layers) {
			// What stands in front of it may belong to a path or a name.
			for piece := range strings.FieldsFuncSeq(run, func(r rune) bool { return r == '/' || r == '-' || r == '_' || r == '+' }) {
				if len(piece) >= deeperRun && len(piece) < len(run) {
					d.run(outer, piece, layers)
				}
			}
		}
		i = end
	}
}

func onlyBase64(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !base64Class[s[i]] {
			return false
		}
	}
	return len(s) >= deeperRun
}

// run decodes one run, if it is text that way.
func (d *decoder) run(outer, run string, layers int) bool {
	run = strings.TrimRight(run, "=")
	digits := strings.TrimPrefix(run, "0x")
	if len(digits)%2 == 0 && len(digits) >= deeperRun {
		if b, err := hex.DecodeString(digits); err == nil {
			if plain, ok := readable(b); ok {
				d.give("hex", outer, plain, layers)
				return true
			}
		}
	}
	if len(run)%4 == 1 {
		return false
	}
	std := run
	if strings.ContainsAny(run, "-_") {
		std = strings.NewReplacer("-", "+", "_", "/").Replace(run)
	}
	b, err := base64.RawStdEncoding.DecodeString(std)
	if err != nil {
		return false
	}
	plain, ok := readable(b)
	if ok {
		d.give("base64", outer, plain, layers)
	}
	return ok
}

// readable reports whether bytes are text: UTF-8, nine of ten characters
// printable. UTF-16 with zero bytes between them is turned into it.
func readable(b []byte) (string, bool) {
	if len(b) >= 8 && len(b)%2 == 0 && b[1] == 0 && b[3] == 0 {
		units := make([]uint16, 0, len(b)/2)
		for i := 0; i < len(b); i += 2 {
			units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
		}
		b = []byte(string(utf16.Decode(units)))
	}
	if !utf8.Valid(b) {
		return "", false
	}
	all, good := 0, 0
	for _, r := range string(b) {
		all++
		if unicode.IsPrint(r) || r == '\t' || r == '\n' || r == '\r' {
			good++
		}
	}
	return string(b), good*10 >= all*9
}
