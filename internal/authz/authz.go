package authz

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// A Phase is the moment at which a rule has everything it names.
type Phase uint8

// The phases, in the order in which a request reaches them.
const (
	Caller Phase = iota // the rule looks at claims, principal and request only
	Head                // it names path, query, header or cookie parameters
	Body                // it names fields of the body
	phases              // how many there are
)

// A Rule is one CEL expression that yields a bool.
type Rule struct {
	ID      string // unique among the rules of its layer and kind
	Expr    string // CEL
	Because string // one sentence for whoever reads the denial
	Place   string // where it stands: "gatehouse.yaml:12:9"; errors begin with it
}

// Rules are those of one layer. Each Require must be true, no Deny may be.
type Rules struct {
	Require []Rule
	Deny    []Rule
}

// Config is what all operations share.
type Config struct {
	Roles      map[string]Role
	Claims     map[string]string // claim → type: string, int, number, bool, any, object, or a list like [string]
	Guardrails Rules             // the organisation's; every operation of every API must satisfy them
}

// Access is what one operation asks of its callers. The zero Access asks
// nothing and does not compile, unless the document names security.
type Access struct {
	Public bool              // anyone; must be written, and contradicts a document that names security
	Grant  []string          // permissions; the caller's roles must give all of them
	Own    map[string]string // ownership (OWASP API1:2023): both sides must be equal, as {"path.customerId": "claims.sub"}
	Unless []string          // permissions each of which makes Own superfluous, as for support staff
	Rules                    // the operation's own
	API    Rules             // rules every operation of this API has
	// Schemes says which methods serve which security scheme of the document.
	// One left out is served by its kind; one that is there with no method by
	// nobody.
	Schemes map[string][]gatehouse.Method
	// Issuers says whose tokens serve which security scheme; a scheme left out is
	// served by every issuer's.
	Issuers map[string][]string
	Place   string // of the operation in the config; errors begin with it
}

// An Input is one request as far as it is known. Params and Body may be left
// out until their phase.
type Input struct {
	Principal *gatehouse.Principal // nil is nobody
	Method    string               // HTTP method
	Path      string               // as received
	Host      string               // authority, lower case, without port
	Address   netip.Addr           // the caller's, trusted hops resolved
	Networks  *networks.Set        // where addresses are; nil: nobody knows
	TLS       bool
	Time      time.Time
	Params    []any // aligned with [gatehouse.Operation.Params]
	Body      any   // decoded: map[string]any, []any, string, int64, float64, bool
}

// A Compiler turns the access of operations into policies. It is safe for
// concurrent use.
type Compiler struct {
	roles      *roleTable
	claims     *gatehouse.Shape
	guardrails Rules
	caller     *typeEnv // knows what needs no operation

	mu       sync.Mutex
	shared   map[Rule]*program   // rules that look only at the caller, compiled once for all operations
	dialects map[string]*dialect // by the type of the body
}

// New checks what all operations share. Errors are joined; each names its place.
func New(cfg Config) (*Compiler, error) {
	roles, err := newRoleTable(cfg.Roles)
	if err != nil {
		return nil, err
	}
	claims, err := claimShape(cfg.Claims)
	if err != nil {
		return nil, err
	}
	c := &Compiler{roles: roles, claims: claims, guardrails: cfg.Guardrails, shared: map[Rule]*program{}, dialects: map[string]*dialect{}}
	callers, err := newDialect(nil, false, nil)
	if err != nil {
		return nil, err
	}
	c.caller = &typeEnv{callers, newTypeTable(claims, roles, nil)}
	// A guardrail that looks only at the caller is judged here, once, and not
	// again for each of ten thousand operations.
	var errs []error
	for _, r := range slices.Concat(cfg.Guardrails.Require, cfg.Guardrails.Deny) {
		if _, err := c.compileRule(&opEnv{c: c}, r); err != nil && !errors.Is(err, ErrNeedsOperation) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// Compile turns what op asks of its callers into a policy. All errors are
// joined, each beginning with the place of what is wrong.
func (c *Compiler) Compile(op *gatehouse.Operation, access Access) (*Policy, error) {
	if op == nil {
		return nil, errors.New("authz: no operation")
	}
	p := &Policy{op: op, public: access.Public, roles: c.roles, grants: slices.Clone(access.Grant), place: access.Place}
	var errs []error
	fail := func(place, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: operation %s: %w", orElse(place, op.API), op.ID, fmt.Errorf(format, args...)))
	}

	if err := p.setSecurity(access.Schemes, access.Issuers); err != nil {
		fail(access.Place, "%w", err)
	}
	switch needed := documentNeedsCaller(op.Security); {
	case access.Public && needed:
		fail(access.Place, "it is public here but the OpenAPI document asks for %s; take `public` out, or write `security: []` in the document", describeSecurity(op.Security))
	case access.Public && (len(access.Grant) > 0 || len(access.Own) > 0):
		fail(access.Place, "it is public and asks for a grant or an owner; it can be only one of them")
	case !access.Public && !needed && len(access.Grant) == 0 && len(access.Own) == 0 && len(access.Require) == 0:
		fail(access.Place, "operation without access: name a grant, an owner or a require rule, or write `public: true`")
	}
	if len(access.Unless) > 0 && len(access.Own) == 0 {
		fail(access.Place, "`unless` has no `own` to soften")
	}
	for _, g := range access.Grant {
		if err := checkGrant(g, false); err != nil {
			fail(access.Place, "grant: %w", err)
		}
	}
	for _, g := range access.Grant {
		p.holders = append(p.holders, c.roles.grantedBy(g))
	}

	env := &opEnv{c: c, op: op}
	add := func(layer Layer, prefix, kind string, rules []Rule) {
		seen := map[string]bool{}
		for _, r := range rules {
			id := prefix + r.ID
			switch {
			case r.ID == "":
				fail(r.Place, "a %s rule without an id", kind)
				continue
			case seen[r.ID]:
				fail(r.Place, "rule %q stands twice", id)
				continue
			}
			seen[r.ID] = true
			prog, err := c.compileRule(env, r)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			p.add(&rule{program: prog, id: id, layer: layer, kind: kind, want: kind != kindDeny, Rule: r})
		}
	}
	add(LayerGuardrail, "guardrail/", kindDeny, c.guardrails.Deny)
	add(LayerGuardrail, "guardrail/", kindRequire, c.guardrails.Require)
	add(LayerAPI, op.API+"/deny/", kindDeny, access.API.Deny)
	add(LayerAPI, op.API+"/require/", kindRequire, access.API.Require)
	add(LayerOperation, op.API+"/"+op.ID+"/deny/", kindDeny, access.Deny)
	add(LayerOperation, op.API+"/"+op.ID+"/own/", kindOwn, ownRules(access))
	add(LayerOperation, op.API+"/"+op.ID+"/require/", kindRequire, access.Require)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p.compiled = true
	return p, nil
}

// ownRules writes the ownership one-liner out as rules. An empty claim counts
// as absent (see typeTable), so that nobody owns what has an empty owner.
func ownRules(a Access) []Rule {
	var out []Rule
	for _, what := range sortedKeys(a.Own) {
		owner := a.Own[what]
		expr := fmt.Sprintf("(%s) == (%s)", what, owner)
		if isChain(what) && isChain(owner) {
			expr = what + " == " + owner
		}
		because := fmt.Sprintf("Only the owner: %s must be %s.", what, owner)
		for _, u := range slices.Backward(a.Unless) {
			expr = fmt.Sprintf("grant(%q) || %s", u, expr)
		}
		if len(a.Unless) > 0 {
			because = fmt.Sprintf("Only the owner (%s must be %s), or who has %s.", what, owner, strings.Join(a.Unless, " or "))
		}
		out = append(out, Rule{ID: what, Expr: expr, Because: because, Place: a.Place})
	}
	return out
}

// isChain reports whether s is a plain a.b.c, which needs no parentheses.
func isChain(s string) bool {
	for _, r := range s {
		if r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != ""
}

// ErrNeedsOperation says that a rule names what only an operation has.
var ErrNeedsOperation = errors.New("needs an operation")

// opEnv makes the environment of one operation, and only if a rule asks for it.
type opEnv struct {
	c   *Compiler
	op  *gatehouse.Operation
	env *typeEnv
}

func (o *opEnv) get() (*typeEnv, error) {
	if o.op == nil {
		return nil, ErrNeedsOperation
	}
	if o.env == nil {
		env, err := o.c.typeEnv(o.op)
		if err != nil {
			return nil, err
		}
		o.env = env
	}
	return o.env, nil
}

// typeEnv finds the dialect for op, making it when it is the first of its kind.
func (c *Compiler) typeEnv(op *gatehouse.Operation) (*typeEnv, error) {
	table := newTypeTable(c.claims, c.roles, op)
	var body *cel.Type
	key := ""
	if op.Body != nil {
		body = table.typeOf(typeBody, op.Body)
		key = body.String()
	}
	d := c.dialects[key]
	if d == nil {
		var err error
		if d, err = newDialect(c.caller.env, true, body); err != nil {
			return nil, err
		}
		c.dialects[key] = d
	}
	return &typeEnv{d, table}, nil
}

func (c *Compiler) compileRule(o *opEnv, r Rule) (*program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.shared[r]; p != nil {
		return p, nil
	}
	parsed, err := c.caller.parse(r)
	if err != nil {
		return nil, err
	}
	phase := phaseOf(parsed)
	env := c.caller
	if phase > Caller {
		if env, err = o.get(); err != nil {
			return nil, err
		}
	}
	p, err := env.compile(r, parsed, phase)
	if err != nil {
		return nil, err
	}
	if phase == Caller {
		c.shared[r] = p
	}
	return p, nil
}

func phaseOf(a *cel.Ast) Phase {
	phase := Caller
	for name := range rootsOf(a) {
		switch name {
		case "path", "query", "header", "cookie":
			phase = max(phase, Head)
		case "body":
			phase = max(phase, Body)
		}
	}
	return phase
}

func orElse(s, other string) string {
	if strings.TrimSpace(s) == "" {
		return other
	}
	return s
}
