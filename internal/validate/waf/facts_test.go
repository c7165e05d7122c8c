package waf_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

func TestReadFindsTheValuesOfAMessage(t *testing.T) {
	tests := []struct {
		name, target, contentType, body string
		want                            []string
	}{
		{"a query keeps its order, broken escapes and names without text", "/p?b=1&a=%41+x&%zz&&=v&c=%4", "", "", []string{
			"get b=1", "get a=A x", "get %zz=", "get =v", "get c=%4",
		}},
		{"a semicolon does not part a query", "/?a=1;b=2", "", "", []string{"get a=1;b=2"}},
		{"a form is the body of no type, too", "/", "", "x=%27&y", []string{"post x='", "post y="}},
		{"JSON is flattened with the lengths of its arrays", "/", "application/json; charset=utf-8", `{"a":[1,{"b":null,"c":[]},"\u00e9\ud83d\ude00\ud800x"],"a.0":true}`, []string{
			"post json.a.0=1", "post json.a.1.b=", "post json.a.2=é😀\ufffdx", "post json.a=3", "post json.a.0=true",
		}},
		{"a lone JSON leaf is an array of one", "/", "application/problem+json", ` -1.5e+3 `, []string{"post json.0=-1.5e+3", "post json=1"}},
		{"what stands in front of a fault in JSON stays", "/", "application/json", `{"a":1,"b":tru}`, []string{"post json.a=1", "error JSON: invalid JSON"}},
		{"XML gives its text and attributes", "/", "text/xml", `<a b="1&amp;2"> x <c>y</c><![CDATA[z]]></a>`, []string{
			"attr //@*=1&2", "text /*=x", "text /*=y", "text /*=z",
		}},
		{"a document type is an error", "/", "application/xml", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, []string{
			"text /*=&e;", "error XML: has a document type",
		}},
		{"multipart gives fields, files and part headers", "/", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nv\r\n" +
			"--b\r\nContent-Disposition: form-data; name=\"u\"; filename=\"a.txt\"; filename*=utf-8''b.php\r\n\r\nxyz\r\n--b--\r\n", []string{
			`part f=Content-Disposition: form-data; name="f"`, "post f=v",
			`part u=Content-Disposition: form-data; name="u"; filename="a.txt"; filename*=utf-8''b.php`, "file u=b.php", "file u=a.txt",
		}},
	}
	places := map[waf.In]string{
		waf.ArgGet: "get", waf.ArgPost: "post", waf.XMLText: "text", waf.XMLAttr: "attr",
		waf.File: "file", waf.PartHeader: "part", waf.Cookie: "cookie",
	}
	var f waf.Facts
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := waf.Message{Method: "POST", Target: tt.target, Protocol: "HTTP/1.1", Body: []byte(tt.body)}
			if tt.contentType != "" {
				m.Header = []waf.Field{{"Content-Type", tt.contentType}}
			}
			f.Read(&m)
			var got []string
			for _, v := range f.Values {
				if v.In != waf.Header {
					got = append(got, fmt.Sprintf("%s %s=%s", places[v.In], v.Name, v.Text))
				}
			}
			if f.BodyError != "" {
				got = append(got, "error "+f.BodyError)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(tt.want, "\n "))
			}
		})
	}
}

func TestReadFindsCookies(t *testing.T) {
	var f waf.Facts
	f.Read(&waf.Message{Method: "GET", Target: "/", Header: []waf.Field{{"cookie", " a=1; b = x=y ;;=v;\x01c\x0b=2; d"}}})
	var got []string
	for _, v := range f.Values {
		if v.In == waf.Cookie {
			got = append(got, v.Name+"="+v.Text)
		}
	}
	if want := []string{"a=1", "b=x=y", "=v", "c=2", "d="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadIsBounded(t *testing.T) {
	body := func(contentType, body string) *waf.Message {
		return &waf.Message{Method: "POST", Target: "/", Protocol: "HTTP/1.1", Body: []byte(body), Header: []waf.Field{{"Content-Type", contentType}}}
	}
	const part = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n"
	tests := []struct {
		name    string
		message *waf.Message
		failure string
	}{
		{"a thousand parts", body("multipart/form-data; boundary=b", strings.Repeat(part, 1001)+"--b--"), "MULTIPART: too many parts"},
		{"ten thousand XML values", body("text/xml", "<a>"+strings.Repeat("<b>x</b>", 10_001)+"</a>"), "XML: has too many values"},
		{"a hundred thousand XML elements", body("text/xml", strings.Repeat("<b/>", 50_001)), "XML: has too many elements"},
		{"a body beyond the limit", body("text/plain", strings.Repeat("x", 13_107_200)), "the body is larger than the rules read"},
	}
	var f waf.Facts
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if f.Read(tt.message); f.BodyError != tt.failure {
				t.Errorf("got error %q, want %q", f.BodyError, tt.failure)
			}
			if len(f.Values) > 10_100 {
				t.Errorf("got %d values", len(f.Values))
			}
		})
	}
}

func TestALongNameBehindEnoughLeavesCostsItsLengthOnce(t *testing.T) {
	leaves := "[" + strings.Repeat("1,", 200_000) + "1]"
	var f waf.Facts
	began := time.Now()
	f.Read(&waf.Message{
		Method: "POST", Target: "/", Protocol: "HTTP/1.1", Header: []waf.Field{{"Content-Type", "application/json"}},
		Body: []byte(`{"a":` + leaves + `,"` + strings.Repeat("n", 500_000) + `":` + leaves + `}`),
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if !f.ArgsCut || f.BodyError != "" {
		t.Errorf("cut %v, error %q", f.ArgsCut, f.BodyError)
	}
}

func TestNamesOfAFormThatDifferInCaseAreAllKept(t *testing.T) {
	var f waf.Facts
	f.Read(&waf.Message{Method: "POST", Target: "/", Body: []byte("a=1&A=2&a=3")})
	var got []string
	for _, v := range f.Values {
		got = append(got, v.Name+"="+v.Text)
	}
	if want := []string{"a=1", "A=2", "a=3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnAnswerIsReadBesideItsRequest(t *testing.T) {
	var f waf.Facts
	m := waf.Message{Method: "GET", Target: "/a?b=c", Protocol: "HTTP/1.1"}
	f.Read(&m)
	for range 2 { // a second answer takes the place of the first
		f.Status, f.Answer, f.AnswerBody = 500, []waf.Field{{"Content-Type", "text/plain; charset=utf-8"}}, []byte("ORA-00942")
		f.ReadAnswer(&f.Message)
	}
	var got []string
	for _, v := range f.Values {
		got = append(got, v.Name)
	}
	if want := []string{"b", "Content-Type"}; !slices.Equal(got, want) {
		t.Errorf("got values %q, want %q", got, want)
	}
	for name, want := range map[string]string{
		"RESPONSE_STATUS": "500", "RESPONSE_BODY": "ORA-00942", "RESPONSE_CONTENT_TYPE": "text/plain", "REQUEST_LINE": "GET /a?b=c HTTP/1.1",
	} {
		if got, _ := f.Single(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestFactsThatWereNotReadAnswerForTheirMessage(t *testing.T) {
	var f waf.Facts
	f.Message = waf.Message{Address: "192.0.2.1", Method: "GET", Target: "/a/b%41.php?x=1", Protocol: "HTTP/2.0"}
	for name, want := range map[string]string{
		"REMOTE_ADDR": "192.0.2.1", "REQUEST_URI": "/a/b%41.php?x=1", "REQUEST_FILENAME": "/a/bA.php", "REQUEST_BASENAME": "bA.php",
		"QUERY_STRING": "x=1", "REQUEST_BODY_LENGTH": "0", "ARGS_COMBINED_SIZE": "0",
	} {
		if got, ok := f.Single(name); !ok || got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, ok := f.Single("ARGS"); ok {
		t.Error("ARGS is no single variable")
	}
}
