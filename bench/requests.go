package main

import (
	"context"
	"io"
)

func requestsMode(ctx context.Context, out io.Writer) error { return nil }
