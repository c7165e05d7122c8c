package server

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A setting that is read and not handed on is a promise nobody keeps.
func TestEverySettingOfAServiceIsHandedOn(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "gatehouse.yaml")
	err := os.WriteFile(name, []byte(`gatehouse: 1
api_keys: {header: X-Our-Key}
apis:
  a:
    openapi: a.yaml
    upstreams: ["https://one.example", "https://two.example/v2"]
    upstream:
      connect: 3s
      timeout: 31s
      stream_idle: 61s
      idle: 91s
      max_in_flight: 7
      concurrency: {min: 2, initial: 4, max: 6}
      retries: 2
      breaker: {failures: 4, open: 11s}
      health: {path: /up, interval: 6s, timeout: 2s, healthy: 2, unhealthy: 4}
      host: original
      ca: ca.pem
      certificate: own.pem
      key: own.key
      server_name: services.example
      token: none
    operations:
      pay: {public: true, priority: critical}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	got := upstreamConfig(f, f.APIs["a"], []string{"X-Theirs", "X-Our-Key"})
	want := gateway.UpstreamConfig{
		URLs: []string{"https://one.example", "https://two.example/v2"}, Connect: 3 * time.Second, Timeout: 31 * time.Second,
		BodyIdle: 61 * time.Second, Idle: 91 * time.Second, MaxInFlight: 7, MinLimit: 2, FirstLimit: 4, MaxLimit: 6, Critical: true, Retries: 2, Failures: 4, Open: 11 * time.Second,
		Health:       &gateway.HealthCheck{Path: "/up", Interval: 6 * time.Second, Timeout: 2 * time.Second, Healthy: 2, Unhealthy: 4},
		OriginalHost: true, CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "own.pem"), KeyFile: filepath.Join(dir, "own.key"),
		ServerName: "services.example", Token: gateway.TokenNone, Credentials: []string{"X-Our-Key", "X-Theirs"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handed on\n%+v %+v, want\n%+v %+v", got, got.Health, want, want.Health)
	}
}

func TestEveryBoundOfAListenerIsHandedOn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "gatehouse.yaml")
	err := os.WriteFile(name, []byte(`gatehouse: 1
listeners:
  - address: 127.0.0.1:0
    timeouts: {head: 1s, idle: 2s, body_idle: 3s, take_idle: 4s, handshake: 5s}
    limits: {header_bytes: 2KiB, connections: 3, connections_per_address: 4, handshakes: 50, body_rate: 6B, streams: 7, resets: 80, overhead: 90}
oauth: {issuer: "https://localhost:8443"}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	want := http1.Config{
		HeadTimeout: time.Second, IdleTimeout: 2 * time.Second, BodyIdle: 3 * time.Second, WriteIdle: 4 * time.Second, HandshakeTimeout: 5 * time.Second,
		MaxHeadBytes: 2 << 10, MaxConns: 3, MaxConnsPerAddress: 4, MaxHandshakes: 50, MinBodyRate: 6, MaxStreams: 7, MaxResets: 80, MaxOverhead: 90,
	}
	if got := frontBounds(&f.Listeners[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("handed on\n%+v, want\n%+v", got, want)
	}
}
