package auditlog_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
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
	b.ResetTimer()
	cpu(b, func() {
		for i := range b.N {
			if err := log.Append(e); err != nil {
				b.Fatal(err)
			}
			if i%8192 == 8191 { // on a busy machine the writer gets less of the processor than we do
				emptied(b, log)
			}
		}
		emptied(b, log)
	})
}

// BenchmarkAppendAtPace is what a record costs the whole process with so many
// requests each millisecond, where the writer finds little each time it wakes. The
// clock's tick is in it: "none" is what to take off.
func BenchmarkAppendAtPace(b *testing.B) {
	for name, pace := range map[string]int{"none": 0, "1": 1, "20": 20} {
		b.Run(name, func(b *testing.B) {
			log := open(b, auditlog.Config{Dir: b.TempDir(), Keep: 2})
			e := event(0)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			b.ReportAllocs()
			b.ResetTimer()
			cpu(b, func() {
				for range b.N {
					<-tick.C
					for range pace {
						if err := log.Append(e); err != nil {
							b.Fatal(err)
						}
					}
				}
				emptied(b, log)
			})
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	e := event(0)
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = auditlog.AppendEvent(line[:0], e)
	}
	b.SetBytes(int64(len(line)))
}

func BenchmarkAppendParallel(b *testing.B) {
	log := open(b, auditlog.Config{Dir: b.TempDir(), Keep: 2})
	b.ReportAllocs()
	b.ResetTimer()
	cpu(b, func() {
		b.RunParallel(func(pb *testing.PB) {
			events := make([]*gatehouse.Event, 64)
			for i := range events {
				events[i] = event(i)
			}
			for i := 0; pb.Next(); i++ {
				if err := log.Append(events[i%len(events)]); err != nil {
					b.Error(err)
					return
				}
				if i%8192 == 8191 {
					emptied(b, log)
				}
			}
		})
		emptied(b, log)
	})
}

// emptied waits until the writer has written all, without using the processor.
func emptied(b *testing.B, log *auditlog.Log) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if waiting, _ := log.Depth(); waiting == 0 {
			return
		}
	}
	b.Error("the ring does not empty")
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
