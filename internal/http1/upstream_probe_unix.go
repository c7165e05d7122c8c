//go:build unix

package http1

import "syscall"

const canProbe = true

// socketSilent reads from a socket that never blocks. A byte read is a byte too
// many, so that taking it away does no harm: the connection is closed.
func socketSilent(fd uintptr) bool {
	var one [1]byte
	_, err := syscall.Read(int(fd), one[:])
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
}

func socketRead(fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
			return n, err
		}
	}
}

func socketWrite(fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
			return n, err
		}
	}
}
