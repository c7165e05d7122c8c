package http1_test

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A request is counted as worked on until it waits for something else, and whatever
// it waits for, those behind it come in.
func TestWhoWaitsGivesItsTurnBack(t *testing.T) {
	const requests = 50
	for _, tt := range []struct {
		name    string
		trusted bool
		body    string // its type; "": there is none
		first   func(w http.ResponseWriter, r *http.Request)
		keeps   bool
	}{
		{name: "for what it does not tell of", keeps: true, first: func(http.ResponseWriter, *http.Request) {}},
		{name: "for others", first: func(w http.ResponseWriter, _ *http.Request) { http1.Waits(w) }},
		{name: "for others, twice", first: func(w http.ResponseWriter, _ *http.Request) {
			http1.Waits(w)
			http1.Waits(w)
		}},
		{name: "for its body", body: "text/plain", first: func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)) }},
		{name: "for a message of gRPC", body: "application/grpc", first: func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)) }},
		{name: "for more to answer", first: func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() }},
		{name: "unless a trusted hop brought it, which has none", trusted: true, first: func(http.ResponseWriter, *http.Request) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var inside sync.WaitGroup
			var answered atomic.Int64
			inside.Add(requests)
			f, conf := newTLSFront(t, http1.Config{Trusted: func(netip.Addr) bool { return tt.trusted }}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if http1.HasTurn(w) == tt.trusted {
					t.Errorf("has a turn: %v", !tt.trusted)
				}
				if r.Method == http.MethodGet {
					inside.Done()
					inside.Wait() // all of them are here
				}
				tt.first(w, r)
				if http1.HasTurn(w) != tt.keeps {
					t.Errorf("has a turn, still: %v", !tt.keeps)
				}
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}
			defer c.CloseIdleConnections()
			var all sync.WaitGroup
			for range requests {
				method, body := http.MethodGet, io.Reader(nil)
				if tt.body != "" {
					pr, pw := io.Pipe()
					method, body = http.MethodPost, pr
					all.Go(func() {
						inside.Done()
						inside.Wait() // all are sent, and none has a body yet
						_, _ = io.WriteString(pw, "body")
						_ = pw.Close()
					})
				}
				req, err := http.NewRequestWithContext(t.Context(), method, "https://"+f.addr+"/", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", tt.body)
				all.Go(func() {
					resp, err := c.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					answered.Add(1)
				})
			}
			all.Wait()
			if n := answered.Load(); n != requests {
				t.Errorf("%d of %d were answered", n, requests)
			}
		})
	}
}
