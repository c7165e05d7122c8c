package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A load that asks only when it was answered sees a service that stalls once as one
// slow answer. Here all who were due meanwhile must have waited.
func TestAStallIsWaitedForByAllWhoWereDue(t *testing.T) {
	var stall sync.RWMutex
	var first, once sync.Once
	var begun time.Time
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stall.RLock()
		defer stall.RUnlock()
		first.Do(func() { begun = time.Now() })
		if time.Since(begun) > 1200*time.Millisecond {
			once.Do(func() {
				go func() {
					stall.Lock()
					defer stall.Unlock()
					<-time.After(500 * time.Millisecond)
				}()
			})
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer s.Close()
	in, err := os.CreateTemp(t.TempDir(), "request")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteString("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	stdin := os.Stdin
	os.Stdin = in
	*target, *rate, *conns, *seconds = s.Listener.Addr().(*net.TCPAddr).String(), 200, 4, 3
	t.Cleanup(func() { os.Stdin, *target, *rate, *conns, *seconds = stdin, "", 500, 32, 4 })
	var out bytes.Buffer
	if err := rateMode(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var p pace
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	// A hundred of about five hundred were due while it stalled, half of them for
	// longer than a quarter of a second; four of them were under way.
	if p.Asked < 450 || p.Bad > 0 {
		t.Errorf("%d were asked, %d badly; want about 500, all well", p.Asked, p.Bad)
	}
	if p.P99 < 300*time.Millisecond {
		t.Errorf("p99 is %v: those due during the stall were not counted", p.P99)
	}
}

func TestSlopeOfASawAndOfALeak(t *testing.T) {
	var x, saw, leak []float64
	for i := range 90 {
		x = append(x, float64(i)*10)
		saw = append(saw, 100+float64(i%6)*5)
		leak = append(leak, 100+float64(i%6)*5+float64(i)*0.1)
	}
	if got := slope(x, saw); math.Abs(got*890) > 1 {
		t.Errorf("a saw that comes back to where it was grows by %.2f", got*890)
	}
	if got := slope(x, leak); math.Abs(got*890-8.9) > 1 {
		t.Errorf("a leak of 8.9 beneath a saw is seen as %.2f", got*890)
	}
}

// A service that stayed away would excuse every wrong answer.
func TestTheServiceOfTheSoakSaysWhenItCannotComeBack(t *testing.T) {
	s, err := newSoakService()
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if status, err := readAnswer(c, bufio.NewReader(c)); status != http.StatusOK { // it serves: now stop has something to close
		t.Fatal(status, err)
	}
	s.stop()
	other, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		t.Fatal(err)
	}
	if s.back() == nil || !s.away(time.Now()) {
		t.Error("it is back on a port that another has")
	}
	_ = other.Close()
	for range 2 {
		if err := s.back(); err != nil {
			t.Error(err)
		}
	}
}

func TestEveryKindOfTheSoakHasItsShare(t *testing.T) {
	l := newSoakLoad(&stage{}, &house{}, &soakService{}, "a-token-that-is-long-enough")
	sum, names := 0, map[string]bool{}
	for _, k := range l.kinds {
		sum += k.weight
		if k.weight < 1 || len(k.want) == 0 || names[k.name] || strings.Contains(k.name, "|") {
			t.Errorf("%q: weight %d, want %v", k.name, k.weight, k.want)
		}
		names[k.name] = true
	}
	if sum != 1000 {
		t.Errorf("the weights add up to %d, want 1000", sum)
	}
}
