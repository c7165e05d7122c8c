package jsonschema

import "math"

// TakesString reports whether it is plain that the schema takes text. False says
// nothing: ask [Schema.ValidateValue], which also says why not.
func (s *Schema) TakesString(text string) bool {
	if s == nil || s.node == nil {
		return false
	}
	n := s.node
	if !n.simple(typeString) || !plain(text) || len(text) < n.minLength || n.maxLength >= 0 && len(text) > n.maxLength {
		return false
	}
	if n.constant != nil && (n.words == nil || n.both != nil || !n.words.has(text)) {
		return false
	}
	if n.pattern != nil {
		if ok, decided := quickly(n.pattern, text); !ok || !decided {
			return false
		}
	}
	if n.format == nil || n.format.text == nil {
		return true
	}
	r := s.prog.get()
	defer s.prog.put(r)
	r.text = append(r.text, text...)
	return n.format.text(r.text)
}

// TakesInteger is [Schema.TakesString] of an integer.
func (s *Schema) TakesInteger(v int64) bool {
	if s == nil || s.node == nil {
		return false
	}
	n := s.node
	return n.simple(typeInteger|typeNumber) && n.constant == nil && n.integers != nil && n.integers.low <= v && v <= n.integers.high
}

// TakesItems reports whether it is plain that the schema takes an array of count
// items if items takes each.
func (s *Schema) TakesItems(count int) (items Schema, ok bool) {
	if s == nil || s.node == nil {
		return Schema{}, false
	}
	n := s.node
	if !n.simple(typeArray) || n.constant != nil || n.unique || n.contains != nil || n.prefix != nil || n.items == nil {
		return Schema{}, false
	}
	if count > s.prog.limits.MaxItems || count < n.minItems || n.maxItems >= 0 && count > n.maxItems {
		return Schema{}, false
	}
	return Schema{node: n.items.target(), prog: s.prog}, true
}

// simple reports whether n takes values of one of types and has no schemas for
// the value beside it.
func (n *node) simple(types uint8) bool {
	return !n.never && (n.types == 0 || n.types&types != 0) && n.parts&(partApply|partUneval) == 0
}

// plain reports whether text is ASCII that JSON writes as it is.
func plain(text string) bool {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		t := text[i : i+8]
		if stopByte(uint64(t[0])|uint64(t[1])<<8|uint64(t[2])<<16|uint64(t[3])<<24|uint64(t[4])<<32|uint64(t[5])<<40|uint64(t[6])<<48|uint64(t[7])<<56) < 8 {
			return false
		}
	}
	for ; i < len(text); i++ {
		if charClass[text[i]] != charPlain {
			return false
		}
	}
	return true
}

// A span is all integers from low to high.
type span struct{ low, high int64 }

// wholes returns the integers that the keywords for numbers take, nil when they
// are no span, or one that needs more than 64 bits to tell.
func (n *node) wholes() *span {
	s := span{math.MinInt64, math.MaxInt64}
	if n.multiple != nil {
		return nil
	}
	if n.format != nil && n.format.number != nil {
		switch n.format.keyword {
		case "int32":
			s = span{math.MinInt32, math.MaxInt32}
		case "int64":
		default:
			return nil
		}
	}
	if b := n.minimum; b != nil {
		v, ok := b.dec.int64()
		if !ok || b.open && v == math.MaxInt64 {
			return nil
		}
		if b.open {
			v++
		}
		s.low = max(s.low, v)
	}
	if b := n.maximum; b != nil {
		v, ok := b.dec.int64()
		if !ok || b.open && v == math.MinInt64 {
			return nil
		}
		if b.open {
			v--
		}
		s.high = min(s.high, v)
	}
	return &s
}
