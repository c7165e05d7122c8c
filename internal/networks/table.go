package networks

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// mostPrefixes bounds what a file of the wrong kind can take: the whole Internet
// is announced in about 1.3 million.
const mostPrefixes = 8 << 20

// halves gives the bits of a from the top; an IPv4 address, mapped or not, has 32.
func halves(a netip.Addr) (hi, lo uint64, four bool) {
	b := a.As16()
	if a.Is4() || a.Is4In6() {
		return uint64(binary.BigEndian.Uint32(b[12:])) << 32, 0, true
	}
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), false
}

// A table is the address space of one family cut into pieces of which the same is
// known. Piece n begins at (hi[n], lo[n]) and ends where the next one begins; the
// first begins at zero.
type table struct {
	hi, lo []uint64
	of     []uint32 // of piece n, in Set.of
	index  []uint32 // of the first piece that begins in this bucket or later; nil: there are few
	six    bool
}

const buckets = 1 << 16

// bucket is the coarse place of an address, in their order: the first 16 bits of
// IPv4, and those behind 2000::/3, where all of IPv6 is that is routed.
func (t *table) bucket(hi uint64) int {
	const routed = 0x2000 << 48
	switch {
	case !t.six:
		return int(hi >> 48)
	case hi < routed:
		return 0
	}
	return int(min((hi-routed)>>45, buckets-1))
}

// find gives what is known about the address.
func (t *table) find(hi, lo uint64) uint32 {
	from, to := 1, len(t.hi) // the first piece behind the address is within
	if t.index != nil {
		b := t.bucket(hi)
		from, to = int(t.index[b]), int(t.index[b+1])
	}
	for from < to {
		mid := int(uint(from+to) >> 1)
		if h := t.hi[mid]; h < hi || h == hi && t.lo[mid] <= lo {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return t.of[from-1]
}

func (t *table) seal() {
	const few = 256
	if len(t.hi) <= few {
		return
	}
	t.index = make([]uint32, buckets+1)
	next := 0
	for b := range t.index {
		for next < len(t.hi) && t.bucket(t.hi[next]) < b {
			next++
		}
		t.index[b] = uint32(next)
	}
	// The piece at zero is before every address: what finds it looks behind it.
	t.index[0] = 1
	t.index[buckets] = uint32(len(t.hi))
}

// An entry is one prefix and what is said about it.
type entry struct {
	hi, lo uint64
	value  uint32
	bits   uint8
	kind   kind
}

// last is the end of the prefix; of IPv4 all 96 bits that are not asked for are in it.
func (e entry) last() (hi, lo uint64) {
	if e.bits < 64 {
		return e.hi | ^uint64(0)>>e.bits, ^uint64(0)
	}
	return e.hi, e.lo | ^uint64(0)>>(e.bits-64)
}

// facts are what is known of a piece, as numbers, 0 for none. Of its lists it is the
// number of a nest.
type facts [kinds]uint32

// nests are the lists around a piece, from the narrowest prefix to the widest. Each
// different one is kept once.
type nests struct {
	all   [][]uint32 // numbers of lists; the first is empty
	known map[string]uint32
}

// within gives the nest of who is in the lists inner, of one prefix, and in those
// of outer around it.
func (n *nests) within(outer uint32, inner []uint32) uint32 {
	var nest []uint32
	var key []byte
	for _, l := range slices.Concat(inner, n.all[outer]) {
		if !slices.Contains(nest, l) {
			nest = append(nest, l)
			key = binary.BigEndian.AppendUint32(key, l)
		}
	}
	id, ok := n.known[string(key)]
	if !ok {
		id = uint32(len(n.all))
		n.known[string(key)], n.all = id, append(n.all, nest)
	}
	return id
}

// A builder collects prefixes.
type builder struct {
	v4, v6 []entry
}

func (b *builder) add(p netip.Prefix, k kind, value uint32) error {
	if len(b.v4)+len(b.v6) >= mostPrefixes {
		return fmt.Errorf("more than %d prefixes", mostPrefixes)
	}
	hi, lo, four := halves(p.Addr())
	e := entry{hi: hi, lo: lo, bits: uint8(p.Bits()), kind: k, value: value}
	if four {
		b.v4 = append(b.v4, e)
	} else {
		b.v6 = append(b.v6, e)
	}
	return nil
}

// build makes the tables of s.
func (b *builder) build(s *Set) {
	s.of, s.lists = []Of{{}}, [][]string{nil}
	known := map[facts]uint32{{}: 0}
	in := &nests{all: [][]uint32{nil}, known: map[string]uint32{}}
	var named [][]string // by nest
	names := func(nest uint32) []string {
		for n := len(named); n < len(in.all); n++ {
			var out []string
			for _, l := range in.all[n] {
				out = append(out, s.names[l-1])
			}
			named = append(named, out)
		}
		return named[nest]
	}
	number := func(f facts) uint32 {
		n, ok := known[f]
		if !ok {
			n = uint32(len(s.of))
			known[f] = n
			of := Of{ASN: f[kindASN]}
			lists := names(f[kindList])
			if len(lists) > 0 {
				of.List = lists[0]
			}
			if c := f[kindCountry]; c > 0 {
				of.Country = string([]byte{byte(c >> 8), byte(c)})
			}
			s.of, s.lists = append(s.of, of), append(s.lists, lists)
		}
		return n
	}
	s.v4, s.v6 = cutUp(b.v4, false, in, number), cutUp(b.v6, true, in, number)
	b.v4, b.v6 = nil, nil
}

// cutUp makes a table of prefixes, of which one lies within the other or beside it.
// The longer one counts, and of equal ones the first that was added; of lists all do,
// in this order.
func cutUp(in []entry, six bool, nests *nests, number func(facts) uint32) table {
	if order := func(x, y entry) int {
		return cmp.Or(cmp.Compare(x.hi, y.hi), cmp.Compare(x.lo, y.lo), cmp.Compare(x.bits, y.bits))
	}; !slices.IsSortedFunc(in, order) {
		slices.SortStableFunc(in, order)
	}
	t := table{hi: []uint64{0}, lo: []uint64{0}, of: []uint32{0}, six: six}
	begin := func(hi, lo uint64, f facts) {
		n, last := number(f), len(t.of)-1
		switch {
		case t.hi[last] == hi && t.lo[last] == lo:
			t.of[last] = n
			if last > 0 && t.of[last-1] == n { // as if nothing had begun here
				t.hi, t.lo, t.of = t.hi[:last], t.lo[:last], t.of[:last]
			}
		case t.of[last] != n:
			t.hi, t.lo, t.of = append(t.hi, hi), append(t.lo, lo), append(t.of, n)
		}
	}
	type open struct {
		hi, lo uint64 // its last address
		facts  facts
	}
	around := []open{{^uint64(0), ^uint64(0), facts{}}} // everything
	leave := func(until func(open) bool) {
		for len(around) > 1 && until(around[len(around)-1]) {
			o := around[len(around)-1]
			around = around[:len(around)-1]
			if hi, lo := o.hi, o.lo+1; lo != 0 {
				begin(hi, lo, around[len(around)-1].facts)
			} else if hi++; hi != 0 {
				begin(hi, lo, around[len(around)-1].facts)
			}
		}
	}
	var lists []uint32
	for n := 0; n < len(in); {
		e := in[n]
		leave(func(o open) bool { return o.hi < e.hi || o.hi == e.hi && o.lo < e.lo })
		f := around[len(around)-1].facts
		lists = lists[:0]
		var said [kinds]bool
		for ; n < len(in) && in[n].hi == e.hi && in[n].lo == e.lo && in[n].bits == e.bits; n++ {
			switch x := in[n]; {
			case x.kind == kindList:
				lists = append(lists, x.value)
			case !said[x.kind]:
				f[x.kind], said[x.kind] = x.value, x.value != 0
			}
		}
		if len(lists) > 0 {
			f[kindList] = nests.within(f[kindList], lists)
		}
		hi, lo := e.last()
		around = append(around, open{hi, lo, f})
		begin(e.hi, e.lo, f)
	}
	leave(func(open) bool { return true })
	t.seal()
	t.hi, t.lo, t.of = slices.Clip(t.hi), slices.Clip(t.lo), slices.Clip(t.of)
	return t
}
