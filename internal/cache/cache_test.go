package cache_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

func key(group, rest string) cache.Key {
	return cache.Key{Bytes: []byte(group + "|" + rest), Group: len(group) + 1}
}

func answer(t testing.TB, body string, fields ...http1.Field) *cache.Answer {
	t.Helper()
	now := time.Now()
	a := cache.Judge(&cache.Policy{TTL: time.Minute}, 200, fields, now, now)
	if a == nil {
		t.Fatal("not kept")
	}
	return a.With([]byte(body))
}

func put(t testing.TB, c *cache.Cache, k cache.Key, body string) {
	t.Helper()
	if !c.Put(k, c.Since(k), answer(t, body)) {
		t.Fatalf("%s is not kept", k.Bytes)
	}
}

func TestWhatIsForgottenTogether(t *testing.T) {
	c := cache.New(64 << 20)
	for i := range 300 {
		put(t, c, key("things", fmt.Sprint(i)), "x")
		put(t, c, key("thing", fmt.Sprint(i)), "y")
	}
	a := c.Get(key("things", "7"))
	c.Drop(key("things", "8"), a)
	if c.Get(key("things", "8")) == nil {
		t.Error("an answer is dropped in the place of another")
	}
	for _, i := range []int{0, 299, 150} { // first, last and one between of the group's chain
		c.Drop(key("things", fmt.Sprint(i)), c.Get(key("things", fmt.Sprint(i))))
	}
	early := c.Since(key("things", "5"))
	c.Forget([]byte("things|"))
	if n := c.Figures().Entries; n != 300 {
		t.Errorf("%d entries, want 300", n)
	}
	if c.Put(key("things", "5"), early, answer(t, "old")) {
		t.Error("an answer from before the change is kept")
	}
	if c.Put(key("things", "5"), cache.Mark{}, answer(t, "old")) {
		t.Error("an answer of nobody knows when is kept")
	}
	put(t, c, key("things", "5"), "new")
	c.Forget([]byte("things|"))
	c.Forget([]byte("thing|"))
	if f := c.Figures(); f.Entries != 0 || f.Bytes != 0 {
		t.Errorf("%+v after all is forgotten", f)
	}
}

func TestMemoryIsBoundedAtEveryMoment(t *testing.T) {
	const memory = 16 << 20
	c := cache.New(memory)
	body := string(bytes.Repeat([]byte("x"), 4000))
	for i := range 400 { // what everybody reads
		put(t, c, key("hot", fmt.Sprint(i)), body)
		_ = c.Get(key("hot", fmt.Sprint(i)))
	}
	for i := range 20000 { // a scan through names nobody asks for twice
		put(t, c, key("scan", fmt.Sprint(i)), body)
		if f := c.Figures(); i%500 == 0 && f.Bytes > memory {
			t.Fatalf("%d bytes of %d", f.Bytes, memory)
		}
	}
	lost := 0
	for i := range 400 {
		if c.Get(key("hot", fmt.Sprint(i))) == nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("a scan pushed %d of 400 out that everybody reads", lost)
	}
	if big := answer(t, string(make([]byte, c.MaxBody()+1<<20))); c.Put(key("big", ""), c.Since(key("big", "")), big) {
		t.Error("one answer takes what others need")
	}
	c.Resize(8 << 20)
	if f := c.Figures(); f.Bytes > 8<<20 || f.Evicted == 0 {
		t.Errorf("%+v after it was made smaller", f)
	}
	c.Resize(0)
	if f := c.Figures(); f.Entries != 0 || c.MaxBody() != 0 {
		t.Errorf("%+v without memory", f)
	}
}

func TestAFlightAndThoseWhoWait(t *testing.T) {
	c := cache.New(64 << 20)
	k := key("a", "")
	f, leads := c.Join(k)
	if !leads {
		t.Fatal("nobody was under way")
	}
	if g, leads := c.Join(k); leads || g != f {
		t.Fatal("two lead")
	}
	if a, again := c.Await(t.Context(), f, time.Millisecond); a != nil || again {
		t.Error("who is late brings something")
	}
	since := c.Since(k)
	c.Forget(k.Bytes[:k.Group])
	c.Land(k, f, since, answer(t, "old"), false)
	c.Land(k, f, since, answer(t, "old"), false) // does nothing
	if a, again := c.Await(t.Context(), f, time.Minute); a != nil || again {
		t.Error("an answer from before a change is given to those who came after")
	}
	f, _ = c.Join(k)
	c.Land(k, f, c.Since(k), nil, true)
	if _, again := c.Await(t.Context(), f, time.Minute); !again {
		t.Error("the next one does not learn that its leader left")
	}
	c.Land(k, nil, c.Since(k), nil, false) // of one who leads nothing
}

func TestAConfirmedAnswer(t *testing.T) {
	now := time.Now()
	p := &cache.Policy{TTL: time.Minute}
	a := answer(t, "x", http1.Field{Name: "Etag", Value: `"1"`}, http1.Field{Name: "Content-Type", Value: "text/plain"}, http1.Field{Name: "X-Turn", Value: "1"})
	b, keep := a.Confirmed(p, []http1.Field{{Name: "X-Turn", Value: "2"}, {Name: "Content-Type", Value: "text/html"}, {Name: "Content-Length", Value: "99"}}, now, now)
	if b == nil || !keep || string(b.Body) != "x" {
		t.Fatalf("%+v %v", b, keep)
	}
	got := map[string]string{}
	for _, f := range b.Fields {
		got[f.Name] += f.Value
	}
	if got["X-Turn"] != "2" || got["Content-Type"] != "text/plain" || got["Content-Length"] != "" || got["Etag"] != `"1"` {
		t.Errorf("%v", got)
	}
	if b, _ := a.Confirmed(p, []http1.Field{{Name: "Etag", Value: `"2"`}}, now, now); b != nil {
		t.Error("a 304 about another answer confirms this one")
	}
	for _, f := range []http1.Field{
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "Cache-Control", Value: "private"},
		{Name: "Set-Cookie", Value: "a=b"},
		{Name: "Vary", Value: "*"},
		{Name: "Clear-Site-Data", Value: `"cookies"`},
		{Name: "Www-Authenticate", Value: "x"},
	} {
		if b, keep := a.Confirmed(p, []http1.Field{f}, now, now); b == nil || keep {
			t.Errorf("%s: what must not be kept any more is given once, and not kept", f.Value)
		}
	}
	later := now.Add(time.Hour)
	if b, keep := a.Confirmed(p, nil, later, later); b == nil || !keep || !b.Fresh(later) || b.Age(later) != 0 {
		t.Error("a 304 that does not say when it was made leaves the answer as old as it was")
	} else if i := slices.IndexFunc(b.Fields, func(f http1.Field) bool { return f.Name == "Date" }); i < 0 || b.Fields[i].Value != later.UTC().Format(http.TimeFormat) {
		t.Errorf("when it was confirmed is not told: %v", b.Fields)
	}
}

func TestWhatTellsOfOneRequestIsNotKept(t *testing.T) {
	for _, f := range answer(t, "x", http1.Field{Name: "X-Request-Id", Value: "1"}, http1.Field{Name: "Traceparent", Value: "1"}, http1.Field{Name: "Ratelimit", Value: "1"}, http1.Field{Name: "X-Ratelimit-Limit", Value: "1"}, http1.Field{Name: "Age", Value: "1"}).Fields {
		if f.Name != "Date" {
			t.Errorf("%s is kept", f.Name)
		}
	}
}

func TestHowOldAnAnswerIs(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	field := func(name, value string) http1.Field { return http1.Field{Name: name, Value: value} }
	for _, c := range []struct {
		name      string
		fields    []http1.Field
		wait      time.Duration // for the service
		age, left time.Duration
	}{
		{"just made", nil, 0, 0, time.Minute},
		{"it took long to come", nil, 5 * time.Second, 5 * time.Second, 55 * time.Second},
		{"a cache before us had it", []http1.Field{field("Age", "20"), field("Cache-Control", "max-age=30")}, time.Second, 21 * time.Second, 9 * time.Second},
		{"made long ago", []http1.Field{field("Date", now.Add(-40*time.Second).UTC().Format(http.TimeFormat))}, 0, 40 * time.Second, 20 * time.Second},
		{"a clock ahead of ours", []http1.Field{field("Date", now.Add(time.Hour).UTC().Format(http.TimeFormat))}, 0, 0, time.Minute},
		{"Expires counts from Date", []http1.Field{field("Date", now.Add(-10*time.Second).UTC().Format(http.TimeFormat)), field("Expires", now.Add(20*time.Second).UTC().Format(http.TimeFormat))}, 0, 10 * time.Second, 20 * time.Second},
		{"an Age that is no number", []http1.Field{field("Age", "-5"), field("Cache-Control", "max-age=30")}, 0, 0, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := cache.Judge(&cache.Policy{TTL: time.Minute}, 200, c.fields, now.Add(-c.wait), now)
			if a == nil || a.Age(now) != c.age || a.Left(now) != c.left {
				t.Fatalf("%+v: age %v, left %v", a, a.Age(now), a.Left(now))
			}
			if a.Fresh(now.Add(c.left)) || !a.Fresh(now.Add(c.left-1)) {
				t.Error("it is not fresh for just so long")
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(uint16(200), "max-age=1, no-cache=\"a,b\"", "Sat, 01 Jan 2000 00:00:00 GMT", "5", `W/"x", "y"`)
	f.Add(uint16(200), "public", "", "", "x")
	f.Add(uint16(304), `a="\",no-store`, "0", "9999999999999999999999", `"`)
	f.Fuzz(func(t *testing.T, status uint16, control, expires, age, tag string) {
		now := time.Now()
		fields := []http1.Field{{Name: "Cache-Control", Value: control}, {Name: "Expires", Value: expires}, {Name: "Age", Value: age}, {Name: "Etag", Value: tag}}
		a := cache.Judge(&cache.Policy{TTL: time.Minute}, int(status), fields, now, now)
		if a == nil {
			return
		}
		if a.Age(now) < 0 || a.Left(now) > 366*24*time.Hour {
			t.Errorf("age %v, left %v", a.Age(now), a.Left(now))
		}
		a.Had(http.Header{"If-None-Match": {tag}, "If-Modified-Since": {expires}})
		_, _ = a.Confirmed(&cache.Policy{}, fields, now, now)
	})
}

func TestManyAtOnce(t *testing.T) {
	c := cache.New(8 << 20)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				k := key(fmt.Sprint(i%7), fmt.Sprint((i*n)%900))
				switch i % 11 {
				case 0:
					c.Forget(k.Bytes[:k.Group])
				case 1:
					c.Pass(k, c.Since(k), time.Now())
				case 2:
					if a := c.Get(k); a != nil {
						c.Drop(k, a)
					}
				default:
					if a := c.Get(k); a == nil {
						c.Put(k, c.Since(k), answer(t, "0123456789"))
					}
				}
			}
		})
	}
	wg.Wait()
	for g := range 7 {
		c.Forget([]byte(fmt.Sprint(g) + "|"))
	}
	if f := c.Figures(); f.Entries != 0 || f.Bytes != 0 {
		t.Errorf("%+v", f)
	}
}

func BenchmarkGet(b *testing.B) {
	c := cache.New(64 << 20)
	var keys [1024]cache.Key
	for i := range keys {
		keys[i] = key("bench", string(binary.BigEndian.AppendUint32(nil, uint32(i))))
		put(b, c, keys[i], "0123456789")
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			if c.Get(keys[i%len(keys)]) == nil {
				b.Error("gone")
			}
		}
	})
}
