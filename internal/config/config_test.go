package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatal(pattern, names, err)
	}
	return names
}

// compiled is the schema as another implementation understands it.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("gatehouse.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("gatehouse.json")
})

// judge gives what the JSON Schema says about a config, read by another reader.
func judge(t *testing.T, text []byte) error {
	t.Helper()
	s, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
		return err
	}
	return s.Validate(v)
}

func schemaAccepts(t *testing.T, text []byte) {
	t.Helper()
	if err := judge(t, text); err != nil {
		t.Errorf("the schema refuses a good file: %v", err)
	}
}

func TestGoodFilesLoadAndFitTheSchema(t *testing.T) {
	for _, name := range glob(t, "testdata/good_*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			f, err := config.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Digest) != 64 || len(f.APIs) == 0 {
				t.Errorf("got %+v", f)
			}
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			schemaAccepts(t, b)
		})
	}
}

// A busted file is an archive: a comment, gatehouse.yaml and what it includes, and
// the file error with what must be said. Its comment ends in "(schema)" when the
// fault is one of structure, which the schema must see as well.
func TestBustedFilesSayWhereAndWhatInstead(t *testing.T) {
	for _, name := range glob(t, "testdata/busted_*.txtar") {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want, text := -1, []byte(nil)
			for i, f := range archive.Files {
				switch f.Name {
				case "error":
					want = i
					continue
				case "gatehouse.yaml":
					text = f.Data
				}
				path := filepath.Join(dir, f.Name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := config.Load(filepath.Join(dir, "gatehouse.yaml"))
			if err == nil || f != nil {
				t.Fatalf("loads: %+v", f)
			}
			got := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "") + "\n"
			if *update {
				if want < 0 {
					want = len(archive.Files)
					archive.Files = append(archive.Files, txtar.File{Name: "error"})
				}
				archive.Files[want].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want < 0 || got != string(archive.Files[want].Data) {
				t.Errorf("said\n%s", got)
			}
			if strings.Contains(string(archive.Comment), "(schema)") && judge(t, text) == nil {
				t.Error("the schema takes it")
			}
		})
	}
}

func TestSchemaIsAsCommitted(t *testing.T) {
	golden(t, "testdata/gatehouse.schema.json", string(config.Schema()))
}

func parse(t testing.TB, text string) *config.File {
	t.Helper()
	f, err := config.Parse("gatehouse.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const small = "gatehouse: 1\napis:\n  pets:\n    openapi: pets.yaml\n    upstreams: [\"http://127.0.0.1:9001\"]\n"

func TestWhatIsLeftOutIsSafe(t *testing.T) {
	f := parse(t, small)
	l := f.Listeners[0]
	api := f.APIs["pets"]
	for name, ok := range map[string]bool{
		"one listener, on this machine":     len(f.Listeners) == 1 && l.Address == "127.0.0.1:8443",
		"it has TLS":                        l.TLS != nil && slices.Contains(l.TLS.Self, "localhost") && l.Plaintext == "",
		"nobody's word on addresses":        len(l.TrustedHops) == 0 && l.ForwardedHeader == "x-forwarded-for",
		"callers are bounded":               l.Timeouts.Head == 5*time.Second && l.Timeouts.BodyIdle == 10*time.Second && l.Limits.HeaderBytes == 32<<10 && l.Limits.ConnectionsPerAddress == 256,
		"admin on this machine":             f.Admin.Address == "127.0.0.1:9443",
		"unknown query parameters refused":  api.UnknownQuery == "refuse",
		"bodies bounded":                    api.MaxBody == 1<<20,
		"the caller's token stays here":     api.Upstream.Token == "internal",
		"the service's own name":            api.Upstream.Host == "upstream",
		"how many a service can take":       *api.Upstream.Concurrency.Min == 8 && *api.Upstream.Concurrency.Initial == 64 && *api.Upstream.Concurrency.Max == 1000,
		"nothing goes first":                !api.HasCritical(),
		"retries and breaker":               api.Upstream.Retries == 1 && api.Upstream.Breaker.Failures == 5,
		"events beside the data":            strings.HasSuffix(f.Events.Path.Value, "data/events") && f.Events.Sync == time.Second,
		"keys of the live environment":      f.Environment == "live" && f.APIKeys.Enabled && f.APIKeys.Header == "X-API-Key",
		"no operation is open by a default": len(api.Operations) == 0,
		"rules for content enforce":         f.WAF.Mode == "enforce" && f.WAF.Engine == "compiled" && f.WAF.Paranoia == 1 && f.WAF.Detect == 1 && f.WAF.OverBudget == "refuse",
	} {
		if !ok {
			t.Errorf("not so: %s", name)
		}
	}
	var zero config.Operation
	if zero.Public || (config.Expect{}).Allow {
		t.Error("a zero setting opens")
	}
}

func TestWhatIsWrittenArrives(t *testing.T) {
	f, err := config.Load("testdata/good_full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api, main := f.APIs["orders"], f.Issuers["main"]
	refund, get := api.Operations["refundOrder"], api.Operations["getOrder"]
	test := f.Tests[0]
	for name, pair := range map[string][2]any{
		"plaintext":       {f.Listeners[1].Plaintext, "TLS ends at the load balancer of this host"},
		"trusted hop":     {f.Listeners[0].TrustedHops[1].String(), "fd00::/8"},
		"upstream":        {fmt.Sprint(config.Values(api.Upstreams)), "[http://127.0.0.1:9001 h2c://127.0.0.1:9002]"},
		"both":            {fmt.Sprint(config.Values(api.Authenticate["both"].Issuers), api.Authenticate["both"].Keys, api.Authenticate["both"].Certificates), "[other] true false"},
		"limit":           {api.Limits[2].ID, "per-tenant-operation"},
		"own":             {get.Own[0].Object.Value + "=" + get.Own[0].Owner.Value, "path.customerId=claims.sub"},
		"rule":            {refund.Require[0].ID + ": " + refund.Require[0].Expr.Value, "amount: body.amount <= 500 || role('manager')"},
		"its place":       {refund.Require[0].Expr.Place.String(), "testdata/good_full.yaml:107:27"},
		"operation":       {refund.Place.String(), "testdata/good_full.yaml:105:7"},
		"max body":        {refund.MaxBody.String(), "4KiB"},
		"concurrency":     {fmt.Sprint(*api.Upstream.Concurrency.Min, *api.Upstream.Concurrency.Initial, *api.Upstream.Concurrency.Max), "4 16 500"},
		"priority":        {api.PriorityOf(refund) + " " + api.PriorityOf(api.Operations["health"]), "default critical"},
		"timeout":         {*refund.Timeout, 3 * time.Second},
		"because":         {api.Require[0].Because, "Nobody orders at night"},
		"role of a list":  {fmt.Sprint(config.Values(f.Roles["support"].Grants)), "[orders:read]"},
		"role inherits":   {fmt.Sprint(config.Values(f.Roles["manager"].Inherits)), "[support]"},
		"role map":        {fmt.Sprint(config.Values(main.RoleMap["ext-both"])), "[support manager]"},
		"claim":           {main.Claims["suspended"].Shape.Kind, gatehouse.BooleanShape},
		"claim of a list": {main.Claims["roles"].Shape.Items.Kind, gatehouse.StringShape},
		"claim of claims": {main.Claims["realm_access"].Shape.Field("roles").Items.Kind, gatehouse.StringShape},
		"subject":         {fmt.Sprint(config.Values(f.ClientCertificates.Subjects["spiffe://ex/billing"].Scopes)), "[orders:read]"},
		"guardrail":       {f.Guardrails[0].Deny.Value, "claims.suspended == true"},
		"test body":       {fmt.Sprint(test.Body), "map[amount:700.5 items:[1 2 <nil>] note:<nil>]"},
		"test issuer":     {test.As.Issuer, "main"},
		"test status":     {f.Tests[2].Expect.Status, 401},
		"test nobody":     {f.Tests[2].As == nil, true},
		"waf":             {fmt.Sprint(f.WAF.Paranoia, f.WAF.Detect, f.WAF.Budget, " ", f.WAF.Leaks, " ", api.WAF.Leaks), "1 2 10ms enforce report"},
		"rules by number": {fmt.Sprint(config.Values(f.WAF.Exclude[0].Rules), " ", config.Values(f.WAF.Exclude[1].Rules)), "[920350] [942100 942200-942299 attack-xss]"},
		"parameter":       {api.Operations["graph"].WAF.Exclude[0].Parameter.Value, "body/query"},
		"graphql":         {api.Operations["graph"].GraphQL.Depth, 5},
		"uploads":         {fmt.Sprint(api.Uploads.Parts, " ", api.Uploads.File, " ", config.Values(*api.Uploads.Extensions)), "8 2MiB [php exe]"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestIncludedFilesAreOfTheConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() *config.File {
		t.Helper()
		f, err := config.Load(filepath.Join(dir, "gatehouse.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	pets := "apis:\n  pets:\n    openapi: pets.yaml\n    upstreams: [\"http://127.0.0.1:9001\"]\n"
	tests := "tests:\n  - {name: nobody, call: pets.list, expect: deny}\n"
	write("gatehouse.yaml", "gatehouse: 1\ninclude: [apis/*.yaml]\nadmin: {token: \"${file:token}\"}\n")
	write("token", "t0ken\n")
	write("apis/pets.yaml", pets+tests)
	f := load()
	if want := filepath.Join(dir, "apis", "pets.yaml"); f.APIs["pets"].OpenAPI.Value != filepath.Join(dir, "apis", "pets.yaml") {
		t.Errorf("openapi is %s, want %s", f.APIs["pets"].OpenAPI, want)
	}
	if len(f.Files) != 2 || len(f.Tests) != 1 || f.Admin.Token.Reveal() != "t0ken" {
		t.Errorf("got %+v", f)
	}
	if s := fmt.Sprintf("%v %+v %#v", f.Admin.Token, f, f.Admin); strings.Contains(s, "t0ken") {
		t.Errorf("the secret is printed: %s", s)
	}
	first := f.Digest
	if load().Digest != first {
		t.Error("the digest is not of the content")
	}
	write("apis/pets.yaml", pets+tests+"# a comment\n")
	if load().Digest == first {
		t.Error("the digest leaves out an included file")
	}
}

func TestLoadOfWhatIsNoFile(t *testing.T) {
	for name, path := range map[string]string{
		"nothing": filepath.Join(t.TempDir(), "none.yaml"), "a folder": t.TempDir(), "a device that never ends": "/dev/zero",
	} {
		if f, err := config.Load(path); err == nil {
			t.Errorf("%s loads: %v", name, f)
		}
	}
}

func TestParseReadsNothingElse(t *testing.T) {
	for _, text := range []string{small + "include: [\"/etc/*\"]\n", small + "admin: {token: \"${file:/etc/hostname}\"}\n"} {
		if _, err := config.Parse("x", []byte(text)); err == nil || !strings.Contains(err.Error(), "read from memory") {
			t.Errorf("got %v", err)
		}
	}
}

func TestErrorsAreBoundedAndInOrder(t *testing.T) {
	var b strings.Builder
	b.WriteString(small)
	for i := range 5000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, err := config.Parse("x", []byte(b.String()))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 101 {
		t.Fatalf("got %v", err)
	}
	last := 0
	for _, e := range joined.Unwrap()[:100] {
		fault, ok := errors.AsType[*config.Error](e)
		if !ok || fault.Place.Line <= last {
			t.Fatalf("%v after line %d", e, last)
		}
		last = fault.Place.Line
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"upstream", "upstreams", "openapi", "base", "hosts", "limits"}
	for word, want := range map[string]string{
		"upstrem": "upstream", "upstraems": "upstreams", "OpenAPI": "openapi", "limit": "limits", "basse": "base",
		"host": "hosts", "xyz": "", "": "", "ba": "", "opneapi": "openapi", strings.Repeat("a", 1<<20): "",
	} {
		if got := config.Suggest(word, words); got != want {
			t.Errorf("Suggest(%.20q) is %q, want %q", word, got, want)
		}
	}
}

var placed = regexp.MustCompile(`(?m)^x(:\d+){1,2}: `)

func FuzzParse(f *testing.F) {
	for _, name := range glob(f, "testdata/good_*.yaml") {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, name := range glob(f, "testdata/busted_*.txtar") {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(file.Data)
		}
	}
	for _, text := range []string{"", "---\n---\n", "a: &a [*a, *a]\n", "? [a]\n: b\n", "{{{{", "%YAML 9.9\n---\n", "\xff\xfe", "a: !!binary x\n", strings.Repeat("[", 3000), strings.Repeat("a:\n ", 100), "gatehouse: 1\napis: {a: {openapi: ~}}\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := config.Parse("x", b)
		if err == nil {
			if len(file.APIs) == 0 || len(file.Listeners) == 0 {
				t.Fatalf("%q loads as %+v", b, file)
			}
			for _, l := range file.Listeners {
				if l.TLS == nil && l.Plaintext == "" {
					t.Fatal("a listener without TLS and without a reason")
				}
			}
			schemaAccepts(t, b) // an editor never marks what loads
			return
		}
		if file != nil || !placed.MatchString(err.Error()) {
			t.Fatalf("no place in %v", err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := config.Load("testdata/good_full.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
