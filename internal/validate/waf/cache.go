package waf

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// A memory holds texts that no rule of their class matched, or few: header values
// and cookies come with every request of a client, and much else repeats. It is a
// table of slots, each with one text; what comes later takes the slot, but only
// when it comes a second time: what is sent once moves nothing out. Readers and
// writers do not wait.
//
// Texts are compared whole: no sender can make another text pass. It takes 4 MiB
// at most.
type memory struct {
	seed  maphash.Seed
	seen  [8192][2]atomic.Uint32           // what came last, by hash
	short [2048][2]atomic.Pointer[learned] // texts of up to shortText bytes
	long  [256][2]atomic.Pointer[learned]  // up to longText bytes
}

const (
	shortText = 512
	longText  = 4 << 10
)

// A learned is a text and all rules of its class that it is a candidate of.
type learned struct {
	class *class
	text  string
	hits  []hit
}

// A hit is a rule that may match a text, or does for sure.
type hit struct {
	rule *rule
	sure bool
}

// fewHits is how many hits are remembered: what is harmless has one now and then.
const fewHits = 4

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) hash(c *class, text string) uint64 { return maphash.String(m.seed, text) + c.salt }

func (m *memory) slots(hash uint64, text string) *[2]atomic.Pointer[learned] {
	if len(text) <= shortText {
		return &m.short[hash%uint64(len(m.short))]
	}
	return &m.long[hash%uint64(len(m.long))]
}

// get returns what was learned of a text, nil when nothing was.
func (m *memory) get(c *class, text string) *learned {
	if len(text) > longText {
		return nil
	}
	pair := m.slots(m.hash(c, text), text)
	for i := range pair {
		if k := pair[i].Load(); k != nil && k.class == c && k.text == text {
			return k
		}
	}
	return nil
}

func (m *memory) add(c *class, text string, hits []hit) {
	if len(text) > longText || len(hits) > fewHits {
		return
	}
	h := m.hash(c, text)
	seen, tag := &m.seen[h%uint64(len(m.seen))], uint32(h>>32)|1
	if seen[0].Load() != tag && seen[1].Load() != tag {
		seen[1].Store(seen[0].Swap(tag))
		return
	}
	pair := m.slots(h, text)
	pair[1].Store(pair[0].Swap(&learned{c, strings.Clone(text), slices.Clone(hits)}))
}

// A member is what is known of all values of one place and name.
type member struct {
	in   In
	name string

	text, names *class
	clean       bool   // no rule that looks at the name matches it
	marks       uint64 // those it is
	kept        bool   // others see it: it does not change any more
}

// members is a table like [memory], of names: those of fields repeat, too.
type members struct {
	seed  maphash.Seed
	slots [2048][2]atomic.Pointer[member]
}

const longName = 256

func newMembers() *members { return &members{seed: maphash.MakeSeed()} }

func (m *members) pair(in In, name string) *[2]atomic.Pointer[member] {
	h := maphash.String(m.seed, name) + uint64(in)*0x9e3779b97f4a7c15
	return &m.slots[h%uint64(len(m.slots))]
}

// get returns what is known of a name, nil when nothing is.
func (m *members) get(in In, name string) *member {
	if len(name) > longName {
		return nil
	}
	pair := m.pair(in, name)
	for i := range pair {
		if k := pair[i].Load(); k != nil && k.in == in && k.name == name {
			return k
		}
	}
	return nil
}

// add remembers k, unless it is what get returned.
func (m *members) add(k *member) {
	if len(k.name) <= longName && !k.kept {
		k.name, k.kept = strings.Clone(k.name), true
		pair := m.pair(k.in, k.name)
		if old := pair[0].Swap(k); old == nil || old.in != k.in || old.name != k.name {
			pair[1].Store(old)
		}
	}
}

// cleaned is k with a clean name.
func (k *member) cleaned() *member {
	c := *k
	c.clean, c.kept = true, false
	return &c
}
