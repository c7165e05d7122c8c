package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// version is set by the release build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// A stdio is what a command reads and writes.
type stdio struct {
	in        io.Reader
	out, err  io.Writer
	colour    bool // out is a terminal that shows colours
	errColour bool // so is err
}

// cli is the whole command line. Each command's help ends in an example.
type cli struct {
	Config string `short:"c" default:"gatehouse.yaml" placeholder:"FILE" help:"Config file."`
	Output string `short:"o" enum:"text,json" default:"text" help:"Form of the answer: ${enum}."`

	Serve        serveCmd        `cmd:"" help:"Run the gateway."`
	Demo         demoCmd         `cmd:"" help:"Run a gateway with a careless sample API behind it, and print a tour of curl lines."`
	Init         initCmd         `cmd:"" help:"Write a working config for your own API from its OpenAPI file."`
	Check        checkCmd        `cmd:"" help:"Find what is wrong with a config, without starting anything."`
	Test         testCmd         `cmd:"" help:"Run the config's own tests."`
	AccessMatrix accessMatrixCmd `cmd:"" help:"Show who may call what: every role and every operation."`
	Effective    effectiveCmd    `cmd:"" help:"Show everything that is enforced on one operation, and where it was written."`
	Health       healthCmd       `cmd:"" help:"Ask the running gateway whether it is ready."`
	Explain      explainCmd      `cmd:"" help:"Say why a request was allowed or denied, by its decision id."`
	Fleet        fleetCmd        `cmd:"" help:"Look at the nodes that are one house over one database."`
	DB           dbCmd           `cmd:"" name:"db" help:"Look after the database: migrate, check, back up, restore, move."`
	Keys         keysCmd         `cmd:"" help:"Create, list, rotate and revoke API keys."`
	Users        usersCmd        `cmd:"" help:"Create, change, lock and sign out the people who sign in."`
	Groups       groupsCmd       `cmd:"" help:"Give roles to several people at once."`
	Clients      clientsCmd      `cmd:"" help:"Register the programs that get tokens, and shut them out."`
	Token        tokenCmd        `cmd:"" help:"Look at tokens, end them, rotate the keys that sign them."`
	Export       exportCmd       `cmd:"" help:"Print users, groups, clients and grants as JSON, without secrets."`
	Prove        proveCmd        `cmd:"" help:"Try attacks on the running gateway, and say what held."`
	Attack       attackCmd       `cmd:"" help:"Try real exploits on the bare API and through the gateway, and say what stopped them."`
	Bench        benchCmd        `cmd:"" help:"Measure on this machine what a request costs, and what each check adds."`
	BenchPart    benchPartCmd    `cmd:"" hidden:"" help:"A process of bench."`
	DDoS         ddosCmd         `cmd:"" name:"ddos" help:"Who sends too much: challenges, bans, the switch for attacks."`
	WAF          wafCmd          `cmd:"" name:"waf" help:"Learn from the record which rules for content meet what is harmless."`
	Schema       schemaCmd       `cmd:"" help:"Print the JSON Schema of the config file, for editors."`
	Completion   completionCmd   `cmd:"" help:"Print a completion script for bash, zsh or fish."`
	Version      versionCmd      `cmd:"" help:"Print the version."`
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command ran and its answer is bad: a failing check, a denied test
	exitUsage  = 2 // the command line or the config is wrong
)

// errFailed ends a command whose output has already said what is wrong.
var errFailed = errors.New("failed")

func run(ctx context.Context, args []string, std stdio) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("gatehouse"),
		kong.Description("API security in one program: an API gateway that enforces your OpenAPI documents and proves it."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&std, &c),
	)
	if err != nil {
		return fail(std, &c, err)
	}
	if err := bindModel(parser, &c); err != nil {
		return fail(std, &c, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	cmd, err := parser.Parse(args)
	if exit >= 0 { // --help has answered
		return exit
	}
	if err != nil {
		_ = fail(std, &c, err)
		_, _ = fmt.Fprintf(std.err, "See: gatehouse %s--help\n", commandWords(err))
		return exitUsage
	}
	if err := cmd.Run(); err != nil {
		if errors.Is(err, errFailed) {
			return exitFailed
		}
		return fail(std, &c, err)
	}
	return exitOK
}

// bindModel lets the completion command see the commands it completes.
func bindModel(p *kong.Kong, c *cli) error {
	if p.Model == nil {
		return errors.New("no commands")
	}
	c.Completion.model = p.Model
	return nil
}

// commandWords is the command up to which the line was understood, for its --help.
func commandWords(err error) string {
	var words strings.Builder
	if p, ok := errors.AsType[*kong.ParseError](err); ok {
		for _, at := range p.Context.Path {
			if at.Command != nil {
				words.WriteString(at.Command.Name + " ")
			}
		}
	}
	return words.String()
}

// fail prints err, one line for each joined part, and the way out.
func fail(std stdio, c *cli, err error) int {
	onErr := stdio{colour: std.errColour}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(std.err, paint(onErr, red, "gatehouse: ")+line)
	}
	if h := hintFor(err, c.Config); h != "" {
		_, _ = fmt.Fprintln(std.err, paint(onErr, bold, "hint: ")+h)
	}
	return exitUsage
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
	dim    = "2"
)

// paint colours s, if anybody sees it.
func paint(std stdio, colour, s string) string {
	if !std.colour {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// colours reports whether f is a terminal that wants them (no-color.org).
func colours(f *os.File, env func(string) (string, bool)) bool {
	if v, set := env("NO_COLOR"); set && v != "" {
		return false
	}
	if v, _ := env("TERM"); v == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
