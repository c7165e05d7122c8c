package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
)

const (
	maxClaims = 16 << 10 // bytes of JSON
	maxWords  = 256      // roles, or groups, of one user
)

// ErrChanged tells that somebody else changed it since the version that was named.
var ErrChanged = errors.New("it was changed by somebody else in between; read it again")

// A NewUser describes a user to be made.
type NewUser struct {
	Name          string           // required; any spelling of it signs in
	Email         string           //
	EmailVerified bool             // somebody else has seen to it
	Claims        map[string]any   // see [User]
	Roles, Groups []string         // Groups by name
	Tenant        string           //
	ExternalID    string           //
	Source        string           // the upstream that signs the user in; then there is no password
	Password      gatehouse.Secret // none: the user sets one by mail (to a verified address), or has a passkey or an upstream
	Inactive      bool             //
}

// Create makes a user. Errors: [ErrInvalid], [ErrTaken], [ErrPassword], and
// [ErrUnknown] for a group.
func (d *Directory) Create(ctx context.Context, actor string, n NewUser) (*User, error) {
	now := time.UnixMilli(time.Now().UnixMilli()) // as the table will have it
	u := User{
		ID: newID("usr_"), Name: n.Name, Email: n.Email, Claims: n.Claims, Roles: n.Roles, Groups: n.Groups,
		Tenant: n.Tenant, ExternalID: n.ExternalID, Source: n.Source, Active: !n.Inactive,
		Created: now, Updated: now, Version: 1,
	}
	if n.EmailVerified && n.Email != "" {
		u.EmailVerified = now
	}
	if err := u.check(); err != nil {
		return nil, err
	}
	phc := ""
	if !n.Password.Empty() {
		if u.Source != "" {
			return nil, fmt.Errorf("%w: who signs in by %s has no password here", ErrInvalid, u.Source)
		}
		var err error
		if phc, err = d.newPassword(ctx, n.Password, &u, false); err != nil {
			return nil, err
		}
	}
	err := d.change(ctx, actor, "users.create", func(tx *sql.Tx) (string, map[string]string, error) {
		if err := insertUser(ctx, tx, &u, phc); err != nil {
			return "", nil, err
		}
		return u.ID, u.detail(), nil
	})
	if err != nil {
		return nil, err
	}
	return d.User(ctx, u.ID)
}

// insertUser writes the row of a new user, and what follows from it.
func insertUser(ctx context.Context, tx *sql.Tx, u *User, phc string) error {
	if err := setLogins(ctx, tx, u); err != nil {
		return err
	}
	claims, err := json.Marshal(u.Claims)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO users (id, name, email, email_verified, claims, roles, tenant, external_id, source,
		active, password, password_changed, valid_from, created, updated, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $13, 1)`,
		u.ID, u.Name, u.Email, store.Millis(u.EmailVerified), string(claims), strings.Join(u.Roles, " "), u.Tenant, u.ExternalID, u.Source,
		truth(u.Active), phc, passwordTime(phc, u.Created), u.Created.UnixMilli())
	if err != nil {
		return err
	}
	return setMemberships(ctx, tx, u)
}

// User returns the user with that id, or [ErrUnknown].
func (d *Directory) User(ctx context.Context, id string) (*User, error) {
	return d.oneUser(ctx, `WHERE id = $1`, id)
}

// FindUser returns the user who signs in with that name or address, however it is
// spelt, or [ErrUnknown].
func (d *Directory) FindUser(ctx context.Context, login string) (*User, error) {
	canonical, err := canonicalName(login)
	if err != nil {
		return nil, ErrUnknown
	}
	return d.oneUser(ctx, `WHERE id = (SELECT user_id FROM logins WHERE login = $1)`, canonical)
}

func (d *Directory) oneUser(ctx context.Context, where string, args ...any) (*User, error) {
	var u *User
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		u, err = selectUser(ctx, tx, where, args...)
		return err
	})
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return u, err
}

// A Query says which users, or groups, are asked for. Its zero value: all.
type Query struct {
	Search     string // a part of the name or the address
	Name       string // exactly, in any spelling
	Email      string // exactly, in any spelling
	ExternalID string
	Group      string // id or name; of users only
	After      string // the name of the last one of the page before
	Offset     int    // skip so many instead (SCIM's startIndex)
	Limit      int    // 0: 100; at most 1,000
}

// Users returns a page of users by name, and how many there are on all pages.
func (d *Directory) Users(ctx context.Context, q Query) (users []User, total int, err error) {
	where, args, err := q.users()
	if err != nil {
		return nil, 0, err
	}
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM users`+where, args...).Scan(&total); err != nil {
			return err
		}
		page, args := q.page(where, args)
		users, err = selectUsers(ctx, tx, page, args...)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("identity: users: %w", err)
	}
	return users, total, nil
}

// conditions collects the parts of a WHERE.
type conditions struct {
	parts []string
	args  []any
}

// add takes a condition in which ? stands for value.
func (c *conditions) add(condition string, value any) {
	c.args = append(c.args, value)
	c.parts = append(c.parts, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(c.args))))
}

func (c *conditions) where() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

func (q *Query) users() (string, []any, error) {
	var c conditions
	if q.Search != "" {
		c.add(`(name LIKE ? ESCAPE '\' OR email LIKE ? ESCAPE '\')`, like(q.Search))
	}
	if q.Name != "" {
		name, err := canonicalName(q.Name)
		if err != nil {
			name = "" // nobody's
		}
		c.add(`name = ?`, name)
	}
	if q.Email != "" {
		email, err := canonicalEmail(q.Email)
		if err != nil {
			email = "@"
		}
		c.add(`email = ?`, email)
	}
	if q.ExternalID != "" {
		c.add(`external_id = ?`, q.ExternalID)
	}
	if q.Group != "" {
		c.add(`id IN (SELECT m.user_id FROM memberships m JOIN groups g ON g.id = m.group_id WHERE g.id = ? OR g.name = ?)`, q.Group)
	}
	if q.Offset < 0 || q.Limit < 0 {
		return "", nil, fmt.Errorf("%w: an offset and a limit are not negative", ErrInvalid)
	}
	return c.where(), c.args, nil
}

// page adds what makes one page of all that where selects.
func (q *Query) page(where string, args []any) (string, []any) {
	c := conditions{args: slices.Clone(args)}
	if where != "" {
		c.parts = []string{strings.TrimPrefix(where, " WHERE ")}
	}
	if q.After != "" {
		c.add(`name > ?`, q.After)
	}
	where = c.where()
	c.add(`?`, min(orElse(q.Limit, 100), 1000))
	c.add(`?`, q.Offset)
	n := len(c.args)
	return where + ` ORDER BY name LIMIT $` + strconv.Itoa(n-1) + ` OFFSET $` + strconv.Itoa(n), c.args
}

func like(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(part)) + "%"
}

// Update reads the user, lets f change it, and writes it. Version, when not 0, must
// be the one that is found: else [ErrChanged]. A new Email is unverified unless f
// sets EmailVerified to a later time than it was. Making the user inactive is a
// [Directory.Lock]; rights taken away end the tokens that carry them, not the
// sessions. What Directory keeps itself (ID, Source, Effective, times) stays.
func (d *Directory) Update(ctx context.Context, actor, id string, version int64, f func(*User) error) (*User, error) {
	err := d.change(ctx, actor, "users.update", func(tx *sql.Tx) (string, map[string]string, error) {
		old, err := selectUser(ctx, tx, `WHERE id = $1`, id)
		if err != nil {
			return "", nil, err
		}
		if version != 0 && version != old.Version {
			return "", nil, ErrChanged
		}
		u := old.clone()
		if err := f(&u); err != nil {
			return "", nil, err
		}
		u.ID, u.Source, u.Created, u.Version, u.ValidFrom, u.HasPassword = old.ID, old.Source, old.Created, old.Version, old.ValidFrom, old.HasPassword
		if err := u.check(); err != nil {
			return "", nil, err
		}
		if u.Email != old.Email && !u.EmailVerified.After(old.EmailVerified) {
			u.EmailVerified = time.Time{}
		}
		changed := u.differs(old)
		if len(changed) == 0 {
			return "", nil, nil
		}
		if err := d.write(ctx, tx, old, &u); err != nil {
			return "", nil, err
		}
		detail := u.detail()
		detail["changed"] = strings.Join(changed, " ")
		return u.ID, detail, nil
	})
	if err != nil {
		return nil, err
	}
	return d.User(ctx, id)
}

// write makes the row of old that of u, and what follows from it.
func (d *Directory) write(ctx context.Context, tx *sql.Tx, old, u *User) error {
	now := time.Now()
	if u.Name != old.Name || u.Email != old.Email {
		if err := setLogins(ctx, tx, u); err != nil {
			return err
		}
	}
	claims, err := json.Marshal(u.Claims)
	if err != nil {
		return err
	}
	var version int64
	err = tx.QueryRowContext(ctx, `UPDATE users SET name = $1, email = $2, email_verified = $3, claims = $4, roles = $5, tenant = $6,
		external_id = $7, active = $8, updated = $9, version = version + 1 WHERE id = $10 AND version = $11 RETURNING version`,
		u.Name, u.Email, store.Millis(u.EmailVerified), string(claims), strings.Join(u.Roles, " "), u.Tenant,
		u.ExternalID, truth(u.Active), now.UnixMilli(), u.ID, old.Version).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrChanged
	}
	if err != nil {
		return err
	}
	if !slices.Equal(u.Groups, old.Groups) {
		if err := setMemberships(ctx, tx, u); err != nil {
			return err
		}
	}
	if old.Active && !u.Active {
		return d.expel(ctx, tx, u.ID, now)
	}
	after, err := effectiveRoles(ctx, tx, u.ID)
	if err != nil {
		return err
	}
	if u.Tenant != old.Tenant || lost(old.Effective, after) {
		return d.RevokeTx(ctx, tx, "user", u.ID, now)
	}
	return nil
}

// Delete removes the user with everything that is theirs; the id is never used
// again and tokens that carry it are refused. Errors: [ErrUnknown].
func (d *Directory) Delete(ctx context.Context, actor, id string) error {
	return d.change(ctx, actor, "users.delete", func(tx *sql.Tx) (string, map[string]string, error) {
		u, err := selectUser(ctx, tx, `WHERE id = $1`, id)
		if err != nil {
			return "", nil, err
		}
		now := time.Now()
		if err := d.expel(ctx, tx, id, now); err != nil {
			return "", nil, err
		}
		if err := d.revokeUntil(ctx, tx, "user", id, now, now.Add(keepDeleted)); err != nil {
			return "", nil, err
		}
		for _, statement := range append([]string{
			`DELETE FROM users WHERE id = $1`,
			`DELETE FROM logins WHERE user_id = $1`,
			`DELETE FROM memberships WHERE user_id = $1`,
			`DELETE FROM links WHERE user_id = $1`,
			`DELETE FROM codes WHERE user_id = $1`,
			`DELETE FROM familiar WHERE user_id = $1`,
			`DELETE FROM throttles WHERE id = $1`,
		}, forgetFactors()...) {
			if _, err := tx.ExecContext(ctx, statement, id); err != nil {
				return "", nil, err
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO tombstones (id, deleted) VALUES ($1, $2)`, id, now.UnixMilli()); err != nil {
			return "", nil, err
		}
		return id, map[string]string{"name": u.Name}, nil
	})
}

// Lock shuts a user out at once, why being for the record: no sign-in, all
// sessions ended, all tokens dead. To lock again ends what was issued since.
func (d *Directory) Lock(ctx context.Context, actor, id, why string) error {
	if len(why) > 256 || !printable(why) {
		return fmt.Errorf("%w: the reason has at most 256 bytes, all of them printable characters", ErrInvalid)
	}
	return d.change(ctx, actor, "users.lock", func(tx *sql.Tx) (string, map[string]string, error) {
		now := time.Now()
		if err := touch(ctx, tx, `active = 0`, id, now); err != nil {
			return "", nil, err
		}
		return id, map[string]string{"why": why}, d.expel(ctx, tx, id, now)
	})
}

// Unlock lets a user sign in again. What was issued before stays dead.
func (d *Directory) Unlock(ctx context.Context, actor, id string) error {
	return d.change(ctx, actor, "users.unlock", func(tx *sql.Tx) (string, map[string]string, error) {
		return id, nil, touch(ctx, tx, `active = 1`, id, time.Now())
	})
}

// expel makes everything dead that was issued to the user up to now.
func (d *Directory) expel(ctx context.Context, tx *sql.Tx, id string, now time.Time) error {
	// The next millisecond: what was proven earlier in this one must not outlive it.
	if _, err := tx.ExecContext(ctx, `UPDATE users SET valid_from = $1 WHERE id = $2`, now.UnixMilli()+1, id); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM codes WHERE user_id = $1 AND kind = 'reset'`, id); err != nil {
		return err
	}
	if err := d.endSessions(ctx, tx, id, "", now); err != nil {
		return err
	}
	return d.RevokeTx(ctx, tx, "user", id, now)
}

// touch changes a user's row by set, a constant, and makes it another version.
func touch(ctx context.Context, tx *sql.Tx, set, id string, now time.Time) error {
	var version int64
	err := tx.QueryRowContext(ctx, `UPDATE users SET `+set+`, updated = $1, version = version + 1 WHERE id = $2 RETURNING version`,
		now.UnixMilli(), id).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrUnknown
	}
	return err
}

// check brings what names and addresses there are to their one spelling.
func (u *User) check() (err error) {
	if u.Name, err = canonicalName(u.Name); err != nil {
		return err
	}
	if u.Email != "" {
		if u.Email, err = canonicalEmail(u.Email); err != nil {
			return err
		}
	}
	if u.Email == "" {
		u.EmailVerified = time.Time{}
	}
	for what, s := range map[string]string{"tenant": u.Tenant, "external id": u.ExternalID, "source": u.Source} {
		if len(s) > 256 || !printable(s) {
			return fmt.Errorf("%w: the %s has at most 256 bytes, all of them printable characters", ErrInvalid, what)
		}
	}
	if u.Roles, err = roles(u.Roles); err != nil {
		return err
	}
	if len(u.Groups) > maxWords {
		return fmt.Errorf("%w: at most %d groups", ErrInvalid, maxWords)
	}
	u.Groups = slices.Compact(slices.Sorted(slices.Values(u.Groups)))
	return checkClaims(u.Claims)
}

// roles sorts them, each once.
func roles(words []string) ([]string, error) {
	if len(words) > maxWords {
		return nil, fmt.Errorf("%w: at most %d roles", ErrInvalid, maxWords)
	}
	for _, w := range words {
		if !isWord(w) {
			return nil, fmt.Errorf("%w: role %q must have printable ASCII characters without spaces, quotes and backslashes", ErrInvalid, w)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(words))), nil
}

// ours are claims that say who vouches for what: a user's profile must not.
var ours = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "nonce", "auth_time", "acr", "amr", "at_hash", "c_hash", "s_hash", "sid", "cnf", "act", "may_act",
	"client_id", "scope", "scp", "grant_id", "authorization_details", "roles", "groups", "tenant", "email", "email_verified", "preferred_username",
}

func checkClaims(claims map[string]any) error {
	for _, name := range ours {
		if _, found := claims[name]; found {
			return fmt.Errorf("%w: the claim %s is not part of a profile", ErrInvalid, name)
		}
	}
	b, err := json.Marshal(claims)
	if err != nil || len(b) > maxClaims {
		return fmt.Errorf("%w: claims are JSON of at most %d bytes", ErrInvalid, maxClaims)
	}
	return nil
}

func (u *User) clone() User {
	c := *u
	c.Claims = maps.Clone(u.Claims)
	c.Roles, c.Groups, c.Effective = slices.Clone(u.Roles), slices.Clone(u.Groups), slices.Clone(u.Effective)
	return c
}

// differs names what is to be written.
func (u *User) differs(old *User) (changed []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"name", u.Name == old.Name},
		{"email", u.Email == old.Email},
		{"email_verified", store.Millis(u.EmailVerified) == store.Millis(old.EmailVerified)},
		{"claims", sameClaims(u.Claims, old.Claims)},
		{"roles", slices.Equal(u.Roles, old.Roles)},
		{"groups", slices.Equal(u.Groups, old.Groups)},
		{"tenant", u.Tenant == old.Tenant},
		{"external_id", u.ExternalID == old.ExternalID},
		{"active", u.Active == old.Active},
	} {
		if !f.same {
			changed = append(changed, f.name)
		}
	}
	return changed
}

func sameClaims(a, b map[string]any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && (reflect.DeepEqual(x, y) || len(a)+len(b) == 0)
}

// detail is for the log of changes, which is kept for ever: no address, no claim.
func (u *User) detail() map[string]string {
	d := map[string]string{"name": u.Name, "roles": strings.Join(u.Roles, " "), "active": strconv.FormatBool(u.Active)}
	for name, v := range map[string]string{"groups": strings.Join(u.Groups, ", "), "tenant": u.Tenant, "source": u.Source} {
		if v != "" {
			d[name] = v
		}
	}
	return d
}

// lost reports whether something of before is not in after.
func lost(before, after []string) bool {
	return slices.ContainsFunc(before, func(r string) bool { return !slices.Contains(after, r) })
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func passwordTime(phc string, now time.Time) int64 {
	if phc == "" {
		return 0
	}
	return now.UnixMilli()
}
