package config

import (
	"net/netip"
	"slices"
	"strings"
)

// A ProxyProtocol says who announces callers by the PROXY protocol.
type ProxyProtocol struct {
	From  []netip.Prefix `yaml:"from" required:"true" min:"1" max:"256" doc:"Networks of the proxies. Each of their connections must begin with a header of version 1 or 2, and nobody else may connect."`
	Place Place          `yaml:"-"`
}

// An Edge is a CDN in front of a listener.
type Edge struct {
	Profile           string           `yaml:"profile" required:"true" enum:"cloudflare fastly cloudfront generic" doc:"Which CDN it is: its address ranges and its header. generic: any that appends to X-Forwarded-For."`
	Ranges            *Path            `yaml:"ranges" doc:"File with the addresses it connects from: a network on each line, or the JSON that Fastly and AWS publish. Read again when it changes. Default: the profile's own list, which cloudfront and generic do not have."`
	AddressHeader     string           `yaml:"address_header" format:"header" doc:"Header with the caller's address alone, or X-Forwarded-For. Default: the profile's."`
	ClientCertificate *EdgeCertificate `yaml:"client_certificate" doc:"It proves itself by a client certificate (authenticated origin pull)."`
	Secret            *EdgeSecret      `yaml:"secret" doc:"It proves itself by a header that it adds to each request. With client_certificate, too, both are asked for."`
	Place             Place            `yaml:"-"`
}

// An EdgeCertificate is who signs the client certificate of an [Edge].
type EdgeCertificate struct {
	CA    Path  `yaml:"ca" required:"true" doc:"PEM file with the CA certificates that sign it, read at the start. A CA that signs for all customers of the CDN proves the CDN, not that the request is yours."`
	Place Place `yaml:"-"`
}

// An EdgeSecret is what an [Edge] shows in each request.
type EdgeSecret struct {
	Header   string  `yaml:"header" required:"true" format:"header" doc:"Header in which it is."`
	Value    *Secret `yaml:"value" required:"true" doc:"What it is, of at least 16 bytes."`
	Previous *Secret `yaml:"previous" doc:"What it was: taken as well while the CDN is changed over."`
	Place    Place   `yaml:"-"`
}

// takenHeaders are those that mean something else.
const takenHeaders = " host content-length content-type transfer-encoding connection authorization cookie x-forwarded-for forwarded "

func (c *checker) edge(l *Listener) {
	if p := l.ProxyProtocol; p != nil && slices.ContainsFunc(p.From, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		c.errorf(p.Place, "listeners: %s: proxy_protocol.from: everybody could say to be anybody", l.Address)
	}
	e := l.Edge
	if e == nil {
		return
	}
	if e.Ranges == nil && (e.Profile == "cloudfront" || e.Profile == "generic") {
		c.errorf(e.Place, "listeners: %s: edge %s has no list of its own; give ranges: the file with its addresses", l.Address, e.Profile)
	}
	if e.ClientCertificate == nil && e.Secret == nil {
		c.errorf(e.Place, "listeners: %s: edge needs client_certificate or secret; anybody can rent an address of a CDN", l.Address)
	}
	if l.ClientCertificates != nil {
		c.errorf(l.ClientCertificates.Place, "listeners: %s: behind an edge callers' certificates do not arrive; leave client_certificates out", l.Address)
	}
	if e.ClientCertificate != nil && l.Plaintext != "" {
		c.errorf(e.ClientCertificate.Place, "listeners: %s: edge.client_certificate needs tls", l.Address)
	}
	if len(l.TrustedHops) > 0 {
		c.errorf(e.Place, "listeners: %s: behind an edge nobody else is believed; leave trusted_hops out", l.Address)
	}
	s := e.Secret
	if s == nil {
		return
	}
	if strings.Contains(takenHeaders, " "+strings.ToLower(s.Header)+" ") || strings.EqualFold(s.Header, e.AddressHeader) {
		c.errorf(s.Place, "listeners: %s: edge.secret.header: %s means something else; choose one of your own", l.Address, s.Header)
	}
	for _, v := range []*Secret{s.Value, s.Previous} {
		if v != nil && len(v.Reveal()) < 16 {
			c.errorf(v.Place, "listeners: %s: edge.secret: fewer than 16 bytes can be guessed", l.Address)
		}
	}
}

// edges are the edges in front of listeners.
func (f *File) edges() (out []*Edge) {
	for i := range f.Listeners {
		out = append(out, f.Listeners[i].Edge)
	}
	return out
}

// sameFront compares what stands in front of two listeners and cannot change while
// they are open.
func sameFront(x, y *Listener) bool {
	if (x.ProxyProtocol == nil) != (y.ProxyProtocol == nil) || (x.Edge == nil) != (y.Edge == nil) {
		return false
	}
	if x.ProxyProtocol != nil && !slices.Equal(x.ProxyProtocol.From, y.ProxyProtocol.From) {
		return false
	}
	if x.Edge == nil {
		return true
	}
	a, b := x.Edge.ClientCertificate, y.Edge.ClientCertificate
	return (a == nil) == (b == nil) && (a == nil || a.CA.Value == b.CA.Value)
}
