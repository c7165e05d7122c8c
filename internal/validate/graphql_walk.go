package validate

import (
	"math"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
)

// manyFields stands for any number too large to be counted.
const manyFields = math.MaxInt32

// addCapped and timesCapped never wrap: fragments within fragments double a
// count with every line.
func addCapped(a, b int) int { return min(a+b, manyFields) }

func timesCapped(a, b int) int {
	if a != 0 && b > manyFields/a {
		return manyFields
	}
	return a * b
}

// A graphqlSize is what a selection set amounts to, fragments unfolded.
type graphqlSize struct {
	depth, aliases, cost int
	roots                int  // fields of the set itself
	schema               bool // it asks for the schema
}

// take adds a set that stands beside others.
func (s *graphqlSize) take(o *graphqlSize) {
	s.depth = max(s.depth, o.depth)
	s.aliases = addCapped(s.aliases, o.aliases)
	s.cost = addCapped(s.cost, o.cost)
	s.roots = addCapped(s.roots, o.roots)
	s.schema = s.schema || o.schema
}

// A graphqlWalk measures the selections of one operation. Each fragment is
// measured once, however often it is spread.
type graphqlWalk struct {
	fragments map[string]*ast.FragmentDefinition
	vars      map[string]any
	defaults  ast.VariableDefinitionList
	known     map[string]*graphqlSize // nil while a fragment is being measured
}

func (w *graphqlWalk) selections(set ast.SelectionSet) (size graphqlSize, stop *graphqlStop) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			in, stop := w.selections(s.SelectionSet)
			if stop != nil {
				return size, stop
			}
			one := graphqlSize{depth: in.depth + 1, aliases: in.aliases, roots: 1, schema: in.schema || s.Name == "__schema" || s.Name == "__type"}
			if s.Alias != "" && s.Alias != s.Name {
				one.aliases = addCapped(one.aliases, 1)
			}
			one.cost = addCapped(1, timesCapped(w.times(s.Arguments), in.cost))
			size.take(&one)
		case *ast.InlineFragment:
			in, stop := w.selections(s.SelectionSet)
			if stop != nil {
				return size, stop
			}
			size.take(&in)
		case *ast.FragmentSpread:
			in, stop := w.fragment(s.Name)
			if stop != nil {
				return size, stop
			}
			size.take(in)
		}
	}
	return size, nil
}

func (w *graphqlWalk) fragment(name string) (*graphqlSize, *graphqlStop) {
	if size, met := w.known[name]; met {
		if size == nil {
			return nil, &graphqlStop{ruleGraphQLFragment, "A fragment must not contain itself.", true}
		}
		return size, nil
	}
	fr := w.fragments[name]
	if fr == nil {
		return nil, &graphqlStop{ruleGraphQLFragment, "A fragment is not defined.", true}
	}
	w.known[name] = nil
	size, stop := w.selections(fr.SelectionSet)
	if stop != nil {
		return nil, stop
	}
	w.known[name] = &size
	return &size, nil
}

// times is how many elements a field's arguments ask for: the largest first,
// last or limit, in objects among them, too. At least 1.
func (w *graphqlWalk) times(args ast.ArgumentList) int {
	n := 1
	for _, a := range args {
		n = max(n, w.asked(a.Name, a.Value))
	}
	return n
}

func sizes(name string) bool { return name == "first" || name == "last" || name == "limit" }

func (w *graphqlWalk) asked(name string, v *ast.Value) int {
	if v == nil {
		return 1
	}
	switch v.Kind {
	case ast.Variable:
		if given, ok := w.vars[v.Raw]; ok {
			return askedValue(name, given)
		}
		for _, d := range w.defaults {
			if d.Variable == v.Raw && d.DefaultValue != nil && d.DefaultValue.Kind != ast.Variable {
				return w.asked(name, d.DefaultValue)
			}
		}
	case ast.IntValue, ast.FloatValue:
		if sizes(name) {
			return literal(v.Raw)
		}
	case ast.ListValue, ast.ObjectValue:
		n := 1
		for _, c := range v.Children {
			n = max(n, w.asked(c.Name, c.Value))
		}
		return n
	case ast.StringValue, ast.BlockValue, ast.BooleanValue, ast.NullValue, ast.EnumValue:
	}
	return 1
}

func literal(s string) int {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || x > manyFields {
		return manyFields
	}
	return max(int(x), 1)
}

// askedValue is the same of a variable's value.
func askedValue(name string, v any) int {
	n := 1
	switch v := v.(type) {
	case int64:
		if sizes(name) {
			n = int(min(max(v, 1), manyFields))
		}
	case float64:
		if sizes(name) {
			n = int(min(max(v, 1), manyFields))
		}
	case string: // some servers take "100" for 100
		if x, ok := parseInteger(v); ok && sizes(name) {
			n = int(min(max(x, 1), manyFields))
		}
	case []any:
		for _, e := range v {
			n = max(n, askedValue("", e))
		}
	case map[string]any:
		for key, e := range v {
			n = max(n, askedValue(key, e))
		}
	}
	return n
}

// graphqlDirectives counts the directives of a document.
func graphqlDirectives(doc *ast.QueryDocument) int {
	n := 0
	for _, op := range doc.Operations {
		n += len(op.Directives) + directivesIn(op.SelectionSet)
		for _, v := range op.VariableDefinitions {
			n += len(v.Directives)
		}
	}
	for _, fr := range doc.Fragments {
		n += len(fr.Directives) + directivesIn(fr.SelectionSet)
	}
	return n
}

func directivesIn(set ast.SelectionSet) int {
	n := 0
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			n += len(s.Directives) + directivesIn(s.SelectionSet)
		case *ast.InlineFragment:
			n += len(s.Directives) + directivesIn(s.SelectionSet)
		case *ast.FragmentSpread:
			n += len(s.Directives)
		}
	}
	return n
}
