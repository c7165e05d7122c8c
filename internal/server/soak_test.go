package server_test

import (
	"flag"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var reloads = flag.Int("reloads", 1000, "how many reloads TestReloadSoak makes; a tenth of them with -short")

// A footprint is what a process holds.
type footprint struct {
	goroutines, files int
	heap              uint64
}

func measure(t *testing.T) footprint {
	t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	return footprint{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// TestReloadSoak reloads again and again under load: no request may fail, and
// nothing may be left behind.
func TestReloadSoak(t *testing.T) {
	count := *reloads
	if testing.Short() {
		count /= 10
	}
	guard := make(chan os.Signal, 16)
	signal.Notify(guard, syscall.SIGHUP)
	defer signal.Stop(guard)
	s := newSite(t, nil)
	r := s.run(s.path())
	// By another name the folder's watch sees nothing, and each reload is ours.
	other := filepath.Join(t.TempDir(), "config")
	if err := os.Link(s.path(), other); err != nil {
		t.Skip("no hard links here:", err)
	}
	texts := []string{s.closed(), s.config("")}
	digest := r.health().Config
	reload := func(n int) {
		if err := os.WriteFile(other, []byte(texts[n%2]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, "the reload", 10*time.Second, func() bool { return r.health().Config != digest })
		digest = r.health().Config
	}
	auth := s.token("ann")
	client := &http.Client{Transport: &http.Transport{}}
	stop := make(chan struct{})
	var load sync.WaitGroup
	var served atomic.Int64
	for range 2 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				q, err := http.NewRequest(http.MethodGet, r.url+"/orders", nil)
				if err != nil {
					t.Error(err)
					return
				}
				q.Header.Set("Authorization", auth)
				res, err := client.Do(q)
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK || string(body) != "served" {
					t.Errorf("a request failed: %d %s %v", res.StatusCode, body, err)
					return
				}
				served.Add(1)
			}
		})
	}
	warm := max(count/10, 10)
	for n := range warm {
		reload(n)
	}
	before, start := measure(t), time.Now()
	for n := warm; n < warm+count; n++ {
		reload(n)
	}
	took, after := time.Since(start), measure(t)
	close(stop)
	load.Wait()
	client.CloseIdleConnections()
	t.Logf("%d reloads in %v, %d requests served; before %+v, after %+v", count, took, served.Load(), before, after)
	if h := r.health(); h.Status != "ok" || served.Load() == 0 {
		t.Fatalf("%+v, %d served", h, served.Load())
	}
	if after.goroutines > before.goroutines+8 || after.files > before.files+8 || after.heap > before.heap+4<<20 {
		t.Errorf("grown: before %+v, after %+v", before, after)
	}
}
