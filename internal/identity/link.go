package identity

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// An External is what an upstream proved about somebody who signed in there. The
// connectors of identity/upstream make it, out of what was verified only.
type External struct {
	Source  string // name of the connector
	Subject string // the upstream's own, stable name for the user; never an address

	Name          string // wish for a login name
	Email         string // as the upstream has it
	EmailVerified bool   // the upstream says so, and the connector's config believes it
	Claims        map[string]any
	Groups        []string // the upstream's
	Roles         []string // ours, by the connector's mapping of Groups
	AMR           []string // RFC 8176, when the connector's config believes it
	ACR           string   // one of ours, by the connector's mapping; "" is one factor

	Create    bool // the connector's config: make an account for who has none
	LinkEmail bool // the connector's config: an account with the same address, verified by both, is theirs
}

const maxSubject = 512 // bytes

// errRaced tells that another sign-in of the same user was faster.
var errRaced = errors.New("somebody else made the link in between")

// Link returns the account of who signed in elsewhere, for [Directory.UpstreamLogin]: the one linked to source
// and subject; else, where the connector's config says so, a local one with the
// same address, verified by both sides; else a new one. What the upstream says of
// the user's own profile and roles is taken over at each sign-in: roles that came
// from the upstream go when it gives them no more, those given here stay.
//
// [ErrCredentials] is the answer for a user who is locked here or may have no
// account, [ErrTaken] for one whose address is another's. A name or an address
// alone never leads to an account: who runs an upstream chooses both.
func (d *Directory) Link(ctx context.Context, e *External) (*User, error) {
	who, err := d.external(e)
	if err != nil {
		return nil, err
	}
	for range 3 {
		var id string
		id, err = d.link(ctx, who)
		if err == nil {
			return d.User(ctx, id)
		}
		if !errors.Is(err, errRaced) {
			break
		}
	}
	return nil, fmt.Errorf("identity: sign-in by %s: %w", who.Source, err)
}

// external checks e and brings it to the spellings of here.
func (d *Directory) external(e *External) (*External, error) {
	switch {
	case e == nil || e.Source == "" || e.Subject == "" || len(e.Subject) > maxSubject || !printable(e.Source):
		return nil, fmt.Errorf("%w: an upstream's user has a source and a subject of at most %d bytes", ErrInvalid, maxSubject)
	case e.ACR != "" && strength(e.ACR) == 0:
		return nil, fmt.Errorf("%w: acr %q is none of ours", ErrInvalid, e.ACR)
	}
	who := *e
	var err error
	if who.Roles, err = roles(e.Roles); err != nil {
		return nil, err
	}
	if who.Email, err = canonicalEmail(e.Email); err != nil || !e.EmailVerified {
		who.Email, who.EmailVerified = "", false // nobody vouches for it: anybody could occupy it
	}
	if err := checkClaims(e.Claims); err != nil {
		return nil, err
	}
	return &who, nil
}

func (d *Directory) link(ctx context.Context, e *External) (id string, err error) {
	var local *User
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		err = tx.QueryRowContext(ctx, `SELECT user_id FROM links WHERE source = $1 AND subject = $2`, e.Source, e.Subject).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) || !e.LinkEmail || e.Email == "" {
			return err
		}
		local, err = selectUser(ctx, tx, `WHERE email = $1`, e.Email)
		return err
	})
	actor := "upstream " + e.Source
	switch {
	case err == nil && id != "":
		return id, d.change(ctx, actor, "users.update", func(tx *sql.Tx) (string, map[string]string, error) { return d.relink(ctx, tx, id, e) })
	case err == nil && local != nil:
		id = local.ID
		return id, d.change(ctx, actor, "users.link", func(tx *sql.Tx) (string, map[string]string, error) { return d.adopt(ctx, tx, id, e) })
	case err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, sql.ErrNoRows):
		return "", err
	case !e.Create:
		return "", ErrCredentials
	}
	id = newID("usr_")
	return id, d.change(ctx, actor, "users.create", func(tx *sql.Tx) (string, map[string]string, error) { return d.enrol(ctx, tx, id, e) })
}

// relink brings the account id up to what e says.
func (d *Directory) relink(ctx context.Context, tx *sql.Tx, id string, e *External) (object string, detail map[string]string, err error) {
	old, err := selectUser(ctx, tx, `WHERE id = $1`, id)
	if errors.Is(err, ErrUnknown) {
		return "", nil, errRaced // deleted, and its links with it
	}
	if err != nil {
		return "", nil, err
	}
	if !old.Active {
		return "", nil, ErrCredentials
	}
	var given string // at the last sign-in
	if err := tx.QueryRowContext(ctx, `SELECT roles FROM links WHERE source = $1 AND subject = $2`, e.Source, e.Subject).Scan(&given); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return "", nil, errRaced
		}
		return "", nil, err
	}
	u := old.clone()
	before := strings.Fields(given)
	u.Roles = union(slices.DeleteFunc(u.Roles, func(r string) bool { return slices.Contains(before, r) }), e.Roles)
	if old.Source == e.Source { // else the profile is the user's own
		if u.Claims == nil {
			u.Claims = map[string]any{}
		}
		maps.Copy(u.Claims, e.Claims)
		if err := d.readdress(ctx, tx, &u, e); err != nil {
			return "", nil, err
		}
	}
	if err := u.check(); err != nil {
		return "", nil, err
	}
	if !slices.Equal(before, e.Roles) {
		_, err := tx.ExecContext(ctx, `UPDATE links SET roles = $1 WHERE source = $2 AND subject = $3`, strings.Join(e.Roles, " "), e.Source, e.Subject)
		if err != nil {
			return "", nil, err
		}
	}
	changed := u.differs(old)
	if len(changed) == 0 {
		return "", nil, nil
	}
	if err := d.write(ctx, tx, old, &u); err != nil {
		return "", nil, err
	}
	detail = u.detail()
	detail["changed"] = strings.Join(changed, " ")
	return u.ID, detail, nil
}

// readdress takes over the upstream's verified address, unless it is another's.
func (d *Directory) readdress(ctx context.Context, tx *sql.Tx, u *User, e *External) error {
	if e.Email == "" || u.Email == e.Email && !u.EmailVerified.IsZero() {
		return nil
	}
	free, err := isFree(ctx, tx, e.Email, u.ID)
	if err == nil && free {
		u.Email, u.EmailVerified = e.Email, time.Now()
	}
	return err
}

// adopt links e to the local account id, whose address both sides have verified.
func (d *Directory) adopt(ctx context.Context, tx *sql.Tx, id string, e *External) (object string, detail map[string]string, err error) {
	old, err := selectUser(ctx, tx, `WHERE id = $1`, id)
	if errors.Is(err, ErrUnknown) {
		return "", nil, errRaced
	}
	if err != nil {
		return "", nil, err
	}
	switch {
	case !old.Active:
		return "", nil, ErrCredentials
	case old.Email != e.Email || old.EmailVerified.IsZero(): // registered by a stranger who waits for the owner
		return "", nil, ErrTaken
	case old.Source != "": // another upstream has vouched for the address, not we
		return "", nil, ErrTaken
	}
	// A second subject with the same address is a new person who was given a
	// departed one's address.
	var others int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM links WHERE user_id = $1 AND source = $2`, id, e.Source).Scan(&others); err != nil {
		return "", nil, err
	}
	if others > 0 {
		return "", nil, ErrTaken
	}
	if err := insertLink(ctx, tx, id, e); err != nil {
		return "", nil, err
	}
	u := old.clone()
	u.Roles = union(u.Roles, e.Roles)
	if !slices.Equal(u.Roles, old.Roles) {
		if err := d.write(ctx, tx, old, &u); err != nil {
			return "", nil, err
		}
	}
	detail = u.detail()
	detail["source"] = e.Source
	return id, detail, nil
}

// enrol makes the account id for e, without a password.
func (d *Directory) enrol(ctx context.Context, tx *sql.Tx, id string, e *External) (object string, detail map[string]string, err error) {
	// First, so that of two sign-ins at once the second one finds the first.
	if err := insertLink(ctx, tx, id, e); err != nil {
		return "", nil, err
	}
	if e.Email != "" {
		free, err := isFree(ctx, tx, e.Email, id)
		if err != nil {
			return "", nil, err
		}
		if !free {
			return "", nil, ErrTaken
		}
	}
	now := time.UnixMilli(time.Now().UnixMilli())
	u := User{
		ID: id, Email: e.Email, Claims: e.Claims, Roles: e.Roles, Source: e.Source, Active: true,
		Created: now, Updated: now, Version: 1,
	}
	if e.Email != "" {
		u.EmailVerified = now
	}
	if u.Name, err = freeName(ctx, tx, e); err != nil {
		return "", nil, err
	}
	if err := u.check(); err != nil {
		return "", nil, err
	}
	if err := insertUser(ctx, tx, &u, ""); err != nil {
		return "", nil, err
	}
	return id, u.detail(), nil
}

func insertLink(ctx context.Context, tx *sql.Tx, id string, e *External) error {
	done, err := tx.ExecContext(ctx, `INSERT INTO links (source, subject, user_id, created, roles) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		e.Source, e.Subject, id, time.Now().UnixMilli(), strings.Join(e.Roles, " "))
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	if err == nil && n == 0 {
		err = errRaced
	}
	return err
}

// freeName returns the login name that the upstream wishes for, when it is free
// and not an address the upstream has not verified; else one that nobody wants.
func freeName(ctx context.Context, tx *sql.Tx, e *External) (string, error) {
	sum := sha256.Sum256([]byte(e.Source + "\x00" + e.Subject))
	wishes := []string{e.Name, e.Source + "-" + hex.EncodeToString(sum[:6]), e.Source + "-" + hex.EncodeToString(sum[:16])}
	for _, wish := range wishes {
		name, err := canonicalName(wish)
		if err != nil || strings.Contains(name, "@") && name != e.Email {
			continue
		}
		free, err := isFree(ctx, tx, name, "")
		if err != nil {
			return "", err
		}
		if free {
			return name, nil
		}
	}
	return "", ErrTaken
}

// isFree reports whether nobody but user has the login.
func isFree(ctx context.Context, tx *sql.Tx, login, user string) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM logins WHERE login = $1 AND user_id <> $2`, login, user).Scan(&n)
	return n == 0, err
}

// A Link is what an account has at an upstream.
type Link struct {
	Source  string
	Subject string
	User    string
	Created time.Time
}

// Links returns what user is linked to.
func (d *Directory) Links(ctx context.Context, user string) (links []Link, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT source, subject, created FROM links WHERE user_id = $1 ORDER BY source, subject`, user)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			l := Link{User: user}
			var created int64
			if err := rows.Scan(&l.Source, &l.Subject, &created); err != nil {
				return err
			}
			l.Created = store.Moment(created)
			links = append(links, l)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("identity: links: %w", err)
	}
	return links, nil
}

// AddLink lets who is subject at source sign in as user from now on. Errors:
// [ErrUnknown], [ErrTaken] when the subject is somebody's already.
func (d *Directory) AddLink(ctx context.Context, actor, user, source, subject string) error {
	e, err := d.external(&External{Source: source, Subject: subject})
	if err != nil {
		return err
	}
	return d.change(ctx, actor, "users.link", func(tx *sql.Tx) (string, map[string]string, error) {
		if _, err := selectUser(ctx, tx, `WHERE id = $1`, user); err != nil {
			return "", nil, err
		}
		err := insertLink(ctx, tx, user, e)
		if errors.Is(err, errRaced) {
			err = ErrTaken
		}
		return user, map[string]string{"source": source}, err
	})
}

// RemoveLink ends that, and takes back the roles that the upstream gave. Sessions
// begun by it end. Errors: [ErrUnknown].
func (d *Directory) RemoveLink(ctx context.Context, actor, user, source, subject string) error {
	return d.change(ctx, actor, "users.unlink", func(tx *sql.Tx) (string, map[string]string, error) {
		old, err := selectUser(ctx, tx, `WHERE id = $1`, user)
		if err != nil {
			return "", nil, err
		}
		var given string
		err = tx.QueryRowContext(ctx, `DELETE FROM links WHERE source = $1 AND subject = $2 AND user_id = $3 RETURNING roles`, source, subject, user).Scan(&given)
		if errors.Is(err, sql.ErrNoRows) {
			return "", nil, ErrUnknown
		}
		if err != nil {
			return "", nil, err
		}
		u := old.clone()
		u.Roles = slices.DeleteFunc(u.Roles, func(r string) bool { return slices.Contains(strings.Fields(given), r) })
		if !slices.Equal(u.Roles, old.Roles) {
			if err := d.write(ctx, tx, old, &u); err != nil {
				return "", nil, err
			}
		}
		return user, map[string]string{"source": source}, d.endSessions(ctx, tx, user, "", time.Now())
	})
}

// Attempt counts a guess at the password of an upstream's account, before it is
// made, and one from that address; see [Throttled]. Done, which must be called,
// forgets it when it was none.
func (d *Directory) Attempt(ctx context.Context, source, subject string, from netip.Addr) (done func(ctx context.Context, proven bool) error, err error) {
	account, err := d.hidden("upstream account", source+"\x00"+subject)
	if err != nil {
		return nil, err
	}
	counters := []counter{ofSource(from), {"upstream", account}}
	if err := d.count(ctx, counters...); err != nil {
		return nil, err
	}
	return func(ctx context.Context, proven bool) error {
		if !proven {
			return nil
		}
		err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
			for _, c := range counters {
				if err := reset(ctx, tx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("identity: attempts: %w", err)
		}
		return nil
	}, nil
}
