package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

const userColumns = `id, name, email, email_verified, claims, roles, tenant, external_id, source, active,
	CASE WHEN password <> '' THEN 1 ELSE 0 END, valid_from, created, updated, version`

func selectUser(ctx context.Context, tx *sql.Tx, where string, args ...any) (*User, error) {
	users, err := selectUsers(ctx, tx, " "+where, args...)
	if err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, ErrUnknown
	}
	return &users[0], nil
}

func selectUsers(ctx context.Context, tx *sql.Tx, where string, args ...any) ([]User, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+userColumns+` FROM users`+where, args...) //nolint:gosec // where is made of constants, values go in args
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var users []User
	for rows.Next() {
		var u User
		var verified, active, password, valid, created, updated int64
		var claims, roles string
		err := rows.Scan(&u.ID, &u.Name, &u.Email, &verified, &claims, &roles, &u.Tenant, &u.ExternalID, &u.Source, &active,
			&password, &valid, &created, &updated, &u.Version)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(claims), &u.Claims); err != nil {
			return nil, fmt.Errorf("the claims of user %s in the database are damaged: %w", u.ID, err)
		}
		u.EmailVerified, u.ValidFrom, u.Created, u.Updated = store.Moment(verified), store.Moment(valid), store.Moment(created), store.Moment(updated)
		u.Roles, u.Active, u.HasPassword = strings.Fields(roles), active == 1, password == 1
		users = append(users, u)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for i := range users {
		u := &users[i]
		var given []string
		if u.Groups, given, err = groupsOf(ctx, tx, u.ID); err != nil {
			return nil, err
		}
		u.Effective = union(u.Roles, given)
	}
	return users, nil
}

// groupsOf returns the names of a user's groups, sorted, and the roles they give.
func groupsOf(ctx context.Context, tx *sql.Tx, user string) (names, given []string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT g.name, g.roles FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.user_id = $1 ORDER BY g.name`, user)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, roles string
		if err := rows.Scan(&name, &roles); err != nil {
			return nil, nil, err
		}
		names, given = append(names, name), append(given, strings.Fields(roles)...)
	}
	return names, given, rows.Err()
}

func effectiveRoles(ctx context.Context, tx *sql.Tx, user string) ([]string, error) {
	var direct string
	if err := tx.QueryRowContext(ctx, `SELECT roles FROM users WHERE id = $1`, user).Scan(&direct); err != nil {
		return nil, err
	}
	_, given, err := groupsOf(ctx, tx, user)
	return union(strings.Fields(direct), given), err
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(a), b...))))
}

// setLogins makes the name and the address the user's, or fails with [ErrTaken].
func setLogins(ctx context.Context, tx *sql.Tx, u *User) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM logins WHERE user_id = $1`, u.ID); err != nil {
		return err
	}
	logins := []string{u.Name}
	if u.Email != "" && u.Email != u.Name {
		logins = append(logins, u.Email)
	}
	for _, login := range logins {
		done, err := tx.ExecContext(ctx, `INSERT INTO logins (login, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, login, u.ID)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return ErrTaken
		}
	}
	return nil
}

// setMemberships makes the user a member of exactly u.Groups.
func setMemberships(ctx context.Context, tx *sql.Tx, u *User) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM memberships WHERE user_id = $1`, u.ID); err != nil {
		return err
	}
	for _, name := range u.Groups {
		done, err := tx.ExecContext(ctx, `INSERT INTO memberships (group_id, user_id) SELECT id, CAST($1 AS TEXT) FROM groups WHERE name = $2`, u.ID, name)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("group %q: %w", name, ErrUnknown)
		}
	}
	return nil
}
