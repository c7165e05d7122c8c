package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// ErrNotFound is what [Find] answers about an event that is not there.
var ErrNotFound = errors.New("auditlog: no such event")

const (
	filePrefix = "events-"
	fileSuffix = ".jsonl"
	fileTime   = "20060102T150405.000" // UTC; sorts by name as by time
)

// newFile creates the file that begins at t, or a little later if that one exists
// or the clock has gone back: names must sort as the files were made.
func newFile(dir string, t time.Time) (*os.File, error) {
	names, err := files(dir)
	if err != nil {
		return nil, err
	}
	if n := len(names); n > 0 {
		if last := began(names[n-1]); !last.Before(t.Truncate(time.Millisecond)) {
			t = last.Add(time.Millisecond)
		}
	}
	name := filepath.Join(dir, filePrefix+t.UTC().Format(fileTime)+fileSuffix)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, syncDir(dir)
}

// syncDir makes a new name survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// files gives the names of the event files, oldest first.
func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !began(e.Name()).IsZero() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// began gives when an event file began; zero for any other file.
func began(name string) time.Time {
	stamp, ok := strings.CutPrefix(name, filePrefix)
	stamp, ok2 := strings.CutSuffix(stamp, fileSuffix)
	if !ok || !ok2 {
		return time.Time{}
	}
	t, err := time.Parse(fileTime, stamp)
	if err != nil {
		return time.Time{}
	}
	return t
}

// prune deletes the oldest files over keep.
func prune(dir string, keep int) error {
	names, err := files(dir)
	if err != nil {
		return err
	}
	for len(names) > keep {
		if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}

// dropTorn cuts a line that was being written when the process died. The event is
// still in the ring.
func dropTorn(dir string) error {
	names, err := files(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, names[len(names)-1]), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	end, err := lineEnd(f)
	if err == nil {
		err = f.Truncate(end)
	}
	return errors.Join(err, f.Close())
}

// lineEnd gives where the last whole line of f ends.
func lineEnd(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	b := make([]byte, 64<<10)
	for end > 0 {
		n := min(end, int64(len(b)))
		if _, err := f.ReadAt(b[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// lastIDs collects the ids of the lines in the last limit bytes of the files.
func lastIDs(dir string, limit int64, ids map[string]bool) error {
	names, err := files(dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(names) {
		if limit <= 0 {
			return nil
		}
		read, err := idsOf(filepath.Join(dir, name), limit, ids)
		if err != nil {
			return err
		}
		limit -= read
	}
	return nil
}

func idsOf(name string, limit int64, ids map[string]bool) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, fmt.Errorf("auditlog: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("auditlog: %w", err)
	}
	if _, err := f.Seek(max(0, info.Size()-limit), io.SeekStart); err != nil {
		return 0, fmt.Errorf("auditlog: %w", err)
	}
	return min(limit, info.Size()), eachLine(f, func(line []byte) bool {
		if id := lineID(line); id != "" {
			ids[id] = true
		}
		return true
	})
}

// eachLine visits the whole lines of r until visit has seen enough.
func eachLine(r io.Reader, visit func(line []byte) bool) error {
	lines := bufio.NewReaderSize(r, 256<<10)
	skipping := false
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			skipping = true // no line of ours is so long
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("auditlog: %w", err)
		case skipping:
			skipping = false
		case !visit(line):
			return nil
		}
	}
}

// findInFiles looks first where the time in the id points: an event is written
// when its request ends, into the file that is open then, so in the one that was
// open when the request began, or a later one.
func findInFiles(ctx context.Context, dir, id string, made time.Time) (*gatehouse.Event, error) {
	names, err := files(dir)
	if err != nil {
		return nil, err
	}
	first := 0
	for i, name := range names {
		if !began(name).After(made) {
			first = i
		}
	}
	// The rest last: clocks go back, and recovery writes late.
	for _, name := range append(slices.Clone(names[first:]), names[:first]...) {
		e, err := findInFile(ctx, filepath.Join(dir, name), id)
		if e != nil || err != nil {
			return e, err
		}
	}
	return nil, nil //nolint:nilnil // not here is no error yet
}

func findInFile(ctx context.Context, name, id string) (found *gatehouse.Event, err error) {
	prefix := []byte(`{"id":"` + id + `"`)
	_, err = eachEvent(ctx, name, func(line []byte) (more bool, err error) {
		if !bytes.HasPrefix(line, prefix) {
			return true, nil
		}
		found, err = decodeEvent(line)
		return false, err
	})
	return found, err
}

// eachEvent visits the lines of an event file until visit has seen enough, which
// is then false.
func eachEvent(ctx context.Context, name string, visit func(line []byte) (more bool, err error)) (more bool, err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // pruned while we looked
	}
	if err != nil {
		return false, fmt.Errorf("auditlog: %w", err)
	}
	defer func() { _ = f.Close() }()
	more = true
	count := 0
	scanErr := eachLine(f, func(line []byte) bool {
		if count++; count%4096 == 0 && ctx.Err() != nil {
			more, err = false, ctx.Err()
			return false
		}
		more, err = visit(line)
		return more && err == nil
	})
	return more, errors.Join(err, scanErr)
}

func findInRing(dir, id string) (found *gatehouse.Event, err error) {
	ring, err := os.ReadFile(filepath.Join(dir, ringName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // no gateway ran here
	}
	if err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	// A gateway may be writing: what looks damaged is read again from the files.
	_ = leftovers(ring, func(line []byte) {
		if found == nil && err == nil && lineID(line) == id {
			found, err = decodeEvent(line)
		}
	})
	return found, err
}
