package scim

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// claim is where a user's attributes lie that are no columns: [identity.User].Claims.
const claim = "scim"

// claims are the attributes that are claims of their own, so that services see
// them and what is changed here is seen by SCIM.
var claims = [...]struct{ attr, sub, claim string }{
	{"displayName", "", "name"},
	{"name", "givenName", "given_name"},
	{"name", "familyName", "family_name"},
	{"name", "middleName", "middle_name"},
	{"nickName", "", "nickname"},
	{"profileUrl", "", "profile"},
	{"timezone", "", "zoneinfo"},
	{"locale", "", "locale"},
}

// own are the attributes that lie in columns.
var own = [...]string{"userName", "externalId", "active", "password"}

func get(tree map[string]any, attr, sub string) any {
	if sub == "" {
		return tree[attr]
	}
	m, _ := tree[attr].(map[string]any)
	return m[sub]
}

func set(tree map[string]any, attr, sub string, v any) {
	if sub == "" {
		put(tree, attr, v)
		return
	}
	m, _ := tree[attr].(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	if put(m, sub, v); len(m) > 0 {
		tree[attr] = m
	} else {
		delete(tree, attr)
	}
}

// userTree is what a client may write of u, as JSON.
func userTree(u *identity.User) map[string]any {
	tree := map[string]any{}
	if kept, ok := u.Claims[claim].(map[string]any); ok {
		tree = clone(kept)
	}
	for _, c := range claims {
		s, _ := u.Claims[c.claim].(string)
		if s == "" {
			set(tree, c.attr, c.sub, nil)
		} else {
			set(tree, c.attr, c.sub, s)
		}
	}
	emails, _ := tree["emails"].([]any)
	if i := mainEmail(emails); i >= 0 {
		m, _ := emails[i].(map[string]any)
		if s, _ := m["value"].(string); !strings.EqualFold(s, u.Email) { // changed here
			if emails = slices.Delete(emails, i, i+1); u.Email != "" {
				m["value"] = u.Email
				emails = slices.Insert(emails, i, any(m))
			}
		}
	} else if u.Email != "" {
		emails = append(emails, map[string]any{"value": u.Email, "type": "work", "primary": true})
	}
	if delete(tree, "emails"); len(emails) > 0 {
		tree["emails"] = emails
	}
	tree["userName"], tree["active"] = u.Name, u.Active
	if u.ExternalID != "" {
		tree["externalId"] = u.ExternalID
	}
	return tree
}

// mainEmail is the index of the address that is the user's here: the primary one,
// else the first; -1 when there is none.
func mainEmail(emails []any) int {
	first := -1
	for i, e := range emails {
		m, _ := e.(map[string]any)
		if s, _ := m["value"].(string); s == "" {
			continue
		}
		if m["primary"] == true {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	return first
}

// shutHere reports whether u was made inactive by SCIM. Who was locked otherwise
// stays locked: systems that provision send active: true with every change.
func shutHere(u *identity.User) bool {
	kept, _ := u.Claims[claim].(map[string]any)
	return kept["active"] == false
}

// writeUser makes u what tree says; before is what it was. The claims of telephone
// and address follow when theirs differ: what was put there by other means stays.
func (h *handler) writeUser(u *identity.User, before, tree map[string]any) {
	u.Name, _ = tree["userName"].(string)
	u.ExternalID, _ = tree["externalId"].(string)
	was, shut := u.Active, shutHere(u)
	if active, ok := tree["active"].(bool); ok && (was || shut) { // nobody means to lock or unlock by leaving it out
		u.Active = active
	}
	emails, _ := tree["emails"].([]any)
	email := ""
	if i := mainEmail(emails); i >= 0 {
		m, _ := emails[i].(map[string]any)
		email, _ = m["value"].(string)
	}
	if !strings.EqualFold(email, u.Email) {
		u.Email, u.EmailVerified = email, time.Time{}
	}
	if h.cfg.TrustEmail && email != "" && u.EmailVerified.IsZero() {
		u.EmailVerified = time.Now()
	}
	all := map[string]any{}
	maps.Copy(all, u.Claims)
	for _, c := range claims {
		put(all, c.claim, get(tree, c.attr, c.sub))
	}
	if !same(tree["phoneNumbers"], before["phoneNumbers"]) {
		put(all, "phone_number", phone(tree))
	}
	if !same(tree["addresses"], before["addresses"]) {
		put(all, "address", address(tree))
	}
	kept := clone(tree)
	for _, name := range own {
		delete(kept, name)
	}
	for _, c := range claims {
		set(kept, c.attr, c.sub, nil)
	}
	if !u.Active && (was || shut) {
		kept["active"] = false // see shutHere
	}
	if delete(all, claim); len(kept) > 0 {
		all[claim] = kept
	}
	u.Claims = all
}

// first is the primary value of a multi-valued attribute, or the first.
func first(tree map[string]any, attr string) map[string]any {
	list, _ := tree[attr].([]any)
	var out map[string]any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && (out == nil || m["primary"] == true) {
			out = m
		}
	}
	return out
}

func phone(tree map[string]any) any { return first(tree, "phoneNumbers")["value"] }

// address is the claim of OpenID Connect Core §5.1.1.
func address(tree map[string]any) any {
	a, out := first(tree, "addresses"), map[string]any{}
	for attr, name := range map[string]string{
		"formatted": "formatted", "streetAddress": "street_address", "locality": "locality", "region": "region", "postalCode": "postal_code", "country": "country",
	} {
		put(out, name, a[attr])
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// userResource is u as it is shown. Groups is what has been looked up of names.
func (h *handler) userResource(ctx context.Context, u *identity.User, groups map[string]string) (map[string]any, error) {
	out := userTree(u)
	schemas := []any{userURN}
	if out[enterpriseURN] != nil {
		schemas = append(schemas, enterpriseURN)
	}
	out["schemas"], out["id"] = schemas, u.ID
	out["meta"] = h.meta(h.users, u.ID, u.Created, u.Updated, u.Version)
	list := make([]any, 0, len(u.Groups))
	for _, name := range u.Groups {
		id, ok := groups[name]
		if !ok {
			g, err := h.cfg.Directory.FindGroup(ctx, name)
			if err != nil {
				return nil, err
			}
			id = g.ID
			groups[name] = id
		}
		list = append(list, map[string]any{"value": id, "$ref": h.location(h.groups, id), "display": name})
	}
	if len(list) > 0 {
		out["groups"] = list
	}
	return out, nil
}

func (h *handler) getUser(ctx context.Context, id string) (*found, error) {
	u, err := h.cfg.Directory.User(ctx, id)
	if err != nil {
		return nil, err
	}
	return h.foundUser(ctx, u)
}

func (h *handler) foundUser(ctx context.Context, u *identity.User) (*found, error) {
	r, err := h.userResource(ctx, u, map[string]string{})
	return &found{r, u.ID, u.Version}, err
}

func (h *handler) createUser(ctx context.Context, actor string, tree map[string]any) (*found, error) {
	if err := h.users.required(tree); err != nil {
		return nil, err
	}
	u := identity.User{Active: true}
	h.writeUser(&u, map[string]any{}, tree)
	password, _ := tree["password"].(string)
	made, err := h.cfg.Directory.Create(ctx, actor, identity.NewUser{
		Name: u.Name, Email: u.Email, EmailVerified: !u.EmailVerified.IsZero(), Claims: u.Claims, ExternalID: u.ExternalID,
		Inactive: !u.Active, Password: gatehouse.NewSecret(password),
	})
	if err != nil {
		return nil, err
	}
	return h.foundUser(ctx, made)
}

func (h *handler) updateUser(ctx context.Context, actor, id string, version int64, edit func(tree map[string]any) (map[string]any, error)) (*found, error) {
	// The password has its own transaction. It is the part that may be refused, so
	// it comes first, and after a look at the version and at all other parts.
	u, err := h.cfg.Directory.User(ctx, id)
	if err != nil {
		return nil, err
	}
	if version != 0 && version != u.Version {
		return nil, identity.ErrChanged
	}
	tree, err := edit(userTree(u))
	if err != nil {
		return nil, err
	}
	if password, _ := tree["password"].(string); password != "" {
		if !h.may(ctx, u.Effective) {
			return nil, errNotYours
		}
		if err := h.cfg.Directory.SetPassword(ctx, actor, id, gatehouse.NewSecret(password)); err != nil {
			return nil, err
		}
		version = 0 // ours is another one now
	}
	u, err = h.cfg.Directory.Update(ctx, actor, id, version, func(u *identity.User) error {
		before := userTree(u)
		tree, err := edit(clone(before))
		if err != nil {
			return err
		}
		if !h.may(ctx, u.Effective) {
			if active, ok := tree["active"].(bool); !ok || active || !u.Active {
				return errNotYours
			}
			u.Active = false // to shut somebody out is always allowed
			return nil
		}
		h.writeUser(u, before, tree)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.foundUser(ctx, u)
}

func (h *handler) removeUser(ctx context.Context, actor, id string) error {
	u, err := h.cfg.Directory.User(ctx, id)
	if err != nil {
		return err
	}
	if !h.may(ctx, u.Effective) {
		return errNotYours
	}
	return h.cfg.Directory.Delete(ctx, actor, id)
}
