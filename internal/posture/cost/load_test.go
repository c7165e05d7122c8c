package cost_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/posture/cost"
)

// order and tally are what the parent and its child that loads tell each other.
type order struct {
	Address     string
	Request     []byte
	Method      string
	Connections int
	For         time.Duration
}

type tally struct {
	Requests int
	Statuses map[int]int
	Bodies   map[int]string
	Seconds  float64
	P50, P99 float64
	Err      string
}

// behind serves connections with do, which answers one request.
func behind(t *testing.T, do func(w io.Writer, r *http.Request) (goesOn bool)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil || !do(c, r) {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestLoadCountsWhatWasAnswered(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		answer string
		goesOn bool
		status int
		err    string
	}{
		"a connection that is kept":              {whole, true, 200, ""},
		"a connection that ends after each":      {whole, false, 200, ""},
		"one that says so":                       {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false, 200, ""},
		"an answer in chunks":                    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true, 200, ""},
		"a refusal":                              {"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", true, 503, ""},
		"an answer without its end is an error":  {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", false, 0, "without its end"},
		"no answer is an error":                  {"", false, 0, "no answer"},
		"what is no HTTP is an error, and named": {"SSH-2.0-none\r\n\r\n", false, 0, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			address := behind(t, func(w io.Writer, _ *http.Request) bool {
				_, err := io.WriteString(w, c.answer)
				return c.goesOn && err == nil
			})
			got := load(t, order{Address: address, Request: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Method: "GET", Connections: 3, For: 10 * time.Millisecond})
			if c.err != "" {
				if !strings.Contains(got.Err, c.err) || got.Requests != 0 {
					t.Errorf("%+v, want the error %q", got, c.err)
				}
				return
			}
			if got.Err != "" || got.Requests < 3 || got.Statuses[c.status] != got.Requests || got.Seconds <= 0 || got.P50 <= 0 || got.P99 < got.P50 {
				t.Errorf("%+v", got)
			}
			if want := map[bool]string{true: "busy"}[c.status == 503]; got.Bodies[c.status] != want {
				t.Errorf("the body of the refusal is %q", got.Bodies[c.status])
			}
		})
	}
}

// A connection that was answered before may have been closed, and the request is
// sent anew; half an answer is not to be hidden so.
func TestHalfAnAnswerEndsTheLoadOnAConnectionThatIsKept(t *testing.T) {
	var asked atomic.Int64
	address := behind(t, func(w io.Writer, _ *http.Request) bool {
		if asked.Add(1) == 3 {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
			return false
		}
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return err == nil
	})
	got := load(t, order{Address: address, Request: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Method: "GET", Connections: 1, For: 10 * time.Second})
	if !strings.Contains(got.Err, "without its end") || got.Requests != 2 {
		t.Errorf("%+v", got)
	}
}

// load gives one order to a child, and lets it end.
func load(t *testing.T, o order) (out tally) {
	t.Helper()
	in, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := cost.Load(t.Context(), bytes.NewReader(in), &b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	return out
}

func TestServiceEndsWithItsInput(t *testing.T) {
	in, parent := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- cost.Service(t.Context(), "127.0.0.1:0", in, out) }()
	var address string
	if err := json.NewDecoder(said).Decode(&address); err != nil {
		t.Fatal(err)
	}
	post := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	if got := load(t, order{Address: address, Request: []byte(post), Method: "POST", Connections: 2, For: 10 * time.Millisecond}); got.Err != "" || got.Statuses[200] != got.Requests {
		t.Errorf("%+v", got)
	}
	idle, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	_ = parent.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it has not ended with its input")
	}
}
