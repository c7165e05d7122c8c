package monitor

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Counters that all processors add to are memory that all of them wait for: with
// two, an event costs twice as much as with one, with sixteen far more. So each
// processor counts in a seat of its own, as far as sync.Pool can tell processors
// apart, and whoever reads the metrics adds the seats up.
type seats struct {
	all    []seat
	places sync.Pool // of *int
	taken  atomic.Uint32
}

// A seat's lock guards the tallies at its place in every series.
type seat struct {
	mu    sync.Mutex
	ended int64 // of the requests begun, wherever they began; guarded by mu
	begun atomic.Int64
	_     [104]byte // its neighbour is another processor's
}

const maxSeats = 64

func newSeats() *seats {
	s := &seats{all: make([]seat, min(2*runtime.GOMAXPROCS(0), maxSeats))} // more than needed: two rarely meet in one
	s.places.New = func() any { n := int(s.taken.Add(1)) % len(s.all); return &n }
	return s
}

// mine gives the place of this processor.
func (s *seats) mine() int {
	place := s.places.Get().(*int) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	n := *place
	s.places.Put(place)
	return n
}

// inFlight gives how many requests have begun and not ended.
func (s *seats) inFlight() (n int64) {
	for i := range s.all { // ends first: a request that ends meanwhile may count as running, not as minus one
		s.all[i].mu.Lock()
		n -= s.all[i].ended
		s.all[i].mu.Unlock()
	}
	for i := range s.all {
		n += s.all[i].begun.Load()
	}
	return n
}

// An operationTally is what one seat counted for one operation.
type operationTally struct {
	status  [6]uint64 // by class; 0 is a status that is none
	seconds histogram
}

func (t *operationTally) add(from *operationTally) {
	for i := range t.status {
		t.status[i] += from.status[i]
	}
	t.seconds.add(&from.seconds)
}

// An apiTally is what one seat counted for one API.
type apiTally struct {
	overhead                 histogram
	received, sent, reported uint64
	cached                   [len(cacheResults)]uint64 // by what became of it
}

func (t *apiTally) add(from *apiTally) {
	t.overhead.add(&from.overhead)
	for i := range t.cached {
		t.cached[i] += from.cached[i]
	}
	t.received += from.received
	t.sent += from.sent
	t.reported += from.reported
}

// bounds are the upper ends of a histogram's classic buckets.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Of the native histogram (Prometheus' schema 3) eight buckets double the time. A
// duration of 1 ns is in octave -30 of a second, the longest in octave 33; what
// doubling a histogram was never in takes no memory.
const (
	schema    = 3
	perOctave = 1 << schema
	octaves   = 66
	firstOct  = -31
	maxNative = 160 // buckets on a page; with more, half as many doublings are shown apart
)

// octave are the bounds within a doubling, as fractions of its end (2^(i/8-1)).
var octave = func() (b [perOctave]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/perOctave - 1)
	}
	return b
}()

// A histogram holds durations, in classic and native buckets.
type histogram struct {
	count   uint64
	sum     time.Duration
	zero    uint64
	classic [len(bounds)]uint64 // those beyond the last bound are in count alone
	native  [octaves]*[perOctave]uint64
}

func (h *histogram) observe(d time.Duration) {
	h.count++
	if d <= 0 {
		h.zero++
		h.classic[0]++
		return
	}
	h.sum += d
	at := 0
	for at < len(bounds) && d > bounds[at] {
		at++
	}
	if at < len(bounds) {
		h.classic[at]++
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := 0
	for i < perOctave && fraction > octave[i] {
		i++
	}
	key := (exponent-1-firstOct)*perOctave + i
	cells := h.native[key/perOctave]
	if cells == nil {
		cells = new([perOctave]uint64)
		h.native[key/perOctave] = cells
	}
	cells[key%perOctave]++
}

func (h *histogram) add(from *histogram) {
	h.count += from.count
	h.sum += from.sum
	h.zero += from.zero
	for i := range h.classic {
		h.classic[i] += from.classic[i]
	}
	for i, cells := range from.native {
		if cells == nil {
			continue
		}
		if h.native[i] == nil {
			h.native[i] = new([perOctave]uint64)
		}
		for j := range cells {
			h.native[i][j] += cells[j]
		}
	}
}

// buckets gives the native buckets that are not empty, by Prometheus' index, and
// the schema they are of.
func (h *histogram) buckets() (map[int]int64, int32) {
	out := map[int]int64{}
	for i, cells := range h.native {
		if cells == nil {
			continue
		}
		for j, n := range cells {
			if n > 0 {
				out[(firstOct+i)*perOctave+j] = int64(n)
			}
		}
	}
	if len(out) <= maxNative {
		return out, schema
	}
	wide := map[int]int64{}
	for i, n := range out {
		wide[(i+1)>>1] += n
	}
	return wide, schema - 1
}
