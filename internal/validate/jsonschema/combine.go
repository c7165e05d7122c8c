package jsonschema

// apply checks the keywords that put other schemas on the same value.
func (r *run) apply(n *node, i int32, marks int) bool {
	ok := true
	if n.ref != nil {
		if ok = r.check(n.ref, i, marks); !ok && r.stop() {
			return false
		}
	}
	if n.dynamic != nil {
		if ok = r.check(r.dynamicTarget(n.dynamic), i, marks) && ok; !ok && r.stop() {
			return false
		}
	}
	for _, s := range n.allOf {
		if !r.check(s, i, marks) {
			if ok = false; r.stop() {
				return false
			}
		}
	}
	if n.anyOf != nil {
		ok = r.choose(n, "anyOf", n.anyOf, false, i, marks) && ok
	}
	if n.oneOf != nil && (ok || !r.stop()) {
		ok = r.choose(n, "oneOf", n.oneOf, true, i, marks) && ok
	}
	if n.not != nil && (ok || !r.stop()) {
		r.quiet++
		holds := r.check(n.not, i, noMarks)
		r.quiet--
		if holds {
			ok = r.fail(i, "not", "must not be of the kind ruled out")
		}
	}
	if n.cond != nil && (ok || !r.stop()) {
		next := n.other
		if r.try(n.cond, i, marks) {
			next = n.then
		}
		if next != nil {
			ok = r.check(next, i, marks) && ok
		}
	}
	return ok
}

// dynamicTarget finds the outermost schema resource on the way here that has
// the anchor (2020-12 §8.2.3.2).
func (r *run) dynamicTarget(d *dynamicRef) *node {
	for _, res := range r.scope {
		if n, ok := res.nodes[d.name]; ok {
			return n
		}
	}
	return d.fixed
}

// try checks a schema whose failure is no fault; what it evaluated counts only
// when it holds.
func (r *run) try(n *node, i int32, marks int) bool {
	r.quiet++
	c := &r.cells[i]
	own, words := noMarks, len(r.words)
	if marks != noMarks {
		own = r.newMarks(c)
	}
	ok := r.check(n, i, own)
	if ok && marks != noMarks {
		r.merge(c, marks, own)
	}
	r.words = r.words[:words]
	r.quiet--
	return ok
}

// choose checks anyOf or oneOf. Alternatives share the run's budget, so that
// alternatives inside alternatives cannot multiply for ever.
func (r *run) choose(n *node, keyword string, list []*node, one bool, i int32, marks int) bool {
	if d := n.discriminator; d != nil && r.cells[i].kind == kindObject {
		val := r.find(i, d.property)
		if r.aborted {
			return false
		}
		if val >= 0 && r.cells[val].kind == kindString {
			if alt, ok := d.branch[string(r.out[r.cells[val].start:r.cells[val].end])]; ok {
				return r.check(alt, i, marks)
			}
		}
		if !d.open {
			at := i
			if val >= 0 {
				at = val
			}
			return r.fail(at, "discriminator", "must name one of the alternatives")
		}
	}
	holds := 0
	for _, s := range list {
		if !r.try(s, i, marks) {
			continue
		}
		holds++
		if one && holds > 1 {
			return r.fail(i, keyword, "matches more than one of the alternatives")
		}
		if !one && marks == noMarks {
			break
		}
	}
	if holds > 0 || r.aborted {
		return holds > 0
	}
	if r.loud() {
		r.explain(keyword, list, i)
	}
	return false
}

// explain says why no alternative holds: by the faults of the only one made for
// this type of value, where there is only one (a nullable reference, for one).
func (r *run) explain(keyword string, list []*node, i int32) {
	var fits *node
	for _, s := range list {
		s = s.target()
		for s.ref != nil && s.types == 0 && s.parts == partApply {
			s = s.ref.target()
		}
		if s.never || s.types != 0 && !r.typeMatches(s, &r.cells[i]) {
			continue
		}
		if fits != nil {
			fits = nil
			break
		}
		fits = s
	}
	before := len(r.faults)
	if fits != nil {
		r.check(fits, i, noMarks)
	}
	if len(r.faults) == before {
		r.fail(i, keyword, "matches none of the alternatives")
	}
}

func wordsFor(c *cell) int { return (int(c.n) + 63) / 64 }

// newMarks makes room for one bit per member or item of c, all clear.
func (r *run) newMarks(c *cell) int {
	off := len(r.words)
	r.takeWords(wordsFor(c))
	return off
}

func (r *run) takeWords(n int) []uint64 {
	off := len(r.words)
	for range n {
		r.words = append(r.words, 0)
	}
	return r.words[off:]
}

func (r *run) merge(c *cell, into, from int) {
	for w := range wordsFor(c) {
		r.words[into+w] |= r.words[from+w]
	}
}

// unevaluated puts unevaluatedItems and unevaluatedProperties on what no other
// keyword of n has looked at (2020-12 §11).
func (r *run) unevaluated(n *node, i int32, marks int) bool {
	c := &r.cells[i]
	sub, keyword := n.unevalProps, "unevaluatedProperties"
	if c.kind == kindArray {
		sub, keyword = n.unevalItems, "unevaluatedItems"
	}
	if sub == nil || c.kind != kindArray && c.kind != kindObject {
		return true
	}
	ok := true
	at := i + 1
	for k := range int(c.n) {
		val := at
		if c.kind == kindObject {
			val++
		}
		at = r.cells[val].next
		bit := uint64(1) << (k % 64)
		if r.words[marks+k/64]&bit != 0 {
			continue
		}
		r.words[marks+k/64] |= bit
		if sub.target().never {
			ok = r.fail(val, keyword, "is not foreseen by the schema")
		} else {
			ok = r.check(sub, val, noMarks) && ok
		}
		if !ok && r.stop() {
			return false
		}
	}
	return ok
}
