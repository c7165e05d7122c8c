package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A NewGroup describes a group to be made.
type NewGroup struct {
	Name       string // required
	Roles      []string
	Members    []string // ids of users
	ExternalID string
}

// CreateGroup makes a group. Errors: [ErrInvalid], [ErrTaken], and [ErrUnknown] for
// a member.
func (d *Directory) CreateGroup(ctx context.Context, actor string, n NewGroup) (*Group, error) {
	now := time.UnixMilli(time.Now().UnixMilli())
	g := Group{
		ID: newID("grp_"), Name: n.Name, Roles: n.Roles, Members: n.Members, ExternalID: n.ExternalID,
		Created: now, Updated: now, Version: 1,
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	err := d.change(ctx, actor, "groups.create", func(tx *sql.Tx) (string, map[string]string, error) {
		done, err := tx.ExecContext(ctx, `INSERT INTO groups (id, name, roles, external_id, created, updated, version)
			VALUES ($1, $2, $3, $4, $5, $5, 1) ON CONFLICT DO NOTHING`, g.ID, g.Name, strings.Join(g.Roles, " "), g.ExternalID, now.UnixMilli())
		if err != nil {
			return "", nil, err
		}
		if n, err := done.RowsAffected(); err != nil {
			return "", nil, err
		} else if n == 0 {
			return "", nil, ErrTaken
		}
		return g.ID, g.detail(), setMembers(ctx, tx, &Group{ID: g.ID}, &g)
	})
	if err != nil {
		return nil, err
	}
	return &g, nil
}

// Group returns the group with that id, or [ErrUnknown].
func (d *Directory) Group(ctx context.Context, id string) (*Group, error) {
	return d.oneGroup(ctx, `WHERE id = $1`, id)
}

// FindGroup returns the group of that name, or [ErrUnknown].
func (d *Directory) FindGroup(ctx context.Context, name string) (*Group, error) {
	canonical, err := canonicalTitle(name)
	if err != nil {
		return nil, ErrUnknown
	}
	return d.oneGroup(ctx, `WHERE name = $1`, canonical)
}

func (d *Directory) oneGroup(ctx context.Context, where string, args ...any) (*Group, error) {
	var g *Group
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		g, err = selectGroup(ctx, tx, where, args...)
		return err
	})
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return g, err
}

// Groups returns a page of groups by name, and how many there are on all pages. Of
// q it takes Search, Name, ExternalID, After, Offset and Limit.
func (d *Directory) Groups(ctx context.Context, q Query) (groups []Group, total int, err error) {
	var c conditions
	if q.Search != "" {
		c.add(`LOWER(name) LIKE ? ESCAPE '\'`, like(q.Search))
	}
	if q.Name != "" {
		name, err := canonicalTitle(q.Name)
		if err != nil {
			name = "" // no group's
		}
		c.add(`name = ?`, name)
	}
	if q.ExternalID != "" {
		c.add(`external_id = ?`, q.ExternalID)
	}
	if q.Email != "" || q.Group != "" || q.Offset < 0 || q.Limit < 0 {
		return nil, 0, fmt.Errorf("%w: groups have no address and no group, an offset and a limit are not negative", ErrInvalid)
	}
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM groups`+c.where(), c.args...).Scan(&total); err != nil {
			return err
		}
		page, args := q.page(c.where(), c.args)
		groups, err = selectGroups(ctx, tx, page, args...)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("identity: groups: %w", err)
	}
	return groups, total, nil
}

// UpdateGroup reads the group, lets f change Name, Roles, Members and ExternalID,
// and writes it; version as for [Directory.Update]. Who loses a role by it, also by
// being no member any more, loses the tokens that carry it.
func (d *Directory) UpdateGroup(ctx context.Context, actor, id string, version int64, f func(*Group) error) (*Group, error) {
	err := d.change(ctx, actor, "groups.update", func(tx *sql.Tx) (string, map[string]string, error) {
		old, err := selectGroup(ctx, tx, `WHERE id = $1`, id)
		if err != nil {
			return "", nil, err
		}
		if version != 0 && version != old.Version {
			return "", nil, ErrChanged
		}
		g := *old
		g.Roles, g.Members = slices.Clone(old.Roles), slices.Clone(old.Members)
		if err := f(&g); err != nil {
			return "", nil, err
		}
		g.ID, g.Created, g.Version = old.ID, old.Created, old.Version
		if err := g.check(); err != nil {
			return "", nil, err
		}
		if g.Name == old.Name && g.ExternalID == old.ExternalID && slices.Equal(g.Roles, old.Roles) && slices.Equal(g.Members, old.Members) {
			return "", nil, nil
		}
		detail := g.detail()
		detail["added"], detail["removed"] = only(g.Members, old.Members), only(old.Members, g.Members)
		return id, detail, d.writeGroup(ctx, tx, old, &g)
	})
	if err != nil {
		return nil, err
	}
	return d.Group(ctx, id)
}

func (d *Directory) writeGroup(ctx context.Context, tx *sql.Tx, old, g *Group) error {
	before, err := effectiveOf(ctx, tx, old.Members)
	if err != nil {
		return err
	}
	now := time.Now()
	if g.Name != old.Name {
		var other int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM groups WHERE name = $1`, g.Name).Scan(&other); err != nil {
			return err
		}
		if other > 0 {
			return ErrTaken
		}
	}
	var written int64
	err = tx.QueryRowContext(ctx, `UPDATE groups SET name = $1, roles = $2, external_id = $3, updated = $4, version = version + 1
		WHERE id = $5 AND version = $6 RETURNING version`, g.Name, strings.Join(g.Roles, " "), g.ExternalID, now.UnixMilli(), g.ID, old.Version).Scan(&written)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrChanged
	}
	if err != nil {
		return err
	}
	if err := setMembers(ctx, tx, old, g); err != nil {
		return err
	}
	return d.revokeLosers(ctx, tx, before, now)
}

// DeleteGroup removes the group; its members lose the roles it gave them, at once.
func (d *Directory) DeleteGroup(ctx context.Context, actor, id string) error {
	return d.change(ctx, actor, "groups.delete", func(tx *sql.Tx) (string, map[string]string, error) {
		g, err := selectGroup(ctx, tx, `WHERE id = $1`, id)
		if err != nil {
			return "", nil, err
		}
		before, err := effectiveOf(ctx, tx, g.Members)
		if err != nil {
			return "", nil, err
		}
		now := time.Now()
		if _, err := tx.ExecContext(ctx, `DELETE FROM memberships WHERE group_id = $1`, id); err != nil {
			return "", nil, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM groups WHERE id = $1`, id); err != nil {
			return "", nil, err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO tombstones (id, deleted) VALUES ($1, $2)`, id, now.UnixMilli()); err != nil {
			return "", nil, err
		}
		return id, g.detail(), d.revokeLosers(ctx, tx, before, now)
	})
}

func effectiveOf(ctx context.Context, tx *sql.Tx, users []string) (map[string][]string, error) {
	all := make(map[string][]string, len(users))
	for _, u := range users {
		roles, err := effectiveRoles(ctx, tx, u)
		if err != nil {
			return nil, err
		}
		all[u] = roles
	}
	return all, nil
}

// revokeLosers makes the tokens dead of everybody who had more roles before.
func (d *Directory) revokeLosers(ctx context.Context, tx *sql.Tx, before map[string][]string, now time.Time) error {
	for user, had := range before {
		has, err := effectiveRoles(ctx, tx, user)
		if err != nil {
			return err
		}
		if !lost(had, has) {
			continue
		}
		if err := d.RevokeTx(ctx, tx, "user", user, now); err != nil {
			return err
		}
	}
	return nil
}

// setMembers writes what differs, and makes the users another version: their
// groups changed.
func setMembers(ctx context.Context, tx *sql.Tx, old, g *Group) error {
	renamed := old.Name != "" && g.Name != old.Name || !slices.Equal(old.Roles, g.Roles)
	for _, id := range old.Members {
		if listed(g.Members, id) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM memberships WHERE group_id = $1 AND user_id = $2`, g.ID, id); err != nil {
			return err
		}
		if err := touch(ctx, tx, `active = active`, id, time.Now()); err != nil {
			return err
		}
	}
	for _, id := range g.Members {
		member := listed(old.Members, id)
		if !member {
			if _, err := tx.ExecContext(ctx, `INSERT INTO memberships (group_id, user_id) VALUES ($1, $2)`, g.ID, id); err != nil {
				return err
			}
		}
		if member && !renamed {
			continue
		}
		if err := touch(ctx, tx, `active = active`, id, time.Now()); err != nil {
			return fmt.Errorf("member %q: %w", id, err)
		}
	}
	return nil
}

// listed looks id up in sorted ids: groups may have a hundred thousand members.
func listed(ids []string, id string) bool {
	_, found := slices.BinarySearch(ids, id)
	return found
}

func (g *Group) check() (err error) {
	if g.Name, err = canonicalTitle(g.Name); err != nil {
		return err
	}
	if len(g.ExternalID) > 256 || !printable(g.ExternalID) {
		return fmt.Errorf("%w: the external id has at most 256 bytes, all of them printable characters", ErrInvalid)
	}
	g.Members = slices.Compact(slices.Sorted(slices.Values(g.Members)))
	g.Roles, err = roles(g.Roles)
	return err
}

func (g *Group) detail() map[string]string {
	return map[string]string{"name": g.Name, "roles": strings.Join(g.Roles, " "), "members": strconv.Itoa(len(g.Members))}
}

// only names those of a that are not in b, the first hundred of them.
func only(a, b []string) string {
	var ids []string
	for _, id := range a {
		if !listed(b, id) {
			ids = append(ids, id)
		}
	}
	if more := len(ids) - 100; more > 0 {
		ids = append(ids[:100], fmt.Sprint("and ", more, " more"))
	}
	return strings.Join(ids, " ")
}

func selectGroup(ctx context.Context, tx *sql.Tx, where string, args ...any) (*Group, error) {
	groups, err := selectGroups(ctx, tx, " "+where, args...)
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, ErrUnknown
	}
	return &groups[0], nil
}

func selectGroups(ctx context.Context, tx *sql.Tx, where string, args ...any) ([]Group, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, name, roles, external_id, created, updated, version FROM groups`+where, args...) //nolint:gosec // where is made of constants, values go in args
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var groups []Group
	for rows.Next() {
		var g Group
		var roles string
		var created, updated int64
		if err := rows.Scan(&g.ID, &g.Name, &roles, &g.ExternalID, &created, &updated, &g.Version); err != nil {
			return nil, err
		}
		g.Roles, g.Created, g.Updated = strings.Fields(roles), store.Moment(created), store.Moment(updated)
		groups = append(groups, g)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for i := range groups {
		if groups[i].Members, err = membersOf(ctx, tx, groups[i].ID); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

func membersOf(ctx context.Context, tx *sql.Tx, group string) ([]string, error) {
	return store.Texts(ctx, tx, `SELECT user_id FROM memberships WHERE group_id = $1 ORDER BY user_id`, group)
}
