package gatehouse_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-api/gatehouse/internal/demo"
)

// service is what stands behind the gateway.
func service(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	which := "orders"
	if len(args) == 1 {
		which = args[0]
	}
	if which == "stop" {
		if w.behind == nil {
			ts.Fatalf("no service is running")
		}
		w.behind()
		w.behind = nil
		return
	}
	if w.behind != nil {
		ts.Fatalf("a service is running already")
	}
	handler, end := http.Handler(http.HandlerFunc(echo)), func() {}
	switch which {
	case "echo":
	case "slow":
		handler, end = slow()
	case "orders":
		ctx, cancel := context.WithCancel(context.Background())
		api, err := demo.New(ctx, filepath.Join(w.dir, "service"))
		ts.Check(err)
		handler, end = api.Handler(), func() { cancel(); _ = api.Close() }
		for _, name := range []string{"orders.openapi.yaml", "shop.openapi.yaml"} {
			spec, err := demo.OpenAPI.ReadFile(name)
			ts.Check(err)
			ts.Check(os.WriteFile(filepath.Join(w.dir, name), spec, 0o600))
		}
	default:
		ts.Fatalf("usage: service [orders|echo|slow|stop]")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+ts.Getenv("API_PORT"))
	ts.Check(err)
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	w.behind = func() { _ = srv.Close(); <-ended; end() }
}

// slow is echo for a shop with too many guests: nobody gets news or is signed in
// before it was asked for the end, and a basket takes a while.
func slow() (h http.Handler, end func()) {
	over := make(chan struct{})
	end = sync.OnceFunc(func() { close(over) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait := (<-chan time.Time)(nil)
		switch r.URL.Path {
		case "/basket":
			wait = time.After(300 * time.Millisecond)
			fallthrough
		case "/news", "/signin":
			select {
			case <-over:
			case <-wait:
			case <-r.Context().Done():
			}
		case "/end":
			end()
		}
		echo(w, r)
	}), end
}

// echo answers what it received: the only witness of what went through.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(map[string]any{ // the caller may be gone
		"method": r.Method, "target": r.RequestURI, "host": r.Host, "header": r.Header, "body": string(body),
	})
}
