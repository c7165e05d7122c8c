package auditlog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// written gives the line of one event as it reaches the file.
func written(t testing.TB, log *auditlog.Log, dir string, e *gatehouse.Event) string {
	t.Helper()
	if err := log.Append(e); err != nil {
		t.Fatal(err)
	}
	drained(t, log)
	names, err := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[len(names)-1])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
	return lines[len(lines)-1]
}

func TestTheLineOfAnEvent(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	at := time.Date(2026, 11, 23, 12, 30, 0, 1500, time.FixedZone("CET", 3600))
	full := &gatehouse.Event{
		ID: "01KAR5Y4M0ABCDEFGHJKMNPQRS", Time: at, Node: "gw-1", Config: "3a7b", Address: "192.0.2.7", Host: "api.example",
		Method: "POST", Path: "/v1/orders/{id}/refund", Protocol: "HTTP/2.0", TLS: "TLS1.3", API: "orders", Operation: "refundOrder",
		Subject: "alice", Issuer: "main", Client: "shop", Auth: gatehouse.MethodJWT, KeyID: "k1", Status: 403, Reason: "forbidden",
		Cause:   "denied by amount\nfake line",
		Reasons: []gatehouse.Reason{{Rule: "orders/refundOrder/require/amount", Effect: gatehouse.EffectDeny, Text: "too much", Saw: "body.amount = 700", Needed: "body.amount <= 500"}},
		Fields:  []gatehouse.FieldError{{In: "body", Pointer: "/amount", Rule: "maximum", Detail: "at most 500"}},
		Reported: []gatehouse.FieldError{
			{In: "query", Name: "a\u202eb", Rule: "unknown", Detail: "\x1b[31m\u2028\xff\u0085"},
			{In: "header", Name: "x", Rule: "pattern", Detail: `"\`},
		},
		Score: 10,
		Matches: []gatehouse.Match{
			{Rule: 942100, Text: "SQL Injection", Severity: "critical", Level: 1, In: "body", Name: "json.note", Pointer: "/note", Part: "a' aa 9=9", Decoded: "base64"},
			{Rule: 920300, In: "request"},
		},
		Upstream: "http://127.0.0.1:9001", Cache: "hit", Duration: 1500, Service: 700, In: 10, Out: 20, TraceID: "4bf9",
	}
	const want = `{"id":"01KAR5Y4M0ABCDEFGHJKMNPQRS","time":"2026-11-23T11:30:00.000001500Z","node":"gw-1","config":"3a7b","address":"192.0.2.7","host":"api.example","method":"POST","path":"/v1/orders/{id}/refund","protocol":"HTTP/2.0","tls":"TLS1.3","api":"orders","operation":"refundOrder","subject":"alice","issuer":"main","client":"shop","auth":"jwt","key_id":"k1","allow":false,"status":403,"reason":"forbidden","cause":"denied by amount\nfake line","score":10,"reasons":[{"rule":"orders/refundOrder/require/amount","effect":"deny","text":"too much","saw":"body.amount = 700","needed":"body.amount <= 500"}],"fields":[{"in":"body","pointer":"/amount","rule":"maximum","detail":"at most 500"}],"reported":[{"in":"query","name":"a\u202eb","rule":"unknown","detail":"\u001b[31m\u2028\ufffd\u0085"},{"in":"header","name":"x","rule":"pattern","detail":"\"\\"}],"matches":[{"rule":942100,"text":"SQL Injection","severity":"critical","level":1,"in":"body","name":"json.note","pointer":"/note","part":"a' aa 9=9","decoded":"base64"},{"rule":920300,"in":"request"}],"upstream":"http://127.0.0.1:9001","cache":"hit","duration_ns":1500,"service_ns":700,"in":10,"out":20,"trace_id":"4bf9"}`
	if got := written(t, log, dir, full); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const zero = `{"id":"","time":"0001-01-01T00:00:00.000000000Z","allow":false,"status":0}`
	if got := written(t, log, dir, &gatehouse.Event{}); got != zero {
		t.Errorf("the zero event is %s", got)
	}
	// A new field of Event must be written, or it is lost without anybody noticing.
	v := reflect.ValueOf(*full)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Allow" {
			t.Errorf("this test leaves out Event.%s", name)
		}
	}
	got := find(t, dir, full.ID)
	full.Reported[0].Detail, full.Time = "\x1b[31m\u2028\ufffd\u0085", got.Time
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got %+v\nwant %+v", got, full)
	}
}

func FuzzEventsAreOneLineOfJSONAndComeBack(f *testing.F) {
	f.Add("GET", "/v1/orders/7", "token expired", int64(5), 200)
	f.Add("\x00\x1f\x7f", "a\nb\r\u2028\u2029", "\xff\xfe\xed\xa0\x80", int64(-1), -5)
	f.Add("\\\"", "</script>", strings.Repeat("é", 600), int64(1<<62), 1<<30)
	f.Add("\u202e\ufeff\u200b", "\U0001F600", strings.Repeat("\x01", 4000), int64(0), 0)
	f.Fuzz(func(t *testing.T, a, b, c string, n int64, status int) {
		e := &gatehouse.Event{
			ID: auditlog.NewID(time.Now()), Time: time.Unix(0, n), Method: a, Path: b, Cause: c, Host: c, Status: status,
			Reasons: []gatehouse.Reason{{Rule: a, Saw: b, Needed: c}}, Fields: []gatehouse.FieldError{{In: b, Detail: a}},
			Duration: time.Duration(n), In: n,
		}
		line, ended := strings.CutSuffix(string(auditlog.AppendEvent(nil, e)), "\n")
		if !ended || len(line) > 48<<10 || !json.Valid([]byte(line)) || !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x00\x1b\x7f\u2028\u202e\ufeff") {
			t.Fatalf("not one safe line of JSON: %q", line)
		}
		got, err := auditlog.DecodeEvent([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]string{{got.Method, a}, {got.Path, b}, {got.Cause, c}, {got.Host, c}} {
			want := string([]rune(pair[1])) // U+FFFD for what is no UTF-8
			if utf8.ValidString(pair[1]) && len(pair[1]) <= 1024 && pair[0] != want {
				t.Fatalf("got %q, want %q", pair[0], want)
			}
			if len(pair[0]) > 3*1024+3 {
				t.Fatalf("%d bytes are kept", len(pair[0]))
			}
		}
		if got.Status != status || got.In != n || int64(got.Duration) != n {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestIDs(t *testing.T) {
	var ids []string
	at := time.UnixMilli(1_795_000_000_000)
	for i := range 2000 {
		now := at.Add(time.Duration(i) * time.Millisecond)
		id := auditlog.NewID(now)
		got, err := auditlog.ParseTime(id)
		if err != nil || !got.Equal(now) || len(id) != 26 {
			t.Fatalf("%s is of %v, want %v (%v)", id, got, now, err)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	seen := map[string]bool{}
	for range 100_000 {
		seen[auditlog.NewID(at)] = true
	}
	if len(seen) != 100_000 {
		t.Errorf("%d ids collide", 100_000-len(seen))
	}
	for name, id := range map[string]string{
		"empty": "", "short": ids[0][1:], "long": ids[0] + "0", "with a U": "U" + ids[0][1:],
		"beyond 48 bits": "8" + ids[0][1:], "with a path": "../../../../../etc/passwd0", "with a quote": ids[0][:25] + `"`,
	} {
		if _, err := auditlog.ParseTime(id); err == nil {
			t.Errorf("an id %s is taken", name)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("01KAR5Y4M0ABCDEFGHJKMNPQRS")
	f.Add("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
	f.Add("80000000000000000000000000")
	f.Fuzz(func(t *testing.T, id string) {
		at, err := auditlog.ParseTime(id)
		if err == nil && auditlog.NewID(at)[:10] != strings.ToUpper(id[:10]) {
			t.Fatalf("%q is of %v", id, at)
		}
	})
}
