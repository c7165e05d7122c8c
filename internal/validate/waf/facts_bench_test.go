package waf_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// usual are messages of the size that an API sees.
func usual() map[string]*waf.Message {
	header := []waf.Field{
		{"Host", "api.example.com"},
		{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},
		{"Accept", "application/json"},
		{"Accept-Encoding", "gzip, br"},
		{"Authorization", "Bearer " + strings.Repeat("abcdefghij", 65)},
		{"Cookie", "sid=5f2c; theme=dark"},
		{"X-Request-Id", "01J9ZK3V7Q"},
	}
	var order bytes.Buffer
	order.WriteString(`{"customer":{"name":"Zoë \"Z\" O'Neill","email":"zoe@example.com","tags":["new","b2c"]},"items":[`)
	for i := range 3 {
		fmt.Fprintf(&order, `{"sku":"AB-%d","quantity":%d,"price":12.50,"gift":false},`, i, i)
	}
	order.WriteString(`{"sku":"last","quantity":1}],"note":"leave it at the door, please; the bell is broken","coupon":null}`)
	with := func(contentType string, body []byte) *waf.Message {
		h := append(slices.Clip(header), waf.Field{Name: "Content-Type", Value: contentType})
		return &waf.Message{Method: "POST", Target: "/v1/orders", Protocol: "HTTP/1.1", Header: h, Body: body}
	}
	return map[string]*waf.Message{
		"get":        {Method: "GET", Target: "/v1/orders/8c1e?limit=20&page=2&sort=-created&q=blue shoes&state=open", Protocol: "HTTP/1.1", Header: header},
		"get-escape": {Method: "GET", Target: "/v1/orders/8c1e?limit=20&page=2&sort=-created&q=blue+shoes%21&state=open", Protocol: "HTTP/1.1", Header: header},
		"json":       with("application/json", order.Bytes()),
		"json-64k":   with("application/json", []byte(`{"text":"`+strings.Repeat("All work and no play makes a dull day. ", 1680)+`"}`)),
		"xml":        with("text/xml", []byte(strings.Repeat(`<item sku="AB-1"><name>bell</name><price>12.50</price></item>`, 7))),
		"multipart": with("multipart/form-data; boundary=b", []byte(strings.Repeat("--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nleave it at the door\r\n", 3)+
			"--b\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"door.png\"\r\nContent-Type: image/png\r\n\r\nPNG\r\n--b--\r\n")),
		"form": with("application/x-www-form-urlencoded", []byte("name=Zo%C3%AB&email=zoe%40example.com&note=leave+it&a=1&b=2")),
	}
}

func BenchmarkRead(b *testing.B) {
	for name, m := range usual() {
		b.Run(name, func(b *testing.B) {
			var f waf.Facts
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Body)))
			for b.Loop() {
				f.Read(m)
			}
		})
	}
}

func TestReadOfAUsualMessageAllocatesNothingButItsText(t *testing.T) {
	want := map[string]float64{"get": 0, "get-escape": 1, "json": 1, "json-64k": 1, "form": 2}
	for name, m := range usual() {
		if _, ok := want[name]; !ok {
			continue // read by the standard library's readers
		}
		var f waf.Facts
		f.Read(m)
		if got := testing.AllocsPerRun(100, func() { f.Read(m) }); got > want[name] {
			t.Errorf("%s: %v allocations, want %v", name, got, want[name])
		}
	}
}
