package scim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxText   = 2 << 10 // bytes of one text
	maxValues = 200     // of a multi-valued attribute of a user
)

// resource brings JSON from a client to the names and types of the schemas. What
// is unknown or read-only is left out (RFC 7644 §3.3).
func (rt *resourceType) resource(in map[string]any) (map[string]any, error) {
	own := map[string]any{}
	out := map[string]any{}
	for name, v := range in {
		if i := slices.IndexFunc(rt.extensions, func(x *schema) bool { return strings.EqualFold(x.urn, name) }); i >= 0 {
			x := rt.extensions[i]
			object, ok := v.(map[string]any)
			if !ok && v != nil {
				return nil, bad("invalidValue", "%s is an object.", x.urn)
			}
			if out[x.urn] != nil {
				return nil, bad("invalidSyntax", "%s is there twice.", x.urn)
			}
			values, err := fields(x.attributes, object)
			if err != nil {
				return nil, err
			}
			if len(values) > 0 {
				out[x.urn] = values
			}
			continue
		}
		if rest, found := cutFold(name, rt.core.urn); found && rest != "" {
			name = rest
		}
		own[name] = v
	}
	values, err := fields(append(common(), rt.core.attributes...), own)
	if err != nil {
		return nil, err
	}
	maps.Copy(out, values)
	return out, nil
}

// fields brings one JSON object to attributes. Two spellings of one name are
// refused: who looked at one of them has not seen the other.
func fields(attributes []attribute, in map[string]any) (map[string]any, error) {
	out := map[string]any{}
	seen := map[string]bool{}
	for name, v := range in {
		a := find(attributes, name)
		if a == nil || a.readOnly {
			continue
		}
		if seen[a.name] {
			return nil, bad("invalidSyntax", "%s is there twice, in different cases.", a.name)
		}
		seen[a.name] = true
		value, err := a.value(v)
		if err != nil {
			return nil, err
		}
		if value != nil {
			out[a.name] = value
		}
	}
	return out, nil
}

// value brings v to a's type; nil is unassigned, as are null, "" and [] (RFC 7643
// §2.5).
func (a *attribute) value(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	if !a.many {
		if list, ok := v.([]any); ok && a.kind == complexKind && len(list) == 1 {
			v = list[0] // Entra sends the manager so
		}
		return a.one(v)
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v} // a list of one, said shortly
	}
	out := make([]any, 0, len(list))
	for _, e := range list {
		one, err := a.one(e)
		if err != nil {
			return nil, err
		}
		if one != nil {
			out = append(out, one)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	if a.name != "members" && len(out) > maxValues {
		return nil, bad("invalidValue", "%s has at most %d values.", a.name, maxValues)
	}
	if primaries(out) > 1 {
		return nil, bad("invalidValue", "Only one of %s is primary.", a.name)
	}
	return out, nil
}

func (a *attribute) one(v any) (any, error) {
	switch a.kind {
	case text, reference: // below
	case complexKind:
		if s, ok := v.(string); ok && find(a.sub, "value") != nil {
			if s == "" {
				return nil, nil
			}
			v = map[string]any{"value": s}
		}
		object, ok := v.(map[string]any)
		if !ok {
			return nil, bad("invalidValue", "%s is an object.", a.name)
		}
		out, err := fields(a.sub, object)
		if err != nil || len(out) == 0 {
			return nil, err
		}
		return out, nil
	case boolean:
		switch v := v.(type) {
		case bool:
			return v, nil
		case string: // Entra sends "False"
			if strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
				return strings.EqualFold(v, "true"), nil
			}
		}
		return nil, bad("invalidValue", "%s is true or false.", a.name)
	case moment:
		s, _ := v.(string)
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			return nil, bad("invalidValue", "%s is a time like 2026-11-23T15:04:05Z.", a.name)
		}
		return s, nil
	}
	s, ok := v.(string)
	if !ok || len(s) > maxText || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return nil, bad("invalidValue", "%s is a text of at most %d bytes.", a.name, maxText)
	}
	if s == "" {
		return nil, nil
	}
	return s, nil
}

func primaries(list []any) (n int) {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m["primary"] == true {
			n++
		}
	}
	return n
}

// required refuses a resource that lacks what it must have.
func (rt *resourceType) required(resource map[string]any) error {
	for _, a := range rt.core.attributes {
		if a.required && resource[a.name] == nil {
			return bad("invalidValue", "%s is required.", a.name)
		}
	}
	return nil
}

// clone copies a JSON value: patches change copies.
func clone[T any](v T) T { c, _ := deep(any(v)).(T); return c }

func deep(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, e := range v {
			out[name] = deep(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deep(e)
		}
		return out
	}
	return v
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

// project leaves what attributes or excluded ask for (RFC 7644 §3.9). The client
// names one of them; what is always returned stays.
func (rt *resourceType) project(resource map[string]any, attributes, excluded string) (map[string]any, error) {
	if attributes != "" && excluded != "" {
		return nil, bad("invalidValue", "attributes and excludedAttributes exclude each other.")
	}
	if attributes == "" && excluded == "" {
		return resource, nil
	}
	out := map[string]any{}
	if excluded != "" {
		out = clone(resource)
	}
	for name := range strings.SplitSeq(attributes+excluded, ",") {
		p, ok := rt.place(strings.TrimSpace(name))
		if !ok {
			continue // of a schema we do not have
		}
		if excluded != "" {
			p.drop(out)
		} else {
			p.keep(resource, out)
		}
	}
	out["schemas"], out["id"] = resource["schemas"], resource["id"]
	return out, nil
}

func (p place) keep(from, to map[string]any) {
	if p.attr == nil {
		if x, ok := from[p.extension]; ok {
			to[p.extension] = x
		}
		return
	}
	v, ok := p.in(from)[p.attr.name]
	if !ok {
		return
	}
	if p.extension != "" {
		x, _ := to[p.extension].(map[string]any)
		if x == nil {
			x = map[string]any{}
			to[p.extension] = x
		}
		to = x
	}
	if p.sub == nil {
		to[p.attr.name] = v
		return
	}
	to[p.attr.name] = only(v, to[p.attr.name], p.sub.name)
}

// only returns the sub-attribute of v, or of each of its values, added to what has
// been kept of them.
func only(v, kept any, sub string) any {
	switch v := v.(type) {
	case map[string]any:
		out, _ := kept.(map[string]any)
		if out == nil {
			out = map[string]any{}
		}
		if s, ok := v[sub]; ok {
			out[sub] = s
		}
		return out
	case []any:
		had, _ := kept.([]any)
		out := make([]any, len(v))
		for i, e := range v {
			var k any
			if i < len(had) {
				k = had[i]
			}
			out[i] = only(e, k, sub)
		}
		return out
	}
	return nil
}

func (p place) drop(from map[string]any) {
	if p.attr == nil {
		delete(from, p.extension)
		return
	}
	m := p.in(from)
	if p.sub == nil {
		delete(m, p.attr.name)
		return
	}
	switch v := m[p.attr.name].(type) {
	case map[string]any:
		delete(v, p.sub.name)
	case []any:
		for _, e := range v {
			if e, ok := e.(map[string]any); ok {
				delete(e, p.sub.name)
			}
		}
	}
}

func etag(version int64) string { return fmt.Sprintf(`W/"%d"`, version) }
