package fleet

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("fleet", migrations) }

const (
	minKey    = 32 // bytes of the text of a fleet's key: 32 random ones in hex or base64 are more
	answerIn  = 5 * time.Second
	lookEvery = 100 * time.Millisecond // several documents are followed with one look
)

// ErrFleetKey tells that the keys in the database are sealed under another secret.
var ErrFleetKey = errors.New("it is sealed under a fleet.key that this node does not have; give it under fleet.other_keys, too")

// A KeysConfig says where the keys of the house are. All but Others is required.
type KeysConfig struct {
	DB      *store.DB
	Key     gatehouse.Secret   // seals and opens; at least 32 bytes
	Others  []gatehouse.Secret // only open: the one before, or the one to come
	Changes *auditlog.Changes
}

// Keys keeps the keys of a house in its database, for all nodes. It is a
// [token.Keeper], safe for concurrent use.
type Keys struct {
	vault

	floor  map[string]int64 // of each document the highest revision that was opened or made here
	floors sync.Mutex       // guards floor

	mu     sync.Mutex // held while looking
	looked time.Time
	follow *store.Follower // of stamps
	stamps map[string]string
}

// A vault is the database of a fleet, and what binds to its secrets what is in it.
type vault struct {
	db      *store.DB
	changes *auditlog.Changes
	now     *wrapper
	all     map[string]*wrapper // by their ids
}

// A wrapper seals documents under one secret.
type wrapper struct {
	id   string
	aead cipher.AEAD
	mac  []byte // key for what is not secret, see [Configs]
}

// OpenKeys brings the tables up to date, and seals under cfg.Key what is sealed
// under one of the others.
func OpenKeys(ctx context.Context, cfg KeysConfig) (*Keys, error) {
	v, err := openVault(ctx, cfg)
	if err != nil {
		return nil, err
	}
	k := &Keys{vault: v, floor: map[string]int64{}, follow: v.db.Follow()}
	if err := k.reseal(ctx); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return k, nil
}

// openVault brings the tables up to date.
func openVault(ctx context.Context, cfg KeysConfig) (v vault, err error) {
	if cfg.DB == nil || cfg.Changes == nil {
		return v, errors.New("fleet: keys and configs need a database and a log of changes")
	}
	v = vault{db: cfg.DB, changes: cfg.Changes, all: map[string]*wrapper{}}
	for _, other := range cfg.Others {
		w, err := newWrapper(other)
		if err != nil {
			return v, fmt.Errorf("fleet: other_keys: %w", err)
		}
		v.all[w.id] = w
	}
	if v.now, err = newWrapper(cfg.Key); err != nil {
		return v, fmt.Errorf("fleet: key: %w", err)
	}
	v.all[v.now.id] = v.now
	if err := cfg.DB.Migrate(ctx, Tables()); err != nil {
		return v, fmt.Errorf("fleet: %w", err)
	}
	return v, nil
}

func newWrapper(secret gatehouse.Secret) (*wrapper, error) {
	text := bytes.TrimSpace([]byte(secret.Reveal()))
	if len(text) < minKey {
		return nil, fmt.Errorf("it has %d bytes, at least %d random ones are needed: openssl rand -base64 48 > fleet.key", len(text), minKey)
	}
	// The secret has all its entropy: it is stretched for length, not against guessing.
	key, err := hkdf.Key(sha256.New, text, nil, "gatehouse fleet key: seal", 32)
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, text, nil, "gatehouse fleet key: id", 8)
	if err != nil {
		return nil, err
	}
	mac, err := hkdf.Key(sha256.New, text, nil, "gatehouse fleet key: config", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &wrapper{hex.EncodeToString(id), aead, mac}, err
}

// seal binds text to its name and revision: a row that is moved or set back alone
// does not open.
func (w *wrapper) seal(name string, revision int64, text []byte) (string, error) {
	nonce := make([]byte, w.aead.NonceSize(), w.aead.NonceSize()+len(text)+w.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(w.aead.Seal(nonce, nonce, text, bound(name, revision))), nil
}

func (w *wrapper) open(name string, revision int64, sealed string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(b) < w.aead.NonceSize() {
		return nil, errChanged
	}
	n := w.aead.NonceSize()
	text, err := w.aead.Open(nil, b[:n], b[n:], bound(name, revision))
	if err != nil {
		return nil, errChanged
	}
	return text, nil
}

// ErrSetBack tells that a document is older than one this process has had. It is
// genuine, and may have keys that were taken out of use since.
var ErrSetBack = errors.New("it is older than what this node has seen of it: the database was set back; if that is meant, end all nodes and start them again")

var errChanged = errors.New("it was changed by somebody without the fleet's key; restore it from a backup")

func bound(name string, revision int64) []byte {
	return fmt.Appendf(nil, "gatehouse fleet key\x00%d\x00%s", revision, name)
}

// A row is a document as the database has it.
type row struct {
	name     string
	revision int64
	kek      string
	sealed   string
}

func (k *Keys) open(r row) ([]byte, error) {
	w := k.all[r.kek]
	if w == nil {
		return nil, fmt.Errorf("%s: %w", place(r.name), ErrFleetKey)
	}
	text, err := w.open(r.name, r.revision, r.sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place(r.name), err)
	}
	if !k.advance(r.name, r.revision) {
		return nil, fmt.Errorf("%s: %w", place(r.name), ErrSetBack)
	}
	return text, nil
}

// advance notes a revision that was opened, or made, and reports whether none later was.
func (k *Keys) advance(name string, revision int64) bool {
	k.floors.Lock()
	defer k.floors.Unlock()
	if revision < k.floor[name] {
		return false
	}
	k.floor[name] = revision
	return true
}

func place(name string) string { return "the document " + name + " in the database" }

// Load is of [token.Keeper].
func (k *Keys) Load(name string) (token.Document, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerIn)
	defer cancel()
	doc, err := k.load(ctx, name)
	if errors.Is(err, ErrSetBack) { // or it was read before another goroutine read a later one
		doc, err = k.load(ctx, name)
	}
	return doc, err
}

func (k *Keys) load(ctx context.Context, name string) (token.Document, error) {
	r := row{name: name}
	err := k.db.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT revision, kek, sealed FROM fleet_keys WHERE name = $1`, name).Scan(&r.revision, &r.kek, &r.sealed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return token.Document{}, fmt.Errorf("%s: %w", place(name), fs.ErrNotExist)
	}
	if err != nil {
		return token.Document{}, fmt.Errorf("%s: %w", place(name), err)
	}
	text, err := k.open(r)
	return token.Document{Text: text, Revision: strconv.FormatInt(r.revision, 10), Place: place(name)}, err
}

// Swap is of [token.Keeper]. A first revision is a random number, so that a document
// that was removed by hand does not come back under one that nodes have seen.
func (k *Keys) Swap(name, revision string, text []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerIn)
	defer cancel()
	done, err := k.swap(ctx, name, revision, text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", place(name), err)
	}
	return done, nil
}

func (k *Keys) swap(ctx context.Context, name, revision string, text []byte) (bool, error) {
	if revision == "" {
		var n int64
		err := k.db.Write(ctx, func(tx *sql.Tx) (err error) {
			n, err = k.insert(ctx, tx, name, text)
			return err
		})
		return n == 1 && err == nil, err
	}
	old, err := strconv.ParseInt(revision, 10, 64)
	if err != nil {
		return false, err
	}
	sealed, err := k.now.seal(name, old+1, text)
	if err != nil {
		return false, err
	}
	var n int64
	err = k.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE fleet_keys SET revision = $1, kek = $2, sealed = $3, changed = $4 WHERE name = $5 AND revision = $6`,
			old+1, k.now.id, sealed, time.Now().UnixMilli(), name, old)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if n == 1 && err == nil {
		k.advance(name, old+1)
	}
	return n == 1 && err == nil, err
}

func (k *Keys) insert(ctx context.Context, tx *sql.Tx, name string, text []byte) (int64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	first := int64(1)
	for _, c := range b[:6] { // 48 bits: room for as many revisions as anybody makes
		first = first<<8 | int64(c)
	}
	sealed, err := k.now.seal(name, first, text)
	if err != nil {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO fleet_keys (name, revision, kek, sealed, changed) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		name, first, k.now.id, sealed, time.Now().UnixMilli())
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Stamp is of [token.Keeper]: revision and digest. The database is asked for its version at
// most ten times a second, and for the revisions only when that is another.
func (k *Keys) Stamp(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) >= lookEvery {
		ctx, cancel := context.WithTimeout(context.Background(), answerIn)
		defer cancel()
		if err := k.follow.Look(ctx, k.stamp); err != nil {
			return "", fmt.Errorf("the keys of the house: %w", err)
		}
		k.looked = time.Now()
	}
	stamp, ok := k.stamps[name]
	if !ok {
		return "", fmt.Errorf("%s: %w", place(name), fs.ErrNotExist)
	}
	return stamp, nil
}

// stamp reads the stamps of all documents.
func (k *Keys) stamp(ctx context.Context) error {
	found := map[string]string{}
	rows, err := k.rows(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		sum := sha256.Sum256([]byte(r.sealed)) // what somebody changed by hand keeps its revision
		found[r.name] = strconv.FormatInt(r.revision, 10) + " " + string(sum[:])
	}
	k.stamps = found
	return nil
}

func (k *Keys) rows(ctx context.Context) (all []row, err error) {
	err = k.db.Read(ctx, func(tx *sql.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, `SELECT name, revision, kek, sealed FROM fleet_keys ORDER BY name`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.name, &r.revision, &r.kek, &r.sealed); err != nil {
				return err
			}
			all = append(all, r)
		}
		return rows.Err()
	})
	return all, err
}

// reseal gives what another secret sealed to the one at work, and fails on what
// none of them opens: such a node would sign with keys that nobody else has.
func (k *Keys) reseal(ctx context.Context) error {
	rows, err := k.rows(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		text, err := k.open(r)
		if err != nil {
			return err
		}
		if r.kek == k.now.id {
			continue
		}
		err = k.changes.Append(ctx, auditlog.Change{Actor: "fleet", Action: "fleet.keys.reseal", Object: r.name, Detail: map[string]string{"from": r.kek, "to": k.now.id}})
		if err != nil {
			return err
		}
		// Whoever was faster has sealed it as well, or will at its next start.
		if _, err := k.swap(ctx, r.name, strconv.FormatInt(r.revision, 10), text); err != nil {
			return err
		}
	}
	return nil
}

// TakeIn puts the documents that from has into the database, when there is not one
// yet: all of one node, so that no two houses are mixed. It returns the names it took.
func (k *Keys) TakeIn(ctx context.Context, from token.Keeper, names ...string) ([]string, error) {
	rows, err := k.rows(ctx)
	if err != nil || len(rows) > 0 {
		return nil, err
	}
	texts, had := map[string][]byte{}, []string{}
	for _, name := range names {
		doc, err := from.Load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		texts[name], had = doc.Text, append(had, name)
	}
	if len(had) == 0 {
		return nil, nil
	}
	if err := k.changes.Append(ctx, auditlog.Change{Actor: "fleet", Action: "fleet.keys.take", Object: "data", Detail: map[string]string{"documents": fmt.Sprint(had)}}); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	var taken []string
	err = k.db.Write(ctx, func(tx *sql.Tx) error {
		taken = nil
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM fleet_keys`).Scan(&n); err != nil || n > 0 {
			return err // another node was faster: its keys are the house's
		}
		for _, name := range had {
			if _, err := k.insert(ctx, tx, name, texts[name]); err != nil {
				return err
			}
			taken = append(taken, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return taken, nil
}
