package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/posture"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type wafCmd struct {
	Tune wafTuneCmd `cmd:"" help:"Propose exclusions for what many callers meet, with the evidence and the risk."`
}

type wafTuneCmd struct {
	Since    time.Duration `default:"168h" help:"How far back to look."`
	Requests int           `default:"20" help:"Requests that must show a match before it is proposed."`
	Callers  int           `default:"3" help:"Different callers that must."`
}

func (wafTuneCmd) Help() string {
	return "Reads the record of requests, enforced and reported ones alike; changes nothing. What few callers meet, or such as try several kinds of attack, is listed but not proposed.\n\nExample:\n  gatehouse waf tune --since 24h"
}

// Run prints what was learned.
func (c *wafTuneCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	tuner := posture.Tuner{LeastRequests: c.Requests, LeastCallers: c.Callers}
	read := 0
	err := server.EachEvent(ctx, cli.Config, time.Now().Add(-c.Since), func(e *gatehouse.Event) bool {
		tuner.Note(e)
		if read++; read%10000 == 0 && std.errColour { // a person waits at a terminal
			say(std.err, "\r%d events read", read)
		}
		return true
	})
	if read >= 10000 && std.errColour {
		say(std.err, "\r%s\r", strings.Repeat(" ", 30))
	}
	if errors.Is(err, auditlog.ErrNotFound) {
		return &hintError{err, "a gateway writes its record with the first request; name the config it runs with: --config"}
	}
	if err != nil {
		return err
	}
	all := tuner.Proposals()
	if cli.Output == "json" {
		if all == nil {
			all = []posture.Proposal{}
		}
		return printJSON(std.out, all)
	}
	say(std.out, "%d events of the last %s: rules for content matched at %d places\n", read, c.Since, len(all))
	for i := range all {
		sayProposal(std, &all[i])
	}
	return nil
}

func sayProposal(std *stdio, p *posture.Proposal) {
	where := p.Parameter
	if where == "" {
		where = "the request"
	}
	say(std.out, "\n%s  %s\n", paint(*std, bold, p.Operation), where)
	for i, r := range p.Rules {
		say(std.out, "  rule      %d: %s\n", r, p.Texts[i])
	}
	say(std.out, "  seen      in %d of %d requests, %d of them refused, from %d callers, %d of them proven, %s to %s\n",
		p.Requests, p.Of, p.Refused, p.Callers, p.Proven, p.First.Local().Format(time.DateTime), p.Last.Local().Format(time.DateTime))
	if p.LeftOut > 0 {
		say(std.out, "  left out  %d requests of callers who look like attackers\n", p.LeftOut)
	}
	for _, part := range p.Parts {
		say(std.out, "  like      %s\n", part)
	}
	if p.Doubt != "" {
		say(std.out, "  %s\n", paint(*std, yellow, "not proposed: "+p.Doubt))
		return
	}
	say(std.out, "  risk      %s\n", p.Risk)
	api, operation, _ := strings.Cut(p.Operation, ".")
	say(std.out, "  %s\n", paint(*std, green, fmt.Sprintf("proposed, under apis.%s.operations.%q:", api, operation)))
	for line := range strings.Lines(p.Config) {
		say(std.out, "    %s", line)
	}
}
