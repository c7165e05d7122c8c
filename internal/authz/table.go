package authz

import (
	"fmt"
	"slices"
)

// Roles answers what roles hold, for those who hand them out. It is read-only and
// safe for concurrent use; its zero value has no role.
type Roles struct{ table *roleTable }

// NewRoles checks that every role inherits roles there are, and never itself.
func NewRoles(roles map[string]Role) (*Roles, error) {
	t, err := newRoleTable(roles)
	if err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	return &Roles{t}, nil
}

// Names lists the roles there are, sorted.
func (r *Roles) Names() []string {
	if r.table == nil {
		return nil
	}
	return slices.Clone(r.table.names)
}

// Hold reports whether who has held is a role, by name or by inheritance.
func (r *Roles) Hold(held []string, role string) bool {
	if r.table == nil {
		return false
	}
	return slices.ContainsFunc(held, func(h string) bool { return slices.Contains(r.table.up[h], role) })
}

// Grant reports whether who has held has a permission.
func (r *Roles) Grant(held []string, grant string) bool {
	if r.table == nil {
		return false
	}
	giving := r.table.grantedBy(grant)
	return slices.ContainsFunc(held, func(h string) bool { _, ok := giving[h]; return ok })
}
