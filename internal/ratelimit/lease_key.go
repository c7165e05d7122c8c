package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
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
		var in, name string
		switch d {
		case byPrincipal:
			in, name = key.Issuer, key.Subject
		case byKey:
			in, name = key.Issuer, key.KeyID
		case byClient:
			in, name = key.Issuer, key.Client
		case byTenant:
			name = key.Tenant
		case byOperation:
			in, name = key.API, key.Operation
		case byNetwork:
			name = key.Network
		case byCountry:
			name = key.Country
		case byCustom:
			name = key.Custom
		case byASN:
			if key.ASN != 0 {
				name = strconv.FormatUint(uint64(key.ASN), 10)
			}
		case byAddress:
		}
		if name != "" {
			b = appendPart(appendPart(b, d, in), d, name)
			continue
		}
		a := key.Address.Unmap()
		raw, n := a.As16(), 16
		if a.Is6() {
			n = l.ipv6
		}
		b = append(append(b, byte(byAddress), byte(n)), raw[:n]...)
	}
	sum := sha256.Sum256(b)
	copy(out[:], sum[:])
	return out
}

// appendPart appends one part with its kind and length: what is joined cannot be
// taken for something else.
func appendPart(b []byte, d dimension, s string) []byte {
	return append(binary.AppendUvarint(append(b, byte(d)), uint64(len(s))), s...)
}
