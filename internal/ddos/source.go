package ddos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A source is whom traffic is counted for: an address or a network of them. Of an
// IPv6 address the first 64 bits count, which is the least a customer gets and all
// of it is free to use; an IPv4 address stands in the upper half of hi.
type source struct {
	hi   uint64
	bits uint8
	v4   bool
}

// ladderV4 and ladderV6 are the networks an address is counted for, the finest
// first: an address, its neighbours; a customer's network, site and provider.
var (
	ladderV4 = [...]uint8{32, 24}
	ladderV6 = [...]uint8{64, 56, 48}
)

// mostLevels is how many networks one address is counted for.
const mostLevels = 3

// coarser is how much more a network may do than an address, by its level.
var coarser = [2][mostLevels]float64{{1, 2, 4}, {1, 8, 8}}

// ladder lists the lengths of the networks s is one of, the finest first.
func (s source) ladder() []uint8 {
	if s.v4 {
		return ladderV4[:]
	}
	return ladderV6[:]
}

// split gives the bits of a that count; false for what is no address.
func split(a netip.Addr) (hi uint64, v4, ok bool) {
	switch {
	case a.Is4() || a.Is4In6():
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:])) << 32, true, true
	case a.Is6():
		b := a.As16()
		return binary.BigEndian.Uint64(b[:8]), false, true
	}
	return 0, false, false
}

// sources lists the networks of a, the finest first.
func sources(a netip.Addr) (list [mostLevels]source, n int) {
	hi, v4, ok := split(a)
	if !ok {
		return list, 0
	}
	ladder := source{v4: v4}.ladder()
	for i, bits := range ladder {
		list[i] = source{hi & mask(bits), bits, v4}
	}
	return list, len(ladder)
}

// mask has the first bits set.
func mask(bits uint8) uint64 { return ^uint64(0) << (64 - bits) }

// level is the place of s on its ladder, 0 for the finest; it must be on it.
func (s source) level() int { return slices.Index(s.ladder(), s.bits) }

// family indexes coarser.
func (s source) family() int {
	if s.v4 {
		return 1
	}
	return 0
}

// parent is the next coarser network, if there is one.
func (s source) parent() (source, bool) {
	ladder, level := s.ladder(), s.level()
	if level+1 == len(ladder) {
		return source{}, false
	}
	bits := ladder[level+1]
	return source{s.hi & mask(bits), bits, s.v4}, true
}

// holds reports whether other is s or a part of it.
func (s source) holds(other source) bool {
	return s.v4 == other.v4 && s.bits <= other.bits && other.hi&mask(s.bits) == s.hi
}

// vast reports whether s is so large that nobody means to shut it out.
func (s source) vast() bool { return s.v4 && s.bits < 8 || !s.v4 && s.bits < 16 }

func (s source) prefix() netip.Prefix {
	if s.v4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(s.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(s.bits))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.hi)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(s.bits))
}

// sourceOf makes a source of p. One finer than an IPv6 /64 becomes the /64.
func sourceOf(p netip.Prefix) (source, error) {
	a, bits := p.Addr(), p.Bits()
	if a.Is4In6() {
		if bits < 96 {
			return source{}, ErrPrefix
		}
		bits -= 96
	}
	hi, v4, ok := split(a)
	if !ok || bits < 0 {
		return source{}, ErrPrefix
	}
	bits = min(bits, 64)
	return source{hi & mask(uint8(bits)), uint8(bits), v4}, nil
}

// ErrPrefix is in the error of text that is neither.
var ErrPrefix = errors.New("not an address or a network like 192.0.2.0/24")

// ParsePrefix reads an address or a network, as operators and other programs write
// them. An IPv6 address stands for its /64, of which its owner has all.
func ParsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is %w", shorten(text), ErrPrefix)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	s, err := sourceOf(p)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is %w", shorten(text), err)
	}
	return s.prefix(), nil
}

func shorten(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
