package gatehouse

// An Operation is one OpenAPI operation, as every room knows it: compiled when
// the config is loaded, read-only afterwards.
type Operation struct {
	API      string        // name of the API in the config
	ID       string        // operationId, or "GET /path" where the document gives none
	Method   string        // upper case
	Path     string        // template as callers see it, base path included: /v1/orders/{id}
	Tags     []string      // as in the document
	Security []Requirement // alternatives: one of them must hold; nil: the document names none
	Params   []Param       // path, query, header and cookie parameters, in document order
	Body     *Shape        // of the JSON or form request body; nil when there is none
}

// A Requirement is one Security Requirement Object (OpenAPI §4.8.30): all of its
// schemes must hold. An empty Requirement is the document's way to say "or nobody".
type Requirement []SchemeUse

// A SchemeUse is a security scheme with the scopes an operation wants of it.
type SchemeUse struct {
	Scheme string // its name under components.securitySchemes
	Kind   string // "oauth2", "openIdConnect", "http:bearer", "http:basic", "apiKey", "mutualTLS"
	Scopes []string
	Header string // of an apiKey scheme: the header that carries the key; "" where the document wants it elsewhere
}

// A Param is one declared parameter. Values of parameters travel as []any in the
// order of [Operation.Params]: string, int64, float64, bool, []any, or nil when absent.
type Param struct {
	In       string // "path", "query", "header", "cookie"
	Name     string
	Required bool
	Shape    *Shape
}

// A ShapeKind is the JSON type of a [Shape].
type ShapeKind uint8

// The kinds of a Shape. The zero kind is unknown: a rule may use it only dynamically.
const (
	AnyShape ShapeKind = iota
	StringShape
	IntegerShape
	NumberShape
	BooleanShape
	ArrayShape
	ObjectShape
)

// A Shape is what the schema promises about a value, reduced to what typed
// rules need: kinds and field names. Recursive schemas end in AnyShape.
type Shape struct {
	Kind   ShapeKind
	Fields []Field  // of an object, sorted by name
	Open   bool     // an object that may have other fields too
	Items  *Shape   // of an array
	Enum   []string // the only values a string may have
}

// A Field is a named member of an object [Shape].
type Field struct {
	Name     string
	Required bool
	Shape    *Shape
}

// Field returns the shape of the named member, or nil.
func (s *Shape) Field(name string) *Shape {
	if s == nil {
		return nil
	}
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return s.Fields[i].Shape
		}
	}
	return nil
}
