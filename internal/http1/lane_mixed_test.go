package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// mine is a handler that holds whatever it is lent against the mark in the
// request line, does what the request asks for, and answers with that mark alone.
func mine(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		mark := strings.TrimPrefix(r.URL.Path, "/")
		check := func(when string) {
			switch {
			case r.Header.Get("X-Mark") != mark, r.URL.Query().Get("mark") != mark, r.Header.Get("Cookie") != "c="+mark, len(r.Header["X-More"]) != 2 || r.Header["X-More"][1] != mark,
				!strings.HasPrefix(r.RequestURI, "/"+mark+"?"), r.Host != mark+".example":
				t.Errorf("%s the request of %s is of another: %s %v %s", when, mark, r.RequestURI, r.Header, r.Host)
			case len(w.Header()) > 0 && w.Header().Get("X-Answer") != mark:
				t.Errorf("%s the answer to %s has fields of another: %v", when, mark, w.Header())
			case len(r.Header) > 9:
				t.Errorf("%s the request of %s has fields nobody sent: %v", when, mark, r.Header)
			}
		}
		check("at first")
		w.Header().Set("X-Answer", mark)
		todo := r.URL.Query().Get("do")
		switch todo {
		case "panic":
			_, _ = io.WriteString(w, mark)
			panic(http.ErrAbortHandler)
		case "wait":
			_ = r.Context().Done() // the context is this request's alone from now on
		case "early": // the body is not read
			_, _ = io.WriteString(w, mark)
			check("after an early answer")
			return
		case "straggle": // somebody goes on reading the body when we have returned
			body := r.Body
			go func() {
				b := make([]byte, 3)
				for {
					n, err := body.Read(b)
					if strings.Trim(string(b[:n]), mark) != "" {
						t.Errorf("the body of %s gives %q", mark, b[:n])
					}
					if err != nil {
						return
					}
				}
			}()
			_, _ = io.WriteString(w, mark)
			return
		case "hints":
			w.Header().Set("Link", "</"+mark+">")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		case "hijack":
			nc, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nX-Answer: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", mark, len(mark), mark)
				_ = nc.Close()
			}
			return
		case "fields":
			if hw, ok := w.(headWriter); ok {
				w.Header().Del("X-Answer")
				hw.WriteHead(200, []http1.Field{{Name: "X-Answer", Value: mark}}, -1)
			}
		}
		b, err := io.ReadAll(r.Body)
		check("after the body")
		if err == nil && strings.ReplaceAll(string(b), mark, "") != "" {
			t.Errorf("the body of %s is %q", mark, b)
		}
		_, _ = io.WriteString(w, mark[:1])
		if todo == "flush" {
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, mark[1:])
		check("at last")
	}
}

// One caller must never see, or be taken for, another, however requests end:
// answered early, hijacked, given to net/http, broken off by either side.
func TestNobodySeesWhatIsAnothers(t *testing.T) {
	f := newFront(t, http1.Config{}, mine(t))
	deeds := []string{"", "", "panic", "wait", "early", "straggle", "hints", "hijack", "fields", "flush"}
	var answered, marks atomic.Int64
	const enough = 200 // fewer answers show nothing
	end := time.Now().Add(1500 * time.Millisecond)
	last := end.Add(30 * time.Second) // on a machine that has other things to do
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for now := time.Now(); now.Before(end) || now.Before(last) && answered.Load() < enough; now = time.Now() {
				c, err := net.Dial("tcp", f.addr)
				if err != nil {
					return
				}
				answered.Add(converse(t, c, deeds, &marks))
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	if n := answered.Load(); n < enough {
		t.Errorf("only %d answers", n)
	}
}

// converse sends some requests at once and reads their answers.
func converse(t *testing.T, c net.Conn, deeds []string, marks *atomic.Int64) (answered int64) {
	var raw strings.Builder
	var sent []string
	for range 1 + rand.IntN(4) {
		mark := fmt.Sprintf("m%dm", marks.Add(1))
		sent = append(sent, mark)
		fmt.Fprintf(&raw, "POST /%s?mark=%s&do=%s HTTP/1.1\r\nHost: %s.example\r\nX-Mark: %s\r\nCookie: c=%s\r\nX-More: a\r\nX-More: %s\r\n",
			mark, mark, deeds[rand.IntN(len(deeds))], mark, mark, mark, mark)
		body := strings.Repeat(mark, rand.IntN(3)*rand.IntN(700))
		switch rand.IntN(8) {
		case 0:
			raw.WriteString("Connection: Upgrade\r\nUpgrade: x\r\n")
		case 1:
			raw.WriteString("Expect: 100-continue\r\n")
		case 2:
			raw.WriteString("Connection: close\r\n")
		}
		if rand.IntN(2) == 0 || body == "" {
			fmt.Fprintf(&raw, "Content-Length: %d\r\n\r\n%s", len(body), body)
		} else {
			fmt.Fprintf(&raw, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		}
	}
	all := raw.String()
	if rand.IntN(6) == 0 {
		all = all[:rand.IntN(len(all))] // and gone
		_, _ = io.WriteString(c, all)
		return 0
	}
	go func() {
		cut := rand.IntN(len(all))
		_, _ = io.WriteString(c, all[:cut])
		_, _ = io.WriteString(c, all[cut:])
	}()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	for _, mark := range sent {
		res, err := http.ReadResponse(br, nil)
		for err == nil && res.StatusCode < 200 {
			if link := res.Header.Get("Link"); link != "" && link != "</"+mark+">" {
				t.Errorf("%s gets hints of another: %s", mark, link)
			}
			res, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			if strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s gets %v", mark, err)
			}
			return answered
		}
		b, err := io.ReadAll(res.Body)
		if err == nil && (string(b) != mark || res.StatusCode != 200) || res.Header.Get("X-Answer") != mark {
			t.Errorf("%s gets %d %v %q", mark, res.StatusCode, res.Header, b)
		}
		if err != nil || res.Close {
			return answered
		}
		answered++
	}
	return answered
}
