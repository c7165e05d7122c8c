package validate_test

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const (
	asJSON = "Content-Type: application/json"
	asForm = "Content-Type: application/x-www-form-urlencoded"
	small  = `{"customer":"` + orderID + `","items":[{"sku":"ABC-1234","quantity":1,"price":{"amount":1.50,"currency":"EUR"}}]}`
)

func TestBodyTakes(t *testing.T) {
	a := orders(t, validate.Options{})
	tests := []struct {
		name, line, body string
		fields           []string
		want             string // forwarded
		value            any    // for rules; nil: not looked at
	}{
		{"JSON", "POST /v1/orders", small, []string{asJSON}, small, nil},
		{"JSON with space, written without", "POST /v1/orders", strings.ReplaceAll(small, ",", " ,\n"), []string{asJSON + "; charset=UTF-8"}, small, nil},
		{"another JSON type within the range", "PATCH /v1/orders/" + orderID, `{"note" : "\u0061"}`, []string{"Content-Type: application/merge-patch+json"}, `{"note":"a"}`, map[string]any{"note": "a"}},
		{
			"a form", "POST /v1/orders", "sku=A+B&quantity=2&tag=x&tag=y&note=a%0Ab",
			[]string{asForm},
			"sku=A%20B&quantity=2&tag=x&tag=y&note=a%0Ab",
			map[string]any{"sku": "A B", "quantity": int64(2), "tag": []any{"x", "y"}, "note": "a\nb"},
		},
		{"no body where none is needed", "PATCH /v1/orders/" + orderID, "", nil, "", nil},
		{"no body where none is declared", "DELETE /v1/orders/" + orderID, "", nil, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, tt.line, tt.body, tt.fields...))
			if err != nil {
				t.Fatalf("refused: %v %+v", err, gatehouse.AsProblem(err).Fields)
			}
			if string(body.Bytes) != tt.want || body.Stream != nil {
				t.Errorf("forwarded %q, want %q", body.Bytes, tt.want)
			}
			v, err := body.Value(nil)
			if err != nil || tt.value != nil && !reflect.DeepEqual(v, tt.value) {
				t.Errorf("value %#v (%v), want %#v", v, err, tt.value)
			}
		})
	}
}

func TestBodyValueForRules(t *testing.T) {
	a := orders(t, validate.Options{})
	_, _, _, body, err := a.call(request(t, "POST /v1/orders", small, asJSON))
	if err != nil {
		t.Fatal(err)
	}
	got, err := body.Value(nil)
	want := map[string]any{"customer": orderID, "items": []any{map[string]any{
		"sku": "ABC-1234", "quantity": int64(1), "price": map[string]any{"amount": 1.5, "currency": "EUR"},
	}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v, %v", got, err)
	}
}

func TestBodyRefuses(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{MaxBody: 4096}})
	post := "POST /v1/orders"
	tests := []struct {
		name, line, body string
		fields           []string
		status           int
		reason, rule     string
	}{
		{"a missing body", post, "", []string{asJSON}, 400, "missing_body", ""},
		{"a body nobody declared", "DELETE /v1/orders/" + orderID, "{}", []string{asJSON}, 400, "unexpected_body", ""},
		{"a body on GET", "GET /v1/orders", "{}", []string{asJSON}, 400, "unexpected_body", ""},
		{"a body without a type", post, small, nil, 415, "unsupported_media_type", ""},
		{"two types", post, small, []string{asJSON, asForm}, 415, "unsupported_media_type", ""},
		{"an undeclared type", post, small, []string{"Content-Type: text/plain"}, 415, "unsupported_media_type", ""},
		{"a JSON type that is not declared", post, small, []string{"Content-Type: application/vnd.x+json"}, 415, "unsupported_media_type", ""},
		{"a type that is a range", post, small, []string{"Content-Type: */*"}, 415, "unsupported_media_type", ""},
		{"a type that cannot be read", post, small, []string{"Content-Type: application/json; charset"}, 415, "unsupported_media_type", ""},
		{"a type with a comma", post, small, []string{"Content-Type: application/json, text/plain"}, 415, "unsupported_media_type", ""},
		{"utf-16", post, small, []string{asJSON + "; charset=utf-16"}, 415, "unsupported_media_type", ""},
		{"two charsets", post, small, []string{asJSON + "; charset=utf-8; charset=utf-7"}, 415, "unsupported_media_type", ""},
		{"a compressed body", post, small, []string{asJSON, "Content-Encoding: gzip"}, 415, "unsupported_encoding", ""},
		{"a body that is too long", post, small + strings.Repeat(" ", 4096), []string{asJSON}, 413, "body_too_large", ""},
		{"a duplicate key", post, `{"customer":"a","customer":"b"}`, []string{asJSON}, 400, "invalid_body", "duplicate_key"},
		{"a second document", post, small + small, []string{asJSON}, 400, "invalid_body", "syntax"},
		{"invalid UTF-8", post, "{\"note\":\"\xff\"}", []string{asJSON}, 400, "invalid_body", "invalid_utf8"},
		{"a lone surrogate", post, `{"note":"\ud800"}`, []string{asJSON}, 400, "invalid_body", "invalid_utf8"},
		{"a number no double holds", post, `{"n":1e1000000}`, []string{asJSON}, 400, "invalid_body", "number"},
		{"deep nesting", post, strings.Repeat("[", 2000), []string{asJSON}, 400, "invalid_body", "depth"},
		{"an undeclared member", post, strings.Replace(small, "{", `{"role":"admin",`, 1), []string{asJSON}, 422, "invalid_body", "additionalProperties"},
		{"a member only the service may set", post, strings.Replace(small, "{", `{"id":"`+orderID+`",`, 1), []string{asJSON}, 422, "invalid_body", "readOnly"},
		{"a missing member", post, strings.Replace(small, `"customer"`, `"reference"`, 1), []string{asJSON}, 422, "invalid_body", "required"},
		{"text that is no JSON", post, "customer=1", []string{asJSON}, 400, "invalid_body", "syntax"},
		{"a doubled field of a form", post, "sku=a&sku=b", []string{asForm}, 400, "invalid_body", "duplicate"},
		{"an undeclared field of a form", post, "sku=a&role=admin", []string{asForm}, 422, "invalid_body", "additionalProperties"},
		{"a missing field of a form", post, "note=a", []string{asForm}, 422, "invalid_body", "required"},
		{"a form number written otherwise", post, "sku=a&quantity=1e1", []string{asForm}, 400, "invalid_body", "type"},
		{"a form with a bad escape", post, "sku=%zz", []string{asForm}, 400, "invalid_body", "percent_encoding"},
		{"a form in another charset", post, "sku=a", []string{asForm + "; charset=iso-8859-1"}, 415, "unsupported_media_type", ""},
		{"a multipart body without boundary", "PUT /v1/orders/5/photo", "x", []string{"Content-Type: multipart/form-data"}, 415, "unsupported_media_type", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, tt.line, tt.body, tt.fields...))
			if err == nil {
				t.Fatalf("passed as %q", body.Bytes)
			}
			p := gatehouse.AsProblem(err)
			rule := ""
			if len(p.Fields) > 0 {
				rule = p.Fields[0].Rule
			}
			if p.Kind.Status() != tt.status || p.Reason != tt.reason || tt.rule != "" && rule != tt.rule {
				t.Fatalf("got %d %s %+v (%v), want %d %s %s", p.Kind.Status(), p.Reason, p.Fields, p.Err, tt.status, tt.reason, tt.rule)
			}
		})
	}
}

func TestBodyOfUnknownLength(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{MaxBody: 512}})
	chunked := func(line string, body io.Reader, fields ...string) error {
		method, target, _ := strings.Cut(line, " ")
		r := httptest.NewRequest(method, target, body)
		r.ContentLength = -1
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			r.Header.Add(name, value)
		}
		_, _, _, _, err := a.call(r)
		return err
	}
	tests := []struct {
		name   string
		err    error
		reason string
	}{
		{"empty where none is declared", chunked("DELETE /v1/orders/"+orderID, iotest.OneByteReader(strings.NewReader(""))), ""},
		{"one byte where none is declared", chunked("DELETE /v1/orders/"+orderID, iotest.OneByteReader(strings.NewReader("x"))), "unexpected_body"},
		{"empty where one is needed", chunked("POST /v1/orders", iotest.OneByteReader(strings.NewReader("")), asJSON), "missing_body"},
		{"good", chunked("POST /v1/orders", iotest.OneByteReader(strings.NewReader(small)), asJSON), ""},
		{"too long", chunked("POST /v1/orders", iotest.HalfReader(strings.NewReader(small+strings.Repeat(" ", 512))), asJSON), "body_too_large"},
		{"cut off", chunked("POST /v1/orders", io.MultiReader(strings.NewReader(small[:20]), iotest.ErrReader(io.ErrUnexpectedEOF)), asJSON), "incomplete_body"},
		{"cut off before its first byte", chunked("DELETE /v1/orders/"+orderID, iotest.ErrReader(io.ErrUnexpectedEOF)), "incomplete_body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if tt.err != nil {
				got = gatehouse.AsProblem(tt.err).Reason
			}
			if got != tt.reason {
				t.Fatalf("got %q (%v), want %q", got, tt.err, tt.reason)
			}
		})
	}
}

func TestBodyStreams(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{MaxBody: 1000}})
	r := request(t, "PUT /v1/orders/5/photo", strings.Repeat("x", 1000), "Content-Type: image/png")
	op, _, _, body, err := a.call(r)
	if err != nil || body.Stream == nil || body.Length != 1000 || body.ContentType != "image/png" {
		t.Fatalf("got %+v, %v; want a stream", body, err)
	}
	if b, err := io.ReadAll(body.Stream); err != nil || len(b) != 1000 {
		t.Fatalf("read %d, %v", len(b), err)
	}
	if v, err := body.Value(nil); v != nil || err != nil {
		t.Fatalf("unchecked content has the value %v, %v", v, err)
	}
	if got := op.Unchecked(); !reflect.DeepEqual(got, []string{"request image/*"}) {
		t.Fatalf("unchecked %q", got)
	}

	r = httptest.NewRequest("PUT", "/v1/orders/5/photo", iotest.HalfReader(bytes.NewReader(make([]byte, 1001))))
	r.ContentLength = -1
	r.Header.Set("Content-Type", "image/png")
	if _, _, _, body, err = a.call(r); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(body.Stream)
	if p, ok := errors.AsType[*gatehouse.Problem](err); !ok || p.Reason != "body_too_large" {
		t.Fatalf("a stream that grows too long ended in %v", err)
	}
}

func TestBodySizeOfZeroRefusesEveryBody(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{MaxBody: -1}})
	if _, _, _, _, err := a.call(request(t, "POST /v1/orders", small, asJSON)); gatehouse.AsProblem(err).Reason != "body_too_large" {
		t.Fatalf("got %v, want body_too_large", err)
	}
}

func TestOperationSettingsOfTheirOwn(t *testing.T) {
	a := orders(t, validate.Options{
		Settings:   validate.Settings{MaxBody: 10},
		Operations: map[string]validate.Settings{"createOrder": {MaxBody: 4096}},
	})
	if _, _, _, _, err := a.call(request(t, "POST /v1/orders", small, asJSON)); err != nil {
		t.Fatalf("refused: %v", err)
	}
	if _, _, _, _, err := a.call(request(t, "PATCH /v1/orders/"+orderID, `{"note":"hello"}`, "Content-Type: application/a+json")); gatehouse.AsProblem(err).Reason != "body_too_large" {
		t.Fatalf("got %v, want body_too_large", err)
	}
	// Only who wrote the settings can say where an unknown id stands: plan does.
	if _, err := validate.LoadFile("testdata/orders.yaml", validate.Options{Operations: map[string]validate.Settings{"creatOrder": {}}}); err != nil {
		t.Fatalf("settings of an unknown operation: %v", err)
	}
}

func bigOrder(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile("testdata/order.json")
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestAllocsBody(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a := orders(t, validate.Options{})
	r, rd, text := request(t, "POST /v1/orders", "x", asJSON), new(strings.Reader), bigOrder(t)
	op := a.doc.Operations()[1]
	var body validate.Body
	if n := testing.AllocsPerRun(200, func() {
		rd.Reset(text)
		r.Body, r.ContentLength = io.NopCloser(rd), int64(len(text))
		if err := op.Body(r, &body); err != nil {
			t.Fatal(err)
		}
	}); n > 6 {
		t.Errorf("%v allocations a body, want at most 6", n)
	}
}

func TestAllocsHead(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a := orders(t, validate.Options{})
	r := request(t, "GET /v1/orders/"+orderID+"?a=one&b=two&expand=items&limit=50&full=true", "")
	op, params, values := a.doc.Operations()[2], []string{orderID}, make([]any, 0, 8)
	var head validate.Head
	if n := testing.AllocsPerRun(200, func() {
		var err error
		if values, err = op.Head(r, params, values, &head); err != nil {
			t.Fatal(err)
		}
	}); n > 4 {
		t.Errorf("%v allocations a head, want at most one for each string value", n)
	}
}

func BenchmarkBody1200(b *testing.B) {
	a := orders(b, validate.Options{})
	r, rd, text := request(b, "POST /v1/orders", "x", asJSON), new(strings.Reader), bigOrder(b)
	op := a.doc.Operations()[1]
	var body validate.Body
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		rd.Reset(text)
		r.Body, r.ContentLength = io.NopCloser(rd), int64(len(text))
		if err := op.Body(r, &body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	a := orders(b, validate.Options{})
	r := request(b, "GET /v1/orders/"+orderID+"?a=one&b=two&expand=items&limit=50&full=true", "")
	path, params, values := strings.Split(r.RequestURI, "?")[0], make([]string, 0, 4), make([]any, 0, 8)
	ops := a.doc.Operations()
	var head validate.Head
	b.ReportAllocs()
	for b.Loop() {
		n, p, err := a.router.Match(r.Host, r.Method, path, params)
		if err != nil {
			b.Fatal(err)
		}
		if values, err = ops[n].Head(r, p, values, &head); err != nil {
			b.Fatal(err)
		}
	}
}

func TestGRPCMustBeDeclared(t *testing.T) {
	file := filepath.Join(t.TempDir(), "api.yaml")
	if err := os.WriteFile(file, []byte(`openapi: 3.1.0
info: {title: T, version: "1"}
paths:
  /any:
    post: {operationId: any, requestBody: {content: {"*/*": {}}}, responses: {}}
  /application:
    post: {operationId: application, requestBody: {content: {"application/*": {}}}, responses: {}}
  /grpc:
    post: {operationId: grpc, requestBody: {content: {application/grpc: {}}}, responses: {}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := validate.LoadFile(file, validate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range doc.Operations() {
		r := httptest.NewRequest("POST", op.Op().Path, strings.NewReader("x"))
		r.Header.Set("Content-Type", "application/grpc")
		var body validate.Body
		if err := op.Body(r, &body); (err == nil) != (op.Op().ID == "grpc") {
			t.Errorf("%s: %v", op.Op().ID, err)
		}
	}
}

func TestValueHasOnlyTheMembersAskedFor(t *testing.T) {
	a := orders(t, validate.Options{})
	_, _, _, body, err := a.call(request(t, "POST /v1/orders", small, asJSON))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := body.Value(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := whole.(map[string]any)
	for name, want := range all {
		got, err := body.Value([]string{name, "not there"})
		if err != nil || !reflect.DeepEqual(got, map[string]any{name: want}) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
	}
	if got, err := body.Value([]string{}); err != nil || len(got.(map[string]any)) != 0 {
		t.Errorf("%v %v", got, err)
	}
}
