package auditlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// Why a ring: one write(2) for each event outlives a kill -9 as well, but takes
// twice the time (BenchmarkWriteEach) and one lock around the file for everybody.
//
// The ring is one file, mapped: a page of heads, then shards of equal size.
//
//	page    magic u64, shard size u64, shards u64, crc u32; from byte 512 on
//	        two slots of 32 bytes a shard: position u64, sequence u64, crc u32
//	shard   records: length u32, crc u32, sequence u64, line; padded to 8 bytes
//
// Positions only grow; a record stands at its position modulo the shard's size. A
// record that does not fit before the end leaves a mark (length of all ones) and
// begins at the start again. Nothing says where the last record ends: a reader
// goes on while checksum and sequence are right, so a record half written when
// the process died is simply not there, and it was not acknowledged either.
//
// The head moves after the lines have been written to the file. When it is half
// written, its older twin is used, and recovery sees lines it already has in the
// file: it leaves those out by their ids.
const (
	ringMagic  = 0x31474e4952484741 // "AGHRING1"
	ringPage   = 8192
	slotsAt    = 512
	slotSize   = 32
	headerSize = 16
	shardCount = 16
	// no line is shorter than that of the zero event
	leastRecord = headerSize + 72
	wrapMark    = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRing = errors.New("auditlog: the ring is damaged")

// A shard is a part of the ring with a lock of its own, so that no lock is shared
// by all requests.
type shard struct {
	mu      sync.Mutex
	mem     []byte // its records
	slots   []byte // its two head slots
	scratch []byte // where a line is made
	seq     uint64 // of the last record; guarded by mu
	closed  bool   // guarded by mu

	tail atomic.Uint64 // end of the last record
	head atomic.Uint64 // end of what is in the file

	headSeq  uint64 // sequence of the last record in the file; the writer's
	headTurn int    // the slot to write next; the writer's

	_ [64]byte // its neighbour is another processor's
}

// put writes e, if there is room.
func (s *shard) put(e *gatehouse.Event) bool {
	if s.used()+leastRecord > uint64(len(s.mem)) {
		return false // without making the line
	}
	s.scratch = AppendEvent(s.scratch[:0], e)
	size, need := uint64(len(s.mem)), recordSize(len(s.scratch))
	at := s.tail.Load()
	free := size - (at - s.head.Load())
	rest := size - at%size
	if rest < need {
		if free < rest+need {
			return false
		}
		if rest >= headerSize {
			s.seq++
			writeRecord(s.mem[at%size:], wrapMark, s.seq, nil)
		}
		at += rest
	} else if free < need {
		return false
	}
	s.seq++
	writeRecord(s.mem[at%size:], uint32(len(s.scratch)), s.seq, s.scratch)
	s.tail.Store(at + need)
	return true
}

// used gives how many bytes wait for the writer.
func (s *shard) used() uint64 { return s.tail.Load() - s.head.Load() }

// recordSize is what a line of n bytes takes, padded to 8.
func recordSize(n int) uint64 { return uint64(headerSize+n+7) &^ 7 }

func writeRecord(mem []byte, length uint32, seq uint64, line []byte) {
	copy(mem[headerSize:], line)
	binary.LittleEndian.PutUint32(mem, length)
	binary.LittleEndian.PutUint64(mem[8:], seq)
	binary.LittleEndian.PutUint32(mem[4:], sum(mem[8:headerSize+len(line)], length))
}

// sum covers the length too: a wrong length must not pick other bytes to be right.
func sum(b []byte, length uint32) uint32 {
	return crc32.Update(length, castagnoli, b)
}

// readRecord gives the record at position at: its line (nil for a mark) and where
// the next begins. ok is false when no record with that sequence stands there.
func readRecord(mem []byte, at, seq uint64) (line []byte, next uint64, ok bool) {
	size := uint64(len(mem))
	p := at % size
	rest := size - p
	if rest < headerSize {
		return nil, at + rest, false // the caller goes on from the start
	}
	length := binary.LittleEndian.Uint32(mem[p:])
	if binary.LittleEndian.Uint64(mem[p+8:]) != seq {
		return nil, at, false
	}
	want := binary.LittleEndian.Uint32(mem[p+4:])
	if length == wrapMark {
		return nil, at + rest, sum(mem[p+8:p+headerSize], length) == want
	}
	if uint64(length) > rest-headerSize || sum(mem[p+8:p+headerSize+uint64(length)], length) != want {
		return nil, at, false
	}
	return mem[p+headerSize : p+headerSize+uint64(length)], at + recordSize(int(length)), true
}

// walk calls visit for each line from position at on, the last read sequence being
// seq, until visit refuses or no record follows. It gives where it stopped.
func walk(mem []byte, at, seq, end uint64, visit func(line []byte) bool) (uint64, uint64) {
	for at < end {
		if rest := uint64(len(mem)) - at%uint64(len(mem)); rest < headerSize {
			at += rest
			continue
		}
		line, next, ok := readRecord(mem, at, seq+1)
		if !ok || line != nil && !visit(line) {
			break
		}
		at, seq = next, seq+1
	}
	return at, seq
}

// setHead remembers that everything before at is in the file.
func (s *shard) setHead(at, seq uint64) {
	slot := s.slots[s.headTurn*slotSize:]
	binary.LittleEndian.PutUint64(slot, at)
	binary.LittleEndian.PutUint64(slot[8:], seq)
	binary.LittleEndian.PutUint32(slot[16:], sum(slot[:16], ringPage))
	s.headTurn = 1 - s.headTurn
	s.headSeq = seq
	s.head.Store(at)
}

// headOf gives the newer of the two heads that are whole.
func headOf(slots []byte) (at, seq uint64, ok bool) {
	for turn := range 2 {
		slot := slots[turn*slotSize:]
		if sum(slot[:16], ringPage) != binary.LittleEndian.Uint32(slot[16:]) {
			continue
		}
		if a := binary.LittleEndian.Uint64(slot); !ok || a >= at {
			at, seq, ok = a, binary.LittleEndian.Uint64(slot[8:]), true
		}
	}
	return at, seq, ok
}

// leftovers visits the lines of a ring's bytes that may not be in a file yet.
func leftovers(b []byte, visit func(line []byte)) error {
	if len(b) < ringPage || binary.LittleEndian.Uint64(b) != ringMagic ||
		binary.LittleEndian.Uint32(b[24:]) != sum(b[:24], ringPage) {
		return errRing
	}
	size, count := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if count != shardCount || size == 0 || size > uint64(len(b)) || uint64(len(b)) != ringPage+size*count {
		return errRing
	}
	var err error
	for i := range uint64(shardCount) {
		at, seq, ok := headOf(b[slotsAt+i*2*slotSize:][:2*slotSize])
		if !ok {
			err = errRing // the other shards are still worth having
			continue
		}
		mem := b[ringPage+i*size:][:size]
		walk(mem, at, seq, at+size, func(line []byte) bool { visit(line); return true })
	}
	return err
}

// makeRing creates an empty ring in dir and maps it. Its blocks are allocated
// first: a write into a hole of a mapped file on a full disk kills the process
// (SIGBUS), and the file appears under its name only when it is whole.
func makeRing(dir string, bytes int64) (mem []byte, shards []shard, err error) {
	size := bytes / shardCount &^ 4095
	if size < 2*maxEvent {
		return nil, nil, fmt.Errorf("auditlog: a ring of %d bytes is too small; at least %d", bytes, shardCount*2*maxEvent)
	}
	total := ringPage + size*shardCount
	name := filepath.Join(dir, ringName)
	f, err := os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	if err := allocate(f, total); err != nil {
		return nil, nil, fmt.Errorf("auditlog: no room for the ring: %w", err)
	}
	mem, err = unix.Mmap(int(f.Fd()), 0, int(total), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("auditlog: cannot map the ring: %w", err)
	}
	binary.LittleEndian.PutUint64(mem, ringMagic)
	binary.LittleEndian.PutUint64(mem[8:], uint64(size))
	binary.LittleEndian.PutUint64(mem[16:], shardCount)
	binary.LittleEndian.PutUint32(mem[24:], sum(mem[:24], ringPage))
	shards = make([]shard, shardCount)
	for i := range shards {
		s := &shards[i]
		s.mem = mem[ringPage+int64(i)*size:][:size:size]
		s.slots = mem[slotsAt+i*2*slotSize:][: 2*slotSize : 2*slotSize]
		s.scratch = make([]byte, 0, maxEvent+4096)
		s.setHead(0, 0)
		s.setHead(0, 0)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return nil, nil, errors.Join(err, unix.Munmap(mem))
	}
	return mem, shards, nil
}

func allocate(f *os.File, total int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, total)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < total; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), total-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
