package validate_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/bits"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const inGzip = "Content-Encoding: gzip"

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

// noise is text that does not shrink.
func noise(n int) string {
	b := make([]byte, n)
	for i, x := 0, uint32(1); i < n; i++ {
		x = bits.RotateLeft32(x*2654435761+12345, 13)
		b[i] = "0123456789abcdef"[x>>28]
	}
	return string(b)
}

func TestCompressedBodies(t *testing.T) {
	text := `{"a":"` + noise(1000) + `"}`
	bomb := `{"a":"` + strings.Repeat("x", 500_000) + `"}`
	on := validate.Settings{Decompress: true}
	good := zipped(text)
	broken := good[:len(good)-8] + "\x00\x00\x00\x00" + good[len(good)-4:]
	tests := []struct {
		name, body string
		s          validate.Settings
		fields     []string
		reason     string
	}{
		{"where they are taken", good, on, []string{asJSON, inGzip}, ""},
		{"written GZIP", good, on, []string{asJSON, "Content-Encoding: GZIP"}, ""},
		{"where they are not", good, validate.Settings{}, []string{asJSON, inGzip}, "unsupported_encoding"},
		{"twice", zipped(good), on, []string{asJSON, "Content-Encoding: gzip, gzip"}, "unsupported_encoding"},
		{"twice in two lines", zipped(good), on, []string{asJSON, inGzip, inGzip}, "unsupported_encoding"},
		{"twice but said once", zipped(good), on, []string{asJSON, inGzip}, "invalid_body"},
		{"behind identity", good, on, []string{asJSON, "Content-Encoding: identity", inGzip}, "unsupported_encoding"},
		{"by deflate", good, on, []string{asJSON, "Content-Encoding: deflate"}, "unsupported_encoding"},
		{"by br", good, on, []string{asJSON, "Content-Encoding: br"}, "unsupported_encoding"},
		{"that are not", text, on, []string{asJSON, inGzip}, "invalid_body"},
		{"cut off", good[:len(good)-9], on, []string{asJSON, inGzip}, "incomplete_body"},
		{"with a wrong sum", broken, on, []string{asJSON, inGzip}, "invalid_body"},
		{"with a second member", good + zipped("x"), on, []string{asJSON, inGzip}, "invalid_body"},
		{"with something behind", good + "\x00", on, []string{asJSON, inGzip}, "invalid_body"},
		{"that expand too much", zipped(bomb), on, []string{asJSON, inGzip}, "body_too_large"},
		{"that expand beyond the size", good, validate.Settings{Decompress: true, MaxBody: int64(len(text)) - 1}, []string{asJSON, inGzip}, "body_too_large"},
		{"of wrong JSON", zipped(`{"a":1,"a":2}`), on, []string{asJSON, inGzip}, "invalid_body"},
		{"of nothing", zipped(""), on, []string{asJSON, inGzip}, "missing_body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, body, err := media(t, tt.s).call(request(t, "POST /json", tt.body, tt.fields...))
			reason := ""
			if err != nil {
				reason = gatehouse.AsProblem(err).Reason
			}
			if reason != tt.reason {
				t.Fatalf("got %q (%v), want %q", reason, err, tt.reason)
			}
			if err == nil {
				if v, set := body.Header["Content-Encoding"]; string(body.Bytes) != text || !set || len(v) > 0 {
					t.Errorf("goes on as %q with %v", body.Bytes, body.Header)
				}
			}
		})
	}
}

func TestCompressedStreams(t *testing.T) {
	a := media(t, validate.Settings{Decompress: true})
	send := func(body string) (int, string) {
		_, _, _, got, err := a.call(request(t, "POST /json", body, "Content-Type: application/octet-stream", inGzip))
		if err != nil || got.Stream == nil || got.Length != -1 {
			t.Fatalf("%v %d %v", got.Stream, got.Length, err)
		}
		b, err := io.ReadAll(got.Stream)
		if err == nil {
			return len(b), ""
		}
		return len(b), gatehouse.AsProblem(err).Reason
	}
	if n, reason := send(zipped(noise(300_000))); n != 300_000 || reason != "" {
		t.Errorf("got %d %q", n, reason)
	}
	if n, reason := send(zipped(strings.Repeat("x", 900_000))); n > 128<<10 || reason != "body_too_large" {
		t.Errorf("a bomb gave %d bytes and %q", n, reason)
	}
	if _, reason := send("x" + zipped("y")); reason != "invalid_body" {
		t.Errorf("what is no gzip gave %q", reason)
	}
	body := parts(field("title", "t"), file("photo", "a.png", "image/png", png))
	_, _, _, got, err := a.call(request(t, "POST /upload", zipped(body), asParts, inGzip))
	if err != nil || len(readParts(t, got.Header.Get("Content-Type"), string(got.Bytes))) != 2 {
		t.Errorf("a form in gzip: %v", err)
	}
}

func message(flag byte, text string) string {
	return string([]byte{flag, byte(len(text) >> 24), byte(len(text) >> 16), byte(len(text) >> 8), byte(len(text))}) + text
}

func TestGRPCMessages(t *testing.T) {
	small := validate.GRPC{MaxMessage: 10, MaxMessages: 3}
	tests := []struct {
		name, body string
		g          validate.GRPC
		reason     string
	}{
		{"one", message(0, "hello"), small, ""},
		{"an empty one", message(0, ""), small, ""},
		{"none", "", small, ""},
		{"three", message(0, "a") + message(0, "") + message(0, "0123456789"), small, ""},
		{"four", strings.Repeat(message(0, "a"), 4), small, "body_too_large"},
		{"as many as there is room for", strings.Repeat(message(0, "a"), 1000), validate.GRPC{}, ""},
		{"too long", message(0, "0123456789a"), small, "body_too_large"},
		{"too long behind a good one", message(0, "a") + message(0, "0123456789a"), small, "body_too_large"},
		{"a length of four gigabytes", "\x00\xff\xff\xff\xff", validate.GRPC{}, "body_too_large"},
		{"compressed", message(1, "a"), small, "unsupported_encoding"},
		{"compressed where it is taken", message(1, "a"), validate.GRPC{Compressed: true}, ""},
		{"another flag", message(2, "a"), validate.GRPC{Compressed: true}, "invalid_body"},
		{"the flag of web trailers", message(0x80, "a"), validate.GRPC{Compressed: true}, "invalid_body"},
		{"half a message", message(0, "hello")[:7], small, "incomplete_body"},
		{"half a prefix", message(0, "a") + "\x00\x00", small, "incomplete_body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := media(t, validate.Settings{GRPC: tt.g})
			for _, slow := range []bool{false, true} {
				var in io.Reader = strings.NewReader(tt.body)
				if slow {
					in = iotest.OneByteReader(in)
				}
				r := httptest.NewRequest("POST", "/grpc", in)
				r.ContentLength = -1
				r.Header.Set("Content-Type", "application/grpc")
				_, _, _, body, err := a.call(r)
				if err != nil || body.Stream == nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(body.Stream)
				p, _ := errors.AsType[*gatehouse.Problem](err)
				switch {
				case tt.reason == "" && (err != nil || string(b) != tt.body):
					t.Errorf("got %q, %v", b, err)
				case tt.reason != "" && (p == nil || p.Reason != tt.reason):
					t.Errorf("ended in %v, want %s", err, tt.reason)
				}
			}
		})
	}
}

// FuzzGunzip holds that what comes out is what gzip makes of it, whole, and never
// more than the ratio.
func FuzzGunzip(f *testing.F) {
	for _, s := range []string{zipped("x"), zipped(""), zipped("x") + "y", zipped(strings.Repeat("x", 200_000)), "", "\x1f\x8b"} {
		f.Add([]byte(s))
	}
	a := media(f, validate.Settings{Decompress: true})
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/json", bytes.NewReader(body))
		r.ContentLength = -1
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set("Content-Encoding", "gzip")
		_, _, _, got, err := a.call(r)
		if err != nil {
			return
		}
		b, err := io.ReadAll(got.Stream)
		if len(b) > max(64<<10, 20*len(body))+(64<<10) {
			t.Fatalf("%d bytes gave %d", len(body), len(b))
		}
		if err != nil || len(body) == 0 {
			return
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := io.ReadAll(z); err != nil || !bytes.Equal(theirs, b) {
			t.Fatalf("we read %d bytes, Go %d (%v)", len(b), len(theirs), err)
		}
	})
}
