package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A Config bounds what callers may take of a [Server]. A zero number or
// duration means the default named beside it, never "without limit".
type Config struct {
	MaxConns           int           // open connections; 10,000
	MaxConnsPerAddress int           // of one IPv4 address or IPv6 /64; 256
	MaxHandshakes      int           // TLS handshakes at once, one address has a sixteenth; 1,024
	HandshakeTimeout   time.Duration // 5 s
	HeadTimeout        time.Duration // from a head's first byte to its last; 5 s
	IdleTimeout        time.Duration // between requests; 60 s
	BodyIdle           time.Duration // without a byte of a body under way; 10 s
	MinBodyRate        int           // bytes a second of a body, after BodyIdle of waiting; 240
	WriteIdle          time.Duration // for the peer to take what is written; 30 s
	MaxHeadBytes       int           // request line and headers; 32 KiB
	MaxStreams         int           // HTTP/2 requests at once on a connection; 100
	MaxResets          int           // HTTP/2 streams of a connection reset before they were answered, above those answered, and a tenth of it a second; 200
	MaxOverhead        int           // HTTP/2 frames of a connection that carry nothing, such as PING, and a tenth of it a second; 2,000

	// Trusted tells the addresses of hops that speak for many callers, such as
	// a load balancer; they are not held to the caps of one address.
	Trusted func(netip.Addr) bool
	// Refuse is asked about the address of each caller, before anything of its
	// connection is read; one it reports true of is reset. nil refuses nobody.
	Refuse func(netip.Addr) bool
	// From tells who may connect at all; nil: everybody. Others are turned away
	// before TLS, and learn nothing but that somebody listens.
	From func(netip.Addr) bool
	// Proxy tells the proxies that announce whose connection it is by the PROXY
	// protocol, before its first byte; nil: it is not spoken. From nobody else is a
	// connection taken then, and none without a header. The address in it is the
	// caller's for Trusted, Refuse, From, the caps and the handler.
	Proxy func(netip.Addr) bool
	// OnRefuse is told of every head that was refused before the handler could
	// see it, and returns the decision id shown in the answer; and of refused
	// connections and handshakes, at most ten a second. It must not block.
	OnRefuse func(Refusal) (id string)
	// Log receives what net/http has to say; nil discards it.
	Log *slog.Logger

	drain time.Duration // how long an answer over HTTP/2 waits for a body that nobody reads; 100 ms
}

// A Refusal is a request that never became one.
type Refusal struct {
	Address string // host:port of the peer
	Local   string // host:port it came to
	TLS     bool
	Line    string // first line, cut at 256 bytes and before '?', escaped; "" when none was read
	Problem *gatehouse.Problem
}

func (c Config) withDefaults() Config {
	number := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	span := func(n *time.Duration, d time.Duration) {
		if *n <= 0 {
			*n = d
		}
	}
	number(&c.MaxConns, 10_000)
	number(&c.MaxConnsPerAddress, 256)
	number(&c.MaxHandshakes, 1024)
	number(&c.MinBodyRate, 240)
	number(&c.MaxHeadBytes, 32<<10)
	number(&c.MaxStreams, 100)
	number(&c.MaxResets, 200)
	number(&c.MaxOverhead, 2000)
	span(&c.HandshakeTimeout, 5*time.Second)
	span(&c.HeadTimeout, 5*time.Second)
	span(&c.IdleTimeout, time.Minute)
	span(&c.BodyIdle, 10*time.Second)
	span(&c.WriteIdle, 30*time.Second)
	span(&c.drain, 100*time.Millisecond)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Server accepts connections, checks HTTP/1.1 heads byte by byte, and hands
// what is in order to a handler: itself, or through net/http where a client
// wants to switch protocols. HTTP/2 is spoken on TLS when the client asks for
// it, by net/http.
type Server struct {
	cfg     Config
	http    *http.Server
	lane    *lane // nil: net/http serves all connections
	table   *listenTable
	buffers sync.Pool // of *[headBufferSize]byte
	held    sync.Pool // of *http2Held
}

// NewServer returns a server of h.
func NewServer(cfg Config, h http.Handler) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg,
		table: &listenTable{
			conns: map[*listenConn]struct{}{}, callers: map[netip.Addr]*listenCaller{},
		},
	}
	paced := listenPaced{h, &s.cfg}
	s.http = &http.Server{
		Handler:                      paced,
		ConnContext:                  paced.connContext,
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is the gateway's to refuse
		ReadHeaderTimeout:            cfg.HeadTimeout,
		IdleTimeout:                  cfg.IdleTimeout,
		MaxHeaderBytes:               cfg.MaxHeadBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: cfg.MaxStreams,
			SendPingTimeout:      30 * time.Second, // a dead peer is found though its streams are idle
			PingTimeout:          15 * time.Second, // how long a write may take is listenConn's
		},
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ConnState: func(c net.Conn, state http.ConnState) {
			if h, ok := c.(interface{ hijacked() }); ok && state == http.StateHijacked {
				h.hijacked()
			}
		},
	}
	if laneHere {
		s.lane = newLane(s, h)
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true) // above TLS, see http2Conn; on a plain port headCheck refuses its preface
	return s
}

// Serve accepts from l until the server stops or l fails, and closes l. With
// conf it speaks TLS, and offers h2 and http/1.1 unless conf names protocols.
// It may be called for several listeners. After Shutdown or Close it returns
// [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener, conf *tls.Config) error {
	if conf != nil && len(conf.NextProtos) == 0 {
		conf = conf.Clone()
		conf.NextProtos = []string{"h2", "http/1.1"}
	}
	feed := &listenFeed{Listener: l, conns: make(chan net.Conn), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background()) // of handshakes: net/http's Serve returns when the server stops
	defer cancel()
	go s.accept(ctx, feed, conf)
	return s.http.Serve(feed)
}

// Shutdown stops accepting, closes idle connections and waits until the
// requests under way have been answered or ctx ends. Hijacked connections are
// the handler's to end; Close ends them too.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.lane == nil {
		return s.http.Shutdown(ctx)
	}
	quiet := s.lane.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return err
	}
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends everything at once.
func (s *Server) Close() error {
	err := s.http.Close()
	if s.lane != nil {
		s.lane.stop() // for who was accepted a moment ago, and is not in the table yet
	}
	s.table.closeAll()
	return err
}

// accept takes connections from the listener until it fails for good.
func (s *Server) accept(ctx context.Context, feed *listenFeed, conf *tls.Config) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	wait := shortest
	for {
		nc, err := feed.Listener.Accept()
		if err != nil {
			// Out of file descriptors is a state that passes; a closed listener is not.
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				feed.fail(err)
				return
			}
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "accept failed", slog.Any("error", err), slog.Duration("retry", wait))
			select {
			case <-time.After(wait):
				wait = min(2*wait, longest)
				continue
			case <-feed.done:
				return
			}
		}
		wait = shortest
		if p := s.stranger(nc); p != nil {
			s.turnAway(nc, conf != nil, p)
			continue
		}
		c, err := s.table.admit(nc, &s.cfg)
		if err != nil {
			s.turnedAway(nc, conf != nil, &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "too_many_connections", Err: err})
			_ = nc.Close()
			continue
		}
		if s.cfg.Proxy != nil {
			go s.introduced(ctx, feed, c, conf)
			continue
		}
		s.begin(ctx, feed, c, conf)
	}
}

// begin speaks with a connection that was taken.
func (s *Server) begin(ctx context.Context, feed *listenFeed, c *listenConn, conf *tls.Config) {
	switch {
	case conf != nil:
		go s.handshake(ctx, feed, c, conf)
	case s.lane != nil:
		go s.lane.serve(feed, c, nil)
	default:
		feed.give(s.checked(c, false))
	}
}

// stranger tells why nc is not taken, from where it comes; nil: it is.
func (s *Server) stranger(nc net.Conn) *gatehouse.Problem {
	peer, ok := listenAddr(nc.RemoteAddr())
	switch {
	case s.cfg.Proxy == nil && ok:
		return s.unwelcome(peer)
	case s.cfg.Proxy != nil && ok && s.cfg.Proxy(peer):
		return nil // it says who is there
	case s.cfg.Proxy != nil:
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "not_from_proxy"}
	case s.cfg.From != nil:
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "not_from_edge"}
	}
	return nil
}

// unwelcome tells why the caller at a may not connect; nil: it may.
func (s *Server) unwelcome(a netip.Addr) *gatehouse.Problem {
	switch {
	case s.cfg.Refuse != nil && s.cfg.Refuse(a):
		return &gatehouse.Problem{Kind: gatehouse.RateLimited, Reason: "banned"}
	case s.cfg.From != nil && !s.cfg.From(a):
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "not_from_edge"}
	}
	return nil
}

// turnAway ends a connection that may not be. It is reset: a flood of closed ones
// would otherwise wait here for its peers.
func (s *Server) turnAway(nc net.Conn, secure bool, p *gatehouse.Problem) {
	s.turnedAway(nc, secure, p)
	listenReset(nc)
}

// handshake does TLS before net/http sees the connection, so that the bytes of
// HTTP/1.1 and the frames of HTTP/2 can be checked above TLS.
func (s *Server) handshake(ctx context.Context, feed *listenFeed, c *listenConn, conf *tls.Config) {
	done, ok := s.table.shake(c, &s.cfg)
	if !ok {
		s.turnedAway(c, true, &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "too_many_handshakes"})
		_ = c.Close()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	tc := tls.Server(c, conf)
	err := tc.HandshakeContext(ctx)
	cancel()
	done()
	if err != nil {
		s.turnedAway(c, true, &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "tls_handshake_failed", Err: err})
		if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && re.Conn != nil && listenLooksLikeHTTP(re.RecordHeader) {
			_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis port speaks HTTPS.\n")
		}
		_ = c.Close()
		return
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		feed.give(s.newHTTP2(tc, c))
		return
	}
	if s.lane != nil {
		go s.lane.serve(feed, c, tc) // on a stack of its own: that of a handshake is large
		return
	}
	feed.give(headTLSConn{s.checked(tc, true), tc})
}

func listenLooksLikeHTTP(b [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH"}, string(b[:]))
}

func (s *Server) checked(c net.Conn, secure bool) *headConn {
	return &headConn{
		Conn: c, cfg: &s.cfg, buffers: &s.buffers,
		refuser: func(c net.Conn, p *gatehouse.Problem, line string) string { return s.refused(c, secure, line, p) },
	}
}

func (s *Server) refused(c net.Conn, secure bool, line string, p *gatehouse.Problem) string {
	if s.cfg.OnRefuse == nil {
		return ""
	}
	return s.cfg.OnRefuse(Refusal{
		Address: c.RemoteAddr().String(), Local: c.LocalAddr().String(), TLS: secure, Line: line, Problem: p,
	})
}

// turnedAway records a connection that never got as far as a head.
func (s *Server) turnedAway(c net.Conn, secure bool, p *gatehouse.Problem) {
	skipped, ok := s.table.tell(time.Now())
	if !ok {
		return
	}
	if skipped > 0 {
		p.Err = errors.Join(p.Err, fmt.Errorf("and %d connections more", skipped))
	}
	s.refused(c, secure, "", p)
}

// A listenFeed is the listener net/http sees: it yields what has been accepted,
// counted and shaken hands with.
type listenFeed struct {
	net.Listener
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	err   error
}

// Accept waits for a connection that is ready.
func (f *listenFeed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, f.err
	}
}

// Close stops the listener.
func (f *listenFeed) Close() error {
	err := f.Listener.Close()
	f.fail(net.ErrClosed)
	return err
}

func (f *listenFeed) fail(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.done)
	})
}

func (f *listenFeed) give(c net.Conn) {
	select {
	case f.conns <- c:
	case <-f.done:
		_ = c.Close()
	}
}
