package jsonschema

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// among reports whether cell i equals one of the fixed values.
func (r *run) among(list []fixed, i int32) bool {
	if !r.spend(len(list) / 16) {
		return false
	}
	for k := range list {
		f := &list[k]
		if len(f.cells) > 1 && f.cells[0].kind == r.cells[i].kind && !r.spend(len(f.cells)) {
			return false
		}
		if r.equal(i, f, 0) {
			return true
		}
	}
	return false
}

// equal compares cell i with cell j of a fixed value as JSON Schema does
// (2020-12 core §4.2.2): numbers by value, objects without order.
func (r *run) equal(i int32, f *fixed, j int32) bool {
	a, b := &r.cells[i], &f.cells[j]
	if a.kind != b.kind || a.n != b.n && (a.kind == kindArray || a.kind == kindObject) {
		return false
	}
	raw, want := r.out[a.start:a.end], f.out[b.start:b.end]
	switch a.kind {
	case kindNumber:
		return bytes.Equal(raw, want) || parseDecimal(raw).equal(parseDecimal(want))
	case kindArray:
		i, j = i+1, j+1
		for range a.n {
			if !r.equal(i, f, j) {
				return false
			}
			i, j = r.cells[i].next, f.cells[j].next
		}
		return true
	case kindObject:
		j++
		for range b.n {
			name := &f.cells[j]
			val := r.find(i, string(f.out[name.start:name.end]))
			if val < 0 || !r.equal(val, f, j+1) {
				return false
			}
			j = f.cells[j+1].next
		}
		return true
	}
	return bytes.Equal(raw, want)
}

// uniqueItems compares hashes of 64 bits under a seed no caller knows: one look
// at each value instead of each item with each. Two different items that met by
// chance, once in 2^37 arrays of 16,000, would be refused, never let through.
func (r *run) uniqueItems(i int32) bool {
	n := int(r.cells[i].n)
	if n < 2 {
		return true
	}
	if !r.spend(int(r.cells[i].next - i)) {
		return false
	}
	size := 1 << bits.Len(uint(n)*2)
	table := r.clearTable(size)
	r.hash = r.hash[:0]
	at := i + 1
	for k := range n {
		h := r.hashOf(at)
		r.hash = append(r.hash, h)
		slot := h & uint64(size-1)
		for table[slot] != 0 {
			if r.hash[table[slot]-1] == h {
				return false
			}
			slot = (slot + 1) & uint64(size-1)
		}
		table[slot] = int32(k) + 1
		at = r.cells[at].next
	}
	return true
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo ^ bits.RotateLeft64(a, 17)
}

func (r *run) hashOf(i int32) uint64 {
	c := &r.cells[i]
	switch c.kind {
	case kindNumber:
		d := parseDecimal(r.out[c.start:c.end])
		h := d.mant
		if d.wide != nil {
			h = maphash.Bytes(hashSeed, d.wide.Bytes())
		}
		var tail [18]byte
		for k := range 8 {
			tail[k] = byte(h >> (8 * k))
			tail[8+k] = byte(uint64(d.exp) >> (8 * k))
		}
		tail[16] = kindNumber
		if d.neg {
			tail[17] = 1
		}
		return maphash.Bytes(hashSeed, tail[:])
	case kindArray:
		h := maphash.String(hashSeed, "[")
		at := i + 1
		for range c.n {
			h = mix(h, r.hashOf(at))
			at = r.cells[at].next
		}
		return h
	case kindObject:
		h := maphash.String(hashSeed, "{")
		at := i + 1
		for range c.n { // a sum: the order of members does not count
			name := &r.cells[at]
			h += mix(maphash.Bytes(hashSeed, r.out[name.start:name.end]), r.hashOf(at+1))
			at = r.cells[at+1].next
		}
		return h
	}
	return mix(maphash.Bytes(hashSeed, r.out[c.start:c.end]), uint64(c.kind)+1)
}
