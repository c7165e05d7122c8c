package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards   = 16
	epochs   = 4096
	overhead = 512 // of an entry beside its key, fields and body
	maxBody  = 1 << 20

	passFor = 10 * time.Second
)

// A Key says what an answer answers. Two requests with equal bytes must be such
// that a service cannot tell them apart.
type Key struct {
	Bytes []byte // all of it; only looked at during a call
	Group int    // how many of them say what is forgotten together: see [Cache.Forget]
}

// A Mark is the state of a key's group when the service was asked.
type Mark struct {
	at    *atomic.Uint64
	value uint64
}

func (m Mark) holds() bool { return m.at != nil && m.at.Load() == m.value }

// A Cache holds answers. Its methods may be called by many at once.
type Cache struct {
	seed   maphash.Seed
	shard  [shards]shard
	epoch  [epochs]atomic.Uint64 // of groups: an answer asked for before what changed it must not be kept after
	budget atomic.Int64          // bytes of each shard

	waiting atomic.Int64 // followers of all flights
	evicted atomic.Uint64
}

// shard is a segmented LRU: what is new is on trial, what was asked for again is
// safe from what is new.
type shard struct {
	mu      sync.Mutex
	entries map[string]*entry
	groups  map[string]*entry // heads of chains
	trial   list
	safe    list
	flights map[string]*Flight
}

type entry struct {
	key    string
	group  int
	answer *Answer
	size   int64
	isSafe bool

	prev, next  *entry // in its list
	above, down *entry // in its group
}

// list is a ring around root, the entry used last at its front.
type list struct {
	root  entry
	bytes int64
}

// Figures are a cache's size now and what became of it so far.
type Figures struct {
	Entries int
	Bytes   int64  // in entries
	Evicted uint64 // entries that had to make room
}

// New makes a Cache of at most memory bytes.
func New(memory int64) *Cache {
	c := &Cache{seed: maphash.MakeSeed()}
	for i := range c.shard {
		c.shard[i].flights = map[string]*Flight{}
	}
	c.Clear()
	c.Resize(memory)
	return c
}

// Resize gives the cache so many bytes. What is too much goes at once.
func (c *Cache) Resize(memory int64) {
	c.budget.Store(max(0, memory) / shards)
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		c.fit(s)
		s.mu.Unlock()
	}
}

// Clear forgets all answers.
func (c *Cache) Clear() {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		s.entries, s.groups = map[string]*entry{}, map[string]*entry{}
		s.trial.reset()
		s.safe.reset()
		s.mu.Unlock()
	}
}

// MaxBody is the longest body that is kept.
func (c *Cache) MaxBody() int64 { return max(0, min(maxBody, c.budget.Load()/2-overhead)) }

// Figures gives the size.
func (c *Cache) Figures() Figures {
	f := Figures{Evicted: c.evicted.Load()}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		f.Entries += len(s.entries)
		f.Bytes += s.trial.bytes + s.safe.bytes
		s.mu.Unlock()
	}
	return f
}

func (c *Cache) at(key []byte) *shard { return &c.shard[maphash.Bytes(c.seed, key)%shards] }

// Get gives the answer of a key, fresh or not; nil: there is none.
func (c *Cache) Get(k Key) *Answer {
	s := c.at(k.Bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[string(k.Bytes)]
	if e == nil {
		return nil
	}
	if e.isSafe {
		s.safe.toFront(e)
		return e.answer
	}
	s.trial.remove(e)
	e.isSafe = true
	s.safe.push(e)
	for most := c.budget.Load() / 5 * 4; s.safe.bytes > most && s.safe.root.prev != e; { // the rest is for what is new
		back := s.safe.root.prev
		s.safe.remove(back)
		back.isSafe = false
		s.trial.push(back)
	}
	return e.answer
}

// Since marks the time before the service is asked, for [Cache.Put].
func (c *Cache) Since(k Key) Mark {
	e := &c.epoch[maphash.Bytes(c.seed, k.Bytes[:k.Group])%epochs]
	return Mark{e, e.Load()}
}

// Put keeps a, unless its group was forgotten since: the answer is from before
// what made it wrong. It reports whether it did.
func (c *Cache) Put(k Key, since Mark, a *Answer) bool {
	size := int64(overhead + len(k.Bytes) + len(a.Body))
	for i := range a.Fields {
		size += int64(len(a.Fields[i].Name) + len(a.Fields[i].Value) + 32)
	}
	if size > c.budget.Load()/2 {
		return false
	}
	s := c.at(k.Bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !since.holds() { // Forget changes it before it looks into the shards
		return false
	}
	e := s.entries[string(k.Bytes)]
	if e != nil {
		s.of(e).bytes += size - e.size
		e.answer, e.size = a, size
	} else {
		e = &entry{key: string(k.Bytes), group: k.Group, answer: a, size: size}
		s.entries[e.key] = e
		s.trial.push(e)
		if head := s.groups[e.key[:e.group]]; head != nil {
			e.down, head.above = head, e
		}
		s.groups[e.key[:e.group]] = e
	}
	c.fit(s)
	return true
}

// Pass remembers for a while that there is nothing to keep for a key.
func (c *Cache) Pass(k Key, since Mark, now time.Time) {
	c.Put(k, since, &Answer{pass: true, received: now, life: passFor})
}

// Drop forgets a's key, if it is still a's.
func (c *Cache) Drop(k Key, a *Answer) {
	s := c.at(k.Bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[string(k.Bytes)]; e != nil && e.answer == a {
		s.drop(e)
	}
}

// Forget drops every answer whose key begins with group, and those that are on
// their way from the service now (RFC 9111 §4.4).
func (c *Cache) Forget(group []byte) {
	c.epoch[maphash.Bytes(c.seed, group)%epochs].Add(1)
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		for e := s.groups[string(group)]; e != nil; e = s.groups[string(group)] {
			s.drop(e)
		}
		s.mu.Unlock()
	}
}

// fit drops what was not asked for longest until s has room.
func (c *Cache) fit(s *shard) {
	for budget := c.budget.Load(); s.trial.bytes+s.safe.bytes > budget; {
		e := s.trial.root.prev
		if e == &s.trial.root {
			e = s.safe.root.prev
		}
		if e == &s.safe.root {
			return
		}
		s.drop(e)
		c.evicted.Add(1)
	}
}

func (s *shard) of(e *entry) *list {
	if e.isSafe {
		return &s.safe
	}
	return &s.trial
}

func (s *shard) drop(e *entry) {
	s.of(e).remove(e)
	delete(s.entries, e.key)
	if e.down != nil {
		e.down.above = e.above
	}
	switch group := e.key[:e.group]; {
	case e.above != nil:
		e.above.down = e.down
	case e.down != nil:
		delete(s.groups, group) // its text is e's
		s.groups[e.down.key[:e.down.group]] = e.down
	default:
		delete(s.groups, group)
	}
	e.above, e.down = nil, nil
}

func (l *list) reset() {
	l.root.prev, l.root.next = &l.root, &l.root
	l.bytes = 0
}

func (l *list) push(e *entry) {
	e.prev, e.next = &l.root, l.root.next
	e.prev.next, e.next.prev = e, e
	l.bytes += e.size
}

func (l *list) remove(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	l.bytes -= e.size
}

func (l *list) toFront(e *entry) {
	if l.root.next != e {
		l.remove(e)
		l.push(e)
	}
}
