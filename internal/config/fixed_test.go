package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

func TestASettingThatWaitsForTheNextStartIsNamed(t *testing.T) {
	const api = `
apis: {a: {openapi: a.yaml, upstreams: ["http://127.0.0.1:1"]}}
`
	dir := t.TempDir()
	for _, name := range []string{"one.token", "two.token", "house.token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0123456789abcdef-0123456789abcdef-"+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parse := func(t *testing.T, text string) *config.File {
		t.Helper()
		name := filepath.Join(dir, "gatehouse.yaml")
		if err := os.WriteFile(name, []byte("gatehouse: 1\n"+text+api), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := config.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	listener := func(rest string) string { return "listeners: [{address: '127.0.0.1:8443'" + rest + "}]" }
	const house = "fleet: {key: '${file:house.token}'}\n"
	for _, tt := range []struct{ name, before, after, want string }{
		{"nothing changed but the lines", listener(""), "# moved\n\n" + listener(""), ""},
		{"client certificates", listener(""), listener(", client_certificates: {ca: ca.pem}"), "listeners"},
		{"their mode", listener(", client_certificates: {ca: ca.pem}"), listener(", client_certificates: {mode: required, ca: ca.pem}"), "listeners"},
		{"their authority", listener(", client_certificates: {ca: ca.pem}"), listener(", client_certificates: {ca: other.pem}"), "listeners"},
		{"the certificate", listener(", tls: {certificate: a.pem, key: a.key}"), listener(", tls: {certificate: b.pem, key: a.key}"), "listeners"},
		{"names of the certificate", listener(", tls: {self: [a]}"), listener(", tls: {self: [a, b]}"), "listeners"},
		{"trusted hops", listener(""), listener(", trusted_hops: [10.0.0.0/8]"), "listeners"},
		{"what hops write", listener(", trusted_hops: [10.0.0.0/8]"), listener(", trusted_hops: [10.0.0.0/8], forwarded_header: forwarded"), "listeners"},
		{"who announces callers", listener(", proxy_protocol: {from: [10.0.0.1]}"), listener(", proxy_protocol: {from: [10.0.0.2]}"), "listeners"},
		{"an edge", listener(""), listener(", edge: {profile: cloudflare, client_certificate: {ca: ca.pem}}"), "listeners"},
		{"the edge's authority", listener(", edge: {profile: cloudflare, client_certificate: {ca: ca.pem}}"), listener(", edge: {profile: cloudflare, client_certificate: {ca: other.pem}}"), "listeners"},
		{"the edge's secret and addresses", listener(", edge: {profile: cloudflare, secret: {header: X-Edge, value: '${file:one.token}'}}"), listener(", edge: {profile: cloudflare, ranges: r.txt, secret: {header: X-Edge, value: '${file:two.token}'}}"), ""},
		{"a token for the operator", "", "admin: {token: '${file:one.token}'}", "admin"},
		{"another token", "admin: {token: '${file:one.token}'}", "admin: {token: '${file:two.token}'}", "admin"},
		{"TLS for the operator", "", "admin: {tls: {self: [localhost]}}", "admin"},
		{"how long events are kept", "", "events: {keep: 5}", "events"},
		{"where the database is", house + "database: {url: '${file:one.token}'}", house + "database: {url: '${file:two.token}'}", "database"},
		{"that there is a fleet", "", house, "fleet"},
		{"two of them", "", "environment: test\nevents: {path: ./elsewhere}", "events, environment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse(t, tt.before).Fixed(parse(t, tt.after)); got != tt.want {
				t.Errorf("named %q, want %q", got, tt.want)
			}
		})
	}
}
