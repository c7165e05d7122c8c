package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// The names of the object types a rule sees. Nested objects have dotted names.
const (
	typeClaims    = "Claims"
	typePrincipal = "Principal"
	typeRequest   = "Request"
	typeRoles     = "Roles"
	typeGrants    = "Grants"
	typePath      = "Path"
	typeQuery     = "Query"
	typeHeader    = "Header"
	typeCookie    = "Cookie"
	typeBody      = "Body"
)

// The variables role() and grant() are expanded to; no rule can spell them.
const (
	varRoles  = "@roles"
	varGrants = "@grants"
)

// A typeTable tells the checker which fields exist in one operation, and the
// evaluator how to read each. Fields are read from the Input itself, so that a
// request pays only for what its rules name.
//
// It implements types.Provider, and is used only by one goroutine at a time (see
// dialect). A getter checks the value against the type it
// promised: validate has done so already, but a rule that met another type
// would compare apples with pears, and `!=` of those is true.
type typeTable struct {
	roles   *roleTable
	op      *gatehouse.Operation
	claims  *gatehouse.Shape
	nested  map[string]*gatehouse.Shape // object types by name
	missing map[string]string           // field that was asked for and is not there → what to say
}

func newTypeTable(claims *gatehouse.Shape, roles *roleTable, op *gatehouse.Operation) *typeTable {
	t := &typeTable{claims: claims, roles: roles, op: op, nested: map[string]*gatehouse.Shape{}, missing: map[string]string{}}
	if op != nil && op.Body != nil && op.Body.Kind == gatehouse.ObjectShape {
		t.nested[typeBody] = op.Body
	}
	return t
}

// EnumValue implements types.Provider; there are no enums.
func (t *typeTable) EnumValue(name string) ref.Val {
	return types.NewErr("no such enum value %q", name)
}

// FindIdent implements types.Provider; there are no global identifiers.
func (t *typeTable) FindIdent(string) (ref.Val, bool) { return nil, false }

// FindStructType implements types.Provider.
func (t *typeTable) FindStructType(name string) (*types.Type, bool) {
	if _, ok := t.nested[name]; !ok && !slices.Contains([]string{typeClaims, typePrincipal, typeRequest, typeRoles, typeGrants, typePath, typeQuery, typeHeader, typeCookie}, name) {
		return nil, false
	}
	return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
}

// FindStructFieldNames implements types.Provider.
func (t *typeTable) FindStructFieldNames(name string) ([]string, bool) {
	switch name {
	case typeClaims:
		return fieldNames(t.claims), true
	case typePrincipal:
		return sortedKeys(principalFields), true
	case typeRequest:
		return sortedKeys(requestFields), true
	case typeRoles:
		return t.roles.names, true
	case typeGrants:
		return t.roles.grants(), true
	case typePath, typeQuery, typeHeader, typeCookie:
		var names []string
		if t.op != nil {
			for _, p := range t.op.Params {
				if p.In == strings.ToLower(name) {
					names = append(names, p.Name)
				}
			}
		}
		return names, true
	}
	shape, ok := t.nested[name]
	return fieldNames(shape), ok
}

// FindStructFieldType implements types.Provider. It also remembers what was
// missing, for a better message than the checker's.
func (t *typeTable) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	f := t.find(name, field)
	if f == nil {
		t.missing[field] = t.explainMissing(name, field)
	}
	return f, f != nil
}

// NewValue implements types.Provider; rules cannot make objects.
func (t *typeTable) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("cannot make a %s", name)
}

func (t *typeTable) find(name, field string) *types.FieldType {
	switch name {
	case typeRoles, typeGrants:
		if set := t.holders(name, field); len(set) > 0 {
			return held(set)
		}
		return nil
	}
	m, ok := t.member(name, field)
	if !ok {
		return nil
	}
	ft := t.field(name, field, m.shape, m.get)
	if name == typeRequest && field == "time" {
		ft.Type = types.TimestampType
	}
	return ft
}

// holders gives the roles that are, or grant, what a hidden variable's field names.
func (t *typeTable) holders(name, field string) roleSet {
	if name == typeRoles {
		return t.roles.thatAre(field)
	}
	return t.roles.grantedBy(field)
}

// A member is how one field is read, before its type is checked. Target is the
// *activation, of nested objects the object.
type member struct {
	shape *gatehouse.Shape
	get   func(target any) (any, bool)
	text  func(*activation) (string, bool) // what get gives, where it would have to make an any of it; or nil
	texts func(*activation) []string       // likewise
}

func (t *typeTable) member(name, field string) (member, bool) {
	switch name {
	case typeClaims:
		shape := t.claims.Field(field)
		return member{shape: shape, get: func(target any) (any, bool) {
			in, ok := target.(*activation)
			if !ok || in.Principal == nil {
				return nil, false
			}
			v, ok := in.Principal.Claims[field]
			// An empty claim proves nothing: it must not equal an empty owner.
			if s, isString := v.(string); isString && s == "" {
				return nil, false
			}
			return v, ok
		}}, shape != nil
	case typePrincipal:
		m, ok := principalFields[field]
		return m, ok
	case typeRequest:
		m, ok := requestFields[field]
		return m, ok
	case typePath, typeQuery, typeHeader, typeCookie:
		if t.op == nil {
			return member{}, false
		}
		for i, p := range t.op.Params {
			if p.In == strings.ToLower(name) && sameParam(p, field) {
				return member{shape: p.Shape, get: func(target any) (any, bool) {
					in, ok := target.(*activation)
					if !ok || i >= len(in.Params) {
						return nil, false
					}
					return in.Params[i], in.Params[i] != nil
				}}, true
			}
		}
		return member{}, false
	}
	shape := t.nested[name].Field(field)
	return member{shape: shape, get: func(target any) (any, bool) {
		m, ok := target.(map[string]any)
		if !ok {
			return nil, false
		}
		v, ok := m[field]
		return v, ok
	}}, shape != nil
}

// sameParam compares names as HTTP does: header names fold case, and as `-`
// cannot be written in a plain CEL name, `_` stands for it there.
func sameParam(p gatehouse.Param, field string) bool {
	if p.In != "header" {
		return p.Name == field
	}
	return strings.EqualFold(p.Name, field) || strings.EqualFold(strings.ReplaceAll(p.Name, "-", "_"), field)
}

func (t *typeTable) explainMissing(name, field string) string {
	names, _ := t.FindStructFieldNames(name)
	near := config.DidYouMean(field, names)
	switch name {
	case typeRoles:
		return fmt.Sprintf("role %q is not configured%s", field, near)
	case typeGrants:
		return fmt.Sprintf("no role has the grant %q%s", field, near)
	case typeClaims:
		return fmt.Sprintf("no issuer declares the claim %q%s", field, near)
	case typePath, typeQuery, typeHeader, typeCookie:
		return fmt.Sprintf("operation %s has no %s parameter %q%s", t.op.ID, strings.ToLower(name), field, near)
	case typePrincipal, typeRequest:
		return fmt.Sprintf("%s has no field %q%s", strings.ToLower(name), field, near)
	}
	return fmt.Sprintf("%s of operation %s has no field %q%s", strings.ToLower(name[:1])+name[1:], t.op.ID, field, near)
}

func held(set roleSet) *types.FieldType {
	return &types.FieldType{
		Type:  types.BoolType,
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			in, ok := target.(*activation)
			return ok && set.holds(in.Principal), nil
		},
	}
}

var errAbsent = errors.New("is absent")

func (t *typeTable) field(owner, name string, shape *gatehouse.Shape, get func(any) (any, bool)) *types.FieldType {
	label := strings.ToLower(owner[:1]) + owner[1:] + "." + name
	absent := fmt.Errorf("%s %w", label, errAbsent)
	return &types.FieldType{
		Type:  t.typeOf(owner+"."+name, shape),
		IsSet: func(target any) bool { _, ok := get(target); return ok },
		GetFrom: func(target any) (any, error) {
			v, ok := get(target)
			if !ok {
				return nil, absent
			}
			v, err := coerce(shape, v)
			if err != nil {
				return nil, fmt.Errorf("%s %w", label, err)
			}
			return v, nil
		},
	}
}

// typeOf gives the CEL type of a shape, naming nested objects by their way.
func (t *typeTable) typeOf(name string, s *gatehouse.Shape) *types.Type {
	if s == nil {
		return types.DynType
	}
	switch s.Kind {
	case gatehouse.StringShape:
		return types.StringType
	case gatehouse.IntegerShape:
		return types.IntType
	case gatehouse.NumberShape:
		return types.DoubleType
	case gatehouse.BooleanShape:
		return types.BoolType
	case gatehouse.ArrayShape:
		return types.NewListType(t.typeOf(name+"[]", s.Items))
	case gatehouse.ObjectShape:
		// A free-form object names no fields to check against.
		if len(s.Fields) == 0 {
			return types.NewMapType(types.StringType, types.DynType)
		}
		t.nested[name] = s
		return types.NewObjectType(name)
	case gatehouse.AnyShape:
	}
	return types.DynType
}

// coerce checks that v is what the shape promised and brings numbers to the one
// Go type that CEL compares. It never converts between kinds.
func coerce(s *gatehouse.Shape, v any) (any, error) {
	if v == nil {
		return nil, errors.New("is null")
	}
	if s == nil {
		return v, nil
	}
	switch s.Kind {
	case gatehouse.StringShape:
		if _, ok := v.(string); ok {
			return v, nil
		}
	case gatehouse.BooleanShape:
		if _, ok := v.(bool); ok {
			return v, nil
		}
	case gatehouse.IntegerShape:
		if _, ok := v.(int64); ok {
			return v, nil
		}
		if n, ok := integer(v); ok {
			return n, nil
		}
	case gatehouse.NumberShape:
		if _, ok := v.(float64); ok {
			return v, nil
		}
		if n, ok := number(v); ok {
			return n, nil
		}
	case gatehouse.ObjectShape:
		if _, ok := v.(map[string]any); ok {
			return v, nil
		}
	case gatehouse.ArrayShape:
		switch list := v.(type) {
		case []any:
			return coerceList(s.Items, list)
		case []string:
			if s.Items == nil || s.Items.Kind == gatehouse.StringShape || s.Items.Kind == gatehouse.AnyShape {
				return v, nil
			}
		}
	case gatehouse.AnyShape:
		return v, nil
	}
	return nil, errors.New("has another type than its schema says")
}

func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		// Above 2^53 a float64 no longer tells neighbours apart.
		if n == math.Trunc(n) && math.Abs(n) <= 1<<53 {
			return int64(n), true
		}
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	}
	return 0, false
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), true
	case int:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// coerceList copies only when an element has to change.
func coerceList(items *gatehouse.Shape, list []any) (any, error) {
	out := list
	for i, e := range list {
		c, err := coerce(items, e)
		if err != nil {
			return nil, fmt.Errorf("[%d] %w", i, err)
		}
		switch c.(type) {
		case int64, float64:
			if c != e {
				if &out[0] == &list[0] {
					out = slices.Clone(list)
				}
				out[i] = c
			}
		case []any:
			if &out[0] == &list[0] {
				out = slices.Clone(list)
			}
			out[i] = c
		}
	}
	return out, nil
}

// An adapter makes CEL values of Go values. Over the library's it knows
// json.Number, which the library would take for a string that equals no number.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return types.Int(i)
		}
		if f, err := v.Float64(); err == nil {
			return types.Double(f)
		}
		return types.NewErr("not a number")
	case *activation:
		return types.NewErr("only single fields can be compared")
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

var (
	stringShape  = &gatehouse.Shape{Kind: gatehouse.StringShape}
	boolShape    = &gatehouse.Shape{Kind: gatehouse.BooleanShape}
	stringsShape = &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: stringShape}
)

// onInput reads a member off the Input.
func onInput(shape *gatehouse.Shape, get func(*activation) (any, bool)) member {
	return member{shape: shape, get: func(target any) (any, bool) {
		in, ok := target.(*activation)
		if !ok {
			return nil, false
		}
		return get(in)
	}}
}

func textOf(text func(*activation) (string, bool)) member {
	m := onInput(stringShape, func(in *activation) (any, bool) { return text(in) })
	m.text = text
	return m
}

// filled counts an empty string as absent: two callers without tenant are not
// of the same tenant.
func filled(get func(*gatehouse.Principal) string) member {
	return textOf(func(in *activation) (string, bool) {
		if in.Principal == nil {
			return "", false
		}
		s := get(in.Principal)
		return s, s != ""
	})
}

func listed(get func(*gatehouse.Principal) []string) member {
	texts := func(in *activation) []string {
		if in.Principal == nil {
			return nil
		}
		return get(in.Principal)
	}
	return textsOf(texts)
}

func textsOf(texts func(*activation) []string) member {
	m := onInput(stringsShape, func(in *activation) (any, bool) { return texts(in), true })
	m.texts = texts
	return m
}

var principalFields = map[string]member{
	"subject":   filled(func(p *gatehouse.Principal) string { return p.Subject }),
	"issuer":    filled(func(p *gatehouse.Principal) string { return p.Issuer }),
	"client":    filled(func(p *gatehouse.Principal) string { return p.Client }),
	"tenant":    filled(func(p *gatehouse.Principal) string { return p.Tenant }),
	"key_id":    filled(func(p *gatehouse.Principal) string { return p.KeyID }),
	"method":    filled(func(p *gatehouse.Principal) string { return string(p.Method) }),
	"roles":     listed(func(p *gatehouse.Principal) []string { return p.Roles }),
	"scopes":    listed(func(p *gatehouse.Principal) []string { return p.Scopes }),
	"anonymous": onInput(boolShape, func(in *activation) (any, bool) { return in.Principal.Anonymous(), true }),
}

var requestFields = map[string]member{
	"method":   textOf(func(in *activation) (string, bool) { return in.Method, in.Method != "" }),
	"path":     textOf(func(in *activation) (string, bool) { return in.Path, in.Path != "" }),
	"host":     textOf(func(in *activation) (string, bool) { return in.Host, in.Host != "" }),
	"address":  textOf(func(in *activation) (string, bool) { return in.Address.String(), in.Address.IsValid() }),
	"network":  textOf(func(in *activation) (string, bool) { of := in.Networks.Of(in.Address); return of.List, of.List != "" }),
	"networks": textsOf(func(in *activation) []string { return in.Networks.Lists(in.Address) }),
	"country": textOf(func(in *activation) (string, bool) {
		of := in.Networks.Of(in.Address)
		return of.Country, of.Country != ""
	}),
	"asn": onInput(&gatehouse.Shape{Kind: gatehouse.IntegerShape}, func(in *activation) (any, bool) {
		of := in.Networks.Of(in.Address)
		return int64(of.ASN), of.ASN != 0
	}),
	"tls":  onInput(boolShape, func(in *activation) (any, bool) { return in.TLS, true }),
	"time": onInput(&gatehouse.Shape{}, func(in *activation) (any, bool) { return in.Time, !in.Time.IsZero() }),
}

// An activation is an Input seen by the evaluator: each variable is the Input,
// and the field's getter knows where to look.
type activation Input

// ResolveName implements interpreter.Activation.
func (in *activation) ResolveName(name string) (any, bool) {
	if name == "body" {
		return in.Body, true
	}
	return in, true
}

// Parent implements interpreter.Activation.
func (*activation) Parent() cel.Activation { return nil }

// standardClaims are declared for every issuer (RFC 7519 §4.1, RFC 9068 §2.2,
// OpenID Connect Core §2, RFC 7800, RFC 9396 §2). aud is a string or a list and
// stays untyped, as do the details, whose fields depend on their type.
var standardClaims = map[string]string{
	"sub": "string", "iss": "string", "jti": "string", "aud": "any", "exp": "int", "iat": "int", "nbf": "int",
	"client_id": "string", "azp": "string", "scope": "string", "acr": "string", "amr": "[string]", "auth_time": "int",
	"sid": "string", "cnf": "any", "authorization_details": "[any]",
}

func claimShape(declared map[string]string) (*gatehouse.Shape, error) {
	all := maps.Clone(standardClaims)
	maps.Copy(all, declared)
	shape := &gatehouse.Shape{Kind: gatehouse.ObjectShape}
	var errs []error
	for _, name := range sortedKeys(all) {
		s, err := typeShape(all[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("claims.%s: %w", name, err))
			continue
		}
		shape.Fields = append(shape.Fields, gatehouse.Field{Name: name, Shape: s})
	}
	return shape, errors.Join(errs...)
}

func typeShape(name string) (*gatehouse.Shape, error) {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok := strings.CutSuffix(inner, "]")
		if !ok {
			return nil, fmt.Errorf("type %q lacks its ]", name)
		}
		items, err := typeShape(inner)
		if err != nil {
			return nil, err
		}
		return &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: items}, nil
	}
	kind, ok := map[string]gatehouse.ShapeKind{
		"string": gatehouse.StringShape, "int": gatehouse.IntegerShape, "integer": gatehouse.IntegerShape,
		"number": gatehouse.NumberShape, "bool": gatehouse.BooleanShape, "boolean": gatehouse.BooleanShape,
		"object": gatehouse.ObjectShape, "any": gatehouse.AnyShape,
	}[name]
	if !ok {
		return nil, fmt.Errorf("unknown type %q: expected string, int, number, bool, object, any, or a list like [string]", name)
	}
	return &gatehouse.Shape{Kind: kind}, nil
}

func fieldNames(s *gatehouse.Shape) []string {
	if s == nil {
		return nil
	}
	names := make([]string, 0, len(s.Fields))
	for _, f := range s.Fields {
		names = append(names, f.Name)
	}
	return names
}
