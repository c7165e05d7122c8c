package scim

import (
	"context"
	"errors"
	"net/url"
	"strconv"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	defaultCount = 100
	maxCount     = 200
	batch        = 500 // rows read at once to filter them here
)

// A window is the part of a list that is asked for (RFC 7644 §3.4.2.4).
type window struct{ start, count int }

func newWindow(q url.Values) (window, error) {
	w := window{1, defaultCount}
	for name, to := range map[string]*int{"startIndex": &w.start, "count": &w.count} {
		s := q.Get(name)
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return w, bad("invalidValue", "%s is a number.", name)
		}
		*to = n
	}
	w.start, w.count = max(w.start, 1), min(max(w.count, 0), maxCount)
	return w, nil
}

// A page is what a kind of resource gives of its rows.
type page struct {
	resources []map[string]any
	rows      int    // that were read
	last      string // name of the last one
	total     int    // on all pages
}

// A source reads rows.
type source func(ctx context.Context, q identity.Query) (*page, error)

func (h *handler) userPage(ctx context.Context, q identity.Query) (*page, error) {
	users, total, err := h.cfg.Directory.Users(ctx, q)
	if err != nil {
		return nil, err
	}
	p, names := &page{rows: len(users), total: total}, map[string]string{}
	for i := range users {
		p.last = users[i].Name
		r, err := h.userResource(ctx, &users[i], names)
		if errors.Is(err, identity.ErrUnknown) {
			continue // its group was renamed or deleted just now
		}
		if err != nil {
			return nil, err
		}
		p.resources = append(p.resources, r)
	}
	return p, nil
}

func (h *handler) groupPage(ctx context.Context, q identity.Query) (*page, error) {
	groups, total, err := h.cfg.Directory.Groups(ctx, q)
	if err != nil {
		return nil, err
	}
	p := &page{rows: len(groups), total: total}
	for i := range groups {
		p.resources, p.last = append(p.resources, h.groupResource(&groups[i])), groups[i].Name
	}
	return p, nil
}

// list returns the resources of the window, and how many there are in all.
func (h *handler) list(ctx context.Context, rt *resourceType, read source, f filter, w window) ([]map[string]any, int, error) {
	if f == nil {
		p, err := read(ctx, identity.Query{Offset: w.start - 1, Limit: max(w.count, 1)})
		if err != nil {
			return nil, 0, err
		}
		return p.resources[:min(w.count, len(p.resources))], p.total, nil
	}
	q := identity.Query{Limit: batch}
	name := "displayName"
	if rt == h.users {
		name = "userName"
	}
	q.Name, _ = equals(f, name)
	q.ExternalID, _ = equals(f, "externalId")
	if id, ok := equals(f, "id"); ok {
		return h.byID(ctx, rt, f, w, id)
	}
	var out []map[string]any
	total := 0
	for {
		p, err := read(ctx, q)
		if err != nil {
			return nil, 0, err
		}
		for _, r := range p.resources {
			if !f.match(r) {
				continue
			}
			if total++; total >= w.start && len(out) < w.count {
				out = append(out, r)
			}
		}
		if p.rows < batch {
			return out, total, nil
		}
		q.After = p.last
	}
}

// byID is a list of at most one.
func (h *handler) byID(ctx context.Context, rt *resourceType, f filter, w window, id string) ([]map[string]any, int, error) {
	get := h.getUser
	if rt == h.groups {
		get = h.getGroup
	}
	r, err := get(ctx, id)
	switch {
	case errors.Is(err, identity.ErrUnknown):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case !f.match(r.resource):
		return nil, 0, nil
	case w.start > 1 || w.count == 0:
		return nil, 1, nil
	}
	return []map[string]any{r.resource}, 1, nil
}
