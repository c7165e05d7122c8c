//go:build !linux

package http1

import (
	"net"
	"time"
)

// GiveUpAfter does nothing where the kernel has no such timer.
func GiveUpAfter(net.Conn, time.Duration) {}
