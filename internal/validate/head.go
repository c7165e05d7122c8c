package validate

import (
	"net/http"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A queryName is what a name in a query means to an operation.
type queryName struct {
	param int    // index into the operation's params
	field string // of an object, when the name names one
	known int    // index into Operation.names and the plan's query: what rules can match there
	name  string // "" of an object whose fields the document does not name
}

// fewNames is how many names are compared one by one sooner than looked up.
const fewNames = 8

// A Head is what goes to the service of a request's target, and room to write it
// in: keep one and pass it again after [Head.Reset].
type Head struct {
	Path  []byte // the template with the values that were checked, each character encoded in one way
	Query []byte // what was checked, encoded in one way, in the order received; without '?'

	// Wanted, which a caller may set before [Operation.Head], says of each parameter
	// whether its value is wanted, or is only to be checked: making values costs more
	// than checking them. nil: all are.
	Wanted []bool

	pairs []pair // the same, decoded; one without a name was left out
	in    []raw  // room for the query's parameters
}

// Reset returns an empty Head that keeps the room.
func (h Head) Reset() Head {
	clear(h.pairs) // nothing of one caller's is left for the next one
	clear(h.in)
	return Head{Path: h.Path[:0], Query: h.Query[:0], pairs: h.pairs[:0], in: h.in[:0]}
}

// Head checks the parameters of a request. path holds the values that
// [Router.Match] found. It returns the typed values in the order of
// [gatehouse.Operation.Params], appended to values[:0], and fills out with what
// to send to the service; a value that is not wanted is nil. Undeclared query parameters are refused, or left out
// when the operation drops them. Headers and cookies go on as they are: those
// that are declared were checked, others pass, session cookies among them.
//
// Errors are [*gatehouse.Problem]: invalid_path, invalid_query, invalid_header,
// invalid_cookie or unknown_parameter, 400 for form and 422 for schema.
func (o *Operation) Head(r *http.Request, path []string, values []any, out *Head) ([]any, error) {
	var f faults
	values = values[:0]
	for range o.params {
		values = append(values, nil)
	}
	if len(path) != len(o.pathParams) {
		return nil, gatehouse.AsProblem(errPathValues)
	}
	for i, at := range o.pathParams {
		p := o.params[at]
		text := path[i]
		var in raw
		ok := true
		if p.style == styleLabel {
			text, ok = strings.CutPrefix(text, ".")
		}
		if !ok || !p.gather(&in, text) {
			f.addSyntax(inPath, p.Name, ruleSyntax, "The value is not written as the document says.")
			continue
		}
		values[at] = p.check(&in, wants(out.Wanted, at), &f)
	}
	o.headQuery(r.URL.RawQuery, values, out, &f)
	for _, at := range o.headerParams {
		o.headHeader(r.Header, at, values, out, &f)
	}
	if len(o.cookieParams) > 0 {
		o.headCookies(r.Header, values, out, &f)
	}
	if err := f.problem(); err != nil {
		return nil, err
	}
	out.Path = o.appendPath(out.Path[:0], path)
	return values, nil
}

func wants(wanted []bool, param int) bool {
	return wanted == nil || param < len(wanted) && wanted[param]
}

func (o *Operation) appendPath(dst []byte, path []string) []byte {
	n := 0
	for _, segment := range o.segments {
		dst = append(dst, '/')
		for i, text := range segment {
			dst = appendSegment(dst, text)
			if i < len(segment)-1 {
				dst = appendSegment(dst, path[n])
				n++
			}
		}
	}
	return dst
}

func (o *Operation) headQuery(rawQuery string, values []any, out *Head, f *faults) {
	out.Query = out.Query[:0]
	pairs, bad := appendPairs(out.pairs[:0], rawQuery, false)
	out.pairs = pairs
	if bad != nil {
		f.addSyntax(inQuery, "", bad.rule, bad.detail)
		return
	}
	if cap(out.in) < len(o.params) {
		out.in = make([]raw, len(o.params))
	}
	in := out.in[:len(o.params)]
	clear(in)
	out.in = in
	for i := range pairs {
		q := &pairs[i]
		name, ok := o.queryName(q.name)
		if !ok {
			if !o.settings.DropUnknownQuery {
				f.addSyntax(inQuery, q.name, ruleUnknown, "This operation does not declare the parameter.")
			}
			q.name = "" // left out below
			continue
		}
		p := o.params[name.param]
		q.known = int32(name.known)
		if name.field != "" {
			r := &in[name.param]
			if r.set = true; len(r.fields) < maxElements {
				r.fields = append(r.fields, pair{name: name.field, value: q.value})
				continue
			}
		} else if p.gather(&in[name.param], q.value) {
			continue
		}
		rule, detail := ruleDuplicate, "The parameter may be given once."
		if p.Shape.Kind == gatehouse.ArrayShape || p.Shape.Kind == gatehouse.ObjectShape {
			rule, detail = ruleSyntax, "The value is not written as the document says, or is too long."
		}
		f.addSyntax(inQuery, q.name, rule, detail)
	}
	for _, at := range o.queryParams {
		values[at] = o.params[at].check(&in[at], wants(out.Wanted, at), f)
	}
	out.Query = o.appendPairs(out.Query, pairs, in)
}

// appendPairs writes the query that goes on.
func (o *Operation) appendPairs(dst []byte, pairs []pair, in []raw) []byte {
	for i := range pairs {
		q := &pairs[i]
		if q.name == "" {
			continue
		}
		name := &o.names[q.known]
		p := o.params[name.param]
		if len(dst) > 0 {
			dst = append(dst, '&')
		}
		dst = appendQuery(dst, q.name)
		if q.bare {
			continue
		}
		dst = append(dst, '=')
		switch {
		case name.field != "":
			dst = appendQuery(dst, q.value)
		case p.json:
			q.value = in[name.param].text // canonical by now
			dst = appendQuery(dst, q.value)
		default:
			dst = p.appendValue(dst, q.value)
		}
	}
	return dst
}

func (o *Operation) queryName(name string) (queryName, bool) {
	if len(o.names) <= fewNames {
		for i := range o.names {
			if o.names[i].name == name { // never "": no pair is without a name
				return o.names[i], true
			}
		}
	} else if q, ok := o.queryNames[name]; ok {
		return q, true
	}
	// A deepObject that takes any field: metadata[anything].
	if base, field, ok := strings.Cut(name, "["); ok && len(o.openObjects) > 0 {
		q, known := o.openObjects[base]
		if field, closed := strings.CutSuffix(field, "]"); known && closed && field != "" && !strings.ContainsAny(field, "[]") {
			q.field = field
			return q, true
		}
	}
	return queryName{}, false
}

func (o *Operation) headHeader(h http.Header, at int, values []any, out *Head, f *faults) {
	p := o.params[at]
	lines := h[p.header]
	var in raw
	if len(lines) > 0 {
		text := lines[0]
		if len(lines) > 1 {
			if p.Shape.Kind != gatehouse.ArrayShape || p.json {
				f.addSyntax(inHeader, p.Name, ruleDuplicate, "The header may be given once.")
				return
			}
			text = strings.Join(lines, ",") // RFC 9110 §5.3
		}
		if !printable(text) {
			f.addSyntax(inHeader, p.Name, ruleControl, "The header must be printable ASCII.")
			return
		}
		if !p.gather(&in, text) {
			f.addSyntax(inHeader, p.Name, ruleSyntax, "The value is not written as the document says, or is too long.")
			return
		}
	}
	values[at] = p.check(&in, wants(out.Wanted, at), f)
}

func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < 0x20 || c >= 0x7f) {
			return false
		}
	}
	return true
}

// headCookies reads the declared cookies (RFC 6265 §4.2.1): "a=1; b=2", each
// declared name once, nothing quoted. The others belong to somebody else.
func (o *Operation) headCookies(h http.Header, values []any, out *Head, f *faults) {
	lines := h["Cookie"]
	text := ""
	switch {
	case len(lines) == 1:
		text = lines[0]
	case len(lines) > 1:
		text = strings.Join(lines, "; ") // RFC 9113 §8.2.3 lets HTTP/2 split the field
	}
	in := make([]raw, len(o.cookieParams))
	n := 0
	for c := range strings.SplitSeq(text, ";") {
		if n++; n > maxPairs {
			f.addSyntax(inCookie, "", ruleTooMany, "There are too many cookies.")
			return
		}
		name, value, _ := strings.Cut(strings.Trim(c, " \t"), "=")
		// Some servers trim the name, so "sid =x" must count as sid.
		at, ok := o.cookieIndex(strings.Trim(name, " \t"))
		if !ok {
			continue
		}
		p := o.params[o.cookieParams[at]]
		plain, bad := decodeCookie(value)
		switch {
		case bad != nil:
			f.addSyntax(inCookie, p.Name, bad.rule, bad.detail)
			return
		case in[at].set:
			f.addSyntax(inCookie, p.Name, ruleDuplicate, "The cookie may be given once.")
			return
		case !p.gather(&in[at], plain):
			f.addSyntax(inCookie, p.Name, ruleSyntax, "The value is not written as the document says, or is too long.")
			return
		}
	}
	for i, at := range o.cookieParams {
		values[at] = o.params[at].check(&in[i], wants(out.Wanted, at), f)
	}
}

func (o *Operation) cookieIndex(name string) (int, bool) {
	for i, at := range o.cookieParams {
		if o.params[at].Name == name {
			return i, true
		}
	}
	return 0, false
}

// decodeCookie takes cookie-octets and undoes percent-encoding, the form style.
func decodeCookie(s string) (string, *pairFault) {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= 0x20 || c >= 0x7f, c == '"', c == ',', c == '\\':
			return "", &pairFault{ruleSyntax, "The cookie has a character that must not stand there."}
		}
	}
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	// '+' is itself in a cookie, and what a query must encode may stand here.
	escaped := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c == '%' || byteClass[c]&byteUnreserved != 0 {
			escaped = append(escaped, c)
		} else {
			escaped = append(escaped, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return decodePair(string(escaped), false)
}
