//go:build unix

package demo

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// shell runs a command line until ctx ends, then kills all of its process group.
func shell(ctx context.Context, line string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "ulimit -f 0; ulimit -t 1; "+line) //nolint:gosec // INTENTIONALLY VULNERABLE: see [API.ping]
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond
	return cmd.CombinedOutput()
}
