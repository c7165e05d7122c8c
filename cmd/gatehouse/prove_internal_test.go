package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/posture"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// proven runs a gateway with an authorization server at its own issuer, and gives
// the path of its config.
func proven(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config := shop(t,
		"issuers: {main: {issuer: \"https://auth.example\", audience: shop, jwks: ./jwks.json, roles: roles}}",
		"listeners: [{address: \"127.0.0.1:"+port+"\"}]\nadmin: {address: \"127.0.0.1:0\"}\noauth: {issuer: \"https://localhost:"+port+"\"}")
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Options{Config: config, Node: "n1", Log: slog.New(slog.DiscardHandler), Ready: func([]server.Bound) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-done:
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return config
}

func TestProveOAuthAgainstARunningGateway(t *testing.T) {
	config := proven(t)
	good(t, "clients", "create", "--id", "shop", "--name", "Shop", "--redirect-uri", "https://shop.example/cb", "-c", config)
	out, _ := good(t, "prove", "oauth", "-c", config, "-o", "json")
	p := decode[posture.Proof](t, out)
	for _, r := range p.Results {
		if r.Verdict == posture.LeftOut && r.ID != "mtls" && r.ID != "dpop-nonce" {
			t.Errorf("%s is left out: %s", r.ID, r.Why)
		}
	}
	if len(p.Results) < 60 || len(p.Clients) != 1 || len(p.Clients[0].Notes) == 0 {
		t.Errorf("%d probes, clients %+v", len(p.Results), p.Clients)
	}
	if !strings.Contains(out, "refused at the gateway after") {
		t.Error("no operation behind the gateway was tried")
	}
	list, _ := good(t, "clients", "list", "-c", config)
	users, _ := good(t, "users", "list", "-c", config)
	if strings.Contains(list+users, "prove-") {
		t.Errorf("something was left behind:\n%s%s", list, users)
	}
	out, _ = good(t, "prove", "oauth", "-c", config, "--only", "pkce")
	if !strings.Contains(out, "pkce-required") || !strings.Contains(out, "1 pass, 0 fail, 0 left out") || !strings.Contains(out, "bearer tokens only") {
		t.Errorf("as text:\n%s", out)
	}
	ca := filepath.Join(filepath.Dir(config), "data", "ca", "ca.pem")
	out, _ = good(t, "prove", "oauth", "--issuer", p.Issuer, "--ca", ca, "-o", "json")
	if outside := decode[posture.Proof](t, out); len(outside.Clients) > 0 || outside.Requests > 150 {
		t.Errorf("from outside: %d requests, %+v", outside.Requests, outside.Clients)
	}
	file := filepath.Join(t.TempDir(), "client.json")
	for text, want := range map[string]int{`{"client_id":"shop","redirect_uri":"https://shop.example/cb"}`: exitOK, `{"client_id":"shop"}`: exitUsage} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, errs, code := do(t, "prove", "oauth", "-c", config, "--client", file, "--only", "redirect-exact"); code != want {
			t.Errorf("with %s: %d\n%s%s", text, code, out, errs)
		}
	}
	if _, errs, code := do(t, "prove", "oauth", "-c", config, "--only", "nosuch"); code != exitUsage || !strings.Contains(errs, "nosuch") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestProveOAuthSaysWhatIsMissing(t *testing.T) {
	if _, errs, code := do(t, "prove", "oauth", "-c", shop(t)); code != exitUsage || !strings.Contains(errs, "no oauth") {
		t.Errorf("without an authorization server: %d %s", code, errs)
	}
	config, _, try := openOffice(t, "issuer: \"https://id.example\"", "issuer: \"https://localhost:1\"")
	if _, errs, code := try("", "prove", "oauth"); code != exitUsage || !strings.Contains(errs, "does not answer") {
		t.Errorf("without a gateway of %s: %d %s", config, code, errs)
	}
}
