package auditlog_test

import (
	"syscall"
	"testing"
	"time"
)

// cpu reports what b's loop cost the whole process, the writer included: an
// Append that leaves its work to another goroutine is no cheaper for it.
func cpu(b *testing.B, run func()) {
	b.Helper()
	before := spent(b)
	run()
	b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
}

func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
