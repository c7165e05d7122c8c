package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	rounds     = flag.Int("rounds", 5, "turns each proxy takes")
	seconds    = flag.Int("seconds", 4, "of load in a turn")
	conns      = flag.Int("connections", 32, "kept open by the load")
	caddy      = flag.String("caddy", "", "path of a caddy binary; none: left out")
	traefik    = flag.String("traefik", "", "path of a traefik binary; none: left out")
	krakend    = flag.String("krakend", "", "path of a krakend binary; none: left out")
	binary     = flag.String("gatehouse", "", "path of a gatehouse binary; none: built here")
	post       = flag.Bool("post", false, "POST a 430-byte JSON body instead of GET")
	minutes    = flag.Float64("minutes", 30, "that a soak takes")
	rate       = flag.Int("rate", 500, "requests a second of a soak")
	idleConns  = flag.Int("idle", 10000, "connections held by the idle mode")
	target     = flag.String("to", "", "host:port the rate mode asks")
	attackName = flag.String("attack", "", "the one attack the attacker mode makes, or the only one of the attacks mode")
	tlsPort    = flag.Int("tls", 0, "port with TLS the attacker mode goes to")
	csvPath    = flag.String("csv", "bench/out/soak.csv", "file for the samples of a soak")
)

// A mode is one thing to measure, with its own defaults of -rounds and -seconds.
type mode struct {
	name            string
	measure         func(context.Context, io.Writer) error
	rounds, seconds int
}

func modes() []mode {
	return []mode{
		{"requests", requestsMode, 5, 4},
		{"tls", tlsMode, 5, 4},
		{"sizes", sizesMode, 2, 1},
		{"connections", connectionsMode, 2, 2},
		{"latency", latencyMode, 3, 3},
		{"idle", idleMode, 1, 5},
		{"rate", rateMode, 1, 3}, // the load of latency
		{"soak", soakMode, 1, 1},
		{"attacks", attacksMode, 1, 12},
		{"attacker", attackerMode, 1, 12}, // one of them
		{"oauth", oauthMode, 3, 3},        // within a minute and a half
	}
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, stop := context.WithTimeout(ctx, 2*time.Hour)
	args, name := os.Args[1:], "requests"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args, name = args[1:], args[0]
	}
	i := slices.IndexFunc(modes(), func(m mode) bool { return m.name == name })
	if i < 0 {
		_, _ = fmt.Fprintf(os.Stderr, "bench: no mode %q; see bench/README.md\n", name)
		os.Exit(2)
	}
	m := modes()[i]
	*rounds, *seconds = m.rounds, m.seconds // unless flags say something else
	_ = flag.CommandLine.Parse(args)        // exits on an error
	err := m.measure(ctx, os.Stdout)
	stop()
	cancel()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
