//go:build !linux

package gateway

import (
	"net"
	"time"
)

// giveUpAfter does nothing where the kernel has no such timer.
func giveUpAfter(net.Conn, time.Duration) {}
