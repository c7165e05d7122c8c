package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A framed is one connection of a service that speaks HTTP/2 by hand.
type framed struct {
	*http2.Framer
	conn net.Conn
	n    int // which connection it is, from 1
}

func (f *framed) head(stream uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

// byFrames runs a service whose answers are frames that script writes when a
// request is whole.
func byFrames(t testing.TB, script func(f *framed, stream uint32)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				f := &framed{Framer: http2.NewFramer(c, c), conn: c, n: n}
				_ = f.WriteSettings()
				for {
					fr, err := f.ReadFrame()
					if err != nil {
						return
					}
					switch fr := fr.(type) {
					case *http2.SettingsFrame:
						if !fr.IsAck() {
							_ = f.WriteSettingsAck()
						}
					case *http2.HeadersFrame:
						if fr.StreamEnded() {
							script(f, fr.StreamID)
						}
					case *http2.DataFrame:
						if fr.StreamEnded() {
							script(f, fr.StreamID)
						}
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "h2c://" + l.Addr().String()
}

func TestAnHTTP2ServiceThatBreaksOff(t *testing.T) {
	ok := func(f *framed, stream uint32) {
		f.head(stream, false, ":status", "200", "content-length", "8")
		_ = f.WriteData(stream, true, []byte("complete"))
	}
	for _, tt := range []struct {
		name   string
		script func(f *framed, stream uint32)
		want   string // "" when the caller must not take it for whole
	}{
		{"GOAWAY while an answer is under way lets it end", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200")
			_ = f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			_ = f.WriteData(stream, true, []byte("complete"))
		}, "complete"},
		{"GOAWAY that leaves the request out has it asked again", func(f *framed, stream uint32) {
			if f.n > 1 {
				ok(f, stream)
				return
			}
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			_ = f.conn.Close()
		}, "complete"},
		{"REFUSED_STREAM has it asked again", func(f *framed, stream uint32) {
			if stream > 1 || f.n > 1 {
				ok(f, stream)
				return
			}
			_ = f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		}, "complete"},
		{"an answer of known length that is reset", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200", "content-length", "8")
			_ = f.WriteData(stream, false, []byte("comp"))
			_ = f.WriteRSTStream(stream, http2.ErrCodeInternal)
		}, ""},
		{"an answer of unknown length that is reset", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200")
			_ = f.WriteData(stream, false, []byte("comp"))
			_ = f.WriteRSTStream(stream, http2.ErrCodeCancel)
		}, ""},
		{"an answer that is reset without an error", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200")
			_ = f.WriteData(stream, false, []byte("comp"))
			_ = f.WriteRSTStream(stream, http2.ErrCodeNo)
		}, ""},
		{"an answer whose connection ends", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200")
			_ = f.WriteData(stream, false, []byte("comp"))
			_ = f.conn.Close()
		}, ""},
		{"an answer that ends before its length", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200", "content-length", "8")
			_ = f.WriteData(stream, true, []byte("comp"))
		}, ""},
	} {
		for _, front2 := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				f := newFront(t, none(byFrames(t, tt.script)), func(x *gateway.Outbound) { x.Stream = nil })
				s := f.start
				if front2 {
					s = f.startTLS
				}
				at := s()
				for range 2 { // the second finds what the first left
					resp, err := at.Client().Get(at.URL + "/")
					if err != nil {
						if tt.want != "" {
							t.Fatal(err)
						}
						continue
					}
					b, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					whole := err == nil && resp.StatusCode == http.StatusOK
					if tt.want == "" && whole || tt.want != "" && (!whole || string(b) != tt.want) {
						t.Fatalf("%d %q, %v", resp.StatusCode, b, err)
					}
				}
			})
		}
	}
}

// What a gRPC client makes of a service that gives up.
func TestGRPCStatusOfAServiceThatGivesUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script func(f *framed, stream uint32)
		want   codes.Code
	}{
		{"a reset before the answer", func(f *framed, stream uint32) {
			_ = f.WriteRSTStream(stream, http2.ErrCodeInternal)
		}, codes.Unavailable},
		{"a reset behind the head", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200", "content-type", "application/grpc")
			_ = f.WriteRSTStream(stream, http2.ErrCodeCancel)
		}, codes.Internal},
		{"an end without a status", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200", "content-type", "application/grpc")
			_ = f.WriteData(stream, true, []byte("\x00\x00\x00\x00\x02\x08\x01"))
		}, codes.Internal},
		{"a status in trailers", func(f *framed, stream uint32) {
			f.head(stream, false, ":status", "200", "content-type", "application/grpc")
			f.head(stream, true, "grpc-status", "9", "grpc-message", "not now")
		}, codes.FailedPrecondition},
		{"a status and nothing else", func(f *framed, stream uint32) {
			f.head(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "8")
		}, codes.ResourceExhausted},
		{"no answer until the caller's deadline", func(*framed, uint32) {}, codes.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := healthpb.NewHealthClient(dialGRPC(t, newFront(t, none(byFrames(t, tt.script)), nil)))
			patience := 20 * time.Second
			if tt.want == codes.DeadlineExceeded {
				patience = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
			if got := status.Code(err); got != tt.want {
				t.Errorf("got %v: %v", got, err)
			}
		})
	}
}

// dialGRPC connects gRPC's own client to f behind our own listener.
func dialGRPC(t testing.TB, f *front) *grpc.ClientConn {
	t.Helper()
	dressing := f.startTLS() // for its certificate
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := http1.NewServer(http1.Config{}, f)
	var served sync.WaitGroup
	served.Go(func() {
		conf := dressing.TLS.Clone()
		conf.NextProtos = nil
		_ = own.Serve(l, conf)
	})
	creds := credentials.NewTLS(dressing.Client().Transport.(*http.Transport).TLSClientConfig.Clone())
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(creds), grpc.WithAuthority("example.com"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		_ = own.Close()
		served.Wait()
	})
	return cc
}

// grpcService is gRPC's own health service in the clear.
func grpcService(t testing.TB) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return "h2c://" + l.Addr().String()
}

func TestLargeBodiesOverHTTP2BothWays(t *testing.T) {
	const size = 6 << 20
	f := newFront(t, none(service(t, true, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })), nil)
	s := f.startTLS()
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, io.LimitReader(zeros{}, size))
		_ = pw.CloseWithError(err)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestACallersGoingReachesTheHTTP2Service(t *testing.T) {
	begun, gone := make(chan string, 1), make(chan error, 1)
	f := newFront(t, none(service(t, true, func(_ http.ResponseWriter, r *http.Request) {
		begun <- r.Header.Get("Grpc-Timeout")
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(10 * time.Second):
			gone <- errors.New("it was not told")
		}
	})), nil)
	s := f.startTLS()
	at, _ := url.Parse(s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", "https://"+at.Host+"/", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"5S"}}
	var asked sync.WaitGroup
	asked.Go(func() {
		if resp, err := s.Client().Do(req); err == nil {
			_ = resp.Body.Close()
		}
	})
	if got := <-begun; got != "5S" {
		t.Errorf("the deadline arrived as %q", got)
	}
	cancel()
	asked.Wait()
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

func BenchmarkGRPCUnary(b *testing.B) {
	for _, direct := range []bool{true, false} {
		name := "through the gateway"
		if direct {
			name = "without it"
		}
		b.Run(name, func(b *testing.B) {
			to := grpcService(b)
			var client healthpb.HealthClient
			if direct {
				cc, err := grpc.NewClient(strings.TrimPrefix(to, "h2c://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					b.Fatal(err)
				}
				defer cc.Close()
				client = healthpb.NewHealthClient(cc)
			} else {
				client = healthpb.NewHealthClient(dialGRPC(b, newFront(b, none(to), nil)))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
