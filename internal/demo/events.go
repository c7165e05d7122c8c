package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// orderEvents streams new orders as server-sent events, for as long as the
// caller listens.
//
// INTENTIONALLY VULNERABLE: everyone hears of everyone's orders.
func (a *API) orderEvents(w http.ResponseWriter, r *http.Request) error {
	ch := make(chan []byte, 16)
	a.mu.Lock()
	a.listeners[ch] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.listeners, ch)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	beat := time.NewTicker(15 * time.Second)
	defer beat.Stop()
	event := []byte(": listening\n\n")
	for {
		if _, err := w.Write(event); err != nil || rc.Flush() != nil {
			break // the caller has gone
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-a.closed:
			return nil
		case <-beat.C:
			event = []byte(": still here\n\n")
		case event = <-ch:
		}
	}
	return nil
}

// publish tells every listener of an order; one that does not keep up misses it.
func (a *API) publish(order map[string]any) {
	data, err := json.Marshal(order)
	if err != nil {
		return // came from JSON, goes to JSON
	}
	event := fmt.Appendf(nil, "id: %v\nevent: order\ndata: %s\n\n", order["id"], data)
	a.mu.Lock()
	defer a.mu.Unlock()
	for ch := range a.listeners {
		select {
		case ch <- event:
		default:
		}
	}
}
