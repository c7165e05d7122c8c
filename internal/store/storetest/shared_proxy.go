package storetest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A Proxy stands between a client and a server, and may let nothing through.
type Proxy struct {
	Address string

	to    string
	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   atomic.Pointer[chan struct{}] // closed when it is healed; nil: whole
}

// NewProxy forwards a free loopback port to a TCP address, until the test ends.
func NewProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		p.Heal()
		p.Drop()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *Proxy) serve(c net.Conn) {
	p.wait()
	up, err := new(net.Dialer).Dial("tcp", p.to)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[up] = true, true
	p.mu.Unlock()
	pump := func(to, from net.Conn) {
		defer func() { _, _ = to.Close(), from.Close() }()
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			p.wait()
			if _, e := to.Write(b[:n]); e != nil || err != nil {
				return
			}
		}
	}
	go pump(up, c)
	pump(c, up)
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, up)
	p.mu.Unlock()
}

// wait holds back what comes while the way is cut.
func (p *Proxy) wait() {
	if healed := p.cut.Load(); healed != nil {
		<-*healed
	}
}

// Cut lets nothing through and closes nothing, as a firewall that drops packets.
func (p *Proxy) Cut() {
	healed := make(chan struct{})
	p.cut.CompareAndSwap(nil, &healed)
}

// Heal ends what Cut began.
func (p *Proxy) Heal() {
	if healed := p.cut.Swap(nil); healed != nil {
		close(*healed)
	}
}

// Drop closes all connections.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
