package validate

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// A frontCase is a request as it comes over the wire, written for one rule.
type frontCase struct {
	name string
	rule int
	raw  string
}

// frontCases are requests each rule of the table was written for: those of the
// Core Rule Set's regression tests, and ours.
func frontCases(t testing.TB) (all []frontCase) {
	t.Helper()
	err := fs.WalkDir(tests.FS, ".", func(p string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(p) != ".yaml" {
			return err
		}
		id, _ := strconv.Atoi(strings.TrimSuffix(path.Base(p), ".yaml"))
		if _, ok := provenRules[id]; !ok {
			return nil
		}
		text, err := fs.ReadFile(tests.FS, p)
		if err != nil {
			return err
		}
		var file struct {
			Tests []struct {
				ID     int `yaml:"test_id"`
				Stages []struct {
					Input  frontInput `yaml:"input"`
					Output struct {
						Log struct {
							Expect []int `yaml:"expect_ids"`
						} `yaml:"log"`
					} `yaml:"output"`
				} `yaml:"stages"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return err
		}
		for _, c := range file.Tests {
			for _, s := range c.Stages {
				all = append(all, frontCase{fmt.Sprintf("%d-%d", id, c.ID), id, s.Input.raw(t)})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, list := range ownFrontCases() {
		for i, raw := range list {
			all = append(all, frontCase{fmt.Sprintf("%d-own-%d", id, i), id, raw})
		}
	}
	return all
}

type frontInput struct {
	Method   string            `yaml:"method"`
	URI      string            `yaml:"uri"`
	Version  string            `yaml:"version"`
	Headers  map[string]string `yaml:"headers"`
	Data     string            `yaml:"data"`
	Encoded  string            `yaml:"encoded_request"`
	Complete *bool             `yaml:"autocomplete_headers"`
}

// raw is the request as the suite's runner sends it.
func (in *frontInput) raw(t testing.TB) string {
	if in.Encoded != "" {
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Encoded), ""))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	header, data := map[string]string{}, in.Data
	maps.Copy(header, in.Headers)
	have := func(name string) bool {
		for h := range header {
			if strings.EqualFold(h, name) {
				return true
			}
		}
		return false
	}
	for name, value := range header {
		if strings.EqualFold(name, "content-type") && strings.HasPrefix(value, "multipart/form-data;") {
			data = strings.ReplaceAll(data, "\n", "\r\n")
		}
	}
	method := or(in.Method, "GET")
	if in.Complete == nil || *in.Complete {
		if data != "" && !have("Content-Type") {
			header["Content-Type"] = "application/x-www-form-urlencoded"
		}
		if (data != "" || method == "POST" || method == "PUT" || method == "PATCH") && !have("Content-Length") {
			header["Content-Length"] = strconv.Itoa(len(data))
		}
	}
	return wire(method, or(in.URI, "/"), or(in.Version, "HTTP/1.1"), header, data)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func wire(method, target, version string, header map[string]string, data string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", method, target, version)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, header[name])
	}
	return b.String() + "\r\n" + data
}

// ownFrontCases are where the suite has none, or where the front is asked for
// more than the suite knows of.
func ownFrontCases() map[int][]string {
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	post := func(header, body string) string {
		return "POST /a HTTP/1.1\r\nHost: h\r\n" + header + "\r\n" + body
	}
	form := func(body string) string {
		return post(fmt.Sprintf("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body)), body)
	}
	parts := func(lines ...string) string {
		body := strings.Join(lines, "\r\n")
		return post(fmt.Sprintf("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n", len(body)), body)
	}
	file := []string{"--b", `Content-Disposition: form-data; name="f"; filename="a.txt"`, "Content-Type: text/plain", "", strings.Repeat("x", 100), "--b--", ""}
	many := "/a?a=1" + strings.Repeat("&a=1", 1100)
	return map[int][]string{
		200003: {parts(`--b`, `Content-Disposition: form-data; name="f"`, `Content-Disposition: form-data; name="g"`, "", "x", "--b--", "")},
		200004: {get(many), get(strings.ReplaceAll(many, "&a", "&"))},
		200009: {get("/a%zz"), get("/%"), get("/a?b#%zz"), get("http://h:x/a"), get("//[/a"), get("/a\x01b")},
		920100: {get("/a b"), get("/a#b c"), "GET /a\r\n\r\n", "G-T /a HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", get("/a?b%20c#d"), get("a"), get("/a HTTP/1.1")},
		920160: {post("Content-Length: +2\r\nContent-Type: application/json\r\n", "{}"), post("Content-Length: 2, 2\r\nContent-Type: application/json\r\n", "{}")},
		920170: {"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}", "HEAD /a HTTP/1.1\r\nHost: h\r\nContent-Length: 00\r\n\r\n"},
		920171: {"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		920180: {"POST /a HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a HTTP/1.0\r\nHost: h\r\n\r\n"},
		920181: {post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\nContent-Type: text/plain\r\n", "0\r\n\r\n")},
		920210: {"GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close,keep-alive\r\n\r\n"},
		920240: {form("a=%zz"), form("a=%1"), form("a=%"), form("a=%u12"), form("a=%25%zz")},
		920250: {get("/a?b=%c0%af"), get("/%c0%af"), get("/a?%ff=1"), form("a=%ed%a0%80"), form("a=\xff"), post("Content-Type: text/plain\r\nContent-Length: 3\r\n", "a=\xff")},
		920260: {get("/a?b=%uff01"), get("/%25uff01"), get("/%uff01"), form("a=%uff01"), form("a=%25uff01")},
		920280: {"GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n"},
		920290: {"GET /a HTTP/1.1\r\nHost:\r\n\r\n", "GET /a HTTP/1.1\r\nHost: \r\n\r\n"},
		920340: {post("Content-Length: 2\r\n", "{}"), "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"},
		920400: {parts(file...)},
		920410: {parts(file...)},
		920610: {get("/a#b"), get("/a?b#c")},
		920620: {post("Content-Type: application/json\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n", "{}")},
		920640: {post("Content-Length: 2\r\n", "{}"), post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")},
		921151: {get("/a?b=%0a"), get("/a?b=%0d%0ac"), get("/a?b=x%E2%80%A8%0D")},
		921160: {get("/a?b=%0dlocation:"), get("/a?%0d%0aset-cookie:=1")},
		922140: {parts(file...)},
		922150: {parts(file...)},
	}
}

func targetOf(raw string) string {
	line, _, _ := strings.Cut(raw, "\r\n")
	if words := strings.Fields(line); len(words) > 1 {
		return words[1]
	}
	return "/"
}

// direct is the request as it came, for rules that nothing stands in front of.
func direct(raw string) *waf.Message {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	m := &waf.Message{Address: "127.0.0.1", Body: []byte(body)}
	m.Method, m.Target, _ = strings.Cut(lines[0], " ")
	if i := strings.LastIndexByte(m.Target, ' '); i >= 0 {
		m.Target, m.Protocol = m.Target[:i], m.Target[i+1:]
	}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		m.Header = append(m.Header, waf.Field{Name: name, Value: strings.TrimSpace(value)})
		if strings.EqualFold(name, "Transfer-Encoding") {
			if b, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(body))); err == nil {
				m.Body = b
			}
		}
	}
	return m
}

// frontRules is Coraza with the rules of the table alone, all levels, with every
// check on that settings can turn on. What else denies is off: a rule that ends the
// message would hide those behind it.
func frontRules(t testing.TB) *coraza.Engine {
	t.Helper()
	c := waf.Config{Paranoia: 4, Before: []waf.Source{{Name: "on.conf", Text: []byte(`SecAction "id:1,phase:1,pass,nolog,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.max_file_size=1,setvar:tx.combined_file_sizes=1"`)}}}
	sources, err := c.Sources()
	if err != nil {
		t.Fatal(err)
	}
	p, err := seclang.Parse(sources)
	if err != nil {
		t.Fatal(err)
	}
	var off, on strings.Builder
	for _, item := range p.Items {
		if item.Rule == nil || item.Rule.ID/1000 == 901 || item.Rule.ID < 200000 || item.Rule.ID > 990000 {
			continue
		}
		id := item.Rule.ID
		if _, ok := provenRules[id]; ok {
			fmt.Fprintf(&on, "SecRuleUpdateActionById %d \"pass,log\"\n", id)
		} else {
			fmt.Fprintf(&off, "SecRuleRemoveById %d\n", id)
		}
	}
	c.After = []waf.Source{{Name: "off.conf", Text: []byte(off.String() + on.String())}}
	e, err := coraza.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func hitIDs(e *coraza.Engine, m *waf.Message) []int {
	var v waf.Verdict
	e.Request(&waf.Facts{Message: *m}, &v)
	var ids []int
	for _, h := range v.Hits {
		ids = append(ids, h.Rule)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestProvenRulesMatchNothingThatPassesTheFront(t *testing.T) {
	e := frontRules(t)
	f := newFront(t, e)
	fires, passed := map[int]int{}, 0
	for _, c := range frontCases(t) {
		if slices.Contains(hitIDs(e, direct(c.raw)), c.rule) {
			fires[c.rule]++
		}
		target := targetOf(c.raw)
		for _, wide := range []bool{true, false} {
			if err := f.open(target, wide); err != nil {
				t.Fatal(err)
			}
			if m, op := f.send(t, c.raw); m != nil {
				passed++
				f.holds(t, c.name, m, op)
			}
		}
	}
	if passed < 100 {
		t.Errorf("only %d requests passed the front: it was asked too little", passed)
	}
	for id := range provenRules {
		if fires[id] == 0 {
			t.Errorf("rule %d: no case would match without the front, so it proves nothing", id)
		}
	}
	t.Log(passed, "requests passed the front; matched without it:", fires)
}

// TestProvenRulesMatchNoneOfManyRequests makes requests of parts that are right,
// odd and wrong.
func TestProvenRulesMatchNoneOfManyRequests(t *testing.T) {
	e := frontRules(t)
	f := newFront(t, e)
	r := rand.New(rand.NewPCG(1, 2)) // the same requests in every run
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	text := func() string {
		var b strings.Builder
		for range r.IntN(4) {
			if r.IntN(4) > 0 {
				b.WriteString(one("a", "Z9", "-", "%20", "%c3%a4", "+", "'", "%22", "*", ":", "@", ",", "~", "unix%3A", "%25u000a", "%25uff0a", "%25%7A", "%E2%80%A8", "%3C"))
				continue
			}
			b.WriteString(one("a", "Z9", "-", "%20", "%0a", "%0D", "%00", "%25", "%u000a", "%25u000a", "%uff01", "%25uff0a", "%zz", "%", "%c3%a4", "%c0%af", "ä", "+", ";", "#", "\\", "'", "\"", "<", "%2e%2e", "..", "&", "=", "[", "]", "{", "|", "%E2%80%A8", "%7f", "*", ":", "@", ",", "~", "unix:", "%5c", "%2F", "\t", " "))
		}
		return b.String()
	}
	passed := 0
	for range 2000 {
		target := "/" + text()
		if r.IntN(3) == 0 {
			target += "/" + text()
		}
		if r.IntN(2) == 0 {
			target += "?q=" + text() + one("", "&"+text()+"="+text(), "&q=1", "&")
		}
		method := one("GET", "GET", "HEAD", "POST", "POST", "PUT", "PATCH", "POST", "GET", "DELETE", "OPTIONS", "TRACE")
		body, fields := "", []string{"Host: " + one("h", "h", "h", "h", "h", "h", "h", "", "h:80", "a b", "[::1]", "127.0.0.1")}
		if method[0] == 'P' && r.IntN(5) > 0 || r.IntN(4) == 0 {
			body = one("{}", `{"a":"\u0000%uff01%zz\n"}`, "a="+text(), text()+"="+text(), "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b;c'\"\r\nContent-Transfer-Encoding: x\r\n\r\nx\r\n--b--\r\n", "<a>%uff01</a>")
			fields = append(fields, "Content-Type: "+one("application/json", "application/json; charset=utf-8", "application/vnd.a+json", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", "text/xml", "application/x-www-form-urlencoded2", "text/json"))
		}
		switch r.IntN(12) {
		case 0:
			fields = append(fields, "Transfer-Encoding: chunked", "Content-Length: "+strconv.Itoa(len(body)))
		case 1, 2:
			fields = append(fields, "Transfer-Encoding: chunked")
			if body != "" {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			body += "0\r\n\r\n"
		case 3:
			fields = append(fields, "Content-Length: "+one("+1", "", "00", "0x1", "1,1"))
		default:
			if body != "" || r.IntN(2) == 0 {
				fields = append(fields, "Content-Length: "+strconv.Itoa(len(body)))
			}
		}
		for range r.IntN(3) {
			fields = append(fields, one("Connection: keep-alive, close", "Connection: close", "Accept:", "Expect: 100-continue", "Content-Type: text/plain", "Range: bytes=5-1", "Cookie: a=%0a; $Version=1", "User-Agent:", "X-A: %0a%00", "Upgrade: websocket", "Te: trailers", "Content-Encoding: identity"))
		}
		version := one("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "http/1.1")
		wide := r.IntN(3) == 0
		if err := f.open(target, wide); err != nil {
			t.Fatal(err)
		}
		raw := method + " " + target + " " + version + "\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n" + body
		if m, op := f.send(t, raw); m != nil {
			passed++
			f.holds(t, strconv.Quote(raw), m, op)
		}
	}
	if passed < 200 {
		t.Errorf("only %d requests passed the front", passed)
	}
	t.Log(passed, "requests passed the front")
}

// TestProvenRulesMatchNothingOfHTTP2 hands over requests as net/http could make
// them of HTTP/2, whose bytes nobody here has looked at.
func TestProvenRulesMatchNothingOfHTTP2(t *testing.T) {
	f := &front{rules: frontRules(t)}
	passed := 0
	for name, change := range map[string]func(*http.Request){
		"an ordinary request":      func(*http.Request) {},
		"no host":                  func(r *http.Request) { r.Host = "" },
		"two types":                func(r *http.Request) { r.Header["Content-Type"] = []string{"application/json", "text/plain"} },
		"no type":                  func(r *http.Request) { delete(r.Header, "Content-Type") },
		"a fragment":               func(r *http.Request) { r.RequestURI += "#a" },
		"a blank in the target":    func(r *http.Request) { r.RequestURI += "&q=a b" },
		"a line break in the path": func(r *http.Request) { r.RequestURI = "/a\nb?q=1" },
		"a line break in a query":  func(r *http.Request) { r.URL.RawQuery += "%0dlocation:"; r.RequestURI += "%0dlocation:" },
		"another method":           func(r *http.Request) { r.Method = "A B" },
		"a length that lies":       func(r *http.Request) { r.Header["Content-Length"] = []string{"x"} },
		"a coding":                 func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} },
		"a connection":             func(r *http.Request) { r.Header["Connection"] = []string{"close, keep-alive"} },
		"a body of unknown length": func(r *http.Request) { r.ContentLength = -1 },
		"no body of a POST":        func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 },
		"a second host":            func(r *http.Request) { r.Header["Host"] = []string{""} },
	} {
		for _, wide := range []bool{true, false} {
			if err := f.open("/a?q=1", wide); err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/a?q=1", strings.NewReader(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			r.RequestURI, r.Host, r.Proto, r.ProtoMajor, r.ProtoMinor = "/a?q=1", "h", "HTTP/2.0", 2, 0
			r.Header["Content-Type"] = []string{"application/json"}
			change(r)
			if err := f.pass(r); err != nil {
				continue
			}
			passed++
			f.holds(t, name, f.asked, f.op)
		}
	}
	if passed < 4 {
		t.Errorf("only %d requests passed the front", passed)
	}
}

func TestOneRowMayHoldAtSomeOperationsOnly(t *testing.T) {
	f := new(front)
	says := func(id int, wide bool, method string) bool {
		if err := f.open("/a", wide); err != nil {
			t.Fatal(err)
		}
		for _, op := range f.doc.Operations() {
			if op.Op().Method == method {
				_, ok := op.impossible(coreRule(t, id))
				return ok
			}
		}
		t.Fatal("no operation for " + method)
		return false
	}
	if !says(920280, true, "POST") {
		t.Error("a rule about Host is possible")
	}
	if says(942100, false, "GET") {
		t.Error("a rule about content is impossible")
	}
	for _, id := range []int{922120, 920240, 920260, 920250, 200003} {
		if says(id, true, "POST") || !says(id, false, "POST") {
			t.Errorf("rule %d does not depend on what bodies there are", id)
		}
	}
	if says(920170, true, "GET") || !says(920170, false, "GET") || !says(920170, true, "POST") {
		t.Error("rule 920170 does not depend on whether GET has a body")
	}
}

func TestOnlyTheRuleThatIsMeantIsProven(t *testing.T) {
	f := new(front)
	if err := f.open("/a", false); err != nil {
		t.Fatal(err)
	}
	op := f.doc.Operations()[0]
	for id, p := range provenRules {
		if got := coreRule(t, id).Digest(); got != p.digest {
			t.Errorf("rule %d is not the one that was proven: %s, not %s; prove it anew", id, got, p.digest)
		}
	}
	for name, text := range map[string]string{
		"another rule of the same id": "SecRuleRemoveById 920280\nSecRule ARGS \"@contains x\" \"id:920280,phase:2,deny\"",
		"one more target":             "SecRuleUpdateTargetById 920280 ARGS",
		"another variable is set":     "SecRuleUpdateActionById 920280 \"setvar:tx.a=1\"",
		"another transformation":      "SecRuleUpdateActionById 920280 \"t:length\"",
	} {
		rules, err := waf.Load(waf.Config{After: []waf.Source{{Name: "own.conf", Text: []byte(text)}}})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for n := range rules.Len() {
			r := rules.Rule(n)
			if _, ok := op.impossible(r); ok && r.ID == 920280 {
				t.Errorf("%s is taken for the rule that was proven", name)
			}
			found = found || r.ID == 920280
		}
		if !found {
			t.Errorf("%s: the rule is gone", name)
		}
	}
	rules, err := waf.Load(waf.Config{Paranoia: 4, After: []waf.Source{{Name: "own.conf", Text: []byte("SecRuleUpdateTargetById 921151 !ARGS_GET:x")}}})
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for n := range rules.Len() {
		if r := rules.Rule(n); r.ID == 921151 {
			_, seen = op.impossible(r)
		}
	}
	if !seen {
		t.Error("a rule that looks at less is not taken for the one that was proven")
	}
}

// FuzzProvenRules sends anything at all.
func FuzzProvenRules(f *testing.F) {
	for _, c := range frontCases(f) {
		f.Add(c.raw, false)
	}
	at := newFront(f, frontRules(f))
	f.Fuzz(func(t *testing.T, raw string, wide bool) {
		if err := at.open(targetOf(raw), wide); err != nil {
			t.Skip(err) // no document can be written for that target
		}
		if m, op := at.send(t, raw); m != nil {
			at.holds(t, strconv.Quote(raw), m, op)
		}
	})
}
