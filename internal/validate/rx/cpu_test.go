package rx_test

import (
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process: what others do on the machine does
// not count.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
