package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// A formSeen is what a service made of one form.
type formSeen struct {
	fields, files int
	bytes         int64
	encoding      string
	err           error // why it is not whole
}

// A service that reads forms as Go does sees what was checked; one whose caller is
// refused while a large file is on its way never sees a form that looks whole.
func TestFormsReachTheServiceWholeOrNotAtAll(t *testing.T) {
	document := strings.Replace(houseDocument, "application/octet-stream: {}", "application/octet-stream: {}, multipart/form-data: {schema: {type: object, additionalProperties: false, "+
		"properties: {title: {type: string}, a: {type: string, format: binary}, b: {type: string, format: binary}}}, encoding: {b: {contentType: image/png}}}", 1)
	form := func(big int, last string) (string, []byte) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		if err := w.WriteField("title", "hello"); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(must[io.Writer](t)(w.CreateFormFile("a", "a.bin")), strings.Repeat("0123456789abcdef", big/16))
		head := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="b"; filename="b.png"`}, "Content-Type": {"image/png"}}
		_, _ = io.WriteString(must[io.Writer](t)(w.CreatePart(head)), last)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return w.FormDataContentType(), b.Bytes()
	}
	const picture = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"
	for _, h2 := range []bool{false, true} {
		got := make(chan formSeen, 1)
		url := service(t, h2, func(w http.ResponseWriter, r *http.Request) {
			var s formSeen
			s.encoding = r.Header.Get("Content-Encoding")
			if s.err = r.ParseMultipartForm(1 << 20); s.err == nil {
				for _, v := range r.MultipartForm.Value {
					s.fields += len(v)
				}
				for _, v := range r.MultipartForm.File {
					s.files += len(v)
					s.bytes += v[0].Size
				}
				_ = r.MultipartForm.RemoveAll()
			}
			got <- s
			w.WriteHeader(http.StatusNoContent)
		})
		h := newHouse(t, houseConfig{
			service: url, document: document,
			access:   func(a map[string]authz.Access) { a["upload"] = authz.Access{Grant: []string{"orders:read"}} },
			settings: map[string]validate.Settings{"upload": {MaxBody: 8 << 20, Decompress: true, Upload: validate.Upload{Memory: 100_000}}},
			upstream: func(u *gateway.UpstreamConfig) { u.Retries = 0 },
		})
		base := h.start()
		send := func(typed string, body []byte, header ...string) int {
			r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "PUT", base+"/uploads", bytes.NewReader(body)))
			r.Header.Set("Authorization", h.token("ann"))
			r.Header.Set("Content-Type", typed)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				return 0 // cut off while it was sending
			}
			defer func() { _ = res.Body.Close() }()
			return res.StatusCode
		}
		for _, size := range []int{1600, 4 << 20} {
			typed, body := form(size, picture)
			if status := send(typed, body); status != 204 {
				t.Fatalf("h2 %v, %d bytes: %d", h2, size, status)
			}
			if s := <-got; s.err != nil || s.fields != 1 || s.files != 2 || s.bytes != int64(size+len(picture)) {
				t.Errorf("h2 %v, %d bytes: the service saw %+v", h2, size, s)
			}
		}
		typed, body := form(1600, picture)
		var z bytes.Buffer
		zw := gzip.NewWriter(&z)
		_, _ = zw.Write(body)
		_ = zw.Close()
		if status := send(typed, z.Bytes(), "Content-Encoding", "gzip"); status != 204 {
			t.Errorf("h2 %v: in gzip: %d", h2, status)
		}
		if s := <-got; s.err != nil || s.files != 2 || s.encoding != "" {
			t.Errorf("h2 %v: in gzip the service saw %+v", h2, s)
		}
		typed, body = form(1600, "<html>")
		if status := send(typed, body); status != 422 || len(got) > 0 {
			t.Errorf("h2 %v: a wrong file: %d, and the service heard of %d", h2, status, len(got))
		}
		typed, body = form(4<<20, "<html>")
		if status := send(typed, body); status != 422 && status != 0 {
			t.Errorf("h2 %v: a wrong file behind a large one: %d", h2, status)
		}
		if s := <-got; s.err == nil {
			t.Errorf("h2 %v: a wrong file behind a large one: the service saw %+v", h2, s)
		}
		until(t, "five events", func() bool { return len(h.record.all()) == 5 })
		if e := h.record.all()[4]; e.Reason != "invalid_body" || len(e.Fields) != 1 || e.Fields[0].Rule != "file_type" {
			t.Errorf("h2 %v: the record says %q %+v", h2, e.Reason, e.Fields)
		}
	}
}

// What a body in gzip unfolds to is held, not what was received.
func TestBodiesInGzipAreHeldAsTheyUnfold(t *testing.T) {
	h := newHouse(t, houseConfig{settings: map[string]validate.Settings{"refund": {Decompress: true}}})
	h.gate.MaxHeld = 256 << 10 // 64 KiB for one address
	token := h.token("alice")
	zipped := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		return b.String()
	}
	ask := func(body io.Reader, length int64, encoding string) string {
		r := h.request("POST", "/customers/alice/refunds", "-", "Authorization", token, "Content-Encoding", encoding)
		r.RemoteAddr, r.Body, r.ContentLength = "[2001:db8::1]:1", io.NopCloser(body), length
		return problemOf(t, h.answer(r)).Reason
	}
	first, end := io.Pipe()
	done := make(chan string)
	go func() { done <- ask(first, -1, "identity") }()
	for _, piece := range []string{strings.Repeat(" ", 40_000), " "} { // who reads the second has counted the first
		if _, err := io.WriteString(end, piece); err != nil {
			t.Fatal(err)
		}
	}
	bomb := zipped(strings.Repeat(" ", 60_000))
	if got := ask(strings.NewReader(bomb), int64(len(bomb)), "gzip"); got != "too_many_bodies" {
		t.Errorf("%d bytes that unfold to 60,000 got %s", len(bomb), got)
	}
	_ = end.Close()
	<-done
	if got := ask(strings.NewReader(bomb), int64(len(bomb)), "gzip"); got != "invalid_body" {
		t.Errorf("the same body alone got %s", got)
	}
}
