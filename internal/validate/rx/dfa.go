package rx

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	hitFlag  = 1 << 31 // of a transition: the state it leads to has hits
	rowMask  = hitFlag - 1
	startRow = 1 // the state before the first character; row 0 is none
)

// refill is how many times the states of a full table must be missed until it is
// emptied: filling it again then costs less than a quarter of what was spent.
// A caller who sends ever new texts can not drive out what others use any faster.
const refill = 4

// A table holds states and their transitions. Scans read it without a lock.
type table struct {
	next  []atomic.Uint32 // row*stride + class → row*stride of the next state, with hitFlag; 0: not known
	state []*state        // by row; written before the row is published in next or index
	index []atomic.Uint32 // hash → row, open addressing
	life  *byte           // the same as long as rows keep their meaning
}

// A dfa is some expressions of an nfa with the states that texts needed so far.
type dfa struct {
	*nfa
	exprs  []uint32
	mode   mode
	starts starts
	room   *room
	pool   sync.Pool

	table atomic.Pointer[table]
	mu    sync.Mutex // who adds states
	epoch int64      // of the room when the table was begun
	used  int        // rows
	bytes int        // taken from the room
}

// A room is the memory that some dfas share. What is in it stays until it is full
// and refill times as many states were missed; then all begin anew.
type room struct {
	max    int64 // bytes
	used   atomic.Int64
	states atomic.Int64
	lost   atomic.Int64 // states that found no room
	epoch  atomic.Int64
}

// take asks for bytes.
func (r *room) take(bytes int) bool {
	if r.used.Add(int64(bytes)) <= r.max {
		return true
	}
	r.used.Add(-int64(bytes))
	return false
}

func (r *room) miss() {
	if r.lost.Add(1) > refill*r.states.Load() {
		r.lost.Store(0)
		r.epoch.Add(1)
	}
}

func newDFA(n *nfa, exprs []uint32, w *scratch, r *room) *dfa {
	d := &dfa{nfa: n, exprs: exprs, mode: w.mode, starts: n.newStarts(exprs, w), room: r}
	d.reset()
	return d
}

func (d *dfa) scratch() *scratch {
	if w, ok := d.pool.Get().(*scratch); ok {
		return w
	}
	return newScratch(d.nfa, d.mode)
}

func (d *dfa) newTable(rows int, life *byte) *table {
	size := 4
	for size < 2*rows {
		size *= 2
	}
	return &table{
		next:  make([]atomic.Uint32, rows*d.stride),
		state: make([]*state, rows),
		index: make([]atomic.Uint32, size),
		life:  life,
	}
}

// reset forgets all states. Scans that run go on with the old ones.
func (d *dfa) reset() {
	const rows = 4
	d.room.used.Add(int64(d.rowBytes()*rows - d.bytes)) // these few are always there
	d.room.states.Add(int64(-d.used))
	t := d.newTable(rows, new(byte))
	first := &state{prev: atBegin}
	first.hash = hashOf(first)
	t.state[startRow] = first
	t.put(first.hash, startRow)
	d.used, d.bytes = startRow+1, rows*d.rowBytes()
	d.epoch = d.room.epoch.Load()
	d.table.Store(t)
}

// find returns the row of the state that the last step computed, 0 when t has
// it not.
func (t *table) find(w *scratch) uint32 {
	mask := uint64(len(t.index) - 1)
	for k := w.s.hash & mask; ; k = (k + 1) & mask {
		row := t.index[k].Load()
		if row == 0 || w.is(t.state[row]) {
			return row
		}
	}
}

func (t *table) put(hash uint64, row uint32) {
	mask := uint64(len(t.index) - 1)
	k := hash & mask
	for t.index[k].Load() != 0 {
		k = (k + 1) & mask
	}
	t.index[k].Store(row)
}

// keep puts the state of the last step into the table and returns the table and
// the row, which is 0 when there is no room.
func (d *dfa) keep(w *scratch) (*table, uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch != d.room.epoch.Load() {
		d.reset()
	}
	t := d.table.Load()
	row := t.find(w)
	if row != 0 {
		return t, row
	}
	size := stateBytes + 4*len(w.s.at) + 4*len(w.s.hits)
	grown := t
	if d.used == len(t.state) {
		grown = d.grow(t)
	}
	if grown == nil || !d.room.take(size) {
		d.room.miss()
		return t, 0
	}
	t = grown
	d.room.states.Add(1)
	d.bytes += size
	s := &state{at: slices.Clone(w.s.at), hits: slices.Clone(w.s.hits), prev: w.s.prev, hash: w.s.hash}
	row = uint32(d.used)
	d.used++
	t.state[row] = s
	t.put(s.hash, row)
	return t, row
}

// stateBytes is about what a state takes besides its row and its lists.
const stateBytes = 96

// rowBytes is what a row takes: transitions, the pointer to the state, the index.
func (d *dfa) rowBytes() int { return 4*d.stride + 8 + 16 }

// grow doubles the table, or returns nil when there is no room for that.
func (d *dfa) grow(old *table) *table {
	rows := 2 * len(old.state)
	if rows > 1<<10 {
		rows = len(old.state) * 5 / 4
	}
	more := (rows - len(old.state)) * d.rowBytes()
	if int64(d.bytes+more) > d.room.max/2 || !d.room.take(more) { // no one alone
		return nil
	}
	d.bytes += more
	t := d.newTable(rows, old.life)
	for i := range old.next {
		if v := old.next[i].Load(); v != 0 {
			t.next[i].Store(v)
		}
	}
	copy(t.state, old.state)
	for row := startRow; row < d.used; row++ {
		t.put(t.state[row].hash, uint32(row))
	}
	d.table.Store(t)
	return t
}
