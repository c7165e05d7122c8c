package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type fleetPushCmd struct {
	File   string `arg:"" optional:"" help:"The config for all nodes. Default: that of --config."`
	DryRun bool   `help:"Check it, and store nothing."`
}

func (fleetPushCmd) Help() string {
	return "It is checked with its own tests, as every node will again, and stored with the files it names by relative paths: included files, documents, rules, lists of networks, keys of issuers. " +
		"What is named by an absolute path stays at each node; secrets, private keys and certificates always do. " +
		"Nodes whose own file has fleet: {config: database} take it within a second. --config names the file with this node's own settings: which database, which fleet.key.\n\n" +
		"Example:\n  gatehouse fleet push"
}

// pushed is the answer of a push as JSON.
type pushed struct {
	fleet.Revision

	Stored bool     `json:"stored"` // false: only checked, or the newest one is the same
	Files  []string `json:"files"`
}

// Run pushes.
func (c *fleetPushCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withConfigs(ctx, cli, func(in *server.Configs) error {
		if c.File == "" && in.Own.Pushed() {
			return &hintError{fmt.Errorf("%s has this node's own settings alone; which file is to be pushed?", cli.Config), "gatehouse fleet push FILE"}
		}
		file := c.File
		if file == "" {
			file = cli.Config
		}
		push := plan.Push{Own: in.Own, Configs: in.Configs, Author: actor(), Dry: c.DryRun}
		r, stored, err := push.File(ctx, file)
		if err != nil {
			return err
		}
		return tellPushed(cli, std, r, stored, c.DryRun)
	})
}

func tellPushed(cli *cli, std *stdio, r *fleet.Revision, stored, dry bool) error {
	out := pushed{Revision: *r, Stored: stored, Files: []string{}}
	for _, f := range r.Files {
		out.Files = append(out.Files, f.Name)
	}
	if cli.Output == "json" {
		return printJSON(std.out, out)
	}
	switch {
	case stored:
		say(std.out, "revision %d is stored: %d files, %.12s; gatehouse fleet status tells who has taken it\n", r.Number, len(r.Files), r.Digest)
	case dry && r.Number == 0:
		say(std.out, "it can be pushed: %d files, %.12s\n", len(r.Files), r.Digest)
	default:
		say(std.out, "nothing to do: revision %d has the same files\n", r.Number)
	}
	return nil
}

type fleetHistoryCmd struct{}

func (fleetHistoryCmd) Help() string {
	return "The newest first, a hundred of them are kept.\n\nExample:\n  gatehouse fleet history"
}

// Run lists the configs.
func (fleetHistoryCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withConfigs(ctx, cli, func(in *server.Configs) error {
		all, err := in.History(ctx)
		if err != nil {
			return err
		}
		if cli.Output == "json" {
			return printJSON(std.out, all)
		}
		if len(all) == 0 {
			say(std.out, "no config was pushed yet\n")
			return nil
		}
		return printHistory(std, all)
	})
}

func printHistory(std *stdio, all []fleet.Revision) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "REVISION\tPUSHED\tBY\tFILES\t")
	for _, r := range all {
		note := ""
		if r.Origin > 0 {
			note = "revision " + strconv.FormatInt(r.Origin, 10) + " again"
		}
		if r.Forged {
			note = "! changed in the database: no node takes it"
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%.12s\t%s\n", r.Number, r.Made.UTC().Format("2006-01-02 15:04:05Z"), shown(r.Author), shown(r.Digest), note)
	}
	return w.Flush()
}

type fleetRollbackCmd struct {
	Revision int64 `arg:"" help:"As fleet history shows it."`
}

func (fleetRollbackCmd) Help() string {
	return "The old revision is checked as any, and stored as the newest one.\n\nExample:\n  gatehouse fleet rollback 7"
}

// Run pushes an old config.
func (c *fleetRollbackCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withConfigs(ctx, cli, func(in *server.Configs) error {
		push := plan.Push{Own: in.Own, Configs: in.Configs, Author: actor()}
		r, stored, err := push.Back(ctx, c.Revision)
		if err != nil {
			return err
		}
		return tellPushed(cli, std, r, stored, false)
	})
}

// withConfigs opens the configs in the database for as long as do runs.
func withConfigs(ctx context.Context, cli *cli, do func(*server.Configs) error) (err error) {
	own, err := config.LoadOwn(cli.Config)
	if err != nil {
		return err
	}
	c, err := server.OpenConfigs(ctx, own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return do(c)
}
