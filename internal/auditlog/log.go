package auditlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// Errors of [Log.Append]. Either way the event is not recorded, and the request
// must not be let through.
var (
	ErrFull   = errors.New("auditlog: the ring is full: the disk is full, gone or too slow")
	ErrClosed = errors.New("auditlog: closed")
)

const (
	ringName  = "ring"
	lockName  = "lock"
	maxBatch  = 1 << 20
	linger    = 50 * time.Millisecond  // how long the writer gathers a batch: at 20,000 events a second half the cost of 10 ms
	lookAgain = time.Second            // for the ring and the lock to be in their place
	patience  = 100 * time.Millisecond // how long Append waits for room
	retryWait = 100 * time.Millisecond // after a failed write
)

// Config says where the record goes.
type Config struct {
	Dir         string        // of the files; made with mode 0700
	RotateBytes int64         // start a new file at this size; 0: 100 MiB
	Keep        int           // files kept, the oldest deleted; 0: 30
	Sync        time.Duration // between two fsyncs, which bounds what a power failure takes; 0: 1 s
	RingBytes   int64         // of the ring; 0: 16 MiB, some seconds of a busy gateway
}

// A Log takes events. It belongs to one process: a second one is refused the folder.
type Log struct {
	cfg    Config
	lock   *os.File
	mem    []byte
	shards []shard

	pending atomic.Bool                   // the writer has been woken
	wake    chan struct{}                 // one event waits
	hurry   chan struct{}                 // a shard is half full
	space   atomic.Pointer[chan struct{}] // closed when the head has moved
	fault   atomic.Pointer[error]         // why the writer cannot write
	stop    chan struct{}
	done    sync.WaitGroup

	// the writer's
	linger  time.Duration
	held    [2]os.FileInfo // the ring and the lock, as they were taken
	looked  time.Time      // when they were last seen in their place
	file    *os.File
	size    int64
	dirty   bool
	pruned  bool // since the file was begun
	synced  time.Time
	batch   []byte
	heads   [shardCount]struct{ at, seq uint64 }
	failing bool
}

// Open takes the folder, brings events that a crash left in the ring into a file,
// and starts the writer. End it with [Log.Close].
func Open(cfg Config) (*Log, error) {
	cfg.RotateBytes = orDefault(cfg.RotateBytes, 100<<20)
	cfg.Keep = orDefault(cfg.Keep, 30)
	cfg.Sync = orDefault(cfg.Sync, time.Second)
	cfg.RingBytes = orDefault(cfg.RingBytes, 16<<20)
	if cfg.Dir == "" || cfg.RotateBytes < 0 || cfg.Keep < 0 || cfg.Sync < 0 || cfg.RingBytes < 0 {
		return nil, fmt.Errorf("auditlog: bad config %+v", cfg)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	lock, err := takeFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, lock: lock, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		stop: make(chan struct{}), batch: make([]byte, 0, maxBatch+maxEvent), linger: min(linger, cfg.Sync),
	}
	space := make(chan struct{})
	l.space.Store(&space)
	if err := l.recoverRing(); err != nil {
		return nil, errors.Join(err, lock.Close(), l.closeFile())
	}
	l.mem, l.shards, err = makeRing(cfg.Dir, cfg.RingBytes)
	if err != nil {
		return nil, errors.Join(err, lock.Close(), l.closeFile())
	}
	for i, name := range [...]string{ringName, lockName} {
		if l.held[i], err = os.Stat(filepath.Join(cfg.Dir, name)); err != nil {
			return nil, errors.Join(err, lock.Close(), l.closeFile())
		}
	}
	l.done.Go(l.write)
	return l, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// takeFolder keeps a second gateway away: two writers would tear the ring apart.
func takeFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("auditlog: another process writes to %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// Reserve keeps every gateway from working in a folder until it is closed, and
// makes it if there is none. It fails with EWOULDBLOCK while one does.
func Reserve(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	return takeFolder(dir)
}

// Append records e. When it returns nil, e will be in the files even if the
// process is killed now. It keeps nothing of e. It allocates nothing and shares no
// lock with all other callers; when there is no room it waits at most 100 ms and
// answers [ErrFull].
func (l *Log) Append(e *gatehouse.Event) error {
	hint := 0
	if n := len(e.ID); n > 0 {
		hint = int(e.ID[n-1]) // random, so callers spread
	}
	for i := range shardCount {
		s := &l.shards[(hint+i)%shardCount]
		if !s.mu.TryLock() {
			continue
		}
		if done, err := l.putLocked(s, e); done {
			return err
		}
	}
	return l.appendSlow(e)
}

// putLocked puts e into s, which is locked, and unlocks it. Not done means no room.
func (l *Log) putLocked(s *shard, e *gatehouse.Event) (done bool, err error) {
	closed := s.closed
	done = !closed && s.put(e)
	s.mu.Unlock()
	if closed {
		return true, ErrClosed
	}
	if done {
		l.signal(s)
	}
	return done, nil
}

// appendSlow waits for a lock, and for room. While the writer is known to fail it
// does not wait: requests would only pile up in front of a full disk.
func (l *Log) appendSlow(e *gatehouse.Event) error {
	var timeout *time.Timer
	for {
		space := *l.space.Load()
		for i := range l.shards {
			s := &l.shards[i]
			s.mu.Lock()
			if done, err := l.putLocked(s, e); done {
				return err
			}
		}
		if err := l.Err(); err != nil {
			return fmt.Errorf("%w (%w)", ErrFull, err)
		}
		if timeout == nil {
			timeout = time.NewTimer(patience)
			defer timeout.Stop()
		}
		poke(l.wake)
		poke(l.hurry)
		select {
		case <-space:
		case <-timeout.C:
			return ErrFull
		}
	}
}

func (l *Log) signal(s *shard) {
	if !l.pending.Load() && l.pending.CompareAndSwap(false, true) {
		poke(l.wake)
	}
	if s.used() > uint64(len(s.mem))/2 {
		poke(l.hurry)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Err tells why the writer cannot write, nil when it can: for readiness.
func (l *Log) Err() error {
	if p := l.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// Depth gives how many bytes wait in the ring, and how many it holds.
func (l *Log) Depth() (waiting, capacity int64) {
	for i := range l.shards {
		waiting += int64(l.shards[i].used())
		capacity += int64(len(l.shards[i].mem))
	}
	return waiting, capacity
}

// Close refuses further events, brings the waiting ones to disk and gives the
// folder back. What cannot be written stays in the ring for the next Open; the
// error says so.
func (l *Log) Close() error {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		again := s.closed
		s.closed = true
		s.mu.Unlock()
		if again {
			return ErrClosed
		}
	}
	close(l.stop)
	l.done.Wait()
	err := l.Err()
	if waiting, _ := l.Depth(); waiting > 0 && err == nil {
		err = errRing
	}
	// Nobody looks into the ring any more: callers find their shard closed first.
	return errors.Join(err, l.closeFile(), unix.Munmap(l.mem), l.lock.Close())
}

// write is the writer: it alone touches the files.
func (l *Log) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := lookAgain
		if l.failing {
			wait = retryWait
		} else if l.dirty {
			wait = max(0, time.Until(l.synced.Add(l.cfg.Sync)))
		}
		timer.Reset(wait)
		select {
		case <-l.stop:
			l.flush(true)
			return
		case <-timer.C:
			l.flush(l.dirty)
			continue
		case <-l.wake:
		}
		if l.failing {
			continue // wait for the timer: a full disk is not asked again for every request
		}
		gather := l.linger
		if l.dirty { // what is written waits no longer than it may be lost
			gather = max(0, min(gather, time.Until(l.synced.Add(l.cfg.Sync))))
		}
		timer.Reset(gather)
		select {
		case <-l.stop:
			l.flush(true)
			return
		case <-l.hurry:
		case <-timer.C:
		}
		l.flush(l.dirty && time.Since(l.synced) >= l.cfg.Sync)
	}
}

// flush writes what waits and, if asked, forces it to disk.
func (l *Log) flush(force bool) {
	l.pending.Store(false) // from here on an event wakes us again
	err := l.drain()
	if err == nil && force {
		err = l.sync()
	}
	if err == nil && (l.failing || time.Since(l.looked) >= lookAgain) {
		err = l.inPlace()
	}
	l.failing = err != nil
	if err != nil {
		err = fmt.Errorf("auditlog: cannot write: %w", err)
		l.fault.Store(&err)
		return
	}
	l.fault.Store(nil)
}

// inPlace looks whether the ring and the lock are still those that were taken.
// Mapped but removed, the ring would lose what it holds with the process, and
// without the lock a second gateway could take the folder: then nothing may be
// accepted, until they are back or a restart has made new ones.
func (l *Log) inPlace() error {
	for i, name := range [...]string{ringName, lockName} {
		now, err := os.Stat(filepath.Join(l.cfg.Dir, name))
		if err != nil || !os.SameFile(now, l.held[i]) {
			return errors.Join(fmt.Errorf("%s was removed or replaced while in use; put it back, or restart", filepath.Join(l.cfg.Dir, name)), err)
		}
	}
	l.looked = time.Now()
	return nil
}

// drain carries lines from the ring to the file, batch by batch.
func (l *Log) drain() error {
	for {
		l.batch = l.batch[:0]
		moved := false
		for i := range l.shards {
			s := &l.shards[i]
			from := s.head.Load()
			at, seq := walk(s.mem, from, s.headSeq, s.tail.Load(), func(line []byte) bool {
				if len(l.batch)+len(line) > maxBatch {
					return false
				}
				l.batch = append(l.batch, line...)
				return true
			})
			l.heads[i].at, l.heads[i].seq = at, seq
			moved = moved || at != from
		}
		if !moved {
			return l.stuck()
		}
		if err := l.writeBatch(); err != nil {
			return err
		}
		for i := range l.shards {
			if s := &l.shards[i]; l.heads[i].at != s.head.Load() {
				s.setHead(l.heads[i].at, l.heads[i].seq)
			}
		}
		space := make(chan struct{})
		close(*l.space.Swap(&space))
	}
}

// stuck tells an empty ring from one that somebody wrote over.
func (l *Log) stuck() error {
	for i := range l.shards {
		s := &l.shards[i]
		if at := s.head.Load(); at != s.tail.Load() {
			if _, _, ok := readRecord(s.mem, at, s.headSeq+1); !ok && uint64(len(s.mem))-at%uint64(len(s.mem)) >= headerSize {
				return errRing
			}
		}
	}
	return nil
}

// writeBatch appends the batch to the file, wholly or not at all.
func (l *Log) writeBatch() error {
	if len(l.batch) == 0 {
		return nil
	}
	if l.file != nil && l.size > 0 && l.size+int64(len(l.batch)) > l.cfg.RotateBytes {
		if err := l.sync(); err != nil {
			return err
		}
		if err := l.closeFile(); err != nil {
			return err
		}
	}
	if l.file == nil {
		f, err := newFile(l.cfg.Dir, time.Now())
		if err != nil {
			return err
		}
		l.file, l.size, l.synced, l.pruned = f, 0, time.Now(), false
	}
	if _, err := l.file.WriteAt(l.batch, l.size); err != nil {
		// Part of it may be there, whatever the count says: no torn line for those who read along.
		return errors.Join(err, l.file.Truncate(l.size))
	}
	l.size += int64(len(l.batch))
	if !l.dirty { // Sync counts from when the first of these events came
		l.dirty, l.synced = true, time.Now().Add(-l.linger)
	}
	return nil
}

func (l *Log) sync() error {
	if l.file == nil || !l.dirty {
		return nil
	}
	if err := unix.Fdatasync(int(l.file.Fd())); err != nil {
		// The kernel forgets after one failure which pages were lost: go on in a new file.
		return errors.Join(err, l.closeFile())
	}
	l.dirty, l.synced = false, time.Now()
	// A deleted file takes writes for as long as it is open, and keeps none.
	var st unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &st); err != nil || st.Nlink == 0 {
		return errors.Join(err, l.closeFile())
	}
	if l.pruned {
		return nil
	}
	// Not when the file is made: a disk that takes names and no content would have
	// us give up what is kept, file by file, for nothing.
	if err := prune(l.cfg.Dir, l.cfg.Keep); err != nil {
		return err
	}
	l.pruned = true
	return nil
}

// resume goes on in the newest file while it is small: otherwise whoever can make
// the gateway start again as many times as files are kept empties the record.
func (l *Log) resume() error {
	names, err := files(l.cfg.Dir)
	if err != nil || len(names) == 0 {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.cfg.Dir, names[len(names)-1]), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() >= l.cfg.RotateBytes {
		return errors.Join(err, f.Close())
	}
	l.file, l.size, l.synced = f, info.Size(), time.Now()
	return nil
}

func (l *Log) closeFile() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file, l.size, l.dirty = nil, 0, false
	return err
}

// recoverRing brings what a crash left into a file. Events which the dead
// process had already written are known by their ids: they can only be among the
// last bytes of the files, not further back than the ring is long.
func (l *Log) recoverRing() error {
	name := filepath.Join(l.cfg.Dir, ringName)
	ring, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("auditlog: %w", err)
	}
	if err := dropTorn(l.cfg.Dir); err != nil {
		return err
	}
	if err := l.resume(); err != nil {
		return err
	}
	if ring == nil {
		return nil
	}
	var lines [][]byte
	if err := leftovers(ring, func(line []byte) { lines = append(lines, line) }); err != nil {
		// Better to begin again with what is whole than never; the damaged ring is kept for people to look at.
		if err := os.WriteFile(name+".damaged", ring, 0o600); err != nil { //nolint:gosec // beside the ring, in the operator's folder
			return fmt.Errorf("auditlog: %w", err)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	have := map[string]bool{}
	if err := lastIDs(l.cfg.Dir, int64(len(ring))+4*maxBatch, have); err != nil {
		return err
	}
	l.batch = l.batch[:0]
	for _, line := range lines {
		id := lineID(line)
		if id == "" || !have[id] {
			l.batch = append(l.batch, line...)
		}
	}
	if err := l.writeBatch(); err != nil {
		return fmt.Errorf("auditlog: cannot recover events: %w", err)
	}
	err = l.sync()
	l.batch = make([]byte, 0, maxBatch+maxEvent)
	return err
}

// lineID gives the id a line begins with; "" if it is no line of ours.
func lineID(line []byte) string {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":"`))
	if end := bytes.IndexByte(rest, '"'); ok && end > 0 {
		return string(rest[:end])
	}
	return ""
}

// Find gives the event with that id from the files in dir, or from the ring, which
// it reads like any file: it works beside a running gateway and after one. It
// fails with [ErrNotFound] when the event was never recorded, or its file is no
// longer kept.
func Find(ctx context.Context, dir, id string) (*gatehouse.Event, error) {
	made, err := ParseTime(id)
	if err != nil {
		return nil, err
	}
	id = string(bytes.ToUpper([]byte(id)))
	// The ring before the files and again after: an event moves from there to here.
	for range 2 {
		if e, err := findInRing(dir, id); err != nil || e != nil {
			return e, err
		}
		if e, err := findInFiles(ctx, dir, id, made); err != nil || e != nil {
			return e, err
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Each visits the events that began at or after since, those in the ring first
// and then the files' in the order they were written. It works beside a running
// gateway and after one, and stops when visit returns false.
func Each(ctx context.Context, dir string, since time.Time, visit func(*gatehouse.Event) bool) error {
	seen := map[string]bool{}
	more := true
	one := func(line []byte) (bool, error) {
		e, err := decodeEvent(line)
		if err == nil && !e.Time.Before(since) {
			more = visit(e)
		}
		return more, err
	}
	ring, err := os.ReadFile(filepath.Join(dir, ringName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("auditlog: %w", err)
	}
	// A gateway may be writing: what looks damaged is read again from the files.
	_ = leftovers(ring, func(line []byte) {
		if id := lineID(line); more && !seen[id] {
			seen[id] = true
			if _, err := one(line); err != nil {
				delete(seen, id)
			}
		}
	})
	if !more {
		return nil
	}
	names, err := files(dir)
	if err != nil {
		return err
	}
	for i, name := range names {
		if i+1 < len(names) && began(names[i+1]).Before(since) {
			continue // all of it is older
		}
		if more, err = eachEvent(ctx, filepath.Join(dir, name), func(line []byte) (bool, error) {
			if seen[lineID(line)] {
				return true, nil
			}
			return one(line)
		}); err != nil || !more {
			return err
		}
	}
	return nil
}
