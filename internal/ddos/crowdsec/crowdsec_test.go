package crowdsec_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos/crowdsec"
)

const lapiConfig = `
common: {daemonize: false, log_media: stdout, log_level: error, working_dir: %[1]s}
config_paths:
  config_dir: %[1]s
  data_dir: %[1]s
  hub_dir: %[1]s
  index_path: %[1]s/index.json
  simulation_path: %[1]s/simulation.yaml
cscli: {output: raw}
db_config: {type: sqlite, db_path: %[1]s/crowdsec.db, log_level: error}
api:
  client: {credentials_path: %[1]s/client.yaml}
  server: {listen_uri: "%[2]s", profiles_path: %[1]s/profiles.yaml, log_level: error}
prometheus: {enabled: false}
`

// A lapi is a real CrowdSec, without its agent.
type lapi struct {
	t   *testing.T
	dir string
	url string
}

func newLAPI(t *testing.T) *lapi {
	t.Helper()
	for _, name := range []string{"crowdsec", "cscli"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs crowdsec (apt-get install crowdsec)")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c := &lapi{t, t.TempDir(), "http://" + address}
	for name, text := range map[string]string{
		"config.yaml": fmt.Sprintf(lapiConfig, c.dir, address), "simulation.yaml": "simulation: false\n", "index.json": "{}",
		"profiles.yaml": "name: default\nfilters: [\"true\"]\ndecisions: [{type: ban, duration: 4h}]\non_success: break\n",
		"client.yaml":   "url: " + c.url + "/\nlogin: admin\npassword: secret-of-the-test\n",
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.cscli("machines", "add", "admin", "--password", "secret-of-the-test", "-f", filepath.Join(c.dir, "admin.yaml"))
	cmd := exec.CommandContext(t.Context(), "crowdsec", "-c", filepath.Join(c.dir, "config.yaml"), "-no-cs", "-no-capi")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("it does not listen: %s", out.String())
		}
	}
}

func (l *lapi) cscli(args ...string) string {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), "cscli", append([]string{"-c", filepath.Join(l.dir, "config.yaml")}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("cscli %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestDecisionsOfARealCrowdSecComeInAndOursGoOut(t *testing.T) {
	l := newLAPI(t)
	key := l.cscli("bouncers", "add", "gatehouse")
	lines := strings.Fields(key)
	l.cscli("machines", "add", "gatehouse", "--password", "another-secret-1", "-f", filepath.Join(l.dir, "machine.yaml"))
	cfg := crowdsec.Config{
		URL: l.url, Key: gatehouse.NewSecret(lines[len(lines)-1]), Machine: "gatehouse", Password: gatehouse.NewSecret("another-secret-1"),
		HTTP: &http.Client{Timeout: 10 * time.Second},
	}
	c, err := crowdsec.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	decisions := func() map[string]crowdsec.Decision {
		t.Helper()
		list, err := c.Decisions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]crowdsec.Decision{}
		for _, d := range list {
			out[d.Prefix.String()] = d
		}
		return out
	}
	l.cscli("decisions", "add", "--ip", "203.0.113.9", "--duration", "1h")
	l.cscli("decisions", "add", "--range", "198.51.100.0/24", "--type", "captcha")
	got := decisions()
	if d := got["203.0.113.9/32"]; d.Challenge || time.Until(d.Until) < 50*time.Minute || time.Until(d.Until) > time.Hour {
		t.Errorf("the first: %+v of %v", d, got)
	}
	if d := got["198.51.100.0/24"]; !d.Challenge {
		t.Errorf("the captcha: %+v of %v", d, got)
	}
	l.cscli("decisions", "delete", "--ip", "203.0.113.9")
	l.cscli("decisions", "add", "--ip", "2001:db8::1")
	got = decisions()
	if _, still := got["203.0.113.9/32"]; still || len(got) != 2 {
		t.Errorf("after a deletion: %v", got)
	}
	mine := netip.MustParsePrefix("192.0.2.77/32")
	if err := c.Alert(t.Context(), []crowdsec.Decision{
		{Prefix: mine, Until: time.Now().Add(time.Hour), Scenario: "gatehouse/requests"},
		{Prefix: netip.MustParsePrefix("2001:db8:7::/48"), Until: time.Now().Add(time.Hour), Scenario: "gatehouse/requests"},
	}); err != nil {
		t.Fatal(err)
	}
	list := l.cscli("decisions", "list", "--all")
	if !strings.Contains(list, "192.0.2.77") || !strings.Contains(list, "2001:db8:7::/48") || !strings.Contains(list, "gatehouse/requests") {
		t.Errorf("it does not know ours:\n%s", list)
	}
	if got := decisions(); len(got) != 2 {
		t.Errorf("ours came back: %v", got)
	}
	cfg.Key = gatehouse.NewSecret("wrong")
	bad, err := crowdsec.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Decisions(t.Context()); err == nil || !strings.Contains(err.Error(), "cscli bouncers add") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong key: %v", err)
	}
}

func TestAStreamThatCannotBeReadIsAnErrorAndNotHalfAList(t *testing.T) {
	now := time.Now()
	const good = `{"value":"203.0.113.9","scope":"Ip","type":"ban","duration":"1h","origin":"cscli"}`
	for name, c := range map[string]struct {
		body  string
		fresh int
		err   bool
	}{
		"null lists":             {`{"new":null,"deleted":null}`, 0, false},
		"one":                    {`{"new":[` + good + `]}`, 1, false},
		"a country":              {`{"new":[{"value":"XX","scope":"Country","type":"ban","duration":"1h"},` + good + `]}`, 1, false},
		"ours":                   {`{"new":[{"value":"203.0.113.9","scope":"Ip","type":"ban","duration":"1h","origin":"gatehouse"}]}`, 0, false},
		"no address":             {`{"new":[` + good + `,{"value":"x","scope":"Ip","type":"ban","duration":"1h"}]}`, 0, true},
		"no duration":            {`{"new":[{"value":"1.2.3.4","scope":"Ip","type":"ban","duration":"soon"}]}`, 0, true},
		"cut off":                {`{"new":[` + good, 0, true},
		"something behind it":    {`{"new":[]} {}`, 0, true},
		"a list where an object": {`[]`, 0, true},
	} {
		fresh, _, err := crowdsec.ParseStream([]byte(c.body), now)
		if len(fresh) != c.fresh || (err != nil) != c.err {
			t.Errorf("%s: %v %v", name, fresh, err)
		}
	}
}

func FuzzParseStream(f *testing.F) {
	f.Add([]byte(`{"new":[{"value":"203.0.113.9/24","scope":"Range","type":"captcha","duration":"-1h2m"}],"deleted":[{"value":"::1","scope":"ip","duration":"0s"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fresh, gone, err := crowdsec.ParseStream(body, time.Now())
		if err != nil {
			return
		}
		for _, d := range append(fresh, gone...) {
			if !d.Prefix.IsValid() || d.Prefix != d.Prefix.Masked() {
				t.Errorf("%q: %v", body, d)
			}
		}
	})
}
