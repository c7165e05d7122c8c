package waf_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// A crsTest is one message of the Core Rule Set's regression tests and what its
// authors say of it.
type crsTest struct {
	name   string // "942100-7"
	m      waf.Message
	expect crsOutput
}

type crsOutput struct {
	Status int  `yaml:"status"`
	Error  bool `yaml:"expect_error"`
	Log    struct {
		Expect   []int  `yaml:"expect_ids"`
		Unwanted []int  `yaml:"no_expect_ids"`
		Match    string `yaml:"match_regex"`
		NoMatch  string `yaml:"no_match_regex"`
	} `yaml:"log"`
}

type crsInput struct {
	Method   *string           `yaml:"method"`
	URI      *string           `yaml:"uri"`
	Version  *string           `yaml:"version"`
	Headers  map[string]string `yaml:"headers"`
	Data     string            `yaml:"data"`
	Encoded  string            `yaml:"encoded_request"`
	Complete *bool             `yaml:"autocomplete_headers"`
}

// crsTests reads the regression tests from their module, as go-ftw does, which is
// the runner they are written for.
func crsTests(t testing.TB) (all []crsTest) {
	t.Helper()
	err := fs.WalkDir(tests.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(p) != ".yaml" {
			return err
		}
		text, err := fs.ReadFile(tests.FS, p)
		if err != nil {
			return err
		}
		var file struct {
			Rule  int `yaml:"rule_id"`
			Tests []struct {
				ID     int `yaml:"test_id"`
				Stages []struct {
					Input  crsInput  `yaml:"input"`
					Output crsOutput `yaml:"output"`
				} `yaml:"stages"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for _, c := range file.Tests {
			for i, s := range c.Stages {
				name := fmt.Sprintf("%d-%d", file.Rule, c.ID)
				if i > 0 {
					name += fmt.Sprintf("/%d", i+1)
				}
				m, err := s.Input.message()
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				all = append(all, crsTest{name: name, m: m, expect: s.Output})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 4600 {
		t.Fatalf("only %d of the Core Rule Set's tests were found", len(all))
	}
	return all
}

// message is the request go-ftw would send, and the answer of the echoing server
// that the tests expect behind it.
func (in *crsInput) message() (m waf.Message, err error) {
	if in.Encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Encoded), ""))
		if err != nil {
			return m, err
		}
		return rawMessage(raw)
	}
	or := func(s *string, otherwise string) string {
		if s == nil {
			return otherwise
		}
		return *s
	}
	m = waf.Message{Address: "127.0.0.1", Method: or(in.Method, "GET"), Target: or(in.URI, "/"), Protocol: or(in.Version, "HTTP/1.1")}
	header := http.Header{}
	for name, value := range in.Headers {
		header[name] = []string{value}
	}
	complete := in.Complete == nil || *in.Complete
	add := func(name, value string) {
		for have := range header {
			if strings.EqualFold(have, name) {
				return
			}
		}
		header[name] = []string{value}
	}
	get := func(name string) string {
		for have, v := range header {
			if strings.EqualFold(have, name) {
				return v[0]
			}
		}
		return ""
	}
	data := in.Data
	if data != "" && complete {
		add("Content-Type", "application/x-www-form-urlencoded")
		if get("Content-Type") == "application/x-www-form-urlencoded" {
			data = escapeForm(data)
		}
	}
	if strings.HasPrefix(get("Content-Type"), "multipart/form-data;") {
		data = strings.ReplaceAll(data, "\n", "\r\n")
	}
	if complete {
		add("Connection", "close")
		if data != "" || slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, m.Method) {
			add("Content-Length", strconv.Itoa(len(data)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		m.Header = append(m.Header, waf.Field{Name: name, Value: header[name][0]})
	}
	m.Body = []byte(data)
	return m, reflect(&m)
}

// escapeForm escapes names and values of a form that has nothing escaped.
func escapeForm(data string) string {
	if plain, err := url.QueryUnescape(data); err != nil || plain != data {
		return data
	}
	pairs := strings.Split(data, "&")
	for i, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		pairs[i] = url.QueryEscape(name)
		if ok {
			pairs[i] += "=" + url.QueryEscape(value)
		}
	}
	return strings.Join(pairs, "&")
}

func rawMessage(raw []byte) (m waf.Message, err error) {
	head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	words := strings.SplitN(lines[0], " ", 3)
	if len(words) != 3 {
		return m, fmt.Errorf("request line %q", lines[0])
	}
	m = waf.Message{Address: "127.0.0.1", Method: words[0], Target: words[1], Protocol: words[2], Body: body}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		m.Header = append(m.Header, waf.Field{Name: name, Value: strings.TrimSpace(value)})
		if strings.EqualFold(name, "Transfer-Encoding") {
			if m.Body, err = io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body))); err != nil {
				return m, err
			}
		}
	}
	return m, reflect(&m)
}

// reflect gives m the answer of the tests' server at /reflect: what the body asks for.
func reflect(m *waf.Message) error {
	if target, _, _ := strings.Cut(m.Target, "?"); target != "/reflect" {
		return nil
	}
	var ask struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Encoded string            `json:"encodedBody"`
	}
	if !json.Valid(m.Body) {
		m.Status, m.Answer = http.StatusBadRequest, []waf.Field{{Name: "Content-Type", Value: "text/plain"}}
		return nil
	}
	if err := json.Unmarshal(m.Body, &ask); err != nil {
		return fmt.Errorf("reflect: %w", err)
	}
	m.Status, m.AnswerBody = 200, []byte(ask.Body)
	if ask.Status != 0 {
		m.Status = ask.Status
	}
	if ask.Encoded != "" {
		b, err := base64.StdEncoding.DecodeString(ask.Encoded)
		if err != nil {
			return fmt.Errorf("reflect: %w", err)
		}
		m.AnswerBody = b
	}
	typed := false
	for _, name := range slices.Sorted(maps.Keys(ask.Headers)) {
		m.Answer = append(m.Answer, waf.Field{Name: name, Value: ask.Headers[name]})
		typed = typed || strings.EqualFold(name, "Content-Type")
	}
	if !typed {
		m.Answer = append(m.Answer, waf.Field{Name: "Content-Type", Value: http.DetectContentType(m.AnswerBody)})
	}
	return nil
}

// verdictsOf asks e about the test's request and its answer.
func (c *crsTest) verdictsOf(e engine, f *waf.Facts) (hits []waf.Hit) {
	for _, p := range probesOf(c.name, c.m) {
		v := ask(e, &p.m, f)
		hits = append(hits, v.Hits...)
	}
	return hits
}

// judge says what of the test's expectation hits do not meet; "" when all is met.
func (c *crsTest) judge(hits []waf.Hit) string {
	found := map[int]bool{}
	var log strings.Builder // as the lines of ModSecurity's error log
	for _, h := range hits {
		found[h.Rule] = true
		name := h.Target
		if h.Name != "" {
			name += ":" + h.Name
		}
		fmt.Fprintf(&log, "[id %q] [msg %q] Matched Data: %s found within %s: %s\n", strconv.Itoa(h.Rule), h.Msg, h.Match, name, h.Text)
	}
	for _, id := range c.expect.Log.Expect {
		if !found[id] {
			return fmt.Sprintf("rule %d did not match", id)
		}
	}
	for _, id := range c.expect.Log.Unwanted {
		if found[id] {
			return fmt.Sprintf("rule %d matched", id)
		}
	}
	if s := c.expect.Log.Match; s != "" && !regexp.MustCompile(s).MatchString(log.String()) {
		return fmt.Sprintf("no match reads %q", s)
	}
	if s := c.expect.Log.NoMatch; s != "" && regexp.MustCompile(s).MatchString(log.String()) {
		return fmt.Sprintf("a match reads %q", s)
	}
	return ""
}

// refused reports whether the test is one of the server before the rules: it wants
// a malformed request refused.
func (c *crsTest) refused() bool {
	return c.expect.Error || c.expect.Status >= 400 && len(c.expect.Log.Expect) == 0
}

// failures are the tests that e does not pass, of those that are about rules.
func failures(t *testing.T, e engine, all []crsTest) map[string]string {
	t.Helper()
	bad := make([]string, len(all))
	each(len(all), func(i int, f *waf.Facts) {
		if c := &all[i]; !c.refused() {
			bad[i] = c.judge(c.verdictsOf(e, f))
		}
	})
	failed := map[string]string{}
	for i, b := range bad {
		if b != "" {
			failed[all[i].name] = b
		}
	}
	return failed
}

// overridden are the tests that neither engine can pass, and why: what they want
// is of the web server they are written for, or not of a verdict.
var overridden = map[string]string{
	"920181-1":  "Apache takes Content-Length away when there is Transfer-Encoding; the strict edge refuses such a request",
	"920620-1":  "Apache joins two Content-Type fields into one; the strict edge refuses two",
	"920640-5":  "a body without Content-Length is none to Apache; here it is given",
	"922130-1":  "the multipart reader refuses the header itself, by rule 200002, which the suite's settings leave out",
	"922130-2":  "as 922130-1",
	"922130-7":  "as 922130-1",
	"932207-7":  "wants the words of a log line, of the second link of a chain",
	"932300-10": "wants the words of a log line that spans lines",
	"980170-1":  "a rule of phase 5, which writes the scores to a log; the event has them",
	"980170-2":  "as 980170-1",
}

func TestCorazaPassesTheSuite(t *testing.T) {
	if !*askAll {
		t.Skip("asks Coraza about everything: -oracle")
	}
	all := crsTests(t)
	e, err := coraza.Load(suite(4))
	if err != nil {
		t.Fatal(err)
	}
	failed := failures(t, e, all)
	for name, why := range failed {
		if overridden[name] == "" {
			t.Errorf("%s: %s", name, why)
		}
	}
	for name, why := range overridden {
		if failed[name] == "" {
			t.Errorf("%s is passed although %s", name, why)
		}
	}
	t.Logf("Coraza passes %d of %d", len(all)-len(failed), len(all))
}
