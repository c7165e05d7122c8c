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

// A Member is what an engine knows of all values of one place and name: which
// rules look at them. Who has it spares the engine looking it up. It stays right.
type Member struct {
	scan *scan
	in   In
	name string

	text, names *class
	clean       atomic.Bool // no rule that looks at the name matches it
	marks       uint64      // those it is
}

// Name is the name of the values.
func (m *Member) Name() string { return m.name }

// Member returns what the engine knows of the values of a place and name in a
// request.
func (r *Rules) Member(in In, name string) *Member { return r.request.member(in, name) }

// Known returns the same if it was asked for lately, and else nil.
func (r *Rules) Known(in In, name []byte) *Member {
	s := r.request.known
	if len(name) > longName {
		return nil
	}
	return find(s.at(in, maphash.Bytes(s.seed, name)), in, name)
}

func (s *scan) member(in In, name string) *Member {
	m := &Member{scan: s, in: in, name: name}
	if texts := s.members[in]; texts != nil {
		m.text = texts.of(name)
	}
	if names := s.names[in]; names != nil {
		m.names = names.of(name)
	}
	for k, bit := range s.marks {
		if k.in == in && sameName(name, k.key) {
			m.marks |= 1 << bit
		}
	}
	return m
}

// members is a table like [memory], of names: those of fields repeat, too.
type members struct {
	seed  maphash.Seed
	slots [2048][2]atomic.Pointer[Member]
}

const longName = 256

func newMembers() *members { return &members{seed: maphash.MakeSeed()} }

func (m *members) at(in In, hash uint64) *[2]atomic.Pointer[Member] {
	return &m.slots[(hash+uint64(in)*0x9e3779b97f4a7c15)%uint64(len(m.slots))]
}

func find[T string | []byte](pair *[2]atomic.Pointer[Member], in In, name T) *Member {
	for i := range pair {
		if k := pair[i].Load(); k != nil && k.in == in && k.name == string(name) {
			return k
		}
	}
	return nil
}

// get returns what is known of a name, nil when nothing is.
func (m *members) get(in In, name string) *Member {
	if len(name) > longName {
		return nil
	}
	return find(m.at(in, maphash.String(m.seed, name)), in, name)
}

// add remembers k.
func (m *members) add(k *Member) {
	if len(k.name) > longName {
		return
	}
	k.name = strings.Clone(k.name)
	pair := m.at(k.in, maphash.String(m.seed, k.name))
	pair[1].Store(pair[0].Swap(k))
}
