package validate

import (
	"maps"
	"slices"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// Rules of the Core Rule Set that hold a request to a list of methods and of
// content types. The document has the better list.
const (
	ruleMethods = 911100
	ruleTypes   = 920420
)

// ruleRefuses compares the sum of what the others found with the threshold.
const ruleRefuses = 949110

// An opPlan is what is known at load about the values of one operation: which
// rules can match where. Without a prover it knows nothing, and all rules look at
// everything.
type opPlan struct {
	waf     *WAF
	rules   waf.Mask          // that run at all
	path    []known           // of Operation.pathParams
	query   []known           // by queryName.known
	headers map[string]*known // by canonical name: those that are declared, or excluded
	listed  []string          // their names, while they are few
	cookies map[string]*known
	parts   []exclusion     // of the body's values that have names of their own
	line    waf.Mask        // of the request line without a query
	queried waf.Mask        // and with one
	base    waf.Mask        // of the path in it
	secrets map[string]bool // headers that carry keys
	secret  bool            // a query parameter is one
	front   map[int]string  // why rules that are not in rules are not needed, by id
	fields  []field         // for Remaining
	sized   bool            // a rule adds up names and texts: all are told, also where none looks
}

// A known is what is known about one value.
type known struct {
	text, name waf.Mask
	secret     bool // never shown
	free       bool // text that people write: it is decoded and looked at again
	member     *waf.Member
}

// A jsonPlan is what is known about the leaves of one JSON body.
type jsonPlan struct {
	tree   *jsonschema.Tree
	fields []jsonField
	late   []exclusion // that names decide which only a message has
}

// A jsonField is a known of each kind of leaf, which share their name.
type jsonField struct {
	text   [jsonschema.Length + 1]waf.Mask
	proven [jsonschema.Length + 1]waf.Mask // text, before anything was excluded
	name   waf.Mask
	secret bool
	free   bool
	named  bool
	plain  string // the name, where there is but one; "": there are more
	member *waf.Member
}

// An exclusion keeps rules from values of the body: by name, or by the tokens of a
// pointer.
type exclusion struct {
	name   string
	tokens []string // of JSON; nil: it is one of names
	json   bool
	allow  waf.Mask
}

// numberText is a JSON number as it is forwarded.
var (
	integerText = jsonschema.Text{Pattern: `^-?[0-9]{1,40}$`, Source: "an integer"}
	numberText  = jsonschema.Text{Pattern: `^-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+\-]?[0-9]{1,40})?$`, Source: "a number"}
	boolText    = jsonschema.Text{Literals: []string{"false", "true"}}
	nullText    = jsonschema.Text{Literals: []string{""}}
)

// planOf makes the plan of o.
func planOf(o *Operation, w *WAF) *opPlan {
	p := &opPlan{waf: w, secrets: map[string]bool{"Authorization": true, "Cookie": true, "Proxy-Authorization": true, "X-Api-Key": true}}
	for _, r := range o.op.Security {
		for _, use := range r {
			if use.Header != "" {
				p.secrets[canonicalHeader(use.Header)] = true
			}
		}
	}
	p.query = make([]known, len(o.names))
	p.path = make([]known, len(o.pathParams))
	if w.prover == nil {
		return p
	}
	b := &planner{op: o, plan: p, waf: w, exclude: o.settings.Exclude}
	b.run()
	return p
}

// A planner fills one opPlan.
type planner struct {
	op      *Operation
	plan    *opPlan
	waf     *WAF
	exclude []Exclusion
}

func (b *planner) run() {
	p := b.plan
	p.sized = b.waf.asksSizes()
	p.front = map[int]string{}
	p.rules = b.waf.without(func(r *seclang.Rule) bool {
		switch r.ID {
		case ruleMethods:
			p.front[r.ID] = "the document says which methods there are"
			return true
		case ruleTypes:
			p.front[r.ID] = "the document says which content types there are"
			return true
		}
		if why, ok := b.op.impossible(r); ok {
			p.front[r.ID] = why
			return true
		}
		return slices.ContainsFunc(b.exclude, func(e Exclusion) bool { return e.Parameter == "" && e.names(r) })
	})
	for i, at := range b.op.pathParams {
		q := b.op.params[at]
		p.path[i] = b.known(waf.ArgPath, q.Name, q.Name, q.text(), q.secret())
	}
	b.line()
	for name, q := range b.op.queryNames {
		param := b.op.params[q.param]
		text, secret := param.fieldText(q.field)
		p.query[q.known] = b.known(waf.ArgGet, name, name, text, secret)
		p.secret = p.secret || secret
	}
	for base, q := range b.op.openObjects {
		text, secret := b.op.params[q.param].restText()
		k := b.known(waf.ArgGet, "", base+"[{}]", text, secret)
		k.name = nil
		p.query[q.known] = k
	}
	p.headers, p.cookies = map[string]*known{}, map[string]*known{}
	for _, at := range b.op.headerParams {
		q := b.op.params[at]
		k := b.known(waf.Header, q.header, q.Name, q.text(), q.secret())
		p.headers[q.header] = &k
	}
	for _, at := range b.op.cookieParams {
		q := b.op.params[at]
		k := b.known(waf.Cookie, q.Name, q.Name, jsonschema.Text{}, true) // rules see it as it is written, escapes and all
		p.cookies[q.Name] = &k
	}
	b.excluded(p.headers, waf.Header, inHeader)
	b.excluded(p.cookies, waf.Cookie, inCookie)
	if len(p.headers) <= fewNames {
		p.listed = slices.Sorted(maps.Keys(p.headers))
	}
	for _, e := range b.exclude {
		if tokens, isJSON := e.pointer(); isJSON || e.place() == inBody {
			x := exclusion{tokens: tokens, json: isJSON, allow: b.waf.without(e.names)}
			if !isJSON {
				_, x.name, _ = strings.Cut(e.Parameter, ".")
			}
			p.parts = append(p.parts, x)
		}
	}
	if b.op.body == nil {
		return
	}
	for i := range b.op.body.content {
		b.content(&b.op.body.content[i])
	}
}

// known proves what there is to prove about one value. in and name are its place
// for the rules, label its name for people.
func (b *planner) known(in waf.In, name, label string, text jsonschema.Text, secret bool) known {
	k := known{text: b.waf.can(in, name, &text), secret: secret, free: unrestricted(&text)}
	f := field{in: placeName(in), name: label, text: text, proven: k.text, where: in}
	if name != "" {
		k.name, k.member = b.waf.names(in, name), b.waf.member(in, name)
	}
	for _, e := range b.exclude {
		if e.place() != placeName(in) || !e.about(name) {
			continue
		}
		allow := b.waf.without(e.names)
		k.text, k.name = both(k.text, allow), both(k.name, allow)
	}
	k.text, k.name = both(k.text, b.plan.rules), both(k.name, b.plan.rules)
	f.left = k.text
	b.plan.fields = append(b.plan.fields, f)
	return k
}

// unrestricted reports whether only the length of a text is told.
func unrestricted(t *jsonschema.Text) bool {
	return !t.None && t.Pattern == "" && t.Literals == nil && len(t.All) == 0 && len(t.Any) == 0
}

// excluded adds the names that exclusions speak of and the document does not.
func (b *planner) excluded(to map[string]*known, in waf.In, place string) {
	for _, e := range b.exclude {
		if e.place() != place {
			continue
		}
		_, name, _ := strings.Cut(e.Parameter, ".")
		if in == waf.Header {
			name = canonicalHeader(name)
		}
		if _, declared := to[name]; !declared {
			k := &known{text: b.waf.without(e.names), name: b.waf.without(e.names)}
			to[name] = k
			for _, other := range b.exclude {
				if other.place() == place && other.about(name) {
					k.text, k.name = both(k.text, b.waf.without(other.names)), both(k.name, b.waf.without(other.names))
				}
			}
		}
	}
}

// content plans a body of one media type.
func (b *planner) content(c *content) {
	if c.schema == nil {
		return
	}
	switch class := c.media.class(); {
	case c.media.sub == "*":
		c.json, c.form = b.json(c), b.form(c)
	case class == mediaJSON:
		c.json = b.json(c)
	case class == mediaForm, class == mediaMultipart:
		c.form = b.form(c)
	}
}

func (b *planner) json(c *content) *jsonPlan {
	p := &jsonPlan{tree: c.schema.fields()}
	for _, x := range b.plan.parts {
		if x.json {
			p.late = append(p.late, x)
		}
	}
	p.fields = make([]jsonField, len(p.tree.Fields))
	for i := range p.tree.Fields {
		f := &p.tree.Fields[i]
		allow := b.plan.rules
		for _, x := range p.late {
			if x.about(tokensOf(f.Pointer)) {
				allow = both(allow, x.allow)
			}
		}
		out := jsonField{secret: f.Secret, named: f.Named, free: unrestricted(&f.Text)}
		for kind, text := range [...]*jsonschema.Text{
			jsonschema.String: &f.Text, jsonschema.Integer: &integerText, jsonschema.Number: &numberText,
			jsonschema.Bool: &boolText, jsonschema.Null: &nullText, jsonschema.Length: &integerText,
		} {
			out.proven[kind] = b.waf.can(waf.ArgPost, "", text)
			out.text[kind] = both(out.proven[kind], allow)
		}
		if f.Named {
			out.name, out.plain = b.jsonName(f.Pointer)
			out.member = b.waf.member(waf.ArgPost, out.plain)
		}
		out.name = both(out.name, allow)
		p.fields[i] = out
		if !p.tree.Spare(i) {
			b.plan.fields = append(b.plan.fields, jsonFields(f, c.media.String(), &out)...)
		}
	}
	return p
}

// jsonName proves what can match the name of a leaf, of which all but indices is
// known, and returns the name, too, where all is.
func (b *planner) jsonName(pointer string) (rules waf.Mask, plain string) {
	name, expr, constant := "json", "^json", pointer != ""
	for _, token := range tokensOf(pointer) {
		if token == "*" {
			expr, constant = expr+`\.[0-9]{1,6}`, false
			continue
		}
		name += "." + untoken(token)
		expr += `\.` + quoteMeta(untoken(token))
	}
	if constant {
		return b.waf.names(waf.ArgPost, name), name
	}
	if pointer == "" {
		expr += `(\.0)?` // a scalar alone
	}
	return b.waf.canName(waf.ArgPost, expr+"$"), ""
}

func tokensOf(pointer string) []string {
	if pointer == "" {
		return nil
	}
	return strings.Split(pointer[1:], "/")
}

// A formPlan is what is known about the fields of a form.
type formPlan struct {
	fields map[string]*known
	rest   known
}

func (b *planner) form(c *content) *formPlan {
	p := &formPlan{fields: map[string]*known{}}
	tree := c.schema.fields()
	for i := range c.schema.shape.Fields {
		name := c.schema.shape.Fields[i].Name
		text, secret := jsonschema.Text{}, false
		if at, ok := tree.Member(0, name); ok {
			text, secret = scalars(tree, at, true), tree.Fields[at].Secret
		}
		k := b.known(waf.ArgPost, name, name, text, secret)
		p.fields[name] = &k
	}
	if at, ok := tree.Member(0, "\x00"); ok { // no schema names it
		p.rest = b.known(waf.ArgPost, "", "{}", scalars(tree, at, true), tree.Fields[at].Secret)
		p.rest.name = b.plan.rules
	}
	return p
}

// scalars is the texts that the values at f can be written as in a parameter or a
// form; those of an array's items, where its items are values of their own.
func scalars(tree *jsonschema.Tree, at int32, exploded bool) jsonschema.Text {
	f := &tree.Fields[at]
	var some []jsonschema.Text
	if !f.Text.None {
		some = append(some, f.Text)
	}
	if f.Number {
		some = append(some, numberText)
	}
	if f.Bool {
		some = append(some, boolText)
	}
	if f.Array {
		items, ok := tree.Items(at)
		switch {
		case !exploded:
			return jsonschema.Text{}
		case ok && !tree.Fields[items].Array:
			some = append(some, scalars(tree, items, false))
		case ok:
			return jsonschema.Text{}
		}
	}
	return oneOf(some)
}

func oneOf(some []jsonschema.Text) jsonschema.Text {
	switch len(some) {
	case 0:
		return jsonschema.Text{None: true}
	case 1:
		return some[0]
	}
	if slices.ContainsFunc(some, func(t jsonschema.Text) bool { return t.Free() }) {
		return jsonschema.Text{}
	}
	return jsonschema.Text{Any: some}
}

// text is what a parameter can be written as, decoded.
func (p *param) text() jsonschema.Text {
	text, _ := p.fieldText("")
	return text
}

func (p *param) secret() bool { return p.schema.fields().Fields[0].Secret }

// fieldText is what a field of an object in form style or deepObject can be
// written as, or the parameter itself.
func (p *param) fieldText(field string) (text jsonschema.Text, secret bool) {
	tree := p.schema.fields()
	at := int32(0)
	if field != "" {
		var ok bool
		if at, ok = tree.Member(0, field); !ok {
			return jsonschema.Text{None: true}, false
		}
	}
	secret = tree.Fields[at].Secret || tree.Fields[0].Secret
	exploded := p.In == inQuery && p.style == styleForm && p.explode || field != ""
	switch {
	case p.json, field == "" && p.Shape.Kind == gatehouse.ObjectShape:
		return jsonschema.Text{}, secret
	case p.style == styleLabel && p.In == inPath: // a dot in front
		return jsonschema.Text{}, secret
	}
	shape := p.Shape
	if field != "" {
		shape = shape.Field(field)
	}
	switch {
	case shape != nil && shape.Kind == gatehouse.IntegerShape: // "1.0" is none in a parameter
		text = integerText
	case !exploded && shape != nil && shape.Kind == gatehouse.ArrayShape:
		text = p.joinedText(tree, at)
	default:
		text = scalars(tree, at, exploded)
	}
	if p.allowEmpty {
		text = oneOf([]jsonschema.Text{text, nullText})
	}
	return text, secret
}

// joinedText is what an array can be written as in one value.
func (p *param) joinedText(tree *jsonschema.Tree, at int32) jsonschema.Text {
	items, ok := tree.Items(at)
	if !ok || tree.Fields[items].Array {
		return jsonschema.Text{}
	}
	item := scalars(tree, items, false)
	if itemsOf(p.Shape).Kind == gatehouse.IntegerShape {
		item = integerText
	}
	expr, ok := whole(&item)
	if !ok {
		return jsonschema.Text{}
	}
	if p.In == inHeader {
		expr = `[\t ]*` + expr + `[\t ]*`
	}
	return jsonschema.Text{Pattern: "^" + expr + "(?:" + quoteMeta(string(p.separator())) + expr + ")*$", Source: "a list of: " + item.String()}
}

// restText is fieldText of a field that the schema does not name.
func (p *param) restText() (text jsonschema.Text, secret bool) {
	tree := p.schema.fields()
	at, ok := tree.Member(0, "\x00")
	if !ok {
		return jsonschema.Text{None: true}, false
	}
	return scalars(tree, at, true), tree.Fields[at].Secret || tree.Fields[0].Secret
}
