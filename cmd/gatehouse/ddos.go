package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type ddosCmd struct {
	Status ddosStatusCmd `cmd:"" help:"Show who stands out, who is banned, and whether everyone is challenged."`
	Ban    ddosBanCmd    `cmd:"" help:"Shut an address or a network out, on all gateways within a second."`
	Unban  ddosUnbanCmd  `cmd:"" help:"Lift a ban, whoever gave it."`
	Attack ddosAttackCmd `cmd:"" help:"Challenge every caller without credentials, or stop it."`
	Solve  ddosSolveCmd  `cmd:"" help:"Solve a challenge, as a program that calls an API would."`
}

type ddosStatusCmd struct{}

func (ddosStatusCmd) Help() string {
	return "The bans and the switch are read from the database. Who is watched, challenged and throttled only the running gateway knows: it is asked at admin.address of the config.\n\nExample:\n  gatehouse ddos status --output json"
}

type ddosStatus struct {
	Attack   ddos.Attack     `json:"attack"`
	Bans     []ddos.Entry    `json:"bans"`
	Gateway  json.RawMessage `json:"gateway,omitempty"` // what the running one says
	Missing  string          `json:"gateway_error,omitempty"`
	standing ddos.View
}

// Run prints it.
func (c *ddosStatusCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	var s ddosStatus
	var f *config.File
	err := withGuardBook(ctx, cli, func(b *server.GuardBook, _ string) (err error) {
		f = b.File
		if s.Attack, err = b.Attack(ctx); err == nil {
			s.Bans, err = b.Bans(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.Gateway, err = askGuard(ctx, f); err != nil {
		s.Missing = err.Error()
	} else if err := json.Unmarshal(s.Gateway, &s.standing); err != nil {
		return fmt.Errorf("the answer of the gateway: %w", err)
	}
	if cli.Output == "json" {
		return printJSON(std.out, s)
	}
	return s.print(std)
}

func (s *ddosStatus) print(std *stdio) error {
	switch g := s.standing; {
	case s.Attack.On:
		say(std.out, "%s, switched on by %s at %s, until %s\n", paint(*std, red, "everyone without credentials is challenged"), s.Attack.By, date(s.Attack.Since), endOf(s.Attack.Until))
	case g.Attack:
		say(std.out, "%s, %s\n", paint(*std, red, "everyone without credentials is challenged"), map[bool]string{true: "as the config says", false: "as the gateway has found an attack out"}[g.Switched])
	case len(g.Attacked) > 0:
		var names []string
		for _, name := range g.Attacked {
			names = append(names, cmp.Or(name, "what is no API's"))
		}
		say(std.out, "%s, as the gateway has found an attack out\n", paint(*std, red, "everyone without credentials who asks for "+strings.Join(names, ", ")+" is challenged"))
	default:
		say(std.out, "%s\n", paint(*std, green, "no attack"))
	}
	if s.Missing != "" {
		say(std.out, "the running gateway does not say who stands out: %s\n", s.Missing)
	} else {
		say(std.out, "mode %s, pressure %.0f %%, %d bans, %d imported\n", s.standing.Mode, 100*s.standing.Pressure, s.standing.Bans, s.standing.Imported)
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	if len(s.standing.Sources) > 0 {
		_, _ = fmt.Fprintln(t, "\nSTANDS OUT\tSTEP\tUNTIL\tBY\tGOOD CALLERS, TOO")
		for _, p := range s.standing.Sources {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Network, p.Step, when(p.Until), p.Why, yes(p.Shared, "yes"))
		}
	}
	if len(s.Bans) > 0 {
		_, _ = fmt.Fprintln(t, "\nBANNED\tUNTIL\tBY\tREASON")
		for i := range s.Bans {
			b := &s.Bans[i]
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", b.Prefix, endOf(b.Until), shown(b.By), shown(b.Reason))
		}
	}
	return t.Flush()
}

func endOf(t time.Time) string {
	if t.IsZero() {
		return "it is lifted"
	}
	return date(t)
}

// askGuard asks the running gateway of this machine.
func askGuard(ctx context.Context, f *config.File) (json.RawMessage, error) {
	a, err := askOperator(ctx, f, "/ddos", 3*time.Second)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d", a.at, a.status)
	}
	return a.body, nil
}

type ddosBanCmd struct {
	Network []string      `arg:"" help:"Addresses or networks: 203.0.113.9, 203.0.113.0/24, 2001:db8::/48. An IPv6 address stands for its /64."`
	For     time.Duration `help:"How long, like 24h. Default: until it is lifted."`
	Reason  string        `help:"Why, for who reads it later."`
}

func (ddosBanCmd) Help() string {
	return "Connections are refused before TLS, and behind trusted hops requests, whatever credentials they have. What ddos.allow names is never refused.\n\nExample:\n  gatehouse ddos ban 203.0.113.0/24 --for 24h --reason scraper"
}

// Run bans.
func (c *ddosBanCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withGuardBook(ctx, cli, func(b *server.GuardBook, actor string) error {
		return each(c.Network, func(text string) error {
			p, err := ddos.ParsePrefix(text)
			if err != nil {
				return err
			}
			for _, a := range b.File.DDoS.Allow {
				if a.Overlaps(p) {
					say(std.err, "%s: ddos.allow has %s in it, where nobody is refused\n", p, a)
				}
			}
			if err := b.Ban(ctx, actor, p, c.Reason, c.For); err != nil {
				return err
			}
			say(std.err, "%s is banned\n", p)
			return nil
		})
	})
}

type ddosUnbanCmd struct {
	Network []string `arg:"" help:"As ddos status shows them."`
}

func (ddosUnbanCmd) Help() string {
	return "What the network did is forgotten, too; if it goes on, it will be banned again. To keep it from that, name it under ddos.allow.\n\nExample:\n  gatehouse ddos unban 203.0.113.9"
}

// Run lifts bans.
func (c *ddosUnbanCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withGuardBook(ctx, cli, func(b *server.GuardBook, actor string) error {
		return each(c.Network, func(text string) error {
			p, err := ddos.ParsePrefix(text)
			if err == nil {
				err = b.Unban(ctx, actor, p)
			}
			if err == nil {
				say(std.err, "%s is no longer banned\n", p)
			}
			return err
		})
	})
}

type ddosAttackCmd struct {
	Switch string        `arg:"" enum:"on,off" help:"One of ${enum}."`
	For    time.Duration `help:"With on: how long, like 1h. Default: until it is switched off."`
}

func (ddosAttackCmd) Help() string {
	return "While it is on, callers without valid credentials must solve a proof of work, a browser by itself within a second; and what one address may do is a fourth. It holds on all gateways within a second and survives a restart.\n\nExample:\n  gatehouse ddos attack on --for 1h"
}

// Run switches.
func (c *ddosAttackCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	on := c.Switch == "on"
	if c.For < 0 || c.For > 0 && !on {
		return &hintError{errors.New("--for says how long it stays on"), "gatehouse ddos attack on --for 1h"}
	}
	return withGuardBook(ctx, cli, func(b *server.GuardBook, actor string) error {
		if err := b.SwitchAttack(ctx, actor, on, c.For); err != nil {
			return err
		}
		if !on {
			say(std.err, "it is off; what the config or the gateway itself says still holds\n")
			return nil
		}
		say(std.err, "every caller without credentials is challenged\n")
		return nil
	})
}

type ddosSolveCmd struct {
	Challenge string `arg:"" help:"Value of the header Gatehouse-Challenge; - reads it from standard input."`
}

func (ddosSolveCmd) Help() string {
	return "Prints what to send as the header Gatehouse-Pass, from the same address, until the challenge expires.\n\nExample:\n  gatehouse ddos solve \"$(curl -sI https://api.example.com/things | sed -n 's/^gatehouse-challenge: //Ip' | tr -d '\\r')\""
}

// Run solves.
func (c *ddosSolveCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	text := c.Challenge
	if text == "-" {
		line, err := readLine(std.in, "challenge")
		if err != nil {
			return err
		}
		text = line.Reveal()
	}
	pass, err := ddos.Solve(strings.TrimSpace(text), func() bool { return ctx.Err() != nil })
	if err != nil {
		return err
	}
	if cli.Output == "json" {
		return printJSON(std.out, map[string]string{"pass": pass})
	}
	_, err = fmt.Fprintln(std.out, pass)
	return err
}

// withGuardBook opens the bans and the switch for as long as do runs.
func withGuardBook(ctx context.Context, cli *cli, do func(*server.GuardBook, string) error) (err error) {
	b, err := server.OpenGuardBook(ctx, cli.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return do(b, actor())
}
