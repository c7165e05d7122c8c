package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// service runs h as a service that speaks HTTP/1.1 or HTTP/2 in the clear.
func service(t testing.TB, h2c bool, h http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(!h2c)
	s.Config.Protocols.SetUnencryptedHTTP2(h2c)
	s.Start()
	t.Cleanup(s.Close)
	if h2c {
		return strings.Replace(s.URL, "http:", "h2c:", 1)
	}
	return s.URL
}

// startTLS puts f behind a listener that speaks HTTP/2.
func (f *front) startTLS() *httptest.Server {
	s := httptest.NewUnstartedServer(f)
	s.EnableHTTP2 = true
	s.StartTLS()
	f.t.Cleanup(s.Close)
	return s
}

// eachWay runs check for all that may be in front, our own listener among them,
// and both versions behind.
func eachWay(t *testing.T, h http.HandlerFunc, edit func(*gateway.Outbound), check func(t *testing.T, c *http.Client, url string, f *front)) {
	t.Helper()
	for _, h2c := range []bool{false, true} {
		for _, way := range []string{"net/http", "HTTP/2", "our listener"} {
			t.Run(fmt.Sprintf("%s in front, HTTP/2 behind %v", way, h2c), func(t *testing.T) {
				f := newFront(t, none(service(t, h2c, h)), edit)
				switch way {
				case "net/http":
					s := f.start()
					check(t, s.Client(), s.URL, f)
				case "HTTP/2":
					s := f.startTLS()
					check(t, s.Client(), s.URL, f)
				default:
					tr := &http.Transport{}
					defer tr.CloseIdleConnections()
					check(t, &http.Client{Transport: tr}, f.startOwn(), f)
				}
			})
		}
	}
}

// startOwn puts f behind our own listener and gives its URL.
func (f *front) startOwn() string {
	f.own = true
	l := must[net.Listener](f.t)(net.Listen("tcp", "127.0.0.1:0"))
	own := http1.NewServer(http1.Config{MaxConns: 100}, f)
	var served sync.WaitGroup
	served.Go(func() { _ = own.Serve(l, nil) })
	f.t.Cleanup(func() { _ = own.Close(); served.Wait() })
	return "http://" + l.Addr().String()
}

func TestEventsComeAtOnce(t *testing.T) {
	next := make(chan string)
	eachWay(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for e := range next {
			if e == "" {
				return
			}
			_, _ = io.WriteString(w, "data: "+e+"\n\n")
			w.(http.Flusher).Flush()
		}
	}, nil, func(t *testing.T, c *http.Client, url string, f *front) {
		go func() { next <- "1" }()
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		br := bufio.NewReader(res.Body)
		for _, e := range []string{"1", "2", "3"} { // each is read before the next is sent
			if e != "1" {
				next <- e
			}
			if line, err := br.ReadString('\n'); err != nil || line != "data: "+e+"\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			_, _ = br.ReadString('\n')
		}
		next <- ""
		if _, err := br.ReadByte(); err != io.EOF {
			t.Fatal(err)
		}
		if _, err := f.result(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTrailersGoBothWays(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, Content-Length")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In")+"/"+r.Trailer.Get("X-Real-Ip"))
	}, nil, func(t *testing.T, c *http.Client, url string, f *front) {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", url, io.MultiReader(strings.NewReader("he"), strings.NewReader("llo")))
		sum := "/"
		if !f.own { // which takes none from callers
			r.Trailer, sum = http.Header{"X-In": {"5"}, "X-Real-Ip": {"10.0.0.1"}}, "5/"
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != "hello" || res.Trailer.Get("X-Sum") != sum {
			t.Fatalf("got %q, trailer %v, %v", b, res.Trailer, err)
		}
	})
}

func TestEarlyHintsArePassedOn(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</b.css>")
		_, _ = io.WriteString(w, "ok")
	}, nil, func(t *testing.T, c *http.Client, url string, f *front) {
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(status, h.Get("Link"), h.Get("Server")))
			return nil
		}})
		r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if len(hints) != 1 || hints[0] != "103</a.css>; rel=preload" || len(res.Header["Link"]) != 1 || res.Header.Get("Link") != "</b.css>" {
			t.Fatalf("hints %q, then %v", hints, res.Header)
		}
	})
}

func TestAServiceThatDiesIsNotTakenForOneThatEnded(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, nil, func(t *testing.T, c *http.Client, url string, f *front) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		res, err := c.Do(r)
		if err == nil {
			defer res.Body.Close()
			var b []byte
			if b, err = io.ReadAll(res.Body); err == nil {
				t.Fatalf("the caller took %q for whole", b)
			}
		}
		if res, err := f.result(); err == nil || !res.Committed {
			t.Fatalf("%+v, %v", res, err)
		}
	})
}

func TestACallerWhoLeavesEndsTheServicesWork(t *testing.T) {
	ended := make(chan struct{}, 1)
	eachWay(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		ended <- struct{}{}
	}, nil, func(t *testing.T, c *http.Client, url string, f *front) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		if res, err := c.Do(r); err == nil {
			_ = res.Body.Close()
			t.Fatal("an answer")
		}
		<-ended
		if _, err := f.result(); err == nil || !strings.HasPrefix(err.Error(), "client_gone") {
			t.Fatal(err)
		}
	})
}

func TestTimeouts(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}, func(x *gateway.Outbound) { x.Timeout = 30 * time.Millisecond }, func(t *testing.T, c *http.Client, url string, f *front) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url+"/head", nil)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 504 || res.Header.Get("Problem") != "upstream_timeout" {
			t.Fatalf("got %d %v", res.StatusCode, res.Header)
		}
	})
}

func TestSilenceInABodyIsCut(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		cfg := none(service(t, h2c, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		cfg.BodyIdle = 30 * time.Millisecond
		f := newFront(t, cfg, nil)
		if _, _, b, err := get(t, f.start().URL); err == nil {
			t.Fatalf("the caller took %q for whole", b)
		}
		if res, err := f.result(); err == nil || !res.Committed || !strings.HasPrefix(err.Error(), "upstream_timeout") {
			t.Fatalf("%+v, %v", res, err)
		}
	}
}

func webSocketService(t *testing.T) string {
	return service(t, false, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				_ = c.Close(websocket.StatusNormalClosure, "bye")
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	})
}

func TestWebSocket(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("our listener in front %v", own), func(t *testing.T) { webSocketEchoes(t, own) })
	}
}

func webSocketEchoes(t *testing.T, own bool) {
	f := newFront(t, none(webSocketService(t)), func(x *gateway.Outbound) { x.Upgrade = true })
	var url string
	if own {
		url = f.startOwn()
	} else {
		url = f.start().URL
	}
	c, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "chat" {
		t.Fatalf("subprotocol %q", c.Subprotocol())
	}
	c.SetReadLimit(1 << 20)
	for _, m := range []string{"a", strings.Repeat("b", 100<<10), "c"} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || string(b) != "echo "+m {
			t.Fatalf("got %.20q, %v", b, err)
		}
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Fatal(err)
	}
	if res, err := f.result(); err != nil || res.Status != 101 || !res.Committed || res.Bytes < 100<<10 {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestWebSocketIsRefused(t *testing.T) {
	t.Run("where the operation does not permit it", func(t *testing.T) {
		f := newFront(t, none(webSocketService(t)), nil)
		if _, res, err := websocket.Dial(t.Context(), f.start().URL, nil); err == nil || res.StatusCode == 101 {
			t.Fatal("switched")
		}
	})
	t.Run("when the service switches to something else", func(t *testing.T) {
		f := newFront(t, none(rawUpstream(t, say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))), func(x *gateway.Outbound) { x.Upgrade = true })
		if _, res, err := websocket.Dial(t.Context(), f.start().URL, nil); err == nil || res.StatusCode != 502 {
			t.Fatalf("got %v, %v", res, err)
		}
	})
	t.Run("and its silence has an end", func(t *testing.T) {
		cfg := none(webSocketService(t))
		cfg.BodyIdle = 50 * time.Millisecond
		f := newFront(t, cfg, func(x *gateway.Outbound) { x.Upgrade = true })
		c, _, err := websocket.Dial(t.Context(), f.start().URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Fatal("read something")
		}
		if _, err := f.result(); err == nil || !strings.HasPrefix(err.Error(), "upgrade_idle") {
			t.Fatal(err)
		}
	})
}

// gRPC's own client and server, with the gateway between.
func TestGRPC(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS behind %v", secure), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			cfg := none("h2c://" + l.Addr().String())
			var opts []grpc.ServerOption
			if secure {
				cert := httptest.NewTLSServer(nil)
				cert.Close()
				opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&cert.TLS.Certificates[0])))
				cfg = none("https://" + l.Addr().String()) // gRPC goes by HTTP/2 of itself
				cfg.CAFile, cfg.ServerName = caFile(t, cert), "example.com"
			}
			g := grpc.NewServer(opts...)
			h := health.NewServer()
			h.SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
			healthpb.RegisterHealthServer(g, h)
			go func() { _ = g.Serve(l) }()
			t.Cleanup(g.Stop)

			front := newFront(t, cfg, nil).startTLS()
			at, _ := url.Parse(front.URL)
			creds := credentials.NewTLS(front.Client().Transport.(*http.Transport).TLSClientConfig.Clone())
			cc, err := grpc.NewClient(at.Host, grpc.WithTransportCredentials(creds), grpc.WithAuthority("example.com"))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			client := healthpb.NewHealthClient(cc)
			if r, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "orders"}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("%v, %v", r, err)
			}
			if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nowhere"}); err == nil || !strings.Contains(err.Error(), "NotFound") {
				t.Fatalf("the status in the trailer was lost: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "orders"})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
				if r, err := stream.Recv(); err != nil || r.Status != want { // each message comes when it is sent
					t.Fatalf("%v, %v", r, err)
				}
				h.SetServingStatus("orders", healthpb.HealthCheckResponse_NOT_SERVING)
			}
		})
	}
}

// caFile writes the certificate of s where a config can name it.
func caFile(t testing.TB, s *httptest.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	der := s.TLS.Certificates[0].Certificate[0]
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTLSServices(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)
	for _, c := range []struct {
		name   string
		url    string
		edit   func(*gateway.UpstreamConfig)
		proto  string
		reason string
	}{
		{"https speaks HTTP/1.1", s.URL, func(c *gateway.UpstreamConfig) { c.CAFile, c.ServerName = caFile(t, s), "example.com" }, "HTTP/1.1", ""},
		{"h2 speaks HTTP/2", strings.Replace(s.URL, "https", "h2", 1), func(c *gateway.UpstreamConfig) { c.CAFile = caFile(t, s) }, "HTTP/2.0", ""},
		{"a certificate of strangers is refused", s.URL, nil, "", "upstream_failed"},
		{"a certificate for another name is refused", s.URL, func(c *gateway.UpstreamConfig) { c.CAFile, c.ServerName = caFile(t, s), "evil.test" }, "", "upstream_failed"},
		{"old TLS is refused", old.URL, func(c *gateway.UpstreamConfig) { c.CAFile = caFile(t, old) }, "", "upstream_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := none(c.url)
			if c.edit != nil {
				c.edit(&cfg)
			}
			w, _, err := sendOut(t, cfg, func(*gateway.Outbound) {})
			if c.reason != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.reason) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || w.Body.String() != c.proto {
				t.Fatalf("got %q, %v", w.Body, err)
			}
		})
	}
}

// In HTTP/1.0 a connection's end is the body's: only a reset tells the difference.
func TestHTTP10CallersSeeThatTheServiceDied(t *testing.T) {
	f := newFront(t, none(rawUpstream(t, sayAndClose("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))), nil)
	for name, address := range map[string]string{"net/http": f.start().Listener.Addr().String(), "our listener": strings.TrimPrefix(f.startOwn(), "http://")} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(c); err == nil {
				t.Fatalf("the caller took %q for whole", b)
			}
		})
	}
}

// What one service says is refused whichever lane its neighbour came by.
func TestAnAnswerIsTheSameOverBothLanes(t *testing.T) {
	for _, c := range []struct {
		name  string
		write http.HandlerFunc
	}{
		{"a short body", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }},
		{"a long body", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }},
		{"no body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
		{"not modified", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"a"`); w.WriteHeader(304) }},
		{"an error with fields", func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h["Set-Cookie"], h["Server"], h["Vary"] = []string{"a=1", "b=2"}, []string{"x"}, []string{"A", "B"}
			http.Error(w, "no", http.StatusTeapot)
		}},
		{"a redirect, which is not followed", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }},
		{"a compressed body, which is not unpacked", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("not really"))
		}},
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(c.name+" to "+method, func(t *testing.T) {
				var got [2]string
				for i, h2c := range []bool{false, true} {
					w, res, err := sendOut(t, none(service(t, h2c, c.write)), func(x *gateway.Outbound) { x.Request.Method = method })
					w.Header().Del("Date")
					got[i] = fmt.Sprint(w.Code, res.Status, res.Bytes, res.Committed, err, w.Header(), w.Body.Len())
				}
				if got[0] != got[1] {
					t.Fatalf("HTTP/1.1: %s\nHTTP/2:   %s", got[0], got[1])
				}
			})
		}
	}
}

// endless sends a body without end until nobody takes it any more.
func endless(ended chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 64<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				ended <- struct{}{}
				return
			}
		}
	}
}

func TestACallerWhoLeavesInTheBody(t *testing.T) {
	ended := make(chan struct{}, 1)
	eachWay(t, endless(ended), nil, func(t *testing.T, c *http.Client, url string, f *front) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = res.Body.Close()
		<-ended
		if res, err := f.result(); err == nil || !res.Committed || !strings.HasPrefix(err.Error(), "client_gone") {
			t.Fatalf("%+v, %v", res, err)
		}
	})
}

// One who reads nothing must not hold a service's connection for ever.
func TestACallerWhoDoesNotRead(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("our listener in front %v", own), func(t *testing.T) { callerDoesNotRead(t, own) })
	}
}

func callerDoesNotRead(t *testing.T, own bool) {
	ended := make(chan struct{}, 1)
	cfg := none(service(t, false, endless(ended)))
	cfg.BodyIdle = 100 * time.Millisecond
	f := newFront(t, cfg, nil)
	var address string
	if own {
		address = strings.TrimPrefix(f.startOwn(), "http://")
	} else {
		address = f.start().Listener.Addr().String()
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-ended
	if res, err := f.result(); err == nil || !res.Committed {
		t.Fatalf("%+v, %v", res, err)
	}
}
