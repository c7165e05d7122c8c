package auditlog_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// The test binary starts itself again in these roles.
const (
	roleVariable = "AUDITLOG_TEST_ROLE"
	dirVariable  = "AUDITLOG_TEST_DIR"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "append until killed":
		appendUntilKilled(os.Getenv(dirVariable))
	case "fill the disk":
		fillTheDisk(os.Getenv(dirVariable))
	}
}

func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// appendUntilKilled writes the id of each event after Append has acknowledged it.
func appendUntilKilled(dir string) {
	log, err := auditlog.Open(auditlog.Config{Dir: dir, RotateBytes: 200 << 10, Keep: 10_000, RingBytes: smallRing})
	if err != nil {
		panic(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				e := event(i)
				if err := log.Append(e); errors.Is(err, auditlog.ErrFull) {
					continue // not acknowledged: the disk of a busy machine is slower than four writers
				} else if err != nil {
					panic(err)
				}
				if _, err := os.Stdout.WriteString(e.ID + "\n"); err != nil {
					return // the reader is gone
				}
			}
		})
	}
	all.Wait()
}

func TestWhatWasAcknowledgedOutlivesKill9(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 5 { // each round recovers what the one before left
		cmd := child(t, "append until killed", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1500 + 377*round {
			if !lines.Scan() {
				t.Fatal("the child ended early")
			}
			acknowledged = append(acknowledged, lines.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			if len(lines.Text()) == 26 {
				acknowledged = append(acknowledged, lines.Text())
			}
		}
		_ = cmd.Wait()
	}
	log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, id := range recorded(t, dir) {
		if counts[id]++; counts[id] > 1 {
			t.Errorf("%s is recorded %d times", id, counts[id])
		}
	}
	lost := 0
	for _, id := range acknowledged {
		if counts[id] == 0 {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost", lost, len(acknowledged))
	}
	// Up to four appended but not yet said, each round.
	if extra := len(counts) - len(acknowledged); extra > 5*4 {
		t.Errorf("%d events more than acknowledged", extra)
	}
}

func TestRecoveryCutsTornLinesAndDoesNotRepeat(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	var ids []string
	for i := range 20 {
		e := event(i)
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	ring, err := os.ReadFile(filepath.Join(dir, "ring")) // with all twenty in it
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the process had died in the middle of the write of line 11.
	names, _ := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	torn := strings.Join(lines[:10], "") + lines[10][:len(lines[10])/2]
	for name, content := range map[string]string{names[0]: torn, filepath.Join(dir, "ring"): string(ring)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing}).Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	if got := slices.Sorted(slices.Values(recorded(t, dir))); !slices.Equal(got, ids) {
		t.Errorf("recorded %d of %d", len(got), len(ids))
	}
}

func TestADamagedRingIsKeptAndTheRestRecovered(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	for i := range 50 {
		if err := log.Append(event(i)); err != nil {
			t.Fatal(err)
		}
	}
	ring, err := os.ReadFile(filepath.Join(dir, "ring"))
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"cut short":          func(b []byte) []byte { return b[:len(b)/2] },
		"another file":       func([]byte) []byte { return []byte(strings.Repeat("x", 1<<16)) },
		"a head overwritten": func(b []byte) []byte { copy(b[512:], strings.Repeat("x", 64)); return b },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "ring"), damage(slices.Clone(ring)), 0o600); err != nil {
				t.Fatal(err)
			}
			log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
			if _, err := os.Stat(filepath.Join(dir, "ring.damaged")); err != nil {
				t.Error(err)
			}
			if err := log.Append(event(0)); err != nil {
				t.Error(err)
			}
			if err := log.Close(); err != nil {
				t.Error(err)
			}
			recorded(t, dir)
		})
	}
}

// fillTheDisk bounds the size of files, which answers writes as a full disk does,
// and says how many events it was allowed and what then came.
func fillTheDisk(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	log, err := auditlog.Open(auditlog.Config{Dir: dir, RingBytes: smallRing})
	if err != nil {
		panic(err)
	}
	limit := syscall.Rlimit{Cur: 100<<10 + 77, Max: 100<<10 + 77}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	n := 0
	for ; err == nil && n < 1_000_000; n++ {
		err = log.Append(event(n))
	}
	fmt.Println(n-1, errors.Is(err, auditlog.ErrFull), log.Err() != nil)
	if log.Close() == nil {
		fmt.Println("Close hides that events wait")
	}
}

func TestAFullDiskRefusesEventsAndTearsNoLine(t *testing.T) {
	dir := t.TempDir()
	out, err := child(t, "fill the disk", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Fields(string(out))
	if len(said) != 3 || said[1] != "true" || said[2] != "true" {
		t.Fatalf("the child said %q", out)
	}
	acknowledged, err := strconv.Atoi(said[0])
	if err != nil {
		t.Fatal(err)
	}
	before := len(recorded(t, dir))
	if before >= acknowledged {
		t.Errorf("%d events in a file that should be full, %d acknowledged", before, acknowledged)
	}
	if err := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing}).Close(); err != nil { // room again
		t.Fatal(err)
	}
	if after := len(recorded(t, dir)); after != acknowledged {
		t.Errorf("%d events acknowledged, %d recorded after the disk had room again", acknowledged, after)
	}
}
