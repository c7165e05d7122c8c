package http1

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A listenTable counts the connections there are. It is locked when one comes
// or goes, never for a request.
type listenTable struct {
	mu      sync.Mutex
	conns   map[*listenConn]struct{}
	callers map[netip.Addr]*listenCaller
	shakes  int       // TLS handshakes under way
	second  time.Time // when told began to count
	told    int
	skipped int // refusals not told since the last that was
}

// A listenCaller is one address, as listenKey has it, for as long as it has a connection.
type listenCaller struct {
	conns, shakes int
	line          *http2Line
}

// ErrFull is in the [Refusal] of a connection when there are as many as there may be
// in all.
var ErrFull = errors.New("too many connections")

// admit registers nc unless a cap is reached.
func (t *listenTable) admit(nc net.Conn, cfg *Config) (*listenConn, error) {
	c := &listenConn{Conn: nc, table: t, idle: cfg.WriteIdle, opened: time.Now()}
	if ap, ok := listenAddr(nc.RemoteAddr()); ok {
		c.addr = listenKey(ap)
		// A proxy's connections are held to the caps of those whom it names.
		c.exempt = cfg.Proxy != nil || cfg.Trusted != nil && cfg.Trusted(ap)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.conns) >= cfg.MaxConns {
		return nil, ErrFull
	}
	if err := t.join(c, c.addr, c.exempt, cfg); err != nil {
		return nil, err
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// join counts c as one of a caller's, unless those have all they may. It is called
// with mu held.
func (t *listenTable) join(c *listenConn, a netip.Addr, exempt bool, cfg *Config) error {
	who := t.callers[a]
	switch {
	case who == nil:
		who = &listenCaller{line: newHTTP2Line()}
		t.callers[a] = who
	case !exempt && who.conns >= cfg.MaxConnsPerAddress:
		return errors.New("too many connections from one address")
	}
	who.conns++
	c.addr, c.exempt, c.caller = a, exempt, who
	return nil
}

// part takes a connection off who has address a. It is called with mu held.
func (t *listenTable) part(a netip.Addr, who *listenCaller) {
	if who.conns--; who.conns == 0 {
		delete(t.callers, a)
	}
}

// tell reports whether one more refused connection should be recorded now, and
// how many were not since the last: a flood of connections costs its sender
// little, and must not become a flood of records on our disk.
func (t *listenTable) tell(now time.Time) (skipped int, ok bool) {
	const perSecond = 10
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.second) >= time.Second {
		t.second, t.told = now, 0
	}
	if t.told >= perSecond {
		t.skipped++
		return 0, false
	}
	t.told++
	skipped, t.skipped = t.skipped, 0
	return skipped, true
}

// shake registers a handshake unless too many are under way; done ends it.
func (t *listenTable) shake(c *listenConn, cfg *Config) (done func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shakes >= cfg.MaxHandshakes || !c.exempt && c.caller.shakes >= max(1, cfg.MaxHandshakes/16) {
		return nil, false
	}
	t.shakes++
	c.caller.shakes++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.shakes--
		c.caller.shakes--
	}, true
}

func (t *listenTable) leave(c *listenConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
	t.part(c.addr, c.caller)
}

func (t *listenTable) closeAll() {
	t.mu.Lock()
	var all []*listenConn
	for c := range t.conns {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

func listenAddr(a net.Addr) (netip.Addr, bool) {
	if t, ok := a.(*net.TCPAddr); ok {
		ip := t.AddrPort().Addr().Unmap().WithZone("")
		return ip, ip.IsValid()
	}
	return netip.Addr{}, false
}

// listenKey is who is counted: an IPv4 address, or the /64 of an IPv6 one,
// which is the least a customer gets and all of it is free to use.
func listenKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// A listenConn is one accepted connection, below TLS. It is counted until it is
// closed, and it bounds how long a write may find the peer not reading.
type listenConn struct {
	net.Conn
	table  *listenTable
	addr   netip.Addr
	caller *listenCaller // addr's
	exempt bool          // from the caps of one address: it is a trusted hop
	from   net.Addr      // who is behind the proxy; nil: the peer itself is the caller
	idle   time.Duration
	opened time.Time
	closed atomic.Bool
	theirs atomic.Bool  // someone above set a write deadline: it is left alone
	until  atomic.Int64 // our write deadline, after opened
}

// NetConn gives the connection beneath, so that who hijacks can reset it.
func (c *listenConn) NetConn() net.Conn { return c.Conn }

// RemoteAddr is the caller's address: the peer's, or whom a proxy has named.
func (c *listenConn) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.Conn.RemoteAddr()
}

// listenReset closes nc with a reset, if it is TCP.
func listenReset(nc net.Conn) {
	raw := nc
	if c, ok := nc.(*listenConn); ok {
		raw = c.Conn
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// Close closes the connection and stops counting it.
func (c *listenConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.table.leave(c)
	}
	return c.Conn.Close()
}

// CloseWrite closes the sending half.
func (c *listenConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetWriteDeadline takes a deadline from above; the zero time gives the
// connection back to the write timeout of the server.
func (c *listenConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		if c.theirs.CompareAndSwap(true, false) {
			c.until.Store(0)
			return c.Conn.SetWriteDeadline(t)
		}
		return nil
	}
	c.theirs.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *listenConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Write writes p in pieces, each of which the peer must take within the write
// timeout: a caller that does not read its answers holds memory and an upstream.
func (c *listenConn) Write(p []byte) (n int, err error) {
	const piece = 64 << 10
	for {
		if err := c.hurry(); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(len(p), n+piece)])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// writeBoth writes what v lists, which is not much, in one system call.
func (c *listenConn) writeBoth(v *net.Buffers) error {
	if err := c.hurry(); err != nil {
		return err
	}
	_, err := v.WriteTo(c.Conn)
	return err
}

// hurry sets the deadline of the next write.
func (c *listenConn) hurry() error {
	if c.theirs.Load() {
		return nil
	}
	// Moving the deadline costs as much as the check; a quarter's slack is enough.
	now := time.Since(c.opened)
	if int64(now+c.idle*3/4) <= c.until.Load() {
		return nil
	}
	c.until.Store(int64(now + c.idle))
	return c.Conn.SetWriteDeadline(c.opened.Add(now + c.idle))
}
