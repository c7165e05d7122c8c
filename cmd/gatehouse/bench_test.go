package main_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

type benchReport struct {
	Subject string
	Lines   []struct {
		ID, Name, Method   string
		Status, Requests   int
		CPU                benchFigure
		Allocations, Bytes float64
		PerSecond          float64 `json:"per_second"`
		P50, P99           float64
	}
	Breakdowns []struct {
		Line   string
		Checks []struct {
			ID, Name string
			Practice []int
			LeftOut  *benchFigure `json:"left_out"`
			Alone    *struct{ CPU benchFigure }
			Share    float64
		}
	}
	Peers []struct {
		URL, Line string
		CPU       *benchFigure
		Requests  int
		Other     int
	}
}

type benchFigure struct{ Median, Spread float64 }

var everyCheck = []string{"content", "access", "authentication", "limits", "record", "metrics", "schema", "proxy"}

// quick runs bench for as short as it can be, and reads its report.
func quick(t *testing.T, dir string, args ...string) (r benchReport) {
	t.Helper()
	out, errs, code := gatehouse(t, dir, append([]string{"bench", "--rounds", "1", "--seconds", "0.02", "--connections", "4", "--output", "json"}, args...)...)
	if code != 0 {
		t.Fatalf("bench ends with %d\n%s", code, errs)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

func TestBenchMeasuresEveryCheck(t *testing.T) {
	dir := t.TempDir()
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/v1/customers/42" || !strings.HasPrefix(r.Host, "127.0.0.1:") || r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer peer.Close()
	r := quick(t, dir, "--svg", "bench.svg", "--against", peer.URL, "--against-pid", strconv.Itoa(os.Getpid()), "--against", peer.URL+"/elsewhere")
	statuses := map[string]int{
		"public": 200, "get": 200, "post": 200, "refused-401": 401, "refused-403": 403, "refused-400": 400, "refused-422": 422, "refused-429": 429, "refused-attack": 403,
	}
	b, err := os.ReadFile(filepath.Join(dir, "bench.svg"))
	if err != nil {
		t.Fatal(err)
	}
	drawn := svgText(t, b)
	for _, l := range r.Lines {
		if l.Status != statuses[l.ID] || l.Requests < 1 || l.CPU.Median <= 0 || l.Allocations <= 0 || l.Bytes <= 0 || l.PerSecond <= 0 || l.P50 <= 0 || l.P99 < l.P50 {
			t.Errorf("%+v", l)
		}
		delete(statuses, l.ID)
		if !slices.Contains(drawn, l.Name) {
			t.Errorf("the chart does not name %q", l.Name)
		}
	}
	if len(statuses) > 0 {
		t.Errorf("not measured: %v", statuses)
	}
	if len(r.Peers) != 4 {
		t.Fatalf("%d lines of peers, want 4: %+v", len(r.Peers), r.Peers)
	}
	for i, p := range r.Peers {
		own := i < 2 // the first peer's process is named, and it is asked for what the gateway is
		if p.Line != []string{"get", "post"}[i%2] || p.Requests < 1 || (p.CPU != nil) != own || own && p.CPU.Median <= 0 || (p.Other == 0) != own {
			t.Errorf("%+v", p)
		}
	}
	if len(r.Breakdowns) != 2 {
		t.Fatalf("%d requests are broken down, want 2", len(r.Breakdowns))
	}
	for _, d := range r.Breakdowns {
		var ids []string
		for _, c := range d.Checks {
			ids = append(ids, c.ID)
			if (c.LeftOut == nil) != (d.Line == "post" && c.ID == "schema") || c.Alone == nil || c.Alone.CPU.Median <= 0 || len(c.Practice) == 0 || c.Share <= 0 {
				t.Errorf("%s: %+v", d.Line, c)
			}
			if !slices.Contains(drawn, c.Name) {
				t.Errorf("the chart does not name %q", c.Name)
			}
		}
		if !slices.Equal(ids, everyCheck) {
			t.Errorf("%s: %v, want %v", d.Line, ids, everyCheck)
		}
	}
}

// svgText reads all of a chart and gives its texts.
func svgText(t *testing.T, b []byte) (texts []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(b)))
	named := map[string]string{}
	for at := ""; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, b)
		}
		switch x := token.(type) {
		case xml.StartElement:
			at = x.Name.Local
		case xml.EndElement:
			at = ""
		case xml.CharData:
			if at == "text" {
				texts = append(texts, string(x))
			}
			named[at] += string(x)
		}
	}
	if named["title"] == "" || named["desc"] == "" || !strings.Contains(named["style"], "prefers-color-scheme: dark") {
		t.Errorf("the chart has no title, description or dark colours: %q", named)
	}
	return texts
}

func TestBenchMeasuresAnOperationOfTheConfig(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"gatehouse.yaml": `gatehouse: 1
issuers: {main: {issuer: "https://auth.example", audience: shop, jwks: "https://127.0.0.1:1/none", roles: realm.roles, role_map: {theirs: ours}}}
roles: {ours: [shop:use]}
guardrails: [{id: hours, require: 'request.method != "TRACE"'}]
apis:
  shop:
    openapi: ./shop.yaml
    upstreams: ["http://127.0.0.1:1"]
    responses: enforce
    limits: [{per: address, rate: 1/h}]
    operations:
      read: {own: {path.owner: claims.sub}}
      write: {grant: shop:use, require: {small: body.n < 10}}
      tiny: {require: {small: body.n < 0}}
tests:
  - {name: ours write little, as: {roles: [ours], issuer: main}, call: shop.write, body: {n: 3}, expect: allow}
`,
		"shop.yaml": `openapi: 3.1.0
info: {title: Shop, version: "1"}
security: [any: []]
paths:
  /things:
    post:
      operationId: write
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer, minimum: 0}}}}}}
      responses: {"201": {description: ok}}
    put:
      operationId: tiny
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer, minimum: 0}}}}}}
      responses: {"201": {description: ok}}
  /{owner}/things:
    get:
      operationId: read
      parameters: [{name: owner, in: path, required: true, schema: {type: string, pattern: "^[a-z]{3}$"}}, {name: n, in: query, required: true, schema: {type: integer, minimum: 7}}]
      responses: {"200": {description: ok}}
  /keyed:
    get: {operationId: keyed, security: [key: []], responses: {"200": {description: ok}}}
components: {securitySchemes: {any: {type: http, scheme: bearer}, key: {type: apiKey, in: header, name: X-Shop}}}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range []string{"shop.write", "read", "keyed"} {
		t.Run(op, func(t *testing.T) {
			r := quick(t, dir, "--operation", op)
			var ids []string
			for _, l := range r.Lines {
				ids = append(ids, l.ID)
			}
			if want := []string{"operation", "refused-401", "refused-404"}; !slices.Equal(ids, want) || !strings.Contains(r.Subject, op) || len(r.Breakdowns) != 1 {
				t.Errorf("%s: %v, want %v; %+v", r.Subject, ids, want, r.Breakdowns)
			}
		})
	}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"an operation that refuses what is made for it": {[]string{"--operation", "shop.tiny"}, []string{"shop.tiny refuses", "small", "hint: write a request", "tests:"}},
		"an operation that is none":                     {[]string{"--operation", "shop.raed"}, []string{"shop.read"}},
		"a config without an operation":                 {[]string{"--config", "gatehouse.yaml"}, []string{"which operation", "hint: ", "--operation shop."}},
		"a service for everybody":                       {[]string{"--service", "0.0.0.0:0"}, []string{"0.0.0.0:0", "127.0.0.1"}},
		"a chart in a folder that is none":              {[]string{"--svg", "none/bench.svg"}, []string{"none/bench.svg"}},
		"no rounds":                                     {[]string{"--rounds", "0"}, []string{"0 rounds", "1 to 1000"}},
		"a peer that is none":                           {[]string{"--against", "here"}, []string{"not the URL", "hint: "}},
		"a peer nobody answers at":                      {[]string{"--against", "http://127.0.0.1:1"}, []string{"does not answer", "hint: start the peer"}},
		"a peer that is not on this machine":            {[]string{"--against", "http://192.0.2.1", "--wait", "1ms"}, []string{"not on this machine", "/.well-known/gatehouse-attack", "did not prove", "hint: "}},
		"more processes than peers":                     {[]string{"--against-pid", "1"}, []string{"more --against-pid", "hint: "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs, code := gatehouse(t, dir, append([]string{"bench", "--rounds", "1", "--seconds", "0.02"}, c.args...)...)
			if name == "no rounds" {
				_, errs, code = gatehouse(t, dir, append([]string{"bench"}, c.args...)...)
			}
			if code != 2 {
				t.Errorf("ends with %d", code)
			}
			for _, text := range c.says {
				if !strings.Contains(errs, text) {
					t.Errorf("%q does not say %q", errs, text)
				}
			}
		})
	}
}

// childrenOf lists the processes that pid has started.
func childrenOf(t *testing.T, pid int) (out []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		t.Skip("no /proc: children cannot be counted")
	}
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/children")
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// Ctrl-C ends the measurement and both its children; a kill, which nobody can
// prepare for, ends them as well, since they end with their input.
func TestBenchLeavesNoChildBehind(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			name, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), name, "bench", "--rounds", "1000", "--seconds", "0.05", "--connections", "2")
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			var errs lockedBuffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var started []int
			until(t, "two children", func() bool { started = childrenOf(t, cmd.Process.Pid); return len(started) == 2 })
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("a measurement that was ended has succeeded")
			}
			if sig == syscall.SIGINT && !strings.Contains(errs.String(), "stopped before it was done") {
				t.Error(errs.String())
			}
			until(t, "no child", func() bool {
				return !slices.ContainsFunc(started, func(pid int) bool {
					b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // empty when it has ended and nobody has asked how
					return err == nil && strings.Contains(string(b), "bench-part")
				})
			})
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 && sig == syscall.SIGINT {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}
