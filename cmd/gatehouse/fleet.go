package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type fleetCmd struct {
	Status   fleetStatusCmd   `cmd:"" help:"List the nodes: alive, with which config, who leads."`
	Push     fleetPushCmd     `cmd:"" help:"Check a config and store it in the database, for all nodes."`
	History  fleetHistoryCmd  `cmd:"" help:"List the configs that were pushed."`
	Rollback fleetRollbackCmd `cmd:"" help:"Push an older config again."`
}

type fleetStatusCmd struct{}

func (fleetStatusCmd) Help() string {
	return "It reads the database of the config, so that it works while a node does not. It ends with 1 when the nodes that are alive " +
		"work with different configs, when one of them has refused its config or cannot ask the shared engine, and when none is alive.\n\nExample:\n  gatehouse fleet status"
}

// fleetStatus is the answer as JSON.
type fleetStatus struct {
	OK      bool         `json:"ok"`
	Trouble []string     `json:"trouble"` // why not
	Leader  string       `json:"leader,omitempty"`
	Nodes   []fleet.Node `json:"nodes"`
}

// judge says what is wrong with nodes.
func judge(nodes []fleet.Node) fleetStatus {
	s := fleetStatus{Trouble: []string{}, Nodes: append([]fleet.Node{}, nodes...)} // in JSON never null
	config, alive := "", false
	for _, n := range nodes {
		if !n.Alive {
			continue
		}
		if alive && n.Config != config && !slices.Contains(s.Trouble, "the nodes work with different configs") {
			s.Trouble = append(s.Trouble, "the nodes work with different configs")
		}
		config, alive = n.Config, true
		if n.Leads {
			s.Leader = n.Name
		}
		if n.Refused != "" {
			s.Trouble = append(s.Trouble, n.Name+" has refused a config: "+n.Refused)
		}
		if n.Engine != "" {
			s.Trouble = append(s.Trouble, n.Name+" cannot ask the shared engine: "+n.Engine)
		}
	}
	if !alive {
		s.Trouble = append(s.Trouble, "no node is alive")
	}
	s.OK = len(s.Trouble) == 0
	return s
}

// Run lists the nodes.
func (fleetStatusCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	nodes, err := server.FleetNodes(ctx, cli.Config)
	if err != nil {
		return err
	}
	s := judge(nodes)
	if cli.Output == "json" {
		err = printJSON(std.out, s)
	} else {
		err = s.print(std)
	}
	if err == nil && !s.OK {
		err = errFailed
	}
	return err
}

func (s *fleetStatus) print(std *stdio) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NODE\tSTATE\tVERSION\tREVISION\tCONFIG\tSTARTED\tSEEN")
	for _, n := range s.Nodes {
		state := "alive"
		switch {
		case !n.Alive:
			state = "silent"
		case n.Leads:
			state = "leads"
		}
		revision := "-"
		if n.Revision > 0 {
			revision = strconv.FormatInt(n.Revision, 10)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.12s\t%s\t%s\n", shown(n.Name), state, shown(n.Version), revision, shown(n.Config), ago(n.Started), ago(n.Seen))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range s.Trouble {
		mark := "!"
		for line := range strings.Lines(t) { // a refused config may have several faults
			say(std.out, "%s %s\n", mark, shown(strings.TrimRight(line, "\n")))
			mark = " "
		}
	}
	return nil
}

// shown is a text that whoever writes rows may have chosen, without what moves a
// terminal's cursor: it could hide the line that warns of it.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func ago(t time.Time) string { return max(time.Since(t), 0).Round(time.Second).String() + " ago" }
