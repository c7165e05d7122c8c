package http1_test

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// knock says something and gives what is answered.
func (f *front) knock(t *testing.T, says string) string {
	t.Helper()
	c := f.dial(t)
	_, _ = io.WriteString(c, says)
	return ended(t, c)
}

func TestWhoIsRefusedAtTheDoorIsNotReadFrom(t *testing.T) {
	var closed atomic.Bool
	var asked atomic.Pointer[netip.Addr]
	f := newFront(t, http1.Config{Refuse: func(a netip.Addr) bool { asked.Store(&a); return closed.Load() }}, nil)
	const get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	c := f.dial(t)
	_, _ = io.WriteString(c, get)
	if got := ended(t, c); len(got) == 0 {
		t.Error("who is not refused got no answer")
	}
	if a := asked.Load(); a == nil || !a.IsLoopback() || !a.Is4() {
		t.Errorf("asked about %v", a)
	}
	closed.Store(true)
	if got := f.knock(t, get); got != "" {
		t.Errorf("got %q", got)
	}
	f.awaitRefusal(t, "banned")
	closed.Store(false)
	c = f.dial(t)
	_, _ = io.WriteString(c, get)
	if got := ended(t, c); len(got) == 0 {
		t.Error("when it is over there is no answer")
	}
}
