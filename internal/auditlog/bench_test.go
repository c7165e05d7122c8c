package auditlog_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	now := time.Now()
	for b.Loop() {
		auditlog.NewID(now)
	}
}

func BenchmarkAppend(b *testing.B) {
	log := open(b, auditlog.Config{Dir: b.TempDir(), Keep: 2})
	e := event(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := log.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	log := open(b, auditlog.Config{Dir: b.TempDir(), Keep: 2})
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		e := event(0)
		for pb.Next() {
			if err := log.Append(e); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkWriteEach is what the ring replaces: one write(2) for each event, which
// outlives a kill -9 as well.
func BenchmarkWriteEach(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "events"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line := make([]byte, 540)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
