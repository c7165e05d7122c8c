package cost

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// An order tells the load what to send, and for how long.
type order struct {
	Address     string        // host:port
	TLS         string        // server name; "" without TLS
	Roots       []byte        // PEM of the CAs to trust beside the system's
	Request     []byte        // as it goes over the wire
	Method      string        // its method
	Connections int           // each sends one request after the other
	For         time.Duration // then each waits for its last answer
}

// A tally is what came of an order.
type tally struct {
	Requests int            `json:"requests"`
	Statuses map[int]int    `json:"statuses"`
	Seconds  float64        `json:"seconds"`
	P50      float64        `json:"p50"`    // µs
	P99      float64        `json:"p99"`    // µs
	Bodies   map[int]string `json:"bodies"` // beginning of the first with each status that is not 2xx
	Err      string         `json:"err,omitempty"`
}

// Load is the child that sends: orders come in, one JSON value each, and a tally
// goes out for each. It ends with its input, and so with its parent.
func Load(ctx context.Context, in io.Reader, out io.Writer) error {
	l := &loader{idle: map[string][]*caller{}}
	orders, tallies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := tallies.Encode(l.carryOut(ctx, &o)); err != nil {
			return err
		}
	}
}

// A loader keeps its connections from one order to the next.
type loader struct{ idle map[string][]*caller }

// A caller is one connection, and what was seen on it.
type caller struct {
	conn  net.Conn
	r     *bufio.Reader
	used  bool // has been answered before: it may have been closed since
	times []time.Duration
	codes map[int]int
	texts map[int]string
	err   error
}

// errSilent says that a connection ended before anything of an answer had come.
var errSilent = errors.New("no answer")

// answerLimit is how long an answer may take.
const answerLimit = 10 * time.Second

func (l *loader) carryOut(ctx context.Context, o *order) tally {
	key := o.TLS + " " + o.Address
	callers := l.idle[key]
	for len(callers) < o.Connections {
		callers = append(callers, &caller{})
	}
	l.idle[key] = callers
	began := time.Now()
	end := began.Add(o.For)
	var all sync.WaitGroup
	for _, c := range callers[:o.Connections] {
		all.Go(func() { c.send(ctx, o, end) })
	}
	all.Wait()
	t := tally{Statuses: map[int]int{}, Bodies: map[int]string{}, Seconds: time.Since(began).Seconds()}
	var times []time.Duration
	for _, c := range callers[:o.Connections] {
		times = append(times, c.times...)
		for code, n := range c.codes {
			t.Statuses[code] += n
		}
		maps.Copy(t.Bodies, c.texts)
		if c.err != nil {
			t.Err = c.err.Error()
		}
	}
	t.Requests = len(times)
	if len(times) > 0 {
		slices.Sort(times)
		at := func(share float64) float64 {
			return float64(times[min(len(times)-1, int(share*float64(len(times))))]) / float64(time.Microsecond)
		}
		t.P50, t.P99 = at(0.5), at(0.99)
	}
	return t
}

// send sends one request after the other until end.
func (c *caller) send(ctx context.Context, o *order, end time.Time) {
	c.times, c.codes, c.texts, c.err = c.times[:0], map[int]int{}, map[int]string{}, nil
	for {
		began := time.Now()
		if began.After(end) && len(c.times) > 0 {
			return
		}
		code, err := c.once(ctx, o)
		if c.used && errors.Is(err, errSilent) { // kept longer than the other end wanted: once more, anew
			c.close()
			code, err = c.once(ctx, o)
		}
		if err != nil {
			c.close()
			c.err = err
			return
		}
		c.codes[code]++
		c.times = append(c.times, time.Since(began))
	}
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn, c.used = nil, false
}

// once sends the request and reads its answer to the end.
func (c *caller) once(ctx context.Context, o *order) (status int, err error) {
	if c.conn == nil {
		if err := c.dial(ctx, o); err != nil {
			return 0, err
		}
	}
	if len(c.times)%256 == 0 { // a system call for each would be dear
		if err := c.conn.SetDeadline(time.Now().Add(o.For + answerLimit)); err != nil {
			return 0, err
		}
	}
	if _, err := c.conn.Write(o.Request); err != nil {
		return 0, fmt.Errorf("%w: %w", errSilent, err)
	}
	if _, err := c.r.Peek(1); err != nil {
		return 0, fmt.Errorf("%w: %w", errSilent, err)
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: o.Method})
	if err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	if _, seen := c.texts[resp.StatusCode]; resp.StatusCode/100 != 2 && !seen {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // the rest tells whether it is whole
		c.texts[resp.StatusCode] = string(b)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return 0, fmt.Errorf("an answer without its end: %w", err)
	}
	if c.used = true; resp.Close {
		c.close()
	}
	return resp.StatusCode, nil
}

func (c *caller) dial(ctx context.Context, o *order) error {
	conn, err := (&net.Dialer{Timeout: answerLimit}).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return err
	}
	if o.TLS != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(o.Roots)
		conn = tls.Client(conn, &tls.Config{ServerName: o.TLS, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	if c.conn = conn; c.r == nil {
		c.r = bufio.NewReaderSize(conn, 8<<10)
	}
	c.r.Reset(conn)
	return nil
}

// only wants every answer to have status.
func (t *tally) only(status int) error {
	switch {
	case t.Err != "":
		return errors.New(t.Err)
	case t.Requests == 0:
		return errors.New("nothing was answered")
	case t.Statuses[status] != t.Requests:
		text := []string{t.answers()}
		for _, code := range slices.Sorted(maps.Keys(t.Bodies)) {
			if code != status {
				text = append(text, strings.TrimSpace(t.Bodies[code]))
			}
		}
		return fmt.Errorf("expected %d and nothing else, got %s", status, strings.Join(text, "; "))
	}
	return nil
}

// answers tells how often which status came.
func (t *tally) answers() string {
	var each []string
	for _, code := range slices.Sorted(maps.Keys(t.Statuses)) {
		each = append(each, fmt.Sprintf("%d × %d", t.Statuses[code], code))
	}
	return strings.Join(each, ", ")
}
