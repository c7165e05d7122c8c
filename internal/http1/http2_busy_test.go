package http1_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// What real clients do in numbers is no flood.
func TestBusyHTTP2ClientsAreNoFlood(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 8<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/big":
			_, _ = w.Write(big)
		case "/refused": // before its body was read
			w.WriteHeader(http.StatusUnauthorized)
		case "/echo":
			w.WriteHeader(http.StatusOK)
			rc := http.NewResponseController(w)
			_ = rc.Flush()
			b := make([]byte, 100)
			for {
				n, err := r.Body.Read(b)
				if n > 0 {
					_, _ = w.Write(b[:n])
					_ = rc.Flush()
				}
				if err != nil {
					return
				}
			}
		default:
			_, _ = io.Copy(w, r.Body)
		}
	})
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, c *http.Client, url string)
	}{
		{"five thousand requests, a tenth of them given up", func(t *testing.T, c *http.Client, url string) {
			for range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				req, _ := http.NewRequestWithContext(ctx, "GET", url+"/slow", nil)
				var wg sync.WaitGroup
				wg.Go(func() {
					if resp, err := c.Do(req); err == nil {
						_ = resp.Body.Close()
					}
				})
				for range 9 {
					get(t, c, "GET", url+"/", nil)
				}
				cancel()
				wg.Wait()
			}
		}},
		{"answers of many megabytes", func(t *testing.T, c *http.Client, url string) {
			for range 8 {
				if n := get(t, c, "GET", url+"/big", nil); n != len(big) {
					t.Fatalf("%d bytes", n)
				}
			}
		}},
		{"bodies of many megabytes", func(t *testing.T, c *http.Client, url string) {
			for range 3 {
				if n := get(t, c, "POST", url+"/", bytes.NewReader(big)); n != len(big) {
					t.Fatalf("%d bytes", n)
				}
			}
		}},
		{"bodies nobody reads", func(t *testing.T, c *http.Client, url string) {
			for range 600 {
				get(t, c, "POST", url+"/refused", bytes.NewReader(big[:200<<10]))
			}
		}},
		{"a conversation of five thousand short messages", func(t *testing.T, c *http.Client, url string) {
			pr, pw := io.Pipe()
			req, _ := http.NewRequestWithContext(t.Context(), "POST", url+"/echo", pr)
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b := make([]byte, 5)
			for range 5000 {
				if _, err := pw.Write(b); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, b); err != nil {
					t.Fatal(err)
				}
			}
			_ = pw.Close()
		}},
		{"five thousand messages of gRPC with nothing in them", func(t *testing.T, c *http.Client, url string) {
			pr, pw := io.Pipe()
			go func() {
				for range 5000 {
					_, _ = pw.Write(make([]byte, 5))
				}
				_ = pw.Close()
			}()
			if n := get(t, c, "POST", url+"/", pr); n != 5*5000 {
				t.Fatalf("%d bytes", n)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, client := newTLSFront(t, http1.Config{}, handler)
			var dialed atomic.Int64
			tr := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed.Add(1)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: 2 * time.Minute}
			get(t, c, "GET", "https://"+f.addr+"/", nil)
			tt.do(t, c, "https://"+f.addr)
			if r := f.refusals(); len(r) > 0 {
				t.Errorf("recorded %+v", r)
			}
			if n := dialed.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func get(t *testing.T, c *http.Client, method, url string, body io.Reader) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}
