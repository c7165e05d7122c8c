package main_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// healthConfig writes a config whose operator's listener is at address.
func healthConfig(t *testing.T, address, more string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	document := "openapi: 3.1.0\ninfo: {title: T, version: \"1\"}\npaths: {/orders: {get: {operationId: listOrders, responses: {\"200\": {description: fine}}}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "openapi.yaml"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "gatehouse: 1\nlisteners: [{address: \"127.0.0.1:0\", plaintext: The test speaks in the clear}]\nadmin: {address: \"" + address + "\"" + more + "}\n" +
		"apis: {orders: {openapi: ./openapi.yaml, upstreams: [\"http://127.0.0.1:9\"], operations: {listOrders: {closed: true}}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHealthSaysWhatTheGatewaySays(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		code       int
		want       string
	}{
		{"a gateway that is ready", `{"status":"ok","config":"0123456789abcdef","parts":["service x: healthy true"]}`, 200, 0, "ok, config 0123456789ab"},
		{"one whose last config was refused serves on", `{"status":"degraded","config":"0123456789abcdef","reload":"line 3"}`, 200, 0, "degraded"},
		{"one that is not ready", `{"status":"unready","config":"0123456789abcdef","error":"record: disk full"}`, 503, 1, "disk full"},
		{"something else on that port", `<html>hello</html>`, 200, 2, "is no gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" || r.Header.Get("Authorization") != "Bearer s3cret" {
					t.Errorf("asked %s with %q", r.URL, r.Header.Get("Authorization"))
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			dir := healthConfig(t, strings.TrimPrefix(s.URL, "http://"), `, token: "${file:./token}"`)
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte("s3cret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := gatehouse(t, dir, "health")
			if code != c.code || !strings.Contains(out+errs, c.want) || strings.Contains(out+errs, "s3cret") {
				t.Errorf("%d\n%s%s", code, out, errs)
			}
		})
	}
}

func TestHealthOfNobodyIsAFailure(t *testing.T) {
	at := "127.0.0.1:" + freePort(t)
	if out, errs, code := gatehouse(t, healthConfig(t, at, ""), "health"); code != 1 || !strings.Contains(errs, "no answer at http://"+at) {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

// The operator's listener in TLS by the local CA, and systemd as the supervisor.
func TestASupervisedGatewayTellsAndIsAsked(t *testing.T) {
	at := "127.0.0.1:" + freePort(t)
	dir := healthConfig(t, at, `, tls: {self: [localhost]}`)
	socket := filepath.Join(t.TempDir(), "notify") // a name short enough for a socket
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = systemd.Close() }()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, "serve")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	hear := func(want string) {
		t.Helper()
		var heard []string
		_ = systemd.SetReadDeadline(time.Now().Add(20 * time.Second))
		for b := make([]byte, 256); ; {
			n, err := systemd.Read(b)
			if err != nil {
				t.Fatalf("%v before %s was heard: %q", err, want, heard)
			}
			if heard = append(heard, string(b[:n])); string(b[:n]) == want {
				return
			}
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	if out, errs, code := gatehouse(t, dir, "health"); code != 0 || !strings.HasPrefix(out, "ok, config ") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	_ = cmd.Process.Signal(syscall.SIGHUP)
	hear("RELOADING=1")
	hear("READY=1")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	hear("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
}
