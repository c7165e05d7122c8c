package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// coreRules is the Core Rule Set at paranoia level 1, as it comes.
func coreRules(t testing.TB) *validate.WAF {
	t.Helper()
	return must[*validate.WAF](t)(validate.LoadWAF("compiled", validate.RulesConfig{}))
}

func TestAnAttackThatFitsTheSchemaIsRefused(t *testing.T) {
	url, asked := listening(t, nil)
	waf := coreRules(t)
	const attack = `{"amount":7,"reason":"' OR 1=1-- -"}`
	for _, test := range []struct {
		name, customer, body string
		mode                 validate.Mode
		status               int
		reason               string
		matched              bool
	}{
		{"enforced it does not reach the service", "ann", attack, validate.Enforce, 403, "harmful_input", true},
		{"reported it does, and the record says what would have been", "ann", attack, validate.Report, 200, "", true},
		{"who may not do it at all is told that, and costs no rule", "bob", attack, validate.Enforce, 403, "forbidden", false},
		{"what only looks a little like one passes", "ann", `{"amount":7,"reason":"O'Reilly & sons"}`, validate.Enforce, 200, "", false},
		{"without rules nothing is asked", "ann", attack, validate.Off, 200, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t, houseConfig{service: url, waf: waf, settings: map[string]validate.Settings{"refund": {Rules: test.mode}}})
			before := len(asked.all())
			res := h.ask("POST", "/customers/"+test.customer+"/refunds", test.body, "Authorization", h.token("ann"))
			e := h.event()
			if res.Code != test.status || e.Reason != test.reason || (len(e.Matches) > 0) != test.matched {
				t.Fatalf("%d %s; event %q %+v", res.Code, res.Body, e.Reason, e.Matches)
			}
			if got := len(asked.all()) > before; got != (test.status == 200) {
				t.Errorf("the service was asked: %v", got)
			}
			if !test.matched {
				return
			}
			m := e.Matches[0]
			if m.Rule/1000 != 942 || m.In != "body" || m.Pointer != "/reason" || m.Part == "" || strings.Contains(m.Part, "OR") || e.Score < 5 {
				t.Errorf("the record says %+v, score %d", m, e.Score)
			}
			if strings.Contains(res.Body.String(), "942") || strings.Contains(res.Body.String(), "SQL") {
				t.Errorf("the caller learns how it was found out: %s", res.Body)
			}
			if test.mode == validate.Report && (len(e.Reported) == 0 || e.Reported[0].Rule != "harmful_input") {
				t.Errorf("reported %+v", e.Reported)
			}
		})
	}
}

func TestAWAFThatWasNeverGivenRefuses(t *testing.T) {
	h := newHouse(t, houseConfig{settings: map[string]validate.Settings{"refund": {Rules: validate.Enforce}}})
	res := h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"x"}`, "Authorization", h.token("ann"))
	if res.Code != 500 {
		t.Errorf("answered %d %s", res.Code, res.Body)
	}
}

func TestWhatIsCostlyToLookThroughCountsAgainstTheLimit(t *testing.T) {
	url, _ := listening(t, nil)
	h := newHouse(t, houseConfig{
		service: url, waf: coreRules(t), settings: map[string]validate.Settings{"refund": {Rules: validate.Enforce}},
		limits: map[string][]gateway.Limit{"refund": {limit(t, "l", "principal", "1/h", 1000)}},
		routes: func(r map[string]*gateway.Route) { r["refund"].Charge = time.Nanosecond },
	})
	ask := func() int {
		return h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"a 'b' (c) --"}`, "Authorization", h.token("ann")).Code
	}
	if status := ask(); status != 200 {
		t.Fatalf("the first is answered %d", status)
	}
	if status := ask(); status != 429 {
		t.Errorf("the second is answered %d, although the first cost more than a thousand steps", status)
	}
}

func openEvents(a map[string]authz.Access) {
	a["events"] = authz.Access{Grant: []string{"orders:read"}}
}

// leaky answers with a stack trace, its second half when it is told to.
func leaky(t *testing.T, size int) (url string, more chan struct{}) {
	t.Helper()
	more = make(chan struct{})
	url, _ = listening(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "panic: runtime error: invalid memory address\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:12 +0x1d\n")
		_, _ = io.WriteString(w, strings.Repeat("x", size))
		w.(http.Flusher).Flush()
		<-more
		_, _ = io.WriteString(w, "end")
	})
	return url, more
}

func TestAnswersThatTellTooMuch(t *testing.T) {
	t.Run("are reported after they have gone on, and not held back for it", func(t *testing.T) {
		url, more := leaky(t, 100<<10)
		h := newHouse(t, houseConfig{service: url, settings: map[string]validate.Settings{"events": {Leaks: validate.Report}}, access: openEvents})
		front := h.start()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front+"/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", h.token("ann"))
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		begin := make([]byte, 1<<10)
		if _, err := io.ReadFull(res.Body, begin); err != nil { // the service still writes
			t.Fatal(err)
		}
		close(more)
		if rest, err := io.ReadAll(res.Body); err != nil || !strings.HasSuffix(string(rest), "end") {
			t.Fatalf("%d bytes, %v", len(rest), err)
		}
		e := h.event()
		if e.Status != 200 || len(e.Reported) == 0 {
			t.Errorf("the record says %d %+v", e.Status, e.Reported)
		}
	})
	t.Run("are withheld where that is enforced", func(t *testing.T) {
		url, more := leaky(t, 0)
		close(more)
		h := newHouse(t, houseConfig{service: url, settings: map[string]validate.Settings{"events": {Leaks: validate.Enforce}}, access: openEvents})
		status, _, body, err := h.call(h.start(), "GET", "/events", "", "Authorization", h.token("ann"))
		if err != nil || status != 502 || strings.Contains(body, "goroutine") || h.event().Reason != "bad_response" {
			t.Errorf("%d %s %v", status, body, err)
		}
	})
	t.Run("one caller's are not in the record of the next", func(t *testing.T) {
		url, more := leaky(t, 0)
		close(more)
		h := newHouse(t, houseConfig{service: url, settings: map[string]validate.Settings{"events": {Leaks: validate.Report}}, access: openEvents})
		front := h.start()
		for range 3 {
			if status, _, _, err := h.call(front, "GET", "/events", "", "Authorization", h.token("ann")); err != nil || status != 200 {
				t.Fatal(status, err)
			}
			if _, _, _, err := h.call(front, "GET", "/nowhere", ""); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "six events", func() bool { return len(h.record.all()) == 6 })
		for i, e := range h.record.all() {
			if found := len(e.Reported) + len(e.Matches) + e.Score; (found > 0) != (i%2 == 0) {
				t.Errorf("record %d says %+v", i, e)
			}
		}
	})
}

func TestAnAnswerThatCameCompressedIsLookedInto(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:12 +0x1d\n")
	_ = z.Close()
	for _, test := range []struct {
		name, coding string
		mode         validate.Mode
		status       int
		reported     bool
	}{
		{"in gzip it is reported", "gzip", validate.Report, 200, true},
		{"in gzip it is withheld", "gzip", validate.Enforce, 502, true},
		{"in what cannot be opened it is withheld, too", "br", validate.Enforce, 502, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, _ := listening(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Content-Encoding", test.coding)
				_, _ = w.Write(zipped.Bytes())
			})
			h := newHouse(t, houseConfig{service: url, settings: map[string]validate.Settings{"events": {Leaks: test.mode}}, access: openEvents})
			status, _, _, err := h.call(h.start(), "GET", "/events", "", "Authorization", h.token("ann"), "Accept-Encoding", "gzip, br")
			if err != nil || status != test.status {
				t.Fatal(status, err)
			}
			if e := h.event(); (len(e.Reported) > 0) != test.reported {
				t.Errorf("reported %+v", e.Reported)
			}
		})
	}
}
