package jsonschema

import (
	"strconv"
	"unicode/utf8"
)

// maxNest bounds how deep schemas call one another over one value; only
// $dynamicRef can reach it, all other cycles are refused at compile time.
const maxNest = 2000

// noMarks stands for: nobody asked which members are evaluated.
const noMarks = -1

// validate walks the tape from the root.
func (r *run) validate(n *node) error {
	r.work = baseWork + r.prog.limits.WorkPerValue*len(r.cells) + len(r.out)/8
	ok := r.check(n, 0, noMarks)
	if r.aborted { // even where the failed step stood under a "not"
		return &Error{Violations: []Violation{{Keyword: "too_complex", Detail: "checking this value takes more steps than are allowed"}}}
	}
	if ok {
		return nil
	}
	return &Error{Violations: r.faults}
}

func (r *run) abort() bool {
	r.aborted = true
	return false
}

// loud reports whether a fault found now is wanted: not inside an alternative,
// where failing is normal.
func (r *run) loud() bool { return r.quiet == 0 && len(r.faults) < r.prog.max }

// stop reports whether looking for further faults is pointless.
func (r *run) stop() bool { return r.aborted || !r.loud() }

// fail notes a fault. Callers ask loud first when the detail must be composed.
func (r *run) fail(i int32, keyword, detail string) bool {
	if r.loud() {
		r.faults = append(r.faults, Violation{Pointer: r.pointer(i), Keyword: keyword, Detail: detail})
	}
	return false
}

func (r *run) failCount(i int32, keyword, before string, n int, after string) bool {
	if !r.loud() {
		return false
	}
	return r.fail(i, keyword, before+strconv.Itoa(n)+after)
}

// spend takes n steps from the budget.
func (r *run) spend(n int) bool {
	r.work -= n
	return r.work >= 0 || r.abort()
}

// check reports whether cell i is what n takes. marks is the offset in r.words
// of the bits that collect the evaluated members or items of cell i, or noMarks.
func (r *run) check(n *node, i int32, marks int) bool {
	n = n.target()
	if r.aborted || !r.spend(1) {
		return false
	}
	if n.never {
		return r.fail(i, "false", "no value is taken here")
	}
	c := &r.cells[i]
	if n.types != 0 && !r.typeMatches(n, c) {
		return r.loud() && r.fail(i, "type", "must be "+typeList(n.types))
	}
	if n.parts == 0 {
		return true
	}
	if n.parts&(partApply|partUneval|partArray|partObject) == 0 {
		return r.leaf(n, i, c)
	}
	if r.nest++; r.nest > maxNest {
		return r.abort()
	}
	words, scope := len(r.words), len(r.scope)
	if r.prog.dynamic && (scope == 0 || r.scope[scope-1] != n.res) {
		r.scope = append(r.scope, n.res)
	}
	own := marks
	if n.parts&partUneval != 0 {
		own = r.newMarks(c)
	}
	ok := r.leaf(n, i, c)
	if (ok || !r.stop()) && c.kind == kindArray && n.parts&partArray != 0 {
		ok = r.array(n, i, own) && ok
	}
	if (ok || !r.stop()) && c.kind == kindObject && n.parts&partObject != 0 {
		ok = r.object(n, i, own) && ok
	}
	if (ok || !r.stop()) && n.parts&partApply != 0 {
		ok = r.apply(n, i, own) && ok
	}
	if ok && n.parts&partUneval != 0 {
		ok = r.unevaluated(n, i, own)
		if marks != noMarks {
			r.merge(c, marks, own)
		}
	}
	r.words, r.scope = r.words[:words], r.scope[:scope]
	r.nest--
	return ok
}

func (r *run) typeMatches(n *node, c *cell) bool {
	switch c.kind {
	case kindNull:
		return n.types&typeNull != 0
	case kindBool:
		return n.types&typeBool != 0
	case kindString:
		return n.types&typeString != 0
	case kindArray:
		return n.types&typeArray != 0
	case kindObject:
		return n.types&typeObject != 0
	}
	if n.types&typeNumber != 0 {
		return true
	}
	if n.types&typeInteger == 0 {
		return false
	}
	if c.flag&flagInteger != 0 {
		return true
	}
	// Since draft 6 an integer is a number without fractional value: 1.0 is one
	// (2020-12 core §4.2.3). Draft 4, and with it OpenAPI 3.0, goes by the literal.
	if n.res.dialect == Draft4 || n.res.dialect == OpenAPI30 {
		return false
	}
	return parseDecimal(r.out[c.start:c.end]).integer()
}

func typeList(types uint8) string {
	s := ""
	for _, t := range []struct {
		bit  uint8
		name string
	}{
		{typeObject, "an object"},
		{typeArray, "an array"},
		{typeString, "a string"},
		{typeNumber, "a number"},
		{typeInteger, "an integer"},
		{typeBool, "a boolean"},
		{typeNull, "null"},
	} {
		if types&t.bit != 0 {
			if s != "" {
				s += " or "
			}
			s += t.name
		}
	}
	return s
}

// leaf checks the keywords that need no other cell.
func (r *run) leaf(n *node, i int32, c *cell) bool {
	ok := true
	if n.parts&partConst != 0 {
		ok = r.constant(n, i, c)
	}
	switch c.kind {
	case kindNumber:
		if n.parts&partNumber != 0 && (ok || !r.stop()) {
			ok = r.number(n, i, c) && ok
		}
		if n.parts&partFormat != 0 && n.format.number != nil && !n.format.number(r.out[c.start:c.end]) {
			ok = r.failFormat(n, i)
		}
	case kindString:
		if n.parts&(partString|partFormat) != 0 && (ok || !r.stop()) {
			ok = r.string(n, i, c) && ok
		}
	}
	return ok
}

func (r *run) failFormat(n *node, i int32) bool {
	return r.loud() && r.fail(i, "format", "must be "+n.format.name)
}

func (r *run) constant(n *node, i int32, c *cell) bool {
	listed := false
	if n.words == nil {
		listed = r.among(n.constant, i)
	} else if c.kind == kindString {
		text := r.out[c.start:c.end]
		listed = n.words.find(text, nameKey(text)) >= 0
	}
	if !listed {
		return r.fail(i, "enum", "must be one of the listed values")
	}
	if n.both != nil && !r.among(n.both, i) {
		return r.fail(i, "const", "must be the one value allowed")
	}
	return true
}

func (r *run) number(n *node, i int32, c *cell) bool {
	d := parseDecimal(r.out[c.start:c.end])
	if b := n.minimum; b != nil {
		if cmp := d.cmp(b.dec); cmp < 0 {
			return r.loud() && r.fail(i, b.keyword("inimum"), "must be at least "+b.literal)
		} else if cmp == 0 && b.open {
			return r.loud() && r.fail(i, "exclusiveMinimum", "must be above "+b.literal)
		}
	}
	if b := n.maximum; b != nil {
		if cmp := d.cmp(b.dec); cmp > 0 {
			return r.loud() && r.fail(i, b.keyword("aximum"), "must be at most "+b.literal)
		} else if cmp == 0 && b.open {
			return r.loud() && r.fail(i, "exclusiveMaximum", "must be below "+b.literal)
		}
	}
	if b := n.multiple; b != nil && !d.multipleOf(b.dec) {
		return r.loud() && r.fail(i, "multipleOf", "must be a multiple of "+b.literal)
	}
	return true
}

// keyword names the keyword the bound came from.
func (b *bound) keyword(rest string) string {
	if b.open {
		return "exclusiveM" + rest
	}
	return "m" + rest
}

func (r *run) string(n *node, i int32, c *cell) bool {
	scratch := len(r.text)
	ok := r.stringText(n, i, c)
	r.text = r.text[:scratch]
	return ok
}

func (r *run) stringText(n *node, i int32, c *cell) bool {
	length, plain := int(c.end-c.start), c.flag&(flagASCII|flagEscaped) == flagASCII
	if !plain && !r.spend(length/64) {
		return false
	}
	if n.minLength >= 0 || n.maxLength >= 0 {
		if !plain {
			length = utf8.RuneCount(r.textOf(i)) // code points, RFC 8259 §1
		}
		if length < n.minLength {
			return r.failCount(i, "minLength", "must have at least ", n.minLength, " characters")
		}
		if n.maxLength >= 0 && length > n.maxLength {
			return r.failCount(i, "maxLength", "must have at most ", n.maxLength, " characters")
		}
	}
	if n.pattern == nil && (n.format == nil || n.format.text == nil) {
		return true
	}
	text := r.textOf(i)
	if n.pattern != nil && (!r.spend(n.pattern.cost(text)) || !n.pattern.match(text)) {
		return r.loud() && r.fail(i, "pattern", "must match "+n.pattern.source)
	}
	if n.format != nil && n.format.text != nil && !n.format.text(text) {
		return r.failFormat(n, i)
	}
	return true
}

func (r *run) array(n *node, i int32, marks int) bool {
	c := &r.cells[i]
	count := int(c.n)
	if count < n.minItems {
		return r.failCount(i, "minItems", "must have at least ", n.minItems, " items")
	}
	if n.maxItems >= 0 && count > n.maxItems {
		return r.failCount(i, "maxItems", "must have at most ", n.maxItems, " items")
	}
	ok := true
	if n.prefix != nil || n.items != nil {
		at := i + 1
		for k := range count {
			sub := n.items
			if k < len(n.prefix) {
				sub = n.prefix[k]
			}
			if sub == nil {
				break
			}
			if marks != noMarks {
				r.words[marks+k/64] |= 1 << (k % 64)
			}
			if !r.check(sub, at, noMarks) {
				if ok = false; r.stop() {
					return false
				}
			}
			at = r.cells[at].next
		}
	}
	if n.contains != nil && !r.contains(n, i, marks) {
		return false
	}
	if n.unique && !r.uniqueItems(i) {
		return r.fail(i, "uniqueItems", "must not hold the same item twice")
	}
	return ok
}

func (r *run) contains(n *node, i int32, marks int) bool {
	least, most := 1, n.maxContains
	if n.minContains >= 0 {
		least = n.minContains
	}
	found := 0
	at := i + 1
	r.quiet++
	for k := range int(r.cells[i].n) {
		if r.check(n.contains, at, noMarks) {
			found++
			if marks != noMarks && n.res.dialect == Draft202012 {
				r.words[marks+k/64] |= 1 << (k % 64)
			}
			if marks == noMarks && most < 0 && found >= least {
				break
			}
		}
		at = r.cells[at].next
	}
	r.quiet--
	switch {
	case r.aborted:
		return false
	case found < least:
		return r.failCount(i, "contains", "must hold at least ", least, " items of the kind asked for")
	case most >= 0 && found > most:
		return r.failCount(i, "maxContains", "must hold at most ", most, " items of the kind asked for")
	}
	return true
}

func (r *run) object(n *node, i int32, marks int) bool {
	c := &r.cells[i]
	count := int(c.n)
	if count < n.minProps {
		return r.failCount(i, "minProperties", "must have at least ", n.minProps, " members")
	}
	if n.maxProps >= 0 && count > n.maxProps {
		return r.failCount(i, "maxProperties", "must have at most ", n.maxProps, " members")
	}
	if !r.spend(count) {
		return false
	}
	// One word of bits is enough for most; longer tables use the scratch.
	var few [1]uint64
	seen := few[:]
	if n.members != nil && n.members.words > 1 {
		seen = r.takeWords(n.members.words)
	}
	ok := true
	at := i + 1
	for k := range count {
		name, val := at, at+1
		at = r.cells[val].next
		good, evaluated := r.member(n, name, val, seen)
		if evaluated && marks != noMarks {
			r.words[marks+k/64] |= 1 << (k % 64)
		}
		if !good {
			if ok = false; r.stop() {
				return false
			}
		}
	}
	if n.members != nil && !r.required(n, i, seen) {
		if ok = false; r.stop() {
			return false
		}
	}
	for k := range n.dependentNames {
		d := &n.dependentNames[k]
		if r.find(i, d.name) < 0 {
			continue
		}
		for _, name := range d.names {
			if r.find(i, name) < 0 {
				return r.loud() && r.fail(i, "dependentRequired", "must have the member "+strconv.Quote(name))
			}
		}
	}
	for k := range n.dependents {
		if d := &n.dependents[k]; r.find(i, d.name) >= 0 && !r.check(d.node, i, marks) {
			return false
		}
	}
	return ok
}

// member checks one member of an object by everything that speaks about it.
func (r *run) member(n *node, name, val int32, seen []uint64) (ok, evaluated bool) {
	ok = true
	c := &r.cells[name]
	if n.members != nil {
		if k := n.members.by.find(r.out[c.start:c.end], uint32(c.n)); k >= 0 {
			seen[k/64] |= 1 << (k % 64)
			if sub := n.members.list[k].node; sub != nil {
				evaluated = true
				if sub.readOnly {
					ok = r.failDirection(val)
				} else {
					ok = r.check(sub, val, noMarks)
				}
			}
		}
	}
	for k := range n.patterns {
		p := &n.patterns[k]
		scratch := len(r.text)
		text := r.textOf(name)
		matches := r.spend(p.pattern.cost(text)) && p.pattern.match(text)
		if r.text = r.text[:scratch]; r.aborted {
			return false, false
		}
		if matches {
			evaluated = true
			if p.node.readOnly {
				ok = r.failDirection(val)
			} else {
				ok = r.check(p.node, val, noMarks) && ok
			}
		}
	}
	if n.additional != nil && !evaluated {
		evaluated = true
		if n.additional.target().never {
			ok = r.fail(val, "additionalProperties", "is not a member of this object")
		} else {
			ok = r.check(n.additional, val, noMarks) && ok
		}
	}
	if n.names != nil && !r.check(n.names, name, noMarks) {
		ok = false
	}
	return ok, evaluated
}

func (r *run) failDirection(i int32) bool {
	if r.prog.direction == Response {
		return r.fail(i, "writeOnly", "is never sent back")
	}
	return r.fail(i, "readOnly", "is set by the service alone")
}

func (r *run) required(n *node, i int32, seen []uint64) bool {
	t := n.members
	ok := true
	for w, want := range t.required {
		missing := want &^ seen[w]
		if missing == 0 {
			continue
		}
		if ok = false; !r.loud() {
			return false
		}
		for k := w * 64; k < len(t.list) && k < w*64+64; k++ {
			if missing&(1<<(k%64)) != 0 {
				r.fail(i, "required", "must have the member "+strconv.Quote(t.list[k].plain))
			}
		}
	}
	return ok
}

// find returns the value of object i's member with that canonical name, or -1.
func (r *run) find(i int32, name string) int32 {
	at := i + 1
	if !r.spend(int(r.cells[i].n)) {
		return -1
	}
	for range r.cells[i].n {
		if c := &r.cells[at]; string(r.out[c.start:c.end]) == name {
			return at + 1
		}
		at = r.cells[at+1].next
	}
	return -1
}
