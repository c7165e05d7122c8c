package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// One caller sends many bodies, each but for its end. What is held for them is
// bounded, and is free again when they are gone.
func TestBodiesUnderWayAreBoundedTogether(t *testing.T) {
	h := newHouse(t, houseConfig{})
	h.gate.MaxHeld = 256 << 10 // 64 KiB for one address
	token := h.token("alice")
	large := `{"amount":1,"reason":"` + strings.Repeat("a", 30000) + `"}`
	ask := func(from, body string) string {
		r := h.request("POST", "/customers/alice/refunds", body, "Authorization", token)
		r.RemoteAddr = from
		return problemOf(t, h.answer(r)).Reason
	}

	body, end := io.Pipe()
	r := h.request("POST", "/customers/alice/refunds", "-", "Authorization", token)
	r.RemoteAddr, r.Body, r.ContentLength = "[2001:db8::1]:1", body, -1
	done := make(chan string)
	go func() { done <- problemOf(t, h.answer(r)).Reason }()
	for _, piece := range []string{large + strings.Repeat(" ", 20000), " "} { // who reads the second has counted the first
		if _, err := io.WriteString(end, piece); err != nil {
			t.Fatal(err)
		}
	}

	if got := ask("[2001:db8::2]:1", large); got != "too_many_bodies" {
		t.Errorf("the same /64 got %s", got)
	}
	if got := ask("[2001:db8::2]:1", `{"amount":501,"reason":"a small one"}`); got != "forbidden" {
		t.Errorf("a small body got %s", got)
	}
	if got := ask("192.0.2.9:1", large); got != "invalid_body" {
		t.Errorf("another address got %s", got)
	}
	h.gate.MaxHeld = 64 << 10
	if got := ask("192.0.2.9:1", large); got != "too_many_bodies" {
		t.Errorf("when all is held, another address got %s", got)
	}
	_ = end.Close()
	if got := <-done; got != "invalid_body" {
		t.Errorf("the body that held it all got %s", got)
	}
	h.gate.MaxHeld = 16 << 10
	if got := ask("[2001:db8::2]:1", large); got != "invalid_body" { // how large one may be is the operation's to say
		t.Errorf("a body alone got %s", got)
	}
}

func (h *house) answer(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.entry.ServeHTTP(w, r)
	return w
}
