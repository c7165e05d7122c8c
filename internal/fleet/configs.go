package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Bounds of a pushed config.
const (
	MaxFiles     = 1000
	MaxFileBytes = 4 << 20
	maxBytes     = 16 << 20 // of all files
	keepConfigs  = 100      // revisions; older ones go when one is pushed
	maxAhead     = 1 << 32  // revisions that nodes may have beyond those of the database, an old backup
)

var (
	// ErrNoConfig tells that nothing was pushed yet, or not under that number.
	ErrNoConfig = errors.New("the database has no such config")
	// ErrPushed tells that somebody else pushed a config meanwhile.
	ErrPushed = errors.New("somebody else pushed a config meanwhile")
	// ErrForged tells that a revision is not as it was pushed.
	ErrForged = errors.New("it is not as it was pushed: somebody without the fleet's key has changed it")
)

// A File is one of a config. Its name is a path below the folder of the main file,
// with slashes.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex
	Text   string `json:"text"`
}

// A Revision is a config as it was pushed.
type Revision struct {
	Number int64     `json:"revision"`
	Digest string    `json:"digest"`
	Author string    `json:"author"`
	Made   time.Time `json:"made"`
	Origin int64     `json:"origin,omitempty"` // the revision it has brought back
	Forged bool      `json:"forged,omitempty"` // in a history: nodes refuse it
	Files  []File    `json:"-"`
}

// NewRevision makes one of names and texts, not pushed yet. It refuses what a
// database does not keep as it is, and what would not stay below a folder.
func NewRevision(texts map[string][]byte) (*Revision, error) {
	if len(texts) > MaxFiles {
		return nil, fmt.Errorf("fleet: the config has %d files, more than %d", len(texts), MaxFiles)
	}
	r, total := &Revision{}, 0
	for name, text := range texts {
		total += len(text)
		switch {
		case len(text) > MaxFileBytes || total > maxBytes:
			return nil, fmt.Errorf("fleet: %s makes the config larger than %d MiB for a file and %d MiB for all; give such a file to each node and name it by an absolute path",
				name, MaxFileBytes>>20, maxBytes>>20)
		case !utf8.Valid(text):
			return nil, fmt.Errorf("fleet: %s is no text; give it to each node and name it by an absolute path", name)
		}
		sum := sha256.Sum256(text)
		r.Files = append(r.Files, File{name, hex.EncodeToString(sum[:]), string(text)})
	}
	slices.SortFunc(r.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	r.Digest = digestOf(r.Files)
	return r, r.whole()
}

func digestOf(files []File) string {
	sum := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(sum, "%d %s %s\n", len(f.Name), f.Name, f.SHA256) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// whole reports whether the files are those of the digest, and their names of files
// below a folder.
func (r *Revision) whole() error {
	if len(r.Files) == 0 || len(r.Files) > MaxFiles {
		return ErrForged
	}
	for i, f := range r.Files {
		if !filepath.IsLocal(f.Name) || filepath.ToSlash(filepath.Clean(f.Name)) != f.Name || strings.ContainsAny(f.Name, "\\\x00") || f.Name == "." {
			return fmt.Errorf("fleet: %q is not below the folder of the config's main file", f.Name)
		}
		sum := sha256.Sum256([]byte(f.Text))
		if hex.EncodeToString(sum[:]) != f.SHA256 || i > 0 && r.Files[i-1].Name >= f.Name {
			return ErrForged
		}
	}
	if digestOf(r.Files) != r.Digest {
		return ErrForged
	}
	return nil
}

// Configs are the revisions of a fleet's config, in its database. It is safe for
// concurrent use.
type Configs struct{ vault }

// OpenConfigs brings the tables up to date, and binds to cfg.Key what is bound to
// one of the others.
func OpenConfigs(ctx context.Context, cfg KeysConfig) (*Configs, error) {
	v, err := openVault(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c := &Configs{v}
	if err := c.rebind(ctx); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return c, nil
}

// mark is the MAC of a revision under w.
func (w *wrapper) mark(r *Revision) string {
	m := hmac.New(sha256.New, w.mac)
	_, _ = fmt.Fprintf(m, "gatehouse fleet config\x00%d\x00%s\x00%d\x00%d\x00%s", r.Number, r.Digest, store.Millis(r.Made), r.Origin, r.Author)
	return hex.EncodeToString(m.Sum(nil))
}

// A bound revision is one as the database has it.
type boundRevision struct {
	Revision
	kek, mac, files string
}

const headColumns = `revision, digest, author, made, origin, kek, mac`

func (b *boundRevision) scan(from interface{ Scan(...any) error }, more ...any) error {
	var made int64
	err := from.Scan(append([]any{&b.Number, &b.Digest, &b.Author, &made, &b.Origin, &b.kek, &b.mac}, more...)...)
	b.Made = store.Moment(made)
	return err
}

// genuine reports whether who pushed b had the fleet's key.
func (c *Configs) genuine(b *boundRevision) error {
	w := c.all[b.kek]
	if w == nil {
		return fmt.Errorf("revision %d of the config: %w", b.Number, ErrFleetKey)
	}
	if !hmac.Equal([]byte(w.mark(&b.Revision)), []byte(b.mac)) {
		return fmt.Errorf("revision %d of the config: %w", b.Number, ErrForged)
	}
	return nil
}

// rebind binds to the key at work what an older one has bound.
func (c *Configs) rebind(ctx context.Context) error {
	all, err := c.heads(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		b := &all[i]
		if b.kek == c.now.id || c.genuine(b) != nil { // whoever reads it is told
			continue
		}
		err := c.changes.Append(ctx, auditlog.Change{Actor: "fleet", Action: "fleet.config.rebind", Object: strconv.FormatInt(b.Number, 10), Detail: map[string]string{"from": b.kek, "to": c.now.id}})
		if err != nil {
			return err
		}
		err = c.db.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE fleet_configs SET kek = $1, mac = $2 WHERE revision = $3 AND mac = $4`, c.now.id, c.now.mark(&b.Revision), b.Number, b.mac)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Configs) heads(ctx context.Context) (all []boundRevision, err error) {
	err = c.db.Read(ctx, func(tx *sql.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, `SELECT `+headColumns+` FROM fleet_configs ORDER BY revision DESC`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var b boundRevision
			if err := b.scan(rows); err != nil {
				return err
			}
			all = append(all, b)
		}
		return rows.Err()
	})
	return all, err
}

// History lists the revisions, the newest first, without their files.
func (c *Configs) History(ctx context.Context) ([]Revision, error) {
	all, err := c.heads(ctx)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	out := []Revision{}
	for i := range all {
		r := all[i].Revision
		r.Forged = c.genuine(&all[i]) != nil
		out = append(out, r)
	}
	return out, nil
}

// Head names the newest revision as it stands there, believed or not: who polls
// compares it. "" is none.
func (c *Configs) Head(ctx context.Context) (string, error) {
	var b boundRevision
	err := c.db.Read(ctx, func(tx *sql.Tx) error {
		return b.scan(tx.QueryRowContext(ctx, `SELECT `+headColumns+` FROM fleet_configs ORDER BY revision DESC LIMIT 1`))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return fmt.Sprint(b.Number, b.Digest), err
}

// Newest gives the newest revision with its files. One that was changed fails with
// [ErrForged]; none with [ErrNoConfig].
func (c *Configs) Newest(ctx context.Context) (*Revision, error) {
	return c.read(ctx, `SELECT `+headColumns+`, files FROM fleet_configs ORDER BY revision DESC LIMIT 1`)
}

// Revision gives an older one with its files.
func (c *Configs) Revision(ctx context.Context, number int64) (*Revision, error) {
	r, err := c.read(ctx, `SELECT `+headColumns+`, files FROM fleet_configs WHERE revision = $1`, number)
	if errors.Is(err, ErrNoConfig) {
		err = fmt.Errorf("revision %d: %w", number, err)
	}
	return r, err
}

func (c *Configs) read(ctx context.Context, query string, args ...any) (*Revision, error) {
	var b boundRevision
	err := c.db.Read(ctx, func(tx *sql.Tx) error {
		return b.scan(tx.QueryRowContext(ctx, query, args...), &b.files)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if err := c.genuine(&b); err != nil {
		return nil, err
	}
	err = json.Unmarshal([]byte(b.files), &b.Files)
	if err == nil {
		err = b.whole()
	}
	if err != nil {
		return nil, fmt.Errorf("revision %d of the config: %w", b.Number, errors.Join(ErrForged, err))
	}
	return &b.Revision, nil
}

// Push stores r as the newest revision for author, if the newest is the one named
// after (0: there is none); else the error is [ErrPushed]. Its number is above those
// of the database and of the nodes: they take no older one than they have, also when
// a backup of the database was put back.
func (c *Configs) Push(ctx context.Context, after int64, author string, r *Revision) error {
	if author == "" {
		return errors.New("fleet: a config is pushed by somebody")
	}
	if err := r.whole(); err != nil {
		return err
	}
	files, err := json.Marshal(r.Files)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	nodes, err := list(ctx, c.db)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	r.Number = after + 1
	for _, n := range nodes {
		if n.Revision-after > maxAhead { // or a single row could use up the numbers, for good
			return fmt.Errorf("fleet: the database says that node %s has revision %d, and the newest here is %d: nobody has pushed so many; remove its row from fleet_nodes", n.Name, n.Revision, after)
		}
		r.Number = max(r.Number, n.Revision+1)
	}
	r.Author, r.Made = author, time.UnixMilli(time.Now().UnixMilli())
	detail := map[string]string{"revision": strconv.FormatInt(r.Number, 10)}
	if r.Origin > 0 {
		detail["origin"] = strconv.FormatInt(r.Origin, 10)
	}
	err = auditlog.Commit(ctx, c.db, c.changes, author, "fleet.config.push", func(tx *sql.Tx) (string, map[string]string, error) {
		// One statement: of two who saw the same newest revision, one inserts.
		res, err := tx.ExecContext(ctx, `INSERT INTO fleet_configs (revision, digest, author, made, origin, files, kek, mac)
			SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS TEXT)
			WHERE (SELECT COALESCE(MAX(revision), 0) FROM fleet_configs) = $9 ON CONFLICT DO NOTHING`,
			r.Number, r.Digest, r.Author, store.Millis(r.Made), r.Origin, string(files), c.now.id, c.now.mark(r), after)
		if err != nil {
			return "", nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return "", nil, errors.Join(err, ErrPushed)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM fleet_configs WHERE revision NOT IN (SELECT revision FROM fleet_configs ORDER BY revision DESC LIMIT $1)`, keepConfigs)
		return r.Digest, detail, err
	})
	if err != nil && !errors.Is(err, ErrPushed) {
		return fmt.Errorf("fleet: %w", err)
	}
	return err
}
