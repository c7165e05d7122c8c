package jsonschema

import "regexp"

// Bits of node.types.
const (
	typeNull uint8 = 1 << iota
	typeBool
	typeNumber
	typeString
	typeArray
	typeObject
	typeInteger
)

// Bits of node.parts: which groups of keywords a node has at all.
const (
	partConst uint16 = 1 << iota
	partNumber
	partString
	partArray
	partObject
	partApply
	partUneval
	partFormat
)

// A node is one compiled schema. Pointers between nodes may form cycles.
type node struct {
	place    place
	res      *resource
	alias    *node // a schema that is nothing but a $ref
	never    bool  // the schema false
	types    uint8
	parts    uint16
	secret   bool // format password, or writeOnly
	hidden   bool // says readOnly (in a request) or writeOnly (in a response)
	readOnly bool // the same through $ref and allOf: a member with this schema is refused

	constant []fixed // enum, or the one of const
	words    *nameTable
	both     []fixed // const beside enum

	minimum, maximum   *bound
	multiple           *bound
	integers           *span // that the three take; nil: not known
	minLength          int   // code points; -1 none, as are all counts
	maxLength          int
	pattern            *pattern
	format             *format
	minItems, maxItems int
	unique             bool
	prefix             []*node
	items              *node
	contains           *node
	minContains        int
	maxContains        int

	members        *memberTable
	patterns       []patternMember
	additional     *node
	names          *node
	minProps       int
	maxProps       int
	dependentNames []dependent
	dependents     []dependent

	ref                    *node
	dynamic                *dynamicRef
	allOf, anyOf, oneOf    []*node
	not, cond, then, other *node
	discriminator          *discriminator
	unevalItems            *node
	unevalProps            *node
}

// A bound is a number of the schema, with its literal for messages.
type bound struct {
	dec     decimal
	literal string
	open    bool // exclusive
}

// A fixed value of const or enum: its canonical bytes and its own tape.
type fixed struct {
	out   []byte
	cells []cell
}

type patternMember struct {
	pattern *pattern
	node    *node
}

type dependent struct {
	name  string
	names []string
	node  *node
}

type dynamicRef struct {
	fixed *node  // when no dynamic scope has the anchor
	name  string // "" for $recursiveRef
}

type discriminator struct {
	property string
	branch   map[string]*node
	open     bool // some alternative has no name: others than the named may match
}

// A pattern runs in time linear in the text: as one class or a table when it is
// small, else by RE2.
type pattern struct {
	source string
	expr   string // in Go's syntax
	class  *class
	table  *dfa
	re     *regexp.Regexp
}

func (p *pattern) match(b []byte) bool {
	if ok, decided := quickly(p, b); decided {
		return ok
	}
	return p.re.Match(b)
}

// quickly is match without RE2, where that can decide.
func quickly[T string | []byte](p *pattern, text T) (ok, decided bool) {
	switch {
	case p.class != nil:
		return inClass(p.class, text), true
	case p.table != nil:
		return decide(p.table, text)
	}
	return false, false
}

// A memberTable holds the named members of an object schema, those only
// required included.
type memberTable struct {
	list     []member
	by       nameTable
	required []uint64 // bits of list that must appear
	words    int
}

type member struct {
	name     string // canonical, as on the tape
	plain    string
	node     *node // nil when only required
	required bool
}

// named returns the place in list of the member with that canonical name, or -1.
func (t *memberTable) named(canonical string) int32 {
	return t.by.find([]byte(canonical), nameKey(canonical))
}
