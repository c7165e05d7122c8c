package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A Standing is what a user may do now. Its zero value may nothing.
type Standing struct {
	Active bool
	Roles  []string // of the user and of the groups, sorted
	Tenant string
}

// Standings tell what users may do now, whoever changed it, for keepers of what
// people hand out in their own name. They need no [Directory], so that they outlive
// one that is replaced. Safe for concurrent use.
type Standings struct{ db *store.DB }

// OpenStandings brings the tables up to date.
func OpenStandings(ctx context.Context, db *store.DB) (*Standings, error) {
	if err := db.Migrate(ctx, Tables()); err != nil {
		return nil, err
	}
	return &Standings{db}, nil
}

// Version returns a number that is another one after each change of a user or a
// group. Take it before what [Standings.Of] answers.
func (s *Standings) Version(ctx context.Context) (seq int64, err error) {
	err = s.db.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT seq FROM standings_last WHERE one = 1`).Scan(&seq)
	})
	if err != nil {
		return 0, fmt.Errorf("identity: standings: %w", err)
	}
	return seq, nil
}

// Of returns the standing of each user of ids. Who is missing is gone, and the id is
// never used again. All answers are of one moment.
func (s *Standings) Of(ctx context.Context, ids []string) (map[string]Standing, error) {
	all := make(map[string]Standing, len(ids))
	err := s.db.Read(ctx, func(tx *sql.Tx) error {
		for some := range slices.Chunk(ids, 500) { // so many parameters every engine takes
			if err := standings(ctx, tx, some, all); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("identity: standings: %w", err)
	}
	return all, nil
}

func standings(ctx context.Context, tx *sql.Tx, ids []string, all map[string]Standing) error {
	args, in := make([]any, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		args[i], in[i] = id, "$"+strconv.Itoa(i+1)
	}
	list := strings.Join(in, ", ")
	// A row for each group of a user, one for a user without: group_roles is '' then.
	//nolint:gosec // list is made of numbers
	rows, err := tx.QueryContext(ctx, `SELECT u.id, u.active, u.roles, u.tenant, COALESCE(g.roles, '') AS group_roles FROM users u
		LEFT JOIN memberships m ON m.user_id = u.id LEFT JOIN groups g ON g.id = m.group_id WHERE u.id IN (`+list+`)`, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, direct, tenant, given string
		var active int64
		if err := rows.Scan(&id, &active, &direct, &tenant, &given); err != nil {
			return err
		}
		had, found := all[id]
		if !found {
			had = Standing{Active: active == 1, Roles: roleSet(direct), Tenant: tenant}
		}
		if given != "" {
			had.Roles = union(had.Roles, strings.Fields(given))
		}
		all[id] = had
	}
	return errors.Join(rows.Err(), rows.Close())
}

func roleSet(words string) []string {
	return slices.Compact(slices.Sorted(slices.Values(strings.Fields(words))))
}

// stir makes the standings another version.
func stir(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE standings_last SET seq = seq + 1 WHERE one = 1`)
	return err
}
