package validate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A Router finds the operation of a request by host, method and path. It is
// filled once by [Router.Add] and read-only afterwards; the zero Router knows
// no operation and answers 404.
//
// It is a tree over whole path segments: a literal beats a mixed segment like
// {id}.json, which beats a parameter. The most specific path is chosen before
// the method is looked at (OpenAPI 3.1 §4.8.8.2), so that DELETE /users/me can
// never reach what was declared for DELETE /users/{id}. A parameter never spans
// a '/' and is never empty.
type Router struct {
	any   *routeNode            // served under every host
	hosts map[string]*routeNode // by lower-case name without port
}

// routeNode is one segment of the paths below it.
type routeNode struct {
	literal map[string]*routeNode
	mixed   []routeMixed // most literal text first
	param   *routeNode
	methods []routeMethod // sorted; empty when no path ends here
	allow   []string      // the methods that are answered, with the HEAD that GET brings
}

type routeMethod struct {
	name     string
	route    int
	template string // as added, for messages
}

// routeMixed is a segment of literal text and parameters in turn:
// text[0] {p} text[1] {p} … text[n].
type routeMixed struct {
	text []string
	next *routeNode
}

// A Conflict says that two routes answer the same requests.
type Conflict struct {
	Host, Method  string
	First, Second int    // routes: the one that is served, the one that was refused
	FirstPath     string // its template
	SecondPath    string // its template
}

func (c *Conflict) Error() string {
	return fmt.Sprintf("%s %s and %s %s answer the same requests", c.Method, c.FirstPath, c.Method, c.SecondPath)
}

// Add declares that method on template is answered by route, on host ("" means
// every host). Segments of a template are literals, {parameters} or a mix
// ("{id}.json", "{base}...{head}"). Its error says what is wrong with the
// template, or is a [*Conflict].
func (r *Router) Add(host, method, template string, route int) error {
	if route < 0 {
		return fmt.Errorf("path %s: route %d must not be negative", template, route)
	}
	return r.add(host, method, template, route)
}

// Close declares that method on template exists and is answered by nobody, as if
// there were no such operation. Its path is still its own: without it a closed
// GET /users/export would be reached as GET /users/{id}, under that operation's
// rules. A route of the same template, added before or after, is served.
func (r *Router) Close(host, method, template string) error {
	return r.add(host, method, template, closed)
}

// closed is the route of an operation that nobody answers.
const closed = -1

func (r *Router) add(host, method, template string, route int) error {
	segments, err := splitTemplate(template)
	if err != nil {
		return fmt.Errorf("path %s: %w", template, err)
	}
	n := r.root(strings.ToLower(host))
	for _, s := range segments {
		n = n.child(s)
	}
	i, found := slices.BinarySearchFunc(n.methods, method, func(m routeMethod, name string) int { return strings.Compare(m.name, name) })
	switch {
	case found && route == closed:
		return nil
	case found && n.methods[i].route == closed:
		n.methods[i] = routeMethod{method, route, template}
	case found:
		return &Conflict{Host: host, Method: method, First: n.methods[i].route, Second: route, FirstPath: n.methods[i].template, SecondPath: template}
	default:
		n.methods = slices.Insert(n.methods, i, routeMethod{method, route, template})
	}
	n.allow = make([]string, 0, len(n.methods)+1)
	head := false // declared, be it closed
	for _, m := range n.methods {
		head = head || m.name == "HEAD"
		if m.route != closed {
			n.allow = append(n.allow, m.name)
		}
	}
	if slices.Contains(n.allow, "GET") && !head {
		n.allow = append(n.allow, "HEAD")
		slices.Sort(n.allow)
	}
	return nil
}

// Match finds the route of a request. path is the escaped path as received; it
// is judged by [CheckPath] first, so that no caller can forget to. The decoded
// values of the template's parameters are appended to params[:0], in the order
// of the template. HEAD is answered by the route of GET where no HEAD is
// declared (RFC 9110 §9.3.2). Errors are [*gatehouse.Problem]: invalid_path,
// operation_not_found, method_not_allowed with the methods there are.
func (r *Router) Match(host, method, path string, params []string) (route int, values []string, err error) {
	if err := CheckPath(path); err != nil {
		return -1, nil, err
	}
	var n *routeNode
	if len(r.hosts) > 0 {
		if root := r.hosts[hostName(host)]; root != nil {
			n, values = root.find(path[1:], params[:0])
		}
	}
	if n == nil && r.any != nil {
		n, values = r.any.find(path[1:], params[:0])
	}
	if n == nil {
		return -1, nil, notFound()
	}
	if route := n.route(method); route != closed {
		return route, values, nil
	}
	if len(n.allow) == 0 { // all of it is closed
		return -1, nil, notFound()
	}
	return -1, nil, &gatehouse.Problem{
		Kind: gatehouse.MethodNotAllowed, Reason: "method_not_allowed",
		Detail: "This path does not take that method.", Allow: slices.Clone(n.allow),
	}
}

func notFound() error {
	return &gatehouse.Problem{Kind: gatehouse.NotFound, Reason: "operation_not_found", Detail: "There is no such operation."}
}

// route finds the route of method, closed if nobody answers it.
func (n *routeNode) route(method string) int {
	get := closed
	for i := range n.methods {
		switch m := &n.methods[i]; m.name {
		case method:
			return m.route
		case "GET":
			get = m.route
		}
	}
	if method == "HEAD" {
		return get
	}
	return closed
}

// hostName takes the port off and lowers the case; names arrive in lower case
// from nearly every client, so this nearly never allocates.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// find walks the segments of path, which has no leading '/'. It goes back from a
// more specific branch that ends nowhere; the work is bounded by the number of
// templates that share the path's shape, which the operator wrote.
func (n *routeNode) find(path string, values []string) (*routeNode, []string) {
	segment, rest, more := strings.Cut(path, "/")
	if next := n.literal[decodeSegment(segment)]; next != nil {
		if found, v := next.step(rest, more, values); found != nil {
			return found, v
		}
	}
	if segment == "" {
		return nil, nil
	}
	for i := range n.mixed {
		v, ok := n.mixed[i].match(segment, values)
		if !ok {
			continue
		}
		if found, v := n.mixed[i].next.step(rest, more, v); found != nil {
			return found, v
		}
	}
	if n.param != nil {
		return n.param.step(rest, more, append(values, decodeSegment(segment)))
	}
	return nil, nil
}

func (n *routeNode) step(rest string, more bool, values []string) (*routeNode, []string) {
	if more {
		return n.find(rest, values)
	}
	if len(n.methods) == 0 {
		return nil, nil
	}
	return n, values
}

// match cuts the segment at the literal texts. A segment that can be cut in two
// ways ("a....b" at "...") does not match: the service might take the other. It
// can if the leftmost and the rightmost cuts differ.
func (m *routeMixed) match(segment string, values []string) ([]string, bool) {
	s := decodeSegment(segment)
	first, last := m.text[0], m.text[len(m.text)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return nil, false
	}
	s = s[len(first) : len(s)-len(last)]
	middle := m.text[1 : len(m.text)-1]
	from, rest := len(values), s
	for _, text := range middle {
		if rest == "" {
			return nil, false
		}
		i := strings.Index(rest[1:], text) + 1
		if i == 0 {
			return nil, false
		}
		values, rest = append(values, rest[:i]), rest[i+len(text):]
	}
	if rest == "" {
		return nil, false
	}
	values = append(values, rest)
	for k, text := range slices.Backward(middle) {
		i := strings.LastIndex(s[:len(s)-1], text)
		if len(s)-i-len(text) != len(values[from+k+1]) {
			return nil, false
		}
		s = s[:i]
	}
	return values, true
}

func (r *Router) root(host string) *routeNode {
	if host == "" {
		if r.any == nil {
			r.any = new(routeNode)
		}
		return r.any
	}
	if r.hosts == nil {
		r.hosts = map[string]*routeNode{}
	}
	if r.hosts[host] == nil {
		r.hosts[host] = new(routeNode)
	}
	return r.hosts[host]
}

// child returns the node below n for one segment of a template, given as the
// literal texts around its parameters.
func (n *routeNode) child(text []string) *routeNode {
	switch {
	case len(text) == 1:
		if n.literal == nil {
			n.literal = map[string]*routeNode{}
		}
		if n.literal[text[0]] == nil {
			n.literal[text[0]] = new(routeNode)
		}
		return n.literal[text[0]]
	case len(text) == 2 && text[0] == "" && text[1] == "":
		if n.param == nil {
			n.param = new(routeNode)
		}
		return n.param
	}
	for i := range n.mixed {
		if slices.Equal(n.mixed[i].text, text) {
			return n.mixed[i].next
		}
	}
	next := new(routeNode)
	n.mixed = append(n.mixed, routeMixed{text, next})
	slices.SortStableFunc(n.mixed, func(a, b routeMixed) int { return literalLen(b.text) - literalLen(a.text) })
	return next
}

func literalLen(text []string) (n int) {
	for _, t := range text {
		n += len(t)
	}
	return n
}

// splitTemplate cuts a path template into segments, and each into the literal
// texts around its parameters. Literals are decoded: requests are, too.
func splitTemplate(template string) ([][]string, error) {
	if template == "" || template[0] != '/' {
		return nil, fmt.Errorf("must start with '/'")
	}
	var segments [][]string
	for s := range strings.SplitSeq(template[1:], "/") {
		var text []string
		for {
			lit, rest, found := strings.Cut(s, "{")
			if err := checkLiteral(lit, found || len(text) > 0); err != nil {
				return nil, err
			}
			if len(text) > 0 && lit == "" && found {
				return nil, fmt.Errorf("two parameters side by side cannot be told apart")
			}
			text = append(text, decodeSegment(lit))
			if !found {
				break
			}
			name, after, closed := strings.Cut(rest, "}")
			if !closed || name == "" {
				return nil, fmt.Errorf("a parameter is written {name}")
			}
			s = after
		}
		segments = append(segments, text)
	}
	for _, s := range segments[:len(segments)-1] {
		if len(s) == 1 && s[0] == "" {
			return nil, fmt.Errorf("empty segment: no request can reach it")
		}
	}
	return segments, nil
}

// checkLiteral judges literal text, the whole of a segment or a part of it.
func checkLiteral(lit string, part bool) error {
	if lit == "" {
		return nil
	}
	if part {
		lit = "x" + lit // ".." is a dot segment only on its own
	}
	if p, ok := errors.AsType[*gatehouse.Problem](CheckPath("/" + lit)); ok {
		return fmt.Errorf("no request can reach it: %s", p.Fields[0].Detail)
	}
	return nil
}

// templateNames lists the parameters of a template, in its order.
func templateNames(template string) []string {
	var names []string
	for {
		_, rest, ok := strings.Cut(template, "{")
		if !ok {
			return names
		}
		name, after, _ := strings.Cut(rest, "}")
		names, template = append(names, name), after
	}
}

// Overlaps lists pairs of templates of one method neither of which is the more specific one,
// like /{kind}/me and /books/{id} (OpenAPI calls them ambiguous): Match serves
// the one whose earlier segment is literal. At most 100.
func (r *Router) Overlaps() []Conflict {
	var out []Conflict
	if r.any != nil {
		out = r.any.overlaps("", out)
	}
	for _, host := range slices.Sorted(maps.Keys(r.hosts)) {
		out = r.hosts[host].overlaps(host, out)
	}
	return out
}

func (n *routeNode) overlaps(host string, out []Conflict) []Conflict {
	keys := slices.Sorted(maps.Keys(n.literal))
	for _, k := range keys {
		out = n.literal[k].overlaps(host, out)
		if n.param != nil && k != "" {
			out = overlap(host, n.literal[k], n.param, false, out)
		}
	}
	for _, m := range n.mixed {
		out = m.next.overlaps(host, out)
		if n.param != nil {
			out = overlap(host, m.next, n.param, false, out)
		}
	}
	if n.param != nil {
		out = n.param.overlaps(host, out)
	}
	return out
}

// overlap walks two branches the same request could take. a was entered by the
// more specific segment; crossed says that b has since been so once, too.
func overlap(host string, a, b *routeNode, crossed bool, out []Conflict) []Conflict {
	if len(out) >= 100 {
		return out
	}
	for _, x := range a.methods {
		i := slices.IndexFunc(b.methods, func(y routeMethod) bool { return y.name == x.name && y.route != closed })
		if !crossed || i < 0 || x.route == closed {
			continue
		}
		y := b.methods[i]
		out = append(out, Conflict{Host: host, Method: x.name, First: x.route, Second: y.route, FirstPath: x.template, SecondPath: y.template})
		break
	}
	for _, k := range slices.Sorted(maps.Keys(a.literal)) {
		next := a.literal[k]
		if other := b.literal[k]; other != nil {
			out = overlap(host, next, other, crossed, out)
		}
		if b.param != nil && k != "" {
			out = overlap(host, next, b.param, crossed, out)
		}
	}
	if a.param != nil {
		for _, k := range slices.Sorted(maps.Keys(b.literal)) {
			if k != "" {
				out = overlap(host, a.param, b.literal[k], true, out)
			}
		}
		if b.param != nil {
			out = overlap(host, a.param, b.param, crossed, out)
		}
	}
	return out
}
