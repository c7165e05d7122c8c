package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

// recorded is what a service saw.
type recorded struct {
	method, uri, host, body, proto string
	header, trailer                http.Header
}

// recordingService notes each request and answers 200. It speaks HTTP/1.1, or,
// with h2c, HTTP/2 in the clear.
func recordingService(t testing.TB, h2c bool) (url string, seen chan recorded) {
	t.Helper()
	seen = make(chan recorded, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h := r.Header.Clone()
		if r.ContentLength >= 0 && len(r.TransferEncoding) == 0 && r.Method != "GET" {
			h.Set("Content-Length", r.Header.Get("Content-Length"))
		}
		seen <- recorded{r.Method, r.RequestURI, r.Host, string(b), r.Proto, h, r.Trailer.Clone()}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(!h2c)
	s.Config.Protocols.SetUnencryptedHTTP2(h2c)
	s.Start()
	t.Cleanup(s.Close)
	if h2c {
		return strings.Replace(s.URL, "http:", "h2c:", 1), seen
	}
	return s.URL, seen
}

// bothLanes runs check with a service that speaks HTTP/1.1 and with one that
// speaks HTTP/2: what a service sees must not depend on the lane.
func bothLanes(t *testing.T, check func(t *testing.T, url string, seen chan recorded)) {
	t.Helper()
	for name, h2c := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			url, seen := recordingService(t, h2c)
			check(t, url, seen)
		})
	}
}

// sendOut forwards one request made of edit, without a listener in front.
func sendOut(t testing.TB, cfg gateway.UpstreamConfig, edit func(*gateway.Outbound)) (*httptest.ResponseRecorder, gateway.Result, error) {
	t.Helper()
	u, err := gateway.NewUpstreams(cfg, minter{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Release()
	w := httptest.NewRecorder()
	x := &gateway.Outbound{
		Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), Path: "/", Audience: "orders", Decision: "d1",
		ClientAddr: netip.MustParseAddr("2001:db8::7"), Proto: "https", Host: "api.example.com:8443",
	}
	edit(x)
	res, err := u.Forward(w, x)
	return w, res, err
}

func TestRequestFields(t *testing.T) {
	hostile := http.Header{}
	for line := range strings.SplitSeq(`Connection: close, X-Listed
Keep-Alive: timeout=5
Proxy-Authorization: Basic xyz
Proxy: http://evil
Te: gzip
Trailer: X-T
Upgrade: h2c
Http2-Settings: AAMAAABkAAQAAP__
Expect: 100-continue
Forwarded: for=10.0.0.1
X-Forwarded-For: 10.0.0.1
X-Forwarded-Host: evil
X-Forwarded-Proto: https
X-Forwarded-User: admin
X-Real-Ip: 10.0.0.1
X-Forwarded: for=10.0.0.1
X-Client-Ip: 10.0.0.1
X-Cluster-Client-Ip: 10.0.0.1
True-Client-Ip: 10.0.0.1
Cf-Connecting-Ip: 10.0.0.1
Fastly-Client-Ip: 10.0.0.1
Client-Cert: :AAAA:
Client-Cert-Chain: :AAAA:
X-Client-Cert: AAAA
X-Original-Url: /admin
X-Original-Uri: /admin
X-Original-Path: /admin
X-Original-Host: evil
X-Original-Method: DELETE
X-Http-Destinationurl: /admin
X-Host: evil
X-Http-Method: DELETE
X-Method-Override: DELETE
Tracestate: evil=1
X-Envoy-Original-Path: /admin
X-Override-Url: /admin
X-Remote-User: admin
Remote-User: admin
X-Auth-Request-Email: admin@example.com
X-Authenticated-Userid: 1
X-Webauth-User: admin
X-Consumer-Username: admin
X-Ms-Client-Principal: e30=
X-Amzn-Oidc-Identity: admin
X-Middleware-Subrequest: middleware
X-Accel-Mapping: /=/etc
Forwarded-For: 10.0.0.1
X-Rewrite-Url: /admin
X-Http-Method-Override: DELETE
Gatehouse-Decision: forged
X_Under: 1
X-Listed: 1
Authorization: Bearer caller
Cookie: session=1
X-Api-Key: gk_live_1
Dpop: proof
X-Kept: 1
Accept: application/json`, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		hostile[name] = []string{value}
	}
	kept := []string{
		"X-Kept", "Accept", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
		"Traceparent", "X-Request-Id", "Gatehouse-Decision", "User-Agent", "Accept-Encoding",
	}

	bothLanes(t, func(t *testing.T, url string, seen chan recorded) {
		for _, c := range []struct {
			name  string
			token gateway.TokenMode
			who   *gatehouse.Principal
			auth  string
			also  []string
		}{
			{"the caller's credential is replaced by ours", gateway.TokenInternal, &gatehouse.Principal{Subject: "alice", Method: gatehouse.MethodJWT}, "Bearer internal.alice.orders", []string{"Authorization"}},
			{"nobody gets no token, and keeps none", gateway.TokenInternal, nil, "", nil},
			{"none removes the credential", gateway.TokenNone, &gatehouse.Principal{Subject: "alice", Method: gatehouse.MethodJWT}, "", nil},
			{"pass leaves it", gateway.TokenPass, nil, "Bearer caller", []string{"Authorization", "Cookie", "X-Api-Key", "Dpop"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				cfg := gateway.UpstreamConfig{URLs: []string{url}, Token: c.token, Credentials: []string{"x-api-key"}}
				_, _, err := sendOut(t, cfg, func(x *gateway.Outbound) { x.Request.Header, x.Principal = hostile.Clone(), c.who })
				if err != nil {
					t.Fatal(err)
				}
				got := <-seen
				for name := range got.header {
					if !slices.Contains(kept, name) && !slices.Contains(c.also, name) {
						t.Errorf("the service saw %s: %q", name, got.header[name])
					}
				}
				for name, want := range map[string]string{
					"Authorization": c.auth, "X-Kept": "1", "Via": "1.1 gatehouse",
					"Forwarded":       `for="[2001:db8::7]";host="api.example.com:8443";proto=https`,
					"X-Forwarded-For": "2001:db8::7", "X-Forwarded-Host": "api.example.com:8443", "X-Forwarded-Proto": "https",
					"Gatehouse-Decision": "d1", "X-Request-Id": "d1",
				} {
					if v := got.header[name]; strings.Join(v, "|") != want {
						t.Errorf("%s is %q, want %q", name, v, want)
					}
				}
			})
		}
	})
}

func TestRequestLineBodyAndHost(t *testing.T) {
	bothLanes(t, func(t *testing.T, url string, seen chan recorded) {
		big := strings.Repeat("b", 300<<10)
		for _, c := range []struct {
			name string
			base string
			cfg  func(*gateway.UpstreamConfig)
			edit func(*gateway.Outbound)
			want recorded
		}{
			{"the path is sent as it is", "", nil, func(x *gateway.Outbound) { x.Path, x.RawQuery = "/a%2Fb/%C3%A4;x=1", "q=%20&r" }, recorded{method: "GET", uri: "/a%2Fb/%C3%A4;x=1?q=%20&r"}},
			{"two slashes stay two", "", nil, func(x *gateway.Outbound) { x.Path = "//a" }, recorded{method: "GET", uri: "//a"}},
			{"behind the upstream's own path", "/base/", nil, func(x *gateway.Outbound) { x.Path = "/a" }, recorded{method: "GET", uri: "/base/a"}},
			{"a body", "", nil, func(x *gateway.Outbound) { x.Request.Method, x.Body = "POST", []byte("hello") }, recorded{method: "POST", uri: "/", body: "hello"}},
			{"a long body", "", nil, func(x *gateway.Outbound) { x.Request.Method, x.Body = "PUT", []byte(big) }, recorded{method: "PUT", uri: "/", body: big}},
			{"a stream of known length", "", nil, func(x *gateway.Outbound) {
				x.Request.Method, x.Stream, x.Length = "POST", strings.NewReader(big), int64(len(big))
			}, recorded{method: "POST", uri: "/", body: big}},
			{"a stream of unknown length", "", nil, func(x *gateway.Outbound) {
				x.Request.Method, x.Stream, x.Length = "POST", io.MultiReader(strings.NewReader("a"), strings.NewReader(big)), -1
			}, recorded{method: "POST", uri: "/", body: "a" + big}},
			{"an empty POST", "", nil, func(x *gateway.Outbound) { x.Request.Method = "POST" }, recorded{method: "POST", uri: "/"}},
			{"the caller's host on request", "", func(c *gateway.UpstreamConfig) { c.OriginalHost = true }, func(*gateway.Outbound) {}, recorded{method: "GET", uri: "/", host: "api.example.com:8443"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				cfg := none(url + c.base)
				if c.cfg != nil {
					c.cfg(&cfg)
				}
				_, _, err := sendOut(t, cfg, c.edit)
				if err != nil {
					t.Fatal(err)
				}
				got := <-seen
				host := c.want.host
				if host == "" {
					_, host, _ = strings.Cut(url, "://")
				}
				if got.method != c.want.method || got.uri != c.want.uri || got.body != c.want.body || got.host != host {
					t.Fatalf("the service saw %s %s of %s with %d bytes", got.method, got.uri, got.host, len(got.body))
				}
			})
		}
	})
}

func TestReplacedFields(t *testing.T) {
	bothLanes(t, func(t *testing.T, url string, seen chan recorded) {
		_, _, err := sendOut(t, none(url), func(x *gateway.Outbound) {
			x.Request.Header = http.Header{"X-Limit": {"007"}, "Content-Encoding": {"gzip"}, "Cookie": {"a=1; b=2"}, "Accept-Encoding": {"gzip"}}
			x.Header = http.Header{"X-Limit": {"7"}, "Content-Encoding": nil}
			x.Cookie = "a=1"
			x.CheckResponse = func(int, http.Header, []byte) error { return nil }
		})
		if err != nil {
			t.Fatal(err)
		}
		h := (<-seen).header
		if h.Get("X-Limit") != "7" || h["Content-Encoding"] != nil || h.Get("Cookie") != "a=1" || h.Get("Accept-Encoding") != "identity" {
			t.Fatalf("the service saw %v", h)
		}
	})
}

func TestNothingBreaksOutOfItsLine(t *testing.T) {
	bothLanes(t, func(t *testing.T, url string, seen chan recorded) {
		for name, edit := range map[string]func(*gateway.Outbound){
			"a value":             func(x *gateway.Outbound) { x.Header = http.Header{"X-A": {"1\r\nX-Admin: 1"}} },
			"a value with LF":     func(x *gateway.Outbound) { x.Header = http.Header{"X-A": {"1\nX-Admin: 1"}} },
			"a name":              func(x *gateway.Outbound) { x.Header = http.Header{"X-A: 1\r\nX-Admin": {"1"}} },
			"a cookie":            func(x *gateway.Outbound) { x.Cookie = "a=1\r\nX-Admin: 1" },
			"a path":              func(x *gateway.Outbound) { x.Path = "/ HTTP/1.1\r\nX-Admin: 1" },
			"a query":             func(x *gateway.Outbound) { x.RawQuery = "a\r\nX-Admin: 1" },
			"a host":              func(x *gateway.Outbound) { x.Host = "a\r\nX-Admin: 1" },
			"a decision":          func(x *gateway.Outbound) { x.Decision = "a\r\nX-Admin: 1" },
			"a field as it was":   func(x *gateway.Outbound) { x.Request.Header = http.Header{"X-A": {"1\x00\r\n"}} },
			"a path with a blank": func(x *gateway.Outbound) { x.Path = "/a HTTP/1.1" },
			"a framing field":     func(x *gateway.Outbound) { x.Header = http.Header{"Transfer-Encoding": {"chunked"}} },
			"a hidden one":        func(x *gateway.Outbound) { x.Header = http.Header{"content-length": {"5"}} },
			"a relative path":     func(x *gateway.Outbound) { x.Path = "admin" },
			"an absent path":      func(x *gateway.Outbound) { x.Path = "" },
		} {
			t.Run(name, func(t *testing.T) {
				_, res, err := sendOut(t, none(url), edit)
				if p := gatehouse.AsProblem(err); p == nil || p.Kind != gatehouse.Internal || res.Committed {
					t.Fatalf("got %v, %+v", err, res)
				}
				if len(seen) > 0 {
					t.Fatalf("the service saw %+v", <-seen)
				}
			})
		}
	})
}

func TestTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	url, seen := recordingService(t, false)
	for _, c := range []struct {
		name string
		in   []string
		kept bool
	}{
		{"a valid one goes on with a new parent", []string{good}, true},
		{"none begins a trace", nil, false},
		{"two are none", []string{good, good}, false},
		{"a zero trace is none", []string{"00-00000000000000000000000000000000-b7ad6b7169203331-01"}, false},
		{"a zero parent is none", []string{"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}, false},
		{"upper case is none", []string{strings.ToUpper(good)}, false},
		{"another version is none", []string{"01" + good[2:]}, false},
		{"a longer one is none", []string{good + "-x"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, res, err := sendOut(t, none(url), func(x *gateway.Outbound) {
				x.Request.Header = http.Header{"Traceparent": c.in, "Tracestate": {"a=1"}}
			})
			if err != nil {
				t.Fatal(err)
			}
			h := (<-seen).header
			tp := h.Get("Traceparent")
			if len(tp) != 55 || tp[3:35] != res.TraceID || tp[36:52] == good[36:52] {
				t.Fatalf("sent %q, told %q", tp, res.TraceID)
			}
			if (res.TraceID == good[3:35]) != c.kept || (h.Get("Tracestate") == "a=1") != c.kept {
				t.Fatalf("sent %q and %q", tp, h.Get("Tracestate"))
			}
		})
	}
}

func TestAnswerFields(t *testing.T) {
	const says = "HTTP/1.1 200 OK\r\nServer: Apache/2.4.1\r\nX-Powered-By: PHP/5\r\nConnection: X-Listed\r\nX-Listed: 1\r\nKeep-Alive: timeout=5\r\n" +
		"Proxy-Authenticate: Basic\r\nAlt-Svc: h3=\":443\"\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" +
		"RateLimit: theirs\r\nVary: Origin\r\nGatehouse-Decision: forged\r\nx-lower: v\r\nContent-Length: 2\r\n\r\nok"
	url := rawUpstream(t, say(says))
	for name, check := range map[string]func(int, http.Header, []byte) error{
		"as it comes": nil,
		"checked":     func(int, http.Header, []byte) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			u, err := gateway.NewUpstreams(none(url), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Release()
			w := httptest.NewRecorder()
			w.Header()["Ratelimit"] = []string{"ours"}
			w.Header()["Vary"] = []string{"Authorization"}
			_, err = u.Forward(w, &gateway.Outbound{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), Path: "/", CheckResponse: check})
			if err != nil {
				t.Fatal(err)
			}
			want := http.Header{
				"Date": {"Mon, 23 Nov 2026 12:00:00 GMT"}, "Set-Cookie": {"a=1", "b=2"}, "Ratelimit": {"ours"}, "Vary": {"Authorization", "Origin"},
				"X-Lower": {"v"}, "Content-Length": {"2"}, "X-Content-Type-Options": {"nosniff"}, "Content-Type": nil,
			}
			for name, v := range w.Header() {
				if !slices.Equal(v, want[name]) {
					t.Errorf("the caller got %s: %q, want %q", name, v, want[name])
				}
				delete(want, name)
			}
			for name := range want {
				t.Errorf("the caller missed %s", name)
			}
		})
	}
}

func TestCheckedAnswers(t *testing.T) {
	long := strings.Repeat("x", 5000)
	refuse := &gatehouse.Problem{Kind: gatehouse.BadUpstream, Reason: "response_invalid"}
	for _, c := range []struct {
		name, says string
		report     bool
		refuse     bool
		reason     string
		body       string
	}{
		{name: "what passes is sent", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", body: "ok"},
		{name: "what is refused is not", says: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", refuse: true, reason: "response_invalid"},
		{name: "what is too long is refused", says: "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + long, reason: "upstream_unchecked"},
		{name: "or sent unchecked in report mode", says: "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + long, report: true, refuse: true, body: long},
		{name: "an event stream is refused", says: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\nok", reason: "upstream_unchecked"},
		{name: "or sent unchecked too", says: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\nok", report: true, refuse: true, body: "ok"},
		{name: "half an answer is refused", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n", reason: "upstream_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var saw string
			w, res, err := sendOut(t, none(rawUpstream(t, say(c.says))), func(x *gateway.Outbound) {
				x.CheckLimit, x.CheckReport = 1000, c.report
				x.CheckResponse = func(_ int, _ http.Header, b []byte) error {
					if saw = string(b); c.refuse {
						return refuse
					}
					return nil
				}
			})
			if c.reason != "" {
				if p := gatehouse.AsProblem(err); p == nil || p.Reason != c.reason || res.Committed || w.Body.Len() > 0 {
					t.Fatalf("got %v, %+v, %q", err, res, w.Body)
				}
				return
			}
			if err != nil || w.Body.String() != c.body || !c.report && saw != c.body {
				t.Fatalf("got %v, %.20q; checked %.20q", err, w.Body, saw)
			}
		})
	}
}

// A caller that breaks off its body must not leave the service with a whole one.
func TestABodyThatBreaksOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		length int64
		err    error
		reason string
	}{
		{"in chunks", -1, errors.New("connection reset"), "client_gone"},
		{"before its length", 50, errors.New("connection reset"), "client_gone"},
		{"because it is too long", -1, &http.MaxBytesError{Limit: 5}, "body_too_large"},
	} {
		for _, h2c := range []bool{false, true} {
			t.Run(c.name+map[bool]string{false: " over HTTP/1.1", true: " over HTTP/2"}[h2c], func(t *testing.T) {
				ended := make(chan error, 1)
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, err := io.ReadAll(r.Body)
					ended <- err
				}))
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetHTTP1(!h2c)
				s.Config.Protocols.SetUnencryptedHTTP2(h2c)
				s.Start()
				url := s.URL
				if h2c {
					url = strings.Replace(url, "http:", "h2c:", 1)
				}
				_, res, err := sendOut(t, none(url), func(x *gateway.Outbound) {
					x.Request.Method, x.Length = "POST", c.length
					x.Stream = io.MultiReader(strings.NewReader("hello"), failingReader{c.err})
				})
				if p := gatehouse.AsProblem(err); p == nil || p.Reason != c.reason || res.Committed {
					t.Fatalf("got %v, %+v", err, res)
				}
				s.Close() // waits for the handler, if it was ever called
				select {
				case err := <-ended:
					if err == nil {
						t.Fatal("the service took half a body for whole")
					}
				default:
				}
			})
		}
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// A service may answer before it has the whole request.
func TestAnEarlyAnswer(t *testing.T) {
	url := rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	f := newFront(t, none(url), nil)
	s := f.start()
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL, r)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = w.Write([]byte("the beginning of much")) }()
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 413 || string(b) != "no" {
		t.Fatalf("got %d %q", res.StatusCode, b)
	}
	if _, err := f.result(); err != nil {
		t.Fatal(err)
	}
}

func TestRequestID(t *testing.T) {
	url, seen := recordingService(t, false)
	for _, c := range []struct {
		name     string
		in       []string
		decision string
		want     string // "": the trace's id
	}{
		{"the caller's goes on", []string{"abc-123_4.5:6"}, "d1", "abc-123_4.5:6"},
		{"without one the decision's does", nil, "d1", "d1"},
		{"one that could forge a log line does not", []string{"a\tb"}, "d1", "d1"},
		{"nor one with a quote", []string{`a"b`}, "d1", "d1"},
		{"nor an empty one", []string{""}, "d1", "d1"},
		{"nor a long one", []string{strings.Repeat("a", 129)}, "d1", "d1"},
		{"nor two", []string{"a", "b"}, "d1", "d1"},
		{"without any the trace's does", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, res, err := sendOut(t, none(url), func(x *gateway.Outbound) {
				x.Request.Header, x.Decision = http.Header{"X-Request-Id": c.in}, c.decision
			})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				c.want = res.TraceID
			}
			if got := (<-seen).header["X-Request-Id"]; len(got) != 1 || got[0] != c.want {
				t.Fatalf("the service saw %q, want %q", got, c.want)
			}
		})
	}
}
