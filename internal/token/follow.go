package token

import (
	"context"
	"time"
)

// pollEvery is how often key documents are looked at: a quarter of the second
// within which a rotation by another process must be known.
const pollEvery = 250 * time.Millisecond

// A followed document is loaded again whenever it is another than before.
type followed struct {
	kept kept // zero: nothing to follow
	load func(Document) error
	seen string // its stamp when it was loaded last; "": never
	said string // what was reported last, and still holds
}

// follow polls the documents until ctx ends. The first look loads each: it may have
// changed since it was opened. A poll needs no watcher that a full queue, a
// network folder or a container mount could make deaf.
func follow(ctx context.Context, report func(error), documents ...*followed) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		for _, f := range documents {
			if f.kept.keeper == nil {
				continue
			}
			switch err := f.look(); {
			case ctx.Err() != nil:
				return
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

// look loads the document if it has changed; after a failure it tries again.
func (f *followed) look() error {
	stamp, err := f.kept.keeper.Stamp(f.kept.name) // before loading: a change meanwhile is seen the next time
	if err != nil {
		f.seen = ""
		return err
	}
	if f.seen != "" && f.seen == stamp {
		return nil
	}
	doc, err := f.kept.keeper.Load(f.kept.name)
	if err == nil {
		err = f.load(doc)
	}
	if err != nil {
		f.seen = ""
		return err
	}
	f.seen = stamp
	return nil
}
