package validate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// A requestBody is one compiled Request Body Object.
type requestBody struct {
	required bool
	content  []content
	scratch  *sync.Pool // of *received
}

// A received is room for a body as it comes. It is pooled.
type received struct {
	bytes.Buffer

	from bounded
}

// content is one media range a body may have.
type content struct {
	media  media
	schema *schema    // of JSON and forms
	parts  *partsForm // of multipart/form-data, beside schema
	json   *jsonPlan  // what rules can match in JSON
	form   *formPlan  // and in a form
}

// A Body is what goes to the service of a request's body, and room to write it
// in: keep one and pass it again after [Body.Reset].
type Body struct {
	Bytes       []byte      // JSON, forms, XML and multipart/form-data: checked and written afresh
	Stream      io.Reader   // anything else, and files too long to hold: checked as it comes; nil when there is Bytes or nothing
	Length      int64       // of Stream; -1 when unknown
	ContentType string      // as received, strictly parsed; "" when there is no body: then none goes on
	Header      http.Header // fields that go on instead of those received, one without values not at all; nil: none
	Cost        int         // of a GraphQL request, in fields; 0 for others

	// Hold, which a caller may set before [Operation.Body], is asked with the bytes
	// that are held so far when that is more than was received: of a body in gzip.
	// Its error refuses the body. nil: there is no such bound beside MaxBody.
	Hold func(n int64) error

	class   mediaKind
	content *content        // what it was held to; nil: there is no body
	tape    jsonschema.Tape // where the leaves of JSON lie in Bytes
	pairs   []pair          // of a form
	form    map[string]any  // a form's values, without files
	parts   []bodyPart      // of multipart/form-data, for the rules
	xml     xmlText         // of XML, for the rules
}

// Reset returns an empty Body that keeps the room.
func (b *Body) Reset() Body {
	b.tape.Reset()
	clear(b.pairs) // nothing of one caller's is left for the next one
	return Body{Bytes: b.Bytes[:0], tape: b.tape, pairs: b.pairs[:0]}
}

// Value decodes a checked body for rules: map[string]any, []any, string, bool,
// nil, int64 for an integer literal that fits, float64 for other numbers. It is
// nil when there is nothing that was checked. Of an object it has only the named
// members; nil names all.
func (b *Body) Value(members []string) (any, error) {
	switch {
	case b.ContentType == "":
		return nil, nil
	case b.class == mediaForm || b.class == mediaMultipart:
		if b.form == nil {
			return nil, nil
		}
		return b.form, nil
	case b.Stream != nil || b.class != mediaJSON:
		return nil, nil
	}
	// A Buffer is read where it lies; and that no name comes twice is known already.
	d := jsontext.NewDecoder(bytes.NewBuffer(b.Bytes), jsontext.AllowDuplicateNames(true))
	if members == nil || d.PeekKind() != '{' {
		return decodeJSON(d)
	}
	return decodeMembers(d, members)
}

// decodeMembers reads some members of an object and passes over the others.
func decodeMembers(d *jsontext.Decoder, members []string) (any, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	m := make(map[string]any, len(members))
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, name); err != nil {
				return nil, err
			}
		} else {
			name = name[1 : len(name)-1]
		}
		at := slices.IndexFunc(members, func(m string) bool { return m == string(name) })
		if at < 0 {
			err = d.SkipValue()
		} else {
			m[members[at]], err = decodeJSON(d)
		}
		if err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return m, err
}

// decodeJSON reads the canonical bytes, whose depth and size were bounded.
func decodeJSON(d *jsontext.Decoder) (any, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		m := map[string]any{}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			if m[key], err = decodeJSON(d); err != nil {
				return nil, err
			}
		}
		_, err := d.ReadToken()
		return m, err
	case '[':
		s := []any{}
		for d.PeekKind() != ']' {
			v, err := decodeJSON(d)
			if err != nil {
				return nil, err
			}
			s = append(s, v)
		}
		_, err := d.ReadToken()
		return s, err
	case '"':
		return tok.String(), nil
	case '0':
		text := tok.String()
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, nil
		}
		return strconv.ParseFloat(text, 64)
	case 't', 'f':
		return tok.Bool(), nil
	}
	return nil, nil
}

func (l *loader) requestBody(o *Operation, a at) error {
	if !a.ok() {
		return nil
	}
	a, err := l.files.deref(a)
	if err != nil {
		return err
	}
	b := &requestBody{scratch: l.scratch}
	if b.required, err = a.get("required").boolean(false); err != nil {
		return err
	}
	if b.content, err = l.content(o, "request", a.get("content"), l.requests); err != nil {
		return err
	}
	if len(b.content) == 0 {
		return a.fault("requestBody without content: no type of body could be sent")
	}
	for i := range b.content {
		if s := b.content[i].schema; s != nil {
			o.op.Body = s.shape
			break
		}
	}
	o.body = b
	return nil
}

// content compiles a map of media types; "application/json" of a request and of
// an answer differ in readOnly and writeOnly, hence the schemas given.
func (l *loader) content(o *Operation, what string, a at, s *schemas) ([]content, error) {
	var out []content
	err := a.each(func(name string, v at) error {
		v, err := l.files.deref(v) // OpenAPI 3.2 has components.mediaTypes
		if err != nil {
			return err
		}
		m, ok := parseMedia(name)
		if !ok {
			l.warn(v, "%s: %q is not a media type: no content can have it", what, name)
			return nil
		}
		c := content{media: m}
		switch m.class() {
		case mediaJSON:
			if c.schema, err = s.at(v.get("schema")); err != nil {
				return err
			}
		case mediaForm:
			if c.schema, err = s.at(v.get("schema")); err != nil {
				return err
			}
			if v.get("encoding").ok() {
				l.warn(v, "%s %s: encoding is not looked at; arrays are repeated names", what, name)
			}
		default:
			if err := l.otherContent(o, what, v, &c, s); err != nil {
				return err
			}
		}
		out = append(out, c)
		return nil
	})
	return out, err
}

// otherContent compiles what is neither JSON nor a form.
func (l *loader) otherContent(o *Operation, what string, v at, c *content, s *schemas) (err error) {
	request := s == l.requests
	switch class := c.media.class(); {
	case request && class == mediaXML:
		l.warn(v, "%s of %s: XML is held to form and bounds, not to its schema", what, o.op.ID)
		return nil
	case request && (class == mediaMultipart || c.media.kind == "multipart" && c.media.sub == "*"):
		if c.schema, err = s.at(v.get("schema")); err != nil {
			return err
		}
		if c.parts, err = l.partsForm(v, c.schema); err != nil || class == mediaMultipart {
			return err
		}
	case request && class == mediaGRPC:
		o.unchecked = append(o.unchecked, what+" "+c.media.String())
		l.warn(v, "%s of %s: gRPC messages are counted and bounded in size, but not looked into", what, o.op.ID)
		return nil
	case request && class == mediaGraphQLRaw && o.settings.GraphQL != nil:
		return nil
	case c.media.sub == "*":
		// "*/*" takes JSON, too: checked, unless the schema speaks of a
		// string, which means the bytes of any type.
		if c.schema, err = s.at(v.get("schema")); err != nil {
			return err
		}
		if c.schema.shape.Kind == gatehouse.StringShape {
			c.schema = nil
		}
	}
	o.unchecked = append(o.unchecked, what+" "+c.media.String())
	l.warn(v, "%s of %s: content of type %s is bounded in size but not looked into", what, o.op.ID, c.media)
	return nil
}

// Body checks the body of a request and fills out with what to send to the
// service. JSON, forms and XML are read whole, checked and written afresh, and so
// is multipart/form-data, but for files that are too long to hold: those stream,
// checked as they come. Other declared types pass as a stream bounded in size
// (see [Operation.Unchecked]).
//
// Errors are [*gatehouse.Problem]: unexpected_body, missing_body,
// unsupported_media_type, unsupported_encoding, body_too_large, incomplete_body,
// invalid_body. A Stream ends in one of them, too, and then never looks whole.
func (o *Operation) Body(r *http.Request, out *Body) error {
	hold := out.Hold
	*out = out.Reset()
	out.Hold = hold
	if err := o.readBody(r, out); err != nil {
		return err
	}
	if out.ContentType == "" && len(r.Header["Content-Type"]) > 0 {
		// Nobody has checked the type of a body that is not there, and frameworks have
		// run code from it (CVE-2017-5638).
		out.Header = http.Header{"Content-Type": nil}
	}
	return nil
}

func (o *Operation) readBody(r *http.Request, out *Body) error {
	if o.graphql != nil {
		if err := o.graphql.checkQuery(r.URL.RawQuery, r.Method, out); err != nil {
			return err
		}
	}
	present, err := hasBody(r)
	if err != nil {
		return err
	}
	switch {
	case !present && o.body != nil && o.body.required:
		return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "missing_body", Detail: "This operation needs a body."}
	case !present:
		return nil
	case o.body == nil:
		return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "unexpected_body", Detail: "This operation takes no body."}
	}
	c, m, err := o.body.choose(r.Header)
	if err != nil {
		return err
	}
	class := m.class()
	if o.graphql != nil && class != mediaGraphQLRaw && (class != mediaJSON || c.schema == nil) {
		return unsupported("A GraphQL request must be application/json or application/graphql.")
	}
	compressed, err := o.contentEncoding(r.Header, class)
	if err != nil {
		return err
	}
	limit := max(o.settings.MaxBody, 0)
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	from := bounded{r: r.Body, left: limit, limit: limit}
	out.ContentType, out.class, out.content = r.Header["Content-Type"][0], class, c
	whole := class == mediaXML || c.schema != nil && (class == mediaJSON || class == mediaForm) || o.graphql != nil
	if whole && !compressed {
		return o.wholeBody(c, from, nil, r.ContentLength, out)
	}
	length := r.ContentLength
	var src io.Reader = &bounded{r: r.Body, left: limit, limit: limit}
	if compressed {
		src, length = newGunzip(src, limit, out.Hold), -1
		out.Header = http.Header{"Content-Encoding": nil}
	}
	switch {
	case whole:
		return o.wholeBody(c, bounded{}, src, length, out)
	case class == mediaMultipart && c.parts != nil:
		return o.multipartBody(c, m.boundary, src, out)
	case class == mediaGRPC:
		out.Stream, out.Length = newFrames(src, o.settings.GRPC), length
	default:
		out.Stream, out.Length = src, length
	}
	return nil
}

// wholeBody reads a body to its end, checks it and writes it afresh. It comes from
// src, or, where that is nil, from from.
func (o *Operation) wholeBody(c *content, from bounded, src io.Reader, length int64, out *Body) error {
	in, ok := o.body.scratch.Get().(*received)
	if !ok {
		in = new(received)
	}
	if src == nil {
		in.from = from
		src = &in.from
	}
	// What a header promises must not reserve much memory before it comes.
	in.Grow(int(min(max(length, 0), 1<<16)) + bytes.MinRead)
	defer func() {
		in.from = bounded{}
		if in.Cap() <= 1<<18 { // one large body must not pin its room for ever
			in.Reset()
			o.body.scratch.Put(in)
		}
	}()
	if _, err := in.ReadFrom(src); err != nil {
		return incomplete(err)
	}
	if in.Len() == 0 { // chunked, and nothing in it
		out.ContentType, out.Header, out.content = "", nil, nil
		return o.emptyBody()
	}
	var f faults
	var err error
	switch out.class {
	case mediaForm:
		c.checkForm(in.String(), out, &f)
	case mediaXML:
		out.Bytes = out.checkXML(out.Bytes, in.Bytes(), &f)
	case mediaGraphQLRaw:
		out.Bytes = append(out.Bytes, in.Bytes()...)
		o.graphql.checkText(in.String(), out, &f)
	default:
		if out.Bytes, err = c.schema.compiled.AppendTape(out.Bytes, in.Bytes(), &out.tape); err != nil {
			f.schema(inBody, "", err)
		} else if o.graphql != nil {
			o.graphql.checkJSON(out, &f)
		}
	}
	return f.problem()
}

// incomplete is the problem of a body that ended before its end, unless err is
// a problem of its own.
func incomplete(err error) error {
	if p, ok := errors.AsType[*gatehouse.Problem](err); ok {
		return p
	}
	return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "incomplete_body", Detail: "The body did not arrive whole.", Err: err}
}

// malformedBody is the problem of one fault of form.
func malformedBody(rule, detail string) error {
	var f faults
	f.addSyntax(inBody, "", rule, detail)
	return f.problem()
}

// Bound fills out with the body as it comes, of whatever type, bounded in size:
// for a service that judges it itself. The error is body_too_large, and so is the
// end of a Stream that grows too long.
func (o *Operation) Bound(r *http.Request, out *Body) error {
	*out = out.Reset()
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	limit := max(o.settings.MaxBody, 0)
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	out.Stream, out.Length = &bounded{r: r.Body, left: limit, limit: limit}, r.ContentLength
	return nil
}

func (o *Operation) emptyBody() error {
	if o.body.required {
		return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "missing_body", Detail: "This operation needs a body."}
	}
	return nil
}

// hasBody reports whether the request has a body. One of unknown length has
// if a byte comes: net/http gives HTTP/2 requests without END_STREAM and chunked
// ones no length.
func hasBody(r *http.Request) (bool, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return false, nil
	}
	if r.ContentLength > 0 {
		return true, nil
	}
	// An announced type is a body, empty or not: it is read where it is checked.
	if len(r.Header["Content-Type"]) > 0 {
		return true, nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(r.Body, one[:]); {
	case n == 1:
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	default:
		return false, incomplete(err)
	}
}

// choose finds the declared content for the type the request names.
func (b *requestBody) choose(h http.Header) (*content, media, error) {
	lines := h["Content-Type"]
	if len(lines) != 1 {
		return nil, media{}, unsupported("The body needs one Content-Type.")
	}
	m, ok := parseMedia(lines[0])
	if !ok || m.kind == "*" || m.sub == "*" {
		return nil, media{}, unsupported("The Content-Type cannot be read.")
	}
	class := m.class()
	if (class == mediaJSON || class == mediaForm || class == mediaXML || class == mediaMultipart || class == mediaGraphQLRaw) && m.charset != "" && m.charset != "utf-8" {
		return nil, media{}, unsupported("The charset must be utf-8.")
	}
	if (class == mediaMultipart || class == mediaParts) && !validBoundary(m.boundary) {
		return nil, media{}, unsupported("The multipart boundary cannot be read.")
	}
	c := chooseContent(b.content, m)
	// gRPC goes to the service by a lane of its own and may be silent for long: it
	// must be declared, not be among what */* takes.
	if c == nil || c.media.sub == "*" && m.kind == "application" && strings.HasPrefix(m.sub, "grpc") {
		return nil, media{}, unsupported("This operation does not take that type of body.")
	}
	return c, m, nil
}

// chooseContent picks the most specific range; the first of equals.
func chooseContent(list []content, m media) *content {
	var best *content
	rank := 0
	for i := range list {
		if n := m.within(list[i].media); n > rank {
			best, rank = &list[i], n
		}
	}
	return best
}

// validBoundary is RFC 2046 §5.1.1.
func validBoundary(s string) bool {
	if len(s) == 0 || len(s) > 70 || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !tokenByte(c) && strings.IndexByte("'()+_,-./:=? ", c) < 0 || strings.IndexByte("!#$%&*^`|~", c) >= 0 {
			return false
		}
	}
	return true
}

func unsupported(detail string) error {
	return &gatehouse.Problem{Kind: gatehouse.UnsupportedMedia, Reason: "unsupported_media_type", Detail: detail}
}

func tooLarge(limit int64) error {
	return &gatehouse.Problem{Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: fmt.Sprintf("The body may have at most %d bytes.", limit)}
}

// bounded reads at most left bytes and ends in body_too_large, never in a cut
// body that looks whole.
type bounded struct {
	r           io.Reader
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		return 0, tooLarge(b.limit)
	}
	b.left -= int64(n)
	return n, err
}
