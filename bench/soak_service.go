package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A soakService is a service that now and then dies, with answers under way, and
// comes back on the same port.
type soakService struct {
	port   int
	deaths atomic.Int64

	mu   sync.Mutex
	http *http.Server // nil while it is dead
	gone time.Time    // when it died last
	up   time.Time    // when it came back
}

func newSoakService() (*soakService, error) {
	s := &soakService{port: free()}
	return s, s.back()
}

// back brings it back if it is dead.
func (s *soakService) back() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(s.port))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	s.http, s.up = server, time.Now()
	go func() { _ = server.Serve(l) }()
	return nil
}

// stop cuts every connection at once.
func (s *soakService) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		s.gone = time.Now()
		_ = s.http.Close()
		s.http = nil
	}
}

// dies stops it again and again, for two seconds.
func (s *soakService) dies(ctx context.Context, every time.Duration) {
	for wait(ctx, every) == nil {
		s.stop()
		s.deaths.Add(1)
		_ = wait(ctx, 2*time.Second)
		for s.back() != nil { // somebody has its port just now
			if wait(ctx, 100*time.Millisecond) != nil {
				return
			}
		}
	}
}

// away says whether it was dead for a part of the time since a request was sent,
// or had just come back: the gateway's breaker then still keeps away from it.
func (s *soakService) away(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http == nil || s.gone.After(since) || (!s.gone.IsZero() && since.Before(s.up.Add(4*time.Second)))
}

// serve answers by the name of the file asked for: n and a number is so many bytes
// with their length told; c chunked; s slowly; b breaks in the middle; d breaks in
// the middle of a chunked answer.
func (*soakService) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		soakSocket(w)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	name, found := strings.CutPrefix(r.URL.Path, "/v1/files/")
	if !found || r.Method != http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"9b2f","note":"`+strings.Repeat("x", 780)+`"}`)
		return
	}
	how, number := name[:1], name[1:]
	size, err := strconv.Atoi(number)
	if err != nil || size > 64<<20 {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if how != "c" && how != "d" {
		w.Header().Set("Content-Length", number)
	}
	flush := http.NewResponseController(w)
	for left, piece := size, make([]byte, 16<<10); left > 0; left -= len(piece) {
		piece = piece[:min(len(piece), left)]
		if _, err := w.Write(piece); err != nil {
			return
		}
		if how == "n" {
			continue
		}
		_ = flush.Flush()
		switch {
		case how == "s":
			if wait(r.Context(), 50*time.Millisecond) != nil {
				return
			}
		case (how == "b" || how == "d") && left <= size/2:
			panic(http.ErrAbortHandler)
		}
	}
}

// soakSocket takes the upgrade to WebSocket, as far as a proxy can tell, and sends
// back what comes.
func soakSocket(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	// The accept value belongs to soakKey.
	if _, err := rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"); err != nil {
		return
	}
	if rw.Flush() == nil {
		_, _ = io.Copy(c, rw)
	}
}

const soakKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 §1.3, with its answer above

// readAnswer reads one answer of HTTP/1.1 from a raw connection, and its body.
func readAnswer(c net.Conn, in *bufio.Reader) (status int, err error) {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, nil
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close(), c.SetDeadline(time.Now().Add(20*time.Second)))
}
