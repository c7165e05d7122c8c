package coraza_test

import (
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

const sqli = "1' or '1'='1' -- "

func request(method, target, mediaType, body string) waf.Message {
	m := waf.Message{Address: "192.0.2.7", Method: method, Target: target, Protocol: "HTTP/1.1", Header: []waf.Field{
		{Name: "Host", Value: "api.example.com"}, {Name: "User-Agent", Value: "client/1.0"}, {Name: "Accept", Value: "*/*"},
	}}
	if body != "" {
		m.Header = append(m.Header, waf.Field{Name: "Content-Type", Value: mediaType})
		m.Body = []byte(body)
	}
	return m
}

func load(t testing.TB, c waf.Config) *coraza.Engine {
	t.Helper()
	e, err := coraza.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func judge(e *coraza.Engine, m waf.Message) (v waf.Verdict) {
	f := waf.Facts{Message: m}
	if m.Status != 0 {
		e.Answer(&f, &v)
	} else {
		e.Request(&f, &v)
	}
	return v
}

func rules(v waf.Verdict) (ids []int) {
	for _, h := range v.Hits {
		ids = append(ids, h.Rule)
	}
	return ids
}

func TestVerdicts(t *testing.T) {
	e := load(t, waf.Config{})
	q := "/find?q=" + url.QueryEscape(sqli)
	answer := request("GET", "/", "", "")
	answer.Status, answer.Answer, answer.AnswerBody = 200, []waf.Field{{Name: "Content-Type", Value: "text/html"}}, []byte("ORA-00933: SQL command not properly ended")
	broken := request("POST", "/", "application/json", `{"a": [1, 2`)
	many := request("GET", "/?"+strings.Repeat("a=1&", 1001), "", "")
	for _, c := range []struct {
		name  string
		m     waf.Message
		rule  int
		block bool
	}{
		{"a harmless request is quiet", request("GET", "/find?q=blue+shoes", "", ""), 0, false},
		{"SQL in a query is found and reaches the threshold", request("GET", q, "", ""), 942100, true},
		{"SQL in a JSON body is found", request("POST", "/", "application/json", `{"a":{"b":["`+sqli+`"]}}`), 942100, true},
		{"SQL in a form is found", request("POST", "/", "application/x-www-form-urlencoded", "a="+url.QueryEscape(sqli)), 942100, true},
		{"SQL in the text of XML is found", request("POST", "/", "application/xml", `<a>`+sqli+`</a>`), 942100, true},
		{"SQL in an attribute of XML is found, which CRS 4.25.0 itself does not (GHSA-6jp8-c2w2-x7wr)", request("POST", "/", "application/xml", `<a b="`+sqli+`"/>`), 942100, true},
		{"a body that cannot be read does not pass", broken, 200002, true},
		{"arguments beyond those looked at do not pass", many, 200004, true},
		{"an answer that shows a database's error is found", answer, 951120, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(e, c.m)
			if v.Over || v.Block != c.block || (c.rule == 0) != (len(v.Hits) == 0) || c.rule != 0 && !slices.Contains(rules(v), c.rule) {
				t.Errorf("block %v, over %v, score %d, %+v", v.Block, v.Over, v.Score, v.Hits)
			}
		})
	}
}

func TestHitSaysWhatMatchedAndWhere(t *testing.T) {
	v := judge(load(t, waf.Config{}), request("POST", "/", "application/json", `{"a":{"b":["<script>alert(1)</script>"]}}`))
	i := slices.IndexFunc(v.Hits, func(h waf.Hit) bool { return h.Rule == 941110 })
	if i < 0 {
		t.Fatalf("%+v", v.Hits)
	}
	want := waf.Hit{
		Rule: 941110, Msg: "XSS Filter - Category 1: Script Tag Vector", Severity: "CRITICAL", Level: 1,
		Target: "ARGS", Name: "json.a.b.0", Text: "<script>alert(1)</script>", Match: "<script>",
	}
	if v.Hits[i] != want {
		t.Errorf("%+v", v.Hits[i])
	}
}

func TestParanoiaBeyondTheBlockingLevelOnlyReports(t *testing.T) {
	m := request("GET", "/?a=union+select", "", "")
	one, four, report := judge(load(t, waf.Config{}), m), judge(load(t, waf.Config{Paranoia: 4}), m), judge(load(t, waf.Config{Detect: 4}), m)
	if len(one.Hits) >= len(four.Hits) || one.Score >= four.Score || !four.Block {
		t.Errorf("level 1: %+v, level 4: %+v", one, four)
	}
	if report.Score != one.Score || report.Block != one.Block || len(report.Hits) <= len(one.Hits) {
		t.Errorf("level 1 that reports up to 4: %+v", report)
	}
}

func TestExclusions(t *testing.T) {
	in := func(name string) waf.Message {
		return request("GET", "/?"+url.QueryEscape(name)+"="+url.QueryEscape(sqli), "", "")
	}
	for _, c := range []struct {
		name    string
		without waf.Exclusion
		m       waf.Message
		found   bool
	}{
		{"a rule does not look at the value that is left out", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: "q"}, in("q"), false},
		{"and looks at others", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: "q"}, in("qq"), true},
		{"upper and lower case are one", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: "Q"}, in("q"), false},
		{"a range of rules", waf.Exclusion{Rules: []string{"942000-942999"}, In: waf.ArgGet, Name: "q"}, in("q"), false},
		{"a tag", waf.Exclusion{Rules: []string{"attack-sqli"}, In: waf.ArgGet, Name: "q"}, in("q"), false},
		{"a star is any rest", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: "q.*"}, in("q.7"), false},
		{"and only behind what stands before it", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: "q.*"}, in("qx7"), true},
		{"a name may have any character", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet, Name: `a',b;"c:/|d\`}, in(`a',b;"c:/|d\`), false},
		{"a place without a name is all of it", waf.Exclusion{Rules: []string{"942100"}, In: waf.ArgGet}, in("x"), false},
		{"another place is not meant", waf.Exclusion{Rules: []string{"942100"}, In: waf.Cookie, Name: "q"}, in("q"), true},
		{"without a place the rule does not run", waf.Exclusion{Rules: []string{"942100"}}, in("q"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(load(t, waf.Config{Without: []waf.Exclusion{c.without}}), c.m)
			if slices.Contains(rules(v), 942100) != c.found {
				t.Errorf("%+v", v.Hits)
			}
		})
	}
}

func TestOwnRules(t *testing.T) {
	own := waf.Config{
		Before: []waf.Source{{Name: "before.conf", Text: []byte(`SecRule REQUEST_HEADERS:X-Trusted "@streq yes" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=942100"`)}},
		After:  []waf.Source{{Name: "after.conf", Text: []byte(`SecRule ARGS:colour "@streq octarine" "id:2,phase:2,deny,msg:'No such colour'"`)}},
	}
	e := load(t, own)
	if v := judge(e, request("GET", "/?colour=octarine", "", "")); !v.Block || !slices.Equal(rules(v), []int{2}) {
		t.Errorf("%+v", v)
	}
	m := request("GET", "/?q="+url.QueryEscape(sqli), "", "")
	m.Header = append(m.Header, waf.Field{Name: "X-Trusted", Value: "yes"})
	if v := judge(e, m); slices.Contains(rules(v), 942100) {
		t.Errorf("%+v", v)
	}
}

func TestFaultsNameTheFile(t *testing.T) {
	good := waf.Source{Name: "good.conf", Text: []byte(`SecAction "id:1,phase:1,pass,nolog"`)}
	for name, c := range map[string]waf.Config{
		"an operator nobody knows": {After: []waf.Source{good, {Name: "own.conf", Text: []byte("\n" + `SecRule ARGS "@rxx a" "id:2,phase:2,deny"`)}}, NoCRS: true},
		"an id used twice":         {Before: []waf.Source{good}, After: []waf.Source{{Name: "own.conf", Text: good.Text}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := coraza.Load(c)
			if err == nil || !strings.Contains(err.Error(), "own.conf") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestReloadsGiveTheirMemoryBack(t *testing.T) {
	heap := func() uint64 {
		for range 4 { // an object with a cleanup goes in one round, what the cleanup lets go in a later one
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	// Every reload has an expression of its own, as edited rules do: 1 MB compiled.
	reload := func(n int) {
		rule := `SecRule ARGS "@rx ` + strings.Repeat("[a-z0-9]{900}", 8) + strings.Repeat("x", n) + `" "id:1,phase:2,deny"`
		load(t, waf.Config{NoCRS: true, After: []waf.Source{{Name: "own.conf", Text: []byte(rule)}}})
	}
	reload(1)
	before := heap()
	for n := range 20 {
		reload(n + 2)
	}
	var after uint64
	for range 50 {
		if after = heap(); after < before+4<<20 {
			return
		}
	}
	t.Errorf("20 reloads left %d bytes more", after-before)
}

func BenchmarkRequest(b *testing.B) {
	e := load(b, waf.Config{})
	for name, m := range map[string]waf.Message{
		"get":  request("GET", "/orders?status=open&limit=20&sort=-created&from=2026-01-01&page=2", "", ""),
		"json": request("POST", "/orders", "application/json", `{"customer":"8c2b1f0e","items":[{"sku":"A-1","quantity":2,"note":"Please ring twice"}],"address":{"street":"Main Street 7","city":"Berlin"}}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				judge(e, m)
			}
		})
	}
}

func TestFieldsOfOneNameAreEachLookedAt(t *testing.T) {
	e := load(t, waf.Config{Paranoia: 2})
	for range 20 { // Coraza goes over headers in an order of chance
		m := request("GET", "/", "", "")
		m.Header = append(m.Header, waf.Field{Name: "User-Agent", Value: "en-us,en;q=0.5"})
		if v := judge(e, m); !slices.Contains(rules(v), 942200) {
			t.Fatalf("%+v", v.Hits)
		}
	}
}

func TestMessageThatCorazaPanicsOnDoesNotPass(t *testing.T) {
	e := load(t, waf.Config{NoCRS: true, After: []waf.Source{{Name: "own.conf", Text: []byte(`SecRule ARGS:a "@rx ." "id:1,phase:2,pass,setvar:!tx.x"`)}}})
	if v := judge(e, request("GET", "/?a=1", "", "")); !v.Block || !v.Over {
		t.Errorf("%+v", v)
	}
	if v := judge(e, request("GET", "/?b=1", "", "")); v.Block || v.Over {
		t.Errorf("the next message: %+v", v)
	}
}
