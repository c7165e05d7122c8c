package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// idleMode holds many connections that have asked once, and says what each keeps of
// the proxy's memory.
func idleMode(ctx context.Context, out io.Writer) (err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	n := *idleConns
	if most := int(limit.Cur) - 500; n > most {
		_, _ = fmt.Fprintf(out, "ulimit -n is %d: %d connections instead of %d\n", limit.Cur, most, n)
		n = most
	}
	_, _ = fmt.Fprintf(out, "%d connections, one request each, then %d s of silence; then one of a hundred is asked again\n", n, *seconds)
	var goals strings.Builder
	const head = "\n| proxy | | KB a connection, resident | of it its own memory | MB before | MB after | asked again | answered |\n|---|---|---|---|---|---|---|---|\n"
	for round := range *rounds {
		for _, secure := range []bool{false, true} {
			s, all, err := theatre(ctx, io.Discard, full) // afresh: what a load has left behind would hide what grows
			if err != nil {
				return err
			}
			if round == 0 && !secure {
				conditions(ctx, out)
				_, _ = fmt.Fprint(out, head)
			}
			for _, p := range all {
				line, each, err := s.idle(ctx, p, n, secure)
				if err != nil {
					return errors.Join(fmt.Errorf("%s: %w", p.name, err), s.close())
				}
				_, _ = fmt.Fprintln(out, line)
				if p.ours {
					goal(&goals, fmt.Sprintf("KB of each of %d idle connections, %s", n, layer(secure)), each, 10)
				}
			}
			if err := s.close(); err != nil {
				return err
			}
		}
	}
	_, _ = fmt.Fprintf(out, "\n%s", goals.String())
	return nil
}

func layer(secure bool) string {
	if secure {
		return "TLS"
	}
	return "plain"
}

// idle measures one proxy and returns its line of the table, and the KB of memory of
// each connection.
func (s *stage) idle(ctx context.Context, p *proxy, n int, secure bool) (line string, each float64, err error) {
	request := "GET " + customer + " HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
	if p.token != "" {
		request += "Authorization: Bearer " + p.token + "\r\n"
	}
	request += "\r\n"
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	// What is made once, at the first requests, is no connection's: the buffers of
	// the record among it.
	warm, err := s.hold(ctx, p, 200, secure, request)
	held = append(held, warm...)
	if err == nil {
		err = s.again(warm, 20, request)
	}
	if err != nil {
		return "", 0, err
	}
	if err := wait(ctx, 2*time.Second); err != nil {
		return "", 0, err
	}
	before, ownBefore := memory(p.cmd.Process.Pid)
	more, err := s.hold(ctx, p, n, secure, request)
	held = append(held, more...)
	if err != nil {
		return "", 0, err
	}
	if err := wait(ctx, time.Duration(*seconds)*time.Second); err != nil {
		return "", 0, err
	}
	after, ownAfter := memory(p.cmd.Process.Pid)
	var sample []net.Conn
	for i := 0; i < len(more); i += 100 {
		sample = append(sample, more[i])
	}
	answered := 0
	for _, c := range sample {
		if s.again([]net.Conn{c}, 1, request) == nil {
			answered++
		}
	}
	each = float64(after-before) / float64(n)
	return fmt.Sprintf("| %s | %s | %.1f | %.1f | %d | %d | %d | %d |", p.name, layer(secure), each, float64(ownAfter-ownBefore)/float64(n),
		before/1024, after/1024, len(sample), answered), each, nil
}

// hold opens n connections, eight at a time, and has each ask once.
func (s *stage) hold(ctx context.Context, p *proxy, n int, secure bool, request string) (held []net.Conn, err error) {
	conf := s.tls()
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for range n/8 + min(1, max(0, n%8-w)) {
				c, e := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(p.port(secure)))
				if e == nil {
					if secure {
						c = tls.Client(c, conf)
					}
					if e = s.again([]net.Conn{c}, 1, request); e != nil {
						_ = c.Close()
					}
				}
				mu.Lock()
				if e == nil {
					held = append(held, c)
				}
				err = errors.Join(err, e)
				bad := err != nil
				mu.Unlock()
				if bad {
					return
				}
			}
		})
	}
	all.Wait()
	return held, err
}

// again has each connection ask so many times, and wants 200.
func (*stage) again(all []net.Conn, times int, request string) error {
	for range times {
		for _, c := range all {
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				return err
			}
			if _, err := io.WriteString(c, request); err != nil {
				return err
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
		}
	}
	return nil
}
