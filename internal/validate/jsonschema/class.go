package jsonschema

import (
	"regexp/syntax"
	"unicode/utf8"
)

// A class is a pattern that asks for so many characters of one kind and nothing
// else, ^[0-9a-f]{32}$, as most do: each byte is looked at by itself.
type class struct {
	takes     [256]bool
	low, high int // of them; high is -1 without a bound
}

func inClass[T string | []byte](c *class, text T) bool {
	if len(text) < c.low || c.high >= 0 && len(text) > c.high {
		return false
	}
	for i := range len(text) {
		if !c.takes[text[i]] {
			return false
		}
	}
	return true
}

// newClass returns nil for what is not of that form, or takes more than ASCII.
func newClass(tree *syntax.Regexp) *class {
	if tree.Op != syntax.OpConcat || len(tree.Sub) != 3 || tree.Sub[0].Op != syntax.OpBeginText || tree.Sub[2].Op != syntax.OpEndText {
		return nil
	}
	c, one := &class{low: 1, high: 1}, tree.Sub[1]
	switch one.Op {
	case syntax.OpRepeat:
		c.low, c.high = one.Min, one.Max
	case syntax.OpPlus:
		c.high = -1
	case syntax.OpStar:
		c.low, c.high = 0, -1
	case syntax.OpQuest:
		c.low = 0
	default:
	}
	if len(one.Sub) == 1 {
		one = one.Sub[0]
	}
	if one.Op != syntax.OpCharClass {
		return nil
	}
	for i := 0; i+1 < len(one.Rune); i += 2 {
		if one.Rune[i+1] >= utf8.RuneSelf {
			return nil
		}
		for r := one.Rune[i]; r <= one.Rune[i+1]; r++ {
			c.takes[r] = true
		}
	}
	return c
}
