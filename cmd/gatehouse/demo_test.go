package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// binary builds the program once, the way a reader gets it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-cli-test-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "gatehouse")
	if out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// A running is a program under way.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	done     chan struct{}
	code     int
	out, err lockedBuffer
}

// launch starts the program in the folder dir and waits until its output says that it is ready.
func launch(t *testing.T, dir, ready string, args ...string) *running {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = dir, &r.out, &r.err
	r.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // the code says it
		r.code = r.cmd.ProcessState.ExitCode()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
	})
	deadline := time.After(30 * time.Second)
	for !strings.Contains(r.out.String(), ready) {
		select {
		case <-r.done:
			t.Fatalf("%s ended with %d\n%s", args, r.code, r.err.String())
		case <-deadline:
			t.Fatalf("%s was not ready after 30 s\n%s%s", args, r.out.String(), r.err.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return r
}

// interrupt is Ctrl-C; it returns the exit code.
func (r *running) interrupt() int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.done:
		return r.code
	case <-time.After(20 * time.Second):
		r.t.Fatalf("no end 20 s after SIGINT\n%s", r.err.String())
		return -1
	}
}

// gatehouse runs one command to its end.
func gatehouse(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// A promise is a line of the tour and the comment below it.
type promise struct{ command, outcome string }

// promisesOf reads the tour as a person does: commands, each with what comes of it.
func promisesOf(text string) (out []promise) {
	lines := strings.Split(text, "\n")
	for i := 1; i < len(lines); i++ {
		if outcome, ok := strings.CutPrefix(strings.TrimSpace(lines[i]), "# "); ok {
			out = append(out, promise{strings.TrimSpace(lines[i-1]), outcome})
		}
	}
	return out
}

var freePorts = []string{"--address", "127.0.0.1:0", "--service", "127.0.0.1:0", "--admin", "127.0.0.1:0"}

// TestDemoTour pastes every line of the printed tour into bash, twice in the same
// folder, and holds the answers to the comments printed with the lines.
func TestDemoTour(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed: the tour is left out")
	}
	// A curl that also tells the status, in the same words where the line asks for it itself.
	bin := t.TempDir()
	wrapper := "#!/bin/sh\nexec " + curl + ` -sS -w '%{stderr}\nSTATUS %{http_code}\n' "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "curl"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "with a space")
	for _, run := range []string{"first", "again in the same folder"} {
		t.Run(run, func(t *testing.T) {
			r := launch(t, bin, "Ctrl-C ends it.", append([]string{"demo", "--dir", dir}, freePorts...)...)
			text := r.out.String()
			if strings.Contains(text, "\x1b") {
				t.Error("colours, and nobody to see them")
			}
			promises := promisesOf(text)
			if len(promises) < 20 {
				t.Fatalf("only %d lines to try:\n%s", len(promises), text)
			}
			cd := regexp.MustCompile(`(?m)^  cd .*$`).FindString(text)
			for _, p := range promises {
				cmd := exec.CommandContext(t.Context(), "bash", "-c", cd+" && "+p.command)
				cmd.Dir, cmd.Env = "/", append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
				b, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s\n%v\n%s", p.command, err, b)
					continue
				}
				kept(t, p, string(b))
			}
			metricsAreInTheDocument(t, text)
			if code := r.interrupt(); code != 0 {
				t.Errorf("Ctrl-C ends it with %d\n%s", code, r.err.String())
			}
			if r.err.String() != "" {
				t.Errorf("the demo complains:\n%s", r.err.String())
			}
		})
	}
}

var (
	statusTold = regexp.MustCompile(`(?m)^STATUS ([0-9]+)$`)
	statusList = regexp.MustCompile(`^[1-5][0-9][0-9]( [1-5][0-9][0-9])*$`)
)

// kept holds an answer to "STATUS…, TEXT, TEXT (note)".
func kept(t *testing.T, p promise, answer string) {
	t.Helper()
	want, _, _ := strings.Cut(p.outcome, " (")
	texts := strings.Split(want, ", ")
	if statusList.MatchString(texts[0]) {
		got := strings.TrimSpace(answer)
		if m := statusTold.FindStringSubmatch(answer); m != nil {
			got = m[1]
		}
		if got != texts[0] {
			t.Errorf("%s\nwas answered with status %s, want %s\n%s", p.command, got, texts[0], answer)
		}
		texts = texts[1:]
	}
	for _, text := range texts {
		if !strings.Contains(answer, text) {
			t.Errorf("%s\nthe answer has no %s\n%s", p.command, text, answer)
		}
	}
}

// metricsAreInTheDocument compares what a gateway with some traffic exposes with
// docs/operations.md.
func metricsAreInTheDocument(t *testing.T, tour string) {
	t.Helper()
	health := regexp.MustCompile(`health +(http://\S+)/healthz`).FindStringSubmatch(tour)
	if health == nil {
		t.Fatal(tour)
	}
	exposed, err := exec.CommandContext(t.Context(), "curl", "-sS", health[1]+"/metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern string, b []byte) map[string]bool {
		out := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(b, -1) {
			out[string(m[1])] = true
		}
		return out
	}
	is, said := names(`(?m)^# TYPE (gatehouse_\w+)`, exposed), names("`(gatehouse_[a-z_]+)", doc)
	for name := range is {
		if !said[name] {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
	metadata := reflect.TypeFor[oauth.Metadata]() // of clients, whose own names begin so, too
	for field := range metadata.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(said, name)
	}
	for _, seldom := range []string{ // in a fleet, or once they have happened
		"gatehouse_nodes", "gatehouse_nodes_configs_differ", "gatehouse_cache_requests_total", "gatehouse_upstream_shed_total",
		"gatehouse_upstream_floor_seconds", "gatehouse_upstream_latency_seconds",
	} {
		delete(said, seldom)
	}
	for name := range said {
		if !is[name] {
			t.Errorf("docs/operations.md names the metric %s, which is not exposed", name)
		}
	}
}

func TestDemoLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	r := launch(t, dir, "Ctrl-C ends it.", append([]string{"demo"}, freePorts...)...)
	if found, _ := filepath.Glob(filepath.Join(dir, "gatehouse-demo-*")); len(found) != 1 {
		t.Fatalf("the demo's folder is not where TMPDIR says: %v", found)
	}
	if code := r.interrupt(); code != 0 {
		t.Errorf("Ctrl-C ends it with %d\n%s", code, r.err.String())
	}
	if found, _ := os.ReadDir(dir); len(found) != 0 {
		t.Errorf("it left %v", found)
	}
}

func TestDemoRefusesWithAWayOut(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "demo")
	r := launch(t, dir, "Ctrl-C ends it.", append([]string{"demo", "--dir", own}, freePorts...)...)
	service := regexp.MustCompile(`bare API +http://(\S+),`).FindStringSubmatch(r.out.String())
	if service == nil {
		t.Fatal(r.out.String())
	}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"a port in use":           {[]string{"--dir", filepath.Join(dir, "b"), "--service", service[1]}, []string{service[1] + " is in use", "hint: is another demo running?", "127.0.0.1:0"}},
		"a folder in use":         {[]string{"--dir", own}, []string{"another demo runs in " + own, "hint: ", "--dir"}},
		"an address for everyone": {[]string{"--address", "0.0.0.0:0"}, []string{"does not listen on 0.0.0.0:0", "hint: it is vulnerable on purpose"}},
		"a name":                  {[]string{"--service", "localhost:0"}, []string{"does not listen on localhost:0"}},
		"no port":                 {[]string{"--admin", "127.0.0.1"}, []string{"no host:port"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := gatehouse(t, dir, slices.Concat([]string{"demo"}, freePorts, c.args)...)
			if code != 2 || out != "" {
				t.Errorf("exit code %d, output %q", code, out)
			}
			for _, text := range c.says {
				if !strings.Contains(errs, text) {
					t.Errorf("%q does not say %q", errs, text)
				}
			}
		})
	}
}

// A lockedBuffer is what a program writes while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
