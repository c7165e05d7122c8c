package validate

import (
	"fmt"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// maxFaults bounds what one refusal lists: enough to mend a request in one go,
// too few to make the gateway write long answers for a stranger.
const maxFaults = 10

// The places of a parameter.
const (
	inPath   = "path"
	inQuery  = "query"
	inHeader = "header"
	inCookie = "cookie"
	inBody   = "body"
)

// The strictness rules, as they appear in [gatehouse.FieldError.Rule] beside the
// keywords of JSON Schema.
const (
	ruleSyntax    = "syntax"
	ruleEncoding  = "percent_encoding"
	ruleUTF8      = "utf8"
	ruleControl   = "control_character"
	ruleDuplicate = "duplicate"
	ruleUnknown   = "unknown_parameter"
	ruleRequired  = "required"
	ruleType      = "type"
	ruleTooMany   = "too_many"
)

// faults collects what is wrong with one request.
type faults struct {
	fields []gatehouse.FieldError
	syntax bool // at least one is a fault of form, not of schema
}

func (f *faults) full() bool { return len(f.fields) >= maxFaults }

// add notes a fault of the schema, addSyntax one of form.
func (f *faults) add(in, name, rule, detail string) {
	if !f.full() {
		f.fields = append(f.fields, gatehouse.FieldError{In: in, Name: clip(name), Rule: rule, Detail: detail})
	}
}

func (f *faults) addSyntax(in, name, rule, detail string) {
	f.syntax = true
	f.add(in, name, rule, detail)
}

// problem turns the faults of the head into the one answer. A fault of form
// makes it a 400: the request cannot be read in one way only. Otherwise it was
// understood and is not what the schema takes: 422.
func (f *faults) problem() error {
	if len(f.fields) == 0 {
		return nil
	}
	first := f.fields[0]
	p := &gatehouse.Problem{Kind: gatehouse.Unprocessable, Reason: "invalid_" + first.In, Fields: f.fields}
	if f.syntax {
		p.Kind = gatehouse.Malformed
	}
	switch {
	case first.Rule == ruleUnknown:
		p.Reason = "unknown_parameter"
		p.Detail = "The request has a parameter this operation does not declare."
	case first.In == inPath:
		p.Detail = "The path is not what this operation takes."
	case first.In == inBody:
		p.Detail = "The body is not what this operation takes."
	default:
		p.Detail = fmt.Sprintf("A %s parameter is not what this operation takes.", first.In)
	}
	return p
}

// clip keeps a stranger's name short and printable in answers and records.
func clip(name string) string {
	const most = 64
	clean := true
	for i := range len(name) {
		if name[i] < 0x20 || name[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean && len(name) <= most {
		return name
	}
	b := make([]byte, 0, most)
	for i := range min(len(name), most) {
		c := name[i]
		if c < 0x20 || c >= 0x7f {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}

func badPath(rule, detail string) error {
	return &gatehouse.Problem{
		Kind: gatehouse.Malformed, Reason: "invalid_path", Detail: "The path cannot be read in one way only.",
		Fields: []gatehouse.FieldError{{In: inPath, Rule: rule, Detail: detail}},
	}
}
