package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

// slowService has so many workers, each busy with a request for as long as took says.
func slowService(t *testing.T, workers int, took time.Duration) string {
	t.Helper()
	free := make(chan struct{}, workers)
	return service(t, false, func(w http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		defer func() { <-free }()
		select {
		case <-time.After(took):
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"count":1}`)
	})
}

// TestKnownCallersAreServedInAFlood: a real service that can answer a hundred
// requests a second gets ten times as many for three seconds, nearly all of them
// from nobodies at many addresses.
func TestKnownCallersAreServedInAFlood(t *testing.T) {
	h := newHouse(t, houseConfig{
		service:  slowService(t, 4, 40*time.Millisecond),
		upstream: func(c *gateway.UpstreamConfig) { c.MaxInFlight = 200 },
		routes: func(r map[string]*gateway.Route) {
			r["listOrders"].Priority, r["health"].Priority = ddos.Default, ddos.Default
		},
	})
	header := make([]string, 10)
	for n := range header {
		header[n] = h.token(fmt.Sprint("caller", n))
	}
	known := func(n int) int {
		return h.ask("GET", "/orders", "", "Authorization", header[n%len(header)]).Code
	}
	var wg sync.WaitGroup
	var sent, good, floodSent, floodGood, shed, odd atomic.Int64
	var back sync.Map // what Retry-After said
	// at sends one every so often, without waiting for answers.
	at := func(every, length time.Duration, send func(n int)) {
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			begun := time.Now()
			for n := 0; time.Since(begun) < length; n++ {
				<-tick.C
				wg.Go(func() { send(n) })
			}
		})
	}
	at(40*time.Millisecond, 1500*time.Millisecond, func(n int) {
		if got := known(n); got != http.StatusOK {
			t.Errorf("before the flood: %d", got)
		}
	})
	wg.Wait()
	at(time.Millisecond, 3*time.Second, func(n int) {
		r := h.request("GET", "/health", "")
		r.RemoteAddr = fmt.Sprintf("198.51.%d.%d:1", n/250%250, n%250+1)
		w := httptest.NewRecorder()
		floodSent.Add(1)
		h.entry.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK:
			floodGood.Add(1)
		case http.StatusServiceUnavailable:
			var p problemAnswer
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Reason != "overloaded" {
				odd.Add(1)
				return
			}
			back.Store(w.Header().Get("Retry-After"), true)
			shed.Add(1)
		default:
			odd.Add(1)
		}
	})
	at(40*time.Millisecond, 3*time.Second, func(n int) {
		sent.Add(1)
		if known(n) == http.StatusOK {
			good.Add(1)
		}
	})
	wg.Wait()

	different := 0
	back.Range(func(_, _ any) bool { different++; return true })
	st := h.routes["health"].Upstreams.Status()[0]
	t.Logf("known %d of %d; flood %d of %d, %d shed, Retry-After in %d ways; %+v", good.Load(), sent.Load(), floodGood.Load(), floodSent.Load(), shed.Load(), different, st.CapacityStatus)
	if floodSent.Load() < 1000 {
		t.Skipf("this machine is too busy to flood anything: %d requests in 3 s", floodSent.Load())
	}
	if good.Load()*100 < sent.Load()*95 {
		t.Errorf("of known callers %d of %d were answered", good.Load(), sent.Load())
	}
	if shed.Load() < floodSent.Load()/2 || odd.Load() > 0 {
		t.Errorf("of %d nobodies %d were sent back, %d got something else", floodSent.Load(), shed.Load(), odd.Load())
	}
	if different < 3 {
		t.Errorf("all are told the same time to come back")
	}
	if st.InFlight != 0 || st.Waiting != 0 || st.Refused() < uint64(shed.Load()) {
		t.Errorf("in the end %+v", st)
	}
}

func TestServicesTellThatThereIsNoRoom(t *testing.T) {
	free := make(chan struct{})
	leave := sync.OnceFunc(func() { close(free) })
	url := service(t, false, func(_ http.ResponseWriter, _ *http.Request) { <-free })
	t.Cleanup(leave)
	pools := gateway.NewPools(nil)
	u := must[*gateway.Upstreams](t)(pools.Acquire(gateway.UpstreamConfig{URLs: []string{url}, Token: gateway.TokenNone, MaxInFlight: 2, QueueWait: time.Minute}))
	t.Cleanup(u.Release)
	h, g := guarded(t, ddos.Settings{}, houseConfig{service: url, routes: func(r map[string]*gateway.Route) { r["health"].Upstreams = u }, prepare: func(s *gateway.Snapshot) {
		s.Hold(s.Routes[0].Op.Op().API, u)
	}})
	now := time.Now()
	told := func() float64 { // by the guard
		g.Tick(now)
		now = now.Add(time.Second)
		g.Tick(now)
		return g.Figures().Pressure
	}
	var wg sync.WaitGroup
	for n, want := range []float64{0, 0, 0.5, 1} { // two are let in, two wait
		wg.Go(func() { h.ask("GET", "/health", "") })
		until(t, fmt.Sprint("pressure with ", n+1), func() bool {
			st := u.Status()[0]
			return st.InFlight+st.Waiting == n+1 && u.Pressure() == want
		})
	}
	if got := told(); got != 1 {
		t.Errorf("the guard knows of a pressure of %v", got)
	}
	leave()
	wg.Wait()
	if got := u.Pressure(); got != 0 || told() != 0 {
		t.Errorf("pressure %v when all are gone, %v at the guard", got, told())
	}
}
