package gatehouse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-api/gatehouse/internal/demo"
)

// binary builds the program once, the way a user gets it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-scripts")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "gatehouse"), "./cmd/gatehouse").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// runScripts runs the scripts of dir, each against a whole Gatehouse of its own:
// the real binary, real listeners, real files, curl as the caller.
//
// Beside testscript's own commands there are
//
//	expand FILE…          replaces $NAME by the script's variables in the files
//	service               starts the careless orders API on $API_PORT and writes orders.openapi.yaml
//	issuer                makes an issuer's key and jwks.json
//	token NAME CLAIM=V…   writes NAME.header, a header file for curl: -H @NAME.header
//	start [FLAG…]         starts gatehouse serve and waits until it is ready
//	signal SIG            sends HUP, TERM or KILL to it; TERM and KILL wait for its end
//	call ARG…             curl -i against $GATE, as the caller: call -H @alice.header /orders
//	bare ARG…             the same against the service itself
//	raw FILE              sends the bytes of FILE to the plaintext listener, prints the answer
//	until N COMMAND…      repeats a script command until it prints or N seconds are over
func runScripts(t *testing.T, dir string) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: the scripts are left out")
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			ports, err := freePorts(4)
			if err != nil {
				return err
			}
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("API_PORT", ports[0])
			e.Setenv("GATE_PORT", ports[1])
			e.Setenv("PLAIN_PORT", ports[2])
			e.Setenv("ADMIN_PORT", ports[3])
			e.Setenv("GATE", "https://localhost:"+ports[1])
			e.Setenv("PLAIN", "http://127.0.0.1:"+ports[2])
			e.Setenv("ADMIN", "http://127.0.0.1:"+ports[3])
			e.Setenv("API", "http://127.0.0.1:"+ports[0])
			w := &world{dir: e.WorkDir}
			e.Values[worldKey{}] = w
			e.Defer(w.stop)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expand":  expand,
			"service": service,
			"issuer":  issuer,
			"token":   mintToken,
			"start":   start,
			"signal":  signalGate,
			"call":    func(ts *testscript.TestScript, neg bool, args []string) { curl(ts, neg, ts.Getenv("GATE"), args) },
			"bare":    func(ts *testscript.TestScript, neg bool, args []string) { curl(ts, neg, ts.Getenv("API"), args) },
			"raw":     raw,
			"until":   until,
		},
	})
}

type worldKey struct{}

// A world is what one script started.
type world struct {
	dir  string
	gate *exec.Cmd
	done chan error
	log  *bytes.Buffer
	key  *jose.JSONWebKey
	ends []func()
}

func (w *world) stop() {
	if w.gate != nil {
		_ = w.gate.Process.Kill()
		<-w.done
	}
	for _, end := range w.ends {
		end()
	}
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		out = append(out, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return out, nil
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), func(k string) string {
			if v := ts.Getenv(k); v != "" {
				return v
			}
			return "$" + k
		})
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func service(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ctx, cancel := context.WithCancel(context.Background())
	api, err := demo.New(ctx, filepath.Join(w.dir, "service"))
	ts.Check(err)
	l, err := net.Listen("tcp", "127.0.0.1:"+ts.Getenv("API_PORT"))
	ts.Check(err)
	srv := &http.Server{Handler: api.Handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	w.ends = append(w.ends, func() { cancel(); _ = srv.Close(); <-ended; _ = api.Close() })
	spec, err := demo.OpenAPI.ReadFile("orders.openapi.yaml")
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(w.dir, "orders.openapi.yaml"), spec, 0o600))
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if w.gate != nil {
		ts.Fatalf("gatehouse is already running")
	}
	bin, err := binary()
	ts.Check(err)
	cmd := exec.Command(filepath.Join(bin, "gatehouse"), append([]string{"serve", "--config", "gatehouse.yaml"}, args...)...)
	cmd.Dir = w.dir
	w.log = &bytes.Buffer{}
	out := &lockedWriter{w: w.log}
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			_, _ = ts.Stderr().Write(out.bytes())
			if !neg {
				ts.Fatalf("gatehouse serve ended: %v\n%s", err, out.bytes())
			}
			return
		case <-deadline:
			_ = cmd.Process.Kill()
			ts.Fatalf("gatehouse serve was not ready after 30 s\n%s", out.bytes())
		case <-tick.C:
			resp, err := http.Get(ts.Getenv("ADMIN") + "/readyz")
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				if neg {
					_ = cmd.Process.Kill()
					ts.Fatalf("gatehouse serve started, and should not have")
				}
				w.gate, w.done = cmd, done
				w.ends = append(w.ends, func() {
					if b := out.bytes(); bytes.Contains(b, []byte("DATA RACE")) {
						ts.Logf("%s", b)
						panic("the gateway raced")
					}
				})
				return
			}
		}
	}
}

func signalGate(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	sig := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]
	if w.gate == nil || sig == 0 {
		ts.Fatalf("usage: signal HUP|TERM|KILL, with a gatehouse running")
	}
	ts.Check(w.gate.Process.Signal(sig))
	if sig == syscall.SIGHUP {
		return
	}
	select {
	case <-w.done:
		w.gate = nil
	case <-time.After(20 * time.Second):
		ts.Fatalf("gatehouse did not end within 20 s of SIG%s", args[0])
	}
}

// curl runs the real curl. A first argument that begins with / is the path;
// otherwise the last one is.
func curl(ts *testscript.TestScript, neg bool, base string, args []string) {
	full := []string{"-sS", "-i", "--http1.1", "--path-as-is", "--globoff", "-m", "20"}
	if ca := filepath.Join(worldOf(ts).dir, "data", "ca", "ca.pem"); strings.HasPrefix(base, "https") {
		full = append(full, "--cacert", ca)
	}
	for _, a := range args {
		if strings.HasPrefix(a, "/") {
			a = base + a
		}
		full = append(full, a)
	}
	err := ts.Exec("curl", full...)
	if err != nil && !neg {
		ts.Fatalf("curl: %v", err)
	}
	if err == nil && neg {
		ts.Fatalf("curl went through, and should not have")
	}
}

// raw sends bytes no client library would, and prints what comes back until the
// connection ends or is silent for two seconds.
func raw(ts *testscript.TestScript, _ bool, args []string) {
	b := strings.ReplaceAll(ts.ReadFile(args[0]), "\n", "\r\n")
	b = strings.NewReplacer(`\x00`, "\x00", `\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(strings.TrimSuffix(b, "\r\n"))
	c, err := net.Dial("tcp", "127.0.0.1:"+ts.Getenv("PLAIN_PORT"))
	ts.Check(err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, b)
	ts.Check(err)
	ts.Check(c.SetReadDeadline(time.Now().Add(2 * time.Second)))
	answer, _ := io.ReadAll(c)
	_, _ = ts.Stdout().Write(answer)
}

// until repeats a command: until 5 call /orders 'HTTP/1.1 401'. The last argument
// must appear in the answer.
func until(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: until SECONDS PATH… TEXT")
	}
	secs, err := strconv.Atoi(args[0])
	ts.Check(err)
	want := args[len(args)-1]
	deadline := time.Now().Add(time.Duration(secs) * time.Second)
	for {
		curl(ts, false, ts.Getenv("GATE"), args[1:len(args)-1])
		if strings.Contains(ts.ReadFile("stdout"), want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("after %d s the answer still has no %q", secs, want)
		}
		<-time.After(50 * time.Millisecond)
	}
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (l *lockedWriter) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.w.Bytes())
}
