package http1_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// clientFrom speaks HTTP/2 from an address of this machine.
func clientFrom(t *testing.T, ip string, conf *tls.Config) *http.Client {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	tr := &http.Transport{TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: true, DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// However many requests one address sends over HTTP/2, not many of them are in the way
// of others for a processor; those that wait for something else do not count.
func TestOneAddressHasItsTurns(t *testing.T) {
	turns := http1.HTTP2Turns()
	for _, tt := range []struct {
		name    string
		trusted bool
		body    string // its type; "": there is none
		first   func(w http.ResponseWriter, r *http.Request)
		all     bool
	}{
		{name: "that are worked on stand in line for one another", first: func(http.ResponseWriter, *http.Request) {}},
		{name: "that wait for others do not", all: true, first: func(w http.ResponseWriter, _ *http.Request) { http1.Waits(w) }},
		{name: "that wait for others twice give one turn back", all: true, first: func(w http.ResponseWriter, _ *http.Request) {
			http1.Waits(w)
			http1.Waits(w)
		}},
		{name: "that wait for their body do not", all: true, body: "text/plain", first: func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
		}},
		{name: "that wait for a message of gRPC do not", all: true, body: "application/grpc", first: func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
		}},
		{name: "that have begun to answer do not", all: true, first: func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
		}},
		{name: "that a trusted hop brings are many callers'", trusted: true, all: true, first: func(http.ResponseWriter, *http.Request) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var inside atomic.Int64
			release := make(chan struct{})
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/quick" {
					return
				}
				inside.Add(1)
				tt.first(w, r)
				if r.Method == http.MethodGet {
					<-release
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
			})
			cfg := http1.Config{MaxStreams: 4 * turns}
			if tt.trusted {
				cfg.Trusted = func(netip.Addr) bool { return true }
			}
			f, conf := newTLSFront(t, cfg, handler)
			url := "https://" + f.addr
			flood, other := clientFrom(t, "127.0.0.1", conf), clientFrom(t, "127.0.0.2", conf)
			get(t, flood, "GET", url+"/quick", nil) // one connection for all

			var sent sync.WaitGroup
			var answered atomic.Int64
			most := 3 * turns
			for range most {
				method, body := http.MethodGet, io.Reader(nil)
				if tt.body != "" {
					pr, pw := io.Pipe()
					method, body = http.MethodPost, pr
					sent.Go(func() {
						<-release
						_ = pw.Close()
					})
				}
				req, err := http.NewRequestWithContext(t.Context(), method, url+"/hold", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", tt.body)
				sent.Go(func() {
					resp, err := flood.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					answered.Add(1)
				})
			}
			want := int64(turns)
			if tt.all {
				want = int64(most)
			}
			for deadline := time.Now().Add(20 * time.Second); inside.Load() < want && time.Now().Before(deadline); {
				get(t, other, "GET", url+"/quick", nil) // who is at another address is served meanwhile
			}
			get(t, other, "GET", url+"/quick", nil)
			if n := inside.Load(); n != want {
				t.Errorf("%d of %d are under way, want %d", n, most, want)
			}
			close(release)
			sent.Wait()
			if n := answered.Load(); n != int64(most) {
				t.Errorf("%d of %d were answered", n, most)
			}
			get(t, flood, "GET", url+"/quick", nil)
		})
	}
}

// A request that was taken back in the line never comes to the handler, and leaves
// its place to the next one.
func TestWhoGivesUpInTheLineIsNotWorkedOn(t *testing.T) {
	turns := http1.HTTP2Turns()
	inside, release := make(chan struct{}, 4*turns), make(chan struct{})
	f, conf := newTLSFront(t, http1.Config{MaxStreams: 4 * turns}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-release
	}))
	p := newRawPeer(t, f, conf)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range turns {
		do(p.open(true))
	}
	for range turns {
		<-inside
	}
	for range turns {
		do(p.open(true))
		do(p.WriteRSTStream(p.stream, http2.ErrCodeCancel))
	}
	do(p.WritePing(false, [8]byte{1}))
	for fr := range p.seen {
		if fr.kind == http2.FramePing {
			break // what came before it has been seen
		}
	}
	close(release)
	do(p.open(true))
	for fr := range p.seen {
		if fr.kind == http2.FrameHeaders && fr.stream == p.stream {
			break
		}
	}
	if n := len(inside); n != 1 {
		t.Errorf("%d requests came to the handler after those that had a turn, want the last alone", n)
	}
}
