package cost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// serviceAnswer is what the service behind the gateway answers, whatever it is
// asked: 802 bytes of JSON, as in bench.
var serviceAnswer = func() []byte {
	body := `{"id":"9b2f","name":"Ada Lovelace","email":"ada@example.org","roles":["reader","editor"],"note":"`
	body += strings.Repeat("x", 802-len(body)-2) + `"}`
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}()

// Service is the child that answers: it listens at address, says where on out, and
// ends with its input, and so with its parent.
func Service(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(l.Addr().String()); err != nil {
		return errors.Join(err, l.Close())
	}
	s := &answerer{open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = io.Copy(io.Discard, in)
		_ = l.Close()
		s.end()
	})
	for {
		c, err := l.Accept()
		if err != nil {
			all.Wait()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return err
		}
		all.Go(func() { s.serve(c) })
	}
}

// An answerer knows its connections, to end them.
type answerer struct {
	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
}

func (s *answerer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.open {
		_ = c.Close()
	}
}

func (s *answerer) serve(c net.Conn) {
	s.mu.Lock()
	s.open[c] = true
	if s.ended {
		_ = c.Close()
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	r := bufio.NewReaderSize(c, 8<<10)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		answer := serviceAnswer
		if req.Method == http.MethodHead {
			answer = answer[:bytes.Index(answer, []byte("\r\n\r\n"))+4]
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
