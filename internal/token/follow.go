package token

import (
	"context"
	"os"
	"time"
)

// pollEvery is how often key files are looked at: half of the second within
// which a rotation by another process must be known.
const pollEvery = 500 * time.Millisecond

// A followed file is loaded again whenever it is another than before.
type followed struct {
	path string // "": nothing to follow
	load func() error
	seen os.FileInfo // when it was loaded last
	said string      // what was reported last, and still holds
}

// follow polls the files until ctx ends. The first look loads each: it may have
// changed since it was opened. A poll needs no watcher that a full queue, a
// network folder or a container mount could make deaf.
func follow(ctx context.Context, report func(error), files ...*followed) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		for _, f := range files {
			if f.path == "" {
				continue
			}
			switch err := f.look(); {
			case err == nil:
				f.said = ""
			case f.said != err.Error():
				f.said = err.Error()
				report(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look loads the file if it has changed; after a failure it tries again.
func (f *followed) look() error {
	info, err := os.Stat(f.path) // before loading: a change meanwhile is seen the next time
	if err != nil {
		f.seen = nil
		return err
	}
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() {
		return nil
	}
	if err := f.load(); err != nil {
		f.seen = nil
		return err
	}
	f.seen = info
	return nil
}
