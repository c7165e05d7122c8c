package authn

import (
	"context"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("authn", migrations) }

// Errors of the methods of [Keys].
var (
	ErrKeyUnknown = errors.New("no API key has this id; `gatehouse keys list` shows them")
	ErrKeyDead    = errors.New("the API key is revoked or expired; create a new one")
	ErrKeyTwoLive = errors.New("two keys of this line are live already; revoke the old one first")
	ErrKeyRequest = errors.New("API key refused")
)

const maxOverlap = 90 * 24 * time.Hour

// A ChangeLog keeps changes for ever; [*auditlog.Changes] is one. What it can not
// keep must not happen.
type ChangeLog interface {
	Append(ctx context.Context, c auditlog.Change) error
}

// KeysConfig says where keys are and for what. All fields are required.
type KeysConfig struct {
	DB          *store.DB
	Environment string // in each key and checked: a key of "test" does not open "live"
	Log         ChangeLog
}

// Keys are the API keys. Its methods are safe for concurrent use; they authorise
// nobody, but write each change with its actor to the log, and when that fails
// change nothing.
type Keys struct {
	cfg    KeysConfig
	follow *store.Follower // of live

	mu     sync.Mutex // guards what follows but for live, and looks of follow
	seq    int64      // the newest change of a key seen
	owners Owners     // nil: no user is known
	people people     // what owners said, at version stood
	stood  int64
	live   atomic.Pointer[map[string]*liveKey]
}

// A Key is one API key as lists show it: everything but the key.
type Key struct {
	ID          string
	Lineage     string // id of the first key of the line that Rotate continues
	Environment string
	Owner       string // the principal's subject
	Tenant      string
	Roles       []string
	Scopes      []string
	Note        string
	Created     time.Time
	CreatedBy   string
	Expires     time.Time // zero: never
	Revoked     time.Time // zero: it is not
	RevokedBy   string
	LastUsed    time.Time // to the minute; zero: never
	Suspended   bool      // its owner is a user who is locked, gone or in another tenant now; only List says so

	digest [32]byte
}

// Live reports whether the key opens anything at now.
func (k *Key) Live(now time.Time) bool {
	return !k.Suspended && !k.Ended(now)
}

// Ended reports whether the key is out of use for good: revoked or expired.
func (k *Key) Ended(now time.Time) bool {
	return !k.Revoked.IsZero() || !k.Expires.IsZero() && !now.Before(k.Expires)
}

// NewKeys brings the table up to date and reads it. Call Run before the first
// request: without it keys are refused after two seconds.
func NewKeys(ctx context.Context, cfg KeysConfig) (*Keys, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("authn: API keys need a database")
	case cfg.Log == nil:
		return nil, errors.New("authn: API keys need a log of changes")
	case !environmentPattern.MatchString(cfg.Environment):
		return nil, fmt.Errorf("authn: environment %q must be 1 to 16 lower-case letters and digits", cfg.Environment)
	}
	if err := cfg.DB.Migrate(ctx, Tables()); err != nil {
		return nil, err
	}
	k := &Keys{cfg: cfg, follow: cfg.DB.Follow(), seq: -1}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// A NewKey describes a key to be made.
type NewKey struct {
	Owner  string        // required: the subject it acts as
	Tenant string        //
	Roles  []string      // as the config knows them
	Scopes []string      // RFC 6749 §3.3
	Note   string        // what it is for
	Life   time.Duration // 0: until revoked
}

// Create makes a key and returns it. This is the only time it can be seen. It may
// name roles that its owner has not: they are in force while the owner has them.
func (k *Keys) Create(ctx context.Context, actor string, n NewKey) (gatehouse.Secret, *Key, error) {
	if err := n.check(); err != nil {
		return gatehouse.Secret{}, nil, err
	}
	if err := k.checkOwner(ctx, &n); err != nil {
		return gatehouse.Secret{}, nil, err
	}
	key := Key{Owner: n.Owner, Tenant: n.Tenant, Roles: n.Roles, Scopes: n.Scopes, Note: n.Note}
	secret := k.mint(&key, actor, n.Life)
	key.Lineage = key.ID
	err := k.change(ctx, actor, "keys.create", func(tx *sql.Tx) (string, map[string]string, error) {
		return key.ID, key.detail(), insertKey(ctx, tx, &key)
	})
	if err != nil {
		return gatehouse.Secret{}, nil, err
	}
	return secret, &key, nil
}

// Rotate makes a second key of the same line, with the same owner, rights and
// life, and lets the old one expire after overlap (at most 90 days; 0: at once).
// Both open the same until then. A third is refused: then somebody forgot to
// take the old one out of use.
func (k *Keys) Rotate(ctx context.Context, actor, id string, overlap time.Duration) (gatehouse.Secret, *Key, error) {
	if overlap < 0 || overlap > maxOverlap {
		return gatehouse.Secret{}, nil, fmt.Errorf("%w: an overlap of %v is not within 0 and %v", ErrKeyRequest, overlap, maxOverlap)
	}
	var secret gatehouse.Secret
	var key Key
	err := k.change(ctx, actor, "keys.rotate", func(tx *sql.Tx) (string, map[string]string, error) {
		now := time.Now()
		old, err := selectKeys(ctx, tx, `WHERE lineage = (SELECT lineage FROM api_keys WHERE id = $1)`, id)
		if err != nil {
			return "", nil, err
		}
		at := slices.IndexFunc(old, func(o Key) bool { return o.ID == id })
		if at < 0 {
			return "", nil, fmt.Errorf("%q: %w", id, ErrKeyUnknown)
		}
		if !old[at].Live(now) {
			return "", nil, fmt.Errorf("%s: %w", id, ErrKeyDead)
		}
		for _, o := range old {
			if o.ID != id && o.Live(now) {
				return "", nil, fmt.Errorf("%s and %s: %w", id, o.ID, ErrKeyTwoLive)
			}
		}
		key = old[at]
		var life time.Duration
		if !key.Expires.IsZero() {
			life = key.Expires.Sub(key.Created)
		}
		end := now.Add(overlap)
		if key.Expires.IsZero() || end.Before(key.Expires) {
			seq, err := nextSeq(ctx, tx)
			if err != nil {
				return "", nil, err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE api_keys SET expires = $1, seq = $2 WHERE id = $3`, end.UnixMilli(), seq, id); err != nil {
				return "", nil, err
			}
		}
		secret = k.mint(&key, actor, life)
		detail := key.detail()
		detail["replaces"] = id
		return key.ID, detail, insertKey(ctx, tx, &key)
	})
	if err != nil {
		return gatehouse.Secret{}, nil, err
	}
	return secret, &key, nil
}

// Revoke ends a key for good; running gateways refuse it within a second. To
// revoke it again changes nothing.
func (k *Keys) Revoke(ctx context.Context, actor, id string) error {
	return k.change(ctx, actor, "keys.revoke", func(tx *sql.Tx) (string, map[string]string, error) {
		keys, err := selectKeys(ctx, tx, `WHERE id = $1`, id)
		if err != nil {
			return "", nil, err
		}
		if len(keys) == 0 {
			return "", nil, fmt.Errorf("%q: %w", id, ErrKeyUnknown)
		}
		if !keys[0].Revoked.IsZero() {
			return "", nil, nil
		}
		seq, err := nextSeq(ctx, tx)
		if err != nil {
			return "", nil, err
		}
		_, err = tx.ExecContext(ctx, `UPDATE api_keys SET revoked = $1, revoked_by = $2, seq = $3 WHERE id = $4`, time.Now().UnixMilli(), actor, seq, id)
		return id, keys[0].detail(), err
	})
}

// List returns every key ever made, oldest first.
func (k *Keys) List(ctx context.Context) (keys []Key, err error) {
	err = k.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		keys, err = selectKeys(ctx, tx, ``)
		return err
	})
	live := *k.live.Load()
	for i := range keys {
		l := live[keys[i].ID]
		keys[i].Suspended = l != nil && l.suspended
	}
	return keys, err
}

// change runs f in a transaction and logs what it did before the commit, as
// keys.create, keys.revoke or keys.rotate: a change that was not logged does not
// happen. (The other way round, a crash between the two would leave a key nobody
// knows of.) If the commit then fails, that is logged too, with ".failed". An empty object from f means that nothing was changed.
func (k *Keys) change(ctx context.Context, actor, action string, f func(*sql.Tx) (object string, detail map[string]string, err error)) error {
	if actor == "" {
		return fmt.Errorf("%w: it must be known who asks", ErrKeyRequest)
	}
	if err := auditlog.Commit(ctx, k.cfg.DB, k.cfg.Log, actor, action, f); err != nil {
		return err
	}
	// The change is committed; should this look fail, Run's next one sees it.
	_ = k.refresh(ctx)
	return nil
}

// mint gives key a new identity and life.
func (k *Keys) mint(key *Key, actor string, life time.Duration) gatehouse.Secret {
	id, secret := newKey(k.cfg.Environment)
	now := time.UnixMilli(time.Now().UnixMilli()) // as the table will have it
	key.ID, key.Environment, key.digest = id, k.cfg.Environment, digest(secret.Reveal())
	key.Created, key.CreatedBy, key.Expires, key.LastUsed = now, actor, time.Time{}, time.Time{}
	if life > 0 {
		key.Expires = now.Add(life)
	}
	return secret
}

func (k *Key) detail() map[string]string {
	d := map[string]string{"owner": k.Owner, "roles": strings.Join(k.Roles, " "), "scopes": strings.Join(k.Scopes, " "), "lineage": k.Lineage}
	if k.Tenant != "" {
		d["tenant"] = k.Tenant
	}
	if !k.Expires.IsZero() {
		d["expires"] = k.Expires.UTC().Format(time.RFC3339)
	}
	return d
}

func (n *NewKey) check() error {
	for what, s := range map[string]string{"owner": n.Owner, "tenant": n.Tenant, "note": n.Note} {
		if len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\uFFFD' }) {
			return fmt.Errorf("%w: the %s must have at most 256 bytes, all of them printable characters", ErrKeyRequest, what)
		}
	}
	if n.Owner == "" {
		return fmt.Errorf("%w: it needs an owner, the subject it acts as", ErrKeyRequest)
	}
	if n.Life < 0 {
		return fmt.Errorf("%w: a life of %v has ended already", ErrKeyRequest, n.Life)
	}
	for what, words := range map[string][]string{"role": n.Roles, "scope": n.Scopes} {
		for i, w := range words {
			if !isScopeToken(w) {
				return fmt.Errorf("%w: %s %q must have printable ASCII characters without spaces, quotes and backslashes", ErrKeyRequest, what, w)
			}
			if slices.Contains(words[:i], w) {
				return fmt.Errorf("%w: %s %q is there twice", ErrKeyRequest, what, w)
			}
		}
	}
	return nil
}

// isScopeToken is the grammar of RFC 6749 §3.3.
func isScopeToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

const keyColumns = `id, lineage, environment, sha256, owner, tenant, roles, scopes, note, created, created_by, expires, revoked, revoked_by, last_used`

func insertKey(ctx context.Context, tx *sql.Tx, k *Key) error {
	seq, err := nextSeq(ctx, tx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO api_keys (`+keyColumns+`, seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, '', 0, $13)`,
		k.ID, k.Lineage, k.Environment, hex.EncodeToString(k.digest[:]), k.Owner, k.Tenant, strings.Join(k.Roles, " "), strings.Join(k.Scopes, " "),
		k.Note, k.Created.UnixMilli(), k.CreatedBy, store.Millis(k.Expires), seq)
	return err
}

// nextSeq numbers a change of keys: whoever follows them reads rows with a newer one.
func nextSeq(ctx context.Context, tx *sql.Tx) (seq int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE api_keys_last SET seq = seq + 1 WHERE one = 1 RETURNING seq`).Scan(&seq)
	return seq, err
}

func selectKeys(ctx context.Context, tx *sql.Tx, where string, args ...any) (keys []Key, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+keyColumns+` FROM api_keys `+where+` ORDER BY created, id`, args...) //nolint:gosec // where is a constant of this file, values go in args
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var k Key
		var sum, roles, scopes string
		var created, expires, revoked, used int64
		err := rows.Scan(&k.ID, &k.Lineage, &k.Environment, &sum, &k.Owner, &k.Tenant, &roles, &scopes, &k.Note, &created, &k.CreatedBy, &expires, &revoked, &k.RevokedBy, &used)
		if err != nil {
			return nil, err
		}
		if n, err := hex.Decode(k.digest[:], []byte(sum[:min(len(sum), 64)])); err != nil || n != len(k.digest) || len(sum) != 64 {
			return nil, fmt.Errorf("authn: the digest of API key %s in the database is damaged", k.ID)
		}
		k.Roles, k.Scopes = strings.Fields(roles), strings.Fields(scopes)
		k.Created, k.Expires, k.Revoked, k.LastUsed = store.Moment(created), store.Moment(expires), store.Moment(revoked), store.Moment(used)
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
