package http1_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// readAnswers parses a stream of answers to requests of the given methods, each
// into one text. It takes nothing for granted that a lane could do wrong.
func readAnswers(b []byte, methods []string) (out []string) {
	for len(b) > 0 {
		head, rest, ok := strings.Cut(string(b), "\r\n\r\n")
		if !ok {
			return append(out, fmt.Sprintf("NO HEAD %q", b))
		}
		b = []byte(rest)
		lines := strings.Split(head, "\r\n")
		first, lines := lines[0], lines[1:]
		status := 0
		if len(first) > 12 {
			status, _ = strconv.Atoi(first[9:12])
		}
		h := http.Header{}
		for i, l := range lines {
			name, value, ok := strings.Cut(l, ": ")
			if !ok {
				return append(out, fmt.Sprintf("BAD FIELD %q", l))
			}
			if name == "Date" {
				if at, err := http.ParseTime(value); err == nil && time.Since(at).Abs() < time.Minute {
					lines[i] = "Date: now"
				}
			}
			h.Add(name, value)
		}
		slices.Sort(lines)
		text := first + "\n  " + strings.Join(lines, "\n  ")
		if status/100 == 1 && status != 101 {
			out = append(out, text)
			continue
		}
		method := "GET"
		if len(methods) > 0 {
			method, methods = methods[0], methods[1:]
		}
		var body, trailer, flaw string
		switch {
		case status == 101:
			body, b = wireDate.ReplaceAllString(string(b), "Date: now"), nil
		case method == "HEAD" || status == 204 || status == 304:
		case slices.Contains(h["Transfer-Encoding"], "chunked"):
			body, trailer, b, flaw = readChunks(b)
		case h.Get("Content-Length") != "":
			u, err := strconv.ParseUint(h.Get("Content-Length"), 10, 31)
			n := int(u)
			if err != nil || len(b) < n {
				n, flaw = len(b), " CUT"
			}
			body, b = string(b[:n]), b[n:]
		default:
			body, b, flaw = wireDate.ReplaceAllString(string(b), "Date: now"), nil, " until the end"
		}
		out = append(out, text+"\n  body "+shortly(body)+flaw+trailer)
	}
	return out
}

var wireDate = regexp.MustCompile(`Date: [^\r]*GMT`)

func readChunks(b []byte) (body, trailer string, rest []byte, flaw string) {
	var all strings.Builder
	for {
		line, after, ok := strings.Cut(string(b), "\r\n")
		n, err := strconv.ParseUint(line, 16, 31)
		if !ok || err != nil {
			return all.String(), "", nil, " CUT"
		}
		if n == 0 {
			section, next, ok := strings.Cut("\r\n"+after, "\r\n\r\n")
			if !ok {
				return all.String(), "", nil, " CUT"
			}
			fields := strings.Split(section, "\r\n")[1:]
			slices.Sort(fields)
			return all.String(), fmt.Sprintf(" trailer %q", fields), []byte(next), ""
		}
		all.WriteString(after[:min(int(n), len(after))])
		if len(after) < int(n)+2 || after[n:n+2] != "\r\n" {
			return all.String(), "", nil, " CUT"
		}
		b = []byte(after[n+2:])
	}
}

func shortly(s string) string {
	if len(s) <= 100 {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%d bytes %q… %08x", len(s), s[:40], crc32.ChecksumIEEE([]byte(s)))
}

// halfPipes is a listener of connections in memory that can be closed by halves,
// and that give each write as a read of its own.
type halfPipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	mu    sync.Mutex
	n     int
}

type halfConn struct {
	net.Conn // what is read
	out      net.Conn
	at, from halfAddr
}

type halfAddr string

func (halfAddr) Network() string  { return "half" }
func (a halfAddr) String() string { return string(a) }

func (c halfConn) LocalAddr() net.Addr         { return c.at }
func (c halfConn) RemoteAddr() net.Addr        { return c.from }
func (c halfConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c halfConn) CloseWrite() error           { return c.out.Close() }
func (c halfConn) Close() error                { return errors.Join(c.out.Close(), c.Conn.Close()) }

// A net.Pipe whose other end has closed takes no deadline; a socket does.
func (c halfConn) SetReadDeadline(t time.Time) error  { _ = c.Conn.SetReadDeadline(t); return nil }
func (c halfConn) SetWriteDeadline(t time.Time) error { _ = c.out.SetWriteDeadline(t); return nil }
func (c halfConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (l *halfPipes) dial() (net.Conn, error) {
	l.mu.Lock()
	l.n++
	near, far := halfAddr(fmt.Sprint("caller-", l.n)), halfAddr("server")
	l.mu.Unlock()
	upIn, upOut := net.Pipe()
	downIn, downOut := net.Pipe()
	select {
	case l.conns <- halfConn{upIn, downOut, far, near}:
		return halfConn{downIn, upOut, near, far}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *halfPipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *halfPipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *halfPipes) Addr() net.Addr { return halfAddr("server") }
