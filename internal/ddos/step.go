package ddos

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// A Step is what is done about a source, from the strictest to none. The zero Step
// refuses.
type Step uint8

// The steps. Deny is a rule's of the operator and bears no argument; Ban comes of
// what the source did, and a caller with valid credentials passes it at the request
// where it does not stand at accept; Throttle and Challenge ask those only who have
// no credentials.
const (
	Deny Step = iota
	Ban
	Throttle
	Challenge
	Watch
	Pass
)

// String is the word of config, log and metrics.
func (s Step) String() string {
	switch s {
	case Ban:
		return "ban"
	case Throttle:
		return "throttle"
	case Challenge:
		return "challenge"
	case Watch:
		return "watch"
	case Pass:
		return "pass"
	case Deny:
	}
	return "deny"
}

// A ruling is what stands about one source; read-only but for its bucket.
type ruling struct {
	step   Step
	accept bool     // a connection is not even accepted
	until  int64    // Unix ms; 0: no end
	bucket *buckets // what passes all the same; nil at a ban: nothing, not even credentials
}

func (r *ruling) over(now int64) bool { return r.until != 0 && now >= r.until }

// A layer has the rulings about networks of one length.
type layer struct {
	mask uint64
	bits uint8
	at   map[uint64]*ruling
}

// A set is the rulings of one origin. It is never written again once it is in use;
// nil is empty. A look-up asks one map for each length of network in it.
type set struct {
	v4, v6 []layer
	n      int
}

// add may be used until the set is.
func (s *set) add(of source, r *ruling) {
	layers := &s.v6
	if of.v4 {
		layers = &s.v4
	}
	i := slices.IndexFunc(*layers, func(l layer) bool { return l.bits == of.bits })
	if i < 0 {
		i = len(*layers)
		*layers = append(*layers, layer{mask(of.bits), of.bits, map[uint64]*ruling{}})
	}
	if (*layers)[i].at[of.hi] == nil {
		s.n++
	}
	(*layers)[i].at[of.hi] = r
}

// orNil is s, or nil when it is empty.
func (s *set) orNil() *set {
	if s == nil || s.n == 0 {
		return nil
	}
	return s
}

// of finds the strictest ruling about an address; at asks for those at accept only.
func (s *set) of(hi uint64, v4 bool, now int64, at bool) (found *ruling) {
	if s == nil {
		return nil
	}
	layers := s.v6
	if v4 {
		layers = s.v4
	}
	for i := range layers {
		l := &layers[i]
		if r := l.at[hi&l.mask]; r != nil && (!at || r.accept) && !r.over(now) && (found == nil || r.step < found.step) {
			found = r
		}
	}
	return found
}

// bucket is that of the ruling about this very network; nil where there is none.
func (s *set) bucket(of source) *buckets {
	if s == nil {
		return nil
	}
	layers := s.v6
	if of.v4 {
		layers = s.v4
	}
	for i := range layers {
		if r := layers[i].at[of.hi]; layers[i].bits == of.bits && r != nil {
			return r.bucket
		}
	}
	return nil
}

// has reports whether a is in any network of s.
func (s *set) has(a netip.Addr) bool {
	hi, v4, ok := split(a)
	return ok && s.of(hi, v4, 0, false) != nil
}

// setOf is the set of networks in which nothing is done about anybody, or something.
func setOf(prefixes []netip.Prefix, r *ruling) *set {
	s := new(set)
	for _, p := range prefixes {
		if of, err := sourceOf(p); err == nil {
			s.add(of, r)
		}
	}
	return s.orNil()
}

// Buckets let some requests of a source through: those without credentials behind a
// throttle, and those with credentials nobody has checked yet behind a ban as well.
type buckets struct{ anonymous, uncertain bucket }

// A bucket lets some requests of a source through: GCRA in one word, of nanoseconds.
type bucket struct{ due atomic.Int64 }

// take asks for one token.
func (b *bucket) take(now int64, every time.Duration, burst int64) (wait time.Duration, ok bool) {
	step, room := int64(every), int64(every)*burst
	for {
		due := b.due.Load()
		from := max(now, min(due, now+room)) // not longer than this rate can owe
		if late := from + step - now - room; late > 0 {
			return time.Duration(late), false
		}
		if b.due.CompareAndSwap(due, from+step) {
			return 0, true
		}
	}
}

// give returns a token: what was asked for did no harm.
func (b *bucket) give(every time.Duration) { b.due.Add(-int64(every)) }
