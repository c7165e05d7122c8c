package attack

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp/syntax"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// An operation is an operation to attack, with a request that is as it should be.
type operation struct {
	id, method string
	path       string // as callers send it, base and braces included
	params     []param
	bodyType   string // "" without
	body       any    // a right one
	root       string // of an XML body
	public     bool   // its document asks for nobody's credentials
	html       bool   // it answers pages
}

type param struct {
	in, name string
	required bool
	value    string // a right one
}

// A place is where a payload goes.
type place struct {
	in   string   // path, query, header or body
	name string   // of the parameter
	at   []string // keys into the body
}

func (p place) String() string {
	if p.in == "body" {
		return "body /" + strings.Join(p.at, "/")
	}
	return p.in + " " + p.name
}

// commonHeaders are attacked at every operation: whoever writes logs and pages
// writes these.
var commonHeaders = []string{"Referer", "User-Agent"}

// places are all of them.
func (o *operation) places() (out []place) {
	for _, p := range o.params {
		if p.in != "cookie" {
			out = append(out, place{in: p.in, name: p.name})
		}
	}
	for _, h := range commonHeaders {
		out = append(out, place{in: "header", name: h})
	}
	if o.bodyType == "application/json" {
		var walk func(v any, at []string)
		walk = func(v any, at []string) {
			m, ok := v.(map[string]any)
			if !ok {
				if len(at) > 0 {
					out = append(out, place{in: "body", at: at})
				}
				return
			}
			for _, k := range slices.Sorted(maps.Keys(m)) {
				walk(m[k], append(slices.Clone(at), k))
			}
		}
		walk(o.body, nil)
	}
	return out
}

// at gives what is right at a place.
func (o *operation) at(p place) string {
	if p.in == "body" {
		v := o.body
		for _, k := range p.at {
			m, _ := v.(map[string]any)
			v = m[k]
		}
		if s, ok := v.(string); ok {
			return s
		}
		return "1"
	}
	for _, have := range o.params {
		if have.in == p.in && have.name == p.name {
			return have.value
		}
	}
	return ""
}

// Right gives a request that an operation of a document takes, as far as the
// document says what that is: its examples, or what its schemas allow. Params are
// the values of its parameters by their place and name, like path.id. It is
// [ErrNoOperation] for an operation the document has not, or a DELETE.
func Right(d Document, id string) (r *http.Request, params map[string]string, err error) {
	ops, err := readDocument(d.File, d.Base)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range ops {
		if o.id != id {
			continue
		}
		right := o.request(nil, "", "")
		if r, err = http.NewRequest(right.method, right.target, strings.NewReader(right.body)); err != nil { //nolint:noctx // it is not sent
			return nil, nil, err
		}
		r.Header, r.RequestURI, params = right.header, right.target, map[string]string{}
		for _, p := range o.params {
			params[p.in+"."+p.name] = p.value
		}
		return r, params, nil
	}
	return nil, nil, fmt.Errorf("%s: %s: %w", d.File, id, ErrNoOperation)
}

// A request is one request, for either target.
type request struct {
	op     *operation // for the credential; may be nil
	method string
	target string // path and query, escaped
	header http.Header
	body   string
}

// request is the right request, or one with text at p: written is how text is
// written there, "" for plainly.
func (o *operation) request(p *place, text, written string) request {
	r := request{op: o, method: o.method, header: http.Header{}}
	path, query := o.path, []string{}
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	for _, have := range o.params {
		value, hit := have.value, p != nil && p.in == have.in && p.name == have.name
		if hit {
			value = text
		}
		escaped := escape(value)
		if hit && written == "twice" {
			escaped = strings.ReplaceAll(escaped, "%", "%25")
		}
		switch {
		case have.in == "path":
			path = strings.ReplaceAll(path, "{"+have.name+"}", escaped)
		case have.in == "query" && (have.required || hit):
			query = append(query, url.QueryEscape(have.name)+"="+escaped)
		case have.in == "header" && (have.required || hit):
			r.header.Set(have.name, value)
		}
	}
	if p != nil && p.in == "header" {
		r.header.Set(p.name, text)
	}
	r.target = path
	if len(query) > 0 {
		r.target += "?" + strings.Join(query, "&")
	}
	if o.bodyType == "" {
		return r
	}
	r.header.Set("Content-Type", o.bodyType)
	if o.bodyType == "application/xml" {
		r.body = o.xml("", nil)
		return r
	}
	body := o.body
	if p != nil && p.in == "body" {
		body = with(body, p.at, text)
	}
	r.body = jsonText(body)
	if p != nil && p.in == "body" && written == "escapes" {
		var b strings.Builder
		for _, c := range text {
			_, _ = fmt.Fprintf(&b, `\u%04x`, c)
		}
		r.body = strings.ReplaceAll(r.body, jsonText(text), `"`+b.String()+`"`)
	}
	return r
}

// xml writes the body as XML; in entities each value is a reference to it.
func (o *operation) xml(head string, values func(string) string) string {
	var b strings.Builder
	b.WriteString(head + "<" + o.root + ">")
	m, _ := o.body.(map[string]any)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := fmt.Sprint(m[k])
		if values != nil {
			v = values(v)
		}
		b.WriteString("<" + k + ">" + v + "</" + k + ">")
	}
	b.WriteString("</" + o.root + ">")
	return b.String()
}

func jsonText(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // of maps and strings: cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

// with is body with text at a place.
func with(body any, at []string, text any) any {
	m, ok := body.(map[string]any)
	if !ok || len(at) == 0 {
		return text
	}
	m = maps.Clone(m)
	m[at[0]] = with(m[at[0]], at[1:], text)
	return m
}

// maxDocument bounds an OpenAPI document.
const maxDocument = 32 << 20

// readDocument finds out what there is to attack. base is "" where the
// document says it.
func readDocument(file, base string) ([]*operation, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxDocument {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxDocument)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := document{}
	if err := yaml.Unmarshal(b, &d.root); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if base == "" {
		if servers := d.list(d.root["servers"]); len(servers) > 0 {
			if u, err := url.Parse(text(d.object(servers[0])["url"])); err == nil {
				base = u.Path
			}
		}
	}
	base = strings.TrimSuffix(base, "/")
	var ops []*operation
	paths := d.object(d.root["paths"])
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := d.object(paths[path])
		for _, method := range []string{"get", "post", "put", "patch"} { // DELETE destroys what the next try needs
			if op := d.object(item[method]); op != nil {
				ops = append(ops, d.operation(base+path, strings.ToUpper(method), item, op))
			}
		}
	}
	if len(ops) == 0 {
		return nil, fmt.Errorf("%s: %w", file, ErrNoOperation)
	}
	return ops, nil
}

// A document is read for what a caller must know, not for what is right:
// what it does not understand it leaves out.
type document struct{ root map[string]any }

// object follows references within the document.
func (d document) object(v any) map[string]any {
	for range 16 {
		m, _ := v.(map[string]any)
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		v = any(d.root)
		pointer, ok := strings.CutPrefix(ref, "#/")
		if !ok {
			return nil // another file
		}
		for part := range strings.SplitSeq(pointer, "/") {
			m, _ := v.(map[string]any)
			v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
		}
	}
	return nil
}

func (document) list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (d document) operation(path, method string, item, op map[string]any) *operation {
	o := &operation{id: text(op["operationId"]), method: method, path: path}
	if o.id == "" {
		o.id = method + " " + path
	}
	security, ok := op["security"]
	if !ok {
		security = d.root["security"]
	}
	o.public = len(d.list(security)) == 0
	seen := map[string]bool{}
	for _, raw := range slices.Concat(d.list(op["parameters"]), d.list(item["parameters"])) {
		p := d.object(raw)
		a := param{in: text(p["in"]), name: text(p["name"])}
		if a.name == "" || seen[a.in+a.name] {
			continue
		}
		seen[a.in+a.name] = true
		a.required, _ = p["required"].(bool)
		a.value = fmt.Sprint(d.right(p, d.object(p["schema"])))
		o.params = append(o.params, a)
	}
	content := d.object(d.object(op["requestBody"])["content"])
	for _, kind := range []string{"application/json", "application/xml"} {
		media := d.object(content[kind])
		if media == nil {
			continue
		}
		schema := d.object(media["schema"])
		o.bodyType, o.body, o.root = kind, d.right(media, schema), "document"
		if name := text(d.object(schema["xml"])["name"]); name != "" {
			o.root = name
		}
		break
	}
	for _, answer := range d.object(op["responses"]) {
		if d.object(d.object(answer)["content"])["text/html"] != nil {
			o.html = true
		}
	}
	return o
}

// right is a value as it should be: the document's example, or one made from the schema.
func (d document) right(of, schema map[string]any) any {
	if v, ok := of["example"]; ok {
		return v
	}
	for _, e := range d.object(of["examples"]) {
		if v, ok := d.object(e)["value"]; ok {
			return v
		}
	}
	return d.sample(schema, 0)
}

func (d document) sample(s map[string]any, depth int) any {
	for _, key := range []string{"const", "example", "default"} {
		if v, ok := s[key]; ok {
			return v
		}
	}
	for _, key := range []string{"examples", "enum"} {
		if l := d.list(s[key]); len(l) > 0 {
			return l[0]
		}
	}
	for _, key := range []string{"allOf", "oneOf", "anyOf"} {
		if l := d.list(s[key]); len(l) > 0 && depth < 8 {
			return d.sample(d.object(l[0]), depth+1)
		}
	}
	kind := text(s["type"])
	if l := d.list(s["type"]); len(l) > 0 {
		kind = text(l[0])
	}
	switch kind {
	case "integer", "number":
		if v, ok := s["minimum"]; ok {
			return v
		}
		return 1
	case "boolean":
		return true
	case "array":
		if depth < 8 {
			return []any{d.sample(d.object(s["items"]), depth+1)}
		}
		return []any{}
	case "string":
		return sampleText(s)
	}
	props := d.object(s["properties"])
	if kind != "object" && props == nil {
		return "a"
	}
	out := map[string]any{}
	for name, p := range props {
		if depth < 8 {
			out[name] = d.sample(d.object(p), depth+1)
		}
	}
	return out
}

// sampleText is a string of a schema's format, pattern and length.
func sampleText(s map[string]any) string {
	known := map[string]string{
		"date-time": "2026-01-02T03:04:05Z", "date": "2026-01-02", "email": "somebody@example.com", "hostname": "example.com",
		"uri": "https://example.com/", "uuid": "0191b0a4-0000-7000-8000-000000000001", "ipv4": "192.0.2.1",
	}
	if v := known[text(s["format"])]; v != "" {
		return v
	}
	out := "a"
	if re, err := syntax.Parse(text(s["pattern"]), syntax.Perl); err == nil && s["pattern"] != nil {
		out = shortest(re.Simplify())
	}
	least, _ := s["minLength"].(int)
	for len(out) < least && len(out) < 256 {
		out += "a"
	}
	return out
}

// shortest is a short text that re matches.
func shortest(re *syntax.Regexp) string {
	var b strings.Builder
	switch re.Op { //nolint:exhaustive // the rest matches the empty text
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 { // a letter or a digit where there is one
			for _, c := range "a1A" {
				if c >= re.Rune[i] && c <= re.Rune[i+1] {
					return string(c)
				}
			}
		}
		if len(re.Rune) > 0 {
			return string(re.Rune[0])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "a"
	case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
		return shortest(re.Sub[0])
	case syntax.OpRepeat:
		for range min(re.Min, 64) {
			b.WriteString(shortest(re.Sub[0]))
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			b.WriteString(shortest(sub))
		}
	}
	return b.String()
}
