package jsonschema

import (
	"sync"
)

// A Dialect is the meaning of a schema that does not name its own by $schema.
type Dialect uint8

// The dialects.
const (
	Draft202012 Dialect = iota // JSON Schema 2020-12, and OpenAPI 3.1 with its discriminator
	OpenAPI30                  // OpenAPI 3.0 Schema Object: nullable, exclusiveMinimum as bool, $ref alone
	Draft4                     // draft-04
	Draft7                     // draft-07, and draft-06, which it contains
	Draft201909                // 2019-09
)

// A Direction says which way a message travels, for readOnly and writeOnly
// (OpenAPI 3.1.1 §4.8.24, JSON Schema 2020-12 validation §9.4). The zero
// Direction is the request: a member the service alone may set is refused.
type Direction uint8

// The directions.
const (
	Request    Direction = iota // readOnly members are refused and not required
	Response                    // writeOnly members are refused and not required
	Undirected                  // plain JSON Schema: both are annotations
)

// Limits bound the work for one value. A zero field takes the default.
type Limits struct {
	MaxDepth        int // arrays and objects inside one another; 64
	MaxNumberLength int // characters of a number literal; 40
	MaxExponent     int // decimal magnitude of a number, 308 at most what a double holds; above 308 doubles are not asked for; 308
	MaxMembers      int // members of one object; 4,096
	MaxItems        int // items of one array; 65,536
	MaxValues       int // values in all; 262,144
	WorkPerValue    int // schema steps allowed for each value, beside 20,000 and one for 8 bytes; 128
}

const baseWork = 20_000

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.MaxDepth, 64)
	def(&l.MaxNumberLength, 40)
	def(&l.MaxExponent, 308)
	def(&l.MaxMembers, 4096)
	def(&l.MaxItems, 65536)
	def(&l.MaxValues, 1<<18)
	def(&l.WorkPerValue, 128)
	return l
}

// Options say how schemas are read. The zero Options are the strict ones of an
// OpenAPI 3.1 request, but for AssertFormats.
type Options struct {
	Dialect                 Dialect
	Direction               Direction
	AssertFormats           bool // check "format" instead of carrying it as an annotation
	SkipUnsupportedPatterns bool // a pattern that cannot run in linear time becomes a warning and is not checked
	MaxViolations           int  // how many faults an Error lists; 10
	Limits                  Limits
}

// A Schema is a compiled schema. It is immutable and safe for use by many
// goroutines. The zero Schema and a nil one refuse every value.
type Schema struct {
	node *node
	prog *program
}

// A program is what all schemas of one Compiler share at run time.
type program struct {
	limits    Limits
	direction Direction
	formats   bool
	max       int
	dynamic   bool      // some schema has a $dynamicRef: the way taken must be remembered
	pool      sync.Pool // of *run
}

// Append checks src, the whole of one JSON text, and appends its canonical form
// to dst: the members in the order they came, no insignificant whitespace,
// strings with the fewest escapes, numbers as they were written except that a
// negative zero loses its sign (an integer reader and a double reader differ on
// it). On an error, always an [*Error], it returns dst as it was.
//
// Append does not keep src, which must not lie in dst. It allocates nothing once dst is large enough.
func (s *Schema) Append(dst, src []byte) ([]byte, error) { return s.AppendTape(dst, src, nil) }

// ValidateValue checks a decoded value: nil, bool, string, int, int64, float64,
// json.Number, []any or map[string]any. Scalars cost no parsing: path, query
// and header parameters come this way.
func (s *Schema) ValidateValue(v any) error {
	if s == nil || s.node == nil {
		return errNoSchema()
	}
	r := s.prog.get()
	r.out = r.own[:0]
	defer func() {
		r.own = r.out[:0]
		s.prog.put(r)
	}()
	if err := r.value(v); err != nil {
		return err
	}
	return r.validate(s.node)
}

func errNoSchema() error {
	return &Error{Violations: []Violation{{Keyword: "false", Detail: "no value is taken here"}}}
}

func (p *program) get() *run {
	r, ok := p.pool.Get().(*run)
	if !ok {
		r = &run{prog: p}
	}
	r.reset()
	return r
}

// A run that met a giant body is left to the garbage collector: one large
// message must not pin its scratch for ever.
func (p *program) put(r *run) {
	if cap(r.cells) > 1<<17 || cap(r.own) > 1<<18 || cap(r.text) > 1<<18 || cap(r.table) > 1<<17 || cap(r.hash) > 1<<16 {
		return
	}
	r.out = nil
	p.pool.Put(r)
}
