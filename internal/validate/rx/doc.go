// Package rx asks many regular expressions about one text in one pass. It is
// what makes practice 8's rules affordable on every request.
//
// It owns the automaton: the union of all expressions, whose states are made
// when a text first needs them and shared by everyone after. It hides states,
// classes and caches: what leaves it is a set of bits, one for each expression.
// The answer is that of Go's regexp, expression by expression, invalid UTF-8 and
// word boundaries included; [Set.Exact] names the expressions where a bit means
// "may match" and the caller must ask the real one.
//
// It also proves: [Set.Possible] intersects the expressions with the language of
// a field and says which of them no text of the field can ever match.
//
// It trusts the expressions, not the texts. Time is linear in the text and
// counted down from a budget that the caller gives; memory is bounded whatever
// texts come. A set holds no text and no secret.
//
// An expression that does not compile is an error of [NewSet] that names it;
// an ended budget is the false of [Set.Scan], and its hits say nothing then.
//
//	set, err := rx.NewSet([]rx.Pattern{{Expr: `(?sm)union\s+select`}}, rx.Options{})
//	hits, budget := rx.NewBits(set.Len()), int64(1e6)
//	if !set.Scan(text, hits, nil, &budget) { refuse() }
//	if hits.Has(0) { ... }
package rx
