package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// The PROXY protocol (haproxy.org, proxy-protocol.txt, versions 1 and 2): a proxy
// that does not look into a connection says, before its first byte, whose it is.
// Nothing is guessed: where the protocol is spoken, who is no proxy of ours is
// turned away, and so is a proxy that sends no header. The header is read to its
// last byte and not one byte further, so that what reads the connection after it
// need not know.

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // of version 2
	proxyMost1     = 107                      // bytes of a header of version 1, with its CR LF
	proxyMost2     = 4 << 10                  // bytes behind the fixed part of version 2: certificates may be in it

	proxyCRC32C = 0x03 // PP2_TYPE_CRC32C
)

var errProxyHeader = errors.New("no PROXY protocol header")

// introduced has a proxy say for whom c was opened.
func (s *Server) introduced(ctx context.Context, feed *listenFeed, c *listenConn, conf *tls.Config) {
	fail := func(p *gatehouse.Problem) { s.turnAway(c, conf != nil, p) }
	_ = c.Conn.SetReadDeadline(time.Now().Add(s.cfg.HeadTimeout))
	from, told, err := readProxy(c.Conn)
	_ = c.Conn.SetReadDeadline(time.Time{})
	if err != nil {
		fail(&gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "bad_proxy_header", Err: err})
		return
	}
	if !told { // a connection of the proxy's own, such as a health check
		if from, err = netip.ParseAddrPort(c.RemoteAddr().String()); err != nil {
			fail(&gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "bad_proxy_header", Err: err})
			return
		}
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	c.from = net.TCPAddrFromAddrPort(from)
	if p := s.unwelcome(from.Addr()); p != nil {
		fail(p)
		return
	}
	if err := s.table.introduce(c, from.Addr(), &s.cfg); err != nil {
		fail(&gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "too_many_connections", Err: err})
		return
	}
	s.begin(ctx, feed, c, conf)
}

// introduce counts c from now on as the caller's at ip, unless a cap is reached.
func (t *listenTable) introduce(c *listenConn, ip netip.Addr, cfg *Config) error {
	addr, exempt := listenKey(ip), cfg.Trusted != nil && cfg.Trusted(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.conns[c]; !there {
		return net.ErrClosed
	}
	proxy, at := c.caller, c.addr
	if err := t.join(c, addr, exempt, cfg); err != nil {
		return err
	}
	t.part(at, proxy)
	return nil
}

// readProxy reads a header. told is false where it names no address: the connection
// is the proxy's own (LOCAL), or the proxy does not know (UNKNOWN, UNSPEC), or the
// caller came over a Unix socket.
func readProxy(r io.Reader) (from netip.AddrPort, told bool, err error) {
	var room [proxyMost1]byte
	start := room[:len(proxySignature)] // shorter than the shortest header of either version
	if _, err := io.ReadFull(r, start); err != nil {
		return from, false, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	switch {
	case string(start) == proxySignature:
		return readProxy2(r)
	case bytes.HasPrefix(start, []byte("PROXY ")):
		return readProxy1(r, room[:])
	}
	return from, false, errProxyHeader
}

// readProxy1 reads the rest of a line like "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443",
// of which the first 12 bytes are in b. It never asks for a byte that may not be the
// line's: the caller's own begin behind it.
func readProxy1(r io.Reader, b []byte) (from netip.AddrPort, told bool, err error) {
	n := len(proxySignature)
	for !bytes.HasSuffix(b[:n], []byte("\r\n")) {
		more := 2
		if b[n-1] == '\r' {
			more = 1
		}
		if n+more > len(b) {
			return from, false, fmt.Errorf("%w: a line longer than %d bytes", errProxyHeader, len(b))
		}
		if _, err := io.ReadFull(r, b[n:n+more]); err != nil {
			return from, false, fmt.Errorf("%w: %w", errProxyHeader, err)
		}
		n += more
	}
	line := string(b[:n-2])
	if strings.ContainsAny(line, "\r\n\x00") {
		return from, false, fmt.Errorf("%w: a control character in its line", errProxyHeader)
	}
	if rest, ok := strings.CutPrefix(line, "PROXY UNKNOWN"); ok && (rest == "" || rest[0] == ' ') {
		return from, false, nil // what else is in it is not to be read
	}
	f := strings.Split(line, " ")
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return from, false, fmt.Errorf("%w: %q", errProxyHeader, line)
	}
	var at [2]netip.AddrPort
	for i := range at {
		a, err := netip.ParseAddr(f[2+i])
		if err != nil || a.Is4() != (f[1] == "TCP4") || a.Zone() != "" {
			return from, false, fmt.Errorf("%w: %q is no address of %s", errProxyHeader, f[2+i], f[1])
		}
		port, err := strconv.ParseUint(f[4+i], 10, 16)
		if err != nil || strconv.FormatUint(port, 10) != f[4+i] {
			return from, false, fmt.Errorf("%w: %q is no port", errProxyHeader, f[4+i])
		}
		at[i] = netip.AddrPortFrom(a, uint16(port))
	}
	return at[0], true, nil
}

// readProxy2 reads what is behind the signature of version 2.
func readProxy2(r io.Reader) (from netip.AddrPort, told bool, err error) {
	fixed := [16]byte{}
	copy(fixed[:], proxySignature)
	if _, err := io.ReadFull(r, fixed[len(proxySignature):]); err != nil {
		return from, false, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	size := int(binary.BigEndian.Uint16(fixed[14:]))
	switch {
	case fixed[12]>>4 != 2:
		return from, false, fmt.Errorf("%w: version %d", errProxyHeader, fixed[12]>>4)
	case size > proxyMost2:
		return from, false, fmt.Errorf("%w: %d bytes long", errProxyHeader, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return from, false, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	switch fixed[12] & 0xf {
	case 0: // LOCAL: the rest is there to be skipped
		return from, false, nil
	case 1:
	default:
		return from, false, fmt.Errorf("%w: command %d", errProxyHeader, fixed[12]&0xf)
	}
	addresses := 0
	switch fixed[13] {
	case 0x00: // UNSPEC
	case 0x11: // TCP over IPv4
		addresses = 12
	case 0x21: // TCP over IPv6
		addresses = 36
	case 0x31: // a Unix socket
		addresses = 216
	default: // datagrams do not come over a connection
		return from, false, fmt.Errorf("%w: family and protocol %#02x", errProxyHeader, fixed[13])
	}
	if len(body) < addresses {
		return from, false, fmt.Errorf("%w: %d bytes are too few for its addresses", errProxyHeader, len(body))
	}
	if err := proxyExtras(fixed[:], body, addresses); err != nil {
		return from, false, err
	}
	switch fixed[13] {
	case 0x11:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:])), true, nil
	case 0x21:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])), binary.BigEndian.Uint16(body[32:])), true, nil
	}
	return from, false, nil
}

// proxyExtras walks the TLVs behind the addresses. They must be whole, and where
// there is a checksum it must be right; what else they say is not read.
func proxyExtras(fixed, body []byte, at int) error {
	summed := false
	for at < len(body) {
		if len(body)-at < 3 {
			return fmt.Errorf("%w: half a TLV", errProxyHeader)
		}
		kind, size := body[at], int(binary.BigEndian.Uint16(body[at+1:]))
		at += 3
		if size > len(body)-at {
			return fmt.Errorf("%w: a TLV longer than the header", errProxyHeader)
		}
		value := body[at : at+size]
		at += size
		if kind != proxyCRC32C {
			continue
		}
		if summed || size != 4 {
			return fmt.Errorf("%w: not one checksum of 4 bytes", errProxyHeader)
		}
		summed = true
		said := binary.BigEndian.Uint32(value)
		clear(value) // as it was when the sum was made
		table := crc32.MakeTable(crc32.Castagnoli)
		if sum := crc32.Update(crc32.Checksum(fixed, table), table, body); sum != said {
			return fmt.Errorf("%w: its checksum is wrong", errProxyHeader)
		}
	}
	return nil
}
