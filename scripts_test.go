package gatehouse_test

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// binary builds the program once, the way a user gets it.
var binary = sync.OnceValues(func() (string, error) {
	// The go command takes a test for passed before unless a file the test looked at is
	// another one: what the build reads it does not see.
	for _, dir := range []string{"cmd", "internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			return "", err
		}
	}
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
// With -update the golden files in the scripts are written anew. Beside
// testscript's own commands there are
//
//	expand FILE…               replaces $NAME by the script's variables in the files
//	service [orders|echo|slow] starts the careless orders API on $API_PORT and writes its document,
//	                           or a service that answers what it received, or a slow one; service
//	                           stop ends it
//	issuer                     makes an issuer's key and jwks.json
//	token NAME CLAIM=V…        writes NAME.header, a header file for curl: -H @NAME.header
//	certificate NAME URI [own] writes NAME.pem, signed by callers-ca.pem or by a CA of its own
//	start [FLAG…]              starts gatehouse serve and waits until it is ready
//	signal SIG                 sends HUP, TERM or KILL to it; TERM and KILL wait for its end
//	call ARG…                  curl -i against $GATE, as the caller: call -H @alice.header /orders
//	bare ARG…                  the same against the service itself
//	admin ARG…                 the same against the operator's listener
//	raw FILE                   sends the bytes of FILE to the plaintext listener, prints the answer
//	stall FILE                 sends these and nothing more, prints the answer; the gateway must hang up
//	repeat FILE N TEXT [TAIL]  writes TEXT N times, then TAIL
//	keep NAME STREAM PATTERN   sets $NAME to the first group of PATTERN in stdout or stderr; what ends in
//	                           TOKEN, SECRET, CODE or KEY must be in no log and no record
//	until N COMMAND… TEXT      repeats call, bare, admin or gatehouse until the answer has TEXT, at most N seconds,
//	                           on a busy machine as much longer as the test runs late
//	browser NAME PATH          opens a page in NAME's browser and prints it
//	submit NAME FIELD=VALUE…   fills in and sends the form of that page which has these fields; ACTION
//	                           instead of a field names the form by the end of its address
//	authorize NAME CLIENT …    a client sends NAME's browser to /authorize, with PKCE; sets $VERIFIER and $STATE
//	forge NAME ORIGIN PATH …   a page of another site makes NAME's browser, an old one, post a form here
//	plant NAME OTHER           puts the cookies of OTHER's browser into NAME's
//	mail ADDRESS SUBJECT       waits for a mail in data/outbox and prints it, decoded
//	pretend NAME HEADER VALUE  NAME's browser sends this with everything from now on
//	tamper NAME TOKEN HOW      sets $NAME to a token made of a good one: none, hs256, kid, jwk, roles or cut
//	totp NAME SECRET [STEPS]   sets $NAME to what an authenticator app shows
//	proof NAME METHOD PATH …   writes NAME.dpop, a header file with a DPoP proof by NAME's key
//	verify TOKEN AUDIENCE      checks a token of ours with the keys at $ADMIN, and prints its claims
func runScripts(t *testing.T, dir string) { runScriptsOn(t, testscript.Params{Dir: dir}, nil) }

// runScriptsOn runs scripts on a fleet over these engines, see fleet_scripts_test.go;
// nil: on one node without any.
func runScriptsOn(t *testing.T, params testscript.Params, on *engines) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: the scripts are left out")
	}
	late := storetest.Late(t)
	testscript.Run(t, testscript.Params{
		Dir:             params.Dir,
		Files:           params.Files,
		ContinueOnError: true,
		UpdateScripts:   *update,
		Setup: func(e *testscript.Env) error {
			ports, release, err := reservePorts(7)
			e.Defer(release)
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
			e.Setenv("PLAIN_OTHER", e.Getenv("PLAIN")) // of the other node
			e.Setenv("ADMIN", "http://127.0.0.1:"+ports[3])
			e.Setenv("API", "http://127.0.0.1:"+ports[0])
			w := &world{dir: e.WorkDir, late: late}
			if on != nil {
				if w.fleet, err = on.fleet(e, ports); err != nil {
					return err
				}
			}
			e.Values[worldKey{}] = w
			e.Defer(func() {
				w.stop()
				for _, l := range w.logs {
					if bytes.Contains(l.bytes(), []byte("panic")) {
						t.Errorf("the gateway panicked:\n%s", l.bytes())
					}
				}
				for _, secret := range w.tokens {
					if err := w.secretIsNowhere(secret); err != nil {
						t.Error(err)
					}
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"admin":       curlTo("ADMIN"),
			"authorize":   authorize,
			"bare":        curlTo("API"),
			"browser":     browse,
			"call":        curlTo("GATE"),
			"certificate": certificate,
			"expand":      expand,
			"forge":       forge,
			"issuer":      issuer,
			"keep":        keep,
			"mail":        inbox,
			"plant":       plant,
			"pretend":     pretend,
			"proof":       proof,
			"raw":         raw,
			"repeat":      repeat,
			"service":     service,
			"signal":      signalGate,
			"start":       start,
			"stall":       stall,
			"submit":      submit,
			"tamper":      tamper,
			"token":       mintToken,
			"totp":        totp,
			"until":       until,
			"verify":      verifyToken,
		},
	})
}

type worldKey struct{}

// A world is what one script started.
type world struct {
	dir    string
	gate   *exec.Cmd
	done   chan error
	logs   []*lockedBuffer // of every gateway of this script
	key    *jose.JSONWebKey
	ca     *authority
	tokens []string // and other secrets: none may be in a log
	behind func()   // ends the service
	fleet  *fleet   // nil: one node alone
	late   func() time.Duration

	browsers map[string]*browser
	proofs   map[string]*ecdsa.PrivateKey // of callers with DPoP
}

func (w *world) stop() {
	if w.gate != nil {
		_ = w.gate.Process.Kill()
		<-w.done
	}
	if w.fleet != nil {
		w.fleet.kill()
	}
	if w.behind != nil {
		w.behind()
	}
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// reservePorts finds n free ports and keeps them until release: a port that is only
// found free becomes another process's before the gateway listens there. The sockets
// are bound alone and let others in afterwards (SO_REUSEADDR): the kernel gives the
// ports to nobody, and who names one of them may listen there.
func reservePorts(n int) (ports []string, release func(), err error) {
	var held []int
	release = func() {
		for _, fd := range held {
			_ = unix.Close(fd)
		}
	}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return nil, release, err
		}
		unix.CloseOnExec(fd)
		held = append(held, fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, release, err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, release, err
		}
		a, err := unix.Getsockname(fd)
		if err != nil {
			return nil, release, err
		}
		ports = append(ports, strconv.Itoa(a.(*unix.SockaddrInet4).Port))
	}
	return ports, release, nil
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), func(k string) string {
			if v := ts.Getenv(k); v != "" {
				return v
			}
			if strings.Contains(k, ":") { // ${file:…} is the config's own
				return "${" + k + "}"
			}
			return "$" + k
		})
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if w.gate != nil {
		ts.Fatalf("gatehouse is already running")
	}
	if w.fleet != nil {
		w.fleet.start(ts, w)
		args = append(args, "--node", "n1")
	}
	w.gate, w.done = startNode(ts, neg, w, ts.Getenv("ADMIN"), append([]string{"serve", "--config", "gatehouse.yaml"}, args...))
}

// startNode starts a gateway and waits until it is ready; nil where it ends, and
// should.
func startNode(ts *testscript.TestScript, neg bool, w *world, admin string, args []string) (*exec.Cmd, chan error) {
	bin, err := binary()
	ts.Check(err)
	cmd := exec.Command(filepath.Join(bin, "gatehouse"), args...)
	cmd.Dir = w.dir
	out := &lockedBuffer{}
	w.logs = append(w.logs, out)
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
			return nil, nil
		case <-deadline:
			_ = cmd.Process.Kill()
			ts.Fatalf("gatehouse serve was not ready after 30 s\n%s", out.bytes())
		case <-tick.C:
			resp, err := http.Get(admin + "/readyz")
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				if neg {
					_ = cmd.Process.Kill()
					ts.Fatalf("gatehouse serve started, and should not have")
				}
				return cmd, done
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
	if w.fleet != nil {
		w.fleet.kill()
	}
	select {
	case <-w.done:
		w.gate = nil
	case <-time.After(20 * time.Second):
		ts.Fatalf("gatehouse did not end within 20 s of SIG%s", args[0])
	}
}

// curlTo makes a script command of the real curl; an argument that begins with /
// is a path at the address in the variable base.
func curlTo(base string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) { curl(ts, neg, ts.Getenv(base), args) }
}

func curl(ts *testscript.TestScript, neg bool, base string, args []string) {
	data := "data"
	if f := worldOf(ts).fleet; f != nil {
		if base == ts.Getenv("GATE") {
			f.next()
		}
		base, data = f.at(ts, base)
	}
	full := []string{"-sS", "-i", "--http1.1", "--path-as-is", "--globoff", "-m", "20"}
	if ca := filepath.Join(worldOf(ts).dir, data, "ca", "ca.pem"); strings.HasPrefix(base, "https") {
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
	_ = sendRaw(ts, ts.ReadFile(args[0]), 2*time.Second) // the end of the connection and silence are both answers
}

// stall is for a request that is never whole, and does not end with its file either.
func stall(ts *testscript.TestScript, _ bool, args []string) {
	err := sendRaw(ts, strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), 20*time.Second)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		ts.Fatalf("the connection is still open after 20 s")
	}
}

// sendRaw prints what comes back until the connection ends, or no longer than that.
func sendRaw(ts *testscript.TestScript, text string, within time.Duration) error {
	b := strings.ReplaceAll(text, "\n", "\r\n")
	b = strings.NewReplacer(`\0`, "\x00", `\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(b)
	ended := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) }
	c, err := net.Dial("tcp", "127.0.0.1:"+ts.Getenv("PLAIN_PORT"))
	if ended(err) { // turned away before we looked
		return err
	}
	ts.Check(err)
	defer func() { _ = c.Close() }()
	if _, err = io.WriteString(c, b); !ended(err) {
		ts.Check(err)
	}
	ts.Check(c.SetReadDeadline(time.Now().Add(within)))
	answer, err := io.ReadAll(c)
	_, _ = ts.Stdout().Write(answer)
	return err
}

func repeat(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: repeat FILE N TEXT [TAIL]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat(args[2], n)+strings.Join(args[3:], "")), 0o600))
}

// keep takes something out of the last answer, for later lines: keep ID stdout 'Decision: (\S+)'.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: keep NAME stdout|stderr PATTERN")
	}
	re, err := regexp.Compile(args[2])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) != 2 {
		ts.Fatalf("no match for %s", args[2])
	}
	ts.Setenv(args[0], m[1])
	if i := strings.LastIndexByte(args[0], '_'); slices.Contains([]string{"TOKEN", "SECRET", "CODE", "KEY"}, args[0][i+1:]) {
		w := worldOf(ts)
		w.tokens = append(w.tokens, m[1])
	}
}

// until repeats a question: until 5 call /orders 'HTTP/1.1 401'.
func until(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: until SECONDS call|bare|admin|gatehouse ARG… TEXT")
	}
	secs, err := strconv.Atoi(args[0])
	ts.Check(err)
	base, ok := map[string]string{"call": "GATE", "bare": "API", "admin": "ADMIN"}[args[1]]
	if !ok && args[1] != "gatehouse" {
		ts.Fatalf("until repeats call, bare, admin or gatehouse, not %q", args[1])
	}
	want := args[len(args)-1]
	w, hits := worldOf(ts), 0
	f := w.fleet
	begun, before := time.Now(), w.late()
	for {
		if ok {
			curl(ts, false, ts.Getenv(base), args[2:len(args)-1])
		} else {
			_ = ts.Exec("gatehouse", args[2:len(args)-1]...) // it may not be there yet
		}
		if strings.Contains(ts.ReadFile("stdout"), want) {
			if hits++; hits == 2 || f == nil || !ok {
				return
			}
		} else {
			hits = 0
		}
		if f != nil && base == "ADMIN" {
			f.next() // both nodes must say so; a call goes to the other one by itself
		}
		if time.Since(begun) > time.Duration(secs)*time.Second+w.late()-before {
			ts.Fatalf("after %d s the answer still has no %q", secs, want)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// A lockedBuffer is what a process writes while others read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}
