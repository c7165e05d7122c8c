package auditlog_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// A ring that a crash, a bad disk or somebody's hand left is read without harm.
func FuzzRecoveryOfAnyRing(f *testing.F) {
	whole := bytes.Join([][]byte{auditlog.RecordOf([]byte(`{"id":"a"}`), 1), auditlog.RecordOf([]byte(`{"id":"bcdefghij"}`), 2)}, nil)
	f.Add(whole, uint64(0), uint64(0))
	f.Add(bytes.Repeat(whole, 40), uint64(0), uint64(0))
	f.Add(bytes.Repeat([]byte{0xff}, 4096), uint64(math.MaxUint64-3), uint64(math.MaxUint64))
	f.Add(bytes.Repeat([]byte{0}, 1024), uint64(7), uint64(1))
	f.Add([]byte{}, uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, content []byte, at, seq uint64) {
		total := 0
		_ = auditlog.Leftovers(auditlog.RingOf(content, at, seq), func(line []byte) { total += len(line) })
		_ = auditlog.Leftovers(content, func([]byte) {})
		if total > len(content) {
			t.Fatalf("%d bytes of lines in %d of ring", total, len(content))
		}
	})
}

func TestWhatIsWholeInARingIsRead(t *testing.T) {
	first, second := []byte(`{"id":"first"}`), []byte(`{"id":"second"}`)
	one, two := auditlog.RecordOf(first, 5), auditlog.RecordOf(second, 6)
	pad := make([]byte, 16*256) // all in the first shard
	read := func(content []byte, seq uint64) (lines []string) {
		if err := auditlog.Leftovers(auditlog.RingOf(append(content, pad[len(content):]...), 0, seq), func(b []byte) { lines = append(lines, string(b)) }); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	half := append(bytes.Clone(one), two[:len(two)-9]...)
	wrong := append(bytes.Clone(one), two...)
	wrong[len(wrong)-12] ^= 1
	old := append(bytes.Clone(one), auditlog.RecordOf(second, 3)...) // of the round before
	for name, c := range map[string]struct {
		content []byte
		seq     uint64
		lines   int
	}{
		"both are read":                         {append(bytes.Clone(one), two...), 4, 2},
		"a half written record is not there":    {half, 4, 1},
		"a changed byte is seen":                {wrong, 4, 1},
		"a record of the round before is not":   {old, 4, 1},
		"nothing after the head is nothing":     {append(bytes.Clone(one), two...), 6, 0},
		"an empty ring is no fault and no line": {nil, 0, 0},
	} {
		if got := read(bytes.Clone(c.content), c.seq); len(got) != c.lines {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
