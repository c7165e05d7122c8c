//go:build !unix

package http1

import "errors"

// canProbe: without a look at the socket no connection is used twice.
const canProbe = false

var errNoSocket = errors.New("http1: sockets cannot be read here")

func socketSilent(uintptr) bool { return false }

func socketRead(uintptr, []byte) (int, error) { return 0, errNoSocket }

func socketWrite(uintptr, []byte) (int, error) { return 0, errNoSocket }
