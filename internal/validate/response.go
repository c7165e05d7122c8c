package validate

import (
	"net/http"
	"strconv"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// responses is a compiled Responses Object.
type responses struct {
	exact map[int]*response
	class [6]*response // [2] is "2XX"
	other *response    // "default"
}

type response struct {
	content []content
	headers []*param // required ones and those that have a schema
}

func (l *loader) responsesOf(o *Operation, a at) error {
	out := &responses{exact: map[int]*response{}}
	err := a.each(func(status string, v at) error {
		if strings.HasPrefix(status, "x-") {
			return nil
		}
		v, err := l.files.deref(v)
		if err != nil {
			return err
		}
		r, err := l.response(o, status, v)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(status)
		switch {
		case status == "default":
			out.other = r
		case len(status) == 3 && status[0] >= '1' && status[0] <= '5' && strings.EqualFold(status[1:], "xx"):
			out.class[status[0]-'0'] = r
		case err == nil && n >= 100 && n <= 599:
			out.exact[n] = r
		default:
			return v.fault("%q is not a status: expected 200, 2XX or default", status)
		}
		return nil
	})
	o.responses = out
	return err
}

func (l *loader) response(o *Operation, status string, a at) (*response, error) {
	r := new(response)
	var err error
	if r.content, err = l.content(o, "response "+status, a.get("content"), l.responses); err != nil {
		return nil, err
	}
	err = a.get("headers").each(func(name string, v at) error {
		v, err := l.files.deref(v)
		if err != nil {
			return err
		}
		if strings.EqualFold(name, "Content-Type") {
			return nil // OpenAPI 3.1 §4.8.17: described by content
		}
		p := &param{header: http.CanonicalHeaderKey(name)}
		p.Name, p.In = name, inHeader
		if p.Required, err = v.get("required").boolean(false); err != nil {
			return err
		}
		if p.explode, err = v.get("explode").boolean(false); err != nil {
			return err
		}
		schemaAt := v.get("schema")
		if content := v.get("content"); content.ok() {
			if schemaAt, err = l.paramContent(p, content); err != nil {
				return err
			}
		}
		if p.schema, err = l.responses.at(schemaAt); err != nil {
			return err
		}
		p.Shape = p.schema.shape
		r.headers = append(r.headers, p)
		return nil
	})
	return r, err
}

// Response checks an answer of the service against the document: its status,
// declared headers, content type and, if it is JSON, its body, which the caller
// has bounded in size. It returns what is wrong with it, or nothing; with
// [Settings.Responses] Off it looks at nothing. Whether that is written down or
// answered by [BadResponse] is for the caller to choose by [Operation.CheckResponses].
func (o *Operation) Response(status int, h http.Header, body []byte) []gatehouse.FieldError {
	if o.responses == nil {
		return nil
	}
	var f faults
	r := o.responses.find(status)
	if r == nil {
		f.add("status", "", "status", "The document declares no answer with status "+strconv.Itoa(status)+".")
		return f.fields
	}
	for _, p := range r.headers {
		lines := h[p.header]
		var in raw
		if len(lines) > 0 && !p.gather(&in, strings.Join(lines, ",")) {
			f.add(inHeader, p.Name, ruleSyntax, "The value is not written as the document says.")
			continue
		}
		p.check(&in, false, &f)
	}
	r.checkBody(h, body, &f)
	return f.fields
}

// find prefers the exact status to its class to default.
func (r *responses) find(status int) *response {
	if exact := r.exact[status]; exact != nil {
		return exact
	}
	if status >= 100 && status < 600 && r.class[status/100] != nil {
		return r.class[status/100]
	}
	return r.other
}

func (r *response) checkBody(h http.Header, body []byte, f *faults) {
	lines := h["Content-Type"]
	if len(body) == 0 && len(lines) == 0 {
		return // HEAD, 204 and 304; a required body is the document's to demand by its schema
	}
	if len(r.content) == 0 {
		if len(body) > 0 {
			f.add(inBody, "", "content", "The document declares no body for this answer.")
		}
		return
	}
	var m media
	ok := false
	if len(lines) == 1 {
		m, ok = parseMedia(lines[0])
	}
	if !ok {
		f.add(inHeader, "Content-Type", ruleSyntax, "The answer needs one content type that can be read.")
		return
	}
	c := chooseContent(r.content, m)
	switch {
	case c == nil:
		f.add(inHeader, "Content-Type", "content", "The document does not declare this content type for this answer.")
	case m.class() != mediaJSON || c.schema == nil || len(body) == 0:
	case m.charset != "" && m.charset != "utf-8":
		f.add(inHeader, "Content-Type", "charset", "The charset must be utf-8.")
	default:
		if _, err := c.schema.appendJSON(nil, body); err != nil {
			f.schema(inBody, "", err)
		}
	}
}

// BadResponse is the problem of an answer that is withheld. Callers learn
// nothing about it; the operator's event holds fields.
func BadResponse(fields []gatehouse.FieldError) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.BadUpstream, Reason: "bad_response", Detail: "The service's answer was not fit to be passed on.",
		Err: responseError(fields),
	}
}

type responseError []gatehouse.FieldError

func (e responseError) Error() string {
	var b strings.Builder
	b.WriteString("the answer is not what the document says:")
	for _, f := range e {
		b.WriteString(" " + f.In + " " + f.Name + f.Pointer + " " + f.Rule + ";")
	}
	return strings.TrimSuffix(b.String(), ";")
}
