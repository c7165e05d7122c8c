package auditlog

import "encoding/binary"

// The encoder is fuzzed without a disk.
var (
	DecodeEvent = decodeEvent
	Leftovers   = leftovers
)

// RingOf gives a ring's bytes with a right header around any content, every shard
// of which is to be read from position at, after sequence seq.
func RingOf(content []byte, at, seq uint64) []byte {
	size := (len(content)/shardCount + 8) &^ 7
	b := make([]byte, ringPage+size*shardCount)
	copy(b[ringPage:], content)
	binary.LittleEndian.PutUint64(b, ringMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(size))
	binary.LittleEndian.PutUint64(b[16:], shardCount)
	binary.LittleEndian.PutUint32(b[24:], sum(b[:24], ringPage))
	for i := range shardCount {
		s := shard{slots: b[slotsAt+i*2*slotSize:][:2*slotSize]}
		s.setHead(at, seq)
	}
	return b
}

// RecordOf gives one record of the ring.
func RecordOf(line []byte, seq uint64) []byte {
	b := make([]byte, recordSize(len(line)))
	writeRecord(b, uint32(len(line)), seq, line)
	return b
}
