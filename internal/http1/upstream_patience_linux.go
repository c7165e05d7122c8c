package http1

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// GiveUpAfter has the kernel end nc when what was sent has not been
// acknowledged for d (RFC 5482), which finds a service that is gone without a
// word from HTTP/2.
func GiveUpAfter(nc net.Conn, d time.Duration) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())) // without it the kernel tries for longer
	})
}
