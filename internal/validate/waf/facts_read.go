package waf

import (
	"slices"
	"strings"
)

// What Coraza's recommended configuration allows.
const (
	maxArgs   = 1000       // SecArgumentsLimit: values of the query, and of the body
	maxBody   = 13_107_200 // SecRequestBodyLimit: a body of this size is refused
	maxDepth  = 1024       // SecRequestBodyJsonDepthLimit
	maxAnswer = 524_288    // SecResponseBodyLimit: what is beyond is not looked at
)

// What pooled facts keep of a message that needed more room than most.
const (
	keepArena  = 256 << 10
	keepValues = 4096
)

// A reading is the room in which values are decoded: their bytes are collected
// in one arena, which becomes one string when the message is read.
type reading struct {
	arena []byte
	spans []span
	path  []byte // the name of the JSON value that is being read

	target target
	line   string
	unique string
	answer answer
}

// A span is the name or text of a value that stands in the arena. Lo is below 0
// when it does not: the value has its string already.
type span struct {
	value          int
	nameLo, nameHi int
	textLo, textHi int
}

// Reset empties f and keeps its room.
func (f *Facts) Reset() {
	clear(f.Values)
	r := reading{arena: f.read.arena[:0], spans: f.read.spans[:0], path: f.read.path[:0]}
	if cap(r.arena) > keepArena {
		r.arena = nil
	}
	if cap(r.path) > keepArena {
		r.path = nil
	}
	values := f.Values[:0]
	if cap(values) > keepValues {
		values, r.spans = nil, nil
	}
	*f = Facts{Values: values, read: r}
}

// Read takes m apart as Coraza 3.8.1 does with its recommended configuration and
// the Core Rule Set: a body of no known type is read as a form, too (rule
// 901340). Values stand in the order of the message.
//
// Where it differs from Coraza: values of a form whose names differ only in case
// are all kept (Coraza keeps those of one, a different one each time); of JSON with
// a fault it gives the values in front of it (Coraza guesses on behind it); an XML
// document with a document type is a BodyError; a multipart body has at most 1,000
// parts, an XML document 10,000 values and 100,000 tokens, more is a BodyError.
// Header values are taken to have no line breaks: HTTP delivers none.
func (f *Facts) Read(m *Message) {
	message := *m // m may be f's own
	f.Reset()
	f.Message = message

	f.pairs(ArgGet, f.targetParts().query)
	for _, h := range f.Header {
		if h.Name == "" {
			continue
		}
		f.Values = append(f.Values, Value{In: Header, Name: h.Name, Text: h.Value})
	}
	for _, h := range f.Header {
		if named(h.Name, "Cookie") {
			f.cookies(h.Value)
		}
	}
	f.BodyProcessor = processorOf(f.Header)
	if len(f.Body) > 0 {
		f.readBody()
	}
	f.settle()
}

func (f *Facts) readBody() {
	if len(f.Body) >= maxBody {
		f.BodyError = "the body is larger than the rules read"
		return
	}
	var err error
	switch f.BodyProcessor {
	case "JSON":
		err = f.readJSON(f.Body)
	case "MULTIPART":
		err = f.readMultipart(f.Body)
	case "XML":
		err = f.readXML(f.Body)
	default:
		f.RequestBody = string(f.Body)
		f.pairs(ArgPost, f.RequestBody)
	}
	if err != nil {
		f.BodyError = f.BodyProcessor + ": " + err.Error()
	}
}

// processorOf returns the reader that the Content-Type asks for. The first field
// decides between form and multipart, as a server behind would; the rules 200000,
// 200001 and 200006 look at all of them, JSON last.
func processorOf(header []Field) string {
	processor, first := "", true
	isXML, isJSON := false, false
	for i := range header {
		if !named(header[i].Name, "Content-Type") {
			continue
		}
		value := strings.ToLower(header[i].Value)
		if first {
			first = false
			switch trimmed := strings.TrimSpace(value); {
			case strings.HasPrefix(trimmed, "application/x-www-form-urlencoded"):
				processor = "URLENCODED"
			case strings.HasPrefix(trimmed, "multipart/form-data"):
				processor = "MULTIPART"
			}
		}
		sub, application := strings.CutPrefix(value, "application/")
		isXML = isXML || strings.HasPrefix(value, "text/xml") ||
			application && (strings.HasPrefix(sub, "xml") || strings.HasPrefix(sub, "soap+xml"))
		isJSON = isJSON || application && (strings.HasPrefix(sub, "json") || suffixed(sub, "+json"))
	}
	switch {
	case isJSON:
		return "JSON"
	case isXML:
		return "XML"
	}
	return processor
}

// named reports whether a field has that name, whatever its case.
func named(name, want string) bool { return len(name) == len(want) && strings.EqualFold(name, want) }

// suffixed reports whether a run of letters, digits, dots and hyphens begins s
// and suffix follows it.
func suffixed(s, suffix string) bool {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '.' || s[i] == '-') {
		i++
	}
	return i > 0 && strings.HasPrefix(s[i:], suffix)
}

// ReadAnswer takes the answer of m into f and keeps what f has of the request.
func (f *Facts) ReadAnswer(m *Message) {
	message := *m
	if message.Target != f.Target || message.Method != f.Method || message.Protocol != f.Protocol {
		f.read.target, f.read.line, f.RequestLine = target{}, "", ""
	}
	f.Message, f.read.answer = message, answer{}
	f.Values = slices.DeleteFunc(f.Values, func(v Value) bool { return v.In == AnswerHeader })
	for _, h := range f.Answer {
		if h.Name != "" {
			f.Values = append(f.Values, Value{In: AnswerHeader, Name: h.Name, Text: h.Value})
		}
	}
}

// mark begins a text in the arena.
func (f *Facts) mark() int { return len(f.read.arena) }

// settle makes strings of what stands in the arena: one for all values, which is
// the only thing of a message that is allocated.
func (f *Facts) settle() {
	if len(f.read.spans) == 0 {
		return
	}
	all := string(f.read.arena)
	for _, s := range f.read.spans {
		v := &f.Values[s.value]
		if s.nameLo >= 0 {
			v.Name = all[s.nameLo:s.nameHi]
		}
		if s.textLo >= 0 {
			v.Text = all[s.textLo:s.textHi]
		}
	}
	f.read.spans, f.read.arena = f.read.spans[:0], f.read.arena[:0]
}

// addSpan adds a value whose name and text stand in the arena, one behind the
// other, from lo over text to its end.
func (f *Facts) addSpan(in In, lo, text int) {
	f.read.spans = append(f.read.spans, span{value: len(f.Values), nameLo: lo, nameHi: text, textLo: text, textHi: len(f.read.arena)})
	f.Values = append(f.Values, Value{In: in})
}
