package gateway_test

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

var guardKey = []byte("0123456789abcdef0123456789abcdef")

// guarded is a house with a guard.
func guarded(t testing.TB, s ddos.Settings, c houseConfig) (*house, *ddos.Guard) {
	t.Helper()
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: guardKey}))
	g.Configure(s)
	c.guard = g
	return newHouse(t, c), g
}

// httptest's requests come from 192.0.2.1.
const tester = "192.0.2.1"

// flood makes an address stand out until it is banned.
func flood(t testing.TB, g *ddos.Guard, address string) {
	t.Helper()
	now := time.Now().Add(-time.Minute)
	a := netip.MustParseAddr(address)
	for range 60 {
		g.Tick(now)
		for range 400 {
			g.Observe(a, ddos.Outcome{Refused: true}, now)
		}
		now = now.Add(time.Second)
		if g.Admit(a, now).Step == ddos.Ban {
			return
		}
	}
	t.Fatal("it is not banned")
}

func TestUnderAttackWhoHasNoCredentialsIsChallenged(t *testing.T) {
	url, asked := listening(t, nil)
	h, g := guarded(t, ddos.Settings{UnderAttack: true, Difficulty: 8}, houseConfig{service: url})
	w := h.ask("GET", "/health", "")
	if p := problemOf(t, w); p.Status != 429 || p.Reason != "challenge" {
		t.Fatalf("without credentials: %+v", p)
	}
	challenge := w.Header().Get("Gatehouse-Challenge")
	pass := must[string](t)(ddos.Solve(challenge, func() bool { return false }))
	for _, c := range []struct {
		name   string
		target string
		header []string
		status int
	}{
		{"a token opens what it opens", "/orders", []string{"Authorization", h.token("ann")}, 200},
		{"a bad token is refused as ever", "/orders", []string{"Authorization", "Bearer x"}, 401},
		{"a bad token opens no operation for anyone", "/health", []string{"Authorization", "Bearer x"}, 401},
		{"the solution in a header opens what needs no credentials", "/health", []string{"Gatehouse-Pass", pass}, 200},
		{"and so it does in a cookie", "/health", []string{"Cookie", "a=b; __Host-gatehouse-pass=" + pass}, 200},
		{"it stands for no credentials", "/orders", []string{"Gatehouse-Pass", pass}, 401},
		{"two solutions are none", "/health", []string{"Gatehouse-Pass", pass, "Gatehouse-Pass", pass}, 429},
		{"another solution is none", "/health", []string{"Gatehouse-Pass", challenge + ".x"}, 429},
		{"what does not exist is not told without one", "/nowhere", nil, 429},
	} {
		if w := h.ask("GET", c.target, "", c.header...); w.Code != c.status {
			t.Errorf("%s: answered %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
	}
	for _, r := range asked.all() {
		if strings.Contains(r.header.Get("Cookie"), "gatehouse") || r.header.Get("Gatehouse-Pass") != "" {
			t.Errorf("the service sees our pass: %v", r.header)
		}
	}
	g.Configure(ddos.Settings{})
	if w := h.ask("GET", "/health", ""); w.Code != 200 {
		t.Errorf("when it is over: %d", w.Code)
	}
}

func TestOnlyWhoAsksForTheAPIUnderAttackIsChallenged(t *testing.T) {
	url, _ := listening(t, nil)
	var api string
	h, g := guarded(t, ddos.Settings{}, houseConfig{service: url, prepare: func(s *gateway.Snapshot) { api = s.Routes[0].Op.Op().API }})
	if f := g.Figures(); f.Pressure != 0 {
		t.Fatalf("%+v", f)
	}
	full := 0.0
	shop := g.Serve(map[string]func() float64{api: func() float64 { return full }})[api] // what the gateway has introduced
	now := time.UnixMilli(1_800_000_000_000)
	second := func(n int) {
		for i := range n {
			g.Observe(netip.AddrFrom4([4]byte{11, byte(i), byte(i >> 8), 1}), ddos.Outcome{For: shop}, now)
		}
		now = now.Add(time.Second)
		g.Tick(now)
	}
	for range 120 {
		second(100)
	}
	full = 1
	for range 5 {
		second(1000)
	}
	if w := h.ask("GET", "/health", ""); w.Code != 429 || problemOf(t, w).Reason != "challenge" {
		t.Errorf("what is under attack: %d %s", w.Code, w.Body)
	}
	if w := h.ask("GET", "/orders", "", "Authorization", h.token("ann")); w.Code != 200 {
		t.Errorf("with credentials: %d %s", w.Code, w.Body)
	}
	if w := h.ask("GET", "/nowhere", ""); w.Code != 404 {
		t.Errorf("something else: %d %s", w.Code, w.Body)
	}
}

func TestABrowserGetsAPageThatSolvesTheChallenge(t *testing.T) {
	h, _ := guarded(t, ddos.Settings{UnderAttack: true}, houseConfig{})
	w := h.ask("GET", "/health", "", "Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	policy, body := w.Header().Get("Content-Security-Policy"), w.Body.String()
	_, nonce, _ := strings.Cut(policy, "script-src 'nonce-")
	nonce, _, _ = strings.Cut(nonce, "'")
	if w.Code != 429 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || len(nonce) < 16 ||
		!strings.Contains(body, `<script nonce="`+nonce+`">`) || strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), body)
	}
	for _, want := range []string{w.Header().Get("Gatehouse-Challenge"), "<noscript>", h.event().ID, `role="status"`} {
		if want == "" || !strings.Contains(body, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("the page may be stored")
	}
}

func TestABannedAddressIsRefusedBeforeAnythingIsDoneUnlessItProvesItself(t *testing.T) {
	url, _ := listening(t, nil)
	h, g := guarded(t, ddos.Settings{}, houseConfig{service: url})
	if w := h.ask("GET", "/orders", "", "Authorization", h.token("ann")); w.Code != 200 { // somebody good lives there
		t.Fatal(w.Code)
	}
	flood(t, g, tester)
	for _, target := range []string{"/health", "/nowhere", "/orders"} {
		w := h.ask("GET", target, "")
		if p := problemOf(t, w); p.Status != 429 || p.Reason != "banned" || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %+v %v", target, p, w.Header())
		}
	}
	if w := h.ask("GET", "/orders", "", "Authorization", h.token("ann")); w.Code != 200 {
		t.Errorf("with a valid token: %d %s", w.Code, w.Body)
	}
	if refuse := h.gate.On(nil).Refuse(true); refuse(netip.MustParseAddr(tester)) {
		t.Error("connections are refused from where somebody good lives")
	}
}

func TestATrustedHopIsNeverRefusedAndItsCallersAre(t *testing.T) {
	h, g := guarded(t, ddos.Settings{}, houseConfig{})
	trust := must[*gateway.Trust](t)(gateway.NewTrust([]string{tester}, "x-forwarded-for"))
	entry := h.gate.On(trust)
	flood(t, g, tester)
	flood(t, g, "203.0.113.9")
	if entry.Refuse(true)(netip.MustParseAddr(tester)) {
		t.Error("the hop is refused")
	}
	for caller, reason := range map[string]string{"203.0.113.9": "banned", "203.0.113.7": "upstream_unavailable"} {
		w := httptest.NewRecorder()
		entry.ServeHTTP(w, h.request("GET", "/health", "", "X-Forwarded-For", caller))
		if p := problemOf(t, w); (p.Reason == "banned") != (reason == "banned") {
			t.Errorf("a caller %s behind it: %s", caller, p.Reason)
		}
	}
}

func TestInReportModeWhatTheGuardWouldHaveDoneIsInTheRecord(t *testing.T) {
	url, _ := listening(t, nil)
	h, g := guarded(t, ddos.Settings{Mode: ddos.Report}, houseConfig{service: url})
	flood(t, g, tester)
	if w := h.ask("GET", "/health", ""); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if e := h.event(); len(e.Reported) != 1 || e.Reported[0].Rule != "ban" {
		t.Errorf("reported: %+v", e.Reported)
	}
}

func TestABanEndsTheConnectionOfWhoIsBannedAlone(t *testing.T) {
	h, g := guarded(t, ddos.Settings{}, houseConfig{})
	flood(t, g, tester)
	if w := h.ask("GET", "/health", ""); w.Code != 429 || w.Header().Get("Connection") != "close" {
		t.Errorf("its own connection: %d %v", w.Code, w.Header())
	}
}
