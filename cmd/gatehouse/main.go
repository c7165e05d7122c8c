// Command gatehouse is an API gateway that proves what it enforces: it
// authenticates, authorizes, validates, limits and records every request to the
// APIs behind it, from one config file and their OpenAPI documents.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr, colours(os.Stdout, os.LookupEnv), colours(os.Stderr, os.LookupEnv)})
	stop()
	os.Exit(code)
}
