package jsonschema

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A document is one tree given to AddResource.
type document struct {
	uri  string
	root any
}

// A resource is a schema with a URI of its own (2020-12 §4.3.5): a document's
// root, or a subschema with $id.
type resource struct {
	uri     string // without fragment
	at      place
	dialect Dialect
	meta    string            // $schema, when it is none of the published ones
	ignore  vocabulary        // vocabularies its meta-schema leaves out
	formats bool              // its meta-schema has formats asserted
	settled bool              // ignore and formats have been worked out
	anchors map[string]string // name → pointer in the document
	dynamic map[string]string // $dynamicAnchor name → pointer; "" for $recursiveAnchor
	nodes   map[string]*node  // the compiled schemas of dynamic
}

type vocabulary uint8

const vocabularyValidation vocabulary = 1

// A place is a schema's address: the document and the JSON Pointer in it.
type place struct {
	doc *document
	ptr string
}

func (p place) String() string { return p.doc.uri + "#" + p.ptr }

func (p place) child(token string) place {
	if strings.ContainsAny(token, "~/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
	}
	return place{p.doc, p.ptr + "/" + token}
}

func dialectOf(schema string) (Dialect, bool) {
	switch strings.TrimSuffix(schema, "#") {
	case "https://json-schema.org/draft/2020-12/schema",
		"https://spec.openapis.org/oas/3.1/dialect/base", "https://spec.openapis.org/oas/3.1/dialect/2024-11-10":
		return Draft202012, true
	case "https://json-schema.org/draft/2019-09/schema":
		return Draft201909, true
	case "http://json-schema.org/draft-07/schema", "https://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema":
		return Draft7, true
	case "http://json-schema.org/draft-04/schema", "https://json-schema.org/draft-04/schema":
		return Draft4, true
	}
	return 0, false
}

// AddResource gives the compiler a document: a schema, or anything that holds
// schemas, such as an OpenAPI document. uri is its absolute URI or file name,
// without fragment. doc is a decoded tree of map[string]any, []any, string,
// bool, nil and json.Number, float64, int or int64; it must not change afterwards.
// Nothing is ever loaded from the network.
func (c *Compiler) AddResource(uri string, doc any) error {
	uri, frag, _ := strings.Cut(uri, "#")
	if frag != "" {
		return fmt.Errorf("jsonschema: a document's URI has no fragment: %q", uri+"#"+frag)
	}
	if _, ok := c.resources[uri]; ok {
		return fmt.Errorf("jsonschema: %q has been added before", uri)
	}
	d := &document{uri: uri, root: doc}
	res := &resource{uri: uri, at: place{d, ""}, dialect: c.opts.Dialect}
	c.resources[uri] = res
	c.roots[res.at] = res
	tree, _ := doc.(map[string]any)
	if _, openapi := tree["openapi"].(string); openapi {
		if s, ok := tree["jsonSchemaDialect"].(string); ok && c.opts.Dialect != OpenAPI30 {
			c.setDialect(res, s)
		}
		components, _ := tree["components"].(map[string]any)
		schemas, _ := components["schemas"].(map[string]any)
		at := res.at.child("components").child("schemas")
		for _, name := range slices.Sorted(maps.Keys(schemas)) {
			if err := c.index(schemas[name], at.child(name), res); err != nil {
				return err
			}
		}
		return nil
	}
	return c.index(doc, res.at, res)
}

func (c *Compiler) setDialect(res *resource, schema string) {
	if d, ok := dialectOf(schema); ok {
		res.dialect, res.meta = d, ""
		return
	}
	res.meta = schema
}

// Keywords whose values are schemas.
var (
	schemaKeywords = []string{
		"additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems", "propertyNames",
		"items", "contains", "not", "if", "then", "else", "contentSchema",
	}
	schemaListKeywords = []string{"allOf", "anyOf", "oneOf", "prefixItems", "items"}
	schemaMapKeywords  = []string{"properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "dependencies"}
)

// index finds $id and anchors in the schema at pl and below.
func (c *Compiler) index(schema any, pl place, res *resource) error {
	if c.indexed[pl] {
		return nil
	}
	m, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	c.indexed[pl] = true
	res, err := c.identify(m, pl, res)
	if err != nil {
		return err
	}
	if _, hasRef := m["$ref"]; hasRef && refAlone(res.dialect) {
		return nil
	}
	for _, k := range schemaKeywords {
		if err := c.index(m[k], pl.child(k), res); err != nil {
			return err
		}
	}
	for _, k := range schemaListKeywords {
		list, _ := m[k].([]any)
		for i, s := range list {
			if err := c.index(s, pl.child(k).child(strconv.Itoa(i)), res); err != nil {
				return err
			}
		}
	}
	for _, k := range schemaMapKeywords {
		sub, _ := m[k].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(sub)) {
			if err := c.index(sub[name], pl.child(k).child(name), res); err != nil {
				return err
			}
		}
	}
	return nil
}

// identify reads $schema, $id and anchors of one schema object and returns the
// resource it belongs to.
func (c *Compiler) identify(m map[string]any, pl place, res *resource) (*resource, error) {
	root := c.roots[pl] != nil
	dialect := res.dialect
	if s, ok := m["$schema"].(string); ok {
		if d, ok := dialectOf(s); ok {
			dialect = d
		}
	}
	idKey := "$id"
	if dialect == OpenAPI30 {
		return res, nil // OpenAPI 3.0 knows neither ids nor anchors
	}
	if dialect == Draft4 {
		idKey = "id"
	}
	id, _ := m[idKey].(string)
	if _, hasRef := m["$ref"]; hasRef && refAlone(dialect) {
		id = "" // a $ref hides its siblings, the id too
	}
	uri, frag, _ := strings.Cut(id, "#")
	if uri != "" {
		abs, err := resolveURI(res.uri, uri)
		if err != nil {
			return nil, fmt.Errorf("jsonschema: %s: %s: %w", pl, idKey, err)
		}
		if old, taken := c.resources[abs]; taken && old.at != pl {
			return nil, fmt.Errorf("jsonschema: %s: %s %q is taken by %s", pl, idKey, abs, old.at)
		}
		if root {
			res.uri = abs
		} else {
			res = &resource{uri: abs, at: pl, dialect: dialect, meta: res.meta}
		}
		c.resources[abs] = res
		c.roots[pl] = res
		root = true
	}
	if s, ok := m["$schema"].(string); ok && root {
		c.setDialect(res, s)
	}
	anchor := func(into *map[string]string, name string) {
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[name] = pl.ptr
	}
	if frag != "" && (dialect == Draft4 || dialect == Draft7) {
		anchor(&res.anchors, frag)
	}
	if dialect == Draft202012 || dialect == Draft201909 {
		if a, ok := m["$anchor"].(string); ok {
			anchor(&res.anchors, a)
		}
		if a, ok := m["$dynamicAnchor"].(string); ok {
			anchor(&res.anchors, a)
			anchor(&res.dynamic, a)
		}
		if on, _ := m["$recursiveAnchor"].(bool); on {
			anchor(&res.dynamic, "")
		}
	}
	return res, nil
}

// refAlone reports whether a $ref hides the keywords beside it.
func refAlone(d Dialect) bool { return d == Draft4 || d == Draft7 || d == OpenAPI30 }

func resolveURI(base, ref string) (string, error) {
	u, err := url.Parse(ref)
	if err != nil {
		return "", err
	}
	if u.IsAbs() || base == "" {
		return ref, nil
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	if b.Scheme == "" && !strings.HasPrefix(ref, "/") {
		return path.Join(path.Dir(base), ref), nil // file names
	}
	return b.ResolveReference(u).String(), nil
}

// locate resolves a reference seen in resource res to a place and the resource
// that place belongs to.
func (c *Compiler) locate(res *resource, ref string) (place, *resource, error) {
	uri, frag, _ := strings.Cut(ref, "#")
	target := res
	if uri != "" {
		abs, err := resolveURI(res.uri, uri)
		if err != nil {
			return place{}, nil, fmt.Errorf("reference %q: %w", ref, err)
		}
		var ok bool
		if target, ok = c.resources[abs]; !ok {
			return place{}, nil, fmt.Errorf("reference %q: no document %q was given; nothing is loaded from the network", ref, abs)
		}
	}
	frag, err := url.PathUnescape(frag)
	if err != nil {
		return place{}, nil, fmt.Errorf("reference %q: %w", ref, err)
	}
	if frag == "" {
		return target.at, target, nil
	}
	if !strings.HasPrefix(frag, "/") {
		ptr, ok := target.anchors[frag]
		if !ok {
			return place{}, nil, fmt.Errorf("reference %q: %s has no anchor %q", ref, target.at, frag)
		}
		return place{target.at.doc, ptr}, target, nil
	}
	pl := place{target.at.doc, target.at.ptr + frag}
	_, owner, err := c.lookup(pl)
	if err != nil {
		return place{}, nil, fmt.Errorf("reference %q: %w", ref, err)
	}
	return pl, owner, nil
}

// lookup walks a document to pl. It returns what is there and the innermost
// resource on the way.
func (c *Compiler) lookup(pl place) (any, *resource, error) {
	v, at := pl.doc.root, place{pl.doc, ""}
	owner := c.roots[at]
	if pl.ptr == "" {
		return v, owner, nil
	}
	for token := range strings.SplitSeq(pl.ptr[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		at = at.child(token)
		ok := false
		switch t := v.(type) {
		case map[string]any:
			v, ok = t[token]
		case []any:
			if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(t) {
				v, ok = t[i], true
			}
		}
		if !ok {
			return nil, nil, fmt.Errorf("%s does not exist", at)
		}
		if res, found := c.roots[at]; found {
			owner = res
		}
	}
	return v, owner, nil
}

// settle works out which vocabularies the resource's meta-schema leaves out
// (2020-12 §8.1.2). An unknown meta-schema is an error: its rules would be guessed.
func (c *Compiler) settle(res *resource) error {
	if res.settled {
		return nil
	}
	res.settled = true
	if res.meta == "" {
		return nil
	}
	meta, ok := c.resources[strings.TrimSuffix(res.meta, "#")]
	if !ok {
		return fmt.Errorf("jsonschema: %s: $schema %q is not known", res.at, res.meta)
	}
	res.dialect = meta.dialect
	v, _, err := c.lookup(meta.at)
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any)
	vocab, ok := m["$vocabulary"].(map[string]any)
	if !ok {
		return nil
	}
	res.ignore = vocabularyValidation
	for _, uri := range slices.Sorted(maps.Keys(vocab)) {
		required, _ := vocab[uri].(bool)
		switch name := uri[strings.LastIndexByte(uri, '/')+1:]; {
		case name == "validation":
			res.ignore = 0
		case name == "format-assertion":
			res.formats = true
		case slices.Contains([]string{"core", "applicator", "unevaluated", "meta-data", "format-annotation", "content"}, name) &&
			strings.HasPrefix(uri, "https://json-schema.org/"):
		case required:
			return fmt.Errorf("jsonschema: %s: $schema %q requires the vocabulary %q, which is not known", res.at, res.meta, uri)
		}
	}
	return nil
}
