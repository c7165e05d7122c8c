package jsonschema

import (
	"maps"
	"slices"
	"strings"
)

// build reads every keyword the dialect knows; others are annotations.
func (b *builder) build() {
	n := b.n
	switch b.c.opts.Direction {
	case Request:
		n.hidden, _ = b.m["readOnly"].(bool)
	case Response:
		n.hidden, _ = b.m["writeOnly"].(bool)
	case Undirected:
	}
	n.secret = b.m["writeOnly"] == true || b.m["format"] == "password"
	if ref, ok := b.text("$ref"); ok {
		n.ref = b.reference("$ref", ref)
		if refAlone(b.dialect) {
			n.hidden, n.secret = false, false
			return
		}
	}
	if b.validation {
		b.types()
		b.constants()
		b.numbers()
		b.strings()
	}
	b.format()
	b.arrays()
	b.objects()
	b.combine()
	b.unevaluated()
}

// draft reports whether the dialect is one of ds.
func (b *builder) draft(ds ...Dialect) bool { return slices.Contains(ds, b.dialect) }

func (b *builder) reference(k, ref string) *node {
	if b.err != nil {
		return nil
	}
	pl, _, err := b.c.locate(b.n.res, ref)
	if err != nil {
		b.fail(k, "%w", err)
		return nil
	}
	n, err := b.c.node(pl)
	if err != nil {
		b.err = err
	}
	return n
}

func (b *builder) types() {
	v, ok := b.m["type"]
	if !ok {
		return
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, t := range list {
		switch t {
		case "null":
			b.n.types |= typeNull
		case "boolean":
			b.n.types |= typeBool
		case "number":
			b.n.types |= typeNumber
		case "integer":
			b.n.types |= typeInteger
		case "string":
			b.n.types |= typeString
		case "array":
			b.n.types |= typeArray
		case "object":
			b.n.types |= typeObject
		default:
			b.fail("type", "%q is none of null, boolean, object, array, number, integer, string", t)
		}
	}
	if len(list) == 0 {
		b.fail("type", "must name at least one type")
	}
	if b.draft(OpenAPI30) && b.boolean("nullable") {
		b.n.types |= typeNull // OpenAPI 3.0.4 §4.7.24: only beside type
	}
}

func (b *builder) constants() {
	if v, ok := b.m["enum"]; ok {
		list, ok := v.([]any)
		if !ok {
			b.fail("enum", "must be an array, not %s", typeName(v))
			return
		}
		b.n.constant = make([]fixed, 0, len(list))
		allStrings := true
		for _, it := range list {
			f := b.fixedValue("enum", it)
			b.n.constant = append(b.n.constant, f)
			allStrings = allStrings && len(f.cells) > 0 && f.cells[0].kind == kindString
		}
		if allStrings {
			words := make(map[string]bool, len(list))
			for _, f := range b.n.constant {
				words[string(f.out[1:len(f.out)-1])] = true
			}
			table := newNameTable(slices.Sorted(maps.Keys(words)))
			b.n.words = &table
		}
	}
	if v, ok := b.m["const"]; ok && !b.draft(Draft4, OpenAPI30) {
		f := []fixed{b.fixedValue("const", v)}
		if b.n.constant == nil {
			b.n.constant = f
		} else {
			b.n.both = f
		}
	}
}

func (b *builder) numbers() {
	n := b.n
	n.minimum, n.maximum = b.number("minimum"), b.number("maximum")
	if b.draft(Draft4, OpenAPI30) {
		if b.boolean("exclusiveMinimum") && n.minimum != nil {
			n.minimum.open = true
		}
		if b.boolean("exclusiveMaximum") && n.maximum != nil {
			n.maximum.open = true
		}
	} else {
		if ex := b.number("exclusiveMinimum"); ex != nil && (n.minimum == nil || ex.dec.cmp(n.minimum.dec) >= 0) {
			n.minimum, ex.open = ex, true
		}
		if ex := b.number("exclusiveMaximum"); ex != nil && (n.maximum == nil || ex.dec.cmp(n.maximum.dec) <= 0) {
			n.maximum, ex.open = ex, true
		}
	}
	if n.multiple = b.number("multipleOf"); n.multiple != nil && n.multiple.dec.sign() <= 0 {
		b.fail("multipleOf", "must be above zero")
	}
}

func (b *builder) strings() {
	b.n.minLength, b.n.maxLength = b.count("minLength"), b.count("maxLength")
	if src, ok := b.text("pattern"); ok {
		b.n.pattern = b.pattern("pattern", src)
	}
}

// pattern compiles an ECMA 262 expression; nil when it is skipped or wrong.
func (b *builder) pattern(k, src string) *pattern {
	p, err := compilePattern(src)
	if err == nil {
		return p
	}
	if b.c.opts.SkipUnsupportedPatterns {
		b.c.warnings = append(b.c.warnings, b.n.place.child(k).String()+": pattern not checked: "+err.Error())
		return nil
	}
	b.fail(k, "%w", err)
	return nil
}

func (b *builder) format() {
	name, ok := b.text("format")
	if !ok || !b.c.opts.AssertFormats && !b.n.res.formats {
		return
	}
	if b.n.format = formatNamed(name); b.n.format != nil {
		b.n.format.keyword, b.n.format.expr = name, formatExpr(name)
	} else {
		b.c.warnings = append(b.c.warnings, b.n.place.child("format").String()+": format not checked: it is not known")
	}
	if b.n.format != nil && b.n.format.text == nil && b.n.format.number == nil {
		b.n.format = nil // password, binary: for people and codecs
	}
}

func (b *builder) arrays() {
	n := b.n
	if b.validation {
		n.minItems, n.maxItems = b.count("minItems"), b.count("maxItems")
		n.unique = b.boolean("uniqueItems")
	}
	if b.draft(Draft202012) {
		n.prefix = b.list("prefixItems")
		if _, isList := b.m["items"].([]any); isList {
			b.fail("items", "must be one schema; an array of schemas is prefixItems since 2020-12")
			return
		}
		n.items = b.one("items")
	} else if list, ok := b.m["items"].([]any); ok {
		if b.draft(OpenAPI30) {
			b.fail("items", "must be one schema")
			return
		}
		n.prefix = make([]*node, 0, len(list))
		if len(list) > 0 {
			n.prefix = b.list("items")
		}
		n.items = b.one("additionalItems")
	} else {
		n.items = b.one("items")
	}
	if !b.draft(Draft4, OpenAPI30) {
		n.contains = b.one("contains")
	}
	if b.draft(Draft202012, Draft201909) && b.validation {
		n.minContains, n.maxContains = b.count("minContains"), b.count("maxContains")
	}
}

func (b *builder) objects() {
	n := b.n
	var required []string
	if b.validation {
		n.minProps, n.maxProps = b.count("minProperties"), b.count("maxProperties")
		if v, ok := b.m["required"]; ok {
			required = b.names("required", v)
		}
	}
	props := b.object("properties")
	if len(props) > 0 || len(required) > 0 {
		n.members = &memberTable{}
		for _, name := range sortedKeys(props) {
			n.members.list = append(n.members.list, member{
				plain: name, node: b.sub(props[name], "properties", name),
			})
		}
		b.require(n.members, required)
	}
	if !b.draft(OpenAPI30) {
		pats := b.object("patternProperties")
		for _, src := range sortedKeys(pats) {
			if p := b.pattern("patternProperties", src); p != nil {
				n.patterns = append(n.patterns, patternMember{p, b.sub(pats[src], "patternProperties", src)})
			} else if b.err == nil {
				b.fail("patternProperties", "the pattern %q cannot be skipped: it decides which members are additional", src)
			}
		}
	}
	n.additional = b.one("additionalProperties")
	if !b.draft(Draft4, OpenAPI30) {
		n.names = b.one("propertyNames")
	}
	if b.draft(Draft202012, Draft201909) {
		b.dependent("dependentSchemas", "dependentRequired")
	}
	if !b.draft(OpenAPI30) {
		b.dependent("dependencies", "") // 2020-12 still lists it; dropping it would let input through
	}
}

func (b *builder) require(t *memberTable, required []string) {
	at := make(map[string]int, len(t.list))
	for i := range t.list {
		at[t.list[i].plain] = i
	}
	for _, name := range required {
		i, ok := at[name]
		if !ok {
			i = len(t.list)
			at[name] = i
			t.list = append(t.list, member{name: unquoted(name), plain: name})
		}
		t.list[i].required = true
	}
	t.words = (len(t.list) + 63) / 64
	t.required = make([]uint64, t.words)
	names := make([]string, len(t.list))
	for i := range t.list {
		t.list[i].name = unquoted(t.list[i].plain)
		names[i] = t.list[i].name
		if t.list[i].required {
			t.required[i/64] |= 1 << (i % 64)
		}
	}
	t.by = newNameTable(names)
}

// unquoted is the canonical form of a name without its quotes.
func unquoted(s string) string {
	q := canonicalName(s)
	return q[1 : len(q)-1]
}

// dependent reads dependentSchemas and dependentRequired, or the older
// dependencies, which mixes both.
func (b *builder) dependent(schemas, names string) {
	m := b.object(schemas)
	for _, name := range sortedKeys(m) {
		if _, isList := m[name].([]any); isList && names == "" {
			b.n.dependentNames = append(b.n.dependentNames, dependent{name: unquoted(name), names: canonicalNames(b.names(schemas, m[name]))})
			continue
		}
		b.n.dependents = append(b.n.dependents, dependent{name: unquoted(name), node: b.sub(m[name], schemas, name)})
	}
	if names == "" || !b.validation {
		return
	}
	m = b.object(names)
	for _, name := range sortedKeys(m) {
		b.n.dependentNames = append(b.n.dependentNames, dependent{name: unquoted(name), names: canonicalNames(b.names(names, m[name]))})
	}
}

func (b *builder) combine() {
	n := b.n
	n.allOf, n.anyOf, n.oneOf, n.not = b.list("allOf"), b.list("anyOf"), b.list("oneOf"), b.one("not")
	if !b.draft(Draft4, OpenAPI30) {
		if n.cond = b.one("if"); n.cond != nil {
			n.then, n.other = b.one("then"), b.one("else")
		}
	}
	if b.draft(Draft202012) {
		b.dynamicRef("$dynamicRef")
	} else if b.draft(Draft201909) {
		b.dynamicRef("$recursiveRef")
	}
	if b.draft(Draft202012, OpenAPI30) {
		b.discriminate()
	}
}

// dynamicRef reads $dynamicRef (2020-12 §8.2.3.2): without a $dynamicAnchor of
// that name at the place it leads to, it is a plain $ref.
func (b *builder) dynamicRef(k string) {
	ref, ok := b.text(k)
	if !ok || b.err != nil {
		return
	}
	pl, res, err := b.c.locate(b.n.res, ref)
	if err != nil {
		b.fail(k, "%w", err)
		return
	}
	target := b.reference(k, ref)
	_, name, _ := strings.Cut(ref, "#")
	if k == "$recursiveRef" {
		name = ""
	}
	if ptr, ok := res.dynamic[name]; !ok || ptr != pl.ptr || strings.HasPrefix(name, "/") {
		if b.n.ref == nil {
			b.n.ref = target
		} else {
			b.n.allOf = append(b.n.allOf, target)
		}
		return
	}
	b.n.dynamic = &dynamicRef{fixed: target, name: name}
	b.c.prog.dynamic = true
	// Every schema the anchor may lead to must be compiled before the first value comes.
	for _, uri := range slices.Sorted(maps.Keys(b.c.resources)) {
		other := b.c.resources[uri]
		ptr, ok := other.dynamic[name]
		if !ok || b.err != nil {
			continue
		}
		n, err := b.c.node(place{other.at.doc, ptr})
		if err != nil {
			b.err = err
			return
		}
		if other.nodes == nil {
			other.nodes = map[string]*node{}
		}
		other.nodes[name] = n
	}
}

func (b *builder) unevaluated() {
	if b.draft(Draft202012, Draft201909) {
		b.n.unevalItems, b.n.unevalProps = b.one("unevaluatedItems"), b.one("unevaluatedProperties")
	}
}

// discriminate reads OpenAPI's discriminator (3.1.1 §4.8.25), which names the
// alternative directly. Beside neither oneOf nor anyOf it is a hint for code
// generators, and following it would lead back here.
func (b *builder) discriminate() {
	m := b.object("discriminator")
	key, list := "oneOf", b.n.oneOf
	if list == nil {
		key, list = "anyOf", b.n.anyOf
	}
	property, _ := m["propertyName"].(string)
	if m == nil || list == nil || b.err != nil {
		return
	}
	if property == "" {
		b.fail("discriminator", "propertyName is missing")
		return
	}
	d := &discriminator{property: unquoted(property), branch: map[string]*node{}}
	raw, _ := b.m[key].([]any)
	for i, v := range raw {
		alt, _ := v.(map[string]any)
		ref, ok := alt["$ref"].(string)
		if !ok {
			d.open = true
			continue
		}
		d.branch[unquoted(lastSegment(ref))] = list[i]
	}
	mapping, _ := m["mapping"].(map[string]any)
	byTarget := func(n *node) *node {
		for _, alt := range list {
			if alt == n || alt.ref == n {
				return alt
			}
		}
		return nil
	}
	for _, value := range sortedKeys(mapping) {
		ref, _ := mapping[value].(string)
		if alt, ok := d.branch[unquoted(ref)]; ok && !strings.ContainsAny(ref, "/#") {
			d.branch[unquoted(value)] = alt
			continue
		}
		pl, _, err := b.c.locate(b.n.res, ref)
		if err != nil {
			b.fail("discriminator", "mapping of %q: %w", value, err)
			return
		}
		if alt := byTarget(b.c.nodes[pl]); alt != nil {
			d.branch[unquoted(value)] = alt
		} else {
			d.open = true
		}
	}
	b.n.discriminator = d
}

func canonicalNames(names []string) []string {
	for i, name := range names {
		names[i] = unquoted(name)
	}
	return names
}
