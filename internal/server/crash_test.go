package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// serveConfig is the variable by which this test binary is told to be a gateway.
const serveConfig = "GATEHOUSE_TEST_SERVE"

func TestMain(m *testing.M) {
	if config := os.Getenv(serveConfig); config != "" {
		err := server.Run(context.Background(), server.Options{Config: config, Node: "n1", Log: slog.New(slog.DiscardHandler), Ready: func(b []server.Bound) {
			_, _ = fmt.Fprintln(os.Stdout, b[0].URL)
		}})
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestAKilledGatewayLosesNothingItAnswered kills a gateway in the middle of its
// work: what a caller holds an answer to is in the record, once.
func TestAKilledGatewayLosesNothingItAnswered(t *testing.T) {
	s := newSite(t, nil)
	ring := must[*server.KeyRing](t)(server.OpenKeyRing(t.Context(), s.path()))
	secret, _, err := ring.Create(t.Context(), "tester", authn.NewKey{Owner: "robot", Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(must[string](t)(os.Executable()))
	cmd.Env = append(os.Environ(), serveConfig+"="+s.path())
	cmd.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(line)

	const enough = 500
	var mu sync.Mutex
	var answered []string
	kill := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/orders", nil)
				if err != nil {
					return
				}
				r.Header.Set("X-API-Key", secret.Reveal())
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					return // it is dead
				}
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil {
					return
				}
				mu.Lock()
				if res.StatusCode == http.StatusOK {
					answered = append(answered, res.Header.Get("Gatehouse-Decision"))
				}
				if len(answered) == enough {
					close(kill)
				}
				mu.Unlock()
			}
		})
	}
	<-kill
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	wg.Wait()

	r := s.run(s.path()) // recovers the record
	if status, _, body := fetch(t, r.url+"/orders", "X-API-Key", secret.Reveal()); status != 200 {
		t.Fatalf("the key is lost: %d %s", status, body)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range must[[]string](t)(filepath.Glob(filepath.Join(s.dir, "data", "events", "events-*.jsonl"))) {
		all.Write(must[[]byte](t)(os.ReadFile(name)))
	}
	for _, id := range answered {
		if n := strings.Count(all.String(), id); n != 1 {
			t.Errorf("%s is in the record %d times", id, n)
		}
	}
	t.Logf("%d answered before the kill", len(answered))
}
