package scim

import (
	"context"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// groupTree is what a client may write of g, as JSON.
func groupTree(g *identity.Group) map[string]any {
	tree := map[string]any{"displayName": g.Name}
	if g.ExternalID != "" {
		tree["externalId"] = g.ExternalID
	}
	if len(g.Members) > 0 {
		list := make([]any, len(g.Members))
		for i, id := range g.Members {
			list[i] = map[string]any{"value": id}
		}
		tree["members"] = list
	}
	return tree
}

func writeGroup(g *identity.Group, tree map[string]any) error {
	g.Name, _ = tree["displayName"].(string)
	g.ExternalID, _ = tree["externalId"].(string)
	list, _ := tree["members"].([]any)
	g.Members = make([]string, 0, len(list))
	for _, e := range list {
		m, _ := e.(map[string]any)
		if kind, ok := m["type"].(string); ok && !strings.EqualFold(kind, "User") {
			return bad("invalidValue", "Members are users; groups in groups are not supported.")
		}
		id := valueOf(e)
		if id == "" {
			return bad("invalidValue", "A member has the user's id as its value.")
		}
		g.Members = append(g.Members, id)
	}
	return nil
}

func (h *handler) groupResource(g *identity.Group) map[string]any {
	out := groupTree(g)
	out["schemas"], out["id"] = []any{groupURN}, g.ID
	out["meta"] = h.meta(h.groups, g.ID, g.Created, g.Updated, g.Version)
	if list, ok := out["members"].([]any); ok {
		for _, e := range list {
			if m, ok := e.(map[string]any); ok {
				m["$ref"], m["type"] = h.location(h.users, valueOf(m)), "User"
			}
		}
	}
	return out
}

func (h *handler) getGroup(ctx context.Context, id string) (*found, error) {
	g, err := h.cfg.Directory.Group(ctx, id)
	if err != nil {
		return nil, err
	}
	return h.foundGroup(g), nil
}

func (h *handler) foundGroup(g *identity.Group) *found {
	return &found{h.groupResource(g), g.ID, g.Version}
}

func (h *handler) createGroup(ctx context.Context, actor string, tree map[string]any) (*found, error) {
	if err := h.groups.required(tree); err != nil {
		return nil, err
	}
	var g identity.Group
	if err := writeGroup(&g, tree); err != nil {
		return nil, err
	}
	made, err := h.cfg.Directory.CreateGroup(ctx, actor, identity.NewGroup{Name: g.Name, Members: g.Members, ExternalID: g.ExternalID})
	if err != nil {
		return nil, member(err)
	}
	return h.foundGroup(made), nil
}

func (h *handler) updateGroup(ctx context.Context, actor, id string, version int64, edit func(tree map[string]any) (map[string]any, error)) (*found, error) {
	if _, err := h.cfg.Directory.Group(ctx, id); err != nil {
		return nil, err
	}
	g, err := h.cfg.Directory.UpdateGroup(ctx, actor, id, version, func(g *identity.Group) error {
		tree, err := edit(groupTree(g))
		if err != nil {
			return err
		}
		name, before := g.Name, g.Members
		if err := writeGroup(g, tree); err != nil {
			return err
		}
		more := slices.ContainsFunc(g.Members, func(id string) bool { return !slices.Contains(before, id) })
		if (more || g.Name != name) && !h.may(ctx, g.Roles) {
			return errNotYours
		}
		return nil
	})
	if err != nil {
		return nil, member(err)
	}
	return h.foundGroup(g), nil
}

func (h *handler) removeGroup(ctx context.Context, actor, id string) error {
	g, err := h.cfg.Directory.Group(ctx, id)
	if err != nil {
		return err
	}
	if !h.may(ctx, g.Roles) {
		return errNotYours
	}
	return h.cfg.Directory.DeleteGroup(ctx, actor, id)
}

// member says of a group that is there what ErrUnknown means.
func member(err error) error {
	if f, ok := asFault(err); ok && f.status == 404 {
		return bad("invalidValue", "A member is no user here.")
	}
	return err
}
