package validate

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// A room is where one message is shown to the rules. It is pooled.
type room struct {
	facts   waf.Facts
	verdict waf.Verdict
	fields  []waf.Field
	secrets []secret
	keys    map[string]bool // headers that carry keys
	buf     []byte

	named int // bytes of the names of leaves

	names knower // nil: nobody knows any

	text *strings.Builder // room for strings: only ever appended to, so that they stay what they are
	body string           // the bytes of the body that is looked at, once they are needed
	raw  []byte

	json  *jsonPlan // of the body whose leaves are collected
	sized bool

	free  []int32   // values of text that people write
	deep  waf.Facts // what they are when they are decoded
	kinds []string  // how each of its values was decoded
}

// A secret is a value that no record shows.
type secret struct {
	in   waf.In
	name string
}

// maxNamed bounds the names of a body's leaves together. Each has the names of all
// it stands in: a long one before a long array makes gigabytes of a megabyte. What
// is beyond is as if the budget had ended.
const maxNamed = 8 << 20

// chunk is how much room is made for strings at once.
const chunk = 16 << 10

func (w *WAF) room() *room {
	m, _ := w.rooms.Get().(*room)
	if m.text == nil {
		m.text = new(strings.Builder)
	}
	m.names = w.knower
	return m
}

// put gives a room back, with nothing of the message in it.
func (w *WAF) put(m *room) {
	m.facts.Reset()
	if len(m.kinds) > 0 {
		m.deep.Reset()
	}
	m.free, m.kinds = m.free[:0], m.kinds[:0]
	clear(m.verdict.Hits)
	m.verdict.Reset()
	clear(m.fields)
	clear(m.secrets)
	m.fields, m.secrets, m.body, m.raw, m.json, m.keys = m.fields[:0], m.secrets[:0], "", nil, nil, nil
	m.named = 0
	if m.text.Cap() > chunk {
		m.text = nil
	}
	w.rooms.Put(m)
}

// keep returns b as a string.
func (m *room) keep(b []byte) string {
	if m.text.Cap()-m.text.Len() < len(b) {
		m.text = new(strings.Builder)
		m.text.Grow(max(chunk, len(b)))
	}
	at := m.text.Len()
	m.text.Write(b)
	return m.text.String()[at:]
}

func (m *room) add(in waf.In, name, text string, k *known) {
	if k.free {
		m.free = append(m.free, int32(len(m.facts.Values)))
	}
	v := m.facts.Add()
	v.In, v.Name, v.Text, v.TextRules, v.NameRules = in, name, text, k.text, k.name
	if k.member != nil && k.member.Name() == name {
		v.Member = k.member
	}
	if k.secret {
		m.secrets = append(m.secrets, secret{in, name})
	}
}

var (
	unknown    known               // all rules
	unknownArg = known{free: true} // and all decodings
)

// fill takes the request apart, from what head and body decoded already. What it
// makes is what [waf.Facts.Read] makes of the message that goes on, and the values
// of the path beside it.
func (o *Operation) fill(m *room, r *http.Request, address string, path []string, head *Head, body *Body) {
	m.keys = o.plan.secrets
	f, p := &m.facts, o.plan
	f.Address, f.Method, f.Protocol = address, r.Method, r.Proto
	m.buf = append(append(append(m.buf[:0], r.Method...), ' '), head.Path...)
	f.Rules, f.LineRules, f.PathRules = p.rules, p.line, p.base
	m.sized = p.sized
	if len(head.Query) > 0 {
		m.buf = append(append(m.buf, '?'), head.Query...)
		f.LineRules = p.queried
	}
	m.buf = append(append(m.buf, ' '), r.Proto...)
	f.RequestLine = m.keep(m.buf)
	f.Target = f.RequestLine[len(r.Method)+1 : len(f.RequestLine)-len(r.Proto)-1]
	if len(body.Bytes) > 0 {
		f.Body = body.Bytes
	}
	m.head(p, r, len(body.Bytes), body)
	if p.waf.prover == nil {
		return // it takes the message apart by itself
	}
	for i := range path {
		m.add(waf.ArgPath, o.params[o.pathParams[i]].Name, path[i], &p.path[i])
	}
	for i := range head.pairs {
		if q := &head.pairs[i]; q.name != "" {
			m.add(waf.ArgGet, q.name, q.value, &p.query[q.known])
		}
	}
	m.fillBody(body)
}

// staysBehind reports whether a field is about the caller's connection (RFC 9110
// §7.6.1), or says the length of the body, of which what goes on has another. The
// rules take some of them for attacks: Expect, which curl sends with every large
// body, is one that CRS restricts.
func staysBehind(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect", "Content-Length":
		return true
	}
	return false
}

// head adds the header fields and the cookies in them.
func (m *room) head(p *opPlan, r *http.Request, length int, body *Body) {
	f := &m.facts
	m.field(p, "Host", r.Host)
	for name, values := range r.Header {
		if staysBehind(name) {
			continue
		}
		if name == "Content-Type" && body.ContentType == "" {
			continue // there is nothing of that type
		}
		if _, replaced := body.Header[name]; replaced {
			continue
		}
		if name == "Cookie" && len(values) > 1 { // HTTP/2 may split it (RFC 9113 §8.2.3); it goes on in one line
			m.field(p, name, strings.Join(values, "; "))
			continue
		}
		for _, value := range values {
			m.field(p, name, value)
		}
	}
	for name, values := range body.Header {
		for _, value := range values {
			m.field(p, name, value)
		}
	}
	switch {
	case length > 0:
		m.field(p, "Content-Length", m.decimal(int64(length)))
	case body.Stream != nil && body.Length >= 0:
		m.field(p, "Content-Length", m.decimal(body.Length))
	case body.Stream != nil:
		m.field(p, "Transfer-Encoding", "chunked")
	case r.Method == http.MethodPost, r.Method == http.MethodPut, r.Method == http.MethodPatch:
		m.field(p, "Content-Length", "0") // RFC 9110 §8.6
	}
	f.Header = m.fields
	if p.waf.prover == nil {
		return
	}
	for _, value := range r.Header["Cookie"] {
		begin := len(f.Values)
		f.AddCookies(value)
		for i := begin; i < len(f.Values); i++ {
			v := &f.Values[i]
			if k, ok := p.cookies[v.Name]; ok {
				v.TextRules, v.NameRules = k.text, k.name
			}
		}
	}
}

func (m *room) field(p *opPlan, name, value string) {
	m.fields = append(m.fields, waf.Field{Name: name, Value: value})
	if p.waf.prover == nil {
		return
	}
	m.add(waf.Header, name, value, p.header(name))
}

// header is what is known of a header.
func (p *opPlan) header(name string) *known {
	if len(p.headers) <= fewNames && !slices.Contains(p.listed, name) {
		return &unknown
	}
	if k, ok := p.headers[name]; ok {
		return k
	}
	return &unknown
}

func (m *room) decimal(n int64) string {
	if n < 100 {
		return strconv.Itoa(int(n)) // which has them ready
	}
	m.buf = strconv.AppendInt(m.buf[:0], n, 10)
	return m.keep(m.buf)
}

func (m *room) fillBody(body *Body) {
	if body.content == nil || len(body.Bytes) == 0 && body.class != mediaMultipart {
		return
	}
	f := &m.facts
	switch body.class {
	case mediaJSON:
		f.BodyProcessor = "JSON"
		m.fillJSON(body)
	case mediaForm:
		f.BodyProcessor = "URLENCODED"
		f.RequestBody = m.keep(body.Bytes)
		m.fillForm(body.content.form, body.pairs)
	case mediaMultipart:
		f.BodyProcessor = "MULTIPART"
		m.fillParts(body.content.form, body.parts)
	case mediaXML:
		f.BodyProcessor = "XML"
		for _, text := range body.xml.texts {
			m.add(waf.XMLText, "/*", strings.TrimSpace(text), &unknownArg)
		}
		for _, text := range body.xml.attributes {
			m.add(waf.XMLAttr, "//@*", text, &unknownArg)
		}
	case mediaGraphQLRaw:
		m.add(waf.ArgPost, "query", m.keep(body.Bytes), &unknownArg)
	default:
	}
}

// fillParts adds the parts of a multipart body: fields, the names of files, and
// the header fields of each.
func (m *room) fillParts(p *formPlan, parts []bodyPart) {
	for i := range parts {
		part := &parts[i]
		for _, line := range part.headers {
			m.add(waf.PartHeader, part.name, line, &unknown)
		}
		if part.isFile {
			m.add(waf.File, part.name, part.file, &unknown)
			continue
		}
		m.add(waf.ArgPost, part.name, part.text, p.of(part.name))
	}
}

// of is what is known about a field of a form.
func (p *formPlan) of(name string) *known {
	if p == nil {
		return &unknownArg
	}
	if k, ok := p.fields[name]; ok {
		return k
	}
	return &p.rest
}

func (m *room) fillForm(p *formPlan, pairs []pair) {
	for i := range pairs {
		m.add(waf.ArgPost, pairs[i].name, pairs[i].value, p.of(pairs[i].name))
	}
}

// fillJSON adds the leaves of a JSON body, flattened as Coraza does it. A lone
// scalar is json.0 there, with json = 1.
func (m *room) fillJSON(body *Body) {
	m.json, m.raw, m.body, m.named = body.content.json, body.Bytes, "", 0
	if m.json == nil {
		return
	}
	prefix, alone := "json", body.Bytes[0] != '{' && body.Bytes[0] != '['
	if alone {
		prefix = "json.0"
	}
	body.tape.Walk(m.json.tree, body.Bytes, prefix, m)
	if alone {
		m.add(waf.ArgPost, "json", "1", &known{text: m.json.fields[0].text[jsonschema.Length], name: m.json.fields[0].name})
	}
}

// Leaf takes one leaf of a JSON body.
func (m *room) Leaf(l *jsonschema.Leaf) {
	if m.named += len(l.Name); m.named > maxNamed {
		return
	}
	p, at := &m.json.fields[l.Field], int32(len(m.facts.Values))
	v := m.facts.Add()
	v.In, v.TextRules, v.NameRules = waf.ArgPost, p.text[l.Kind], p.name
	for i := range m.json.late {
		if x := &m.json.late[i]; (!p.named || x.counts()) && x.aboutName(l.Name) {
			v.TextRules, v.NameRules = both(v.TextRules, x.allow), both(v.NameRules, x.allow)
		}
	}
	if p.free && l.Kind == jsonschema.String {
		m.free = append(m.free, at)
	}
	if !m.sized && !p.secret && empty(v.TextRules) && empty(v.NameRules) { // nobody asks for either
		return
	}
	v.Name, v.Member = m.name(p, l.Name)
	switch {
	case l.Kind == jsonschema.Null:
	case l.Start >= 0:
		if m.body == "" {
			m.body = m.keep(m.raw)
		}
		v.Text = m.body[l.Start : l.Start+len(l.Text)]
	default:
		v.Text = m.keep(l.Text)
	}
	if p.secret {
		m.secrets = append(m.secrets, secret{waf.ArgPost, v.Name})
	}
}

// name is the name of a leaf as a string, and what the engine knows of it.
func (m *room) name(p *jsonField, name []byte) (string, *waf.Member) {
	if p.plain == string(name) {
		return p.plain, p.member
	}
	if m.names != nil {
		if k := m.names.Known(waf.ArgPost, name); k != nil {
			return k.Name(), k
		}
	}
	return m.keep(name), nil
}

// decode fills deep with what free texts are under an encoding, beside all other
// values, which no rule looks at again. It reports whether there is any.
func (m *room) decode() bool {
	for _, i := range m.free {
		v := &m.facts.Values[i]
		if !encoded(v.Text) {
			continue
		}
		deeper(v.Text, func(kind, decoded string) bool {
			if len(m.kinds) == 0 {
				m.begin()
			}
			m.deep.Values = append(m.deep.Values, waf.Value{In: v.In, Name: v.Name, Text: decoded, TextRules: v.TextRules, NameRules: nothing()})
			m.kinds = append(m.kinds, kind)
			return len(m.kinds) < maxDecoded
		})
	}
	if len(m.kinds) > 0 {
		m.verdict.Reset()
	}
	return len(m.kinds) > 0
}

// maxDecoded bounds the texts that the values of one request are decoded to.
const maxDecoded = 256

func (m *room) begin() {
	m.deep.Message, m.deep.BodyProcessor = m.facts.Message, m.facts.BodyProcessor
	m.deep.Rules, m.deep.LineRules, m.deep.PathRules = m.facts.Rules, nothing(), nothing()
	for i := range m.facts.Values {
		v := m.facts.Values[i]
		v.TextRules, v.NameRules = nothing(), nothing()
		m.deep.Values = append(m.deep.Values, v)
	}
}

// decoded says how the value of a hit was decoded, if it was.
func (m *room) decoded(h *waf.Hit) (kind string, ok bool) {
	if h.Target == "TX" {
		return "", false
	}
	first := len(m.deep.Values) - len(m.kinds)
	for i, kind := range m.kinds {
		if v := &m.deep.Values[first+i]; strings.EqualFold(v.Name, h.Name) {
			return kind, true
		}
	}
	return "", false
}
