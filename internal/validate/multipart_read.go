package validate

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// The bounds of what stands in front of a part.
const (
	maxPartHeaders = 8
	maxPartHeader  = 2048 // bytes of them together
	maxPartName    = 128
	maxFileName    = 255
)

// partChunk is how much of a body is looked at in one piece.
const partChunk = 32 << 10

// A partError is why a multipart body cannot be read in one way only, or is not
// taken: err, when the reason lies outside it.
type partError struct {
	part, rule, detail string
	schema             bool // it can be read, and is not what the document takes
	err                error
}

// Error is for the operator.
func (s *partError) Error() string {
	if s.err != nil {
		return s.err.Error()
	}
	return s.rule + ": " + s.detail
}

// problem is what the caller is told.
func (s *partError) problem() error {
	if s.err != nil {
		return s.err
	}
	var f faults
	if s.schema {
		f.add(inBody, s.part, s.rule, s.detail)
	} else {
		f.addSyntax(inBody, s.part, s.rule, s.detail)
	}
	return f.problem()
}

// A partReader divides a multipart body (RFC 2046 §5.1) strictly: nothing in
// front of the first delimiter, nothing behind the last, no space behind one, CRLF
// alone ends a line. A line that only begins like a delimiter is refused: half
// of the readers about take it for one.
type partReader struct {
	r          io.Reader
	delim      []byte // "\r\n--" and the boundary
	buf        []byte
	start, end int
	eof        bool
	begun      bool
	over       bool // the last delimiter was read
}

func newPartReader(r io.Reader, boundary string) *partReader {
	return &partReader{r: r, delim: []byte("\r\n--" + boundary), buf: make([]byte, partChunk)}
}

// fill reads more, until there are n bytes or the end.
func (p *partReader) fill(n int) error {
	for p.end-p.start < n && !p.eof {
		if p.start > 0 && len(p.buf)-p.start < n {
			p.end = copy(p.buf, p.buf[p.start:p.end])
			p.start = 0
		}
		read, err := p.r.Read(p.buf[p.end:])
		p.end += read
		switch {
		case errors.Is(err, io.EOF):
			p.eof = true
		case err != nil:
			return &partError{err: incomplete(err)}
		}
	}
	return nil
}

// unreadable is the fault of a place that holds got; one that ends early is
// not wrong, but did not arrive.
func (p *partReader) unreadable(got []byte, need int, detail string) error {
	if p.eof && len(got) < need {
		return &partError{err: incomplete(io.ErrUnexpectedEOF)}
	}
	return &partError{rule: ruleSyntax, detail: detail}
}

// next moves to the headers of the next part; it reports false behind the last.
func (p *partReader) next() (bool, error) {
	if !p.begun {
		p.begun = true
		first := p.delim[2:]
		if err := p.fill(len(first)); err != nil {
			return false, err
		}
		if !bytes.HasPrefix(p.buf[p.start:p.end], first) {
			return false, &partError{rule: ruleSyntax, detail: "The body must begin with its boundary."}
		}
		p.start += len(first)
	}
	// A delimiter was taken. What follows says which.
	if err := p.fill(2); err != nil {
		return false, err
	}
	behind := p.buf[p.start:min(p.start+2, p.end)]
	switch string(behind) {
	case "\r\n":
		p.start += 2
		return true, nil
	case "--":
		p.start += 2
		p.over = true
		if err := p.fill(3); err != nil {
			return false, err
		}
		if rest := string(p.buf[p.start:p.end]); rest != "" && rest != "\r\n" {
			return false, &partError{rule: ruleSyntax, detail: "There must be nothing behind the last boundary."}
		}
		return false, nil
	}
	return false, p.unreadable(behind, 2, "A boundary must be followed by a line end, or -- at the end.")
}

// headers takes the lines in front of a part.
func (p *partReader) headers() ([]string, error) {
	if err := p.fill(maxPartHeader); err != nil {
		return nil, err
	}
	text := p.buf[p.start:min(p.start+maxPartHeader, p.end)]
	end := bytes.Index(text, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(text) == maxPartHeader:
		return nil, &partError{rule: "part_header", detail: "The headers of a part are too long."}
	case end < 0 && !bytes.HasPrefix(text, []byte("\r\n")):
		return nil, p.unreadable(text, maxPartHeader, "The headers of a part cannot be read.")
	case end <= 0:
		return nil, p.unreadable(nil, 0, "A part must have headers and an empty line behind them.")
	}
	lines := strings.Split(string(text[:end]), "\r\n")
	if len(lines) > maxPartHeaders {
		return nil, &partError{rule: "part_header", detail: "A part has too many headers."}
	}
	p.start += end + 2 // one CRLF stays: the delimiter may follow at once
	if err := p.fill(len(p.delim)); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(p.buf[p.start:p.end], p.delim) {
		p.start += 2
	}
	return lines, nil
}

// content gives a piece of the part's content, valid until the next call, and
// whether the part ends with it.
func (p *partReader) content() (piece []byte, last bool, err error) {
	keep := len(p.delim) + 2
	if err := p.fill(keep + 1); err != nil {
		return nil, false, err
	}
	text := p.buf[p.start:p.end]
	for from := 0; ; {
		i := bytes.Index(text[from:], p.delim[2:])
		if i < 0 {
			break
		}
		i += from
		from = i + 1
		switch {
		case i >= 2 && text[i-2] == '\r' && text[i-1] == '\n':
			behind := text[i+len(p.delim)-2:]
			if len(behind) < 2 && !p.eof {
				p.start += i - 2 // not 0: there are more bytes than a delimiter has
				return text[:i-2], false, nil
			}
			if s := string(behind[:min(2, len(behind))]); s != "\r\n" && s != "--" {
				return nil, false, p.unreadable(behind, 2, "A line begins like a boundary and is none.")
			}
			p.start += i + len(p.delim) - 2
			return text[:i-2], true, nil
		case i >= 1 && (text[i-1] == '\n' || text[i-1] == '\r'):
			return nil, false, p.unreadable(nil, 0, "A boundary must stand behind CRLF.")
		}
	}
	if p.eof {
		return nil, false, &partError{err: incomplete(io.ErrUnexpectedEOF)}
	}
	piece = text[:len(text)-keep]
	p.start += len(piece)
	return piece, false, nil
}

// A disposition is a Content-Disposition of form-data (RFC 7578 §4.2).
type disposition struct {
	name, file string
	named      bool // it has a filename
}

// parseDisposition takes name and filename, quoted, once each. filename*, which
// some readers prefer and others do not know, backslashes, which some take for
// escapes and others for themselves, and other parameters are refused.
func parseDisposition(s string) (d disposition, ok bool) {
	kind, rest, _ := strings.Cut(s, ";")
	if !strings.EqualFold(strings.Trim(kind, " \t"), "form-data") {
		return d, false
	}
	seen := false
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			return d, seen
		}
		name, more, ok := strings.Cut(rest, "=")
		if !ok {
			return d, false
		}
		var value string
		if strings.HasPrefix(more, `"`) {
			end := strings.IndexByte(more[1:], '"')
			if end < 0 {
				return d, false
			}
			value, rest = more[1:1+end], strings.TrimLeft(more[2+end:], " \t")
		} else {
			end := 0
			for end < len(more) && tokenByte(more[end]) {
				end++
			}
			value, rest = more[:end], strings.TrimLeft(more[end:], " \t")
			if value == "" {
				return d, false
			}
		}
		switch {
		case rest == "":
		case rest[0] != ';' || strings.Trim(rest, "; \t") == "":
			return d, false
		default:
			rest = rest[1:]
		}
		if !plainText(value) || strings.IndexByte(value, '\\') >= 0 {
			return d, false
		}
		switch {
		case strings.EqualFold(name, "name") && !seen:
			d.name, seen = value, true
		case strings.EqualFold(name, "filename") && !d.named:
			d.file, d.named = value, true
		default:
			return d, false
		}
	}
}

// plainText is UTF-8 without control characters and without marks that turn
// the direction of the text around them, which hide a file's extension.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x200e || r == 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return false
		}
	}
	return true
}
