package jsonschema

import "math/bits"

// A nameTable finds one of a fixed list of names: four of its bytes say which
// one it can be, and one comparison whether it is.
type nameTable struct {
	names []string
	slots []uint16 // 1 + place in names
	mult  uint32
	shift uint8
	index map[string]int32 // where those bytes do not tell the names apart
}

// nameKey is what a nameTable looks at: length, first, middle and last byte.
func nameKey[T string | []byte](name T) uint32 {
	n := len(name)
	if n == 0 {
		return 0
	}
	return uint32(n) ^ uint32(name[0])<<8 ^ uint32(name[n/2])<<16 ^ uint32(name[n-1])<<24
}

// The most names, and how many multipliers are tried for each size of the slots.
const (
	maxSlotNames = 1024
	maxTries     = 64
)

func newNameTable(names []string) nameTable {
	t := nameTable{names: names}
	if len(names) == 0 {
		return t
	}
	keys := make(map[uint32]bool, len(names))
	for _, name := range names {
		keys[nameKey(name)] = true
	}
	if len(keys) == len(names) && len(names) <= maxSlotNames {
		width := bits.Len(uint(2*len(names) - 1))
		for extra := range 4 {
			mult := uint32(0x9e3779b1)
			for range maxTries {
				if t.place(mult, uint8(32-width-extra)) {
					return t
				}
				mult = mult*747796405 + 2891336454
			}
		}
	}
	t.slots, t.index = nil, make(map[string]int32, len(names))
	for i, name := range names {
		t.index[name] = int32(i)
	}
	return t
}

// place tries one multiplier: it reports whether each name gets a slot of its own.
func (t *nameTable) place(mult uint32, shift uint8) bool {
	t.mult, t.shift, t.slots = mult, shift, make([]uint16, 1<<(32-shift))
	for i, name := range t.names {
		slot := &t.slots[nameKey(name)*mult>>shift]
		if *slot != 0 {
			return false
		}
		*slot = uint16(i) + 1
	}
	return true
}

// find returns the place of the name with that key, or -1.
func (t *nameTable) find(name []byte, key uint32) int32 {
	if t.index != nil {
		if i, ok := t.index[string(name)]; ok {
			return i
		}
		return -1
	}
	slot := key * t.mult >> t.shift
	if uint(slot) >= uint(len(t.slots)) { // there are no names
		return -1
	}
	i := int32(t.slots[slot]) - 1
	if i < 0 || t.names[i] != string(name) {
		return -1
	}
	return i
}

func (t *nameTable) has(text string) bool {
	if t.index != nil {
		_, ok := t.index[text]
		return ok
	}
	slot := nameKey(text) * t.mult >> t.shift
	if uint(slot) >= uint(len(t.slots)) {
		return false
	}
	i := int(t.slots[slot]) - 1
	return i >= 0 && t.names[i] == text
}
