package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/admin"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

type groupsCmd struct {
	Create groupsCreateCmd `cmd:"" help:"Make a group."`
	List   groupsListCmd   `cmd:"" help:"List groups."`
	Set    groupsSetCmd    `cmd:"" help:"Change a group: its roles, its members."`
	Delete groupsDeleteCmd `cmd:"" help:"Remove groups; their members lose the roles they gave."`
}

type groupsCreateCmd struct {
	Name       string   `arg:"" help:"Name."`
	Role       []string `help:"Role its members have; repeat for several."`
	Member     []string `help:"User: name, address or id; repeat for several."`
	ExternalID string   `help:"Id in another system."`
}

func (groupsCreateCmd) Help() string {
	return "The group's id goes to standard output.\n\nExample:\n  gatehouse groups create Support"
}

// Run makes the group.
func (c *groupsCreateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		if err := o.known(c.Role); err != nil {
			return err
		}
		members, err := o.ids(c.Member)
		if err != nil {
			return err
		}
		g, err := o.People.CreateGroup(ctx, o.actor, identity.NewGroup{Name: c.Name, Roles: c.Role, Members: members, ExternalID: c.ExternalID})
		if err != nil {
			return err
		}
		return o.made(admin.ViewGroup(g), g.ID, "group %s", g.Name)
	})
}

// ids are those of users.
func (o *office) ids(logins []string) (ids []string, err error) {
	err = each(logins, func(login string) error {
		u, err := o.user(login)
		if err == nil {
			ids = append(ids, u.ID)
		}
		return err
	})
	return ids, err
}

type groupsListCmd struct {
	Search string `help:"A part of the name."`
}

func (groupsListCmd) Help() string { return "Example:\n  gatehouse groups list" }

// Run lists all groups that match.
func (c *groupsListCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		q := identity.Query{Search: c.Search, Limit: candidates}
		all, rows := []admin.Group{}, [][]string{}
		for {
			groups, _, err := o.People.Groups(ctx, q)
			if err != nil {
				return err
			}
			for i := range groups {
				g := admin.ViewGroup(&groups[i])
				all = append(all, g)
				rows = append(rows, []string{g.Name, g.ID, strings.Join(g.Roles, ","), strconv.Itoa(g.Size)})
			}
			if len(groups) < q.Limit {
				return o.table(all, "NAME\tID\tROLES\tMEMBERS", rows)
			}
			q.After = groups[len(groups)-1].Name
		}
	})
}

type groupsSetCmd struct {
	Group        string   `arg:"" help:"Name or id."`
	Name         *string  `help:"Another name."`
	AddRole      []string `help:"Role to give to all members."`
	RemoveRole   []string `help:"Role to take from all members; its tokens end within a second."`
	AddMember    []string `help:"User to take in: name, address or id."`
	RemoveMember []string `help:"User to leave out."`
	ExternalID   *string  `help:"Id in another system; empty: none."`
}

func (groupsSetCmd) Help() string {
	return "What is not named stays as it is.\n\nExample:\n  gatehouse groups set Support --add-member ada"
}

// Run changes the group.
func (c *groupsSetCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		if err := o.known(c.AddRole); err != nil {
			return err
		}
		g, err := o.group(c.Group)
		if err != nil {
			return err
		}
		change := admin.GroupChange{Name: c.Name, ExternalID: c.ExternalID}
		if change.Add, err = o.ids(c.AddMember); err != nil {
			return err
		}
		if change.Remove, err = o.ids(c.RemoveMember); err != nil {
			return err
		}
		g, err = o.People.UpdateGroup(ctx, o.actor, g.ID, 0, func(g *identity.Group) error {
			change.Apply(g)
			g.Roles = swapped(g.Roles, c.AddRole, c.RemoveRole)
			return nil
		})
		if err != nil {
			return err
		}
		return o.made(admin.ViewGroup(g), g.ID, "group %s is changed", g.Name)
	})
}

type groupsDeleteCmd struct {
	Group []string `arg:"" help:"Names or ids."`
}

func (groupsDeleteCmd) Help() string { return "Example:\n  gatehouse groups delete Support" }

// Run deletes the groups.
func (c *groupsDeleteCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return each(c.Group, func(name string) error {
			g, err := o.group(name)
			if err == nil {
				err = o.People.DeleteGroup(ctx, o.actor, g.ID)
			}
			if err == nil {
				say(std.err, "group %s is deleted\n", g.Name)
			}
			return err
		})
	})
}
