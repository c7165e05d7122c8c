package validate

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A partsForm says what the parts of a multipart/form-data body may be: each
// property of the schema is one (OpenAPI 3.1 §4.8.14.4).
type partsForm struct {
	fields   map[string]*partField
	other    *partField // names that an open schema does not know
	anything *schema    // of parts that are JSON, before the whole is judged
}

// A partField is one property.
type partField struct {
	file    bool
	either  bool // a schema that says nothing: a file if it has a file's name
	json    bool
	list    bool // may come more than once
	types   fileTypes
	need    bool // required
	least   int  // minItems of a list of files
	min     int  // characters of a file's placeholder: minLength
	max     int64
	headers []*param
}

// maxPlaceholder bounds what stands for a file where the schema is asked.
const maxPlaceholder = 4096

func (l *loader) partsForm(v at, s *schema) (*partsForm, error) {
	anything, err := l.requests.at(at{})
	if err != nil {
		return nil, err
	}
	p := &partsForm{fields: map[string]*partField{}, anything: anything}
	if s.shape.Kind == gatehouse.AnyShape || s.shape.Open {
		p.other = &partField{either: true, max: -1}
	}
	properties := map[string]at{}
	if err := l.properties(v.get("schema"), properties, 0); err != nil {
		return nil, err
	}
	for name, schemaAt := range properties {
		f, err := l.partField(schemaAt, s.shape.Field(name))
		if err != nil {
			return nil, err
		}
		f.need = slices.ContainsFunc(s.shape.Fields, func(m gatehouse.Field) bool { return m.Name == name && m.Required })
		p.fields[name] = f
	}
	err = v.get("encoding").each(func(name string, e at) error {
		f := p.fields[name]
		if f == nil {
			l.warn(e, "encoding of %q: the schema has no such property; it is not looked at", name)
			return nil
		}
		return l.partEncoding(f, name, e)
	})
	return p, err
}

// properties collects the properties of a schema and of all it always includes.
func (l *loader) properties(a at, into map[string]at, depth int) error {
	a, err := l.files.deref(a)
	if err != nil || !a.ok() {
		return err
	}
	if depth > 16 {
		return a.fault("the schema of a form includes itself, or too many others")
	}
	err = a.get("properties").each(func(name string, v at) error {
		v, err := l.files.deref(v)
		if _, have := into[name]; !have {
			into[name] = v
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range [...]string{"allOf", "anyOf", "oneOf"} {
		for _, v := range a.get(key).items() {
			if err := l.properties(v, into, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) partField(a at, shape *gatehouse.Shape) (*partField, error) {
	f := &partField{max: -1}
	if shape != nil && shape.Kind == gatehouse.ArrayShape {
		f.list = true
		f.least, _ = strconv.Atoi(a.get("minItems").str()) // how often a file is expected; the schema judges it in the end
		shape = itemsOf(shape)
		var err error
		if a, err = l.files.deref(a.get("items")); err != nil {
			return nil, err
		}
	}
	kind := a.get("type").str()
	switch {
	case shape != nil && (shape.Kind == gatehouse.ObjectShape || shape.Kind == gatehouse.ArrayShape):
		f.json = true
	case (kind == "string" || kind == "" && shape != nil && shape.Kind == gatehouse.StringShape) && a.get("format").str() == "binary",
		a.get("contentMediaType").ok() && !a.get("contentEncoding").ok():
		f.file = true
	case a.n == nil || len(a.n.Content) == 0: // {}: OpenAPI 3.1's way to say bytes
		f.either = true
	}
	if name := a.get("contentMediaType").str(); name != "" && f.file {
		if err := f.setTypes(a, name); err != nil {
			return nil, err
		}
	}
	if f.file {
		if n, err := strconv.ParseInt(a.get("maxLength").str(), 10, 64); err == nil && n >= 0 {
			f.max = n
		}
		if n, err := strconv.Atoi(a.get("minLength").str()); err == nil && n > 0 {
			f.min = min(n, maxPlaceholder)
			if n > maxPlaceholder {
				return nil, a.fault("minLength of a file may be at most %d here", maxPlaceholder)
			}
		}
		for _, key := range [...]string{"pattern", "enum", "const"} {
			if a.get(key).ok() {
				return nil, a.fault("%s of a file: its content is not held against a schema; leave it out", key)
			}
		}
	}
	return f, nil
}

func (f *partField) setTypes(a at, list string) error {
	f.types = nil
	for name := range strings.SplitSeq(list, ",") {
		m, ok := parseMedia(strings.Trim(name, " \t"))
		if !ok {
			return a.fault("%q is not a media type", name)
		}
		f.types = append(f.types, m)
	}
	return nil
}

// partEncoding reads an Encoding Object (OpenAPI 3.1 §4.8.15).
func (l *loader) partEncoding(f *partField, name string, e at) error {
	if types := e.get("contentType").str(); types != "" {
		if err := f.setTypes(e, types); err != nil {
			return err
		}
		all := func(class mediaKind) bool {
			return !slices.ContainsFunc(f.types, func(m media) bool { return m.class() != class })
		}
		switch {
		case f.file:
		case all(mediaJSON):
			f.json, f.either = true, false
		case f.json:
			return e.fault("contentType %q of part %q: an object can be sent as JSON only", types, name)
		case f.either:
			f.file, f.either = true, false
		case slices.ContainsFunc(f.types, func(m media) bool { return m.kind != "text" }):
			l.warn(e, "contentType %q of part %q: it is text in the schema; it is taken as text of any of these types", types, name)
		}
	}
	for _, key := range [...]string{"style", "explode", "allowReserved"} {
		if e.get(key).ok() {
			l.warn(e, "encoding of part %q: %s is not looked at; arrays are repeated parts, objects JSON", name, key)
		}
	}
	return e.get("headers").each(func(header string, v at) error {
		v, err := l.files.deref(v)
		if err != nil {
			return err
		}
		p := &param{header: http.CanonicalHeaderKey(header)}
		p.Name, p.In = header, inHeader
		switch p.header {
		case "Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "Content-Length":
			return nil
		}
		if p.Required, err = v.get("required").boolean(false); err != nil {
			return err
		}
		if p.schema, err = l.requests.at(v.get("schema")); err != nil {
			return err
		}
		p.Shape = p.schema.shape
		f.headers = append(f.headers, p)
		return nil
	})
}
