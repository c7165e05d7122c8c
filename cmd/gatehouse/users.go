package main

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/admin"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

type usersCmd struct {
	Create   usersCreateCmd   `cmd:"" help:"Make a user."`
	List     usersListCmd     `cmd:"" help:"List users."`
	Show     usersShowCmd     `cmd:"" help:"Show a user, and what they can sign in with."`
	Set      usersSetCmd      `cmd:"" help:"Change a user."`
	Password usersPasswordCmd `cmd:"" help:"Set a password, or mail a link to set one."`
	ResetMFA usersResetCmd    `cmd:"" name:"reset-mfa" help:"Take authenticator app, recovery codes and passkeys away from who lost them."`
	Sessions usersSessionsCmd `cmd:"" help:"List where a user is signed in."`
	Grants   usersGrantsCmd   `cmd:"" help:"List what a user lets clients do."`
	SignOut  usersSignOutCmd  `cmd:"" name:"sign-out" help:"End the sessions of a user."`
	Lock     usersLockCmd     `cmd:"" help:"Shut a user out at once: no sign-in, no session, no token."`
	Unlock   usersUnlockCmd   `cmd:"" help:"Let a locked user sign in again."`
	Delete   usersDeleteCmd   `cmd:"" help:"Remove a user with everything that is theirs."`
}

type usersCreateCmd struct {
	passwordFlags

	Name          string            `arg:"" help:"Name to sign in with."`
	Email         string            `help:"E-mail address; it signs in as well."`
	EmailVerified bool              `help:"The address is known to be theirs."`
	Role          []string          `help:"Role of the config; repeat for several."`
	Group         []string          `help:"Group; repeat for several."`
	Claim         map[string]string `placeholder:"NAME=TEXT" help:"Claim of the profile, like given_name; repeat for several."`
	Tenant        string            `help:"Tenant."`
	ExternalID    string            `help:"Id in another system."`
	Password      bool              `help:"Ask for a password on the terminal. Without one the user sets it by mail."`
}

func (usersCreateCmd) Help() string {
	return "The user's id goes to standard output.\n\nExample:\n  gatehouse users create ada --email ada@example.com"
}

// Run makes the user.
func (c *usersCreateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		if err := o.known(c.Role); err != nil {
			return err
		}
		n := identity.NewUser{
			Name: c.Name, Email: c.Email, EmailVerified: c.EmailVerified, Roles: c.Role, Tenant: c.Tenant, ExternalID: c.ExternalID, Claims: claims(nil, c.Claim),
		}
		for _, name := range c.Group {
			g, err := o.group(name)
			if err != nil {
				return err
			}
			n.Groups = append(n.Groups, g.Name)
		}
		if c.Password || c.PasswordStdin {
			var err error
			if n.Password, err = c.read(std); err != nil {
				return err
			}
		}
		u, err := o.People.Create(ctx, o.actor, n)
		if err != nil {
			return err
		}
		return o.made(admin.ViewUser(u), u.ID, "user %s", u.Name)
	})
}

// claims adds texts to the claims of a profile; an empty one removes it.
func claims(old map[string]any, add map[string]string) map[string]any {
	out := map[string]any{}
	maps.Copy(out, old)
	for name, text := range add {
		if out[name] = text; text == "" {
			delete(out, name)
		}
	}
	return out
}

type usersListCmd struct {
	Search string `help:"A part of the name or the address."`
	Group  string `help:"Only members of this group."`
}

func (usersListCmd) Help() string { return "Example:\n  gatehouse users list --search ada" }

// Run lists all users that match.
func (c *usersListCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		q := identity.Query{Search: c.Search, Limit: candidates}
		if c.Group != "" {
			g, err := o.group(c.Group)
			if err != nil {
				return err
			}
			q.Group = g.ID
		}
		all := []admin.User{}
		var rows [][]string
		for {
			users, _, err := o.People.Users(ctx, q)
			if err != nil {
				return err
			}
			for i := range users {
				u := &users[i]
				all = append(all, admin.ViewUser(u))
				state := "active"
				if !u.Active {
					state = "locked"
				}
				rows = append(rows, []string{u.Name, u.ID, state, u.Email, strings.Join(u.Effective, ","), strings.Join(u.Groups, ",")})
			}
			if len(users) < q.Limit {
				return o.table(all, "NAME\tID\tSTATE\tE-MAIL\tROLES\tGROUPS", rows)
			}
			q.After = users[len(users)-1].Name
		}
	})
}

type usersShowCmd struct {
	User string `arg:"" help:"Name, address or id."`
}

func (usersShowCmd) Help() string { return "Example:\n  gatehouse users show ada" }

// Run shows the user.
func (c *usersShowCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		u, err := o.user(c.User)
		if err != nil {
			return err
		}
		f, err := o.People.Factors(ctx, u.ID)
		if err != nil {
			return err
		}
		if cli.Output == "json" {
			return printJSON(std.out, struct {
				admin.User

				Factors admin.Factors `json:"factors"`
			}{admin.ViewUser(u), admin.Factors(f)})
		}
		state := "active"
		if !u.Active {
			state = "locked"
		}
		email := u.Email
		if email != "" && u.EmailVerified.IsZero() {
			email += " (not verified)"
		}
		var ways []string
		for way, has := range map[string]bool{"a password": f.Password, "an authenticator app": f.TOTP} {
			if has {
				ways = append(ways, way)
			}
		}
		if f.Passkeys > 0 {
			ways = append(ways, strconv.Itoa(f.Passkeys)+" passkeys")
		}
		if f.Recovery > 0 {
			ways = append(ways, strconv.Itoa(f.Recovery)+" recovery codes")
		}
		if u.Source != "" {
			ways = append(ways, u.Source)
		}
		var profile []string
		for name := range u.Claims {
			profile = append(profile, name)
		}
		return o.details("name", u.Name, "id", u.ID, "state", state, "e-mail", email, "roles", strings.Join(u.Effective, ", "),
			"of them", yes(len(u.Roles) != len(u.Effective), "given directly: "+strings.Join(u.Roles, ", ")), "groups", strings.Join(u.Groups, ", "),
			"signs in by", sorted(ways), "claims", sorted(profile), "tenant", u.Tenant, "external id", u.ExternalID, "created", when(u.Created), "changed", when(u.Updated))
	})
}

type usersSetCmd struct {
	User          string            `arg:"" help:"Name, address or id."`
	Name          *string           `help:"Another name to sign in with."`
	Email         *string           `help:"Another address; empty: none."`
	EmailVerified *bool             `negatable:"" help:"The address is known to be theirs."`
	AddRole       []string          `help:"Role to give; repeat for several."`
	RemoveRole    []string          `help:"Role to take away; its tokens end within a second."`
	AddGroup      []string          `help:"Group to join."`
	RemoveGroup   []string          `help:"Group to leave."`
	Claim         map[string]string `placeholder:"NAME=TEXT" help:"Claim of the profile; without text: remove it."`
	Tenant        *string           `help:"Tenant; empty: none."`
	ExternalID    *string           `help:"Id in another system; empty: none."`
}

func (usersSetCmd) Help() string {
	return "What is not named stays as it is.\n\nExample:\n  gatehouse users set ada --claim given_name=Ada"
}

// Run changes the user.
func (c *usersSetCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		if err := o.known(c.AddRole); err != nil {
			return err
		}
		u, err := o.user(c.User)
		if err != nil {
			return err
		}
		var groups [2][]string
		for i, names := range [][]string{c.AddGroup, c.RemoveGroup} {
			for _, name := range names {
				g, err := o.group(name)
				if err != nil {
					return err
				}
				groups[i] = append(groups[i], g.Name)
			}
		}
		change := admin.UserChange{Name: c.Name, Email: c.Email, EmailVerified: c.EmailVerified, Tenant: c.Tenant, ExternalID: c.ExternalID}
		u, err = o.People.Update(ctx, o.actor, u.ID, 0, func(u *identity.User) error {
			change.Apply(u)
			u.Roles = swapped(u.Roles, c.AddRole, c.RemoveRole)
			u.Groups = swapped(u.Groups, groups[0], groups[1])
			if len(c.Claim) > 0 {
				u.Claims = claims(u.Claims, c.Claim)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return o.made(admin.ViewUser(u), u.ID, "user %s is changed", u.Name)
	})
}

type usersPasswordCmd struct {
	passwordFlags

	User string `arg:"" help:"Name, address or id."`
	Mail bool   `help:"Mail a link with which the user sets one. A running gateway sends it."`
}

func (usersPasswordCmd) Help() string {
	return "A new password ends everything issued to the user. It is typed twice, or comes from standard input; never from an argument, which others on the machine can read.\n\nExample:\n  gatehouse users password ada --password-stdin < password.txt"
}

// Run sets the password.
func (c *usersPasswordCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		u, err := o.user(c.User)
		if err != nil {
			return err
		}
		if c.Mail {
			if u.Email == "" || u.EmailVerified.IsZero() {
				return &hintError{errors.New("the user has no verified address"), "gatehouse users set " + u.Name + " --email ADDRESS --email-verified"}
			}
			if err := o.People.SendReset(ctx, u.Name, netip.IPv6Loopback()); err != nil {
				return err
			}
			say(std.err, "a link goes to %s; it is good for 30 minutes\n", u.Email)
			return nil
		}
		p, err := c.read(std)
		if err != nil {
			return err
		}
		if err := o.People.SetPassword(ctx, o.actor, u.ID, p); err != nil {
			return err
		}
		say(std.err, "user %s has a new password and is signed out everywhere\n", u.Name)
		return nil
	})
}

type usersResetCmd struct {
	User []string `arg:"" help:"Names, addresses or ids."`
}

func (usersResetCmd) Help() string { return "Example:\n  gatehouse users reset-mfa ada" }

// Run takes the factors out of use.
func (c *usersResetCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachUser(c.User, "signs in by the password alone", func(u *identity.User) error { return o.ResetFactors(ctx, o.actor, u.ID) })
	})
}

type usersSessionsCmd struct {
	User string `arg:"" help:"Name, address or id."`
}

func (usersSessionsCmd) Help() string { return "Example:\n  gatehouse users sessions ada" }

// Run lists the sessions.
func (c *usersSessionsCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		u, err := o.user(c.User)
		if err != nil {
			return err
		}
		sessions, err := o.People.SessionsOf(ctx, u.ID)
		if err != nil {
			return err
		}
		all, rows := []admin.Session{}, [][]string{}
		for i := range sessions {
			s := admin.ViewSession(&sessions[i])
			all = append(all, s)
			rows = append(rows, []string{s.ID, s.ACR, s.Address, date(s.Created), date(s.Seen), date(s.Expires), s.Agent})
		}
		return o.table(all, "ID\tACR\tADDRESS\tSINCE\tLAST USED\tENDS\tBROWSER", rows)
	})
}

type usersGrantsCmd struct {
	User string `arg:"" help:"Name, address or id."`
}

func (usersGrantsCmd) Help() string { return "Example:\n  gatehouse users grants ada" }

// Run lists the grants.
func (c *usersGrantsCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		u, err := o.user(c.User)
		if err != nil {
			return err
		}
		grants, err := o.OAuth.Grants(ctx, u.ID)
		if err != nil {
			return err
		}
		rows := [][]string{}
		for _, g := range grants {
			rows = append(rows, []string{g.ID, g.Client, strings.Join(g.Scopes, " "), date(g.Created), date(g.Used), date(g.Expires)})
		}
		if grants == nil && cli.Output == "json" {
			return printJSON(std.out, []string{})
		}
		return o.table(grants, "ID\tCLIENT\tSCOPES\tSINCE\tLAST USED\tENDS", rows)
	})
}

type usersSignOutCmd struct {
	User []string `arg:"" help:"Names, addresses or ids."`
	Apps bool     `help:"Also end what they let clients do: no client refreshes a token any more."`
}

func (usersSignOutCmd) Help() string { return "Example:\n  gatehouse users sign-out ada --apps" }

// Run ends the sessions.
func (c *usersSignOutCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachUser(c.User, "is signed out", func(u *identity.User) error { return o.SignOut(ctx, o.actor, u.ID, c.Apps) })
	})
}

type usersLockCmd struct {
	User []string `arg:"" help:"Names, addresses or ids."`
	Why  string   `help:"For the record."`
}

func (usersLockCmd) Help() string {
	return "Example:\n  gatehouse users lock ada --why stolen"
}

// Run locks the users.
func (c *usersLockCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachUser(c.User, "is locked; every token is refused within a second", func(u *identity.User) error {
			return o.People.Lock(ctx, o.actor, u.ID, c.Why)
		})
	})
}

type usersUnlockCmd struct {
	User []string `arg:"" help:"Names, addresses or ids."`
}

func (usersUnlockCmd) Help() string { return "Example:\n  gatehouse users unlock ada" }

// Run unlocks the users.
func (c *usersUnlockCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachUser(c.User, "may sign in again", func(u *identity.User) error { return o.People.Unlock(ctx, o.actor, u.ID) })
	})
}

type usersDeleteCmd struct {
	User []string `arg:"" help:"Names, addresses or ids."`
}

func (usersDeleteCmd) Help() string {
	return "It cannot be undone; to shut somebody out for now, lock them.\n\nExample:\n  gatehouse users delete bob"
}

// Run deletes the users.
func (c *usersDeleteCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachUser(c.User, "is deleted", func(u *identity.User) error { return o.People.Delete(ctx, o.actor, u.ID) })
	})
}
