package ddos

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// What is counted for each source, in quarters: see [Service].
const (
	countRequests = iota
	countRefused
	countCost // milliseconds of processor time
	countConns
	countShakes // those of the connections that cost a TLS handshake
	countKinds
)

const (
	sketchRows  = 4
	sketchWidth = 1 << 13 // cells of a row; four rows of 32 bytes are 1 MiB

	shelves    = 1 << 11
	shelfSlots = 8 // 16,384 candidates in all
)

// counts are the numbers of one source.
type counts [countKinds]float64

// A cell has the numbers of all sources that share it; 32 bytes, so that none lies
// on two cache lines.
type cell [8]atomic.Uint32

// A sketch is a count-min sketch with conservative update (Estan and Varghese 2002):
// what it says of a source is at least what came, and in bounded memory close to it
// for those that send much. Cells are chosen by a keyed hash: nobody can choose
// addresses that share the cells of another. Two updates of one source at the very
// same moment may count as one.
type sketch struct {
	rows [sketchRows][sketchWidth]cell
}

func (k *sketch) cells(h uint64) (at [sketchRows]*cell) {
	for r := range at {
		at[r] = &k.rows[r][h>>(16*r)&(sketchWidth-1)]
	}
	return at
}

// add counts n of a kind and returns the new estimate.
func (k *sketch) add(h uint64, kind int, n uint32) uint32 {
	at := k.cells(h)
	least, low := 0, at[0][kind].Load()
	for r := 1; r < sketchRows; r++ {
		if v := at[r][kind].Load(); v < low {
			least, low = r, v
		}
	}
	if low > 1<<31 {
		return low // a window never gets there; it must not wrap all the same
	}
	now := at[least][kind].Add(n)
	for r := range at {
		if r == least {
			continue
		}
		for c := &at[r][kind]; ; {
			v := c.Load()
			if v >= now || c.CompareAndSwap(v, now) {
				break
			}
		}
	}
	return now
}

func (k *sketch) of(h uint64) (out counts) {
	at := k.cells(h)
	for kind := range countKinds {
		low := at[0][kind].Load()
		for r := 1; r < sketchRows; r++ {
			low = min(low, at[r][kind].Load())
		}
		out[kind] = float64(low)
	}
	return out
}

func (k *sketch) reset() {
	for r := range k.rows {
		for i := range k.rows[r] {
			for kind := range countKinds {
				k.rows[r][i][kind].Store(0)
			}
		}
	}
}

// A shelf holds sources that sent enough to be looked at.
type shelf struct {
	prints [shelfSlots]atomic.Uint64 // their hashes; 0: free
	mu     sync.Mutex                // held to put one in, never to count
	of     [shelfSlots]source
}

// A census counts sources over a sliding window: the part that is under way, and of
// the one before what still counts. Its memory is fixed, whoever sends what.
type census struct {
	seed   maphash.Seed
	window time.Duration
	now    atomic.Pointer[sketch]
	before atomic.Pointer[sketch]
	spare  *sketch
	turned time.Time // when now began; of the one who turns

	shelves [shelves]shelf

	pardons map[source]pardon // of the one who turns, too
}

// A pardon is what had been counted of a source when it was forgiven.
type pardon struct{ now, before counts }

func newCensus(window time.Duration) *census {
	c := &census{seed: maphash.MakeSeed(), window: window, spare: new(sketch), pardons: map[source]pardon{}}
	c.now.Store(new(sketch))
	c.before.Store(new(sketch))
	return c
}

// hash is keyed anew in each process.
func (c *census) hash(s source) uint64 {
	return max(1, maphash.Comparable(c.seed, s))
}

// note makes s a candidate. On a full shelf the one that sent least gives way.
func (c *census) note(s source, h uint64) {
	b := &c.shelves[h>>53%shelves]
	for i := range b.prints {
		if b.prints[i].Load() == h {
			return
		}
	}
	k := c.now.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	at, low := -1, k.of(h).weight()
	for i := range b.prints {
		p := b.prints[i].Load()
		if p == h {
			return
		}
		w := -1.0
		if p != 0 {
			w = k.of(p).weight()
		}
		if w < low {
			at, low = i, w
		}
	}
	if at >= 0 {
		b.of[at] = s
		b.prints[at].Store(h)
	}
}

// weight orders sources that compete for a place.
func (n counts) weight() float64 {
	return n[countRequests] + 10*n[countRefused] + n[countCost]/10 + 4*n[countConns]
}

// turn begins a new part of the window when the one under way is over. Only one
// goroutine may call it.
func (c *census) turn(now time.Time) {
	if now.Sub(c.turned) < c.window {
		return
	}
	c.turned = now
	c.spare.reset() // not before: who counted a moment ago may still hold it
	old := c.before.Swap(c.now.Swap(c.spare))
	c.spare = old
	for i := range c.shelves {
		b := &c.shelves[i]
		b.mu.Lock()
		for j := range b.prints {
			if h := b.prints[j].Load(); h != 0 && c.before.Load().of(h).weight() == 0 && c.now.Load().of(h).weight() == 0 {
				b.prints[j].Store(0)
			}
		}
		b.mu.Unlock()
	}
	for s, p := range c.pardons {
		if p.before = p.now; p.before == (counts{}) {
			delete(c.pardons, s)
			continue
		}
		p.now = counts{}
		c.pardons[s] = p
	}
}

// rates gives what s does in a second, and was not forgiven.
func (c *census) rates(s source, h uint64, now time.Time) (out counts) {
	part := 1 - min(1, max(0, now.Sub(c.turned).Seconds()/c.window.Seconds()))
	a, b, p := c.now.Load().of(h), c.before.Load().of(h), c.pardons[s]
	for i := range out {
		out[i] = (max(0, a[i]-p.now[i]) + part*max(0, b[i]-p.before[i])) / quarters / c.window.Seconds()
	}
	return out
}

// forgive has what was counted of s and of parts of it count no longer, nor as a part
// of networks s is in. The cells stay as they are: others share them.
func (c *census) forgive(s source) {
	found := map[source]pardon{}
	take := func(of source, h uint64) {
		found[of] = pardon{c.now.Load().of(h), c.before.Load().of(h)}
	}
	take(s, c.hash(s))
	for i := range c.shelves {
		b := &c.shelves[i]
		b.mu.Lock()
		for j := range b.prints {
			if h := b.prints[j].Load(); h != 0 && s.holds(b.of[j]) {
				take(b.of[j], h)
			}
		}
		b.mu.Unlock()
	}
	for of, p := range found {
		fresh := p.without(c.pardons[of])
		for up, ok := of.parent(); ok; up, ok = up.parent() {
			if _, counted := found[up]; counted {
				break // with it
			}
			if !s.holds(up) {
				c.pardons[up] = c.pardons[up].with(fresh)
			}
		}
	}
	maps.Copy(c.pardons, found)
}

func (p pardon) with(other pardon) pardon {
	for i := range p.now {
		p.now[i] += other.now[i]
		p.before[i] += other.before[i]
	}
	return p
}

func (p pardon) without(other pardon) pardon {
	for i := range p.now {
		p.now[i] = max(0, p.now[i]-other.now[i])
		p.before[i] = max(0, p.before[i]-other.before[i])
	}
	return p
}

// A heavy is a candidate with its rates.
type heavy struct {
	source

	rates counts
}

// candidates appends those there are to out.
func (c *census) candidates(out []heavy, now time.Time) []heavy {
	for i := range c.shelves {
		b := &c.shelves[i]
		b.mu.Lock()
		for j := range b.prints {
			if h := b.prints[j].Load(); h != 0 {
				out = append(out, heavy{b.of[j], c.rates(b.of[j], h, now)})
			}
		}
		b.mu.Unlock()
	}
	return out
}
