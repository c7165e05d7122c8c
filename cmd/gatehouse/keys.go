package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Make an API key. It is shown once."`
	List   keysListCmd   `cmd:"" help:"List the API keys, never the keys themselves."`
	Rotate keysRotateCmd `cmd:"" help:"Make the successor of a key; both work for a while."`
	Revoke keysRevokeCmd `cmd:"" help:"End a key at once: every gateway refuses it within a second."`
}

type keysCreateCmd struct {
	Owner  string        `required:"" help:"Subject the key acts as."`
	Role   []string      `help:"Role of the config; repeat for several."`
	Scope  []string      `help:"OAuth scope; repeat for several."`
	Tenant string        `help:"Tenant."`
	Note   string        `help:"What the key is for."`
	Life   time.Duration `help:"How long it works, like 2160h. Default: until it is revoked."`
	Save   string        `placeholder:"FILE" help:"Write the key into this file (mode 0600) instead of showing it."`
}

func (keysCreateCmd) Help() string {
	return "The key goes to standard output, everything else to standard error, so that it can be piped into a vault. Only its hash is kept.\n\nExample:\n  gatehouse keys create --owner billing --role support --life 2160h"
}

// Run makes the key.
func (c *keysCreateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withKeys(ctx, cli, func(k *server.KeyRing, actor string) error {
		if err := k.Known(c.Role); err != nil {
			return err
		}
		return handOver(cli, std, c.Save, func() (*handed, error) {
			return handedKey(k.Create(ctx, actor, authn.NewKey{
				Owner: c.Owner, Tenant: c.Tenant, Roles: c.Role, Scopes: c.Scope, Note: c.Note, Life: c.Life,
			}))
		})
	})
}

// A handed is a secret on its way to whoever asked.
type handed struct {
	secret gatehouse.Secret
	what   string                 // "key k7f2m9q4xw of billing"
	view   func(shown string) any // as JSON
	undo   string                 // what to do when it reached nobody
}

// handOver gives the secret that do makes to whoever asked, once. The file is there
// before the secret is: a rotation that has nowhere to put the successor would end
// the old one for nothing.
func handOver(cli *cli, std *stdio, file string, do func() (*handed, error)) (err error) {
	var f *os.File
	if file != "" {
		if f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return fmt.Errorf("nothing was made, there is no file for it: %w", err)
		}
	}
	h, err := do()
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(file))
		}
		return err
	}
	shown := h.secret.Reveal()
	if f != nil {
		_, err = f.WriteString(shown + "\n")
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return h.lost(err)
		}
		shown = ""
	}
	if cli.Output == "json" {
		if err := printJSON(std.out, h.view(shown)); err != nil {
			return h.lost(err)
		}
		return nil
	}
	say(std.err, "%s\n", h.what)
	if shown != "" {
		say(std.err, "It is shown this once; only its hash is kept. A running gateway takes it within a second.\n")
		if _, err := fmt.Fprintln(std.out, shown); err != nil {
			return h.lost(err)
		}
	}
	return nil
}

// lost is the error of a secret that was made and reached nobody.
func (h *handed) lost(err error) error {
	return fmt.Errorf("%s was made but not handed over: %w; %s", h.what, err, h.undo)
}

func handedKey(secret gatehouse.Secret, key *authn.Key, err error) (*handed, error) {
	if err != nil {
		return nil, err
	}
	return &handed{
		secret: secret, what: fmt.Sprintf("key %s of %s%s", key.ID, key.Owner, until(key)), undo: "revoke it and try again",
		view: func(shown string) any { return keyView{view(key), shown} },
	}, nil
}

type keyView struct {
	keyRow

	Key string `json:"key,omitempty"`
}

type keyRow struct {
	ID       string    `json:"id"`
	Line     string    `json:"line"`
	State    string    `json:"state"`
	Owner    string    `json:"owner"`
	Tenant   string    `json:"tenant,omitempty"`
	Roles    []string  `json:"roles"`
	Scopes   []string  `json:"scopes"`
	Note     string    `json:"note,omitempty"`
	Created  time.Time `json:"created"`
	By       string    `json:"created_by"`
	Expires  time.Time `json:"expires,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

func view(k *authn.Key) keyRow {
	state := "live"
	switch {
	case !k.Revoked.IsZero():
		state = "revoked"
	case k.Ended(time.Now()):
		state = "expired"
	case k.Suspended: // its owner is a user who can not act now
		state = "suspended"
	}
	return keyRow{k.ID, k.Lineage, state, k.Owner, k.Tenant, k.Roles, k.Scopes, k.Note, k.Created, k.CreatedBy, k.Expires, k.LastUsed}
}

func until(k *authn.Key) string {
	if k.Expires.IsZero() {
		return ", until it is revoked"
	}
	return ", until " + k.Expires.Local().Format(time.RFC3339)
}

type keysListCmd struct {
	All bool `help:"Also those that no longer work."`
}

func (keysListCmd) Help() string { return "Example:\n  gatehouse keys list --output json" }

// Run lists the keys.
func (c *keysListCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withKeys(ctx, cli, func(k *server.KeyRing, _ string) error {
		keys, err := k.List(ctx)
		if err != nil {
			return err
		}
		rows := []keyRow{}
		for i := range keys {
			if r := view(&keys[i]); c.All || r.State == "live" {
				rows = append(rows, r)
			}
		}
		if cli.Output == "json" {
			return printJSON(std.out, rows)
		}
		t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "ID\tSTATE\tOWNER\tROLES\tSCOPES\tEXPIRES\tLAST USED\tNOTE")
		for _, r := range rows {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, r.Owner, strings.Join(r.Roles, ","), strings.Join(r.Scopes, " "), date(r.Expires), date(r.LastUsed), r.Note)
		}
		return t.Flush()
	})
}

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

type keysRotateCmd struct {
	ID      string        `arg:"" help:"Id of the key to succeed."`
	Overlap time.Duration `default:"24h" help:"How long the old key goes on working."`
	Save    string        `placeholder:"FILE" help:"Write the key into this file (mode 0600) instead of showing it."`
}

func (keysRotateCmd) Help() string {
	return "Example:\n  gatehouse keys rotate k7f2m9q4xw --overlap 24h"
}

// Run makes the successor.
func (c *keysRotateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withKeys(ctx, cli, func(k *server.KeyRing, actor string) error {
		return handOver(cli, std, c.Save, func() (*handed, error) {
			return handedKey(k.Rotate(ctx, actor, c.ID, c.Overlap))
		})
	})
}

type keysRevokeCmd struct {
	ID []string `arg:"" help:"Ids of keys."`
}

func (keysRevokeCmd) Help() string { return "Example:\n  gatehouse keys revoke k7f2m9q4xw" }

// Run revokes the keys one by one.
func (c *keysRevokeCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withKeys(ctx, cli, func(k *server.KeyRing, actor string) error {
		var errs []error
		for _, id := range c.ID {
			if err := k.Revoke(ctx, actor, id); err != nil {
				errs = append(errs, err)
				continue
			}
			say(std.err, "key %s is revoked\n", id)
		}
		return errors.Join(errs...)
	})
}

// withKeys opens the keys for as long as do runs.
func withKeys(ctx context.Context, cli *cli, do func(*server.KeyRing, string) error) (err error) {
	k, err := server.OpenKeyRing(ctx, cli.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	return do(k, actor())
}

// actor is who does it, in the record: the operating system's user. Whoever can
// write the database needs no other right.
func actor() string {
	if u, err := user.Current(); err == nil {
		return "os:" + u.Username
	}
	return fmt.Sprintf("os:%d", os.Getuid())
}
