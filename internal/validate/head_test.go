package validate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// An api is a document with a router over it, as the gateway uses them.
type api struct {
	doc    *validate.Document
	router *validate.Router
}

func orders(tb testing.TB, o validate.Options) *api {
	tb.Helper()
	doc, err := validate.LoadFile("testdata/orders.yaml", o)
	if err != nil {
		tb.Fatal(err)
	}
	return route(tb, doc)
}

func route(tb testing.TB, doc *validate.Document) *api {
	tb.Helper()
	a := &api{doc, new(validate.Router)}
	for i, op := range doc.Operations() {
		if err := a.router.Add("", op.Op().Method, op.Op().Path, i); err != nil {
			tb.Fatal(err)
		}
	}
	return a
}

// call takes a request through match, head and body.
func (a *api) call(r *http.Request) (op *validate.Operation, values []any, head validate.Head, body validate.Body, err error) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	n, params, err := a.router.Match(r.Host, r.Method, path, nil)
	if err != nil {
		return nil, nil, head, body, err
	}
	op = a.doc.Operations()[n]
	if values, err = op.Head(r, params, nil, &head); err != nil {
		return op, nil, head, body, err
	}
	err = op.Body(r, &body)
	return op, values, head, body, err
}

// request reads a request like net/http does, from its first line and fields.
func request(tb testing.TB, line, body string, fields ...string) *http.Request {
	tb.Helper()
	method, target, _ := strings.Cut(line, " ")
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, target, nil)
	} else {
		r = httptest.NewRequest(method, target, strings.NewReader(body))
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func value(op *validate.Operation, values []any, in, name string) any {
	i := slices.IndexFunc(op.Op().Params, func(p gatehouse.Param) bool { return p.In == in && p.Name == name })
	if i < 0 {
		return nil
	}
	return values[i]
}

const orderID = "0c1f7f43-5bd2-4b0e-9d5b-6a6f0a3f9b11"

func TestHeadTakes(t *testing.T) {
	a := orders(t, validate.Options{})
	tests := []struct {
		name, line string
		fields     []string
		in, param  string
		want       any
		path       string // forwarded
		query      string // forwarded
	}{
		{"a string", "GET /v1/orders?status=open", nil, "query", "status", "open", "/v1/orders", "status=open"},
		{"an integer", "GET /v1/orders?limit=10", nil, "query", "limit", int64(10), "/v1/orders", "limit=10"},
		{"a number", "GET /v1/orders?min_total=9.50", nil, "query", "min_total", 9.5, "/v1/orders", "min_total=9.50"},
		{"a boolean", "GET /v1/orders?gift=true", nil, "query", "gift", true, "/v1/orders", "gift=true"},
		{"nothing", "GET /v1/orders", nil, "query", "status", nil, "/v1/orders", ""},
		{"a repeated array", "GET /v1/orders?tag=a&limit=2&tag=b", nil, "query", "tag", []any{"a", "b"}, "/v1/orders", "tag=a&limit=2&tag=b"},
		{"an array with commas", "GET /v1/orders?ids=1,2,3", nil, "query", "ids", []any{int64(1), int64(2), int64(3)}, "/v1/orders", "ids=1,2,3"},
		{"encoded commas, written plainly", "GET /v1/orders?ids=1%2C2", nil, "query", "ids", []any{int64(1), int64(2)}, "/v1/orders", "ids=1,2"},
		{"an array with pipes", "GET /v1/orders?piped=a|b", nil, "query", "piped", []any{"a", "b"}, "/v1/orders", "piped=a%7Cb"},
		{"an array with spaces", "GET /v1/orders?spaced=a+b%20c", nil, "query", "spaced", []any{"a", "b", "c"}, "/v1/orders", "spaced=a%20b%20c"},
		{"a deep object", "GET /v1/orders?filter[city]=Z%C3%BCrich&filter%5Bmax%5D=3", nil, "query", "filter", map[string]any{"city": "Zürich", "max": int64(3)}, "/v1/orders", "filter%5Bcity%5D=Z%C3%BCrich&filter%5Bmax%5D=3"},
		{"an open deep object", "GET /v1/orders?meta[anything]=x", nil, "query", "meta", map[string]any{"anything": "x"}, "/v1/orders", "meta%5Banything%5D=x"},
		{"JSON content, written afresh", "GET /v1/orders?where=%7B%20%22a%22%20%3A%201%7D", nil, "query", "where", `{"a":1}`, "/v1/orders", "where=%7B%22a%22%3A1%7D"},
		{"a union, as the string it names", "GET /v1/orders?mixed=none", nil, "query", "mixed", "none", "/v1/orders", "mixed=none"},
		{"a union, as the number it spells", "GET /v1/orders?mixed=7", nil, "query", "mixed", int64(7), "/v1/orders", "mixed=7"},
		{"an empty value where it is allowed", "GET /v1/orders?flag", nil, "query", "flag", nil, "/v1/orders", "flag"},
		{"a header", "GET /v1/orders", []string{"X-Request-Id: " + orderID}, "header", "X-Request-Id", orderID, "/v1/orders", ""},
		{"an array header over two lines", "GET /v1/orders", []string{"X-Codes: 1, 2", "X-Codes: 3"}, "header", "X-Codes", []any{int64(1), int64(2), int64(3)}, "/v1/orders", ""},
		{"a cookie among others", "GET /v1/orders", []string{"Cookie: session=\"a,b\"; theme=dark"}, "cookie", "theme", "dark", "/v1/orders", ""},
		{"a path parameter", "GET /v1/orders/" + orderID, nil, "path", "id", orderID, "/v1/orders/" + orderID, ""},
		{"plus and spaces, written as %20", "GET /v1/orders/" + orderID + "?a=x+y&b=%41%2B", nil, "query", "b", "A+", "/v1/orders/" + orderID, "a=x%20y&b=A%2B"},
		{"two parameters in a segment", "GET /v1/reports/may%20sales.csv", nil, "path", "name", "may sales", "/v1/reports/may%20sales.csv", ""},
		{"a path array and a label", "GET /v1/sums/1,2/.x%C3%A9", nil, "path", "label", "xé", "/v1/sums/1,2/.x%C3%A9", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			op, values, head, _, err := a.call(request(t, tt.line, "", tt.fields...))
			if err != nil {
				t.Fatalf("refused: %v %+v", err, gatehouse.AsProblem(err).Fields)
			}
			if got := value(op, values, tt.in, tt.param); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("value %#v, want %#v", got, tt.want)
			}
			if string(head.Path) != tt.path || string(head.Query) != tt.query {
				t.Errorf("forwarded %s?%s, want %s?%s", head.Path, head.Query, tt.path, tt.query)
			}
		})
	}
}

func TestHeadRefuses(t *testing.T) {
	a := orders(t, validate.Options{})
	tests := []struct {
		name, line   string
		fields       []string
		status       int
		reason, rule string
	}{
		{"an undeclared parameter", "GET /v1/orders?admin=1", nil, 400, "unknown_parameter", "unknown_parameter"},
		{"a name in another case", "GET /v1/orders?Limit=1", nil, 400, "unknown_parameter", "unknown_parameter"},
		{"a doubled scalar", "GET /v1/orders?status=open&status=paid", nil, 400, "invalid_query", "duplicate"},
		{"a doubled scalar by an encoded name", "GET /v1/orders?limit=1&%6cimit=2", nil, 400, "invalid_query", "duplicate"},
		{"a doubled array that is not exploded", "GET /v1/orders?ids=1&ids=2", nil, 400, "invalid_query", "syntax"},
		{"a doubled field of an object", "GET /v1/orders?filter[max]=1&filter[max]=2", nil, 400, "invalid_query", "duplicate"},
		{"an undeclared field of an object", "GET /v1/orders?filter[role]=1", nil, 400, "unknown_parameter", "unknown_parameter"},
		{"a nested field", "GET /v1/orders?meta[a][b]=1", nil, 400, "unknown_parameter", "unknown_parameter"},
		{"an invalid escape", "GET /v1/orders?status=%zz", nil, 400, "invalid_query", "percent_encoding"},
		{"a cut escape", "GET /v1/orders?status=%4", nil, 400, "invalid_query", "percent_encoding"},
		{"a semicolon", "GET /v1/orders?limit=1;role=admin", nil, 400, "invalid_query", "syntax"},
		{"invalid UTF-8", "GET /v1/orders?status=%ff", nil, 400, "invalid_query", "utf8"},
		{"overlong UTF-8", "GET /v1/orders?status=%c0%ae", nil, 400, "invalid_query", "utf8"},
		{"NUL", "GET /v1/orders?status=open%00", nil, 400, "invalid_query", "control_character"},
		{"a line break", "GET /v1/orders?status=open%0d%0aX:1", nil, 400, "invalid_query", "control_character"},
		{"an empty pair", "GET /v1/orders?limit=1&&gift=true", nil, 400, "invalid_query", "syntax"},
		{"a trailing ampersand", "GET /v1/orders?limit=1&", nil, 400, "invalid_query", "syntax"},
		{"a nameless value", "GET /v1/orders?=1", nil, 400, "invalid_query", "syntax"},
		{"more than 256 pairs", "GET /v1/orders?limit=1" + strings.Repeat("&tag=a", 256), nil, 400, "invalid_query", "too_many"},
		{"an exponent as integer", "GET /v1/orders?limit=1e0", nil, 400, "invalid_query", "type"},
		{"a plus sign", "GET /v1/orders?limit=%2B1", nil, 400, "invalid_query", "type"},
		{"leading zeros", "GET /v1/orders?limit=007", nil, 400, "invalid_query", "type"},
		{"hexadecimal", "GET /v1/orders?limit=0x1", nil, 400, "invalid_query", "type"},
		{"a decimal integer", "GET /v1/orders?limit=1.0", nil, 400, "invalid_query", "type"},
		{"an integer beyond 64 bits", "GET /v1/orders?limit=9223372036854775808", nil, 400, "invalid_query", "type"},
		{"minus zero", "GET /v1/orders?limit=-0", nil, 400, "invalid_query", "type"},
		{"digits of another script", "GET /v1/orders?limit=%D9%A3", nil, 400, "invalid_query", "type"},
		{"an empty integer", "GET /v1/orders?limit=", nil, 400, "invalid_query", "type"},
		{"NaN", "GET /v1/orders?min_total=NaN", nil, 400, "invalid_query", "type"},
		{"an exponent no double holds", "GET /v1/orders?min_total=1e999999", nil, 400, "invalid_query", "type"},
		{"an exponent that only looks like zero", "GET /v1/orders?min_total=1e-999999", nil, 400, "invalid_query", "type"},
		{"a boolean in capitals", "GET /v1/orders?gift=TRUE", nil, 400, "invalid_query", "type"},
		{"a boolean as number", "GET /v1/orders?gift=1", nil, 400, "invalid_query", "type"},
		{"a value outside the enum", "GET /v1/orders?status=admin", nil, 422, "invalid_query", "enum"},
		{"a value above the maximum", "GET /v1/orders?limit=101", nil, 422, "invalid_query", "maximum"},
		{"a format violated", "GET /v1/orders?after=17", nil, 422, "invalid_query", "format"},
		{"too many items", "GET /v1/orders?tag=a&tag=b&tag=c&tag=d", nil, 422, "invalid_query", "maxItems"},
		{"an item that violates its pattern", "GET /v1/orders?tag=a&tag=B", nil, 422, "invalid_query", "pattern"},
		{"duplicate keys in JSON content", "GET /v1/orders?where=%7B%22a%22:1,%22a%22:2%7D", nil, 400, "invalid_query", "duplicate_key"},
		{"an undeclared member of JSON content", "GET /v1/orders?where=%7B%22b%22:1%7D", nil, 422, "invalid_query", "additionalProperties"},
		{"a union that is neither", "GET /v1/orders?mixed=some", nil, 422, "invalid_query", "enum"},
		{"a path that violates its format", "GET /v1/orders/17", nil, 422, "invalid_path", "format"},
		{"a path integer with a sign", "PUT /v1/orders/+5/photo", nil, 400, "invalid_path", "type"},
		{"a doubled header", "GET /v1/orders", []string{"X-Request-Id: " + orderID, "X-Request-Id: " + orderID}, 400, "invalid_header", "duplicate"},
		{"a header with bytes beyond ASCII", "GET /v1/orders", []string{"X-Request-Id: \xff"}, 400, "invalid_header", "control_character"},
		{"a header that violates its format", "GET /v1/orders", []string{"X-Request-Id: x"}, 422, "invalid_header", "format"},
		{"a doubled cookie", "GET /v1/orders", []string{"Cookie: theme=dark; theme=light"}, 400, "invalid_cookie", "duplicate"},
		{"a cookie doubled over two fields", "GET /v1/orders", []string{"Cookie: theme=dark", "Cookie: theme=light"}, 400, "invalid_cookie", "duplicate"},
		{"a cookie doubled with a space", "GET /v1/orders", []string{"Cookie: theme=dark; theme =light"}, 400, "invalid_cookie", "duplicate"},
		{"a quoted cookie", "GET /v1/orders", []string{`Cookie: theme="dark"`}, 400, "invalid_cookie", "syntax"},
		{"a cookie outside the enum", "GET /v1/orders", []string{"Cookie: theme=blue"}, 422, "invalid_cookie", "enum"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			_, values, _, _, err := a.call(request(t, tt.line, "", tt.fields...))
			if err == nil {
				t.Fatalf("passed with %v", values)
			}
			p := gatehouse.AsProblem(err)
			if p.Kind.Status() != tt.status || p.Reason != tt.reason || len(p.Fields) == 0 || p.Fields[0].Rule != tt.rule {
				t.Fatalf("got %d %s %+v (%v), want %d %s %s", p.Kind.Status(), p.Reason, p.Fields, p.Err, tt.status, tt.reason, tt.rule)
			}
			if len(p.Fields) > 10 {
				t.Fatalf("%d faults listed", len(p.Fields))
			}
		})
	}
}

func TestHeadDropsUnknownQueryWhenTold(t *testing.T) {
	a := orders(t, validate.Options{Settings: validate.Settings{DropUnknownQuery: true}})
	_, _, head, _, err := a.call(request(t, "GET /v1/orders?utm=1&limit=5&debug=true", ""))
	if err != nil || string(head.Query) != "limit=5" {
		t.Fatalf("forwarded %q, %v; want the declared parameter alone", head.Query, err)
	}
	if _, _, _, _, err = a.call(request(t, "GET /v1/orders?utm=%zz", "")); err == nil {
		t.Fatal("an undeclared parameter that cannot be read was dropped instead of refused")
	}
}

func TestHeadRefusesForeignPathValues(t *testing.T) {
	a := orders(t, validate.Options{})
	var head validate.Head
	if _, err := a.doc.Operations()[0].Head(request(t, "GET /", ""), []string{"x"}, nil, &head); gatehouse.AsProblem(err).Kind != gatehouse.Internal {
		t.Fatalf("got %v, want an internal error", err)
	}
}

func TestHeadNeverEchoesValues(t *testing.T) {
	a := orders(t, validate.Options{})
	const secret = "hunter2"
	for _, line := range []string{"GET /v1/orders?status=" + secret, "GET /v1/orders?after=" + secret, "GET /v1/orders/" + secret, "GET /v1/orders?limit=" + secret} {
		_, _, _, _, err := a.call(request(t, line, ""))
		p := gatehouse.AsProblem(err)
		if p == nil {
			t.Fatalf("%s passed", line)
		}
		text := fmt.Sprintf("%s %+v", p.Detail, p.Fields)
		if strings.Contains(text, secret) {
			t.Errorf("%s: the answer holds the value: %s", line, text)
		}
	}
}
