package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A turn is the answer of a request that is one of its address's few.
type turn struct {
	*httptest.ResponseRecorder
	given atomic.Bool
}

func (t *turn) Waits() { t.given.Store(true) }

// While a service works, or the caller reads, a request is in nobody's way for a
// processor; until it was looked at it is.
func TestARequestGivesItsTurnBackForItsService(t *testing.T) {
	w := &turn{ResponseRecorder: httptest.NewRecorder()}
	var before atomic.Bool
	h := newHouse(t, houseConfig{service: service(t, false, func(http.ResponseWriter, *http.Request) { before.Store(w.given.Load()) })})
	if h.entry.ServeHTTP(w, h.request("GET", "/orders", "", "Authorization", h.token("ann"))); w.Code != http.StatusOK || !before.Load() {
		t.Errorf("%d, and the turn was given back before the service was asked: %v", w.Code, before.Load())
	}
	w = &turn{ResponseRecorder: httptest.NewRecorder()}
	if h.entry.ServeHTTP(w, h.request("GET", "/orders", "")); w.Code != http.StatusUnauthorized || w.given.Load() {
		t.Errorf("%d, and the turn of a request that is refused was given back: %v", w.Code, w.given.Load())
	}
}
