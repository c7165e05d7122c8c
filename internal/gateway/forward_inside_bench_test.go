package gateway_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/gatehouse-api/gatehouse"
)

// insideWalks are requests to a service that costs nothing itself.
func insideWalks(tb testing.TB) map[string]*replay {
	answer := []byte(`{"access_token":"x","token_type":"Bearer"}`)
	h := newInside(tb, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = w.Write(answer)
	}, func(c *houseConfig) { c.record, c.meter = nowhere{}, nowhere{} })
	return map[string]*replay{
		"raw POST": h.replay("PUT", "/uploads", "grant_type=client_credentials&scope=orders%3Aread", "User-Agent", "curl/8.5", "Accept", "*/*", "Authorization", "Basic YTpi"),
		"GET":      h.replay("GET", "/orders?limit=5", "", "User-Agent", "curl/8.5", "Accept", "*/*", "Authorization", h.token("ann")),
	}
}

func BenchmarkInside(b *testing.B) {
	for name, p := range insideWalks(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := p.send(); got != 200 {
					b.Fatal(got)
				}
			}
		})
	}
}

func TestAllocsInside(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	const most = 33
	for name, p := range insideWalks(t) {
		if got := testing.AllocsPerRun(200, func() { p.send() }); got > most {
			t.Errorf("%s: %v allocations, budget %d", name, got, most)
		}
	}
}

type nowhere struct{}

func (nowhere) Append(*gatehouse.Event) error { return nil }
func (nowhere) Err() error                    { return nil }
func (nowhere) Begin()                        {}
func (nowhere) Observe(*gatehouse.Event)      {}
func (nowhere) Refused(*gatehouse.Event)      {}
