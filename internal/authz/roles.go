package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// A Role is a named set of permissions.
type Role struct {
	Inherits []string // roles whose grants it has too
	Grants   []string // "noun:verb", or a prefix with a trailing *: "orders:*", "*"
}

// A roleSet holds the roles that give one thing, closed over inheritance, so
// that a request costs one lookup for each role its principal has.
type roleSet map[string]struct{}

func (s roleSet) holds(p *gatehouse.Principal) bool {
	if p.Anonymous() {
		return false
	}
	for _, r := range p.Roles {
		if _, ok := s[r]; ok {
			return true
		}
	}
	return false
}

type roleTable struct {
	names []string            // sorted
	up    map[string][]string // role → itself and all it inherits
	roles map[string]Role
}

func newRoleTable(roles map[string]Role) (*roleTable, error) {
	t := &roleTable{names: sortedKeys(roles), up: map[string][]string{}, roles: roles}
	var errs []error
	for _, name := range t.names {
		if name == "" {
			errs = append(errs, errors.New("roles: a role without a name"))
		}
		for _, parent := range roles[name].Inherits {
			if _, ok := roles[parent]; !ok {
				errs = append(errs, fmt.Errorf("roles.%s: inherits %q, which is no role%s", name, parent, config.DidYouMean(parent, t.names)))
			}
		}
		for _, g := range roles[name].Grants {
			if err := checkGrant(g, true); err != nil {
				errs = append(errs, fmt.Errorf("roles.%s: %w", name, err))
			}
		}
	}
	for _, name := range t.names {
		up, cycle := t.climb(name)
		if cycle != nil {
			errs = append(errs, fmt.Errorf("roles.%s: inherits itself: %s", name, strings.Join(cycle, " → ")))
		}
		t.up[name] = up
	}
	return t, errors.Join(errs...)
}

// climb returns name and everything it inherits, or the cycle that leads back to it.
func (t *roleTable) climb(name string) (all, cycle []string) {
	from := map[string]string{name: ""}
	all = []string{name}
	for i := 0; i < len(all); i++ {
		for _, parent := range t.roles[all[i]].Inherits {
			if parent == name {
				cycle = []string{name}
				for at := all[i]; at != ""; at = from[at] {
					cycle = append(cycle, at)
				}
				slices.Reverse(cycle)
				return nil, cycle
			}
			if _, seen := from[parent]; !seen {
				from[parent] = all[i]
				all = append(all, parent)
			}
		}
	}
	return all, nil
}

// thatAre returns the roles that are, or inherit, role; nil if there is no such role.
func (t *roleTable) thatAre(role string) roleSet {
	if _, ok := t.roles[role]; !ok {
		return nil
	}
	s := roleSet{}
	for name, up := range t.up {
		if slices.Contains(up, role) {
			s[name] = struct{}{}
		}
	}
	return s
}

// grantedBy returns the roles that give a permission; empty if none does.
func (t *roleTable) grantedBy(grant string) roleSet {
	s := roleSet{}
	for name, up := range t.up {
		for _, r := range up {
			if slices.ContainsFunc(t.roles[r].Grants, func(g string) bool { return grantMatches(g, grant) }) {
				s[name] = struct{}{}
				break
			}
		}
	}
	return s
}

// grants lists what roles give, for did-you-mean.
func (t *roleTable) grants() []string {
	all := map[string]bool{}
	for _, r := range t.roles {
		for _, g := range r.Grants {
			all[g] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func grantMatches(pattern, grant string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(grant, prefix)
	}
	return pattern == grant
}

// checkGrant refuses what cannot be meant: a star anywhere but at the end would
// look like a pattern and grant something else than its writer thinks.
func checkGrant(g string, pattern bool) error {
	body := g
	if pattern {
		if g == "*" {
			return nil
		}
		body = strings.TrimSuffix(g, "*")
	}
	noun, verb, ok := strings.Cut(body, ":")
	bad := strings.ContainsFunc(body, func(r rune) bool {
		return r != ':' && r != '_' && r != '-' && r != '.' && r != '/' &&
			(r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if !ok || noun == "" || bad || (verb == "" && body == g) {
		if pattern {
			return fmt.Errorf("grant %q is not noun:verb (a * may end it)", g)
		}
		return fmt.Errorf("%q is not noun:verb", g)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
