package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

const ownText = `gatehouse: 1
data: ./data
admin: {address: "127.0.0.1:9999"}
fleet: {key: "${file:fleet.key}", config: database}
`

const pushedText = `gatehouse: 1
data: ./elsewhere
environment: stage
include: [apis/*.yaml]
listeners: [{address: "0.0.0.0:1", tls: {certificate: ./no.pem, key: ./no.key}}]
fleet: {key: "${file:not-there.key}"}
issuers: {main: {issuer: "https://auth.example", audience: a, jwks: ./keys/main.jwks}}
networks: {lists: {office: {file: ./office.txt}, here: {file: /etc/here.txt}}}
`

// folders writes files and gives the folder they are in.
func folders(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAPushedConfigHasTheNodesOwnSettings(t *testing.T) {
	own := folders(t, map[string]string{"gatehouse.yaml": ownText, "fleet.key": strings.Repeat("k", 40)})
	of, err := config.LoadOwn(filepath.Join(own, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !of.Pushed() || of.Events.Path.Value != filepath.Join(own, "data", "events") {
		t.Errorf("the own part: pushed %t, events in %s", of.Pushed(), of.Events.Path)
	}
	if _, err := config.Load(filepath.Join(own, "gatehouse.yaml")); err == nil || !strings.Contains(err.Error(), "fleet push") {
		t.Errorf("before anything was taken: %v", err)
	}
	dir := folders(t, map[string]string{
		"gatehouse.yaml": pushedText,
		"apis/a.yaml":    "apis: {a: {openapi: ./a.openapi.yaml, upstreams: [\"http://127.0.0.1:1\"]}}\n",
	})
	f, err := config.LoadPushed(filepath.Join(dir, "gatehouse.yaml"), of)
	if err != nil {
		t.Fatal(err)
	}
	if f.Data.Value != filepath.Join(own, "data") || f.Environment != "stage" || f.Admin.Address != "127.0.0.1:9999" || f.Listeners[0].Address != "127.0.0.1:8443" || !f.Pushed() {
		t.Errorf("data %s, environment %s, admin %s, listeners %+v", f.Data, f.Environment, f.Admin.Address, f.Listeners)
	}
	want := []string{"apis/a.openapi.yaml", "apis/a.yaml", "gatehouse.yaml", "keys/main.jwks", "office.txt"}
	for i := range want {
		want[i] = filepath.Join(dir, want[i])
	}
	if !slices.Equal(f.Carried, want) {
		t.Errorf("it carries %q", f.Carried)
	}
	if !slices.Contains(f.Files, filepath.Join(own, "gatehouse.yaml")) {
		t.Errorf("a change of the node's own file is not seen: %q", f.Files)
	}
	other, err := config.LoadPushed(filepath.Join(folders(t, map[string]string{
		"gatehouse.yaml": pushedText,
		"apis/a.yaml":    "apis: {a: {openapi: ./a.openapi.yaml, upstreams: [\"http://127.0.0.1:1\"]}}\n",
	}), "gatehouse.yaml"), of)
	if err != nil || other.Digest != f.Digest {
		t.Errorf("in another folder it has another digest: %v", err)
	}
}

func TestWhatStaysAtANodeIsNamedAbsolutely(t *testing.T) {
	own := folders(t, map[string]string{"gatehouse.yaml": ownText, "fleet.key": strings.Repeat("k", 40)})
	of, err := config.LoadOwn(filepath.Join(own, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	api := "gatehouse: 1\napis: {a: {openapi: ./a.yaml, upstreams: [\"https://127.0.0.1:1\"]%s}}\n"
	secret := filepath.Join(own, "fleet.key")
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"nothing is needed for nothing", strings.Replace(api, "%s", "", 1), true},
		{"a CA beside the config is refused", strings.Replace(api, "%s", ", upstream: {ca: ./ca.pem}", 1), false},
		{"a CA at each node is taken", strings.Replace(api, "%s", ", upstream: {ca: /etc/ca.pem}", 1), true},
		{"a private key beside the config is refused", strings.Replace(api, "%s", ", upstream: {certificate: /etc/c.pem, key: ./c.key}", 1), false},
		{"a secret beside the config is refused", strings.Replace(api, "%s", "", 1) + "ddos: {crowdsec: {url: \"http://127.0.0.1:1\", key: \"${file:fleet.key}\"}}\n", false},
		{"a secret at each node is taken", strings.Replace(api, "%s", "", 1) + "ddos: {crowdsec: {url: \"http://127.0.0.1:1\", key: \"${file:" + secret + "}\"}}\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := folders(t, map[string]string{"gatehouse.yaml": tt.text, "fleet.key": strings.Repeat("k", 40)})
			_, err := config.LoadPushed(filepath.Join(dir, "gatehouse.yaml"), of)
			if (err == nil) != tt.ok || !tt.ok && !strings.Contains(err.Error(), "must be absolute") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestANodesOwnFileHasNothingElse(t *testing.T) {
	dir := folders(t, map[string]string{"gatehouse.yaml": ownText + "apis: {a: {openapi: ./a.yaml, upstreams: [\"http://127.0.0.1:1\"]}}\n", "fleet.key": strings.Repeat("k", 40)})
	for _, load := range []func(string) (*config.File, error){config.Load, config.LoadOwn} {
		if _, err := load(filepath.Join(dir, "gatehouse.yaml")); err == nil || !strings.Contains(err.Error(), "gatehouse.yaml:5:1: apis is in the config that is pushed") {
			t.Errorf("got %v", err)
		}
	}
}
