package waf_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"
	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// The rules of coraza.conf-recommended that choose how a body is read, and 901340.
const readers = `
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml
SecResponseBodyLimit 524288
SecResponseBodyLimitAction ProcessPartial
SecRequestBodyLimit 13107200
SecRequestBodyInMemoryLimit 13107200
SecRequestBodyJsonDepthLimit 1024
SecArgumentsLimit 1000
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecAction "id:901340,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On"
`

// singles are the variables with one text that both sides are asked for.
var singles = []string{
	"REMOTE_ADDR", "REQUEST_METHOD", "REQUEST_PROTOCOL", "REQUEST_URI_RAW", "REQUEST_LINE", "REQUEST_URI",
	"REQUEST_FILENAME", "REQUEST_BASENAME", "QUERY_STRING", "URI_PARSE_ERROR", "REQUEST_BODY", "REQUEST_BODY_LENGTH",
	"REQBODY_PROCESSOR", "REQBODY_ERROR", "MULTIPART_STRICT_ERROR", "ARGUMENTS_LIMIT_REACHED", "ARGS_COMBINED_SIZE",
	"FILES_COMBINED_SIZE", "RESPONSE_STATUS", "RESPONSE_PROTOCOL", "RESPONSE_CONTENT_TYPE", "RESPONSE_CONTENT_LENGTH", "RESPONSE_BODY",
}

// A view is what one side makes of a message: collection, then name and text of
// each value.
type view map[string][][2]string

func newCoraza(t testing.TB) coraza.WAF {
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(readers))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func corazaView(t testing.TB, w coraza.WAF, m *waf.Message) view {
	tx := w.NewTransaction()
	defer tx.Close()
	tx.ProcessConnection(m.Address, 0, "", 0)
	tx.ProcessURI(m.Target, m.Method, m.Protocol)
	for _, h := range m.Header {
		tx.AddRequestHeader(h.Name, h.Value)
	}
	tx.ProcessRequestHeaders()
	if len(m.Body) > 0 {
		if _, _, err := tx.WriteRequestBody(m.Body); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.ProcessRequestBody(); err != nil {
		t.Fatal(err)
	}
	if m.Status != 0 {
		for _, h := range m.Answer {
			tx.AddResponseHeader(h.Name, h.Value)
		}
		tx.ProcessResponseHeaders(m.Status, m.Protocol)
		if tx.IsResponseBodyProcessable() {
			if _, _, err := tx.WriteResponseBody(m.AnswerBody); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.ProcessResponseBody(); err != nil {
			t.Fatal(err)
		}
	}
	got := view{}
	tx.(plugintypes.TransactionState).Variables().All(func(v variables.RuleVariable, _ collection.Collection) bool {
		for _, d := range tx.(plugintypes.TransactionState).Collection(v).FindAll() {
			got[v.Name()] = append(got[v.Name()], [2]string{d.Key(), d.Value()})
		}
		return true
	})
	return got
}

func ourView(f *waf.Facts, m *waf.Message) view {
	f.Read(m)
	if m.Status != 0 {
		f.ReadAnswer(m)
	}
	got := view{}
	add := func(collection, name, text string) {
		got[collection] = append(got[collection], [2]string{name, text})
	}
	for _, v := range f.Values {
		switch v.In {
		case waf.ArgGet:
			add("ARGS_GET", v.Name, v.Text)
		case waf.ArgPost:
			add("ARGS_POST", v.Name, v.Text)
		case waf.Cookie:
			add("REQUEST_COOKIES", v.Name, v.Text)
		case waf.Header:
			add("REQUEST_HEADERS", v.Name, v.Text)
		case waf.AnswerHeader:
			add("RESPONSE_HEADERS", v.Name, v.Text)
		case waf.PartHeader:
			add("MULTIPART_PART_HEADERS", v.Name, v.Text)
		case waf.XMLText, waf.XMLAttr:
			add("XML", v.Name, v.Text)
		case waf.File:
			add("FILES", "", v.Text)
			if v.NameRules == nil {
				add("FILES_NAMES", "", v.Name)
			}
		}
	}
	for _, name := range singles {
		if text, _ := f.Single(name); text != "" {
			add(name, "", text)
		}
	}
	add("REQBODY_ERROR_MSG", "", f.BodyError)
	return got
}

// difference says where ours and Coraza's view of m differ, "" for nowhere.
func difference(ours, theirs view, m *waf.Message) string {
	folded := ours.is("REQBODY_PROCESSOR", "URLENCODED") && foldsNames(ours["ARGS_POST"])
	declared := ours.is("REQBODY_ERROR_MSG", "XML: has a document type")
	broken := theirs.is("REQBODY_ERROR_MSG", "JSON: invalid JSON")
	for _, name := range slices.Concat([]string{
		"ARGS_GET", "ARGS_POST", "REQUEST_COOKIES", "REQUEST_HEADERS", "RESPONSE_HEADERS", "MULTIPART_PART_HEADERS",
		"XML", "FILES", "FILES_NAMES",
	}, singles) {
		a, b := ours[name], slices.DeleteFunc(theirs[name], func(x [2]string) bool { return slices.Contains(singles, name) && x[1] == "" })
		switch {
		case strings.HasPrefix(name, "RESPONSE_") && m.Status == 0:
			continue
		case (name == "ARGS_POST" || name == "ARGS_COMBINED_SIZE") && folded:
			continue // Coraza keeps the values of one of two names that differ in case
		case (name == "ARGS_POST" || name == "ARGS_COMBINED_SIZE") && broken:
			continue // Coraza goes on behind a fault
		case name == "REQBODY_ERROR" && declared:
			continue // a document type is an error
		}
		order := func(x, y [2]string) int { return strings.Compare(x[0], y[0]) }
		if name == "MULTIPART_PART_HEADERS" { // Coraza goes over a part's header in any order
			order = func(x, y [2]string) int { return strings.Compare(x[0]+x[1], y[0]+y[1]) }
		}
		a, b = slices.Clone(a), slices.Clone(b)
		slices.SortStableFunc(a, order)
		slices.SortStableFunc(b, order)
		if !slices.Equal(a, b) {
			return fmt.Sprintf("%s\n ours   %.600q\n coraza %.600q\n of %s %.300q %q\n %.2000q", name, a, b, m.Method, m.Target, m.Header, m.Body)
		}
	}
	return ""
}

func foldsNames(values [][2]string) bool {
	seen := map[string]string{}
	for _, v := range values {
		name, ok := seen[strings.ToLower(v[0])]
		if ok && name != v[0] {
			return true
		}
		seen[strings.ToLower(v[0])] = v[0]
	}
	return false
}

// crsRequests are the requests of the Core Rule Set's own tests.
func crsRequests(t testing.TB) (messages []waf.Message) {
	type document struct {
		Tests []struct {
			Stages []struct {
				Input struct {
					Method, URI, Version, Data string
					Headers                    map[string]string
					Encoded                    string `yaml:"encoded_request"`
				}
			}
		}
	}
	err := fs.WalkDir(tests.FS, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		text, err := fs.ReadFile(tests.FS, path)
		if err != nil {
			return err
		}
		var d document
		if err := yaml.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, test := range d.Tests {
			for _, stage := range test.Stages {
				in := stage.Input
				m := waf.Message{
					Address: "127.0.0.1", Method: orElse(in.Method, "GET"), Target: orElse(in.URI, "/"),
					Protocol: orElse(in.Version, "HTTP/1.1"), Body: []byte(in.Data),
				}
				for _, name := range slices.Sorted(maps.Keys(in.Headers)) {
					m.Header = append(m.Header, waf.Field{Name: name, Value: in.Headers[name]})
				}
				if in.Data != "" {
					m.Header = append(m.Header, waf.Field{Name: "Content-Length", Value: strconv.Itoa(len(in.Data))})
				}
				if raw, err := base64.StdEncoding.DecodeString(in.Encoded); err == nil && len(raw) > 0 {
					m = rawRequest(string(raw))
				}
				messages = append(messages, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func rawRequest(s string) waf.Message {
	head, body, _ := strings.Cut(s, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	parts := append(strings.SplitN(lines[0], " ", 3), "", "")
	m := waf.Message{Address: "127.0.0.1", Method: parts[0], Target: parts[1], Protocol: parts[2], Body: []byte(body)}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		m.Header = append(m.Header, waf.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	return m
}

func TestReadMakesOfTheRuleSetsRequestsWhatCorazaMakes(t *testing.T) {
	messages, w := crsRequests(t), newCoraza(t)
	if len(messages) < 4600 {
		t.Fatalf("only %d requests", len(messages))
	}
	var f waf.Facts
	failed := 0
	for i := range messages {
		if d := difference(ourView(&f, &messages[i]), corazaView(t, w, &messages[i]), &messages[i]); d != "" {
			t.Error(d)
			if failed++; failed > 10 {
				t.FailNow()
			}
		}
	}
}

// seeds are bodies of all kinds, to be changed at random.
var seeds = []waf.Message{
	{Target: "/a/b.php?x=1&y=%41%2&x=2&=&&X=+%zz;a=b#f", Header: []waf.Field{{"Cookie", "a=b; c ; =d;\x01e\x7f=\x0bf ;a=2"}, {"cookie", "a=\"q;r\""}}},
	{Target: "//h/p%2f%41\"?q", Body: []byte("a=1&b=%27+or&A=2&c&=x&%=%"), Header: []waf.Field{{"Content-Type", "application/x-www-form-urlencoded"}}},
	{Target: "http://u:p@h:8/%c3%a9/\xc3\xa9?a=b", Body: []byte("plain")},
	{Target: "*"},
	{Target: "/x", Header: []waf.Field{{"Content-Type", "application/json"}}, Body: []byte(`{"a":[1,-2.5e+3,{"b":null,"c":[],"d":{}},"\u00e9\ud83d\ude00\ud800\u0041\\\"\/"],"a.0":true,"":false,"A":"x","a":[[[1]]]}`)},
	{Target: "/x", Header: []waf.Field{{"content-type", "application/vnd.api+json"}}, Body: []byte(` [1, "2" ,[3 ,4], {"x" : "y"} ] `)},
	{Target: "/x", Header: []waf.Field{{"content-type", "application/json"}}, Body: []byte(` "lone" `)},
	{Target: "/x", Header: []waf.Field{{"content-type", "application/json"}}, Body: []byte("-12e3\n")},
	{Target: "/x", Header: []waf.Field{{"content-type", "application/json"}}, Body: []byte("null")},
	{Target: "/x", Header: []waf.Field{{"content-type", "text/xml"}}, Body: []byte(`<?xml version="1.0"?><!-- c --><a b="1&amp;2" c='d'> x <br><b/>&#65;&lt;&nbsp;<c>y</c><![CDATA[z<]]></a>`)},
	{Target: "/x", Header: []waf.Field{{"content-type", "application/soap+xml; charset=utf-8"}}, Body: []byte(`<s:Envelope xmlns:s="u"><s:Body>t</s:Body></s:Envelope>`)},
	{Target: "/x", Header: []waf.Field{{"Content-Type", "multipart/form-data; boundary=b"}}, Body: []byte("pre\r\n--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nv\r\nw\r\n--b\r\n" +
		"Content-Disposition: form-data; name=\"u\"; filename=\"a\\\"b.txt\"; filename*=utf-8''b%2ephp\r\nContent-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\n\r\nxyz\r\n--b\r\n" +
		"Content-Disposition: form-data; name=c; filename*0=\"x.\"; filename*1=php; filename=q\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\nc\r\n--b--\r\nafter")},
	{Target: "/x", Header: []waf.Field{{"Content-Type", "multipart/form-data; boundary=\"b c\"; boundary=x"}, {"Content-Type", "application/json"}}, Body: []byte("--b c\r\n\r\n\r\n--b c--")},
}

// mutated changes a few bytes of one part of m.
func mutated(r *rand.Rand, m waf.Message) waf.Message {
	change := func(s string) string {
		b := []byte(s)
		for range 1 + r.IntN(4) {
			at := r.IntN(len(b) + 1)
			const odd = "\"'\\{}[]<>&;=%+*,: \r\n\t\x00\x7f\xff-b0aU?#/."
			switch c := odd[r.IntN(len(odd))]; r.IntN(3) {
			case 0:
				b = slices.Insert(b, at, c)
			case 1:
				b = slices.Delete(b, min(at, len(b)), min(at+1, len(b)))
			default:
				end := min(at+r.IntN(12), len(b))
				b = slices.Insert(b, at, b[at:end]...)
			}
		}
		return string(b)
	}
	line := func(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(change(s)) }
	m.Method, m.Protocol, m.Address = "POST", "HTTP/1.1", "192.0.2.1"
	m.Header = slices.Clone(m.Header)
	switch n := r.IntN(8); {
	case n == 0:
		m.Target = change(m.Target)
	case n <= 2 && len(m.Header) > 0:
		i := r.IntN(len(m.Header))
		m.Header[i].Value = line(m.Header[i].Value)
	default:
		m.Body = []byte(change(string(m.Body)))
	}
	return m
}

func TestReadStopsWhereCorazaStops(t *testing.T) {
	body := func(contentType, body string) waf.Message {
		return waf.Message{Method: "POST", Target: "/", Protocol: "HTTP/1.1", Body: []byte(body), Header: []waf.Field{{"Content-Type", contentType}}}
	}
	answer := func(contentType string, size int) waf.Message {
		return waf.Message{
			Method: "GET", Target: "/", Protocol: "HTTP/1.1", Status: 500, AnswerBody: bytes.Repeat([]byte("x"), size),
			Answer: []waf.Field{{"Content-Type", "text/plain"}, {"X-A", "1"}, {"", "x"}, {"content-type", contentType}},
		}
	}
	const json = "application/json"
	tests := map[string]waf.Message{
		"a query of exactly a thousand values":     {Method: "GET", Target: "/?" + strings.Repeat("a&", 1000) + "&&", Protocol: "HTTP/1.1"},
		"a query of a thousand and one":            {Method: "GET", Target: "/?" + strings.Repeat("a=1&", 1001), Protocol: "HTTP/1.1"},
		"a form of a thousand and one":             body("application/x-www-form-urlencoded", strings.Repeat("a=1&", 1001)),
		"a JSON array of a thousand":               body(json, "["+strings.Repeat("1,", 999)+"1]"),
		"a JSON array of a thousand and one":       body(json, `{"a":[1],"b":[`+strings.Repeat("1,", 999)+`1],"c":[2]}`),
		"a JSON array of thousands, then a fault":  body(json, "["+strings.Repeat("1,", 2000)+"1}"),
		"more array lengths than a thousand":       body(json, `{"x":[`+strings.Repeat("[{}],", 1005)+`[{}]],"y":[1],"z":2}`),
		"a thousand and more empty containers":     body(json, `{"x":[`+strings.Repeat("[],{},", 1005)+`[]],"y":[1],"z":2}`),
		"JSON as deep as may be":                   body(json, strings.Repeat("[", 1024)+strings.Repeat("]", 1024)),
		"JSON deeper than may be":                  body(json, `{"a":1,"b":`+strings.Repeat("[", 1024)+"1"+strings.Repeat("]", 1024)+`,"c":2}`),
		"JSON that is too deep behind the limit":   body(json, "["+strings.Repeat("1,", 1000)+strings.Repeat("[", 1024)+strings.Repeat("]", 1024)+"]"),
		"JSON whose names outgrow the body":        body(json, strings.Repeat(`{"`+strings.Repeat("n", 50)+`":`, 100)+"["+strings.Repeat("1,", 500)+"1]"+strings.Repeat("}", 100)),
		"an empty JSON body of spaces":             body(json, "  "),
		"a multipart body without a boundary":      body("multipart/form-data", "--\r\n"),
		"a multipart body cut off in a field":      body("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue"),
		"a multipart body cut off in a file":       body("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a; filename=x\r\n\r\nvalue"),
		"a multipart body cut off in a head":       body("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a; filename=x\r\n"),
		"an XML document that ends early":          body("text/xml", "<a>x<b c='d'>y"),
		"an XML document with a fault":             body("text/xml", "<a>x</b><![CDATA[y"),
		"an XML document in a strange encoding":    body("text/xml", `<?xml version="1.0" encoding="koi8-r"?><a>x</a>`),
		"an answer of text":                        answer("text/html;charset=x", 100),
		"an answer of text, of the limit":          answer("text/html", 524_288),
		"an answer of text, longer than the limit": answer("text/xml", 524_300),
		"an answer of another type":                answer("application/json", 100),
		"an answer with space behind its type":     answer("text/html ;q", 100),
		"an empty answer":                          answer("text/html", 0),
	}
	w := newCoraza(t)
	var f waf.Facts
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			if d := difference(ourView(&f, &m), corazaView(t, w, &m), &m); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReadMakesOfChangedRequestsWhatCorazaMakes(t *testing.T) {
	w := newCoraza(t)
	r := rand.New(rand.NewPCG(3, 4))
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	var f waf.Facts
	failed := 0
	for range n {
		m := mutated(r, seeds[r.IntN(len(seeds))])
		if d := difference(ourView(&f, &m), corazaView(t, w, &m), &m); d != "" {
			t.Error(d)
			if failed++; failed > 10 {
				t.FailNow()
			}
		}
	}
}

func (v view) is(name, text string) bool { return len(v[name]) > 0 && v[name][0][1] == text }

func FuzzReadMakesWhatCorazaMakes(f *testing.F) {
	for _, m := range seeds {
		contentType, cookie := "", ""
		for _, h := range m.Header {
			if strings.EqualFold(h.Name, "Cookie") {
				cookie = h.Value
			} else {
				contentType = h.Value
			}
		}
		f.Add(m.Target, contentType, cookie, m.Body)
	}
	w := newCoraza(f)
	var facts waf.Facts
	f.Fuzz(func(t *testing.T, target, contentType, cookie string, body []byte) {
		if strings.ContainsAny(contentType+cookie, "\r\n") {
			t.Skip("HTTP delivers no line breaks in header values")
		}
		m := waf.Message{
			Method: "POST", Target: target, Protocol: "HTTP/1.1", Body: body,
			Header: []waf.Field{{Name: "Content-Type", Value: contentType}, {Name: "Cookie", Value: cookie}},
		}
		if d := difference(ourView(&facts, &m), corazaView(t, w, &m), &m); d != "" {
			t.Error(d)
		}
	})
}
