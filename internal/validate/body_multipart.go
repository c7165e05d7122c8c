package validate

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A bodyPart is what rules ask about in one part.
type bodyPart struct {
	name, file string
	isFile     bool
	headers    []string // as they go on
	text       string   // of a field; of JSON as it goes on; "" of a file
}

// multipartBody reads a multipart/form-data body up to its end, or up to the
// place where a file grows beyond what is held. Until then every fault is a
// refusal, and no service has heard of the request. A file beyond that streams:
// what is wrong with the rest ends the stream in a problem, and the service sees a
// body that was cut off, never one that looks whole. Fields behind such a file
// are refused, since rules about them would come too late.
func (o *Operation) multipartBody(c *content, boundary string, src io.Reader, out *Body) error {
	u := &upload{
		partReader: newPartReader(src, boundary), form: c.parts, schema: c.schema, limits: &o.settings.Upload,
		out: out.Bytes[:0], boundary: newBoundary(), values: map[string]any{}, plains: map[string]any{},
	}
	if err := u.fill(1); err != nil {
		return multipartProblem(err)
	}
	if u.end == u.start {
		out.ContentType, out.Header = "", nil
		return o.emptyBody()
	}
	for !u.done {
		if int64(len(u.out)) > u.limits.Memory && u.field != nil && u.isFile {
			if err := u.checkFields(true); err != nil {
				return multipartProblem(err)
			}
			u.streams = true
			break
		}
		if err := u.step(); err != nil {
			return multipartProblem(err)
		}
	}
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header["Content-Type"] = []string{"multipart/form-data; boundary=" + u.boundary}
	out.form, out.parts = u.values, u.parts
	if u.streams {
		out.Bytes, out.Stream, out.Length = nil, u, -1
	} else {
		out.Bytes = u.out
	}
	return nil
}

func newBoundary() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func multipartProblem(err error) error {
	if s, ok := err.(*partError); ok { //nolint:errorlint // it is made here and never wrapped
		return s.problem()
	}
	return err
}

// An upload is one body on its way through.
type upload struct {
	*partReader
	form     *partsForm
	schema   *schema
	limits   *Upload
	boundary string // of what goes on: nobody who wrote the body knew it

	out     []byte // written afresh and not yet given to anybody
	given   int    // of out, when it streams
	streams bool   // fields were judged; only files may follow
	done    bool
	err     error

	parts      []bodyPart
	fieldBytes int64
	files      map[string]int
	seen       map[string]bool
	pairs      []pair // fields and what stands for files
	values     map[string]any
	plains     map[string]any
	held       map[string]bool // JSON fields: in values and plains already

	// The part being read.
	field   *partField
	isFile  bool
	d       disposition
	claimed media  // "" when the part says no type
	typed   string // the claimed type as written
	lines   []string
	text    []byte // of a field; the beginning of a file, until its type is known
	begun   bool   // the file's head is written
	size    int64
	length  int64 // the part's Content-Length; -1: none
}

// Read gives a body that streams.
func (u *upload) Read(p []byte) (int, error) {
	for u.given == len(u.out) {
		switch {
		case u.err != nil:
			return 0, u.err
		case u.done:
			return 0, io.EOF
		}
		if u.given = 0; cap(u.out) > 4*partChunk { // the room of what was held is free now
			u.out = make([]byte, 0, 2*partChunk)
		}
		u.out = u.out[:0]
		if err := u.step(); err != nil {
			u.out, u.err = nil, multipartProblem(err)
		}
	}
	n := copy(p, u.out[u.given:])
	u.given += n
	return n, nil
}

// step takes the head of a part, a piece of its content, or the end of the body.
func (u *upload) step() error {
	if u.field == nil {
		more, err := u.next()
		switch {
		case err != nil:
			return err
		case more:
			return u.head()
		}
		if err := u.checkFields(false); err != nil {
			return err
		}
		u.out = append(append(append(u.out, "--"...), u.boundary...), "--\r\n"...)
		u.done = true
		return nil
	}
	piece, last, err := u.content()
	if err != nil {
		return err
	}
	u.size += int64(len(piece))
	if u.isFile {
		err = u.filePiece(piece, last)
	} else {
		err = u.fieldPiece(piece, last)
	}
	if err != nil || !last {
		return err
	}
	if u.length >= 0 && u.length != u.size {
		return u.stop("part_header", "The length of a part is not what its header says.")
	}
	u.out = append(u.out, "\r\n"...)
	u.field = nil
	return nil
}

func (u *upload) stop(rule, detail string) error {
	return &partError{part: u.d.name, rule: rule, detail: detail}
}

// head judges the headers of a part.
func (u *upload) head() error {
	u.d, u.claimed, u.typed, u.lines, u.text, u.begun, u.size, u.length = disposition{}, media{}, "", nil, u.text[:0], false, 0, -1
	if len(u.parts) >= u.limits.MaxParts {
		return &partError{rule: ruleTooMany, detail: fmt.Sprintf("The body may have at most %d parts.", u.limits.MaxParts)}
	}
	lines, err := u.headers()
	if err != nil {
		return err
	}
	fields := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || !plainText(strings.ReplaceAll(value, "\t", " ")) {
			return u.stop("part_header", "A header of a part cannot be read.")
		}
		name = http.CanonicalHeaderKey(name)
		if fields[name] != nil {
			return u.stop("part_header", "A header of a part is given twice.")
		}
		fields[name] = []string{strings.Trim(value, " \t")}
	}
	var ok bool
	if u.d, ok = parseDisposition(fields.Get("Content-Disposition")); !ok || !goodPartName(u.d.name) {
		u.d = disposition{}
		return u.stop("part_header", "A part needs a Content-Disposition of form-data with one name.")
	}
	if u.field = u.form.fields[u.d.name]; u.field == nil {
		u.field = u.form.other
	}
	if u.field == nil {
		return &partError{part: u.d.name, rule: "additionalProperties", detail: "The form has no such field.", schema: true}
	}
	if u.seen[u.d.name] && !u.field.list {
		return u.stop(ruleDuplicate, "A field is given twice.")
	}
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	u.seen[u.d.name] = true
	u.isFile = u.field.file || u.field.either && u.d.named
	if err := u.partHeaders(fields); err != nil {
		return err
	}
	switch {
	case u.isFile && !u.d.named:
		return u.stop("file_name", "A file needs a name.")
	case u.isFile && u.d.file == "": // a form whose field for a file was left empty
	case u.d.named && !u.isFile && !u.field.json:
		return u.stop("file_name", "This field takes no file.")
	case u.d.named:
		if detail := checkFileName(u.d.file, u.limits.Extensions); detail != "" {
			return u.stop("file_name", detail)
		}
		if !u.isFile && !bland(u.d.file) { // the rules are asked about JSON, not about its name
			return u.stop("file_name", "The name of a part that is JSON must be plain.")
		}
	}
	switch {
	case !u.streams:
	case !u.isFile:
		return u.stop("late_field", "In a body this large the fields must stand in front of the files.")
	case !bland(u.d.file) || !bland(u.d.name) || slices.ContainsFunc(u.lines, func(s string) bool { return !bland(strings.Replace(s, ":", "", 1)) }):
		// The rules were asked before it came.
		return u.stop("late_file", "In a body this large the names of all files but the first must be plain: letters, digits, space, dot, hyphen, underscore.")
	}
	return nil
}

// bland reports a text that no rule about content could find anything in.
func bland(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune(" .-_()", r) {
			return false
		}
	}
	return !strings.Contains(s, "--")
}

// goodPartName refuses names that a reader could take for others: WHATWG's
// escapes, which some undo, what ends the name for others, and the one that
// changes how the values are decoded (HTML, "_charset_").
func goodPartName(s string) bool {
	return s != "" && s != "_charset_" && len(s) <= maxPartName && plainText(s) && plainText(unpercent(s)) && strings.IndexByte(unpercent(s), '"') < 0 &&
		strings.Trim(s, " ") == s
}

// partHeaders judges all headers but Content-Disposition.
func (u *upload) partHeaders(fields http.Header) error {
	if lines := fields["Content-Type"]; lines != nil {
		m, ok := parseMedia(lines[0])
		if !ok || m.sub == "*" || m.charset != "" && m.charset != "utf-8" {
			return u.stop("content_type", "The type of a part cannot be read, or is not in UTF-8.")
		}
		u.claimed, u.typed = m, m.String()
		if !u.isFile && !u.fieldType(m) {
			return u.stop("content_type", "This field is not of that type.")
		}
	}
	var f faults
	for name, lines := range fields {
		switch name {
		case "Content-Disposition", "Content-Type":
			continue
		case "Content-Transfer-Encoding": // RFC 7578 §4.7: not to be sent, but some clients say that nothing was encoded
			if !slices.Contains([]string{"binary", "8bit", "7bit"}, strings.ToLower(lines[0])) {
				return u.stop("part_header", "Parts must not be encoded.")
			}
			continue
		case "Content-Length":
			n, ok := parseInteger(lines[0])
			if !ok || n < 0 {
				return u.stop("part_header", "The length of a part cannot be read.")
			}
			u.length = n
			continue
		}
		if !slices.ContainsFunc(u.field.headers, func(p *param) bool { return p.header == name }) {
			return u.stop("part_header", "A part has a header that is not declared.")
		}
		if !printable(lines[0]) {
			return u.stop("part_header", "The headers of parts must be printable ASCII.")
		}
	}
	for _, p := range u.field.headers {
		var in raw
		if lines := fields[p.header]; lines != nil {
			if !p.gather(&in, lines[0]) {
				return u.stop("part_header", "A header of a part is not written as the document says.")
			}
			u.lines = append(u.lines, p.header+": "+lines[0])
		}
		p.check(&in, false, &f)
	}
	if len(f.fields) > 0 {
		bad := f.fields[0]
		return &partError{part: u.d.name, rule: bad.Rule, detail: bad.Detail, schema: !f.syntax}
	}
	return nil
}

// fieldType reports whether a part that is no file may be labelled m.
func (u *upload) fieldType(m media) bool {
	switch {
	case u.field.types != nil:
		return slices.ContainsFunc(u.field.types, func(r media) bool { return m.within(r) > 0 })
	case u.field.json:
		return m.class() == mediaJSON
	}
	return m.kind == "text" && m.sub == "plain"
}

// writeHead writes what stands in front of a part's content.
func (u *upload) writeHead(typed string) {
	p := bodyPart{name: u.d.name, file: u.d.file, isFile: u.isFile}
	line := `Content-Disposition: form-data; name="` + u.d.name + `"`
	if u.d.named {
		line += `; filename="` + u.d.file + `"`
	}
	p.headers = append(p.headers, line)
	if typed != "" {
		p.headers = append(p.headers, "Content-Type: "+typed)
	}
	p.headers = append(p.headers, u.lines...)
	u.out = append(append(append(u.out, "--"...), u.boundary...), "\r\n"...)
	for _, h := range p.headers {
		u.out = append(append(u.out, h...), "\r\n"...)
	}
	u.out = append(u.out, "\r\n"...)
	u.parts = append(u.parts, p)
}

func (u *upload) filePiece(piece []byte, last bool) error {
	switch {
	case u.size > u.limits.MaxFile:
		return &partError{err: &gatehouse.Problem{
			Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: fmt.Sprintf("A file may have at most %d bytes.", u.limits.MaxFile),
		}}
	case u.field.max >= 0 && u.size > u.field.max:
		return &partError{part: u.d.name, rule: "maxLength", detail: fmt.Sprintf("A file here may have at most %d bytes.", u.field.max), schema: true}
	case u.d.file == "" && u.size > 0:
		return u.stop("file_name", "A file needs a name.")
	}
	if !u.begun {
		u.text = append(u.text, piece...)
		if len(u.text) < sniffBytes && !last {
			return nil
		}
		typed, ok := u.field.types.sniff(u.text[:min(len(u.text), sniffBytes)], u.typed, u.d.file)
		if u.d.file == "" {
			typed, ok = "application/octet-stream", true
		}
		if !ok {
			return &partError{part: u.d.name, rule: "file_type", detail: "The file is not of a type that is taken here, or not of the type it says.", schema: true}
		}
		u.begun = true
		u.writeHead(typed)
		piece = u.text
	}
	u.out = append(u.out, piece...)
	if last && u.d.file != "" {
		u.addFile()
	}
	return nil
}

// addFile puts what stands for the file before the schema.
func (u *upload) addFile() {
	if !u.field.list || u.files[u.d.name] < u.limits.MaxParts {
		u.pairs = append(u.pairs, pair{name: u.d.name, value: strings.Repeat("x", int(min(int64(u.field.min), u.size)))})
	}
	if u.files == nil {
		u.files = map[string]int{}
	}
	u.files[u.d.name]++
}

func (u *upload) fieldPiece(piece []byte, last bool) error {
	u.fieldBytes += int64(len(piece))
	if u.size > u.limits.MaxField || u.fieldBytes > u.limits.Memory {
		return &partError{err: &gatehouse.Problem{
			Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: fmt.Sprintf("A field may have at most %d bytes.", u.limits.MaxField),
		}}
	}
	u.text = append(u.text, piece...)
	if !last {
		return nil
	}
	if u.field.json {
		return u.jsonField()
	}
	if !utf8.Valid(u.text) {
		return u.stop(ruleUTF8, "The text must be UTF-8.")
	}
	for _, c := range u.text {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return u.stop(ruleControl, "There must be no control characters.")
		}
	}
	u.writeHead(u.typed)
	u.out = append(u.out, u.text...)
	text := string(u.text)
	u.parts[len(u.parts)-1].text = text
	u.pairs = append(u.pairs, pair{name: u.d.name, value: text})
	return nil
}

// jsonField reads a part that is JSON. Its place in the schema is judged with
// the whole form.
func (u *upload) jsonField() error {
	text, err := u.form.anything.appendJSON(nil, u.text)
	if err != nil {
		var f faults
		f.schema(inBody, u.d.name, err)
		return &partError{part: u.d.name, rule: f.fields[0].Rule, detail: f.fields[0].Detail}
	}
	value, err := decodeJSON(jsontext.NewDecoder(bytes.NewBuffer(text)))
	if err != nil {
		return u.stop(ruleSyntax, "The part must be JSON.")
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		return u.stop(ruleSyntax, "The part must be JSON.")
	}
	name := u.d.name
	if old, twice := u.values[name]; twice || u.field.list && !isList(value) {
		oldList, _ := old.([]any)
		oldPlain, _ := u.plains[name].([]any)
		if !u.field.list || twice && !u.held[name] || isList(value) {
			return u.stop(ruleDuplicate, "A field is given twice.")
		}
		u.values[name], u.plains[name] = append(oldList, value), append(oldPlain, plain)
		if u.held == nil {
			u.held = map[string]bool{}
		}
		u.held[name] = true
	} else {
		u.values[name], u.plains[name] = value, plain
	}
	u.writeHead("application/json")
	u.out = append(u.out, text...)
	u.parts[len(u.parts)-1].text = string(text)
	return nil
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// checkFields holds what has come to the schema. Early, while a file is still
// coming, files that may follow are taken for granted.
func (u *upload) checkFields(early bool) error {
	pairs := u.pairs
	if early {
		pairs = slices.Clone(pairs)
		for name, f := range u.form.fields {
			want := 0
			if f.need && (f.file || f.either) || name == u.d.name {
				want = max(f.least, 1)
			}
			if have := u.files[name]; name == u.d.name {
				want = max(want, have+1) // the one that is coming
			}
			if f.either && want > 0 && slices.ContainsFunc(pairs, func(p pair) bool { return p.name == name }) {
				continue
			}
			for range min(want, u.limits.MaxParts) - u.files[name] {
				pairs = append(pairs, pair{name: name, value: strings.Repeat("x", f.min)})
			}
		}
	}
	var f faults
	var err error
	for _, guess := range [...]bool{false, true} {
		co := coercion{guess: guess}
		value, plain, ok := co.object(u.schema.shape, pairs)
		if !ok {
			return &partError{part: co.name, rule: co.rule, detail: co.detail}
		}
		values, _ := value.(map[string]any)
		plains, _ := plain.(map[string]any)
		maps.Copy(plains, u.plains)
		if err = u.schema.validateValue(plains); err == nil {
			maps.Copy(values, u.values)
			maps.DeleteFunc(values, func(name string, _ any) bool { return u.isFileName(name) })
			if !u.streams {
				u.values = values
			}
			return nil
		}
		if !co.any {
			break
		}
	}
	f.schema(inBody, "", err)
	return f.problem()
}

func (u *upload) isFileName(name string) bool {
	f := u.form.fields[name]
	return f != nil && f.file || u.files[name] > 0
}
