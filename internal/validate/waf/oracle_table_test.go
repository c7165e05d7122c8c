package waf_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// bench/waf.sh gives the addresses of ModSecurity and makes docs/waf.md's tables.
var modsecurity = flag.String("modsecurity", "", "host:port of servers with ModSecurity at paranoia level 1 and 2, with a comma between: print the table of docs/waf.md")

// api is the setting of a gateway before an API: the methods that APIs have.
func api(level int) waf.Config {
	return waf.Config{Paranoia: level, Methods: []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}}
}

// TestDetection holds what is found and what is blocked by mistake to what
// docs/waf.md says. A change of it is a change of what the gateway promises.
func TestDetection(t *testing.T) {
	if raceEnabled {
		t.Skip("CI runs it without the race detector")
	}
	engines := map[string]func(level int, p *probe, f *waf.Facts) bool{}
	var rules [3]*waf.Rules
	var reference [3]*coraza.Engine
	live := *modsecurity != "" || *askAll
	for level := 1; level <= 2; level++ {
		var err error
		if rules[level], err = waf.Load(api(level)); err != nil {
			t.Fatal(err)
		}
		if live {
			if reference[level], err = coraza.Load(api(level)); err != nil {
				t.Fatal(err)
			}
		}
	}
	engines["Gatehouse"] = func(level int, p *probe, f *waf.Facts) bool {
		v := ask(rules[level], &p.m, f)
		return v.Block || v.Over
	}
	names := []string{"Gatehouse"}
	if live {
		names = append(names, "Coraza")
		engines["Coraza"] = func(level int, p *probe, f *waf.Facts) bool {
			v := ask(reference[level], &p.m, f)
			return v.Block
		}
	}
	if *modsecurity != "" {
		addresses := strings.Split(*modsecurity, ",")
		names = append(names, "ModSecurity")
		engines["ModSecurity"] = func(level int, p *probe, _ *waf.Facts) bool {
			status, err := send(addresses[level-1], &p.m)
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
			return status != http.StatusOK
		}
	}
	classes := map[string]*[5]int{} // of the attacks in our list: blocked at level 1 at each place
	var table strings.Builder
	for _, c := range corpora(t) {
		fmt.Fprintf(&table, "| %s | %d", c.name, len(c.probes))
		for level := 1; level <= 2; level++ {
			for _, name := range names {
				var blocked atomic.Int64
				hit := make([]bool, len(c.probes))
				each(len(c.probes), func(i int, f *waf.Facts) {
					if hit[i] = engines[name](level, &c.probes[i], f); hit[i] {
						blocked.Add(1)
					}
				})
				share := 100 * float64(blocked.Load()) / float64(len(c.probes))
				fmt.Fprintf(&table, " | %.1f %%", share)
				if level == 1 && name == "Gatehouse" {
					if want, ok := promised[c.name]; !ok || c.attack && share < want-0.05 || !c.attack && share > want+0.05 {
						t.Errorf("%s: %.1f %% are blocked, docs/waf.md says %.1f %%", c.name, share, want)
					}
					tally(classes, &c, hit)
				}
				if !c.attack && testing.Verbose() {
					for i, h := range hit {
						if h && name == "Gatehouse" && level == 1 {
							v := ask(rules[1], &c.probes[i].m, new(waf.Facts))
							t.Logf("blocked: %s: %v", c.probes[i].name, sayOf(&v))
						}
					}
				}
			}
		}
		table.WriteString(" |\n")
	}
	t.Logf("%v at level 1, then at level 2:\n%s", names, table.String())
	var byClass strings.Builder
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		n := classes[class]
		fmt.Fprintf(&byClass, "| %s | %v |\n", class, strings.Trim(fmt.Sprint(*n), "[]"))
	}
	t.Logf("by class: query, json, header, path, cookie:\n%s", byClass.String())
}

// promised is docs/waf.md's first column: at least so much of the attacks, at most
// so much of what is harmless, is blocked at level 1.
var promised = map[string]float64{
	"attacks in a query": 86.8, "attacks in a json": 86.8, "attacks in a header": 43.6, "attacks in a path": 48.4, "attacks in a cookie": 84.3,
	"harmless texts in a query": 1.6, "harmless texts in a json": 1.6, "harmless texts in a form": 1.6,
	"blns, attacks, in JSON": 92.9, "blns, the rest, in JSON": 0.5, "Stripe's fixtures": 1.2, "bodies made from GitHub's schemas": 4.5,
}

// TestStripesBodiesPass: the one body that is blocked has a field that is SQL by
// design, and says so in its name. That field is left out, and only there.
func TestStripesBodiesPass(t *testing.T) {
	c := api(1)
	c.Without = []waf.Exclusion{{Rules: []string{"942100"}, In: waf.ArgPost, Name: "json.sql"}}
	r, err := waf.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	bodies := stripeBodies(t)
	if len(bodies) == 0 {
		t.Skip("Stripe's fixtures are not at hand: tools/test.sh fetches them")
	}
	for _, p := range bodies {
		if v := ask(r, &p.m, new(waf.Facts)); v.Block || v.Over {
			t.Errorf("%s: %v", p.name, sayOf(&v))
		}
	}
}

func tally(classes map[string]*[5]int, c *corpus, hit []bool) {
	place := slices.Index([]string{"attacks in a query", "attacks in a json", "attacks in a header", "attacks in a path", "attacks in a cookie"}, c.name)
	if place < 0 {
		return
	}
	for i, p := range c.probes {
		words := strings.Fields(p.name)
		class := words[2][:strings.LastIndexByte(words[2], '-')]
		if classes[class] == nil {
			classes[class] = new([5]int)
		}
		if hit[i] {
			classes[class][place]++
		}
	}
}

// send sends m as it is, and returns the status of the answer.
func send(address string, m *waf.Message) (int, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", m.Method, m.Target, m.Protocol)
	for _, h := range m.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if len(m.Body) > 0 && !slices.ContainsFunc(m.Header, func(h waf.Field) bool { return strings.EqualFold(h.Name, "Content-Length") }) {
		fmt.Fprintf(&b, "Content-Length: %s\r\n", strconv.Itoa(len(m.Body)))
	}
	b.WriteString("Connection: close\r\n\r\n")
	b.Write(m.Body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return 0, err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Body.Close() }()
	return r.StatusCode, nil
}
