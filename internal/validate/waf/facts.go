package waf

// A Message is an HTTP request, or an answer to it, as the rules see it.
type Message struct {
	Address  string  // of the client, without port
	Method   string  // as received
	Target   string  // the request-target as it goes on: "/a?b=c"
	Protocol string  // "HTTP/1.1"
	Header   []Field // Host among them; names as received
	Body     []byte  // whole, as it goes on

	Status     int // of the answer; 0: there is none yet
	Answer     []Field
	AnswerBody []byte
}

// A Field is a header field.
type Field struct{ Name, Value string }

// Facts are what rules ask about: the message and the values found in it. They
// are pooled: nobody keeps them, or a string of them, after the verdict.
type Facts struct {
	Message

	Values []Value

	// RequestLine is method, target and protocol as one text, where who fills in the
	// message has it already; "": it is made when a rule asks for it.
	RequestLine string

	// What the values do not say; see the collections of the same names in the
	// ModSecurity reference manual.
	RequestBody     string // REQUEST_BODY; "" where the body's reader does not set it
	BodyProcessor   string // REQBODY_PROCESSOR: URLENCODED, MULTIPART, XML, JSON or "": no known type, read as a form
	BodyError       string // REQBODY_ERROR_MSG; "" when the body could be read
	MultipartStrict bool   // MULTIPART_STRICT_ERROR
	FilesSize       int64  // FILES_COMBINED_SIZE
	ArgsCut         bool   // ARGUMENTS_LIMIT_REACHED: there were more than a thousand in the query or in the body

	// Which rules run at all, which can match the request line and what is made of it
	// ([Line]), and which the path in it, by their number in the engine; nil: all. What
	// can match the path is in both of the last.
	Rules, LineRules, PathRules Mask

	read reading // room for Read and what was computed for single variables
}

// A Value is one name and text of a message.
type Value struct {
	In   In
	Name string
	Text string

	// Which rules can match at all, by their number in the engine ([Rules.Mask]);
	// nil: all. What the operation's schema excludes was proven at load.
	TextRules, NameRules Mask

	Member *Member // what the engine knows of In and Name; nil: it looks it up
}

// Add adds a value, which is zero, to be filled in.
func (f *Facts) Add() *Value {
	n := len(f.Values)
	if n < cap(f.Values) { // who took values away has left zeros
		f.Values = f.Values[:n+1]
	} else {
		f.Values = append(f.Values, Value{})
	}
	return &f.Values[n]
}

// An In is where a value stands.
type In uint8

// The places of values. ARGS is the first three, ARGS_NAMES their names.
const (
	ArgGet       In = iota + 1 // of the query
	ArgPost                    // of the body: a form's field, a JSON leaf ("json.a.0.b"), a part of a multipart body without file name
	ArgPath                    // of the path
	Cookie                     // REQUEST_COOKIES
	Header                     // REQUEST_HEADERS
	File                       // FILES_NAMES and FILES: the name of the field, and the name the client gave the file; rules see both without a name
	PartHeader                 // MULTIPART_PART_HEADERS: the name of the part and one header line
	XMLText                    // XML:/*, character data; the name is "/*"
	XMLAttr                    // XML://@*, an attribute's value; the name is "//@*"
	AnswerHeader               // RESPONSE_HEADERS
	Line                       // no place of values: REQUEST_LINE, REQUEST_URI, REQUEST_URI_RAW, REQUEST_FILENAME, REQUEST_BASENAME and QUERY_STRING, by these names
)

// A Mask is a set of rules by their number in the engine. Nil is all rules, an
// empty one none.
type Mask []uint64

// Has reports whether rule n is in the mask.
func (m Mask) Has(n int) bool { return m == nil || n>>6 < len(m) && m[n>>6]>>(n&63)&1 != 0 }
