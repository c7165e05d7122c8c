package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be left alone before they are read: editors and
// deployments write in several steps.
const settle = 150 * time.Millisecond

// watch reloads on SIGHUP and when a file of the config changes. Folders are
// watched, not files: editors and config maps replace files by renaming.
func (r *runner) watch(ctx context.Context) {
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("changes of the config are not noticed by themselves; send SIGHUP", slog.Any("error", err))
		w = &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	} else {
		defer func() { _ = w.Close() }()
		if r.follow(w) {
			quiet.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
			r.tell("RELOADING=1")
			r.reload(ctx)
			r.tell("READY=1")
		case <-r.from.Came():
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
		if err == nil && r.follow(w) {
			quiet.Reset(settle)
		}
	}
}

// follow adds the folders of the config's files; known ones are left alone. It
// reports whether there was a new one: what changed there between the reading and
// the watching is only found by reading once more.
func (r *runner) follow(w *fsnotify.Watcher) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(w.WatchList())
	for _, f := range r.plan.Watch {
		if err := w.Add(filepath.Dir(f)); err != nil {
			r.log.Warn("changes of this folder are not noticed by themselves; send SIGHUP", slog.String("folder", filepath.Dir(f)), slog.Any("error", err))
		}
	}
	return len(w.WatchList()) > before
}

// watched reports whether a change of name may be one of the config: of one of its
// files, or of what a config map swaps (..data). While the last config is refused
// it may be any document: the fault may be in one that only that config names. Other
// files do not count, or the refusal's own line in a log beside them would be one.
func (r *runner) watched(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if filepath.Base(name) == "..data" || r.lastErr != nil && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
		return true
	}
	for _, f := range r.plan.Watch {
		if filepath.Clean(name) == filepath.Clean(f) {
			return true
		}
	}
	return false
}
