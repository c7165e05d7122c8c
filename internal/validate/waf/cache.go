package waf

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// A memory holds texts that no rule of their class matched: header values and
// cookies come with every request of a client, and much else repeats. It is a
// table of slots, each with one text; what comes later takes the slot, but only
// when it comes a second time: what is sent once moves nothing out. Readers and
// writers do not wait.
//
// Only what was clean is remembered, and it is compared whole: no sender can make
// another text pass. It takes 4 MiB at most.
type memory struct {
	seed  maphash.Seed
	seen  [8192][2]atomic.Uint32         // what came last, by hash
	short [2048][2]atomic.Pointer[clean] // texts of up to shortText bytes
	long  [256][2]atomic.Pointer[clean]  // up to longText bytes
}

const (
	shortText = 512
	longText  = 4 << 10
)

type clean struct {
	class *class
	text  string
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) hash(c *class, text string) uint64 { return maphash.String(m.seed, text) + c.salt }

func (m *memory) slots(hash uint64, text string) *[2]atomic.Pointer[clean] {
	if len(text) <= shortText {
		return &m.short[hash%uint64(len(m.short))]
	}
	return &m.long[hash%uint64(len(m.long))]
}

func (m *memory) has(c *class, text string) bool {
	if len(text) > longText {
		return false
	}
	pair := m.slots(m.hash(c, text), text)
	for i := range pair {
		if k := pair[i].Load(); k != nil && k.class == c && k.text == text {
			return true
		}
	}
	return false
}

func (m *memory) add(c *class, text string) {
	if len(text) > longText {
		return
	}
	h := m.hash(c, text)
	seen, tag := &m.seen[h%uint64(len(m.seen))], uint32(h>>32)|1
	if seen[0].Load() != tag && seen[1].Load() != tag {
		seen[1].Store(seen[0].Swap(tag))
		return
	}
	pair := m.slots(h, text)
	pair[1].Store(pair[0].Swap(&clean{c, strings.Clone(text)}))
}

// A member is what is known of all values of one place and name.
type member struct {
	in   In
	name string

	text, names *class
	clean       bool   // no rule that looks at the name matches it
	marks       uint64 // those it is
}

// members is a table like [memory], of names: those of fields repeat, too.
type members struct {
	seed  maphash.Seed
	slots [4096]atomic.Pointer[member]
}

const longName = 256

func newMembers() *members { return &members{seed: maphash.MakeSeed()} }

func (m *members) slot(in In, name string) *atomic.Pointer[member] {
	h := maphash.String(m.seed, name) + uint64(in)*0x9e3779b97f4a7c15
	return &m.slots[h%uint64(len(m.slots))]
}

// get returns what is known of a name, nil when nothing is.
func (m *members) get(in In, name string) *member {
	if len(name) > longName {
		return nil
	}
	if k := m.slot(in, name).Load(); k != nil && k.in == in && k.name == name {
		return k
	}
	return nil
}

func (m *members) add(k member) {
	if len(k.name) <= longName {
		k.name = strings.Clone(k.name)
		m.slot(k.in, k.name).Store(&k)
	}
}
