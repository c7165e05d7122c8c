package validate

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bounds of an XML document. Its bytes are bounded as those of any body.
const (
	maxXMLDepth      = 64
	maxXMLAttributes = 64     // of one element
	maxXMLBindings   = 64     // namespace prefixes in scope
	maxXMLElements   = 65_536 // of one document
	maxXMLName       = 256    // bytes of a name
)

const (
	xmlDeclaration = `<?xml version="1.0" encoding="UTF-8"?>`
	namespaceXML   = "http://www.w3.org/XML/1998/namespace"
	namespaceXMLNS = "http://www.w3.org/2000/xmlns/"
)

// What is wrong most often; made once, read-only.
var (
	xmlBadAttribute = &xmlStop{ruleSyntax, "An attribute cannot be read."}
	xmlBadNamespace = &xmlStop{"namespace", "A namespace prefix is not declared, or declared in a way that is not allowed."}
	xmlBadReference = &xmlStop{"entity", "Only lt, gt, amp, apos, quot and characters by number may be referred to."}
)

// An xmlText is what rules ask about in an XML document.
type xmlText struct {
	texts      []string // of elements, without those of space alone
	attributes []string // values
}

// xmlStop is why a document cannot be read in one way only.
type xmlStop struct{ rule, detail string }

// checkXML reads a document (XML 1.0, Namespaces in XML 1.0) and writes it
// afresh. There is no DTD, and so no entity but the five, no processing
// instruction, and one encoding: what makes readers fetch, expand or guess is
// gone before any of them runs. Comments are left out: readers differ on whether
// the text around one is one text. The canonical form (C14N 1.0) of what is
// written is that of what came, so that a signature in it stays valid.
func (b *Body) checkXML(dst, src []byte, f *faults) []byte {
	x := xmlReader{in: src, out: append(dst, xmlDeclaration...)}
	if bad := x.document(); bad != nil {
		f.addSyntax(inBody, "", bad.rule, bad.detail)
		return dst
	}
	b.xml = x.found
	return x.out
}

type xmlReader struct {
	in       []byte
	i        int
	out      []byte
	stack    [][]byte // names of the open elements
	bindings []xmlBinding
	elements int
	found    xmlText
	text     []byte // of the run between two tags
	value    []byte // of an attribute
	attrs    []xmlAttr
}

type xmlBinding struct {
	prefix, uri string
	depth       int
}

type xmlAttr struct {
	name  []byte
	colon int // in name; 0: no prefix
	uri   string
	value string
}

func (x *xmlReader) document() *xmlStop {
	if !utf8.Valid(x.in) {
		return &xmlStop{ruleUTF8, "The document must be UTF-8."}
	}
	x.in = bytes.TrimPrefix(x.in, []byte("\xef\xbb\xbf"))
	if bad := x.declaration(); bad != nil {
		return bad
	}
	for x.i < len(x.in) {
		if bad := x.next(); bad != nil {
			return bad
		}
	}
	if len(x.stack) > 0 || x.elements == 0 {
		return &xmlStop{ruleSyntax, "The document is not complete."}
	}
	return nil
}

// declaration takes <?xml version="1.0" encoding="UTF-8" standalone="yes"?>.
func (x *xmlReader) declaration() *xmlStop {
	if !bytes.HasPrefix(x.in, []byte("<?xml")) || len(x.in) > 5 && !xmlSpace(x.in[5]) {
		return nil // "<?xml-stylesheet" is an instruction, and refused as one
	}
	bad := &xmlStop{ruleSyntax, "The XML declaration cannot be read."}
	x.i = len("<?xml")
	for _, name := range [...]string{"version", "encoding", "standalone"} {
		at := x.i
		space := x.space()
		if !bytes.HasPrefix(x.in[x.i:], []byte(name)) {
			if name == "version" {
				return bad
			}
			x.i = at
			continue
		}
		x.i += len(name)
		value, ok := x.literal()
		switch {
		case !space || !ok:
			return bad
		case name == "version" && string(value) != "1.0":
			return &xmlStop{ruleSyntax, "The version must be 1.0."}
		case name == "encoding" && !bytes.EqualFold(value, []byte("utf-8")):
			return &xmlStop{ruleUTF8, "The encoding must be UTF-8."}
		case name == "standalone" && string(value) != "yes" && string(value) != "no":
			return bad
		}
	}
	x.space()
	if !bytes.HasPrefix(x.in[x.i:], []byte("?>")) {
		return bad
	}
	x.i += 2
	return nil
}

// literal takes ="value" of the declaration.
func (x *xmlReader) literal() ([]byte, bool) {
	x.space()
	if x.i >= len(x.in) || x.in[x.i] != '=' {
		return nil, false
	}
	x.i++
	x.space()
	if x.i >= len(x.in) || x.in[x.i] != '"' && x.in[x.i] != '\'' {
		return nil, false
	}
	end := bytes.IndexByte(x.in[x.i+1:], x.in[x.i])
	if end < 0 {
		return nil, false
	}
	value := x.in[x.i+1 : x.i+1+end]
	x.i += end + 2
	return value, true
}

// next takes one tag, comment, CDATA section or run of text.
func (x *xmlReader) next() *xmlStop {
	rest := x.in[x.i:]
	switch {
	case rest[0] != '<':
		return x.characters()
	case bytes.HasPrefix(rest, []byte("</")):
		return x.endTag()
	case bytes.HasPrefix(rest, []byte("<!--")):
		return x.comment()
	case bytes.HasPrefix(rest, []byte("<![CDATA[")):
		return x.cdata()
	case bytes.HasPrefix(rest, []byte("<!")):
		return &xmlStop{"dtd", "There must be no document type definition."}
	case bytes.HasPrefix(rest, []byte("<?")):
		return &xmlStop{"processing_instruction", "There must be no processing instruction."}
	}
	return x.startTag()
}

func (x *xmlReader) characters() *xmlStop {
	for x.i < len(x.in) && x.in[x.i] != '<' {
		if len(x.stack) == 0 {
			if !x.space() {
				return &xmlStop{ruleSyntax, "There is text outside the root element."}
			}
			continue
		}
		if bytes.HasPrefix(x.in[x.i:], []byte("]]>")) {
			return &xmlStop{ruleSyntax, "Text must not contain ]]>."}
		}
		if plain := x.plain(); len(plain) > 0 {
			x.text = append(x.text, plain...)
			continue
		}
		var bad *xmlStop
		if x.text, bad = x.character(x.text); bad != nil {
			return bad
		}
	}
	return nil
}

// xmlPlain are the bytes that stand for themselves wherever text stands.
var xmlPlain = func() (t [256]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = strings.IndexByte(`<>&]"'`, c) < 0
	}
	return t
}()

// plain takes as many of these as there are.
func (x *xmlReader) plain() []byte {
	start := x.i
	for x.i < len(x.in) && xmlPlain[x.in[x.i]] {
		x.i++
	}
	return x.in[start:x.i]
}

// character takes one character or reference of text or of an attribute.
func (x *xmlReader) character(dst []byte) ([]byte, *xmlStop) {
	switch x.in[x.i] {
	case '&':
		r, bad := x.reference()
		return utf8.AppendRune(dst, r), bad
	case '\r': // XML 1.0 §2.11: every line end is one LF
		if x.i++; x.i < len(x.in) && x.in[x.i] == '\n' {
			x.i++
		}
		return append(dst, '\n'), nil
	}
	r, n := utf8.DecodeRune(x.in[x.i:])
	if !xmlChar(r) {
		return dst, &xmlStop{ruleControl, "There is a character XML does not have."}
	}
	x.i += n
	return utf8.AppendRune(dst, r), nil
}

// reference takes &#65;, &#x41; or one of the five entities.
func (x *xmlReader) reference() (rune, *xmlStop) {
	rest := x.in[x.i+1:]
	end := bytes.IndexByte(rest[:min(len(rest), 12)], ';')
	if end < 1 {
		return 0, xmlBadReference
	}
	name := rest[:end]
	x.i += end + 2
	if name[0] != '#' {
		switch string(name) {
		case "lt":
			return '<', nil
		case "gt":
			return '>', nil
		case "amp":
			return '&', nil
		case "apos":
			return '\'', nil
		case "quot":
			return '"', nil
		}
		return 0, xmlBadReference
	}
	digits, base := string(name[1:]), 10
	if len(digits) > 0 && digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || len(digits) > 8 || n > utf8.MaxRune || !xmlChar(rune(n)) {
		return 0, xmlBadReference
	}
	return rune(n), nil
}

func (x *xmlReader) comment() *xmlStop {
	end := bytes.Index(x.in[x.i+4:], []byte("--"))
	if end < 0 || x.i+4+end+2 >= len(x.in) || x.in[x.i+4+end+2] != '>' {
		return &xmlStop{ruleSyntax, "A comment must not contain -- and must end."}
	}
	for _, r := range string(x.in[x.i+4 : x.i+4+end]) {
		if !xmlChar(r) {
			return &xmlStop{ruleControl, "There is a character XML does not have."}
		}
	}
	x.i += 4 + end + 3
	return nil
}

func (x *xmlReader) cdata() *xmlStop {
	const open = "<![CDATA["
	end := bytes.Index(x.in[x.i:], []byte("]]>")) // the opening has none
	if end < 0 || len(x.stack) == 0 {
		return &xmlStop{ruleSyntax, "A CDATA section must end, and stand in an element."}
	}
	stop := x.i + end
	for x.i += len(open); x.i < stop; {
		if x.in[x.i] == '&' { // itself, here
			x.text = append(x.text, '&')
			x.i++
			continue
		}
		var bad *xmlStop
		if x.text, bad = x.character(x.text); bad != nil {
			return bad
		}
	}
	x.i = stop + len("]]>")
	return nil
}

// flush writes the text before a tag.
func (x *xmlReader) flush() {
	if len(x.text) == 0 {
		return
	}
	x.out = appendXML(x.out, x.text)
	if len(bytes.Trim(x.text, " \t\r\n")) > 0 {
		x.found.texts = append(x.found.texts, string(x.text))
	}
	x.text = x.text[:0]
}

func (x *xmlReader) startTag() *xmlStop {
	x.i++
	name, colon, bad := x.name()
	if bad != nil {
		return bad
	}
	switch {
	case len(x.stack) == 0 && x.elements > 0:
		return &xmlStop{ruleSyntax, "There must be one root element."}
	case len(x.stack) >= maxXMLDepth:
		return &xmlStop{"depth", "At most " + strconv.Itoa(maxXMLDepth) + " elements may stand inside one another."}
	case x.elements >= maxXMLElements:
		return &xmlStop{ruleTooMany, "There are too many elements."}
	}
	x.elements++
	x.flush()
	x.stack = append(x.stack, name)
	empty, bad := x.attributes()
	if bad != nil {
		return bad
	}
	if bad := x.bind(name, colon); bad != nil {
		return bad
	}
	x.out = append(append(x.out, '<'), name...)
	for _, a := range x.attrs {
		x.writeAttribute(a)
	}
	x.out = append(x.out, '>')
	if empty { // <a/> and <a></a> are one: C14N
		x.close(name)
	}
	return nil
}

func (x *xmlReader) attributes() (empty bool, _ *xmlStop) {
	x.attrs = x.attrs[:0]
	for {
		space := x.space()
		rest := x.in[x.i:]
		switch {
		case len(rest) > 0 && rest[0] == '>':
			x.i++
			return false, nil
		case bytes.HasPrefix(rest, []byte("/>")):
			x.i += 2
			return true, nil
		case !space:
			return false, &xmlStop{ruleSyntax, "A tag cannot be read."}
		case len(x.attrs) >= maxXMLAttributes:
			return false, &xmlStop{ruleTooMany, "An element may have at most " + strconv.Itoa(maxXMLAttributes) + " attributes."}
		}
		a := xmlAttr{}
		var bad *xmlStop
		if a.name, a.colon, bad = x.name(); bad != nil {
			return false, bad
		}
		if a.value, bad = x.quoted(); bad != nil {
			return false, bad
		}
		x.attrs = append(x.attrs, a)
	}
}

// quoted takes ="..." of an attribute, normalized (XML 1.0 §3.3.3).
func (x *xmlReader) quoted() (string, *xmlStop) {
	x.space()
	if x.i >= len(x.in) || x.in[x.i] != '=' {
		return "", xmlBadAttribute
	}
	x.i++
	x.space()
	if x.i >= len(x.in) || x.in[x.i] != '"' && x.in[x.i] != '\'' {
		return "", xmlBadAttribute
	}
	quote := x.in[x.i]
	x.value = x.value[:0]
	for x.i++; x.i < len(x.in); {
		x.value = append(x.value, x.plain()...)
		if x.i == len(x.in) {
			break
		}
		c := x.in[x.i]
		switch c {
		case quote:
			x.i++
			return string(x.value), nil
		case '<':
			return "", xmlBadAttribute
		}
		var stop *xmlStop
		if x.value, stop = x.character(x.value); stop != nil {
			return "", stop
		}
		if c != '&' && xmlSpace(c) {
			x.value[len(x.value)-1] = ' '
		}
	}
	return "", xmlBadAttribute
}

func (x *xmlReader) writeAttribute(a xmlAttr) {
	x.out = append(append(append(x.out, ' '), a.name...), `="`...)
	x.out = appendXMLAttribute(x.out, a.value)
	x.out = append(x.out, '"')
	if a.value != "" {
		x.found.attributes = append(x.found.attributes, a.value)
	}
}

// bind takes the namespace declarations of a tag and resolves its names: a
// prefix nobody declared, or an attribute twice by two prefixes, is refused
// (Namespaces in XML 1.0 §6.3), since readers that know namespaces and readers
// that do not would see two documents.
func (x *xmlReader) bind(name []byte, colon int) *xmlStop {
	for _, a := range x.attrs {
		prefix := ""
		switch {
		case string(a.name) == "xmlns":
			if a.value == namespaceXML || a.value == namespaceXMLNS {
				return xmlBadNamespace
			}
		case a.colon > 0 && string(a.name[:a.colon]) == "xmlns":
			prefix = string(a.name[a.colon+1:])
			if prefix == "xmlns" || a.value == "" || a.value == namespaceXMLNS || (prefix == "xml") != (a.value == namespaceXML) {
				return xmlBadNamespace
			}
		default:
			continue
		}
		if len(x.bindings) >= maxXMLBindings {
			return &xmlStop{ruleTooMany, "There are too many namespace prefixes."}
		}
		x.bindings = append(x.bindings, xmlBinding{prefix, a.value, len(x.stack)})
	}
	if _, ok := x.namespace(name, colon); !ok {
		return xmlBadNamespace
	}
	for i := range x.attrs {
		a := &x.attrs[i]
		if a.colon > 0 {
			var ok bool
			if a.uri, ok = x.namespace(a.name, a.colon); !ok {
				return xmlBadNamespace
			}
		}
		for _, b := range x.attrs[:i] {
			if bytes.Equal(a.name, b.name) || a.colon > 0 && b.colon > 0 && a.uri == b.uri && bytes.Equal(a.name[a.colon+1:], b.name[b.colon+1:]) {
				return &xmlStop{ruleDuplicate, "An attribute is given twice."}
			}
		}
	}
	return nil
}

func (x *xmlReader) namespace(name []byte, colon int) (string, bool) {
	prefix := string(name[:colon])
	switch prefix {
	case "xml":
		return namespaceXML, true
	case "xmlns":
		return namespaceXMLNS, len(x.stack) > 0 && !bytes.Equal(name, x.stack[len(x.stack)-1]) // no element has that prefix
	}
	for _, b := range slices.Backward(x.bindings) {
		if b.prefix == prefix {
			return b.uri, true
		}
	}
	return "", prefix == ""
}

func (x *xmlReader) endTag() *xmlStop {
	x.i += 2
	name, _, bad := x.name()
	if bad != nil {
		return bad
	}
	x.space()
	if x.i >= len(x.in) || x.in[x.i] != '>' || len(x.stack) == 0 || !bytes.Equal(x.stack[len(x.stack)-1], name) {
		return &xmlStop{ruleSyntax, "An end tag does not fit its start tag."}
	}
	x.i++
	x.flush()
	x.close(name)
	return nil
}

func (x *xmlReader) close(name []byte) {
	x.out = append(append(append(x.out, "</"...), name...), '>')
	for len(x.bindings) > 0 && x.bindings[len(x.bindings)-1].depth == len(x.stack) {
		x.bindings = x.bindings[:len(x.bindings)-1]
	}
	x.stack = x.stack[:len(x.stack)-1]
}

// name takes a QName: one colon at most, with a name on either side.
func (x *xmlReader) name() (name []byte, colon int, _ *xmlStop) {
	start, first := x.i, true
	for x.i < len(x.in) {
		r, n := utf8.DecodeRune(x.in[x.i:])
		switch {
		case r == ':' && !first && colon == 0:
			colon, first = x.i-start, true
		case xmlNameStart(r) || !first && xmlNamePart(r):
			first = false
		default:
			n = 0
		}
		if n == 0 {
			break
		}
		if x.i += n; x.i-start > maxXMLName {
			return nil, 0, &xmlStop{"max_length", "A name is too long."}
		}
	}
	if first {
		return nil, 0, &xmlStop{ruleSyntax, "A tag cannot be read."}
	}
	return x.in[start:x.i], colon, nil
}

func (x *xmlReader) space() bool {
	start := x.i
	for x.i < len(x.in) && xmlSpace(x.in[x.i]) {
		x.i++
	}
	return x.i > start
}

func xmlSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// xmlChar is production [2] of XML 1.0.
func xmlChar(r rune) bool {
	return r >= 0x20 && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' || r >= 0xe000 && r <= 0xfffd || r >= 0x10000
}

// xmlLetters are letters that the names of both the fourth and the fifth edition
// of XML 1.0 may begin with: readers of either are about.
var xmlLetters = [...][2]rune{
	{'A', 'Z'},
	{'_', '_'},
	{'a', 'z'},
	{0xc0, 0xd6},
	{0xd8, 0xf6},
	{0xf8, 0x131},
	{0x134, 0x13e},
	{0x141, 0x148},
	{0x14a, 0x17e},
	{0x391, 0x3a1},
	{0x3a3, 0x3ce},
	{0x401, 0x40c},
	{0x40e, 0x44f},
	{0x451, 0x45c},
	{0x45e, 0x481},
	{0x3041, 0x3094},
	{0x30a1, 0x30fa},
	{0x4e00, 0x9fa5},
	{0xac00, 0xd7a3},
}

func xmlNameStart(r rune) bool {
	if r >= 'a' && r <= 'z' {
		return true
	}
	for _, l := range xmlLetters {
		if r <= l[1] {
			return r >= l[0]
		}
	}
	return false
}

func xmlNamePart(r rune) bool {
	return r >= '0' && r <= '9' || r == '-' || r == '.' || r == 0xb7
}
