package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

func TestTheSwitchAndBansWorkBesideARunningGateway(t *testing.T) {
	s := newSite(t, nil)
	s.write("gatehouse.yaml", s.config("ddos: {allow: [192.0.2.0/24], challenge: {difficulty: 8}}\n"))
	r := s.run(s.path())
	book := must[*server.GuardBook](t)(server.OpenGuardBook(t.Context(), s.path()))
	defer book.Close()
	status := func() int { n, _, _ := fetch(t, r.url+"/health"); return n }
	if got := status(); got != 200 {
		t.Fatal(got)
	}
	if err := book.SwitchAttack(t.Context(), "os:ann", true, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "a challenge", 2*time.Second, func() bool { return status() == 429 })
	_, h, _ := fetch(t, r.url+"/health")
	pass := must[string](t)(ddos.Solve(h.Get("Gatehouse-Challenge"), func() bool { return false }))
	if got, _, body := fetch(t, r.url+"/health", "Gatehouse-Pass", pass); got != 200 {
		t.Errorf("with the solution: %d %s", got, body)
	}
	if got, _, body := fetch(t, r.url+"/orders", "Authorization", s.token("ann")); got != 200 {
		t.Errorf("with a token: %d %s", got, body)
	}
	if _, _, page := fetch(t, "http://"+s.admin+"/metrics"); !strings.Contains(page, "gatehouse_ddos_attack 1") || !strings.Contains(page, `gatehouse_ddos_refused_total{step="challenge"}`) {
		t.Error("the metrics do not say so")
	}
	if err := book.SwitchAttack(t.Context(), "os:ann", false, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of it", 2*time.Second, func() bool { return status() == 200 })

	// A reload takes effect without a start.
	s.write("gatehouse.yaml", s.config("ddos: {allow: [192.0.2.0/24], under_attack: true}\n"))
	until(t, "the config's word", 5*time.Second, func() bool { return status() == 429 })
	s.write("gatehouse.yaml", s.config("networks: {lists: {here: {prefixes: [127.0.0.0/8]}}}\nddos: {allow: [], networks: {deny: [here]}}\n"))
	until(t, "a network that is denied at the door", 5*time.Second, func() bool {
		return strings.Contains(r.log.String(), "at work") && !reachable(t, r.url)
	})
}

// reachable reports whether anything is answered at all.
func reachable(t *testing.T, url string) bool {
	t.Helper()
	q := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/health", nil))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(q)
	if err == nil {
		_ = res.Body.Close()
	}
	return err == nil
}

func TestADecisionOfCrowdSecHoldsAtTheDoor(t *testing.T) {
	var asked atomic.Pointer[http.Request]
	lapi := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Store(q)
		if q.URL.RawQuery == "startup=true" {
			_, _ = io.WriteString(w, `{"new":[{"value":"127.0.0.1","scope":"Ip","type":"ban","duration":"1h","origin":"cscli"}],"deleted":null}`)
			return
		}
		_, _ = io.WriteString(w, `{"new":null,"deleted":[{"value":"127.0.0.1","scope":"Ip","type":"ban","duration":"-1s","origin":"cscli"}]}`)
	}))
	defer lapi.Close()
	s := newSite(t, nil)
	s.write("crowdsec.key", "the-key")
	s.write("gatehouse.yaml", s.config("ddos: {allow: [192.0.2.0/24], crowdsec: {url: \""+lapi.URL+"\", key: \"${file:./crowdsec.key}\", every: 1s}}\n"))
	r := s.run(s.path())
	until(t, "the ban", 5*time.Second, func() bool { return !reachable(t, r.url) })
	if q := asked.Load(); q.Header.Get("X-Api-Key") != "the-key" || q.URL.Path != "/v1/decisions/stream" {
		t.Errorf("asked %s %v", q.URL, q.Header)
	}
	until(t, "its end", 5*time.Second, func() bool { return reachable(t, r.url) })
}
