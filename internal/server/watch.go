package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be left alone before they are read: editors and
// deployments write in several steps.
const settle = 150 * time.Millisecond

// watch reloads on SIGHUP and when a file of the config changes. Folders are
// watched, not files: editors and config maps replace files by renaming.
func (r *runner) watch(ctx context.Context) {
	signals, stop := hup()
	defer stop()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("changes of the config are not noticed by themselves; send SIGHUP", slog.Any("error", err))
		w = &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	} else {
		defer func() { _ = w.Close() }()
		r.follow(w)
	}
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			r.reload(ctx)
		case e := <-w.Events:
			if r.watched(e.Name) {
				quiet.Reset(settle)
			}
			continue
		case err := <-w.Errors:
			r.log.Warn("a change of the config may have been missed; send SIGHUP", slog.Any("error", err))
			quiet.Reset(settle)
			continue
		case <-quiet.C:
			r.reload(ctx)
		}
		if err == nil {
			r.follow(w)
		}
	}
}

// follow adds the folders of the config's files; known ones are left alone.
func (r *runner) follow(w *fsnotify.Watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.plan.Watch {
		if err := w.Add(filepath.Dir(f)); err != nil {
			r.log.Warn("changes of this folder are not noticed by themselves; send SIGHUP", slog.String("folder", filepath.Dir(f)), slog.Any("error", err))
		}
	}
}

// watched reports whether a change of name may be one of the config: of one of its
// files, or of what a config map swaps (..data).
func (r *runner) watched(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if filepath.Base(name) == "..data" {
		return true
	}
	for _, f := range r.plan.Watch {
		if filepath.Clean(name) == filepath.Clean(f) {
			return true
		}
	}
	return false
}

func isClosed(err error) bool { return errors.Is(err, http.ErrServerClosed) }
