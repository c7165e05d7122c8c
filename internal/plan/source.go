package plan

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// retryEvery is how often a config that was refused is tried again: what it names may
// have come to this node.
const retryEvery = 30 * time.Second

// A Source is where a node has its config from: its file, or the database of its
// fleet, of which the file then only has the node's own settings. One goroutine at a
// time may use it, but for Came and Look.
type Source struct {
	path    string
	folder  fleet.Folder // "": the file is the config
	configs *fleet.Configs

	came      chan struct{}
	taken     int64           // number of the revision at work
	candidate *fleet.Revision // loaded last; nil: it was the one that is here
}

// NewSource is that of the file at path, whose own settings are own.
func NewSource(path string, own *config.File) (s *Source, err error) {
	s = &Source{path: path, came: make(chan struct{}, 1)}
	if own.Pushed() {
		s.folder = fleet.Folder(own.PushedFolder())
		_, s.taken, err = s.folder.Taken()
	}
	return s, err
}

// Pushed reports whether the config is in a database.
func (s *Source) Pushed() bool { return s.folder != "" }

// Use has s ask c from now on.
func (s *Source) Use(c *fleet.Configs) { s.configs = c }

// Load compiles what there is now beside the plan at work, and asks it its own tests.
func (s *Source) Load(ctx context.Context, at *Plan) (*Plan, error) {
	if !s.Pushed() {
		return tested(ctx)(Again(s.path, at))
	}
	own, err := config.LoadOwn(s.path)
	if err != nil {
		return nil, err
	}
	if !own.Pushed() {
		return nil, config.Errorf(own.Place, "fleet.config takes effect at the next start")
	}
	r, err := s.configs.Newest(ctx)
	if err != nil {
		return nil, err
	}
	if r.Number < s.taken {
		return nil, fmt.Errorf("the newest config in the database is revision %d, and here %d is at work: the database was set back; push the config again", r.Number, s.taken)
	}
	dir, err := s.folder.Put(r)
	if err != nil {
		return nil, err
	}
	s.candidate = r
	p, err := tested(ctx)(Pushed(filepath.Join(dir, config.PushedMain), own, at))
	if err != nil {
		return nil, s.Refused(err)
	}
	return p, nil
}

// Refused says of which revision err is.
func (s *Source) Refused(err error) error {
	if s.candidate == nil {
		return err
	}
	return fmt.Errorf("revision %d of the config: %w", s.candidate.Number, err)
}

// Before loads what was at work here last, where that is another one than loaded last.
func (s *Source) Before(ctx context.Context) (_ *Plan, ok bool, err error) {
	if s.taken == 0 || !s.Pushed() {
		return nil, false, nil
	}
	s.candidate = nil
	p, err := tested(ctx)(Compile(s.path))
	return p, true, err
}

// Keep notes that what was loaded last is at work.
func (s *Source) Keep() error {
	if s.candidate == nil {
		return nil
	}
	s.taken = s.candidate.Number
	return s.folder.Keep(s.candidate)
}

// Revisions are the numbers of the config at work and of the one loaded last; 0
// where none was pushed.
func (s *Source) Revisions() (taken, loaded int64) {
	if s.candidate == nil {
		return s.taken, s.taken
	}
	return s.taken, s.candidate.Number
}

// Came tells that there is a config to be loaded, once Look runs.
func (s *Source) Came() <-chan struct{} { return s.came }

// Look looks for another config in db until ctx ends, and has one that was refused
// loaded again from time to time.
func (s *Source) Look(ctx context.Context, db *store.DB, refused func() bool) {
	if !s.Pushed() {
		return
	}
	tick := time.NewTicker(store.LookEvery)
	defer tick.Stop()
	follow := db.Follow()
	var head string
	var tried time.Time
	for {
		again := time.Since(tried) > retryEvery && refused()
		if again {
			follow.Again()
		}
		_ = follow.Look(ctx, func(ctx context.Context) error { // when it fails, the next one reads
			now, err := s.configs.Head(ctx)
			if err != nil || now == head && !again {
				return err
			}
			head, tried = now, time.Now()
			select {
			case s.came <- struct{}{}:
			default: // it will be loaded
			}
			return nil
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tested asks a plan its own tests.
func tested(ctx context.Context) func(*Plan, error) (*Plan, error) {
	return func(p *Plan, err error) (*Plan, error) {
		if err != nil {
			return nil, err
		}
		return p, p.SelfTest(ctx)
	}
}
