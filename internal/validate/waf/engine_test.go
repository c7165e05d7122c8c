package waf_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// get is a request for /items with a query and some header fields, "Name: value" each.
func get(query string, header ...string) waf.Message {
	m := waf.Message{Address: "192.0.2.1", Method: "GET", Target: "/items?" + query, Protocol: "HTTP/1.1"}
	for _, h := range append([]string{"Host: shop.example"}, header...) {
		name, value, _ := strings.Cut(h, ": ")
		m.Header = append(m.Header, waf.Field{Name: name, Value: value})
	}
	return m
}

func own(rules string) waf.Config {
	return waf.Config{NoCRS: true, After: []waf.Source{{Name: "own.conf", Text: []byte(rules)}}}
}

// saysOf is a verdict in one line: rules with their target and name, in order.
func saysOf(v *waf.Verdict) string {
	var b strings.Builder
	for _, h := range v.Hits {
		fmt.Fprintf(&b, "%d %s", h.Rule, h.Target)
		if h.Name != "" {
			b.WriteString(":" + h.Name)
		}
		if h.Msg != "" {
			fmt.Fprintf(&b, " %q", h.Msg)
		}
		b.WriteString("; ")
	}
	if v.Block {
		b.WriteString("block")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestRulesRunAsTheyAreWritten(t *testing.T) {
	for name, c := range map[string]struct {
		rules, want string
		m           waf.Message
	}{
		"a rule reports each value it matches": {
			`SecRule ARGS "@rx x" "id:1,phase:2,pass,log"`, "1 ARGS:a; 1 ARGS:c", get("a=x&b=y&c=xx"),
		},
		"setvar acts once for each value, even when the chain fails": {
			`SecRule ARGS "@rx x" "id:1,phase:1,pass,nolog,setvar:tx.n=+2,chain"
			SecRule ARGS "@streq nowhere"
			SecRule TX:n "@eq 4" "id:2,phase:1,pass,log,msg:'n is %{tx.n}'"`,
			`2 TX:n "n is 4"`, get("a=x&b=x"),
		},
		"a chain sees what its links matched": {
			`SecRule ARGS "@rx ^[a-z]+$" "id:1,phase:1,pass,log,msg:'%{MATCHED_VAR} in %{MATCHED_VAR_NAME}',chain"
			SecRule MATCHED_VARS "@streq two" "chain"
			SecRule MATCHED_VARS_NAMES "@endsWith b"`,
			`1 ARGS:a "MATCHED_VARS:ARGS:b in MATCHED_VARS_NAMES:MATCHED_VARS:ARGS:b"; 1 ARGS:b "MATCHED_VARS:ARGS:b in MATCHED_VARS_NAMES:MATCHED_VARS:ARGS:b"`,
			get("a=one&b=two&c=3"),
		},
		"groups become TX:0 to TX:9 and macros of what follows": {
			`SecRule ARGS:a "@rx ^(\w)(\w)" "id:1,phase:1,pass,log,capture,msg:'%{tx.2}%{tx.1}',chain"
			SecRule TX:1 "!@streq %{tx.2}"`, `1 ARGS:a "yx"`, get("a=xyz"),
		},
		"skipAfter goes on at the marker": {
			`SecRule ARGS "@streq x" "id:1,phase:1,pass,nolog,skipAfter:END"
			SecRule ARGS "@rx ." "id:2,phase:1,pass,log"
			SecMarker END
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"`, "3 ARGS:a", get("a=x"),
		},
		"skip leaves out that many rules": {
			`SecRule ARGS "@streq x" "id:1,phase:1,pass,nolog,skip:1"
			SecRule ARGS "@rx ." "id:2,phase:1,pass,log"
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"`, "3 ARGS:a", get("a=x"),
		},
		"ctl takes a rule out for this message": {
			`SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=3"
			SecRule ARGS "@rx ." "id:2,phase:1,pass,log"
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"`, "2 ARGS:a", get("a=x"),
		},
		"ctl takes a target from the rules of a tag": {
			`SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetByTag=t;ARGS:b"
			SecRule ARGS "@rx ." "id:2,phase:1,pass,log,tag:t"
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"`, "2 ARGS:a; 3 ARGS:a; 3 ARGS:b", get("a=x&b=y"),
		},
		"multiMatch asks after each transformation that changed the value": {
			`SecRule ARGS "@rx (?i)^ab" "id:1,phase:1,pass,log,multiMatch,t:none,t:lowercase,t:trim"`, "1 ARGS:a; 1 ARGS:a", get("a=AB"),
		},
		"a count is asked of the number of members": {
			`SecRule &ARGS:a "@eq 2" "id:1,phase:1,pass,log"
			SecRule &REQUEST_HEADERS:X-None "@eq 0" "id:2,phase:1,pass,log"
			SecRule &REQUEST_HEADERS:Host "@eq 0" "id:3,phase:1,pass,log"`, "1 ARGS:a; 2 REQUEST_HEADERS:x-none", get("a=1&a=2"),
		},
		"a negated operator does not match what is not there": {
			`SecRule REQUEST_HEADERS:X-None "!@rx ^a$" "id:1,phase:1,pass,log"
			SecRule REQUEST_HEADERS:X-Some "!@rx ^a$" "id:2,phase:1,pass,log"`, "2 REQUEST_HEADERS:X-Some", get("", "X-Some: b"),
		},
		"phase 1 does not see the body": {
			`SecRule ARGS "@rx x" "id:1,phase:1,pass,log"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,log"`, "2 ARGS:json.a",
			waf.Message{Method: "POST", Target: "/", Protocol: "HTTP/1.1", Header: []waf.Field{{Name: "Content-Type", Value: "application/json"}}, Body: []byte(`{"a":"x"}`)},
		},
		"deny ends the message": {
			`SecRule ARGS "@rx x" "id:1,phase:1,deny,log"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,log"`, "1 ARGS:a; block", get("a=x"),
		},
		"allow ends the rules of a phase, of a request, of all": {
			`SecRule ARGS "@streq phase" "id:1,phase:1,allow:phase,nolog"
			SecRule ARGS "@streq request" "id:2,phase:1,allow:request,nolog"
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"
			SecRule ARGS "@rx ." "id:4,phase:2,pass,log"`, "4 ARGS:a", get("a=phase"),
		},
		"a macro in the argument is expanded for each message": {
			`SecRule ARGS:a "@endsWith .%{request_headers.host}" "id:1,phase:1,pass,log"`, "1 ARGS:a", get("a=x.shop.example"),
		},
		"variables whose name is made of a value are found by expression": {
			`SecRule ARGS_NAMES "@rx ." "id:1,phase:1,pass,nolog,setvar:tx.count_%{MATCHED_VAR}=+1"
			SecRule TX:/^count_/ "@gt 1" "id:2,phase:1,pass,log"`, "2 TX:count_b", get("a=1&b=1&b=2"),
		},
		"a setting is decided at load, and one a message changes is not": {
			`SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=1"
			SecRule ARGS:level "@streq two" "id:2,phase:1,pass,nolog,setvar:tx.level=2"
			SecRule TX:level "@lt 2" "id:3,phase:1,pass,nolog,skipAfter:END"
			SecRule ARGS "@rx ." "id:4,phase:1,pass,log"
			SecMarker END`, "4 ARGS:level", get("level=two"),
		},
		"and is not reached without that message": {
			`SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=1"
			SecRule ARGS:level "@streq two" "id:2,phase:1,pass,nolog,setvar:tx.level=2"
			SecRule TX:level "@lt 2" "id:3,phase:1,pass,nolog,skipAfter:END"
			SecRule ARGS "@rx ." "id:4,phase:1,pass,log"
			SecMarker END`, "", get("level=one"),
		},
		"a gate inside a stretch that may be skipped is kept when it ends behind it": {
			`SecRule ARGS:a "@streq jump" "id:1,phase:1,pass,nolog,skipAfter:NEAR"
			SecAction "id:2,phase:1,pass,nolog,skipAfter:FAR"
			SecMarker NEAR
			SecRule ARGS "@rx ." "id:3,phase:1,pass,log"
			SecMarker FAR`, "3 ARGS:a", get("a=jump"),
		},
		"the second of two alike header fields is looked at": {
			`SecRule REQUEST_HEADERS:X-A "@rx ^bad$" "id:1,phase:1,pass,log"`, "1 REQUEST_HEADERS:X-A", get("", "X-A: good", "X-A: bad"),
		},
		"a rule without effect on a quiet message changes nothing": {
			`SecRule ARGS "@rx ." "id:1,phase:1,pass,nolog,setvar:tx.seen=1"`, "", get("a=b"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := waf.Load(own(c.rules))
			if err != nil {
				t.Fatal(err)
			}
			reference, err := coraza.Load(own(c.rules))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // what is remembered says the same
				v := ask(r, &c.m, new(waf.Facts))
				if got := saysOf(&v); got != c.want {
					t.Fatalf("says %s, want %s", got, c.want)
				}
			}
			v := ask(r, &c.m, new(waf.Facts))
			w := ask(reference, &c.m, new(waf.Facts))
			if ours, theirs := sayOf(&v), sayOf(&w); !ours.equal(theirs) {
				t.Errorf("ours %v, Coraza %v", ours, theirs)
			}
		})
	}
}

func TestAnExclusionTakesOnlyItsValue(t *testing.T) {
	c := own(`SecRule ARGS|ARGS_NAMES|REQUEST_HEADERS "@rx ^x$" "id:1,phase:2,pass,log,tag:t"
	SecRule ARGS "@rx ^x$" "id:2,phase:2,pass,log"`)
	m := get("note=x&note2=x&q=x", "X-Note: x")
	for name, e := range map[string]struct {
		without waf.Exclusion
		want    string
	}{
		"of one name":     {waf.Exclusion{Rules: []string{"1"}, In: waf.ArgGet, Name: "note"}, "1 ARGS:note2; 1 ARGS:q; 1 REQUEST_HEADERS:X-Note; 2 ARGS:note; 2 ARGS:note2; 2 ARGS:q"},
		"of a stem":       {waf.Exclusion{Rules: []string{"1-2"}, In: waf.ArgGet, Name: "note*"}, "1 ARGS:q; 1 REQUEST_HEADERS:X-Note; 2 ARGS:q"},
		"of a place":      {waf.Exclusion{Rules: []string{"t"}, In: waf.Header}, "1 ARGS:note; 1 ARGS:note2; 1 ARGS:q; 2 ARGS:note; 2 ARGS:note2; 2 ARGS:q"},
		"of a whole rule": {waf.Exclusion{Rules: []string{"1"}}, "2 ARGS:note; 2 ARGS:note2; 2 ARGS:q"},
	} {
		t.Run(name, func(t *testing.T) {
			with := c
			with.Without = []waf.Exclusion{e.without}
			r, err := waf.Load(with)
			if err != nil {
				t.Fatal(err)
			}
			v := ask(r, &m, new(waf.Facts))
			if got := saysOf(&v); got != e.want {
				t.Errorf("at load: says %s, want %s", got, e.want)
			}
			// The same of one operation, by masks.
			if r, err = waf.Load(c); err != nil {
				t.Fatal(err)
			}
			left := r.Mask([]waf.Exclusion{e.without})
			var f waf.Facts
			f.Read(&m)
			f.Rules = left(0, "")
			for i := range f.Values {
				f.Values[i].TextRules = left(f.Values[i].In, f.Values[i].Name)
			}
			for range 3 {
				v.Reset()
				r.Request(&f, &v)
				if got := saysOf(&v); got != e.want {
					t.Errorf("by mask: says %s, want %s", got, e.want)
				}
			}
		})
	}
	c.Without = []waf.Exclusion{{Rules: []string{"9"}, In: waf.Header}}
	if _, err := waf.Load(c); err == nil {
		t.Error("an exclusion of a rule that is not there passes as one")
	}
}

func TestAMessageBeyondTheBudgetIsNeverClean(t *testing.T) {
	c := waf.Config{Paranoia: 1, Budget: 20_000}
	r, err := waf.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	m := get("q="+strings.Repeat("%27+or+1%3D1+union+select+", 50), "User-Agent: curl")
	m.Header = append(m.Header, waf.Field{Name: "Accept", Value: "*/*"})
	for range 4 {
		v := ask(r, &m, new(waf.Facts))
		if !v.Over && !v.Block {
			t.Fatalf("says %s at a cost of %d", saysOf(&v), v.Cost)
		}
		if v.Cost > 10*c.Budget {
			t.Errorf("costs %d, allowed were %d", v.Cost, c.Budget)
		}
	}
	// With time enough it blocks: nothing of the first was remembered as clean.
	c.Budget = 0
	if r, err = waf.Load(c); err != nil {
		t.Fatal(err)
	}
	if v := ask(r, &m, new(waf.Facts)); !v.Block || v.Over {
		t.Errorf("says %s, over %v", saysOf(&v), v.Over)
	}
}

func TestAVerdictThatBlocksNeedsNoMoreThanHalfOfTheBudget(t *testing.T) {
	r, err := waf.Load(waf.Config{Paranoia: 1, Budget: 30_000_000})
	if err != nil {
		t.Fatal(err)
	}
	bad := `<script>alert(1)</script> ' or 1=1 -- ${jndi:ldap://x} ; cat /etc/passwd `
	m := waf.Message{
		Method: "POST", Target: "/", Protocol: "HTTP/1.1", Header: []waf.Field{{Name: "Content-Type", Value: "application/json"}},
		Body: []byte(`{"a":"` + strings.Repeat(bad, 40_000/len(bad)) + `"}`),
	}
	for range 20 { // until the automata know these texts
		if v := ask(r, &m, new(waf.Facts)); !v.Block {
			t.Fatalf("does not block: %s, over %v", saysOf(&v), v.Over)
		}
	}
}

func TestManyAskAtOnce(t *testing.T) {
	r, err := waf.Load(waf.Config{Paranoia: 1})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var f waf.Facts
			for i := range 150 {
				m := get(fmt.Sprintf("a=%d&b=text+%d&c=x", i%7, g), "User-Agent: probe/"+fmt.Sprint(i%5), "Accept: */*")
				want := ""
				if (i+g)%3 == 0 {
					m.Target += "&q=%3Cscript%3Ealert(1)%3C/script%3E"
					want = "block"
				}
				if v := ask(r, &m, &f); v.Block != (want == "block") || v.Over {
					t.Errorf("%s: %s", m.Target, saysOf(&v))
				}
			}
		})
	}
	wg.Wait()
}

func TestMasksSayWhatCanMatch(t *testing.T) {
	r, err := waf.Load(own(`SecRule ARGS_NAMES "@rx ^_" "id:1,phase:2,pass,log"
	SecRule ARGS "@rx (?i)union\s+select" "id:2,phase:2,pass,log,t:lowercase"
	SecRule ARGS "@pm <script <svg" "id:3,phase:2,pass,log,t:urlDecodeUni"
	SecRule ARGS "!@rx ^[a-z]+$" "id:4,phase:2,pass,log"
	SecRule ARGS "@detectSQLi" "id:5,phase:2,pass,log"
	SecRule REQUEST_FILENAME "@rx \.bak$" "id:6,phase:1,pass,log"
	SecRule ARGS "@validateByteRange 32-126" "id:7,phase:2,pass,log"`))
	if err != nil {
		t.Fatal(err)
	}
	ids := func(m waf.Mask) (s string) {
		for n := range r.Len() {
			if m.Has(n) {
				s += fmt.Sprint(r.Rule(n).ID, " ")
			}
		}
		return strings.TrimSpace(strings.TrimPrefix(s, "200009 200002 200003 200004 200005"))
	}
	language := func(expr string, n int) *rx.Language {
		l, err := rx.LanguageOf(expr, n)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, c := range []struct {
		what      string
		got, want string
	}{
		{"a name", ids(r.Names(waf.ArgPost, "__proto__")), "1"},
		{"another name", ids(r.Names(waf.ArgPost, "plain")), ""},
		{"a word", ids(r.Can(waf.ArgPost, "a", language(`^[a-z0-9-]{1,36}$`, 0))), "4 5"},
		{"any text", ids(r.Can(waf.ArgPost, "a", language(``, 0))), "2 3 4 5 7"},
		{"letters and spaces", ids(r.Can(waf.ArgPost, "a", language(`^[A-Za-z ]*$`, 40))), "2 4 5"},
		{"a path", ids(r.Can(waf.Line, "REQUEST_FILENAME", language(`^/items/[0-9]+$`, 0))), ""},
		{"any path", ids(r.Can(waf.Line, "REQUEST_FILENAME", language(``, 0))), "6"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
}
