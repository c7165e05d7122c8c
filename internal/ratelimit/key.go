package ratelimit

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
)

// A dimension is one of the things a limit counts by.
type dimension uint8

const (
	byAddress   dimension = iota + 1 // the IPv4 address, or the network of an IPv6 one
	byPrincipal                      // issuer and subject
	byKey                            // API key or client certificate
	byClient                         // OAuth client, within its issuer
	byTenant
	byOperation // API and operation
	byNetwork   // the operator's list the address is in
	byASN       // the autonomous system that announces the address
	byCountry
	byCustom // what an expression gave
)

// names are the dimensions as a [Spec] has them.
var names = [...]string{
	byAddress: "address", byPrincipal: "principal", byKey: "key", byClient: "client", byTenant: "tenant", byOperation: "operation",
	byNetwork: "network", byASN: "asn", byCountry: "country", byCustom: "custom",
}

func parseBy(by string) ([]dimension, error) {
	if by == "all" {
		return nil, nil
	}
	var out []dimension
	for part := range strings.SplitSeq(by, "+") {
		n := slices.Index(names[1:], part)
		if n < 0 {
			return nil, fmt.Errorf("cannot count by %q: expected %s, several joined by +, or all", part, strings.Join(names[1:], ", "))
		}
		d := dimension(n + 1)
		if slices.Contains(out, d) {
			return nil, fmt.Errorf("counts by %q twice", part)
		}
		out = append(out, d)
	}
	return out, nil
}

// Counts reports whether one of the things the limit counts by is this one.
func (l *Limit) Counts(by string) bool {
	return slices.ContainsFunc(l.by, func(d dimension) bool { return names[d] == by })
}

// NeedsPrincipal reports whether the limit can be taken only after
// authentication.
func (l *Limit) NeedsPrincipal() bool {
	return slices.ContainsFunc(l.by, func(d dimension) bool {
		return d == byPrincipal || d == byKey || d == byClient || d == byTenant
	})
}

// NeedsNetwork reports whether somebody must look up what network the address is
// in.
func (l *Limit) NeedsNetwork() bool {
	return slices.ContainsFunc(l.by, func(d dimension) bool { return d == byNetwork || d == byASN || d == byCountry })
}

// A Key says who is asking; fill what is known. Strings are compared whole,
// never joined.
type Key struct {
	Address        netip.Addr
	Issuer         string
	Subject        string
	KeyID          string
	Client         string
	Tenant         string
	API, Operation string
	Network        string // name of the list the address is in
	Country        string // ISO 3166-1 alpha-2
	ASN            uint32 // 0: unknown
	Custom         string // what the limit's own expression gave; "": nothing
}

// KeyOf collects what is known of a request. p and op may be nil.
func KeyOf(address netip.Addr, p *gatehouse.Principal, op *gatehouse.Operation) Key {
	k := Key{Address: address}
	if p != nil {
		k.Issuer, k.Subject, k.KeyID, k.Client, k.Tenant = p.Issuer, p.Subject, p.KeyID, p.Client, p.Tenant
	}
	if op != nil {
		k.API, k.Operation = op.API, op.ID
	}
	return k
}

// hash names the key's count: the limit's name and each dimension in turn, in
// two keyed 64-bit hashes. Only what a caller can choose needs the key. The
// second result is false if nothing tells who is asking.
func (l *Limiter) hash(limit *Limit, key *Key) (h [2]uint64, ok bool) {
	h = limit.id
	for _, d := range limit.by {
		if d == byASN && key.ASN != 0 { // nobody chooses one, so it needs no key
			h = mark(h, d)
			h = [2]uint64{mix(h[0], uint64(key.ASN)), mix(h[1], uint64(key.ASN))}
			continue
		}
		in, name := key.part(d)
		if d == byOperation && name == "" {
			return h, false
		}
		// Who lacks a name is counted by address, under a mark of its own: an
		// anonymous caller is not the principal whose name is that address.
		if name == "" {
			if !key.Address.IsValid() {
				return h, false
			}
			h = l.foldAddress(mark(h, byAddress), key.Address, limit.ipv6)
			continue
		}
		h = mark(h, d)
		if in != "" {
			h = mark(l.fold(h, in), 0)
		}
		h = l.fold(h, name)
	}
	return h, true
}

func mark(h [2]uint64, d dimension) [2]uint64 {
	return [2]uint64{mix(h[0], uint64(d)+1), mix(h[1], uint64(d)+1)}
}

func (l *Limiter) fold(h [2]uint64, s string) [2]uint64 {
	h[0] = mix(h[0], maphash.String(l.seed[0], s))
	h[1] = mix(h[1], maphash.String(l.seed[1], s))
	return h
}

// foldAddress counts an IPv6 network as one caller: whoever has a /64 has all its
// 2^64 addresses, and some are given a /56 or a /48.
func (l *Limiter) foldAddress(h [2]uint64, a netip.Addr, ipv6 int) [2]uint64 {
	a = a.Unmap()
	b := a.As16()
	n := 16
	if a.Is6() {
		n = ipv6
	}
	h[0] = mix(h[0], maphash.Bytes(l.seed[0], b[:n]))
	h[1] = mix(h[1], maphash.Bytes(l.seed[1], b[:n]))
	return h
}

// mix makes the order of what is folded count.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b|1)
	return hi ^ lo ^ b
}
