package http1_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// HTTP/2 heads as bytes on the wire: between net/http and CheckRequest, each of
// these has to end somewhere before the service.
func TestAmbiguousHTTP2RequestsAreRefused(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http1.CheckRequest(r); err != nil {
			p := gatehouse.AsProblem(err)
			w.Header().Set("Reason", p.Reason)
			w.WriteHeader(p.Kind.Status())
		}
	}))
	client.NextProtos = []string{"h2"}
	c := tls.Client(f.dial(t), client)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	stream := uint32(1)
	for _, tt := range []struct {
		name   string
		fields []string // name, value, …
		want   string   // reason of CheckRequest, "reset" from net/http, or "" when served
	}{
		{"a plain request is served", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"}, ""},
		{"a host equal to the authority is served", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "host", "a"}, ""},
		{"two cookie fields are one cookie", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "cookie", "a=1", "cookie", "b=2"}, ""},
		{"a host of another name is refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "host", "b"}, "host_mismatch"},
		{"an encoded slash is refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a%2fb"}, "ambiguous_path"},
		{"dot segments are refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a/../b"}, "ambiguous_path"},
		{"a fragment is refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a#b"}, "bad_target"},
		{"another method is refused", []string{":method", "PROPFIND", ":scheme", "https", ":authority", "a", ":path", "/"}, "method_unknown"},
		{"an underscore is refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "x_user", "a"}, "underscore_header"},
		{"two authorizations are refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "authorization", "a", "authorization", "b"}, "duplicate_header"},
		{"no authority is refused", []string{":method", "GET", ":scheme", "https", ":path", "/"}, "bad_host"},
		{"a chunked coding is refused", []string{":method", "POST", ":scheme", "https", ":authority", "a", ":path", "/", "transfer-encoding", "chunked"}, "reset"},
		{"a connection field is refused", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "connection", "close"}, "reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			block.Reset()
			for i := 0; i < len(tt.fields); i += 2 {
				if err := enc.WriteField(hpack.HeaderField{Name: tt.fields[i], Value: tt.fields[i+1]}); err != nil {
					t.Fatal(err)
				}
			}
			id := stream
			stream += 2
			err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			if err != nil {
				t.Fatal(err)
			}
			for {
				frame, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if frame.Header().StreamID != id {
					continue
				}
				got := "reset"
				if h, ok := frame.(*http2.MetaHeadersFrame); ok {
					got = ""
					for _, hf := range h.RegularFields() {
						if hf.Name == "reason" {
							got = hf.Value
						}
					}
					if got == "" && h.PseudoValue("status") == "400" {
						got = "reset" // net/http's own answer
					}
				}
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				return
			}
		})
	}
}
