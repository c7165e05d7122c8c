package validate_test

import (
	"net/http"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func TestResponse(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{Responses: validate.Enforce}})
	list, remove, report := a.doc.Operations()[0], a.doc.Operations()[3], a.doc.Operations()[6]
	page := "[" + strings.Replace(small, "{", `{"id":"`+orderID+`",`, 1) + "]"
	tests := []struct {
		name   string
		op     *validate.Operation
		status int
		fields []string
		body   string
		rule   string // "": nothing is wrong
	}{
		{"a good page", list, 200, []string{"X-Total: 1", "Content-Type: application/json; charset=utf-8"}, page, ""},
		{"a member only callers send", list, 200, []string{"X-Total: 1", asJSON}, "[" + strings.Replace(small, "{", `{"secret":"x",`, 1) + "]", "writeOnly"},
		{"an undeclared member, excessive data", list, 200, []string{"X-Total: 1", asJSON}, "[" + strings.Replace(small, "{", `{"password_hash":"x",`, 1) + "]", "additionalProperties"},
		{"a duplicate key", list, 200, []string{"X-Total: 1", asJSON}, `[{"note":"a","note":"b"}]`, "duplicate_key"},
		{"a missing header", list, 200, []string{asJSON}, page, "required"},
		{"a header of another type", list, 200, []string{"X-Total: many", asJSON}, page, "type"},
		{"an undeclared status", list, 500, []string{"Content-Type: text/plain"}, "panic: stack", "status"},
		{"a status of a declared class", list, 404, []string{"Content-Type: application/problem+json"}, `{"title":"no"}`, ""},
		{"the same without what its schema needs", list, 404, []string{"Content-Type: application/problem+json"}, `{}`, "required"},
		{"an undeclared content type", list, 200, []string{"X-Total: 1", "Content-Type: text/html"}, "<b>", "content"},
		{"no content type", list, 200, []string{"X-Total: 1"}, page, "syntax"},
		{"another charset", list, 200, []string{"X-Total: 1", asJSON + "; charset=utf-16"}, page, "charset"},
		{"no body, as declared", remove, 204, nil, "", ""},
		{"a body where none is declared", remove, 204, []string{asJSON}, "{}", "content"},
		{"any type where any is declared", report, 200, []string{"Content-Type: text/csv"}, "a;b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			for _, f := range tt.fields {
				name, value, _ := strings.Cut(f, ": ")
				h.Add(name, value)
			}
			fields := tt.op.Response(tt.status, h, []byte(tt.body))
			switch {
			case tt.rule == "" && len(fields) > 0:
				t.Fatalf("found %+v", fields)
			case tt.rule != "" && (len(fields) == 0 || fields[0].Rule != tt.rule):
				t.Fatalf("found %+v, want %s", fields, tt.rule)
			}
		})
	}
}

func TestResponseOffLooksAtNothing(t *testing.T) {
	a := orders(t, validate.Options{})
	op := a.doc.Operations()[0]
	if op.CheckResponses() != validate.Off || op.Response(599, http.Header{}, []byte("{")) != nil {
		t.Fatal("an answer was looked at")
	}
}

func TestBadResponseTellsTheCallerNothing(t *testing.T) {
	p := validate.BadResponse([]gatehouse.FieldError{{In: "body", Pointer: "/0/password_hash", Rule: "additionalProperties"}})
	if p.Kind.Status() != 502 || p.Reason != "bad_response" || len(p.Fields) != 0 || strings.Contains(p.Detail, "password") {
		t.Fatalf("got %+v", p)
	}
	if !strings.Contains(p.Err.Error(), "/0/password_hash additionalProperties") {
		t.Fatalf("the operator learns %q", p.Err)
	}
}
