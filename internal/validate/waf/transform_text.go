package waf

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cmdLine undoes what shells pass over: quotes, backslashes and carets go, commas
// and semicolons are spaces, spaces are one, none before / and (, and letters are
// small.
func cmdLine(text string) string {
	at := 0
	space := false
	for ; at < len(text); at++ { // to the first byte that does not stay
		c := text[at]
		if c >= 'A' && c <= 'Z' || c != ' ' && isOneOf(c, "\"'\\^,;\t\r\n") || space && isOneOf(c, " /(") {
			break
		}
		space = c == ' '
	}
	if at == len(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	out.WriteString(text[:max(at-1, 0)])
	var room [chunk]byte
	n := copy(room[:], text[max(at-1, 0):at]) // a space that may have to go
	for i := at; i < len(text); i++ {
		if n > chunk-2 && !space {
			out.Write(room[:n])
			n = 0
		}
		c := text[i]
		kind := cmdBytes[c]
		switch kind {
		case cmdGone:
			continue
		case cmdBlank:
			if space {
				continue
			}
			c = ' '
		case cmdTight:
			if space {
				n--
			}
		case cmdUpper:
			c |= 0x20
		}
		space = kind == cmdBlank
		room[n] = c
		n++
	}
	out.Write(room[:n])
	return out.String()
}

// chunk is how much of a text is made before it is written: a byte at a time is
// quicker into an array.
const chunk = 512

// What cmdLine does with a byte; 0: nothing.
const (
	cmdGone = 1 + iota
	cmdBlank
	cmdTight // no space before it
	cmdUpper
)

var cmdBytes = func() (t [256]uint8) {
	for kind, bytes := range map[uint8]string{cmdGone: `"'\^`, cmdBlank: " ,;\t\r\n", cmdTight: "/(", cmdUpper: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		for i := range len(bytes) {
			t[bytes[i]] = kind
		}
	}
	return t
}()

// lowercase is [strings.ToLower], eight bytes at a time where all is ASCII.
func lowercase(text string) string {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	var out strings.Builder
	var room [chunk]byte
	n, kept := 0, 0 // of room; of text, which are as they were
	for i := 0; i < len(text); i += 8 {
		var w uint64
		if i+8 <= len(text) {
			t := text[i : i+8]
			w = uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		} else {
			for k := len(text) - 1; k >= i; k-- {
				w = w<<8 | uint64(text[k])
			}
		}
		if w&high != 0 {
			return strings.ToLower(text)
		}
		upper := (w + ones*(0x80-'A')) &^ (w + ones*(0x7f-'Z')) & high
		if upper == 0 && kept == i {
			kept += 8
			continue
		}
		if n == chunk || out.Cap() == 0 {
			if out.Cap() == 0 {
				out.Grow(len(text) + 8)
				out.WriteString(text[:kept])
			}
			out.Write(room[:n])
			n = 0
		}
		binary.LittleEndian.PutUint64(room[n:], w|upper>>2)
		n += 8
	}
	if kept >= len(text) {
		return text
	}
	out.Write(room[:n])
	return out.String()[:len(text)]
}

func isOneOf(c byte, set string) bool { return strings.IndexByte(set, c) >= 0 }

// compressWhitespace makes runs of white space one space: ASCII's, U+0085, U+00A0,
// and the byte A0 where a character would start.
func compressWhitespace(text string) string {
	white := func(i int) int {
		switch c := text[i]; {
		case c == ' ', c >= '\t' && c <= '\r', c == 0xA0:
			return 1
		case c == 0xC2 && i+1 < len(text) && (text[i+1] == 0x85 || text[i+1] == 0xA0):
			return 2
		}
		return 0
	}
	step := func(i int) int { // over what is not white
		if text[i] < utf8.RuneSelf {
			return 1
		}
		_, n := utf8.DecodeRuneInString(text[i:])
		return n
	}
	at, before := 0, false
	for at < len(text) {
		n := white(at)
		if n > 0 && (before || text[at] != ' ') {
			break
		}
		before = n > 0
		if n == 0 {
			n = step(at)
		}
		at += n
	}
	if at >= len(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	out.WriteString(text[:at])
	var room [chunk]byte
	n := 0
	for i := at; i < len(text); {
		if n > chunk-utf8.UTFMax {
			out.Write(room[:n])
			n = 0
		}
		c := text[i]
		width := 1
		blank := c == ' ' || c >= '\t' && c <= '\r'
		if c >= utf8.RuneSelf {
			if width = white(i); width > 0 {
				blank = true
			} else {
				width = step(i)
			}
		}
		switch {
		case !blank:
			n += copy(room[n:], text[i:i+width])
		case !before:
			room[n] = ' '
			n++
		}
		before = blank
		i += width
	}
	out.Write(room[:n])
	return out.String()
}

func removeWhitespace(text string) string {
	var out strings.Builder
	var room [chunk]byte
	n := 0
	for i := 0; i < len(text); {
		if n > chunk-utf8.UTFMax {
			if out.Cap() == 0 {
				out.Grow(len(text))
			}
			out.Write(room[:n])
			n = 0
		}
		c := text[i]
		if c < utf8.RuneSelf {
			room[n] = c
			i++
			if c != ' ' && (c < '\t' || c > '\r') {
				n++
			}
			continue
		}
		r, width := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError {
			return removeBroken(text)
		}
		if !unicode.IsSpace(r) {
			n += copy(room[n:], text[i:i+width])
		}
		i += width
	}
	if out.Len()+n == len(text) {
		return text
	}
	out.Write(room[:n])
	return out.String()
}

// removeBroken is removeWhitespace of what may be no UTF-8: bytes that are none
// become U+FFFD.
func removeBroken(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// removeComments drops /* */ and <!-- --> and what follows -- or #. What stands
// behind the end of a comment is kept unread, so a comment can not start there; at
// the end of the text that is a zero byte. A comment without end is a space.
func removeComments(text string) string {
	at := 0
	for ; at < len(text); at++ {
		if text[at] == '#' || commentStart(text, at) > 0 || strings.HasPrefix(text[at:], "--") {
			break
		}
	}
	if at == len(text) {
		return text
	}
	out := make([]byte, at, len(text)+1)
	copy(out, text)
	inside := false
	for i := at; i < len(text); {
		rest := text[i:]
		if !inside {
			if n := commentStart(text, i); n > 0 {
				inside = true
				i += n
				continue
			}
			if rest[0] == '#' || strings.HasPrefix(rest, "--") {
				return string(out)
			}
			out = append(out, rest[0])
			i++
			continue
		}
		switch {
		case strings.HasPrefix(rest, "*/"):
			i += 2
		case strings.HasPrefix(rest, "-->"):
			i += 3
		default:
			i++
			continue
		}
		inside = false
		if i < len(text) {
			out = append(out, text[i])
		} else {
			out = append(out, 0)
		}
		i++
	}
	if inside {
		out = append(out, ' ')
	}
	return string(out)
}

func commentStart(text string, i int) int {
	switch {
	case strings.HasPrefix(text[i:], "/*"):
		return 2
	case strings.HasPrefix(text[i:], "<!--"):
		return 4
	}
	return 0
}

// removeCommentsChar drops the marks of comments and keeps what is in them.
func removeCommentsChar(text string) string {
	mark := func(i int) int {
		switch rest := text[i:]; rest[0] {
		case '/':
			if strings.HasPrefix(rest, "/*") {
				return 2
			}
		case '*':
			if strings.HasPrefix(rest, "*/") {
				return 2
			}
		case '<':
			if strings.HasPrefix(rest, "<!--") {
				return 4
			}
		case '-':
			if strings.HasPrefix(rest, "-->") {
				return 3
			}
			if strings.HasPrefix(rest, "--") {
				return 2
			}
		case '#':
			return 1
		}
		return 0
	}
	var out strings.Builder
	kept := 0
	for i := 0; i < len(text); {
		n := mark(i)
		if n == 0 {
			i++
			continue
		}
		if out.Cap() == 0 {
			out.Grow(len(text))
		}
		out.WriteString(text[kept:i])
		i += n
		kept = i
	}
	if kept == 0 {
		return text
	}
	out.WriteString(text[kept:])
	return out.String()
}

// replaceComments makes each /* */ one space.
func replaceComments(text string) string {
	at := strings.Index(text, "/*")
	if at < 0 {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	for at >= 0 {
		out.WriteString(text[:at])
		out.WriteByte(' ')
		text = text[at+2:]
		end := strings.Index(text, "*/")
		if end < 0 {
			return out.String()
		}
		text = text[end+2:]
		at = strings.Index(text, "/*")
	}
	out.WriteString(text)
	return out.String()
}

// normalizePath resolves //, /./ and /../. "/" becomes "//", as in Coraza.
func normalizePath(text string) string {
	if text == "" {
		return ""
	}
	if isClean(text) {
		return text
	}
	clean := filepath.Clean(text)
	switch {
	case clean == ".":
		return ""
	case text[len(text)-1] != '/':
		return clean
	case len(clean)+1 == len(text) && text[:len(clean)] == clean:
		return text
	}
	return clean + "/"
}

// isClean reports whether normalizePath leaves text as it is: no name in it is
// empty, "." or "..", but for the first and the last, which may be empty. Prose has
// few slashes.
func isClean(text string) bool {
	rest, first := text, true
	for {
		i := strings.IndexByte(rest, '/')
		name := rest
		if i >= 0 {
			name = rest[:i]
		}
		switch {
		case name == "." || name == "..":
			return false
		case i < 0:
			return name != "" || !first && len(text) > 1
		case name == "" && !first:
			return false
		}
		rest, first = rest[i+1:], false
	}
}

// normalizePathWin is normalizePath with backslashes as slashes. It drops what
// Windows does before it opens a file: the name of a stream (":$DATA") and dots
// and spaces at the end of a name.
func normalizePathWin(text string) string {
	clean := normalizePath(strings.ReplaceAll(text, `\`, "/"))
	if clean == "" {
		return ""
	}
	return dropTail(dropStream(clean))
}

func dropStream(path string) string {
	from := 0
	if len(path) >= 2 && path[1] == ':' && path[0]|0x20 >= 'a' && path[0]|0x20 <= 'z' {
		from = 2 // a drive
	}
	end := len(path)
	if end > from && path[end-1] == '/' {
		end--
	}
	name := max(from, strings.LastIndexByte(path[:end], '/')+1)
	colon := strings.IndexByte(path[name:end], ':')
	if colon < 0 {
		return path
	}
	return path[:name+colon] + path[end:]
}

func dropTail(path string) string {
	if !hasTail(path) {
		return path
	}
	var out strings.Builder
	out.Grow(len(path))
	first := true
	for name := range strings.SplitSeq(path, "/") {
		if strings.Trim(name, ".") != "" { // of dots alone: that is a way, not a name
			if name = strings.TrimRight(name, ". "); name == "" {
				continue
			}
		}
		if !first {
			out.WriteByte('/')
		}
		first = false
		out.WriteString(name)
	}
	return out.String()
}

func hasTail(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if strings.Trim(name, ".") != "" && isOneOf(name[len(name)-1], ". ") {
			return true
		}
	}
	return false
}
