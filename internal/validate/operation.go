package validate

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

var errPathValues = errors.New("the values of the path are not those of this operation's template")

// An Operation is one OpenAPI operation with all its checks compiled. It is
// read-only and shared by all requests.
type Operation struct {
	op           gatehouse.Operation
	place        string
	settings     Settings
	segments     [][]string // of the template, as splitTemplate gives them
	params       []*param   // aligned with Operation.Params
	pathParams   []int      // in the order of the template
	queryParams  []int
	headerParams []int
	cookieParams []int
	queryNames   map[string]queryName
	openObjects  map[string]queryName // deepObject parameters with any fields, by name
	names        []queryName          // both, by queryName.known
	body         *requestBody         // nil: the operation takes none
	responses    *responses           // nil: answers are not looked at
	unchecked    []string
	graphql      *graphql // nil: no GraphQL endpoint
	plan         *opPlan  // what rules look at; nil: there are none
	leaks        *leaks   // nil: answers may give away anything
}

// Op is the operation as every other room knows it. It must not be changed.
func (o *Operation) Op() *gatehouse.Operation { return &o.op }

// Place is where the document declares the operation: file:line:column.
func (o *Operation) Place() string { return o.place }

// Unchecked lists the content types of the operation that are bounded in size
// and type but not looked into, like "request multipart/form-data".
func (o *Operation) Unchecked() []string { return slices.Clone(o.unchecked) }

// CheckResponses is what happens to answers of this operation.
func (o *Operation) CheckResponses() Mode { return o.settings.Responses }

// Settings are how strictly the operation is checked.
func (o *Operation) Settings() Settings { return o.settings }

// Inspects reports whether [Operation.Inspect] has anything to ask.
func (o *Operation) Inspects() bool { return o.settings.Rules != Off }

// WatchesAnswers is the stricter of what happens to answers for the WAF's rules
// and for what leaks.
func (o *Operation) WatchesAnswers() Mode { return max(o.settings.AnswerRules, o.settings.Leaks) }

// httpMethods are the fixed fields of a Path Item, in the order operations are
// listed. TRACE answers with the request's own headers, credentials included, so
// the gateway never takes it.
var httpMethods = map[string]string{
	"get": http.MethodGet, "put": http.MethodPut, "post": http.MethodPost, "delete": http.MethodDelete,
	"options": http.MethodOptions, "head": http.MethodHead, "patch": http.MethodPatch,
}

func (l *loader) pathItem(template string, item at) {
	item, err := l.files.deref(item)
	if err != nil {
		l.faults = append(l.faults, err)
		return
	}
	err = item.each(func(key string, v at) error {
		switch key {
		case "trace", "query", "additionalOperations":
			l.warn(v, "%s of %s is not served: only GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS are", key, template)
			return nil
		}
		method, ok := httpMethods[key]
		if !ok {
			return nil
		}
		if err := l.operation(template, method, item, v); err != nil {
			l.faults = append(l.faults, err)
		}
		return nil
	})
	if err != nil {
		l.faults = append(l.faults, err)
	}
}

func (l *loader) operation(template, method string, item, a at) error {
	o := &Operation{place: a.where()}
	o.op.API, o.op.Method, o.op.Path = l.options.API, method, l.doc.base+template
	if o.op.ID = a.get("operationId").str(); o.op.ID == "" {
		o.op.ID = method + " " + template
	}
	if first, twice := l.ids[o.op.ID]; twice {
		return a.fault("operationId %q is used twice, first at %s", o.op.ID, first)
	}
	l.ids[o.op.ID] = o.place
	o.settings = l.options.Settings
	if own, ok := l.options.Operations[o.op.ID]; ok {
		o.settings = own
	}
	o.settings.MaxBody = cmp.Or(o.settings.MaxBody, DefaultMaxBody)
	o.settings.Upload.defaults(o.settings.MaxBody)
	for _, t := range a.get("tags").items() {
		o.op.Tags = append(o.op.Tags, t.str())
	}
	var err error
	if o.graphql, err = newGraphQL(o.settings.GraphQL); err != nil {
		return a.fault("%w", err)
	}
	var unknown string
	if o.leaks, unknown = newLeaks(&o.settings); unknown != "" {
		return a.fault("there is no leak rule %q; there are %s", unknown, strings.Join(LeakRules(), ", "))
	}
	if o.segments, err = splitTemplate(o.op.Path); err != nil {
		return a.fault("path %s: %w", template, err)
	}
	if err := l.security(o, a); err != nil {
		return err
	}
	if err := l.parameters(o, template, item, a); err != nil {
		return err
	}
	if err := l.requestBody(o, a.get("requestBody")); err != nil {
		return err
	}
	if l.options.WAF != nil && (o.settings.Rules != Off || o.settings.AnswerRules != Off) {
		o.plan = planOf(o, l.options.WAF)
	}
	if o.settings.Responses != Off {
		if err := l.responsesOf(o, a.get("responses")); err != nil {
			return err
		}
	}
	l.doc.operations = append(l.doc.operations, o)
	return nil
}

// security reads the alternatives. An operation's own list replaces the
// document's, the empty one too: OpenAPI's way to say that nobody need
// authenticate. Whether such an operation is served is for policy to say.
func (l *loader) security(o *Operation, a at) error {
	list := a.get("security")
	if !list.ok() {
		list = l.root.get("security")
	}
	if !list.ok() {
		return nil
	}
	o.op.Security = []gatehouse.Requirement{}
	for _, alternative := range list.items() {
		requirement := gatehouse.Requirement{}
		err := alternative.each(func(name string, scopes at) error {
			use, ok := l.schemes[name]
			if !ok {
				return alternative.fault("security scheme %q is not declared in components.securitySchemes", name)
			}
			for _, s := range scopes.items() {
				use.Scopes = append(use.Scopes, s.str())
			}
			requirement = append(requirement, use)
			return nil
		})
		if err != nil {
			return err
		}
		o.op.Security = append(o.op.Security, requirement)
	}
	return nil
}

// parameters compiles the operation's parameters; those of the Path Item come
// first and give way to the operation's of the same place and name.
func (l *loader) parameters(o *Operation, template string, item, a at) error {
	var list []*param
	for _, source := range []at{item.get("parameters"), a.get("parameters")} {
		level := len(list)
		declared := source.items()
		if len(declared) > maxParams {
			return source.fault("more than %d parameters", maxParams)
		}
		for _, p := range declared {
			p, err := l.files.deref(p)
			if err != nil {
				return err
			}
			compiled, err := l.param(p)
			if err != nil {
				return err
			}
			if compiled == nil {
				continue
			}
			i := slices.IndexFunc(list, func(q *param) bool { return q.In == compiled.In && q.Name == compiled.Name })
			switch {
			case i >= level:
				return p.fault("parameter %s %q is declared twice", compiled.In, compiled.Name)
			case i >= 0:
				list[i] = compiled
			default:
				list = append(list, compiled)
			}
		}
	}
	names := templateNames(template)
	list = slices.DeleteFunc(list, func(p *param) bool {
		if p.In == inPath && !slices.Contains(names, p.Name) {
			l.warn(a, "path parameter %q is not in %s: nothing can be sent for it", p.Name, template)
			return true
		}
		return false
	})
	for _, name := range names {
		i := slices.IndexFunc(list, func(p *param) bool { return p.In == inPath && p.Name == name })
		if i < 0 {
			return a.fault("path parameter {%s} of %s is not declared", name, template)
		}
		o.pathParams = append(o.pathParams, i)
	}
	o.params = list
	for i, p := range list {
		o.op.Params = append(o.op.Params, p.Param)
		switch p.In {
		case inQuery:
			o.queryParams = append(o.queryParams, i)
			if err := l.queryNames(o, a, i, p); err != nil {
				return err
			}
		case inHeader:
			o.headerParams = append(o.headerParams, i)
		case inCookie:
			o.cookieParams = append(o.cookieParams, i)
		}
	}
	return nil
}

// queryNames notes what the names of a query mean. An object in form style is
// spread over the query, so its declared fields are names of their own.
func (l *loader) queryNames(o *Operation, a at, i int, p *param) error {
	names := []string{p.Name}
	fields := []string{""}
	if p.Shape.Kind == gatehouse.ObjectShape && !p.json && (p.style == styleDeep || p.style == styleForm && p.explode) {
		names, fields = names[:0], fields[:0]
		for _, f := range p.Shape.Fields {
			name := f.Name
			if p.style == styleDeep {
				name = p.Name + "[" + f.Name + "]"
			}
			names, fields = append(names, name), append(fields, f.Name)
		}
		switch {
		case p.Shape.Open && p.style == styleDeep:
			if o.openObjects == nil {
				o.openObjects = map[string]queryName{}
			}
			o.openObjects[p.Name] = o.addName("", i, "{}")
		case len(fields) == 0:
			l.warn(a, "query parameter %q is an object without declared properties: nothing can be sent for it", p.Name)
		}
	}
	if o.queryNames == nil {
		o.queryNames = map[string]queryName{}
	}
	for k, name := range names {
		if _, twice := o.queryNames[name]; twice {
			return a.fault("query parameter %q is declared twice", name)
		}
		o.queryNames[name] = o.addName(name, i, fields[k])
	}
	return nil
}

func (o *Operation) addName(name string, param int, field string) queryName {
	q := queryName{param: param, field: field, known: len(o.names), name: name}
	o.names = append(o.names, q)
	return q
}

// param compiles a Parameter Object, once for all operations that refer to it.
// It returns nil for a header that OpenAPI says to ignore.
func (l *loader) param(a at) (*param, error) {
	key := a.location()
	if have, ok := l.params[key]; ok {
		return have, nil
	}
	p := &param{}
	p.Name, p.In = a.get("name").str(), a.get("in").str()
	if p.Name == "" {
		return nil, a.fault("a parameter without a name")
	}
	var err error
	if p.Required, err = a.get("required").boolean(false); err != nil {
		return nil, err
	}
	if p.allowEmpty, err = a.get("allowEmptyValue").boolean(false); err != nil {
		return nil, err
	}
	if p.In == inHeader {
		p.header = http.CanonicalHeaderKey(p.Name)
		switch p.header {
		case "Accept", "Content-Type", "Authorization": // OpenAPI 3.1 §4.8.12.2: described elsewhere
			l.params[key] = nil
			return nil, nil
		}
	}
	p.Required = p.Required || p.In == inPath
	p.allowEmpty = p.allowEmpty && p.In == inQuery
	if err := l.paramStyle(a, p); err != nil {
		return nil, err
	}
	at := a.get("schema")
	if content := a.get("content"); content.ok() {
		if at, err = l.paramContent(p, content); err != nil {
			return nil, err
		}
	}
	if p.schema, err = l.requests.at(at); err != nil {
		return nil, err
	}
	p.Shape = p.schema.shape
	if p.json {
		p.Shape = &gatehouse.Shape{Kind: gatehouse.StringShape} // rules see the canonical text
	}
	if p.style == styleDeep && p.Shape.Kind != gatehouse.ObjectShape {
		return nil, a.fault("parameter %q: deepObject is for objects", p.Name)
	}
	if p.In == inPath && p.Shape.Kind == gatehouse.StringShape && a.get("x-multi-segment").str() == "true" {
		l.warn(a, "path parameter %q may hold '/' (x-multi-segment): OpenAPI has no such parameter; values with '/' are answered 404, or 400 if encoded", p.Name)
	}
	l.params[key] = p
	return p, nil
}

func (l *loader) paramContent(p *param, content at) (schemaAt at, err error) {
	n := 0
	err = content.each(func(name string, v at) error {
		m, ok := parseMedia(name)
		if n++; n > 1 || !ok || m.class() != mediaJSON {
			return v.fault("parameter %q: content must be application/json alone", p.Name)
		}
		schemaAt = v.get("schema")
		return nil
	})
	if err == nil && n == 0 {
		err = content.fault("parameter %q: content is empty", p.Name)
	}
	p.json = true
	return schemaAt, err
}

func (l *loader) paramStyle(a at, p *param) error {
	name := a.get("style").str()
	if name == "" {
		name = map[string]string{inPath: "simple", inHeader: "simple", inQuery: "form", inCookie: "form"}[p.In]
	}
	explode, err := a.get("explode").boolean(name == "form")
	if err != nil {
		return err
	}
	p.explode = explode
	switch p.In + " " + name {
	case "path simple", "header simple":
		p.style = styleSimple
	case "path label":
		p.style = styleLabel
	case "path matrix":
		return a.fault("parameter %q: style matrix is not served: ';' in a path is read in too many ways", p.Name)
	case "query form":
		p.style = styleForm
	case "cookie form", "cookie cookie":
		p.style, p.explode = styleForm, false
	case "query spaceDelimited":
		p.style, p.explode = styleSpace, false
	case "query pipeDelimited":
		p.style, p.explode = stylePipe, false
	case "query deepObject":
		p.style = styleDeep
	default:
		return a.fault("parameter %q: in %q with style %q; expected in path, query, header or cookie and a style OpenAPI allows there", p.Name, p.In, name)
	}
	return nil
}
