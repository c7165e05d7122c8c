package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

type checkCmd struct {
	Strict bool `help:"Fail on warnings too."`
}

func (checkCmd) Help() string {
	return "Reads the config and every OpenAPI document it names, compiles every rule and runs the config's own tests. Clients in the database are held against the profile of oauth, where it can be reached. Nothing is started or changed.\n\nExample:\n  gatehouse check --config gatehouse.yaml"
}

// Run prints every error with its place, then every warning.
func (c *checkCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	p, err := plan.Compile(cli.Config)
	if err != nil {
		return err
	}
	clients, err := server.LintClients(ctx, p)
	var unknown string
	switch {
	case err == nil:
	case p.File.Database != nil: // a config is checked where its database is out of reach, too
		unknown = err.Error()
		say(std.err, "warning: the clients are not looked at: %v\n", err)
	default:
		return &hintError{fmt.Errorf("the clients cannot be read: %w", err), "run as the user who owns the data folder"}
	}
	failed := 0
	tests := p.RunTests(ctx)
	for _, t := range tests {
		if !t.Passed {
			failed++
		}
	}
	if cli.Output == "json" {
		if err := printJSON(std.out, map[string]any{"digest": p.Digest, "operations": len(p.Snapshot.Routes), "warnings": p.Warnings, "clients": clients, "clients_error": unknown, "tests": tests}); err != nil {
			return err
		}
	} else {
		for _, w := range p.Warnings {
			say(std.out, "%s: %s %s\n", w.Place, paint(*std, yellow, "warning:"), w.Text)
		}
		for _, f := range clients {
			say(std.out, "%s: %s %s\n", f.Place, paint(*std, red, "error:"), f.Text)
		}
		printTests(*std, tests, false)
		say(std.out, "%s: %d operations, %d warnings, %d tests, %d failed; digest %.12s\n", cli.Config, len(p.Snapshot.Routes), len(p.Warnings), len(tests), failed, p.Digest)
	}
	if failed > 0 || len(clients) > 0 || c.Strict && len(p.Warnings) > 0 {
		return errFailed
	}
	return nil
}

type testCmd struct{}

func (testCmd) Help() string {
	return "Asks the compiled config the questions under tests: who, which request, allow or deny. Nothing is sent to a service.\n\nExample:\n  gatehouse test --output json"
}

// Run prints each test and fails if one does.
func (c *testCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	p, err := plan.Compile(cli.Config)
	if err != nil {
		return err
	}
	results := p.RunTests(ctx)
	if len(results) == 0 {
		return &hintError{errors.New("the config has no tests"), "write some under tests: {name: …, as: {roles: [support]}, call: orders.getOrder, path: {id: 1}, expect: deny}"}
	}
	failed := 0
	for _, r := range results {
		if !r.Passed {
			failed++
		}
	}
	if cli.Output == "json" {
		if err := printJSON(std.out, results); err != nil {
			return err
		}
	} else {
		printTests(*std, results, true)
		say(std.out, "%d passed, %d failed\n", len(results)-failed, failed)
	}
	if failed > 0 {
		return errFailed
	}
	return nil
}

func printTests(std stdio, results []plan.TestResult, all bool) {
	for _, r := range results {
		if r.Passed {
			if all {
				say(std.out, "%s  %s\n", paint(std, green, "pass"), r.Name)
			}
			continue
		}
		say(std.out, "%s  %s\n      %s: wanted %s, got %s\n", paint(std, red, "FAIL"), r.Name, r.Place, r.Want, r.Got)
		for _, w := range r.Why {
			say(std.out, "      %s: %s\n", w.Rule, w.Text)
		}
	}
}

type accessMatrixCmd struct {
	Role string `help:"Only this role."`
	API  string `help:"Only this API."`
}

func (accessMatrixCmd) Help() string {
	return "Every role and every operation: allow, deny, or allow-if with what it then depends on. Found by partial evaluation of the rules, so it is exhaustive.\n\nExample:\n  gatehouse access-matrix --role support"
}

// Run prints the matrix as a table, or as rows of JSON.
func (c *accessMatrixCmd) Run(cli *cli, std *stdio) error {
	p, err := plan.Compile(cli.Config)
	if err != nil {
		return err
	}
	type cell struct {
		API       string        `json:"api"`
		Operation string        `json:"operation"`
		Role      string        `json:"role"`
		Verdict   authz.Verdict `json:"verdict"`
		If        string        `json:"if,omitempty"`
	}
	var cells []cell
	roles, apis := map[string]bool{}, map[string]bool{}
	for _, row := range p.Matrix() {
		apis[row.API] = true
		for _, x := range row.Cells {
			roles[x.Role] = true
			if (c.Role == "" || c.Role == x.Role) && (c.API == "" || c.API == row.API) {
				cells = append(cells, cell{row.API, row.Operation, x.Role, x.Verdict, x.If})
			}
		}
	}
	if c.Role != "" && !roles[c.Role] {
		return fmt.Errorf("there is no role %q%s", c.Role, config.DidYouMean(c.Role, slices.Collect(maps.Keys(roles))))
	}
	if c.API != "" && !apis[c.API] {
		return fmt.Errorf("there is no API %q%s", c.API, config.DidYouMean(c.API, slices.Collect(maps.Keys(apis))))
	}
	if cli.Output == "json" {
		return printJSON(std.out, cells)
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "OPERATION\tROLE\tVERDICT\tIF")
	for _, x := range cells {
		_, _ = fmt.Fprintf(t, "%s.%s\t%s\t%s\t%s\n", x.API, x.Operation, x.Role, x.Verdict, x.If)
	}
	return t.Flush()
}

type effectiveCmd struct {
	Operation string `arg:"" help:"api.operation, or the operation alone."`
}

func (effectiveCmd) Help() string {
	return "Everything a request to the operation must pass, in the order in which it is asked, and where each line was written.\n\nExample:\n  gatehouse effective orders.refundOrder"
}

// Run prints the merged result with the origin of each line.
func (c *effectiveCmd) Run(cli *cli, std *stdio) error {
	p, err := plan.Compile(cli.Config)
	if err != nil {
		return err
	}
	e, err := p.Effective(c.Operation)
	if err != nil {
		return err
	}
	if cli.Output == "json" {
		return printJSON(std.out, e)
	}
	say(std.out, "%s  %s %s  %s\n", paint(*std, bold, e.Operation), e.Method, e.Path, paint(*std, dim, e.Place))
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	for _, l := range e.Lines {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Step, l.ID, l.Text, l.Place)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	say(std.out, "to %s\n", strings.Join(e.Services, ", "))
	return nil
}

type explainCmd struct {
	Decision string `arg:"" help:"Decision id, from the answer's Gatehouse-Decision header or its problem body; - finds it in an answer on standard input."`
}

func (explainCmd) Help() string {
	return "Which rule decided, what it saw and what would have allowed it. Callers never see this.\n\nExample:\n  curl -s https://localhost:8443/orders --cacert data/ca/ca.pem | gatehouse explain -"
}

// decisionIn finds the decision id in an answer: in its problem body, or in the
// header that curl -i shows.
var decisionIn = regexp.MustCompile(`(?i)(?:"decision":\s*"|\bgatehouse-decision:\s*)([0-9A-Z]{26})\b`)

// answerLimit bounds how much of an answer is searched.
const answerLimit = 1 << 20

// Run prints the event behind a decision id.
func (c *explainCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	if c.Decision == "-" {
		b, err := io.ReadAll(io.LimitReader(std.in, answerLimit))
		if err != nil {
			return err
		}
		m := decisionIn.FindSubmatch(b)
		if m == nil {
			return &hintError{errors.New("there is no decision id in what was read"), "an allowed answer has it in its head only: curl -si … | gatehouse explain -"}
		}
		c.Decision = string(m[1])
	}
	e, err := server.Explain(ctx, cli.Config, c.Decision)
	if errors.Is(err, auditlog.ErrNotFound) {
		return &hintError{err, "records are kept as long as events.keep says; one of another gateway is in that one's data folder: name its config with --config"}
	}
	if err != nil {
		return err
	}
	if cli.Output == "json" {
		_, err := std.out.Write(auditlog.AppendEvent(nil, e)) // as it is in the record
		return err
	}
	verdict := paint(*std, green, "allowed")
	if !e.Allow || e.Reason != "" {
		verdict = paint(*std, red, "refused: "+e.Reason)
	}
	say(std.out, "%s  %s\n", paint(*std, bold, e.ID), verdict)
	row := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); strings.TrimSpace(text) != "" {
			say(std.out, "  %-10s %s\n", name, text)
		}
	}
	row("when", "%s, took %s", e.Time.Local().Format(time.RFC3339), e.Duration.Round(time.Microsecond))
	row("request", "%s %s%s", e.Method, e.Host, e.Path)
	row("operation", "%s", strings.Trim(e.API+"."+e.Operation, "."))
	row("caller", "%s", callerText(e.Subject, e.Issuer, string(e.Auth)))
	row("from", "%s", e.Address)
	row("status", "%d", e.Status)
	row("service", "%s", e.Upstream)
	row("cache", "%s", e.Cache)
	row("cause", "%s", e.Cause)
	for _, r := range e.Reasons {
		say(std.out, "  %-10s %s: %s\n", r.Effect, paint(*std, bold, r.Rule), r.Text)
		if r.Saw != "" {
			say(std.out, "             saw     %s\n", r.Saw)
		}
		if r.Needed != "" {
			say(std.out, "             needed  %s\n", r.Needed)
		}
	}
	for _, f := range e.Fields {
		say(std.out, "  %-10s %s %s%s: %s (%s)\n", "input", f.In, f.Name, f.Pointer, f.Detail, f.Rule)
	}
	for _, f := range e.Reported {
		say(std.out, "  %-10s %s %s%s: %s (%s)\n", "reported", f.In, f.Name, f.Pointer, f.Detail, f.Rule)
	}
	if len(e.Matches) > 0 {
		row("content", "score %d", e.Score)
	}
	for _, m := range e.Matches {
		say(std.out, "  %-10s %s: %s (%s, paranoia level %d)\n", "rule", paint(*std, bold, strconv.Itoa(m.Rule)), m.Text, strings.ToLower(m.Severity), m.Level)
		say(std.out, "             in      %s\n", strings.TrimRight(m.In+" "+m.Name+m.Pointer, " "))
		if m.Part != "" {
			say(std.out, "             part    %s\n", m.Part)
		}
		if m.Decoded != "" {
			say(std.out, "             after   %s\n", m.Decoded)
		}
	}
	row("config", "%.12s", e.Config)
	return nil
}

func callerText(subject, issuer, method string) string {
	if method == "" {
		return "nobody"
	}
	return fmt.Sprintf("%s, by %s of %s", subject, method, issuer)
}

type schemaCmd struct{}

func (schemaCmd) Help() string {
	return "Editors complete and check the config with it, when its first line is\n  # yaml-language-server: $schema=./gatehouse.schema.json\n\nExample:\n  gatehouse schema > gatehouse.schema.json"
}

// Run prints the schema.
func (schemaCmd) Run(std *stdio) error {
	_, err := std.out.Write(config.Schema())
	return err
}

type versionCmd struct{}

func (versionCmd) Help() string { return "Example:\n  gatehouse version" }

// Run prints the version.
func (versionCmd) Run(cli *cli, std *stdio) error {
	if cli.Output == "json" {
		return printJSON(std.out, map[string]string{"version": version})
	}
	say(std.out, "gatehouse %s\n", version)
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// say prints what a person reads; a closed pipe is the reader's wish.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
