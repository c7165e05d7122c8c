package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A proxy is one of those compared.
type proxy struct {
	name  string
	port  int
	cmd   *exec.Cmd
	cost  []float64 // µs of CPU a request, by round
	rps   []float64
	p99   []string
	bad   int
	calls []string // extra arguments of wrk
}

var (
	rounds  = flag.Int("rounds", 5, "turns each proxy takes")
	seconds = flag.Int("seconds", 4, "of load in a turn")
	conns   = flag.Int("connections", 32, "kept open by the load")
	caddy   = flag.String("caddy", "", "path of a caddy binary; none: left out")
	post    = flag.Bool("post", false, "POST a 430-byte JSON body instead of GET")
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	measure := run
	if args := os.Args[1:]; len(args) > 0 && args[0] == "oauth" {
		*rounds, *seconds = 3, 3 // unless flags say something else: within a minute and a half
		measure = oauthMode
		_ = flag.CommandLine.Parse(args[1:]) // exits on an error
	} else {
		flag.Parse()
	}
	if err := measure(ctx, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	for _, tool := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed (Debian: nginx-light, wrk)", tool)
		}
	}
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return err
	}
	var started []*exec.Cmd
	defer func() {
		for _, c := range slices.Backward(started) {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	start := func(port int, name string, args ...string) (*exec.Cmd, error) {
		c := exec.CommandContext(ctx, name, args...)
		c.Dir = dir
		log, err := os.Create(filepath.Join(dir, filepath.Base(name)+strconv.Itoa(port)+".log"))
		if err != nil {
			return nil, err
		}
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return nil, err
		}
		started = append(started, c)
		return c, listening(ctx, port)
	}
	service := free()
	if err := write(dir, "up.conf", serviceConf(dir, service)); err != nil {
		return err
	}
	if _, err := start(service, "nginx", "-e", filepath.Join(dir, "up.err"), "-c", filepath.Join(dir, "up.conf")); err != nil {
		return fmt.Errorf("the service: %w", err)
	}

	var all []*proxy
	add := func(name string, port int, calls []string, bin string, args ...string) error {
		if _, err := exec.LookPath(bin); err != nil {
			_, _ = fmt.Fprintf(out, "%s: not installed, left out\n", bin)
			return nil //nolint:nilerr // said so
		}
		c, err := start(port, bin, args...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, &proxy{name: name, port: port, cmd: c, calls: calls})
		return nil
	}
	header := []string{"-H", "Authorization: Bearer " + strings.Repeat("x", 640)}
	port := free()
	if err := write(dir, "nginx.conf", nginxConf(dir, port, service)); err != nil {
		return err
	}
	if err := add("nginx, plain", port, header, "nginx", "-e", filepath.Join(dir, "px.err"), "-c", filepath.Join(dir, "nginx.conf")); err != nil {
		return err
	}
	port = free()
	if err := write(dir, "haproxy.cfg", haproxyConf(port, service)); err != nil {
		return err
	}
	if err := add("HAProxy, plain", port, header, "haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg")); err != nil {
		return err
	}
	if *caddy != "" {
		port = free()
		if err := write(dir, "Caddyfile", caddyConf(port, service)); err != nil {
			return err
		}
		if err := add("Caddy, plain", port, header, *caddy, "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile"); err != nil {
			return err
		}
	}
	bin := filepath.Join(dir, "gatehouse")
	if o, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/gatehouse").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, o)
	}
	for _, g := range []string{full, quiet, public} {
		port, admin := free(), free()
		home := filepath.Join(dir, g)
		token, err := furnish(home, port, admin, service, g)
		if err != nil {
			return err
		}
		name, calls := "Gatehouse: JWT, CEL, limits, OpenAPI, event", []string{"-H", "Authorization: Bearer " + token}
		switch g {
		case quiet:
			name = "Gatehouse: the same without rules for content"
		case public:
			name, calls = "Gatehouse: public operation, limits, OpenAPI, event", nil // it refuses a credential it cannot read
		}
		if err := add(name, port, calls, bin, "serve", "--config", filepath.Join(home, "gatehouse.yaml"), "--log-level", "warn"); err != nil {
			return err
		}
	}
	for round := range *rounds {
		for _, p := range all {
			if err := p.turn(ctx, dir); err != nil {
				return fmt.Errorf("round %d: %s: %w", round, p.name, err)
			}
		}
	}
	report(out, all)
	return nil
}

// turn loads p for a while and notes what it cost.
func (p *proxy) turn(ctx context.Context, dir string) error {
	before, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	args := []string{"-t1", "-c" + strconv.Itoa(*conns), "-d" + strconv.Itoa(*seconds) + "s", "--latency"}
	if *post {
		args = append(args, "-s", filepath.Join(dir, "post.lua"))
		if err := write(dir, "post.lua", postLua); err != nil {
			return err
		}
	}
	args = append(args, p.calls...)
	args = append(args, "-H", "Accept: application/json", "-H", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0",
		"-H", "X-Request-Id: 0123456789abcdef0123456789abcdef", "-H", "Host: api.bench", fmt.Sprintf("http://127.0.0.1:%d/v1/customers/42?fields=name,email&limit=20", p.port))
	o, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w\n%s", err, o)
	}
	after, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	text := string(o)
	n, err := strconv.ParseFloat(find(text, `(\d+) requests in`), 64)
	if err != nil || n == 0 {
		return fmt.Errorf("wrk counted no request:\n%s", o)
	}
	rps, _ := strconv.ParseFloat(find(text, `Requests/sec:\s+([\d.]+)`), 64)
	bad, _ := strconv.Atoi(find(text, `Non-2xx or 3xx responses: (\d+)`))
	p.bad += bad
	p.cost = append(p.cost, float64((after-before).Microseconds())/n)
	p.rps, p.p99 = append(p.rps, rps), append(p.p99, find(text, `\n\s+99%\s+(\S+)`))
	return nil
}

func report(out io.Writer, all []*proxy) {
	base := median(all[0].cost)
	_, _ = fmt.Fprintf(out, "\n| proxy | µs of CPU a request (least – most) | × nginx | requests/s | p99 by round | not 2xx | MB |\n|---|---|---|---|---|---|---|\n")
	for _, p := range all {
		_, _ = fmt.Fprintf(out, "| %s | %.1f (%.1f – %.1f) | %.2f | %.0f | %s | %d | %d |\n", p.name, median(p.cost), slices.Min(p.cost), slices.Max(p.cost),
			median(p.cost)/base, median(p.rps), strings.Join(p.p99, " "), p.bad, rss(p.cmd.Process.Pid))
	}
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}

func find(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

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

func rss(pid int) (mb int) {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		kb, _ := strconv.Atoi(find(string(b), `VmRSS:\s+(\d+)`))
		mb = kb / 1024
	}
	for _, c := range children(pid) {
		mb += rss(c)
	}
	return mb
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
		<-tick.C
	}
	return fmt.Errorf("nothing listens on port %d after 10 s", port)
}

func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}
