package auditlog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

const changesName = "changes.jsonl"

// A Change is one act of an administrator: a key made, a config taken.
type Change struct {
	Time   time.Time         `json:"time"`             // set by Append when zero
	Actor  string            `json:"actor"`            // who did it: an operating system's user, later a principal
	Action string            `json:"action"`           // what: "keys.create", "config.reload"
	Object string            `json:"object"`           // to what: the key's id, the config's digest
	Detail map[string]string `json:"detail,omitempty"` // never a secret
}

// Changes is the record of changes: changes.jsonl in the same folder, which no
// rotation deletes. Several processes may hold it: `gatehouse keys` works beside a
// running gateway.
type Changes struct{ name string }

// OpenChanges makes the folder if there is none and gives its record of changes.
func OpenChanges(dir string) (*Changes, error) {
	if dir == "" {
		return nil, errors.New("auditlog: changes need a folder")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	return &Changes{filepath.Join(dir, changesName)}, nil
}

// Append records ch and returns when it is on the disk. Record a change before
// making it: one that cannot be recorded must not happen. A change without actor,
// action or object is refused.
func (c *Changes) Append(ctx context.Context, ch Change) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ch.Actor == "" || ch.Action == "" || ch.Object == "" {
		return fmt.Errorf("auditlog: a change needs actor, action and object; has %q, %q and %q", ch.Actor, ch.Action, ch.Object)
	}
	if ch.Time.IsZero() {
		ch.Time = time.Now()
	}
	ch.Time = ch.Time.UTC()
	line, err := json.Marshal(ch)
	if err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	f, err := os.OpenFile(c.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("auditlog: %w", closeErr))
		}
	}()
	// One writer at a time among all processes; the lock goes with f.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	end, err := lineEnd(f) // over what a power failure tore
	if err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("auditlog: %w", err)
	}
	if _, err := f.WriteAt(append(line, '\n'), end); err != nil {
		return errors.Join(fmt.Errorf("auditlog: cannot record a change: %w", err), f.Truncate(end))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("auditlog: cannot record a change: %w", err)
	}
	if end == 0 {
		return syncDir(filepath.Dir(c.name))
	}
	return nil
}

// All gives the recorded changes, oldest first. There may be none.
func (c *Changes) All(ctx context.Context) ([]Change, error) {
	f, err := os.Open(c.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("auditlog: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []Change
	var bad error
	err = eachLine(f, func(line []byte) bool {
		var ch Change
		if err := json.Unmarshal(line, &ch); err != nil {
			bad = fmt.Errorf("auditlog: change %d is damaged: %w", len(all)+1, err)
			return false
		}
		all = append(all, ch)
		bad = ctx.Err()
		return bad == nil
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, err
	}
	return all, nil
}

// A Keeper keeps changes for ever; [*Changes] is one.
type Keeper interface {
	Append(ctx context.Context, c Change) error
}

// Commit runs f in a transaction and logs what it did before the commit: a change
// that was not logged does not happen. (The other way round, a crash between the two
// would leave something nobody knows of.) If the commit then fails, that is logged
// too, with ".failed", or with ".unknown" where nobody can say whether it did. An empty object from f means that nothing was changed.
func Commit(ctx context.Context, db *store.DB, log Keeper, actor, action string, f func(*sql.Tx) (object string, detail map[string]string, err error)) error {
	var logged []Change // more than one when the transaction had to be repeated
	err := db.Write(ctx, func(tx *sql.Tx) error {
		object, detail, err := f(tx)
		if err != nil || object == "" {
			return err
		}
		c := Change{Actor: actor, Action: action, Object: object, Detail: detail}
		if err := log.Append(ctx, c); err != nil {
			return fmt.Errorf("%s is not done because it could not be logged: %w", action, err)
		}
		logged = append(logged, c)
		return nil
	})
	if err == nil && len(logged) > 0 {
		logged = logged[:len(logged)-1]
	}
	for i, c := range logged {
		suffix := ".failed"
		if errors.Is(err, store.ErrUnknown) && i == len(logged)-1 {
			suffix = ".unknown"
		}
		c.Action += suffix
		err = errors.Join(err, log.Append(context.WithoutCancel(ctx), c))
	}
	return err
}
