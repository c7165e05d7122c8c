//go:build race

package http1_test

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

const raced = true

// Under the race detector whoever keeps what a handler was lent finds nonsense in it.
func TestWhatAHandlerIsLentIsPoisoned(t *testing.T) {
	var (
		request *http.Request
		header  http.Header
		values  []string
		target  *url.URL
		writer  http.ResponseWriter
		text    string
	)
	f := newFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, header, values, target, writer, text = r, r.Header, r.Header["Accept"], r.URL, w, r.UserAgent()
		_, _ = io.WriteString(w, "x")
	}))
	c := f.dial(t)
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, laneGet+laneGet)
	for range 2 {
		if _, err := http.ReadResponse(br, nil); err != nil {
			t.Fatal(err)
		}
		_, _ = br.Discard(1)
	}
	_ = c.Close()
	for deadline := time.Now().Add(20 * time.Second); http1.OpenConns(f.server) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the connection is not over")
		}
		runtime.Gosched()
	}
	if request.Method != "POISONED" || target.Path != "POISONED" || values[0] != "POISONED" || header["Poisoned"] == nil || len(header) != 1 {
		t.Errorf("still there: %s %s %q %v", request.Method, target.Path, values, header)
	}
	if text != "bench" {
		t.Errorf("a string became %q", text)
	}
	defer func() {
		if recover() == nil {
			t.Error("the writer still writes")
		}
	}()
	_, _ = writer.Write([]byte("late"))
}
