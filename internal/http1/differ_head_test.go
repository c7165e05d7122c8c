package http1_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// heads are what WriteHead is called with; net/http gets the same by its map.
var heads = []struct {
	name   string
	status int
	fields []http1.Field
	length int64
	then   script
}{
	{"a length and a body", 200, []http1.Field{{"Content-Type", "a/b"}, {"X-A", "1"}}, 5, writes(5)},
	{"a length and a body in pieces", 200, []http1.Field{{"Content-Type", "a/b"}}, 10, writes(4, 6)},
	{"a length and too little", 200, []http1.Field{{"Content-Type", "a/b"}}, 10, writes(4)},
	{"a length and too much", 200, []http1.Field{{"Content-Type", "a/b"}}, 10, writes(8, 8)},
	{"a length and nothing", 200, []http1.Field{{"Content-Type", "a/b"}}, 10, writes()},
	{"a length of zero", 200, []http1.Field{{"X-A", "1"}}, 0, writes()},
	{"a length of zero and a body", 200, []http1.Field{{"X-A", "1"}}, 0, writes(5)},
	{"a long length", 200, []http1.Field{{"Content-Type", "a/b"}}, 100_000, writes(60_000, 40_000)},
	{"a long length in one write", 200, []http1.Field{{"Content-Type", "a/b"}}, 100_000, writes(100_000)},
	{"no length and a short body", 200, []http1.Field{{"Content-Type", "a/b"}}, -1, writes(5)},
	{"no length and a long body", 200, []http1.Field{{"Content-Type", "a/b"}}, -1, writes(5_000, 5_000)},
	{"no length and no body", 200, []http1.Field{{"Content-Type", "a/b"}}, -1, writes()},
	{"no length and a flush", 200, []http1.Field{{"Content-Type", "a/b"}}, -1, inTurn(flushed, writes(5), flushed, writes(5))},
	{"no type", 200, nil, 5, writes(5)},
	{"no type and no length", 200, nil, -1, writes(5_000)},
	{"no fields and nothing", 200, nil, -1, writes()},
	{"204", 204, []http1.Field{{"X-A", "1"}}, -1, writes()},
	{"204 and a body", 204, []http1.Field{{"X-A", "1"}}, -1, writes(5)},
	{"304", 304, []http1.Field{{"Etag", `"a"`}}, -1, writes()},
	{"404", 404, []http1.Field{{"Content-Type", "a/b"}}, 5, writes(5)},
	{"599", 599, nil, 5, writes(5)},
	{"a field twice", 200, []http1.Field{{"Set-Cookie", "a=b"}, {"X-A", "1"}, {"Set-Cookie", "c=d"}}, 5, writes(5)},
	{"a date", 200, []http1.Field{{"Date", "Mon, 02 Jan 2006 15:04:05 GMT"}}, 5, writes(5)},
	{"a value with CR LF", 200, []http1.Field{{"X-A", "a\r\nSet-Cookie: b"}}, 5, writes(5)},
	{"a value with LF and blanks", 200, []http1.Field{{"X-A", " \na\n "}}, 5, writes(5)},
	{"a name that is none", 200, []http1.Field{{"X A", "a"}, {"X\r\nB", "b"}, {"", "c"}}, 5, writes(5)},
	{"a content coding", 200, []http1.Field{{"Content-Encoding", "gzip"}}, -1, writes(5)},
	{"a trailer", 200, []http1.Field{{"Trailer", "X-Sum"}}, -1, inTurn(writes(5), withHeader("X-Sum", []string{"1"}, writes(5)))},
	{"a trailer nobody announced", 200, nil, -1, inTurn(writes(5), flushed, withHeader(http.TrailerPrefix+"X-Sum", []string{"1"}, writes(5)))},
	{"a panic", 200, nil, -1, inTurn(writes(5), flushed, panics(http.ErrAbortHandler))},
	{"a panic in a length", 200, nil, 10, inTurn(writes(5), flushed, panics(http.ErrAbortHandler))},
	{"a second head", 200, nil, 5, inTurn(status(500, writes(5)))},
	{"a body that is copied", 200, nil, 5, func(s *sight, w http.ResponseWriter, r *http.Request) {
		n, err := w.(interface{ WriteString(string) (int, error) }).WriteString("12345")
		s.say("wrote %d, %s", n, errorClass(err))
	}},
}

// A head from fields in order is the head net/http makes from its map.
func TestAHeadInOrderIsTheHeadOfTheMap(t *testing.T) {
	p := newSecurePair(t, http1.Config{BodyIdle: bodyIdle}, func(s *sight, w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/s/"))
		if err != nil {
			return
		}
		c := heads[n]
		if hw, ok := w.(headWriter); ok {
			hw.WriteHead(c.status, c.fields, c.length)
			c.then(s, w, r)
			return
		}
		if s.side.name == "lane" {
			t.Error("our lane writes no heads")
		}
		h := w.Header()
		h["Content-Type"] = nil
		for _, f := range c.fields {
			if f.Name == "Content-Type" {
				h.Del(f.Name)
			}
			h[f.Name] = append(h[f.Name], f.Value)
		}
		if c.length >= 0 {
			h.Set("Content-Length", strconv.FormatInt(c.length, 10))
		}
		w.WriteHeader(c.status)
		c.then(s, w, r)
	})
	for n, c := range heads {
		t.Run(c.name, func(t *testing.T) { p.compareScript(t, "", fmt.Sprint("/s/", n)) })
	}
}
