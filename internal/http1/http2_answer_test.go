package http1_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// records counts the records of TLS that carry data, as they come.
type records struct {
	net.Conn
	n, bytes *atomic.Int64
	head     []byte
	left     int
}

func (r *records) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if r.left > 0 {
			m := min(r.left, len(b))
			r.left -= m
			b = b[m:]
			continue
		}
		m := min(5-len(r.head), len(b))
		r.head = append(r.head, b[:m]...)
		if b = b[m:]; len(r.head) == 5 {
			r.left = int(r.head[3])<<8 | int(r.head[4])
			if r.head[0] == 23 {
				r.n.Add(1)
				r.bytes.Add(int64(r.left))
			}
			r.head = r.head[:0]
		}
	}
	return n, err
}

func TestAnHTTP2AnswerLeavesInFewRecords(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 802
		if r.URL.Path == "/large" {
			n = 320 << 10
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), n))
	}))
	var n, total atomic.Int64
	tr := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &records{Conn: c, n: &n, bytes: &total}, err
	}}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	get(t, c, "GET", "https://"+f.addr+"/", nil)
	n.Store(0)
	const rounds = 20
	for range rounds {
		get(t, c, "GET", "https://"+f.addr+"/", nil)
	}
	if got := n.Load(); got > rounds+2 {
		t.Errorf("%d answers of 802 bytes came in %d records", rounds, got)
	}
	n.Store(0)
	total.Store(0)
	get(t, c, "GET", "https://"+f.addr+"/large", nil)
	if got, most := n.Load(), total.Load()/(16<<10)+4; got > most {
		t.Errorf("%d bytes came in %d records", total.Load(), got)
	}
}

// What a peer may wait for is never held back.
func TestAnHTTP2HeadThatIsAwaitedIsNotHeld(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			<-r.Context().Done()
		case "/flush":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/no-body":
			w.WriteHeader(http.StatusNoContent)
		case "/expect":
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}
	}))
	for _, path := range []string{"/hints", "/flush", "/no-body"} {
		t.Run(path, func(t *testing.T) {
			p := newRawPeer(t, f, client)
			p.head = rawHead(":method", "GET", ":scheme", "https", ":authority", "a", ":path", path)
			if err := p.open(true); err != nil {
				t.Fatal(err)
			}
			select {
			case fr := <-p.seen:
				if fr.kind != http2.FrameHeaders {
					t.Fatalf("%v came, and no head", fr.kind)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("no head came")
			}
		})
	}
	t.Run("expect", func(t *testing.T) {
		tr := &http.Transport{TLSClientConfig: client.Clone(), ForceAttemptHTTP2: true, ExpectContinueTimeout: time.Minute}
		defer tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", "https://"+f.addr+"/expect", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); string(b) != "body" {
			t.Errorf("answered %q", b)
		}
	})
}

func TestAStalledHTTP2BodyIsCut(t *testing.T) {
	const idle = 50 * time.Millisecond
	got := make(chan error, 1)
	f, client := newTLSFront(t, http1.Config{BodyIdle: idle}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		got <- err
	}))
	tr := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	for _, tt := range []struct {
		name, contentType string
		streams           bool // and may be silent
	}{
		{"one without a type", "", false},
		{"JSON", "application/json", false},
		{"gRPC-Web, which does not stream", "application/grpc-web+proto", false},
		{"gRPC may be silent", "application/grpc", true},
		{"gRPC of a format may be silent", "application/grpc+proto", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pr, pw := io.Pipe()
			defer pw.Close()
			go func() {
				_, _ = io.WriteString(pw, "first")
				if tt.streams {
					<-time.After(4 * idle)
					_ = pw.Close()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", "https://"+f.addr+"/", pr)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.contentType)
			if resp, err := tr.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
			err = <-got
			if tt.streams && err != nil || !tt.streams && gatehouse.AsProblem(err).Reason != "body_timeout" {
				t.Fatalf("the handler read %v", err)
			}
		})
	}
}
