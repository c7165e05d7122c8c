package scim

import (
	"maps"
	"slices"
	"strings"
)

const maxOperations = 1000

// An operation is one change of a PATCH (RFC 7644 §3.5.2).
type operation struct {
	op    string
	path  string
	value any
}

// operations reads the body of a PATCH.
func operations(body map[string]any) ([]operation, error) {
	var list []any
	for name, v := range body {
		switch {
		case strings.EqualFold(name, "Operations"):
			l, ok := v.([]any)
			if !ok || list != nil {
				return nil, bad("invalidSyntax", "Operations is one list.")
			}
			list = l
		case strings.EqualFold(name, "schemas"):
			if l, ok := v.([]any); !ok || !slices.Contains(l, any(patchURN)) {
				return nil, bad("invalidSyntax", "schemas contains %s.", patchURN)
			}
		}
	}
	if len(list) == 0 || len(list) > maxOperations {
		return nil, bad("invalidSyntax", "A patch has 1 to %d Operations.", maxOperations)
	}
	out := make([]operation, len(list))
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			return nil, bad("invalidSyntax", "An operation is an object.")
		}
		o := &out[i]
		for name, v := range m {
			switch strings.ToLower(name) {
			case "op":
				s, _ := v.(string)
				o.op = strings.ToLower(s) // Entra writes "Replace"
			case "path":
				s, ok := v.(string)
				if !ok && v != nil {
					return nil, bad("invalidPath", "A path is a text.")
				}
				o.path = s
			case "value":
				o.value = v
			}
		}
		switch {
		case o.op != "add" && o.op != "replace" && o.op != "remove":
			return nil, bad("invalidSyntax", "op is add, replace or remove.")
		case o.op == "remove" && o.path == "":
			return nil, bad("noTarget", "remove needs a path.")
		case o.op == "add" && o.value == nil:
			return nil, bad("invalidValue", "add needs a value.")
		}
	}
	return out, nil
}

// patch applies all operations to resource, or returns a fault; the caller throws
// resource away then.
func (rt *resourceType) patch(resource map[string]any, list []operation) error {
	for _, o := range list {
		if o.path != "" {
			t, err := rt.parsePath(o.path)
			if err != nil {
				return err
			}
			if err := t.apply(resource, o.op, o.value); err != nil {
				return err
			}
			continue
		}
		object, ok := o.value.(map[string]any)
		if !ok {
			return bad("invalidValue", "Without a path the value is an object.")
		}
		if err := rt.spread(resource, o.op, object); err != nil {
			return err
		}
	}
	return rt.required(resource)
}

// spread applies a patch without path: its value's names are attributes, or, as
// Entra and Okta write them, whole paths. As in a PUT, what is unknown or read-only
// is left out. Two names of one place are refused: their order is not known.
func (rt *resourceType) spread(resource map[string]any, op string, object map[string]any) error {
	seen := map[string]bool{}
	names := make([]string, 0, len(object))
	for name := range object {
		folded := strings.ToLower(name)
		if seen[folded] {
			return bad("invalidSyntax", "An attribute is there twice, in different cases.")
		}
		seen[folded] = true
		names = append(names, name)
	}
	slices.Sort(names) // "name" before "name.givenName"
	for _, name := range names {
		if i := slices.IndexFunc(rt.extensions, func(x *schema) bool { return strings.EqualFold(x.urn, name) }); i >= 0 {
			values, ok := object[name].(map[string]any)
			if !ok {
				return bad("invalidValue", "%s is an object.", rt.extensions[i].urn)
			}
			for sub, v := range values {
				if err := rt.spread(resource, op, map[string]any{rt.extensions[i].urn + ":" + sub: v}); err != nil {
					return err
				}
			}
			continue
		}
		t, err := rt.parsePath(name)
		if err != nil || t.at.readOnly() {
			continue
		}
		if err := t.apply(resource, op, object[name]); err != nil {
			return err
		}
	}
	return nil
}

// A target is what a path leads to.
type target struct {
	at    place
	where filter // nil: every value
}

// parsePath reads attribute, attribute.sub, attribute[filter] and
// attribute[filter].sub (RFC 7644 §3.5.2, PATH).
func (rt *resourceType) parsePath(s string) (*target, error) {
	invalid := bad("invalidPath", "There is no such path in a %s.", rt.name)
	if len(s) > maxFilter {
		return nil, invalid
	}
	p := &parser{rt: rt, in: s}
	at, ok := rt.place(p.name())
	if !ok {
		return nil, invalid
	}
	t := &target{at: at}
	if p.pos < len(s) && s[p.pos] == '[' {
		where, sub, err := p.brackets(at)
		if err != nil {
			return nil, err
		}
		t.where, t.at.sub = where, sub
	}
	if p.pos != len(s) || at.attr == nil {
		return nil, invalid
	}
	return t, nil
}

func (t *target) apply(resource map[string]any, op string, value any) error {
	a := t.at.attr
	if t.at.readOnly() {
		return bad("mutability", "%s is read-only.", t.at.leaf().name)
	}
	in := t.at.in(resource)
	if in == nil {
		if op == "remove" {
			return nil
		}
		in = map[string]any{}
		resource[t.at.extension] = in
	}
	var err error
	switch {
	case op == "remove" && a.many:
		in[a.name], err = t.removeValues(in[a.name], value)
	case op == "remove" && t.at.sub != nil:
		if m, ok := in[a.name].(map[string]any); ok {
			delete(m, t.at.sub.name)
		}
	case op == "remove":
		delete(in, a.name)
	case a.many:
		in[a.name], err = t.setValues(in[a.name], op, value)
	default:
		in[a.name], err = t.setOne(in[a.name], value)
	}
	switch v := in[a.name].(type) {
	case nil:
		delete(in, a.name)
	case []any:
		if len(v) == 0 {
			delete(in, a.name)
		}
	case map[string]any:
		if len(v) == 0 {
			delete(in, a.name)
		}
	}
	if t.at.extension != "" && len(in) == 0 {
		delete(resource, t.at.extension)
	}
	return err
}

// setOne writes a singular attribute: of a complex one only what value names.
func (t *target) setOne(old, value any) (any, error) {
	a := t.at.attr
	if t.at.sub == nil {
		v, err := a.value(value)
		if err != nil || a.kind != complexKind || v == nil {
			return v, err
		}
		return merge(old, v), nil
	}
	v, err := t.at.sub.value(value)
	if err != nil {
		return nil, err
	}
	m, _ := old.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	put(m, t.at.sub.name, v)
	return m, nil
}

func merge(old, v any) any {
	m, ok := old.(map[string]any)
	more, okToo := v.(map[string]any)
	if !ok || !okToo {
		return v
	}
	maps.Copy(m, more)
	return m
}

func put(m map[string]any, name string, v any) {
	if v == nil {
		delete(m, name)
	} else {
		m[name] = v
	}
}

// setValues adds to, or replaces, the values of a multi-valued attribute.
func (t *target) setValues(old any, op string, value any) (any, error) {
	a := t.at.attr
	list, _ := old.([]any)
	if t.where == nil && t.at.sub == nil {
		v, err := a.value(value)
		if err != nil || op == "replace" {
			return v, err
		}
		more, _ := v.([]any)
		return t.join(list, more)
	}
	one := a.one // what a matching value becomes
	if t.at.sub != nil {
		one = t.at.sub.value
	}
	v, err := one(value)
	if err != nil {
		return nil, err
	}
	changed := []any{}
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok || t.where != nil && !t.where.match(m) {
			continue
		}
		switch {
		case t.at.sub != nil:
			put(m, t.at.sub.name, v)
		case op == "replace":
			list[i] = clone(v)
		default:
			list[i] = merge(m, v)
		}
		changed = append(changed, list[i])
	}
	if len(changed) == 0 {
		if op == "replace" && t.where != nil {
			return nil, bad("noTarget", "No value of %s matches the path.", a.name)
		}
		m := wanted(t.where)
		if t.at.sub != nil {
			put(m, t.at.sub.name, v)
		} else {
			m, _ = merge(m, v).(map[string]any)
		}
		return t.join(list, []any{m})
	}
	return t.primary(slices.DeleteFunc(list, empty), changed)
}

// wanted is a value that a filter of equalities describes: Entra adds
// emails[type eq "work"].value where there is none yet.
func wanted(f filter) map[string]any {
	switch f := f.(type) {
	case both:
		m := wanted(f.a)
		maps.Copy(m, wanted(f.b))
		return m
	case comparison:
		if f.op == "eq" && f.value != nil && !f.at.readOnly() {
			return map[string]any{f.at.attr.name: f.value}
		}
	}
	return map[string]any{}
}

// join appends those of more that are not in list.
func (t *target) join(list, more []any) (any, error) {
	var added []any
	known := map[string]bool{} // of members there may be many
	if t.at.attr.name == "members" {
		for _, e := range list {
			known[valueOf(e)] = true
		}
	}
	for _, e := range more {
		id := valueOf(e)
		switch {
		case t.at.attr.name == "members" && known[id]:
		case t.at.attr.name != "members" && slices.ContainsFunc(list, func(o any) bool { return same(o, e) }):
		default:
			known[id] = true
			list, added = append(list, e), append(added, e)
		}
	}
	if t.at.attr.name != "members" && len(list) > maxValues {
		return nil, bad("invalidValue", "%s has at most %d values.", t.at.attr.name, maxValues)
	}
	return t.primary(list, added)
}

// primary takes primary from the others when one of changed has got it (RFC 7644 §3.5.2).
func (t *target) primary(list, changed []any) (any, error) {
	switch primaries(changed) {
	case 0:
		return list, nil
	case 1:
	default:
		return nil, bad("invalidValue", "Only one of %s is primary.", t.at.attr.name)
	}
	i := slices.IndexFunc(changed, func(e any) bool { return primaries([]any{e}) == 1 })
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && !same(e, changed[i]) {
			delete(m, "primary")
		}
	}
	return list, nil
}

// removeValues removes the values that match; of members, also those that value
// lists, as Entra has it: without a look at it all would go.
func (t *target) removeValues(old, value any) (any, error) {
	list, _ := old.([]any)
	if t.where == nil && t.at.sub == nil {
		if value == nil {
			return nil, nil
		}
		listed, err := t.at.attr.value(value)
		if err != nil {
			return nil, err
		}
		gone := map[string]bool{}
		ids, _ := listed.([]any)
		for _, e := range ids {
			gone[valueOf(e)] = true
		}
		return slices.DeleteFunc(list, func(e any) bool { return gone[valueOf(e)] }), nil
	}
	return slices.DeleteFunc(list, func(e any) bool {
		m, ok := e.(map[string]any)
		if !ok || t.where != nil && !t.where.match(m) {
			return false
		}
		if t.at.sub == nil {
			return true
		}
		delete(m, t.at.sub.name)
		return len(m) == 0
	}), nil
}

func valueOf(e any) string {
	m, _ := e.(map[string]any)
	s, _ := m["value"].(string)
	return s
}

func empty(e any) bool {
	m, ok := e.(map[string]any)
	return e == nil || ok && len(m) == 0
}
