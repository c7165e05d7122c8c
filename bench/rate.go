package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A pace is what one run of the open-loop load found: how long callers waited,
// from the moment they were due, and how late the load itself was when it was not
// kept by an answer under way.
type pace struct {
	Asked               int
	Bad                 int
	P50, P99, P999, Max time.Duration
	Late                time.Duration // 99th percentile
}

// rateWarm is left out of a pace: connections and caches are new.
const rateWarm = 500 * time.Millisecond

// rateMode is the load of the latency mode, in a process of its own: the request on
// stdin, at a constant rate over some connections to -to. A request is due when
// the clock says so, whether or not the ones before it have been answered, and its
// wait counts from then: who stalls for a second pays for all who came meanwhile.
func rateMode(ctx context.Context, out io.Writer) error {
	request, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	if err != nil {
		return err
	}
	if *rate <= 0 || *conns <= 0 {
		return errors.New("rate: -rate and -connections must be positive")
	}
	// Each connection has a thread that sleeps, writes and reads in the kernel: with
	// a scheduler between, its delays would be taken for the proxy's.
	runtime.GOMAXPROCS(2 * *conns)
	debug.SetGCPercent(-1) // what it needs is allocated before it starts
	callers := make([]*caller, *conns)
	for i := range callers {
		if callers[i], err = dialCaller(ctx, *target); err != nil {
			return err
		}
		defer callers[i].close()
	}
	life := time.Duration(*seconds) * time.Second
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now().Add(50 * time.Millisecond)
	for _, c := range callers {
		c.waits = make([]time.Duration, 0, *rate**seconds)
		c.lates = make([]time.Duration, 0, *rate**seconds)
		all.Go(func() { c.run(ctx, request, &next, start, life) })
	}
	all.Wait()
	var p pace
	var waits, lates []time.Duration
	for _, c := range callers {
		waits, lates, p.Bad = append(waits, c.waits...), append(lates, c.lates...), p.Bad+c.bad
		if c.err != nil {
			return c.err
		}
	}
	if p.Asked = len(waits); p.Asked == 0 {
		return errors.New("rate: nothing was answered")
	}
	slices.Sort(waits)
	slices.Sort(lates)
	p.P50, p.P99, p.P999, p.Max = waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)*999/1000], waits[len(waits)-1]
	if len(lates) > 0 {
		p.Late = lates[len(lates)*99/100]
	}
	return json.NewEncoder(out).Encode(p)
}

// A caller is one connection of it.
type caller struct {
	file  *os.File
	buf   []byte
	bad   int
	err   error
	waits []time.Duration
	lates []time.Duration
}

func dialCaller(ctx context.Context, address string) (*caller, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	f, err := c.(*net.TCPConn).File() // a socket of its own, beside the runtime's poller
	if err != nil {
		return nil, err
	}
	fd := int(f.Fd()) // and blocking from now on
	t := syscall.NsecToTimeval(int64(5 * time.Second))
	if err := errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &t), syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &t)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &caller{file: f, buf: make([]byte, 64<<10)}, nil
}

func (c *caller) close() { _ = c.file.Close() }

// run takes the next request that is due, waits until it is, sends it and reads the
// answer, until life is over.
func (c *caller) run(ctx context.Context, request []byte, next *atomic.Int64, start time.Time, life time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	precise()
	fd := int(c.file.Fd())
	gap := float64(time.Second) / float64(*rate)
	for ctx.Err() == nil {
		after := time.Duration(float64(next.Add(1)-1) * gap)
		if after > life {
			return
		}
		due, slept := start.Add(after), false
		for d := time.Until(due); d > 0; d = time.Until(due) {
			nap(d)
			slept = true
		}
		if slept && after > rateWarm {
			c.lates = append(c.lates, time.Since(due))
		}
		status, err := c.ask(fd, request)
		if err != nil {
			c.err = fmt.Errorf("rate: %w", err)
			return
		}
		if after > rateWarm {
			c.waits = append(c.waits, time.Since(due))
		}
		if status != 200 {
			c.bad++
		}
	}
}

// ask sends the request and reads the whole answer, which must tell its length.
func (c *caller) ask(fd int, request []byte) (status int, err error) {
	for rest := request; len(rest) > 0; {
		n, err := syscall.Write(fd, rest)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	for have, want := 0, -1; want < 0 || have < want; {
		n, err := syscall.Read(fd, c.buf[have:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return 0, err
		case n <= 0:
			return 0, io.ErrUnexpectedEOF
		}
		have += n
		if want >= 0 {
			continue
		}
		head, _, whole := bytes.Cut(c.buf[:have], []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		if len(head) < 12 {
			return 0, errors.New("an answer without a status")
		}
		if status, err = strconv.Atoi(string(head[9:12])); err != nil {
			return 0, err
		}
		_, value, found := bytes.Cut(bytes.ToLower(head), []byte("\r\ncontent-length:"))
		if value, _, _ = bytes.Cut(value, []byte("\r")); !found {
			return 0, fmt.Errorf("an answer without a length: %s", head)
		}
		length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil || len(head)+4+length > len(c.buf) {
			return 0, fmt.Errorf("an answer of %s bytes: %w", value, err)
		}
		want = len(head) + 4 + length
	}
	return status, nil
}
