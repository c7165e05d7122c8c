package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// office is what the commands about people, clients and tokens work with.
type office struct {
	*server.Office

	ctx   context.Context //nolint:containedctx // of one command
	actor string
	cli   *cli
	std   *stdio
}

// withOffice opens it for as long as do runs.
func withOffice(ctx context.Context, cli *cli, std *stdio, do func(*office) error) (err error) {
	o, err := server.OpenOffice(ctx, cli.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return do(&office{o, ctx, actor(), cli, std})
}

// candidates bounds how many names are looked through for a did-you-mean.
const candidates = 1000

// user finds one by id, name or address.
func (o *office) user(login string) (*identity.User, error) {
	find := o.People.FindUser
	if strings.HasPrefix(login, "usr_") {
		find = o.People.User
	}
	u, err := find(o.ctx, login)
	if !errors.Is(err, identity.ErrUnknown) {
		return u, err
	}
	var names []string
	if near, _, err := o.People.Users(o.ctx, identity.Query{Limit: candidates}); err == nil {
		for i := range near {
			names = append(names, near[i].Name)
		}
	}
	return nil, &hintError{fmt.Errorf("there is no user %q%s", login, config.DidYouMean(login, names)), "gatehouse users list shows them"}
}

// group finds one by id or name.
func (o *office) group(name string) (*identity.Group, error) {
	find := o.People.FindGroup
	if strings.HasPrefix(name, "grp_") {
		find = o.People.Group
	}
	g, err := find(o.ctx, name)
	if !errors.Is(err, identity.ErrUnknown) {
		return g, err
	}
	var names []string
	if near, _, err := o.People.Groups(o.ctx, identity.Query{Limit: candidates}); err == nil {
		for i := range near {
			names = append(names, near[i].Name)
		}
	}
	return nil, &hintError{fmt.Errorf("there is no group %q%s", name, config.DidYouMean(name, names)), "gatehouse groups list shows them"}
}

// client finds one by id.
func (o *office) client(id string) (*oauth.Client, error) {
	c, err := o.OAuth.Client(o.ctx, id)
	if !errors.Is(err, oauth.ErrClientUnknown) {
		return c, err
	}
	var ids []string
	if all, err := o.OAuth.Clients(o.ctx); err == nil {
		for i := range all {
			ids = append(ids, all[i].ID)
		}
	}
	return nil, &hintError{fmt.Errorf("there is no client %q%s", id, config.DidYouMean(id, ids)), "gatehouse clients list shows them"}
}

// known refuses roles that the config does not have: they would be useless today
// and a surprise the day the role is made.
func (o *office) known(roles []string) error {
	var errs []error
	names := o.Roles.Names()
	for _, r := range roles {
		if !slices.Contains(names, r) {
			errs = append(errs, fmt.Errorf("there is no role %q in %s%s", r, o.cli.Config, config.DidYouMean(r, names)))
		}
	}
	return errors.Join(errs...)
}

// each does the same for several names, all of them.
func each(names []string, do func(string) error) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, do(n))
	}
	return errors.Join(errs...)
}

// eachUser does the same for several users.
func (o *office) eachUser(logins []string, done string, do func(*identity.User) error) error {
	return each(logins, func(login string) error {
		u, err := o.user(login)
		if err == nil {
			err = do(u)
		}
		if err == nil {
			say(o.std.err, "user %s (%s) %s\n", u.Name, u.ID, done)
		}
		return err
	})
}

// Passwords come from the terminal, where they are not shown, or from standard
// input: arguments can be read by everybody on the machine.
type passwordFlags struct {
	PasswordStdin bool `help:"Read the password from standard input: its first line."`
}

const maxLine = 64 << 10

func (p *passwordFlags) read(std *stdio) (gatehouse.Secret, error) {
	if p.PasswordStdin {
		return readLine(std.in, "password")
	}
	f, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return gatehouse.Secret{}, &hintError{errors.New("there is no terminal to type a password on"), "pipe it in, with --password-stdin"}
	}
	ask := func(prompt string) ([]byte, error) {
		say(std.err, "%s: ", prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		say(std.err, "\n")
		return b, err
	}
	first, err := ask("Password")
	if err != nil {
		return gatehouse.Secret{}, fmt.Errorf("the password cannot be read: %w", err)
	}
	again, err := ask("Once more")
	if err != nil {
		return gatehouse.Secret{}, fmt.Errorf("the password cannot be read: %w", err)
	}
	if !bytes.Equal(first, again) {
		return gatehouse.Secret{}, errors.New("the two passwords differ; nothing was changed")
	}
	return gatehouse.NewSecret(string(first)), nil
}

// readLine reads a secret from the first line of in.
func readLine(in io.Reader, what string) (gatehouse.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return gatehouse.Secret{}, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return gatehouse.Secret{}, fmt.Errorf("there is no %s on standard input", what)
	}
	return gatehouse.NewSecret(line), nil
}

// details prints names and values, those that have one.
func (o *office) details(rows ...string) error {
	t := tabwriter.NewWriter(o.std.out, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(rows); i += 2 {
		if rows[i+1] != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", rows[i], rows[i+1])
		}
	}
	return t.Flush()
}

// table prints rows under a head, or v as JSON.
func (o *office) table(v any, head string, rows [][]string) error {
	if o.cli.Output == "json" {
		return printJSON(o.std.out, v)
	}
	t := tabwriter.NewWriter(o.std.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, head)
	for _, r := range rows {
		_, _ = fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// made prints what a command made: its id, or all of it as JSON.
func (o *office) made(v any, id, format string, args ...any) error {
	if o.cli.Output == "json" {
		return printJSON(o.std.out, v)
	}
	say(o.std.err, format+"\n", args...)
	_, err := fmt.Fprintln(o.std.out, id)
	return err
}

// swapped is words without those of remove and with those of add.
func swapped(words, add, remove []string) []string {
	var out []string
	for _, w := range append(append([]string{}, words...), add...) {
		if !slices.Contains(remove, w) && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

func yes(b bool, text string) string {
	if b {
		return text
	}
	return ""
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return date(t)
}

// sorted is a list for people, always in the same order.
func sorted(words []string) string {
	slices.Sort(words)
	return strings.Join(words, ", ")
}
