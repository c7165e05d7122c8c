package cost

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A spent is what this process has used so far.
type spent struct {
	cpu           time.Duration // user and system
	pieces, bytes uint64        // allocated
}

func spentNow() (s spent, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return s, fmt.Errorf("getrusage: %w", err)
	}
	s.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	read := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(read)
	s.pieces, s.bytes = read[0].Value.Uint64()+read[1].Value.Uint64(), read[2].Value.Uint64()
	return s, nil
}

// cpuOf is what the process pid and all its children have used, as /proc tells it:
// to the nanosecond where the kernel counts so, or to its tick.
func cpuOf(pid int) (total time.Duration, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return 0, err
	}
	fine, told := true, false
	var sum time.Duration
	for _, t := range tasks {
		at := filepath.Join(dir, "task", t.Name())
		b, err := os.ReadFile(filepath.Join(at, "schedstat"))
		if f := strings.Fields(string(b)); err == nil && len(f) > 0 {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			sum += time.Duration(n)
			told = true
		} else if !os.IsNotExist(err) { // a thread that has ended since is none
			fine = false
		}
		b, _ = os.ReadFile(filepath.Join(at, "children")) // not every kernel tells
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				if d, err := cpuOf(n); err == nil {
					total += d
				}
			}
		}
	}
	if fine && told { // a kernel may have no such file at all
		return total + sum, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("%s/stat is too short", dir)
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return total + time.Duration(user+system)*10*time.Millisecond, nil // USER_HZ is 100 on Linux
}
