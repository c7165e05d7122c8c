package validate

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// The rules of GraphQL, as they appear in [gatehouse.FieldError.Rule].
const (
	ruleGraphQLSyntax     = "graphql_syntax"
	ruleGraphQLLength     = "graphql_tokens"
	ruleGraphQLFragment   = "graphql_fragment"
	ruleGraphQLDepth      = "graphql_depth"
	ruleGraphQLAliases    = "graphql_aliases"
	ruleGraphQLRoots      = "graphql_root_fields"
	ruleGraphQLDirectives = "graphql_directives"
	ruleGraphQLCost       = "graphql_cost"
	ruleGraphQLBatch      = "graphql_batch"
	ruleGraphQLSchema     = "graphql_introspection"
	ruleGraphQLMember     = "graphql_member"
	ruleGraphQLPersisted  = "graphql_persisted"
	ruleGraphQLMethod     = "graphql_method"
)

// graphql judges what callers of a GraphQL endpoint ask for, by form alone: it
// knows no GraphQL schema. The text goes on as it came, since its SHA-256 may be
// in use; what two lexers could read in two ways is refused before.
type graphql struct {
	limits    GraphQL
	persisted map[string]bool // nil: any document
}

// newGraphQL returns nil for nil.
func newGraphQL(s *GraphQL) (*graphql, error) {
	if s == nil {
		return nil, nil
	}
	g := &graphql{limits: *s}
	for _, d := range []struct {
		to   *int
		from int
	}{
		{&g.limits.Depth, 12},
		{&g.limits.Aliases, 20},
		{&g.limits.RootFields, 10},
		{&g.limits.Cost, 1000},
		{&g.limits.Tokens, 2000},
		{&g.limits.Directives, 20},
		{&g.limits.Batch, 5},
	} {
		*d.to = max(cmp.Or(*d.to, d.from), 0)
	}
	if s.Operations != nil {
		g.persisted = map[string]bool{}
		for _, h := range s.Operations {
			b, err := hex.DecodeString(h)
			if err != nil || len(b) != sha256.Size {
				return nil, fmt.Errorf("GraphQL operation %q: expected a SHA-256 in hex", h)
			}
			g.persisted[strings.ToLower(h)] = true
		}
	}
	return g, nil
}

// A graphqlStop is why a request is not taken; form means a fault of form.
type graphqlStop struct {
	rule, detail string
	form         bool
}

func (s *graphqlStop) note(in string, f *faults) {
	if s.form {
		f.addSyntax(in, "query", s.rule, s.detail)
	} else {
		f.add(in, "query", s.rule, s.detail)
	}
}

// checkQuery judges a document in the query of the URL: that of a GET, or one
// that some servers prefer to the one in the body.
func (g *graphql) checkQuery(rawQuery, method string, out *Body) error {
	pairs, bad := appendPairs(nil, rawQuery, false)
	var f faults
	if bad != nil {
		f.addSyntax(inQuery, "", bad.rule, bad.detail)
		return f.problem()
	}
	request := map[string]any{}
	for _, p := range pairs {
		switch p.name {
		case "query", "operationName", "documentId":
			request[p.name] = p.value
		case "variables", "extensions":
			d := jsontext.NewDecoder(strings.NewReader(p.value))
			v, err := decodeJSON(d)
			if err == nil {
				if _, err = d.ReadToken(); err == nil {
					err = errors.New("a second value")
				}
			}
			if !errors.Is(err, io.EOF) {
				f.addSyntax(inQuery, p.name, ruleSyntax, "The value must be JSON.")
				return f.problem()
			}
			request[p.name] = v
		}
	}
	if len(request) == 0 {
		return nil
	}
	if stop := g.request(request, method == http.MethodGet || method == http.MethodHead, out); stop != nil {
		stop.note(inQuery, &f)
	}
	return f.problem()
}

// checkText judges an application/graphql body.
func (g *graphql) checkText(text string, out *Body, f *faults) {
	if !utf8.ValidString(text) {
		f.addSyntax(inBody, "", ruleUTF8, "The text must be UTF-8.")
		return
	}
	if stop := g.request(map[string]any{"query": text}, false, out); stop != nil {
		stop.note(inBody, f)
	}
}

// checkJSON judges the canonical JSON of a body: one request, or a list of them.
func (g *graphql) checkJSON(out *Body, f *faults) {
	d := jsontext.NewDecoder(bytes.NewBuffer(out.Bytes), jsontext.AllowDuplicateNames(true))
	v, err := decodeJSON(d)
	if err != nil {
		f.addSyntax(inBody, "", ruleSyntax, "The body must be JSON.")
		return
	}
	list, batch := v.([]any)
	switch {
	case !batch:
		list = []any{v}
	case len(list) > g.limits.Batch:
		f.add(inBody, "", ruleGraphQLBatch, fmt.Sprintf("At most %d documents may be sent together.", g.limits.Batch))
		return
	}
	for _, v := range list {
		request, ok := v.(map[string]any)
		if !ok {
			f.add(inBody, "", ruleGraphQLMember, "A GraphQL request must be an object.")
			return
		}
		if stop := g.request(request, false, out); stop != nil {
			stop.note(inBody, f)
			return
		}
	}
}

// request judges one request and adds its cost to out's.
func (g *graphql) request(m map[string]any, safe bool, out *Body) *graphqlStop {
	for name := range m {
		switch name {
		case "query", "operationName", "variables", "extensions", "documentId", "onError":
		default: // "Query" is query for servers that match names without case
			return &graphqlStop{ruleGraphQLMember, "The request has a member that GraphQL over HTTP does not know.", false}
		}
	}
	text, isText := m["query"].(string)
	vars, isVars := m["variables"].(map[string]any)
	if !isText && m["query"] != nil || !isVars && m["variables"] != nil {
		return &graphqlStop{ruleGraphQLMember, "The query must be a string, the variables an object.", false}
	}
	hash, stop := persistedHash(m)
	if stop != nil {
		return stop
	}
	if text == "" {
		switch {
		case hash == "":
			return &graphqlStop{ruleGraphQLMember, "The request has no query.", false}
		case g.persisted[hash]:
		case g.persisted != nil || !g.limits.Persisted:
			return &graphqlStop{ruleGraphQLPersisted, "The document must be sent whole, or be one that is registered.", false}
		}
		return g.charge(max(g.limits.Cost, 1), out) // what it asks for is known to the service alone
	}
	sum := sha256.Sum256([]byte(text))
	own := hex.EncodeToString(sum[:])
	switch {
	case hash != "" && hash != own: // it would be found under the name of another one
		return &graphqlStop{ruleGraphQLPersisted, "The hash is not that of the query.", false}
	case g.persisted != nil && !g.persisted[own]:
		return &graphqlStop{ruleGraphQLPersisted, "The document is not one that is registered.", false}
	}
	cost, stop := g.document(text, vars, safe)
	if stop != nil {
		return stop
	}
	return g.charge(cost, out)
}

func (g *graphql) charge(cost int, out *Body) *graphqlStop {
	if out.Cost = addCapped(out.Cost, cost); out.Cost > g.limits.Cost {
		return &graphqlStop{ruleGraphQLCost, fmt.Sprintf("The request asks for more than %d fields.", g.limits.Cost), false}
	}
	return nil
}

// persistedHash finds the name a request gives a document, in lower case.
func persistedHash(m map[string]any) (string, *graphqlStop) {
	bad := &graphqlStop{ruleGraphQLPersisted, "The document's name must be a SHA-256.", false}
	hash := ""
	if ext, ok := m["extensions"].(map[string]any); ok && ext["persistedQuery"] != nil {
		p, ok := ext["persistedQuery"].(map[string]any)
		if hash, _ = p["sha256Hash"].(string); !ok || len(hash) != 2*sha256.Size {
			return "", bad
		}
	}
	if id := m["documentId"]; id != nil {
		s, _ := id.(string)
		s, ok := strings.CutPrefix(s, "sha256:")
		if !ok || len(s) != 2*sha256.Size || hash != "" && !strings.EqualFold(hash, s) {
			return "", bad
		}
		hash = s
	}
	return strings.ToLower(hash), nil
}

// document judges one document and returns what it costs.
func (g *graphql) document(text string, vars map[string]any, safe bool) (int, *graphqlStop) {
	for i := range len(text) {
		// A lone CR ends a comment for some lexers only, and the rest of the line
		// is a comment for the others.
		if c := text[i]; c < 0x20 && c != '\t' && c != '\n' && (c != '\r' || i+1 == len(text) || text[i+1] != '\n') || c == 0x7f {
			return 0, &graphqlStop{ruleControl, "There must be no control characters, and no CR but in CRLF.", true}
		}
	}
	if strings.Contains(text, "\ufeff") {
		return 0, &graphqlStop{ruleControl, "There must be no byte order mark.", true}
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, max(g.limits.Tokens, 1))
	if err != nil {
		if strings.Contains(err.Error(), "token limit") {
			return 0, &graphqlStop{ruleGraphQLLength, fmt.Sprintf("The document may have at most %d tokens.", g.limits.Tokens), false}
		}
		return 0, &graphqlStop{ruleGraphQLSyntax, "The document cannot be read.", true}
	}
	fragments := map[string]*ast.FragmentDefinition{}
	for _, fr := range doc.Fragments {
		if fragments[fr.Name] != nil {
			return 0, &graphqlStop{ruleGraphQLFragment, "A fragment is defined twice.", true}
		}
		fragments[fr.Name] = fr
	}
	names := map[string]bool{}
	for _, op := range doc.Operations {
		if names[op.Name] || op.Name == "" && len(doc.Operations) > 1 {
			return 0, &graphqlStop{ruleGraphQLSyntax, "Operations must have names, each its own.", true}
		}
		names[op.Name] = true
	}
	if len(names) == 0 {
		return 0, &graphqlStop{ruleGraphQLSyntax, "The document has no operation.", true}
	}
	if n := graphqlDirectives(doc); n > g.limits.Directives {
		return 0, &graphqlStop{ruleGraphQLDirectives, fmt.Sprintf("The document may have at most %d directives.", g.limits.Directives), false}
	}
	cost := 0
	for _, op := range doc.Operations {
		if safe && op.Operation != ast.Query {
			return 0, &graphqlStop{ruleGraphQLMethod, "A GET may only query.", false}
		}
		w := graphqlWalk{fragments: fragments, vars: vars, defaults: op.VariableDefinitions, known: map[string]*graphqlSize{}}
		size, stop := w.selections(op.SelectionSet)
		if stop == nil {
			stop = g.judge(&size)
		}
		if stop != nil {
			return 0, stop
		}
		cost = max(cost, size.cost) // one of them runs
	}
	return cost, nil
}

func (g *graphql) judge(size *graphqlSize) *graphqlStop {
	l := &g.limits
	switch {
	case size.schema && !l.Introspection:
		return &graphqlStop{ruleGraphQLSchema, "The schema is not to be asked for here.", false}
	case size.depth > l.Depth:
		return &graphqlStop{ruleGraphQLDepth, fmt.Sprintf("At most %d fields may stand inside one another.", l.Depth), false}
	case size.aliases > l.Aliases:
		return &graphqlStop{ruleGraphQLAliases, fmt.Sprintf("At most %d fields may be renamed.", l.Aliases), false}
	case size.roots > l.RootFields:
		return &graphqlStop{ruleGraphQLRoots, fmt.Sprintf("At most %d fields may be asked for at the top.", l.RootFields), false}
	case size.cost > l.Cost:
		return &graphqlStop{ruleGraphQLCost, fmt.Sprintf("The request asks for more than %d fields.", l.Cost), false}
	}
	return nil
}
