package identity

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// ExportOptions say what an export has besides users, groups and links. Its zero
// value: nothing.
type ExportOptions struct {
	// Hashes adds the passwords' argon2id strings, with which another system can
	// sign the users in, and a thief can guess. It needs Actor and is written to the
	// log of changes first.
	Hashes bool
	Actor  string
}

type exportedUser struct {
	ID            string         `json:"id"`
	Name          string         `json:"name"`
	Email         string         `json:"email,omitempty"`
	EmailVerified *time.Time     `json:"email_verified,omitempty"`
	Claims        map[string]any `json:"claims,omitempty"`
	Roles         []string       `json:"roles,omitempty"`
	Groups        []string       `json:"groups,omitempty"`
	Tenant        string         `json:"tenant,omitempty"`
	ExternalID    string         `json:"external_id,omitempty"`
	Source        string         `json:"source,omitempty"`
	Active        bool           `json:"active"`
	Password      string         `json:"password,omitempty"`
	Created       time.Time      `json:"created"`
	Updated       time.Time      `json:"updated"`
}

type exportedGroup struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Roles      []string  `json:"roles,omitempty"`
	Members    []string  `json:"members,omitempty"`
	ExternalID string    `json:"external_id,omitempty"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
}

type exportedLink struct {
	Source  string    `json:"source"`
	Subject string    `json:"subject"`
	User    string    `json:"user"`
	Created time.Time `json:"created"`
}

// Export writes everybody as one JSON object, {"version": 1, "groups": […],
// "users": […], "links": […]}, a line for each, as they were at one moment. Second
// factors, passkeys and sessions are not in it: they open nothing elsewhere.
func (d *Directory) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	if o.Hashes {
		if o.Actor == "" {
			return fmt.Errorf("%w: it must be known who asks for hashes", ErrInvalid)
		}
		c := auditlog.Change{Actor: o.Actor, Action: "users.export", Object: "users", Detail: map[string]string{"hashes": "true"}}
		if err := d.cfg.Log.Append(ctx, c); err != nil {
			return fmt.Errorf("identity: nothing is exported because it could not be logged: %w", err)
		}
	}
	out := bufio.NewWriter(w)
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		_, err := out.WriteString("{\"version\": 1,\n\"groups\": [")
		return errors.Join(err,
			exportGroups(ctx, tx, &lines{w: out}),
			exportUsers(ctx, tx, &lines{w: out, before: "],\n\"users\": ["}, o.Hashes),
			exportLinks(ctx, tx, &lines{w: out, before: "],\n\"links\": ["}),
			raw(out, "]}\n"))
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("identity: export: %w", err)
	}
	return nil
}

// lines are the elements of a list.
type lines struct {
	w      *bufio.Writer
	before string // of the list
	n      int
}

func (l *lines) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	comma := ",\n"
	if l.n == 0 {
		comma = "\n"
	}
	l.n++
	return raw(l.w, comma+string(b))
}

func raw(w *bufio.Writer, s string) error {
	_, err := w.WriteString(s)
	return err
}

func exportGroups(ctx context.Context, tx *sql.Tx, out *lines) error {
	groups, err := selectGroups(ctx, tx, ` ORDER BY name`)
	if err != nil {
		return err
	}
	for _, g := range groups {
		err := out.add(exportedGroup{g.ID, g.Name, g.Roles, g.Members, g.ExternalID, g.Created.UTC(), g.Updated.UTC()})
		if err != nil {
			return err
		}
	}
	return nil
}

// exportUsers reads them a thousand at a time: all of them may be many.
func exportUsers(ctx context.Context, tx *sql.Tx, out *lines, hashes bool) error {
	if err := raw(out.w, out.before); err != nil {
		return err
	}
	for last, more := "", true; more; {
		users, err := selectUsers(ctx, tx, ` WHERE name > $1 ORDER BY name LIMIT 1000`, last)
		if err != nil {
			return err
		}
		for i := range users {
			u := &users[i]
			e := exportedUser{
				ID: u.ID, Name: u.Name, Email: u.Email, Claims: u.Claims, Roles: u.Roles, Groups: u.Groups, Tenant: u.Tenant,
				ExternalID: u.ExternalID, Source: u.Source, Active: u.Active, Created: u.Created.UTC(), Updated: u.Updated.UTC(),
			}
			if !u.EmailVerified.IsZero() {
				verified := u.EmailVerified.UTC()
				e.EmailVerified = &verified
			}
			if hashes {
				if err := tx.QueryRowContext(ctx, `SELECT password FROM users WHERE id = $1`, u.ID).Scan(&e.Password); err != nil {
					return err
				}
			}
			if err := out.add(e); err != nil {
				return err
			}
			last = u.Name
		}
		more = len(users) > 0
	}
	return nil
}

func exportLinks(ctx context.Context, tx *sql.Tx, out *lines) error {
	if err := raw(out.w, out.before); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT source, subject, user_id, created FROM links ORDER BY source, subject`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var l exportedLink
		var created int64
		if err := rows.Scan(&l.Source, &l.Subject, &l.User, &created); err != nil {
			return err
		}
		l.Created = store.Moment(created).UTC()
		if err := out.add(l); err != nil {
			return err
		}
	}
	return rows.Err()
}
