package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/gatehouse-api/gatehouse/internal/server"
)

type serveCmd struct {
	Node     string `help:"Name of this gateway in events. Default: the host's name."`
	LogLevel string `enum:"debug,info,warn,error" default:"info" help:"Least severe message logged: ${enum}."`
}

func (serveCmd) Help() string {
	return "Serves until it is told to stop (SIGINT, SIGTERM) and then lets requests under way finish. Reads its config again on SIGHUP and when a file of it changes; a config with a fault is refused, and the one before stays at work.\n\nExample:\n  gatehouse serve --config gatehouse.yaml"
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	o := server.Options{Config: cli.Config, Node: c.Node, Version: version, Log: logger(*std, cli.Output, c.LogLevel), Out: std.out}
	o.Supervisor, o.Watchdog = supervisor(os.LookupEnv, o.Log) //nolint:forbidigo // how systemd says where it listens
	return server.Run(ctx, o)
}

func logger(std stdio, output, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // kong has checked it
	o := &slog.HandlerOptions{Level: l}
	if output == "json" {
		return slog.New(slog.NewJSONHandler(std.err, o))
	}
	return slog.New(slog.NewTextHandler(std.err, o))
}
