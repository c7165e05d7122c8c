package gateway_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// insideSteps is a service that does what ops say, one byte a step.
func insideSteps(ops []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i, op := range ops {
			switch op % 8 {
			case 0:
				w.WriteHeader(200 + int(op)*399/255)
			case 1:
				_, _ = w.Write(bytes.Repeat([]byte{'a' + op%26}, int(op)))
			case 2:
				_, _ = w.Write(bytes.Repeat([]byte{'A' + op%26}, int(op)<<10))
			case 3:
				w.(http.Flusher).Flush()
			case 4:
				w.Header().Set("X-Step", strconv.Itoa(i))
			case 5:
				w.Header().Add("Set-Cookie", "s="+strconv.Itoa(i))
			case 6:
				_, _ = io.CopyN(io.Discard, r.Body, int64(op))
			case 7:
				w.Header()["Content-Type"] = []string{"text/plain"}
			}
		}
	}
}

// FuzzInsideAnswersAsItselfWould serves a handler with net/http alone and inside
// the gateway: the caller must get the same answer.
func FuzzInsideAnswersAsItselfWould(f *testing.F) {
	var ops []byte
	var handler http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) { insideSteps(ops)(w, r) }
	h := newInside(f, handler, func(c *houseConfig) { c.record, c.meter = nowhere{}, nowhere{} })
	start := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		s.Start()
		f.Cleanup(s.Close)
		return s
	}
	alone, inside := start(handler), start(h.entry)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, seed := range [][]byte{{}, {0}, {1, 1, 1}, {2 + 8*30, 2 + 8*30}, {2 + 8*31, 1, 3, 1}, {3, 4, 1}, {4, 5, 0, 4, 5, 1}, {6, 1, 3, 2 + 8*20}, {8 * 2, 1}, {200, 5, 7, 9}, {4, 3, 4}} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, steps []byte, body bool) {
		if len(steps) > 24 {
			return
		}
		ops = steps
		type got struct {
			status int
			body   string
			header string
		}
		var answers [2]got
		for i, base := range []string{alone.URL, inside.URL} {
			method, in := http.MethodGet, ""
			path := "/health"
			if body {
				method, path, in = http.MethodPut, "/uploads", strings.Repeat("x", 100)
			}
			r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(in)))
			res := must[*http.Response](t)(client.Do(r))
			b, err := readAll(res)
			if err != nil {
				t.Fatalf("%v: %v", steps, err)
			}
			answers[i] = got{res.StatusCode, b, res.Header.Get("X-Step") + " " + strings.Join(res.Header["Set-Cookie"], ",")}
		}
		if answers[0] != answers[1] {
			t.Fatalf("%v: %d %d bytes %q, inside %d %d bytes %q", steps, answers[0].status, len(answers[0].body), answers[0].header,
				answers[1].status, len(answers[1].body), answers[1].header)
		}
	})
}
