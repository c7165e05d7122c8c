package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
	"github.com/gatehouse-api/gatehouse/internal/posture/cost"
)

type benchCmd struct {
	Operation   string        `placeholder:"ID" help:"Measure this operation of the config. Default: a sample that needs no config."`
	Rounds      int           `default:"36" help:"How often everything takes a turn, 1 to 1000."`
	Seconds     float64       `default:"0.05" help:"How long one turn takes."`
	Connections int           `default:"32" help:"Kept open by the load, 1 to 1024."`
	Against     []string      `placeholder:"URL" help:"Another proxy that gets the same load; may be repeated."`
	AgainstPID  []int         `name:"against-pid" placeholder:"PID" help:"Its process, whose children count, too: one for each --against, in their order. Default: its CPU is not measured."`
	CA          string        `name:"ca" placeholder:"FILE" help:"PEM file with the CA certificates to trust. Default: the system's."`
	Wait        time.Duration `default:"5m" help:"How long a peer that is not on this machine has to prove whose it is."`
	Service     string        `placeholder:"HOST:PORT" help:"Where the service behind the gateway listens, so that a peer can stand before the same. Default: any free port of 127.0.0.1."`
	SVG         string        `name:"svg" placeholder:"FILE" help:"Write the chart as SVG, too."`
}

func (benchCmd) Help() string {
	return "Measures on this machine what a request costs and what each check adds to it: CPU of the gateway alone, user and system, and what it allocates. " +
		"Load and service are processes of their own on loopback. Each check is left out in turn, and run alone where that is lost in the noise. Takes about a minute; with --rounds 144 the noise halves.\n\n" +
		"With --operation the config's own rules are measured: the request is that of a test of the config which allows it, or one made of the document; issuers' keys, rates and services are replaced for the time being, and nothing of yours is started, asked or changed. " +
		"A peer is on this machine, or proves that it is yours as for gatehouse attack.\n\nExample:\n  gatehouse bench --svg bench.svg"
}

// Run measures and prints.
func (c *benchCmd) Run(ctx context.Context, kctx *kong.Context, cli *cli, std *stdio) error {
	cfg, err := c.config(kctx, cli, std)
	if err != nil {
		return err
	}
	var chart *os.File
	if c.SVG != "" { // now, and not when a minute has been spent
		if chart, err = os.OpenFile(c.SVG, os.O_CREATE|os.O_WRONLY, 0o644); err != nil { //nolint:gosec // a chart is for everybody
			return err
		}
	}
	r, err := cost.Run(ctx, *cfg)
	if std.errColour {
		say(std.err, "\r\x1b[K")
	}
	if chart != nil {
		if err == nil {
			err = draw(chart, r.SVG())
		}
		err = errors.Join(err, chart.Close())
	}
	if err != nil {
		return benchHint(err)
	}
	if cli.Output == "json" {
		return printJSON(std.out, r)
	}
	return printBench(std, r)
}

// draw puts a chart in the place of what the file had.
func draw(f *os.File, svg []byte) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Write(svg)
	return err
}

func (c *benchCmd) config(kctx *kong.Context, cli *cli, std *stdio) (*cost.Config, error) {
	cfg := &cost.Config{
		Operation: c.Operation, Rounds: c.Rounds, Turn: time.Duration(c.Seconds * float64(time.Second)), Connections: c.Connections,
		Agent: "gatehouse-bench/" + version, Wait: c.Wait, Version: version, Service: c.Service,
	}
	named := slices.ContainsFunc(kctx.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == "config" })
	switch {
	case c.Operation != "":
		cfg.File = cli.Config
	case named:
		p, err := plan.Outline(cli.Config)
		if err != nil {
			return nil, err
		}
		text := "api.operation"
		if ops := p.Operations(); len(ops) > 0 {
			text = ops[0].API + "." + ops[0].ID
		}
		return nil, &hintError{fmt.Errorf("which operation of %s?", cli.Config), "name one, like --operation " + text + "; without --config a sample is measured"}
	}
	if len(c.AgainstPID) > len(c.Against) {
		return nil, &hintError{errors.New("there are more --against-pid than --against"), "each names the process of one peer, in their order; 0 for one whose process is elsewhere"}
	}
	var roots []byte
	if c.CA != "" {
		var err error
		if roots, err = os.ReadFile(c.CA); err != nil {
			return nil, err
		}
	}
	for i, url := range c.Against {
		p := cost.Peer{URL: url, Roots: roots}
		if i < len(c.AgainstPID) {
			p.PID = c.AgainstPID[i]
		}
		cfg.Peers = append(cfg.Peers, p)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cfg.Child = func(ctx context.Context, part, address string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "bench-part", part, "--address", address) //nolint:gosec // ourselves
		cmd.Stderr = std.err
		return cmd
	}
	cfg.Ask = func(target, word string) {
		say(std.err, "%s is not on this machine. To prove that it is yours, let it answer GET %s with exactly\n\n  %s\n\nwithin %s; the load begins once it does.\n", target, attack.ProofPath, word, c.Wait)
	}
	cfg.Report = func(what string, done, all int) {
		switch {
		case std.errColour: // a person waits at a terminal
			say(std.err, "\r\x1b[K%3d %%  %s", 100*done/max(1, all), cut(what, 90))
		case done == 1:
			say(std.err, "%d turns of %g s: about %.0f s\n", all, c.Seconds, float64(all)*c.Seconds*1.05)
		}
	}
	return cfg, nil
}

// benchHint adds the way out that only this command knows.
func benchHint(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return &hintError{errors.New("stopped before it was done; nothing is left running"), "fewer --rounds take less time, and have more noise"}
	case errors.Is(err, cost.ErrNotAllowed):
		return &hintError{err, "write a request that it allows under tests: {name: …, as: {roles: […]}, call: api.operation, path: {…}, expect: allow}; bench sends that"}
	case errors.Is(err, attack.ErrNoAnswer):
		return &hintError{err, "start the peer first; --service says where the service behind it listens"}
	case errors.Is(err, attack.ErrNotProved):
		return &hintError{err, "the word is a new one each time; or let the peer run on this machine"}
	}
	return err
}

// benchPartCmd is what a child of bench runs.
type benchPartCmd struct {
	Part    string `arg:"" enum:"service,load"`
	Address string
}

// Run serves or sends until standard input ends.
func (c *benchPartCmd) Run(ctx context.Context, std *stdio) error {
	if c.Part == cost.PartService {
		return cost.Service(ctx, c.Address, std.in, std.out)
	}
	return cost.Load(ctx, std.in, std.out)
}
