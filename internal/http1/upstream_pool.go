package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrClosed is what a closed [Pool] gives.
var ErrClosed = errors.New("http1: pool is closed")

// PoolConfig says how a [Pool] connects and how long it waits. No duration may be 0.
type PoolConfig struct {
	Dial        func(context.Context) (net.Conn, error) // TCP, or TLS with its handshake done
	MaxIdle     int                                     // connections kept without work; 0 keeps none
	IdleTimeout time.Duration                           // a connection idle for longer is not used again
	HeadTimeout time.Duration                           // from Send to the final response's head
	BodyTimeout time.Duration                           // silence in a body, and of a service that takes no bytes
}

// A Pool keeps the idle connections to one service. It has no goroutine: its
// owner calls Sweep now and then.
type Pool struct {
	cfg    PoolConfig
	start  time.Time
	idle   atomic.Int64
	shards []poolShard
}

// poolShard is a stack, so that few connections are kept warm and the rest get
// old. There is one for each CPU: all requests to a service meet here.
type poolShard struct {
	mu     sync.Mutex
	conns  []*Conn
	closed bool
	_      [64]byte // a cache line of its own
}

// NewPool makes an empty pool.
func NewPool(cfg PoolConfig) *Pool {
	return &Pool{cfg: cfg, start: time.Now(), shards: make([]poolShard, min(runtime.GOMAXPROCS(0), 16))}
}

// now is the time on the pool's own clock, in nanoseconds since its making. It
// costs half of time.Now, which looks at two clocks, and every exchange asks often.
func (p *Pool) now() int64 { return int64(time.Since(p.start)) }

// Get gives an idle connection, checked to be open and silent, or, when there is
// none or fresh is set, a new one.
func (p *Pool) Get(ctx context.Context, fresh bool) (*Conn, error) {
	if !fresh {
		at := rand.Uint32()
		for i := range p.shards {
			s := &p.shards[(int(at%uint32(len(p.shards)))+i)%len(p.shards)]
			if c := p.pop(s); c != nil {
				c.takeBuffer()
				return c, nil
			}
		}
	}
	nc, err := p.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{nc: nc, sock: nc, pool: p}
	c.probe.init(nc)
	c.talk.init(c)
	c.takeBuffer()
	return c, nil
}

func (p *Pool) pop(s *poolShard) *Conn {
	for {
		s.mu.Lock()
		if len(s.conns) == 0 {
			s.mu.Unlock()
			return nil
		}
		last := len(s.conns) - 1
		c := s.conns[last]
		s.conns[last] = nil
		s.conns = s.conns[:last]
		s.mu.Unlock()
		p.idle.Add(-1)
		if p.now()-c.since < int64(p.cfg.IdleTimeout) && c.silent() {
			return c
		}
		c.Close()
	}
}

func (p *Pool) put(c *Conn) {
	if p.idle.Add(1) > int64(p.cfg.MaxIdle) || !c.probe.able() {
		p.idle.Add(-1)
		c.Close()
		return
	}
	c.since, c.reused = p.now(), true
	s := &p.shards[int(rand.Uint32()%uint32(len(p.shards)))]
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.conns = append(s.conns, c)
	}
	s.mu.Unlock()
	if closed {
		p.idle.Add(-1)
		c.Close()
	}
}

// Idle counts the connections without work.
func (p *Pool) Idle() int { return int(p.idle.Load()) }

// Sweep closes the connections that have been idle for too long.
func (p *Pool) Sweep(now time.Time) { p.sweep(int64(now.Sub(p.start)-p.cfg.IdleTimeout), false) }

// Close closes the idle connections now and the others when they are released.
func (p *Pool) Close() { p.sweep(0, true) }

func (p *Pool) sweep(before int64, all bool) {
	for i := range p.shards {
		s := &p.shards[i]
		var old []*Conn
		s.mu.Lock()
		s.closed = s.closed || all
		kept := s.conns[:0]
		for _, c := range s.conns {
			if all || c.since < before {
				old = append(old, c)
			} else {
				kept = append(kept, c)
			}
		}
		clear(s.conns[len(kept):])
		s.conns = kept
		s.mu.Unlock()
		p.idle.Add(-int64(len(old)))
		for _, c := range old {
			c.Close()
		}
	}
}

// A prober looks at an idle connection without waiting. The zero prober is not
// able to, and what cannot be looked at is not used twice.
type prober struct {
	raw  syscall.RawConn
	tls  bool
	look func(fd uintptr) // made once: a closure for each request would be garbage
	ok   bool
}

func (p *prober) able() bool { return p.raw != nil }

func (p *prober) init(nc net.Conn) {
	if t, ok := nc.(*tls.Conn); ok {
		p.tls, nc = true, t.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok || !canProbe {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	p.raw = raw
	p.look = func(fd uintptr) { p.ok = socketSilent(fd) }
}

// silent reports whether the idle connection is open and has nothing to say. A
// service that spoke unasked is desynchronised from us: what it said would be
// taken for the answer to the next caller's request.
func (c *Conn) silent() bool {
	c.probe.ok = false
	if err := c.probe.raw.Control(c.probe.look); err != nil || !c.probe.ok {
		return false
	}
	if !c.probe.tls {
		return true
	}
	// What was decrypted already lies in the TLS layer. A deadline in the past
	// lets us look there and no further.
	c.readBy = 0
	if c.nc.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var one [1]byte
	n, err := c.nc.Read(one[:])
	ne, timeout := errors.AsType[net.Error](err)
	return n == 0 && timeout && ne.Timeout()
}
