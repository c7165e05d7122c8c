package waf

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
)

const maxParts = 1000

// readMultipart adds the fields, file names and part headers of a multipart body.
func (f *Facts) readMultipart(src []byte) error {
	err := f.parts(src)
	if err != nil {
		f.MultipartStrict = true
	}
	return err
}

func (f *Facts) parts(src []byte) error {
	var contentType string
	for i := range f.Header {
		if named(f.Header[i].Name, "Content-Type") {
			contentType = f.Header[i].Value
			break
		}
	}
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	reader := multipart.NewReader(bytes.NewReader(src), params["boundary"])
	for range maxParts {
		part, err := reader.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.part(part); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) { // cut off: what is there counts
				f.MultipartStrict = true
				return nil
			}
			return err
		}
	}
	return errors.New("too many parts")
}

// part adds one part. All readings of its file name are added: backends differ in
// which they take.
func (f *Facts) part(p *multipart.Part) error {
	field := p.FormName()
	for _, name := range slices.Sorted(maps.Keys(p.Header)) {
		if len(p.Header[name]) > 1 {
			f.MultipartStrict = true
		}
		for _, value := range p.Header[name] {
			f.Values = append(f.Values, Value{In: PartHeader, Name: field, Text: name + ": " + value})
		}
	}
	name, other, sound := fileNames(p.Header.Get("Content-Disposition"))
	if !sound {
		f.MultipartStrict = true
	}
	if name == "" {
		name, other = other, ""
	}
	if name == "" {
		return f.partField(field, p)
	}
	n, err := io.Copy(io.Discard, p)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	f.FilesSize += n
	f.Values = append(f.Values, Value{In: File, Name: field, Text: name})
	if other != "" && other != name {
		// The same file: its field counts once.
		f.Values = append(f.Values, Value{In: File, Name: field, Text: other, NameRules: Mask{}})
	}
	return err
}

// partField adds a part that is no file.
func (f *Facts) partField(name string, p *multipart.Part) error {
	r := &f.read
	lo := f.mark()
	for {
		r.arena = slices.Grow(r.arena, 512)
		n, err := p.Read(r.arena[len(r.arena):cap(r.arena)])
		r.arena = r.arena[:len(r.arena)+n]
		if err == nil {
			continue
		}
		end := errors.Is(err, io.EOF)
		if !end && !errors.Is(err, io.ErrUnexpectedEOF) {
			r.arena = r.arena[:lo]
			return err
		}
		f.FilesSize += int64(f.mark() - lo)
		r.spans = append(r.spans, span{value: len(f.Values), nameLo: -1, textLo: lo, textHi: f.mark()})
		f.Values = append(f.Values, Value{In: ArgPost, Name: name})
		if end {
			return nil
		}
		return err
	}
}

// fileNames returns the file name of a part and, when the parameters filename and
// filename* (RFC 5987, RFC 7578 section 4.2) disagree, the one that loses. A sound
// one leaves a server behind no choice how to read it.
func fileNames(disposition string) (name, other string, sound bool) {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return "", "", disposition == ""
	}
	name = params["filename"]
	plain, hasPlain := param(disposition, "filename")
	plain, _ = unquote(plain)
	continued := hasContinuation(disposition)
	extended, ok := param(disposition, "filename*")
	if !ok {
		if continued && hasPlain {
			if name != plain {
				other = name
			}
			name = plain
		}
		return name, other, !continued
	}
	extended, quoted := unquote(extended)
	parts := strings.SplitN(extended, "'", 3)
	if len(parts) != 3 {
		return name, "", false
	}
	name, ok = percentDecode(parts[2])
	if hasPlain && plain != name {
		other = plain
	}
	return name, other, ok && !quoted && !continued
}

// segments calls yield with each parameter of a header value; semicolons in
// quotes part nothing.
func segments(s string, yield func(name, value string) bool) {
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			if !segment(s[from:i], yield) {
				return
			}
			from = i + 1
		}
	}
	segment(s[from:], yield)
}

func segment(s string, yield func(name, value string) bool) bool {
	name, value, ok := strings.Cut(s, "=")
	return !ok || yield(strings.TrimSpace(name), strings.TrimSpace(value))
}

// param returns the first parameter of that name as it is written.
func param(s, name string) (value string, ok bool) {
	segments(s, func(n, v string) bool {
		if !strings.EqualFold(n, name) {
			return true
		}
		value, ok = v, true
		return false
	})
	return value, ok
}

// hasContinuation reports whether a file name comes in pieces: filename*0=a
// (RFC 2231 section 3). Few servers put them together.
func hasContinuation(s string) (found bool) {
	segments(s, func(n, _ string) bool {
		n, ok := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(n, "*")), "filename*")
		found = ok && n != "" && strings.Trim(n, "0123456789") == ""
		return !found
	})
	return found
}

func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s, false
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b), true
}

// percentDecode decodes s; what is no escape stays, and ok is false.
func percentDecode(s string) (decoded string, ok bool) {
	ok = true
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
		} else if i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, hexValue(s[i+1])<<4|hexValue(s[i+2]))
			i += 2
		} else {
			b, ok = append(b, '%'), false
		}
	}
	return string(b), ok
}
