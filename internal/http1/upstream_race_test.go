//go:build race

package http1_test

import (
	"net"
	"testing"
)

// Under the race detector whoever keeps what a connection lent finds nonsense in it.
func TestWhatAConnectionLendsIsPoisoned(t *testing.T) {
	p := upPool(t, upService(t, func(_ int, nc net.Conn) { upRequests(nc, upOK) }), nil)
	c, err := p.Get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask([]byte(upGet), 0); err != nil {
		t.Fatal(err)
	}
	head, err := c.ReadHead(t.Context(), "GET")
	if err != nil {
		t.Fatal(err)
	}
	fields, name := head.Fields, head.Fields[0].Name
	body, err := c.Next(t.Context())
	if err != nil || string(body) != "ok" {
		t.Fatalf("%q, %v", body, err)
	}
	c.Release()
	if string(body) == "ok" || fields[0].Name != "POISONED" {
		t.Errorf("still there: %q, %v", body, fields)
	}
	if name != "Content-Length" {
		t.Errorf("a string became %q", name)
	}
}
