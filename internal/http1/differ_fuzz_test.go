package http1_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// FuzzLaneAgainstNetHTTP: whatever bytes come, in whatever pieces, both lanes
// answer the same, hand the handler the same, and end the connection the same.
func FuzzLaneAgainstNetHTTP(f *testing.F) {
	for i, s := range streams() {
		if len(s.raw) < 1_000 && len(s.more) == 0 {
			f.Add([]byte(s.raw), uint16(i*7), uint16(i*13), uint16(i*29), i%2 == 0)
		}
	}
	for _, found := range []string{"0", "GET / HTTP/1.1\r\nHost:0\r\n\r\n0", "A\r\n\n0000000\r\n\r\n"} {
		f.Add([]byte(found), uint16(67), uint16(13), uint16(65), false)
		f.Add([]byte(found), uint16(75), uint16(74), uint16(115), true)
	}
	p := newPair(f, http1.Config{BodyIdle: bodyIdle}, byPath)
	f.Fuzz(func(t *testing.T, raw []byte, a, b, c uint16, tcp bool) {
		k := talk{way: "pipe", sends: []string{string(raw)}, cuts: []int{int(a), int(b), int(c)}}
		if tcp {
			k.way = "tcp"
		}
		p.compare(t, k)
	})
}

// What a script of bytes may do, by the number in its upper four bits.
var (
	deedNames = []string{
		"X-A", "x-b", "Content-Length", "Content-Type", "Connection", "Transfer-Encoding", "Trailer", "Date", "Set-Cookie", "X-Content-Type-Options",
		"Content-Encoding", http.TrailerPrefix + "X-T", "X\r\nY", "Etag", "Upgrade", "X-A",
	}
	deedValues = []string{
		"", "1", "5", "10", "4096", "close", "keep-alive", "chunked", "X-A", "text/html", "nosniff", "gzip", "a\r\nb: c", " x ", "identity", "X-A, X-B",
	}
	deedStatuses = []int{200, 201, 204, 205, 304, 404, 500, 599, 103, 102, 100, 203, 299, 302, 401, 206}
	deedSizes    = []int{0, 1, 2, 5, 10, 100, 511, 512, 1000, 2047, 2048, 2049, 4095, 4096, 4097, 20_000}
)

// deeds runs a script of at most forty bytes.
func deeds(s *sight, w http.ResponseWriter, r *http.Request) {
	todo, err := hex.DecodeString(r.Header.Get("X-Script"))
	if err != nil {
		return
	}
	begun := false
	for len(todo) > 0 {
		deed, n := todo[0]>>4, int(todo[0]&15)
		switch deed {
		case 0, 1, 5, 6, 9, 10:
			begun = true
		case 7, 8:
			if begun {
				deed = 12 // net/http lets nobody read who has answered, unless he asked
			}
		}
		todo = todo[1:]
		next := 0
		if len(todo) > 0 {
			next = int(todo[0] & 15)
		}
		switch deed {
		case 0, 1:
			writes(deedSizes[n])(s, w, r)
		case 2, 3:
			if n == 2 && (next == 0 || next > 4) {
				next = 2 // a length that is one: see knownScripts
			}
			if n == 5 {
				next = 7 // a coding that is one
				if r.ProtoMinor == 0 {
					n = 0 // see knownScripts
				}
			}
			w.Header()[deedNames[n]] = []string{deedValues[next]}
			todo = todo[min(1, len(todo)):]
		case 4:
			if n != 2 && n != 5 {
				w.Header().Add(deedNames[n], deedValues[next])
			}
			todo = todo[min(1, len(todo)):]
		case 5:
			w.WriteHeader(deedStatuses[n])
		case 6:
			flushed(s, w, r)
		case 7:
			b := make([]byte, deedSizes[n])
			got, err := io.ReadFull(r.Body, b)
			s.say("read %s, %s", shortly(string(b[:got])), errorClass(err))
		case 8:
			readsAll(s, w, r)
		case 9:
			got, err := io.Copy(w, io.LimitReader(zeros{}, int64(deedSizes[n])))
			s.say("copied %d, %s", got, errorClass(err))
		case 10:
			got, err := io.WriteString(w, "<html>"[:min(n, 6)])
			s.say("wrote %d, %s", got, errorClass(err))
		case 11:
			w.Header()[deedNames[n]] = nil
		case 12:
			delete(w.Header(), deedNames[n])
		case 13:
			s.say("close %s", errorClass(r.Body.Close()))
		case 15:
			if begun && n < 3 { // what is held when a handler fails, net/http sends and our lane does not
				flushed(s, w, r)
			}
			switch n {
			case 0:
				panic(http.ErrAbortHandler)
			case 1:
				panic("boom")
			case 2:
				hijacks(s, w, r)
				return // what follows, nobody can answer
			}
		}
	}
}

// deedRequest is one of the requests a script is run for.
func deedRequest(kind byte, todo []byte) string {
	x := "X-Script: " + hex.EncodeToString(todo[:min(len(todo), 40)])
	switch kind % 12 {
	case 0:
		return requestOf("GET / HTTP/1.1", x)
	case 1:
		return requestOf("HEAD / HTTP/1.1", x)
	case 2:
		return requestOf("GET / HTTP/1.0", x)
	case 3:
		return requestOf("GET / HTTP/1.0", x, "Connection: keep-alive")
	case 4:
		return post("/", "hello", x)
	case 5:
		return chunkedPost("/", chunksOf("hello world", 4), x)
	case 6:
		return post("/", "hello", x, "Expect: 100-continue")
	case 7:
		return requestOf("GET / HTTP/1.1", x, "Connection: close")
	case 8:
		return chunkedPost("/", "5\r\nhello\r\nZ", x)
	case 9:
		return post("/", strings.Repeat("x", 300_000), x)
	case 10:
		return requestOf("POST / HTTP/1.0", x, "Content-Length: 5", "Connection: keep-alive") + "hello"
	}
	return requestOf("HEAD / HTTP/1.0", x, "Connection: keep-alive")
}

// FuzzAnswers: whatever a handler does, both lanes make the same of it.
func FuzzAnswers(f *testing.F) {
	for kind := range byte(12) {
		for _, todo := range []string{
			"", "05", "050f", "0560f0", "58", "5805", "2204", "2301", "21020f", "26080f2001", "5205", "5005f1", "80f2", "f3", "9f60", "2405", "27070f", "a6", "e00f80", "d0800f",
			"5a80", "5b", "22010f", "2207", "600f60f1", "2b01602b0205", "b30f", "b70f",
			"1903f0", "f261", "61a1f2", "2430303061", "2b010205602b", "2530303030309a05", "3230253030",
		} {
			b, err := hex.DecodeString(todo)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, kind)
		}
	}
	p := newPair(f, http1.Config{BodyIdle: bodyIdle}, func(s *sight, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sentinel" {
			_, _ = io.WriteString(w, "here")
			return
		}
		deeds(s, w, r)
	})
	f.Fuzz(func(t *testing.T, todo []byte, kind byte) {
		k := talk{way: "tcp", sends: []string{deedRequest(kind, todo) + sentinel}}
		if kind >= 128 && kind%12 != 9 {
			k.way = "pipe"
		}
		p.compare(t, k)
	})
}

// stricter are the faults for which we refuse what net/http would read from a
// service, each with what it is good for.
var stricter = map[string]string{
	"bare LF":                                   "a line that ends in LF alone ends elsewhere for others",
	"head too large":                            "net/http holds a megabyte",
	"status line too short":                     "a reason phrase is optional, a code is not",
	"not HTTP/1.1 or HTTP/1.0":                  "another version frames its bodies otherwise",
	"status code":                               "three digits, no sign",
	"status code out of range":                  "RFC 9110 §15",
	"status line":                               "control bytes in a reason phrase",
	"too many fields":                           "bounded work",
	"field name":                                "folded lines and blanks before the colon hide a field from one of two readers",
	"field without name":                        "no such field",
	"control byte in field value":               "NUL and CR end a value for some readers",
	"field section without end":                 "half a head",
	"more than one Content-Length":              "two lengths, also two equal ones",
	"Content-Length":                            "digits only",
	"more than one Transfer-Encoding":           "chunked once",
	"Content-Length beside Transfer-Encoding":   "two framings",
	"Transfer-Encoding in HTTP/1.0":             "HTTP/1.0 has none",
	"Transfer-Encoding other than chunked":      "nothing else has an end we know",
	"body announced for a status that has none": "1xx and 204 have no body",
	"chunk longer than its size":                "the end of a chunk is where its size says",
	"chunk size line too long":                  "bounded work",
	"bare LF after a chunk size":                "as in a head",
	"chunk size too large":                      "no overflow",
	"chunk size":                                "hexadecimal digits, no blanks",
	"trailer too large":                         "bounded work",
}

// upReadTheirs reads one response as net/http does.
func upReadTheirs(data []byte, method string) (*upRead, error) {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &upRead{status: res.StatusCode, header: res.Header, trailer: res.Trailer, body: string(body)}, err
}

// FuzzResponseRefusals: what net/http reads from a service and we refuse, we
// refuse for a reason that is written down.
func FuzzResponseRefusals(f *testing.F) {
	for _, s := range []string{
		upOK, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 600 X\r\n\r\n",
		"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "HTTP/1.9 200 OK\r\n\r\n",
		"HTTP/1.1 200\t OK\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n", "HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nBad Name: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 0200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		theirs, err := upReadTheirs(data, method)
		if err != nil {
			return
		}
		ours, err := upReadOurs(data, method, 1<<20)
		if err == nil {
			if ours.status != theirs.status || ours.body != theirs.body {
				t.Fatalf("ours %+v\ntheirs %+v", ours, theirs)
			}
			return
		}
		re, ok := errors.AsType[*http1.ResponseError](err)
		if !ok {
			t.Fatalf("net/http took %+v, we say %v", theirs, err)
		}
		if stricter[re.Fault] == "" {
			t.Fatalf("net/http took %+v, we say %q, which is not in the table", theirs, re.Fault)
		}
	})
}

// What net/http takes from a service and we refuse, and the fault we find in it.
func TestStricterAnswersToServices(t *testing.T) {
	for _, tt := range []struct{ name, says, fault string }{
		{"bare LF in a head", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "bare LF"},
		{"two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "more than one Content-Length"},
		{"a length beside chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "Content-Length beside Transfer-Encoding"},
		{"chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding in HTTP/1.0"},
		{"a blank behind a chunk's size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "chunk size"},
		{"a status of 999", "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", "status code out of range"},
		{"204 with a body announced", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "body announced for a status that has none"},
		{"a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "field name"},
		{"HTTP/1.9", "HTTP/1.9 200 OK\r\n\r\n", "not HTTP/1.1 or HTTP/1.0"},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", "not HTTP/1.1 or HTTP/1.0"},
		{"a control byte in a reason phrase", "HTTP/1.1 200 O\x01K\r\n\r\n", "status line"},
		{"a head of 70 KiB", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", "head too large"},
		{"300 fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: a\r\n", 300) + "\r\n", "too many fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, err := upReadTheirs([]byte(tt.says), http.MethodGet)
			if err != nil {
				t.Fatalf("net/http refuses it too: %v", err)
			}
			_, err = upReadOurs([]byte(tt.says), http.MethodGet, 1<<20)
			if re, ok := errors.AsType[*http1.ResponseError](err); !ok || re.Fault != tt.fault || stricter[re.Fault] == "" {
				t.Fatalf("net/http took %s; we say %v, want %q", fmt.Sprint(theirs.status), err, tt.fault)
			}
		})
	}
}
