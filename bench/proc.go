package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cpu is what a process and its children have used: user and system time.
func cpu(pid int) (total time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	total = time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
	for _, c := range children(pid) {
		d, err := cpu(c)
		if err != nil {
			return 0, err
		}
		total += d
	}
	return total, nil
}

func children(pid int) (out []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// memory is what a process and its children hold, in KB: all that is resident, and
// of it what is theirs alone and no page of a file.
func memory(pid int) (resident, own int) {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		resident, _ = strconv.Atoi(find(string(b), `VmRSS:\s+(\d+)`))
		own, _ = strconv.Atoi(find(string(b), `RssAnon:\s+(\d+)`))
	}
	for _, c := range children(pid) {
		r, o := memory(c)
		resident, own = resident+r, own+o
	}
	return resident, own
}

func rss(pid int) (mb int) {
	kb, _ := memory(pid)
	return kb / 1024
}

// free takes a port nobody has just now.
func free() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func listening(ctx context.Context, port int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return c.Close()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		<-tick.C
	}
	return fmt.Errorf("nothing listens on port %d after 10 s", port)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) //nolint:gosec // a folder of ours
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}

func find(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
