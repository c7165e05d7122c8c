package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-api/gatehouse/internal/server"
)

const grpcDocument = `openapi: 3.1.0
info: {title: health, version: "1"}
paths:
  /grpc.health.v1.Health/Check:
    post:
      operationId: check
      requestBody: {required: true, content: {application/grpc: {}}}
      responses: {"200": {description: ok}}
  /grpc.health.v1.Health/Watch:
    post:
      operationId: watch
      requestBody: {required: true, content: {application/grpc: {}}}
      responses: {"200": {description: ok}}
  /grpc.health.v1.Health/List:
    post:
      operationId: list
      requestBody: {required: true, content: {application/grpc: {}}}
      responses: {"200": {description: ok}}
`

// A gRPC client and a gRPC service nobody here wrote meet through the whole
// gateway: unary calls, a stream, trailers, and a method that is closed.
func TestGRPCGoesThroughTheWholeGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := health.NewServer()
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, service)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)

	dir := t.TempDir()
	for name, text := range map[string]string{
		"health.yaml": grpcDocument,
		"gatehouse.yaml": fmt.Sprintf(`gatehouse: 1
data: ./data
waf: {mode: off}
listeners: [{address: "127.0.0.1:0", tls: {self: [localhost, 127.0.0.1]}}]
admin: {address: "127.0.0.1:0"}
apis:
  health:
    openapi: ./health.yaml
    upstreams: ["h2c://%s"]
    operations: {check: {public: true}, watch: {public: true}, list: {closed: true}}
`, l.Addr()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan server.Bound, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, server.Options{
			Config: filepath.Join(dir, "gatehouse.yaml"), Node: "grpc", Log: slog.New(slog.DiscardHandler),
			Ready: func(b []server.Bound) { ready <- b[0] },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	var gate server.Bound
	select {
	case gate = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	pem, err := os.ReadFile(gate.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := grpc.NewClient(strings.TrimPrefix(gate.URL, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := grpc_health_v1.NewHealthClient(conn)
	call, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()

	res, err := client.Check(call, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("a unary call: %v %v", res, err)
	}
	_, err = client.Check(call, &grpc_health_v1.HealthCheckRequest{Service: "nobody"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the service's own error, which travels in trailers: %v", err)
	}
	watch, err := client.Watch(call, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		m, err := watch.Recv()
		if err != nil || m.GetStatus() != want {
			t.Fatalf("a stream: %v %v, want %v", m, err, want)
		}
		service.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}
	if _, err := client.List(call, &grpc_health_v1.HealthListRequest{}); err == nil {
		t.Error("a closed method was called")
	}
}
