package plan

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// loadNetworks reads what the config knows about addresses. What the files hold
// is part of the config: it is in its digest, and a change of theirs is one of it.
func (p *Plan) loadNetworks(sum io.Writer) error {
	in := &p.File.Networks
	c := networks.Config{ASN: in.ASN.Name(), Country: in.Country.Name()}
	for _, name := range slices.Sorted(maps.Keys(in.Lists)) {
		l := in.Lists[name]
		c.Lists = append(c.Lists, networks.List{Name: name, Prefixes: l.Prefixes, File: l.File.Name()})
	}
	if len(c.Lists) == 0 && c.ASN == "" && c.Country == "" {
		return nil
	}
	for _, file := range []string{c.ASN, c.Country} {
		p.watch(file)
	}
	for _, l := range c.Lists {
		p.watch(l.File)
	}
	set, err := networks.Load(c)
	if err != nil {
		return config.Errorf(in.Place, "%v", err)
	}
	_, err = io.WriteString(sum, set.Digest())
	p.Snapshot.Networks = set
	return err
}

// watch has the plan made again when the file changes.
func (p *Plan) watch(file string) {
	if file != "" && !slices.Contains(p.Watch, file) {
		p.Watch = append(p.Watch, file)
	}
}

// loadEdges makes the edges in front of listeners.
func (p *Plan) loadEdges(sum io.Writer) error {
	var errs []error
	for i := range p.File.Listeners {
		if l := &p.File.Listeners[i]; l.Edge != nil {
			errs = append(errs, p.loadEdge(sum, l))
		}
	}
	return errors.Join(errs...)
}

func (p *Plan) loadEdge(sum io.Writer, l *config.Listener) error {
	e := l.Edge
	cdn, _ := networks.Profile(e.Profile)
	c := gateway.EdgeConfig{Ranges: cdn.Ranges, Header: cdn.Header, Port: cdn.Port, Certificate: e.ClientCertificate != nil}
	if e.Ranges != nil {
		p.watch(e.Ranges.Value)
		own, err := networks.ReadRanges(e.Ranges.Value)
		if err != nil {
			return config.Errorf(e.Ranges.Place, "listeners: %s: edge.ranges: %v", l.Address, err)
		}
		c.Ranges = own
		_, _ = fmt.Fprint(sum, own) // a hash takes everything
	}
	if e.AddressHeader != "" {
		c.Header, c.Port = e.AddressHeader, cdn.Port && strings.EqualFold(e.AddressHeader, cdn.Header)
	} else if e.Profile == "fastly" {
		p.warn(e.Place.String(), "edge_header", "listeners: %s: Fastly passes on the %s that a caller sent, unless your service sets it; when it does, write address_header: %s", l.Address, c.Header, c.Header)
	}
	if s := e.Secret; s != nil {
		c.SecretIn, c.Secrets = s.Header, []gatehouse.Secret{s.Value.Secret}
		p.watch(s.Value.File)
		if s.Previous != nil {
			c.Secrets = append(c.Secrets, s.Previous.Secret)
			p.watch(s.Previous.File)
		}
		if l.Plaintext != "" && l.ProxyProtocol == nil {
			p.warn(s.Place.String(), "edge_plaintext", "listeners: %s: the edge's secret comes in the clear, and who reads it on the way can show it, too; leave plaintext out", l.Address)
		}
	}
	edge, err := gateway.NewEdge(c)
	if err != nil {
		return config.Errorf(e.Place, "listeners: %s: %v", l.Address, err)
	}
	if p.Snapshot.Edges == nil {
		p.Snapshot.Edges = map[string]*gateway.Edge{}
	}
	if p.Snapshot.Edges[EdgeName(l)] != nil {
		return config.Errorf(e.Place, "listeners: %s: two listeners of one address cannot each have an edge", l.Address)
	}
	p.Snapshot.Edges[EdgeName(l)] = edge
	return nil
}

// EdgeName is the name of l's edge in a snapshot.
func EdgeName(l *config.Listener) string { return l.Address }

// Hops lists who speaks for many callers at some listener for as long as it is open:
// trusted hops, and proxies that announce them. Edges are the snapshot's.
func (p *Plan) Hops() (out []netip.Prefix) {
	for i := range p.File.Listeners {
		l := &p.File.Listeners[i]
		out = append(out, l.TrustedHops...)
		if l.ProxyProtocol != nil {
			out = append(out, l.ProxyProtocol.From...)
		}
	}
	return out
}
