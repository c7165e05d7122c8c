package monitor_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/monitor"
)

var update = flag.Bool("update", false, "write the golden files")

func operations(api string, ids ...string) []*gatehouse.Operation {
	var ops []*gatehouse.Operation
	for _, id := range ids {
		ops = append(ops, &gatehouse.Operation{API: api, ID: id})
	}
	return ops
}

// page gives our own metrics as a scraper sees them.
func page(t testing.TB, m *monitor.Monitor) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var ours []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "gatehouse_") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

func TestWhatIsExposed(t *testing.T) {
	m := monitor.New(monitor.Sources{
		Upstreams: func() []monitor.Upstream {
			room := ddos.CapacityStatus{
				InFlight: 9, Waiting: 3, Limit: 8, Floor: 20 * time.Millisecond, Latency: 45 * time.Millisecond,
				Shed: []ddos.ShedCount{{Priority: "sheddable", Claim: "anonymous", Requests: 5}, {Priority: "default", Claim: "new", Requests: 2}},
			}
			return []monitor.Upstream{{"orders", "http://a:1", true, room}, {"orders", "http://b:1", false, ddos.CapacityStatus{Limit: 64}}, {"orders", "http://a:1", true, room}}
		},
		Record:   func() (int64, int64) { return 512, 1 << 20 },
		Overflow: func() uint64 { return 3 }, RecordErr: func() error { return errors.New("disk full") },
		LimitsErr: func() error { return errors.New("no route") }, QuotasErr: func() error { return nil },
	})
	m.Configure("3a7bd3e2", operations("orders", "getOrder", "listOrders"))
	m.Reloaded(false)
	m.Begin()
	m.Begin()
	m.Observe(&gatehouse.Event{API: "orders", Operation: "getOrder", Status: 200, Allow: true, Duration: 3 * time.Millisecond, Service: 2 * time.Millisecond, In: 10, Out: 20, Cache: "hit", Reported: make([]gatehouse.FieldError, 3)})
	m.Refused(&gatehouse.Event{Status: 404, Reason: "not_found", Path: "/admin", Duration: 40 * time.Microsecond})
	for range 3 {
		m.Refused(&gatehouse.Event{API: "orders", Operation: "getOrder", Status: 403, Reason: "forbidden", Duration: 80 * time.Microsecond})
	}
	got := regexp.MustCompile(`(timestamp_seconds|_seconds_sum\S*) \d\S*`).ReplaceAllString(page(t, m), "$1 <number>")
	const golden = "testdata/page.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAScanOfTheAPIMakesNoMetrics(t *testing.T) {
	m := monitor.New(monitor.Sources{})
	m.Configure("d", operations("orders", "getOrder"))
	series := func() int { return strings.Count(page(t, m), "\n") }
	hit := func(i int) {
		m.Refused(&gatehouse.Event{Path: fmt.Sprint("/", i), Host: fmt.Sprint(i), Method: fmt.Sprint("M", i), Subject: fmt.Sprint(i), API: fmt.Sprint("api", i), Operation: fmt.Sprint("op", i), Status: 404, Reason: "not_found"})
		m.Refused(&gatehouse.Event{API: "orders", Operation: "getOrder", Status: i - 5000, Path: fmt.Sprint(i)})
	}
	for i := range 11_000 {
		hit(i)
	}
	before := series()
	if before > 200 {
		t.Errorf("%d lines", before)
	}
	for i := range 11_000 {
		hit(i * 7)
	}
	if after := series(); after != before {
		t.Errorf("%d lines became %d", before, after)
	}
	for i := range 10_000 {
		m.Refused(&gatehouse.Event{API: "orders", Operation: "getOrder", Status: 400, Reason: fmt.Sprint("made_up_", i)})
	}
	if lines := series(); lines > before+300 {
		t.Errorf("10,000 reasons make %d lines", lines)
	}
	if !strings.Contains(page(t, m), `gatehouse_refused_total{api="",reason="other"}`) {
		t.Error("reasons over the bound are not counted")
	}
}

func TestReloadsDoNotGrowTheMetrics(t *testing.T) {
	m := monitor.New(monitor.Sources{})
	hit := func(api string) {
		for _, op := range []string{"a", "b"} {
			m.Refused(&gatehouse.Event{API: api, Operation: op, Status: 403, Reason: "forbidden", In: 1, Out: 1})
		}
	}
	m.Configure("0", operations("stays", "a", "b"))
	hit("stays")
	var before int
	for i := range 100 {
		api := fmt.Sprint("api", i)
		m.Configure(fmt.Sprint(i), slices.Concat(operations("stays", "a", "b"), operations(api, "a", "b")))
		hit(api)
		hit("stays")
		if i == 0 {
			before = strings.Count(page(t, m), "\n")
		}
	}
	text := page(t, m)
	if after := strings.Count(text, "\n"); after != before {
		t.Errorf("%d lines became %d", before, after)
	}
	if want := `gatehouse_requests_total{api="stays",operation="a",status="4xx"} 101`; !strings.Contains(text, want) {
		t.Errorf("what stays is not counted on: %q is missing", want)
	}
	if strings.Count(text, "gatehouse_config_info{") != 1 || !strings.Contains(text, `gatehouse_config_info{digest="99"} 1`) {
		t.Error("more than the running config is shown")
	}
}

func TestManyCountAtOnce(t *testing.T) {
	m := monitor.New(monitor.Sources{})
	m.Configure("d", operations("orders", "a", "b"))
	var all sync.WaitGroup
	for c := range 8 {
		all.Go(func() {
			for i := range 500 {
				m.Begin()
				m.Observe(&gatehouse.Event{API: "orders", Operation: "ab"[i%2 : i%2+1], Status: 200 + c%2*203, Reason: fmt.Sprint("reason_", i%20)})
				if c == 0 && i%100 == 0 {
					m.Configure("d", operations("orders", "a", "b"))
				}
				if c == 1 && i%100 == 0 && strings.Contains(page(t, m), "in_flight_requests -") {
					t.Error("fewer than none are being served")
				}
			}
		})
	}
	all.Wait()
	text := page(t, m)
	for _, want := range []string{
		"gatehouse_in_flight_requests 0", `gatehouse_requests_total{api="orders",operation="a",status="2xx"} 1000`,
		`gatehouse_requests_total{api="orders",operation="b",status="4xx"} 1000`, `gatehouse_refused_total{api="orders",reason="reason_7"} 200`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestNamesThatAreNoTextDoNotPanic(t *testing.T) {
	m := monitor.New(monitor.Sources{})
	m.Configure("d", operations("a\xff", "b\xff"))
	m.Refused(&gatehouse.Event{API: "a\xff", Operation: "b\xff", Status: 200, Reason: "c\xff"})
	m.Configure("d", nil)
	if text := page(t, m); strings.Contains(text, "\ufffd") {
		t.Errorf("what is gone stays: %s", text)
	}
}

func busy() (*monitor.Monitor, *gatehouse.Event) {
	m := monitor.New(monitor.Sources{})
	m.Configure("d", operations("orders", "getOrder", "listOrders"))
	return m, &gatehouse.Event{API: "orders", Operation: "getOrder", Status: 403, Reason: "forbidden", Duration: 3 * time.Millisecond, Service: 2 * time.Millisecond, In: 10, Out: 20}
}

// BenchmarkConfigure takes a config of ten thousand operations in place of another.
func BenchmarkConfigure(b *testing.B) {
	var before, after []string
	for i := range 10_000 {
		before, after = append(before, fmt.Sprint("before", i)), append(after, fmt.Sprint("after", i))
	}
	m := monitor.New(monitor.Sources{})
	b.ReportAllocs()
	for b.Loop() {
		for _, names := range [][]string{before, after} {
			m.Configure("d", operations("orders", names...))
			for _, name := range names {
				m.Refused(&gatehouse.Event{API: "orders", Operation: name, Status: 200})
			}
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m, e := busy()
	b.ReportAllocs()
	for b.Loop() {
		m.Begin()
		m.Observe(e)
	}
}

func BenchmarkObserveParallel(b *testing.B) {
	m, e := busy()
	b.ReportAllocs()
	before := spent(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Begin()
			m.Observe(e)
		}
	})
	b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op") // of all processors: what they wait for each other is in it
}

func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPage is what a scrape of a thousand busy operations costs.
func BenchmarkPage(b *testing.B) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("op", i))
	}
	m := monitor.New(monitor.Sources{})
	m.Configure("d", operations("orders", names...))
	for i := range 20_000 {
		m.Refused(&gatehouse.Event{API: "orders", Operation: names[i%1000], Status: 200, Duration: time.Duration(i) * time.Microsecond})
	}
	b.ReportAllocs()
	for b.Loop() {
		page(b, m)
	}
}
