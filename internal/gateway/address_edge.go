package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// An EdgeConfig says how the CDN in front of a listener proves itself, and where
// it writes who the caller is.
type EdgeConfig struct {
	Ranges      []netip.Prefix     // where it connects from
	Header      string             // with the caller's address; of X-Forwarded-For and Forwarded the rightmost that is not in Ranges
	Port        bool               // it always ends in a colon and a port, also behind IPv6 without brackets
	Certificate bool               // its client certificate is verified in the handshake: a request without one is none of its
	SecretIn    string             // header in which it shows a secret; "": in none
	Secrets     []gatehouse.Secret // of which any will do
}

// An Edge is a CDN in front of a listener. Its addresses alone prove nothing:
// anybody may rent a place behind them, and have requests sent to us with headers
// of their own choice. So it proves itself in each request, by a certificate, a
// secret, or both. What comes from elsewhere is refused before anything is matched,
// and the service behind us cannot be told from one that is not there.
type Edge struct {
	cfg   EdgeConfig
	from  *networks.Set
	trust *Trust // of headers that are walked through; nil: the header has one address
}

// NewEdge checks c. An edge without ranges or without a proof is an error.
func NewEdge(c EdgeConfig) (*Edge, error) {
	c.Header, c.SecretIn = textproto.CanonicalMIMEHeaderKey(c.Header), textproto.CanonicalMIMEHeaderKey(c.SecretIn)
	switch {
	case len(c.Ranges) == 0:
		return nil, errors.New("edge: without ranges nobody could connect")
	case c.Header == "":
		return nil, errors.New("edge: no header tells the caller's address")
	case c.SecretIn == "" && !c.Certificate || (c.SecretIn == "") != (len(c.Secrets) == 0):
		return nil, errors.New("edge: it needs a proof: a client certificate, or a secret and its header")
	}
	for _, s := range c.Secrets {
		if s.Empty() {
			return nil, errors.New("edge: an empty secret proves nothing")
		}
	}
	for _, p := range c.Ranges {
		if p.Bits() == 0 {
			return nil, fmt.Errorf("edge: %s is everybody", p)
		}
	}
	e := &Edge{cfg: c}
	var err error
	if e.from, err = setOf(c.Ranges); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if c.Header == "X-Forwarded-For" || c.Header == "Forwarded" {
		e.trust = &Trust{header: c.Header, hops: e.from}
	}
	return e, nil
}

// From reports whether a is one of the edge's addresses.
func (e *Edge) From(a netip.Addr) bool { return e != nil && contains(e.from, a) }

// EdgeRanges lists the addresses of all edges, in the order of their names.
func (s *Snapshot) EdgeRanges() (out []netip.Prefix) {
	if s == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.Edges)) {
		out = append(out, s.Edges[name].cfg.Ranges...)
	}
	return out
}

// notFromEdge is what everybody gets whom the edge did not send; why is for the record.
func notFromEdge(why string) error {
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "not_from_edge", Err: errors.New(why)}
}

// caller is [Trust.caller] of a request that must have come from the edge. With an
// error the address is the peer's. What proves the edge is taken out of r: no check
// after this one, no record and no service sees it, and nobody takes the edge's
// certificate for the caller's.
func (e *Edge) caller(r *http.Request) (address netip.Addr, text, proto string, err error) {
	address, text, proto = (*Trust)(nil).caller(r)
	if e == nil {
		return address, text, proto, notFromEdge("no edge is configured for this listener")
	}
	proven := true
	if e.cfg.Certificate {
		proven = r.TLS != nil && r.TLS.HandshakeComplete && len(r.TLS.VerifiedChains) > 0
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		hidden := *r.TLS
		hidden.PeerCertificates, hidden.VerifiedChains = nil, nil
		r.TLS = &hidden
	}
	shown := r.Header[e.cfg.SecretIn]
	said := r.Header[e.cfg.Header]
	delete(r.Header, e.cfg.SecretIn)
	if e.trust == nil {
		delete(r.Header, e.cfg.Header)
	}
	switch {
	case !e.From(address):
		return address, text, proto, notFromEdge("the peer is none of the edge's addresses")
	case !proven:
		return address, text, proto, notFromEdge("the peer has no certificate of the edge")
	case e.cfg.SecretIn != "" && !e.knows(shown):
		return address, text, proto, notFromEdge("the request does not show the edge's secret")
	}
	if e.trust != nil {
		caller := e.trust.walk(r, address)
		if e.From(caller) { // it named nobody, or wrote what is no address
			return address, text, proto, notFromEdge("the edge does not say who the caller is")
		}
		return caller, caller.String(), e.trust.said(r, proto), nil
	}
	caller, ok := e.single(said)
	if !ok {
		return address, text, proto, notFromEdge("the edge does not say who the caller is")
	}
	return caller, caller.String(), byForwardedProto.said(r, proto), nil
}

// byForwardedProto reads X-Forwarded-Proto, which every edge writes.
var byForwardedProto = &Trust{header: "X-Forwarded-For"}

// knows compares what is shown with each secret, all of them, in constant time.
func (e *Edge) knows(shown []string) bool {
	if len(shown) != 1 {
		return false
	}
	ok := false
	for _, s := range e.cfg.Secrets {
		if s.Equal(shown[0]) {
			ok = true
		}
	}
	return ok
}

// single reads the address of a header that has exactly one.
func (e *Edge) single(said []string) (netip.Addr, bool) {
	if len(said) != 1 {
		return netip.Addr{}, false
	}
	node := said[0]
	if e.cfg.Port {
		colon := strings.LastIndexByte(node, ':')
		if colon < 0 {
			return netip.Addr{}, false
		}
		node = strings.Trim(node[:colon], "[]")
	}
	return parseNode(node)
}

// OnEdge makes the handler of a listener behind the edge that the snapshot has
// under this name. As long as it has none every request is refused.
func (g *Gateway) OnEdge(name string) *Entry { return &Entry{g: g, edge: name} }

// From reports whether a may connect to the entry: everybody, or the addresses of
// the edge.
func (e *Entry) From(a netip.Addr) bool { return e.edge == "" || e.g.Current().edgeOf(e.edge).From(a) }

// Trusts reports whether a speaks for many callers.
func (e *Entry) Trusts(a netip.Addr) bool {
	if e.edge != "" {
		return e.From(a)
	}
	return e.trust.Trusts(a)
}

// caller finds who sent r; see [Trust.caller] and [Edge.caller].
func (e *Entry) caller(r *http.Request, s *Snapshot) (address netip.Addr, text, proto string, err error) {
	if e.edge != "" {
		return s.edgeOf(e.edge).caller(r)
	}
	address, text, proto = e.trust.caller(r)
	return address, text, proto, nil
}

func (s *Snapshot) edgeOf(name string) *Edge {
	if s == nil {
		return nil
	}
	return s.Edges[name]
}

// KeepEdges takes over from the snapshot before what listeners that are open cannot
// change: that there is an edge in front of them, and whether they ask it for a
// certificate. Its ranges, header and secrets are new with the snapshot.
func (s *Snapshot) KeepEdges(before *Snapshot) {
	if before == nil {
		return
	}
	for name, old := range before.Edges {
		if e := s.Edges[name]; e == nil || e.cfg.Certificate != old.cfg.Certificate {
			if s.Edges == nil {
				s.Edges = map[string]*Edge{}
			}
			s.Edges[name] = old
		}
	}
}
