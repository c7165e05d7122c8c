package interop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSQLMap has Debian's sqlmap take the demo's customers, from the bare API and
// then through the gateway, as a caller who may search. It is told which database
// it is, and calls itself a browser: its own name alone is refused.
func TestSQLMap(t *testing.T) {
	sqlmap, err := exec.LookPath("sqlmap")
	if err != nil {
		t.Skip("NOT TESTED with sqlmap: it is not installed (tools/test.sh does, as root on Debian)")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, log := filepath.Join(t.TempDir(), "demo"), &buffer{}
	gate, service, admin := freePort(t), freePort(t), freePort(t)
	demo := exec.Command(bin, "demo", "--dir", dir, "--address", "127.0.0.1:"+gate, "--service", "127.0.0.1:"+service, "--admin", "127.0.0.1:"+admin)
	demo.Stdout, demo.Stderr = log, log
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = demo.Process.Kill()
		_ = demo.Wait()
	})
	until(t, "the demo is ready", func() bool { return bytes.Contains(log.bytes(), []byte("Ctrl-C ends it.")) })
	unlimited(t, dir, admin)
	header, err := os.ReadFile(filepath.Join(dir, "mia.header"))
	if err != nil {
		t.Fatal(err)
	}

	const found = "5555555555554444" // bob's card
	for _, tt := range []struct {
		name, url, data, parameter string
		more                       []string
		takes                      bool
	}{
		{"the bare API loses its customers", "http://127.0.0.1:" + service + "/orders?q=desk", "", "q", nil, true},
		{"the bare search, too", "http://127.0.0.1:" + service + "/shop/orders/search", `{"text":"desk*"}`, "", nil, true},
		{"the gateway keeps them, by the document", "https://localhost:" + gate + "/orders?q=desk", "", "q", nil, false},
		{"and by the rules, where any text may stand", "https://localhost:" + gate + "/shop/orders/search", `{"text":"desk*"}`, "", nil, false},
		{"comments for spaces do not help", "https://localhost:" + gate + "/shop/orders/search", `{"text":"desk*"}`, "", []string{"--tamper", "space2comment,randomcase"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
			defer cancel()
			args := []string{
				"--url", tt.url, "--headers", strings.TrimSpace(string(header)), "--user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
				"--batch", "--level", "2", "--risk", "1", "--technique", "BEU", "--dbms", "SQLite", "--threads", "1", "--time-sec", "2", "--timeout", "5", "--retries", "0",
				"--flush-session", "--disable-coloring", "--output-dir", t.TempDir(), "-T", "customers", "--dump",
			}
			if tt.parameter != "" {
				args = append(args, "-p", tt.parameter)
			}
			if tt.data != "" {
				args = append(args, "--data", tt.data)
			}
			cmd := exec.CommandContext(ctx, sqlmap, append(args, tt.more...)...)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
				t.Fatalf("%v %v\n%s", err, ctx.Err(), out)
			}
			text := string(out)
			if got := strings.Contains(text, found); got != tt.takes {
				t.Errorf("bob's card is taken: %v\n%s", got, text)
			}
			if tt.takes {
				return
			}
			if !strings.Contains(text, "do not appear to be injectable") {
				t.Errorf("sqlmap does not give up:\n%s", text)
			}
			// 502 is an answer withheld for the database's error in it.
			if regexp.MustCompile(`is vulnerable|Table: customers|429 \(|50[0134] \(`).MatchString(text) || !regexp.MustCompile(`(403|422) \([^)]*\) - [0-9]{2,} times`).MatchString(text) {
				t.Errorf("what stopped it is not the input check:\n%s", text)
			}
		})
	}

	t.Run("the same caller still searches", func(t *testing.T) {
		pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost:"+gate+"/shop/orders/search", strings.NewReader(`{"text":"Desk"}`))
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(strings.TrimSpace(string(header)), ": ")
		req.Header.Set(name, value)
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

// unlimited takes the demo's rate limits away while it runs: what is asked is what
// the input checks stop.
func unlimited(t *testing.T, dir, admin string) {
	t.Helper()
	config := filepath.Join(dir, "gatehouse.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`rate: (?:100/s|900/min), burst: [0-9]+`).ReplaceAllString(string(b), "rate: 10000/s, burst: 10000")
	if text == string(b) {
		t.Fatal("the demo has other limits now")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the config is taken", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + admin + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		return err == nil && regexp.MustCompile(`gatehouse_reloads_total\{result="taken"\} [1-9]`).Match(out)
	})
}
