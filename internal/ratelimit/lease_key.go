package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

var (
	errGrants    = errors.New("ratelimit: the engine answered something else than what it was asked")
	errUncounted = errors.New("neither the engine nor a lease in hand can count it; see the status of the gateway")
)

// digest names the key's count where several nodes look for it. It tells apart
// what [Limiter.hash] tells apart, but by SHA-256 and not by a hash keyed anew in
// each process. Who can read the engine can find out whether a key that he guesses
// is counted there.
func (l *Limit) digest(key *Key) (out [16]byte) {
	b := appendPart(make([]byte, 0, 512), 0, l.name)
	for _, d := range l.by {
		in, name := key.part(d)
		if name != "" {
			b = appendPart(appendPart(b, d, in), d, name)
			continue
		}
		b = appendAddress(b, key.Address, 16, l.ipv6)
	}
	sum := sha256.Sum256(b)
	copy(out[:], sum[:])
	return out
}

// part is what the key has of a dimension, by its text; "" for none, and for an
// address.
func (k *Key) part(d dimension) (in, name string) {
	switch d {
	case byPrincipal:
		return k.Issuer, k.Subject
	case byKey:
		return k.Issuer, k.KeyID
	case byClient:
		return k.Issuer, k.Client
	case byTenant:
		return "", k.Tenant
	case byOperation:
		return k.API, k.Operation
	case byNetwork:
		return "", k.Network
	case byCountry:
		return "", k.Country
	case byCustom:
		return "", k.Custom
	case byASN:
		if k.ASN != 0 {
			return "", strconv.FormatUint(uint64(k.ASN), 10)
		}
	case byAddress:
	}
	return "", ""
}

// A place is where keys come from that a caller can make as many of as he likes:
// who was authenticated, or else a network so wide that nobody has many of them.
// open is false of a key that somebody had to give out.
func (l *Limit) place(key *Key) (place [16]byte, open bool) {
	b := appendPart(make([]byte, 0, 256), 0xff, l.name)
	owned := false
	for _, d := range l.by {
		in, name := key.part(d)
		switch {
		case name == "" || d == byCustom:
			open = true
		case d == byPrincipal || d == byKey || d == byClient || d == byTenant:
			owned = true
			b = appendPart(appendPart(b, d, in), d, name)
		}
	}
	if !open {
		return place, false
	}
	if !owned {
		b = appendAddress(b, key.Address, 12+2, 4) // of IPv4 a /16, of IPv6 a /32
	}
	sum := sha256.Sum256(b)
	copy(place[:], sum[:])
	return place, true
}

// appendAddress appends the first bytes of an address: so many of an IPv6 one, and
// of an IPv4 one as it is mapped (RFC 4291 section 2.5.5.2), where 12 are the same
// for all.
func appendAddress(b []byte, a netip.Addr, mapped, six int) []byte {
	a = a.Unmap()
	raw, n := a.As16(), mapped
	if a.Is6() {
		n = six
	}
	return append(append(b, byte(byAddress), byte(n)), raw[:n]...)
}

// appendPart appends one part with its kind and length: what is joined cannot be
// taken for something else.
func appendPart(b []byte, d dimension, s string) []byte {
	return append(binary.AppendUvarint(append(b, byte(d)), uint64(len(s))), s...)
}
