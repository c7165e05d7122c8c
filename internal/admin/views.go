package admin

import (
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// A User is a user as administrators see one.
type User struct {
	ID            string         `json:"id"`
	Name          string         `json:"name"`
	Email         string         `json:"email,omitempty"`
	EmailVerified bool           `json:"email_verified"`
	Active        bool           `json:"active"`
	Roles         []string       `json:"roles"`           // given directly
	Groups        []string       `json:"groups"`          // names
	Effective     []string       `json:"effective_roles"` // with those of the groups
	Tenant        string         `json:"tenant,omitempty"`
	ExternalID    string         `json:"external_id,omitempty"`
	Source        string         `json:"source,omitempty"` // of the sign-in, when it is elsewhere
	HasPassword   bool           `json:"has_password"`
	Claims        map[string]any `json:"claims,omitempty"`
	Created       time.Time      `json:"created"`
	Updated       time.Time      `json:"updated"`
	Version       int64          `json:"version"`
}

// ViewUser shows a user.
func ViewUser(u *identity.User) User {
	return User{
		ID: u.ID, Name: u.Name, Email: u.Email, EmailVerified: !u.EmailVerified.IsZero(), Active: u.Active, Roles: list(u.Roles), Groups: list(u.Groups),
		Effective: list(u.Effective), Tenant: u.Tenant, ExternalID: u.ExternalID, Source: u.Source, HasPassword: u.HasPassword, Claims: u.Claims,
		Created: u.Created.UTC(), Updated: u.Updated.UTC(), Version: u.Version,
	}
}

// A Group is a group as administrators see one.
type Group struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Roles      []string  `json:"roles"`
	Members    []string  `json:"members,omitempty"` // ids; not in lists of groups
	Size       int       `json:"size"`
	ExternalID string    `json:"external_id,omitempty"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	Version    int64     `json:"version"`
}

// ViewGroup shows a group.
func ViewGroup(g *identity.Group) Group {
	return Group{
		ID: g.ID, Name: g.Name, Roles: list(g.Roles), Members: g.Members, Size: len(g.Members), ExternalID: g.ExternalID,
		Created: g.Created.UTC(), Updated: g.Updated.UTC(), Version: g.Version,
	}
}

// A Session is a session as administrators see one: nothing that could be used as it.
type Session struct {
	ID       string    `json:"id"`
	ACR      string    `json:"acr"`
	AMR      []string  `json:"amr"`
	Source   string    `json:"source,omitempty"`
	AuthTime time.Time `json:"auth_time"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"last_used"`
	Expires  time.Time `json:"expires"`
	Address  string    `json:"address,omitempty"`
	Agent    string    `json:"user_agent,omitempty"`
}

// ViewSession shows a session.
func ViewSession(s *identity.Session) Session {
	end := s.Expires
	if s.Idle.Before(end) {
		end = s.Idle
	}
	return Session{
		ID: s.ID, ACR: s.ACR, AMR: list(s.AMR), Source: s.Source, AuthTime: s.AuthTime.UTC(), Created: s.Created.UTC(), Seen: s.Seen.UTC(), Expires: end.UTC(),
		Address: s.Address, Agent: s.Agent,
	}
}

// Factors are a user's ways to sign in, as administrators see them.
type Factors struct {
	Password bool `json:"password"`
	TOTP     bool `json:"totp"`
	Passkeys int  `json:"passkeys"`
	Recovery int  `json:"recovery_codes"`
}

// A Key is an API key as administrators see one: everything but the key.
type Key struct {
	ID       string     `json:"id"`
	Line     string     `json:"line"`
	State    string     `json:"state"` // live, revoked, expired, suspended
	Owner    string     `json:"owner"`
	Tenant   string     `json:"tenant,omitempty"`
	Roles    []string   `json:"roles"`
	Scopes   []string   `json:"scopes"`
	Note     string     `json:"note,omitempty"`
	Created  time.Time  `json:"created"`
	By       string     `json:"created_by"`
	Expires  *time.Time `json:"expires,omitempty"`
	LastUsed *time.Time `json:"last_used,omitempty"`
}

func viewKey(k *authn.Key, now time.Time) Key {
	state := "live"
	switch {
	case !k.Revoked.IsZero():
		state = "revoked"
	case k.Ended(now):
		state = "expired"
	case k.Suspended:
		state = "suspended" // while its owner can not act
	}
	return Key{
		ID: k.ID, Line: k.Lineage, State: state, Owner: k.Owner, Tenant: k.Tenant, Roles: list(k.Roles), Scopes: list(k.Scopes), Note: k.Note,
		Created: k.Created.UTC(), By: k.CreatedBy, Expires: moment(k.Expires), LastUsed: moment(k.LastUsed),
	}
}

// list is a list in JSON also when it is empty.
func list(words []string) []string {
	if words == nil {
		return []string{}
	}
	return words
}

// moment is t as JSON leaves it out when there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
