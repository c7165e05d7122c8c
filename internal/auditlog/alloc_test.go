//go:build !race

package auditlog_test

import (
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

func TestAllocsOfARecord(t *testing.T) {
	log := open(t, auditlog.Config{Dir: t.TempDir()})
	e := event(0)
	if n := testing.AllocsPerRun(1000, func() {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("Append allocates %v times, want 0", n)
	}
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() { auditlog.NewID(now) }); n > 0 { // rounded down
		t.Errorf("NewID allocates %v times, want once for many", n)
	}
}
