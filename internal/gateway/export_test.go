package gateway

import (
	"net/http"
	"net/netip"
	"sync"
)

// Forward is the last step of a request alone: it carries x to one of the services
// and the answer to w, as carry does for an exchange.
func (u *Upstreams) Forward(w http.ResponseWriter, x *Outbound) (Result, error) {
	f := flights.Get().(*flight)
	f.w, f.x = w, x
	f.buf, _ = x.computed.make(x, f.buf[:0])
	err := u.carry(f)
	res := f.res
	*f = flight{buf: f.spare(), fields: f.fields[:0]}
	if !poisoned {
		flights.Put(f)
	}
	return res, err
}

var flights = sync.Pool{New: func() any { return new(flight) }}

// NewUpstreams are the services of cfg alone.
func NewUpstreams(cfg UpstreamConfig, minter Minter) (*Upstreams, error) {
	return NewPools(minter).Acquire(cfg)
}

// ClientAddr is the address of r's caller.
func (t *Trust) ClientAddr(r *http.Request) netip.Addr {
	address, _, _ := t.caller(r)
	return address
}

// Proto is what r's caller speaks.
func (t *Trust) Proto(r *http.Request) string {
	_, _, proto := t.caller(r)
	return proto
}

// Caller is the address of r's caller, and what it speaks.
func (e *Edge) Caller(r *http.Request) (netip.Addr, string, error) {
	address, text, proto, err := e.caller(r)
	if text != address.String() {
		panic("two texts of one address: " + text)
	}
	return address, proto, err
}
