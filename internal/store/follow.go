package store

import (
	"context"
	"sync/atomic"
	"time"
)

// How rooms follow rows that they keep a copy of: what is revoked is to be known
// within a second, and who cannot be asked about it is not believed for long.
const (
	LookEvery = 250 * time.Millisecond
	LookLimit = time.Second     // a look that takes longer has failed
	TrustFor  = 2 * time.Second // how long a copy is believed without a look that succeeded
)

// A Follower knows when a copy of rows was last what the database says.
type Follower struct {
	db      *DB
	start   time.Time
	version uint64       // at the last look that succeeded
	asked   atomic.Int64 // nanoseconds since start when that look began
	loaded  atomic.Bool  // and nobody has called Again
}

// Follow begins to follow: the first look reads.
func (db *DB) Follow() *Follower { return &Follower{db: db, start: time.Now()} }

// Look has load read again if the database may be another than at the last look that
// succeeded. One look at a time.
func (f *Follower) Look(ctx context.Context, load func(context.Context) error) error {
	asked := time.Since(f.start)
	version, err := f.db.Version(ctx) // before the rows: a commit in between is seen by the next look
	if err != nil {
		return err
	}
	if !f.loaded.Swap(true) || version != f.version {
		if err := load(ctx); err != nil {
			f.loaded.Store(false)
			return err
		}
		f.version = version
	}
	f.asked.Store(int64(asked))
	return nil
}

// Again makes the next look read in any case. It may be called at any time.
func (f *Follower) Again() { f.loaded.Store(false) }

// Since is when the last look that succeeded began: what was committed until then is
// in the copy. Without one it is when Follow was called. It may be asked at any time.
func (f *Follower) Since() time.Time { return f.start.Add(time.Duration(f.asked.Load())) }
