package validate_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

type fieldError = gatehouse.FieldError

func leaky(tb testing.TB, s validate.Settings) *validate.Operation {
	tb.Helper()
	doc, err := validate.Load(spec("3.1.0", "paths:", "  /a:", "    get: {operationId: a}"), "api.yaml", validate.Options{Settings: s})
	if err != nil {
		tb.Fatal(err)
	}
	return doc.Operations()[0]
}

func typed(s string) http.Header { return http.Header{"Content-Type": {s}} }

// quoted puts a text into JSON as a service would.
func quoted(s string) string {
	b, _ := json.Marshal(map[string]string{"error": s})
	return string(b)
}

func TestLeaks(t *testing.T) {
	op := leaky(t, validate.Settings{Leaks: validate.Enforce})
	// Keys are put together here, so that no scanner takes this file for a leak.
	tests := []struct{ name, text, rule string }{
		{"Go's stack", "panic: oops\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:8 +0x2c", "stack_go"},
		{"a Go frame", "\t/usr/local/go/src/net/http/server.go:2136 +0x29", "stack_go"},
		{"Go's runtime error", "runtime error: index out of range [5] with length 3", "stack_go"},
		{"Java's stack", "java.lang.NullPointerException\n\tat com.example.Orders.find(Orders.java:42)", "stack_java"},
		{"Java's module frames", "at java.base/java.util.HashMap.get(HashMap.java:559)", "stack_java"},
		{"a Java cause", "Caused by: org.springframework.dao.DataAccessException: x", "stack_java"},
		{"Kotlin's stack", "\tat com.example.OrdersKt.find(Orders.kt:42)", "stack_java"},
		{"Python's stack", "Traceback (most recent call last):\n  File \"/app/main.py\", line 3, in <module>", "stack_python"},
		{"a Python frame", `  File "/app/views.py", line 12, in get`, "stack_python"},
		{"PHP's error", "<b>Fatal error</b>: Uncaught Error: x in <b>/var/www/index.php</b> on line <b>3</b>", "stack_php"},
		{"PHP's warning", "Warning: Undefined variable $a in /var/www/html/index.php on line 3", "stack_php"},
		{"a PHP frame", "#0 /var/www/html/lib.php(12): Orders->find(1)", "stack_php"},
		{".NET's stack", `   at Shop.Orders.Find(Int32 id) in C:\src\Orders.cs:line 42`, "stack_dotnet"},
		{".NET's exception", "System.NullReferenceException: Object reference not set", "stack_dotnet"},
		{"ASP.NET's page", "<title>Server Error in '/' Application.</title>", "stack_dotnet"},
		{"Node's stack", "TypeError: x\n    at Orders.find (/app/src/orders.js:12:34)", "stack_node"},
		{"Node's inner frame", "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)", "stack_node"},
		{"Node's module frame", "    at async file:///app/index.mjs:3:7", "stack_node"},
		{"Ruby's stack", "/app/models/order.rb:12:in `find'", "stack_ruby"},
		{"Ruby 3.4's stack", "app/models/order.rb:12:in 'Order#find'", "stack_ruby"},
		{"Rust's panic", "thread 'main' panicked at src/main.rs:2:5:", "stack_rust"},
		{"MySQL", "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version", "sql_error"},
		{"MySQL's column", "Unknown column 'a' in 'where clause'", "sql_error"},
		{"MySQL's duplicate", "Duplicate entry 'a@b.c' for key 'users.email'", "sql_error"},
		{"PostgreSQL", `ERROR: syntax error at or near "'" at character 12`, "sql_error"},
		{"PostgreSQL's relation", `relation "users" does not exist`, "sql_error"},
		{"Go's PostgreSQL", "ERROR: relation does not exist (SQLSTATE 42P01)", "sql_error"},
		{"PDO", "SQLSTATE[42000]: Syntax error", "sql_error"},
		{"Oracle", "ORA-00933: SQL command not properly ended", "sql_error"},
		{"SQL Server", "Unclosed quotation mark after the character string ''.", "sql_error"},
		{"SQLite", `near "'": syntax error`, "sql_error"},
		{"SQLite in Node", "SQLITE_ERROR: no such column: a", "sql_error"},
		{"MongoDB", "E11000 duplicate key error collection: shop.users", "sql_error"},
		{"a card", "Visa 4111111111111111 expires 12/29", "card_number"},
		{"a card in groups", "4111 1111 1111 1111", "card_number"},
		{"a card in groups with its date", "5555-5555-5555-4444 12/29", "card_number"},
		{"American Express", "3782 822463 10005", "card_number"},
		{"Diners Club", "30569309025904", "card_number"},
		{"AWS", "AKIA" + "IOSFODNN7ABCDEFG", "key_aws"},
		{"Google", "AIza" + strings.Repeat("Ab3_-", 7), "key_google"},
		{"GitHub", "ghp_" + strings.Repeat("aB3", 12), "key_github"},
		{"GitHub's newer one", "github_pat_" + strings.Repeat("a", 22) + "_" + strings.Repeat("b", 59), "key_github"},
		{"Slack", "xoxb-" + "123456789012-" + "abcdefghijklmnop", "key_slack"},
		{"Slack's hook", "https://hooks.slack.com/services/" + "T00000000/B00000000/" + strings.Repeat("X", 24), "key_slack"},
		{"Stripe", "sk_live_" + strings.Repeat("a1B2", 6), "key_stripe"},
		{"a private key", "-----BEGIN " + "RSA PRIVATE KEY-----", "private_key"},
		{"an SSH key", "-----BEGIN " + "OPENSSH PRIVATE KEY-----", "private_key"},
		{"bcrypt", "$2b$12$" + strings.Repeat("aB", 26) + "c", "password_hash"},
		{"Argon2", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "password_hash"},
		{"crypt", "$6$salt$" + strings.Repeat("a", 86), "password_hash"},
		{"/etc/passwd", "root:x:0:0:root:/root:/bin/bash", "system_file"},
		{"a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U", "jwt"},
		{"an internal address", "connect to 10.1.2.3 failed", "internal_address"},
		{"the metadata service", "http://169.254.169.254/latest", "internal_address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for what, c := range map[string]struct{ header, body string }{
				"text": {"text/plain; charset=utf-8", tt.text},
				"JSON": {"application/json", quoted(tt.text)},
				"late": {"text/html", strings.Repeat("<p>Hello</p>\n", 100) + tt.text + "\n"},
			} {
				found, withhold := op.Leaks(typed(c.header), []byte(c.body))
				at := slices.IndexFunc(found, func(f fieldError) bool { return f.Rule == "leak_"+tt.rule })
				if at < 0 {
					t.Fatalf("%s: %s is not found in %q: %+v", what, tt.rule, c.body, found)
				}
				if soft := tt.rule == "jwt" || tt.rule == "internal_address"; withhold == soft {
					t.Errorf("%s: withheld: %v", what, withhold)
				}
				if what == "JSON" && found[at].Pointer != "/error" {
					t.Errorf("place %q", found[at].Pointer)
				}
			}
		})
	}
}

func TestLeaksLetOrdinaryAnswersPass(t *testing.T) {
	op := leaky(t, validate.Settings{Leaks: validate.Enforce})
	for _, text := range []string{
		`{"id":"4111111111111111"}`, `{"order_id":"4111111111111111"}`, `{"orderId": "4111111111111111"}`, `{"id":4111111111111111}`, `[4111111111111111,4242424242424242]`,
		`{"total":4111111111111111.5}`, `{"ratio":0.4111111111111111}`, `{"n":-4111111111111111}`, `{"n":41111111111111111}`, `{"n":"x4111111111111111"}`, `{"n":"4111111111111111x"}`,
		`{"number":"4111111111111112"}`, `{"number":"4111-1111 1111-1111"}`, `{"number":"1111 4111 1111 1111 1111"}`, `{"number":"4111 1111 1111 1111 1111"}`, `{"number":"9111111111111111"}`,
		`{"t":"2026-11-23T17:52:30.4111111111111111Z"}`, `{"created":1795456350,"ns":1795456350123456789,"us":1795456350123456}`, `{"phone":"+4111111111111111"}`, `{"imei_time":"357266091234563"}`,
		`{"uuid":"41111111-1111-4111-8111-111111111111"}`, `{"sha":"4111111111111111a111111111111111"}`, `{"url":"https://a.example/o/4111111111111111"}`,
		`{"v":"10.5","w":"10.0.1","x":"110.1.2.3","y":"10.1.2.300"}`, `{"a":"192.168","b":"172.32.0.1","c":"172.15.0.1"}`,
		`{"text":"at the line of java: 5, see Orders.java: the file"}`, `{"text":"File a report, line 5, in time"}`, `{"text":"System.Text and Exception"}`, `{"text":"see main.go:12"}`,
		`{"text":"goroutine leaks are bad"}`, `{"text":"the syntax error at or near the end"}`, `{"text":"ORA-1"}`, `{"text":"a relation that does not exist"}`, `{"text":"the Table 'A' is here"}`,
		`{"key":"AKIA"}`, `{"key":"pk_live_abcdefghijklmnopqrstuvwx"}`, `{"key":"sk_test_abcdefghijklmnopqrstuvwx"}`, `{"key":"XAKIAIOSFODNN7ABCDEFG"}`, `{"pem":"-----BEGIN CERTIFICATE-----"}`, `{"pem":"-----BEGIN PUBLIC KEY-----"}`,
		`{"price":"$2a$"}`, `{"price":"$6$ or $5$"}`, `{"src":"/assets/app.js:cached"}`, `{"msg":"bundle.js:1:2 at noon"}`, `{"token":"eyJhbGciOiJIUzI1NiJ9"}`,
	} {
		if found, _ := op.Leaks(typed("application/json"), []byte(text)); len(found) > 0 {
			t.Errorf("%s: %+v", text, found)
		}
	}
}

func TestLeaksInRealAnswers(t *testing.T) {
	op := leaky(t, validate.Settings{Leaks: validate.Enforce, LeakOptions: validate.LeakOptions{Bytes: 64 << 20}})
	const stripe = "../../.testdeps/corpora/stripe-fixtures/fixtures.json"
	for _, name := range []string{stripe, *github} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Logf("left out: %v", err)
			continue
		}
		found, _ := op.Leaks(typed("application/json"), b)
		for _, f := range found {
			// GitHub's document has a token and a private key among its examples.
			if name == stripe || f.Rule != "leak_key_github" && f.Rule != "leak_private_key" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

func TestLeaksAreMasked(t *testing.T) {
	op := leaky(t, validate.Settings{Leaks: validate.Report})
	secret := "sk_live_" + "abcDEF123456abcDEF123456"
	found, withhold := op.Leaks(typed("application/json"), []byte(`{"user":{"keys":["x","`+secret+`"]}}`))
	if withhold || len(found) != 1 {
		t.Fatalf("got %+v, withheld %v", found, withhold)
	}
	want := fieldError{In: "body", Pointer: "/user/keys/1", Rule: "leak_key_stripe", Detail: "aa_aaaa_aaaAAA999999aaaAAA999999"}
	if found[0] != want {
		t.Errorf("got %+v, want %+v", found[0], want)
	}
}

func TestLeaksLookWhereTheyAreTold(t *testing.T) {
	text := []byte("4111 1111 1111 1111 and $argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA")
	many := func(s validate.Settings, header string) int {
		found, _ := leaky(t, s).Leaks(typed(header), text)
		return len(found)
	}
	on := validate.Settings{Leaks: validate.Report}
	for name, c := range map[string]struct{ got, want int }{
		"both":       {many(on, "text/plain"), 2},
		"off":        {many(validate.Settings{}, "text/plain"), 0},
		"one":        {many(validate.Settings{Leaks: validate.Report, LeakOptions: validate.LeakOptions{Without: []string{"card_number"}}}, "text/plain"), 1},
		"other":      {many(validate.Settings{Leaks: validate.Report, LeakOptions: validate.LeakOptions{Without: []string{"password_hash"}}}, "text/plain"), 1},
		"near":       {many(validate.Settings{Leaks: validate.Report, LeakOptions: validate.LeakOptions{Bytes: 30}}, "text/plain"), 1},
		"image":      {many(on, "image/png"), 0},
		"JSON":       {many(on, "application/problem+json"), 2},
		"event list": {many(on, "text/event-stream"), 2},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d leaks, want %d", name, c.got, c.want)
		}
	}
	if found, _ := leaky(t, on).Leaks(http.Header{}, text); len(found) != 2 {
		t.Errorf("an answer without a type is not looked at")
	}
	_, err := validate.Load(spec("3.1.0", "paths:", "  /a:", "    get: {operationId: a}"), "api.yaml", validate.Options{
		Settings: validate.Settings{Leaks: validate.Report, LeakOptions: validate.LeakOptions{Without: []string{"card"}}},
	})
	if err == nil || !strings.Contains(err.Error(), "card_number") {
		t.Errorf("a rule that does not exist: %v", err)
	}
}

func ordinaryAnswer(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := range n {
		fmt.Fprintf(&b, `{"id":"ord_%010d","uuid":"3f2504e0-4f89-11d3-9a0c-0305e82c33%02d","created":17954563%02d,"customer":{"name":"Alice Example","email":"alice@example.com"},"total":{"amount":12.50,"currency":"EUR"},"note":"Please leave at the door"},`, i, i%100, i%100)
	}
	return []byte(strings.TrimSuffix(b.String(), ",") + "]}")
}

func TestAllocsLeaks(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	op, h, body := leaky(t, validate.Settings{Leaks: validate.Enforce}), typed("application/json"), ordinaryAnswer(50)
	if n := testing.AllocsPerRun(100, func() {
		if found, _ := op.Leaks(h, body); found != nil {
			t.Fatal(found)
		}
	}); n > 0 {
		t.Errorf("%v allocations for an answer that gives away nothing", n)
	}
}

// FuzzLeaks holds that no text makes it fail, and that what is told is masked.
func FuzzLeaks(f *testing.F) {
	for _, s := range []string{"4111 1111 1111 1111", `{"a":"4111111111111111"}`, "goroutine 1 [running]:", "10.1.2.3", "at a.b(C.java:1)", "xoxb-1-aaaaaaaaaa", "[\"4111111111111111"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	op := leaky(f, validate.Settings{Leaks: validate.Enforce})
	f.Fuzz(func(t *testing.T, text string, isJSON bool) {
		header := "text/plain"
		if isJSON {
			header = "application/json"
		}
		found, _ := op.Leaks(typed(header), []byte(text))
		for _, l := range found {
			if strings.ContainsAny(l.Detail, "012345678bcdefghijklmnopqrstuvwxyzBCDEFGHIJKLMNOPQRSTUVWXYZ") || len(l.Detail) > 256 {
				t.Fatalf("%q is told as %q", text, l.Detail)
			}
		}
	})
}

func BenchmarkLeaks(b *testing.B) {
	op, h := leaky(b, validate.Settings{Leaks: validate.Enforce}), typed("application/json")
	for name, body := range map[string][]byte{"1KiB": ordinaryAnswer(5), "64KiB": ordinaryAnswer(300), "digits": []byte(`["` + strings.Repeat("4111 1111 1111 1112 ", 3200) + `"]`)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(min(len(body), 64<<10)))
			b.ReportAllocs()
			for b.Loop() {
				op.Leaks(h, body)
			}
		})
	}
}
