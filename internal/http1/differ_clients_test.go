package http1_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// Clients nobody here wrote must get as many answers as they send requests, all
// of them 2xx. A tool that is not installed is skipped.

// tool runs a client and returns what it says.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// said finds a number in what a tool said; 0 when it did not say it.
func said(out, pattern string) int {
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// counting answers by path and counts.
func counting(served *atomic.Int64) script {
	return func(_ *sight, w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		switch {
		case r.URL.Path == "/big":
			for range 10 {
				_, _ = w.Write(make([]byte, 5_000))
				_ = http.NewResponseController(w).Flush()
			}
		case r.Method == "GET", r.Method == "HEAD":
			_, _ = io.WriteString(w, "hello")
		default:
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				w.WriteHeader(400)
			}
			fmt.Fprint(w, n)
		}
	}
}

func TestLoadToolsGetAnAnswerToEveryRequest(t *testing.T) {
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, make([]byte, 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	pipelined := filepath.Join(t.TempDir(), "pipeline.lua")
	if err := os.WriteFile(pipelined, []byte(`
init = function(args)
  local r = {}
  for i = 1, 8 do r[i] = wrk.format("GET", "/" .. i) end
  all = table.concat(r)
end
request = function() return all end
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	s := newSecurePair(t, http1.Config{}, counting(&served)).lane
	for _, tt := range []struct {
		name string
		args []string // {tcp} and {tls} stand for the addresses
	}{
		{"h2load speaks HTTP/1.1", []string{"h2load", "--h1", "-n", "1000", "-c", "8", "http://{tcp}/"}},
		{"h2load speaks HTTP/1.1 and takes long answers", []string{"h2load", "--h1", "-n", "200", "-c", "8", "http://{tcp}/big"}},
		{"h2load speaks HTTP/1.1 and uploads", []string{"h2load", "--h1", "-n", "500", "-c", "8", "-d", body, "http://{tcp}/"}},
		{"h2load speaks HTTP/1.1 in TLS", []string{"h2load", "--h1", "-n", "500", "-c", "8", "https://{tls}/"}},
		{"h2load speaks HTTP/1.1 in TLS and uploads", []string{"h2load", "--h1", "-n", "300", "-c", "8", "-d", body, "https://{tls}/"}},
		{"h2load speaks HTTP/2", []string{"h2load", "-n", "1000", "-c", "4", "-m", "10", "https://{tls}/"}},
		{"h2load speaks HTTP/2 and uploads", []string{"h2load", "-n", "300", "-c", "4", "-m", "10", "-d", body, "https://{tls}/"}},
		{"ab speaks HTTP/1.0", []string{"ab", "-q", "-n", "500", "-c", "8", "http://{tcp}/"}},
		{"ab speaks HTTP/1.0 and takes long answers", []string{"ab", "-q", "-n", "200", "-c", "8", "http://{tcp}/big"}},
		{"ab keeps its connections in HTTP/1.0", []string{"ab", "-q", "-k", "-n", "1000", "-c", "8", "http://{tcp}/"}},
		{"ab keeps its connections and uploads", []string{"ab", "-q", "-k", "-n", "500", "-c", "8", "-p", body, "-T", "application/octet-stream", "http://{tcp}/"}},
		{"ab keeps its connections and asks with HEAD", []string{"ab", "-q", "-k", "-i", "-n", "500", "-c", "8", "http://{tcp}/"}},
		{"ab speaks TLS", []string{"ab", "-q", "-k", "-n", "200", "-c", "4", "https://{tls}/"}},
		{"wrk sends eight requests at a time", []string{"wrk", "-t", "1", "-c", "8", "-d", "1s", "-s", pipelined, "http://{tcp}/"}},
		{"wrk speaks TLS", []string{"wrk", "-t", "1", "-c", "4", "-d", "1s", "https://{tls}/"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Split(strings.NewReplacer("{tcp}", s.tcp, "{tls}", s.tls).Replace(strings.Join(tt.args, "\x00")), "\x00")
			before := served.Load()
			out := tool(t, args[0], args[1:]...)
			count := int(served.Load() - before)
			var asked, got int
			switch args[0] {
			case "h2load":
				asked, got = said(out, `requests: (\d+) total`), said(out, `status codes: (\d+) 2xx`)
				if said(out, `(\d+) failed`)+said(out, `(\d+) errored`)+said(out, `(\d+) timeout`) > 0 {
					t.Errorf("%s", out)
				}
			case "ab":
				asked, got = said(out, `Complete requests: +(\d+)`), count
				if said(out, `Failed requests: +(\d+)`)+said(out, `Non-2xx responses: +(\d+)`)+said(out, `Write errors: +(\d+)`) > 0 {
					t.Errorf("%s", out)
				}
				if kept := said(out, `Keep-Alive requests: +(\d+)`); args[2] == "-k" && kept != asked {
					t.Errorf("%d of %d connections kept", kept, asked)
				}
			case "wrk":
				asked, got = said(out, `(\d+) requests in`), count
				if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
					t.Errorf("%s", out)
				}
				// It stops in the middle: each connection has a few under way.
				if got >= asked && got <= asked+8*16 {
					got, count = asked, asked
				}
			}
			if asked == 0 || got != asked || count != asked {
				t.Errorf("%d requests sent, %d served, %d answered\n%s", asked, count, got, out)
			}
		})
	}
}

func TestCurlIsAnswered(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	s := newSecurePair(t, http1.Config{}, counting(&served)).lane
	for _, tt := range []struct {
		name string
		args []string
		want []string // of each answer: status, version, bytes, new connections
	}{
		{"HTTP/1.0", []string{"--http1.0", "{http}/"}, []string{"200 1 5 1"}},
		{"HTTP/1.0 and a long answer", []string{"--http1.0", "{http}/big"}, []string{"200 1 50000 1"}},
		{"HTTP/1.1", []string{"--http1.1", "{http}/"}, []string{"200 1.1 5 1"}},
		{"HTTP/1.1 and a long answer", []string{"--http1.1", "{http}/big"}, []string{"200 1.1 50000 1"}},
		{"three requests by one connection", []string{"{http}/", "-o", "/dev/null", "{http}/big", "-o", "/dev/null", "{http}/"}, []string{"200 1.1 5 1", "200 1.1 50000 0", "200 1.1 5 0"}},
		{"HEAD", []string{"-I", "{http}/"}, []string{"200 1.1 0 1"}},
		{"an upload that asks first", []string{"--http1.1", "--data-binary", "@" + big, "{http}/"}, []string{"200 1.1 7 1"}},
		{"an upload in chunks", []string{"--http1.1", "-T", big, "-H", "Transfer-Encoding: chunked", "{http}/up"}, []string{"200 1.1 7 1"}},
		{"an upload in chunks that asks first", []string{"--http1.1", "-T", big, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "{http}/up"}, []string{"200 1.1 7 1"}},
		{"an upload in HTTP/1.0", []string{"--http1.0", "--data-binary", "@" + big, "{http}/"}, []string{"200 1 7 1"}},
		{"TLS", []string{"--http1.1", "{https}/", "-o", "/dev/null", "{https}/big"}, []string{"200 1.1 5 1", "200 1.1 50000 0"}},
		{"an upload in TLS", []string{"--http1.1", "-T", big, "{https}/up"}, []string{"200 1.1 7 1"}},
		{"an upload in HTTP/2", []string{"--http2", "-T", big, "{https}/up"}, []string{"200 2 7 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"-sS", "-k", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download} %{num_connects}\n"}
			for _, a := range tt.args {
				args = append(args, strings.NewReplacer("{https}", "https://"+s.tls, "{http}", "http://"+s.tcp).Replace(a))
			}
			before := served.Load()
			got := strings.Split(strings.TrimSpace(strings.ReplaceAll(tool(t, "curl", args...), " 1.0 ", " 1 ")), "\n")
			if strings.Join(got, "|") != strings.Join(tt.want, "|") || int(served.Load()-before) != len(tt.want) {
				t.Errorf("got %q of %d served, want %q", got, served.Load()-before, tt.want)
			}
		})
	}
}
