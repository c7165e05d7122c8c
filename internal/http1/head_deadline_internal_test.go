package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// The poller is not told of every deadline. What that must not change is when a
// read ends.
func TestReadDeadlines(t *testing.T) {
	for _, c := range []struct {
		name string
		set  []time.Duration // deadlines set one after the other, with a byte read after each but the last; 0: none
		move time.Duration   // set one second into the last read; -1: not moved
		end  time.Duration   // after which the read fails
	}{
		{"the deadline set is the one that holds", []time.Duration{5 * time.Second}, -1, 5 * time.Second},
		{"a later one replaces it, though the poller keeps the first", []time.Duration{10 * time.Second, 15 * time.Second}, -1, 15 * time.Second},
		{"a much later one too", []time.Duration{2 * time.Second, time.Minute}, -1, time.Minute},
		{"a sooner one too", []time.Duration{time.Minute, 2 * time.Second}, -1, 2 * time.Second},
		{"a sooner one reaches a read under way", []time.Duration{time.Minute}, 3 * time.Second, 3 * time.Second},
		{"a later one reaches a read under way", []time.Duration{3 * time.Second}, time.Minute, time.Minute},
		{"one in the past ends a read under way", []time.Duration{time.Minute}, time.Second, time.Second},
		{"one taken back no longer ends it", []time.Duration{10 * time.Second, 0}, 20 * time.Second, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, peer := headPair(t)
				start := time.Now()
				var b [1]byte
				at := func(d time.Duration) time.Time {
					if d == 0 {
						return time.Time{}
					}
					return start.Add(d)
				}
				for i, d := range c.set {
					if err := conn.SetReadDeadline(at(d)); err != nil {
						t.Fatal(err)
					}
					if i < len(c.set)-1 {
						go func() { _, _ = peer.Write([]byte("x")) }()
						if _, err := conn.read(b[:]); err != nil {
							t.Fatal(err)
						}
					}
				}
				if c.move >= 0 {
					time.AfterFunc(time.Second, func() { _ = conn.SetReadDeadline(at(c.move)) })
				}
				n, err := conn.read(b[:])
				if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != c.end {
					t.Errorf("read %d, %v after %v; want a timeout after %v", n, err, time.Since(start), c.end)
				}
			})
		})
	}
}

// net/http watches the caller with a read of one byte while a handler runs.
func TestCallerIsWatchedAfterAMoment(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave time.Duration // when the caller closes; 0: never
		stop  time.Duration // when the handler is done; 0: never
		end   time.Duration
		err   error
	}{
		{"a handler that is done at once waits for nothing", 0, time.Millisecond, time.Millisecond, os.ErrDeadlineExceeded},
		{"a caller that leaves early is missed after the moment", time.Millisecond, 0, tick, io.EOF},
		{"a caller that leaves later is missed at once", 3 * time.Second, 0, 3 * time.Second, io.EOF},
		{"a handler that takes long ends the watch", 0, 2 * time.Second, 2 * time.Second, os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, peer := headPair(t)
				for range 3 { // the connection's alarm is used again
					start := time.Now()
					if c.leave > 0 {
						time.AfterFunc(c.leave, func() { _ = peer.Close() })
					}
					if c.stop > 0 {
						time.AfterFunc(c.stop, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
					}
					var b [1]byte
					n, err := conn.Read(b[:])
					if n != 0 || !errors.Is(err, c.err) || time.Since(start) != c.end {
						t.Fatalf("read %d, %v after %v; want %v after %v", n, err, time.Since(start), c.err, c.end)
					}
					if err := conn.SetReadDeadline(time.Time{}); err != nil {
						t.Fatal(err)
					}
					if c.leave > 0 {
						return
					}
				}
			})
		})
	}
}

func headPair(t *testing.T) (*headConn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	cfg := Config{}.withDefaults()
	return &headConn{Conn: a, cfg: &cfg, buffers: &sync.Pool{}, refuser: func(net.Conn, *gatehouse.Problem, string) string { return "" }}, b
}
