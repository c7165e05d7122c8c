//go:build !unix

package demo

import (
	"context"
	"errors"
)

// shell needs a system with /bin/sh.
func shell(context.Context, string) ([]byte, error) {
	return nil, errors.New("no /bin/sh on this system")
}
