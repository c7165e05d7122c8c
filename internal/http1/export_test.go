package http1

import (
	"io"
	"net/http"
	"net/netip"
	"time"
)

// NewPlain is NewServer without a lane of our own: net/http serves every
// connection. It is what the lane is compared with.
func NewPlain(cfg Config, h http.Handler) *Server {
	s := NewServer(cfg, h)
	s.lane = nil
	return s
}

// OpenConns counts the connections s has not ended yet.
func OpenConns(s *Server) int {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return len(s.table.conns)
}

// ReadProxy reads a header of the PROXY protocol.
func ReadProxy(r io.Reader) (from netip.AddrPort, told bool, err error) { return readProxy(r) }

// HasTurn reports whether the request w answers is one that is worked on.
func HasTurn(w http.ResponseWriter) bool { return w.(*http2Exchange).turn.Load() }

// Patient is a Config whose answers over HTTP/2 wait so long for bodies that nobody reads.
func Patient(d time.Duration) Config { return Config{drain: d} }
