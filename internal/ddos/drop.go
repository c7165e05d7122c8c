package ddos

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos/nft"
)

// A Kernel drops packets; *nft.Table is one.
type Kernel interface {
	Ban([]nft.Entry) error
	Lift([]netip.Prefix) error
}

const (
	dropEvery = 500 * time.Millisecond
	dropBatch = 1000
)

// A dropper has the kernel do what stands at accept.
type dropper struct {
	guard  *Guard
	kernel Kernel
	hops   func() []netip.Prefix
	except []netip.Prefix // hops at the last look
	allow  *set           // likewise, as all that follows
	rules  *rules
	known  [4]*set
	found  [4][]drop
	in     map[netip.Prefix]time.Time // the kernel's, and when they end there
}

// A drop is a ban for the kernel.
type drop struct {
	prefix netip.Prefix
	until  int64
}

// Drop has the kernel drop what comes from banned networks until ctx ends. A network
// in which there is somebody who may never be refused, of Allow or of hops, is left to
// accept, where addresses are told apart. Hops is asked at each look for who brings
// many callers now, such as trusted hops and the addresses of a CDN.
func (g *Guard) Drop(ctx context.Context, k Kernel, hops func() []netip.Prefix, log *slog.Logger) {
	d := &dropper{guard: g, kernel: k, hops: hops, in: map[netip.Prefix]time.Time{}}
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	down := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := d.look(now)
			if down != (err != nil) {
				if down = err != nil; down {
					log.Error("the kernel does not take a ban; it holds where connections are accepted", slog.Any("error", err))
				} else {
					log.Info("the kernel takes bans again")
				}
			}
		}
	}
}

func (d *dropper) look(now time.Time) error {
	want := d.wanted(now)
	var gone []netip.Prefix
	for p, until := range d.in {
		if now.After(until) {
			delete(d.in, p)
		} else if _, still := want[p]; !still {
			gone = append(gone, p)
		}
	}
	if len(gone) > 0 {
		if err := d.kernel.Lift(gone); err != nil {
			return err
		}
		for _, p := range gone {
			delete(d.in, p)
		}
	}
	var fresh []nft.Entry
	for p, life := range want {
		if _, has := d.in[p]; !has {
			fresh = append(fresh, nft.Entry{Prefix: p, For: min(life, nft.Longest)})
		}
	}
	for part := range slices.Chunk(fresh, dropBatch) {
		if err := d.kernel.Ban(part); err != nil {
			return err
		}
		for _, e := range part {
			d.in[e.Prefix] = now.Add(e.For + time.Second) // not before the kernel has forgotten it
		}
	}
	return nil
}

// wanted is what stands at accept now, and for how long.
func (d *dropper) wanted(now time.Time) map[netip.Prefix]time.Duration {
	s := d.guard.state.Load()
	sets := [4]*set{s.book, s.fleet, s.imported, s.ladder}
	if s.settings.Mode != Enforce {
		sets[1], sets[2], sets[3] = nil, nil, nil
	}
	if hops := d.hops(); s.allow != d.allow || s.rules != d.rules || !slices.Equal(hops, d.except) {
		d.except, d.allow, d.rules, d.known = hops, s.allow, s.rules, [4]*set{} // what was found is to be looked at again
	}
	out := map[netip.Prefix]time.Duration{}
	for i, at := range sets {
		if at == nil || at != d.known[i] {
			d.found[i] = d.dropsOf(at, s, i == 0)
			d.known[i] = at
		}
		for _, r := range d.found[i] {
			life := nft.Longest
			if r.until != 0 {
				if life = time.Duration(r.until-now.UnixMilli()) * time.Millisecond; life <= 0 {
					continue
				}
			}
			out[r.prefix] = max(out[r.prefix], life)
		}
	}
	return out
}

func (d *dropper) dropsOf(s *set, at *state, hand bool) (out []drop) {
	if s == nil {
		return nil
	}
	add := func(layers []layer, v4 bool) {
		for _, l := range layers {
			for hi, r := range l.at {
				p := source{hi, l.bits, v4}.prefix()
				if r.step == Ban && r.accept && d.may(p, at, hand) {
					out = append(out, drop{p, r.until})
				}
			}
		}
	}
	add(s.v4, true)
	add(s.v6, false)
	return out
}

// may reports whether nobody in p is one whom the kernel must not refuse.
func (d *dropper) may(p netip.Prefix, at *state, hand bool) bool {
	for _, list := range [2][]netip.Prefix{at.settings.Allow, d.except} {
		if slices.ContainsFunc(list, p.Overlaps) {
			return false
		}
	}
	if hand || at.rules == nil || at.rules.allow == nil {
		return true
	}
	if !p.IsSingleIP() {
		return false // somebody in it may be of a network that is allowed
	}
	_, allowed := at.rules.step(p.Addr())
	return !allowed
}
