package http1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// laneHere: the system lets us read without waiting and look at a peer without reading.
const laneHere = true

// laneLeft reports whether the peer has ended its side of the connection. Bytes
// that wait to be read stand before the end: a plain connection has not ended as
// long as there are any, which may be requests. In TLS the end itself is such
// bytes, and nobody but the TLS layer can tell.
func laneLeft(fd uintptr, secure bool) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(p[:], 0); err != nil || n == 0 {
		return false
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		return true
	}
	if secure {
		return true
	}
	var one [1]byte
	n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
	return n <= 0 && err != syscall.EAGAIN && err != syscall.EINTR
}
