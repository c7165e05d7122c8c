package waf_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// Coraza takes minutes for what ours does in seconds. So its verdicts are kept in
// testdata, each with a digest of its message; a sample is asked live each time,
// and with -oracle everything.
var (
	askAll = flag.Bool("oracle", false, "ask Coraza itself about every message, not about a sample")
	update = flag.Bool("update", false, "write what Coraza says to testdata")
)

const verdictsFile = "testdata/coraza-verdicts.gz"

// A said is the part of a verdict that the engines must agree on.
type said struct {
	ids   map[int]int // how many values each rule matched
	score int
	block bool
}

func (s said) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v", s.score, s.block)
	for _, id := range slices.Sorted(maps.Keys(s.ids)) {
		fmt.Fprintf(&b, " %d:%d", id, s.ids[id])
	}
	return b.String()
}

func (s said) equal(o said) bool {
	return s.score == o.score && s.block == o.block && maps.Equal(s.ids, o.ids)
}

func sayOf(v *waf.Verdict) said {
	s := said{ids: map[int]int{}, score: v.Score, block: v.Block}
	for _, h := range v.Hits {
		s.ids[h.Rule]++
	}
	return s
}

// A probe is one message that both engines are asked about: the answer of m, when
// it has one, and the request else.
type probe struct {
	name string
	m    waf.Message
}

// probesOf makes two of a message that has an answer.
func probesOf(name string, m waf.Message) []probe {
	if m.Status == 0 {
		return []probe{{name, m}}
	}
	request := m
	request.Status, request.Answer, request.AnswerBody = 0, nil, nil
	return []probe{{name, request}, {name + "/answer", m}}
}

// key names a probe at a level, and changes with its message.
func (p *probe) key(level int) string {
	h := fnv.New64a()
	m := &p.m
	fmt.Fprintf(h, "%q %q %q %q %q %q %d %q %q", m.Address, m.Method, m.Target, m.Protocol, m.Header, m.Body, m.Status, m.Answer, m.AnswerBody)
	return fmt.Sprintf("%s@%d %x", p.name, level, h.Sum64())
}

type engine interface {
	Request(*waf.Facts, *waf.Verdict)
	Answer(*waf.Facts, *waf.Verdict)
}

func ask(e engine, m *waf.Message, f *waf.Facts) (v waf.Verdict) {
	f.Read(m)
	if m.Status != 0 {
		f.ReadAnswer(m)
		e.Answer(f, &v)
	} else {
		e.Request(f, &v)
	}
	return v
}

// suite is how the Core Rule Set's authors run their tests.
func suite(level int) waf.Config {
	return waf.Config{
		Paranoia: level, Detect: level,
		Before: []waf.Source{{Name: "suite.conf", Text: []byte(`SecAction "id:900005,phase:1,nolog,pass,setvar:tx.crs_validate_utf8_encoding=1,` +
			`setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,` +
			`setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"`)}},
		// They run their tests in detection only: an unreadable body is judged, too.
		After:  []waf.Source{{Name: "suite-after.conf", Text: []byte("SecRuleRemoveById 200002-200005 200009")}},
		Budget: 10_000_000_000,
	}
}

func corazaEngines(t testing.TB) (levels [5]*coraza.Engine) {
	t.Helper()
	for level := 1; level <= 4; level++ {
		e, err := coraza.Load(suite(level))
		if err != nil {
			t.Fatal(err)
		}
		levels[level] = e
	}
	return levels
}

// each runs do for 0 to n-1 on all processors, each with facts of its own.
func each(n int, do func(i int, f *waf.Facts)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var f waf.Facts
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i, &f)
			}
		})
	}
	wg.Wait()
}

// recorded reads what Coraza said.
func recorded(t testing.TB) map[string]said {
	t.Helper()
	raw, err := os.ReadFile(verdictsFile)
	if err != nil {
		t.Fatalf("%v (written by go test ./internal/validate/waf -run TestSameness -update)", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]said{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// name@level digest<tab>score block id:count...
		key, rest, _ := strings.Cut(lines.Text(), "\t")
		s := said{ids: map[int]int{}}
		for i, w := range strings.Fields(rest) {
			switch i {
			case 0:
				s.score, _ = strconv.Atoi(w)
			case 1:
				s.block = w == "true"
			default:
				id, n, _ := strings.Cut(w, ":")
				k, _ := strconv.Atoi(id)
				s.ids[k], _ = strconv.Atoi(n)
			}
		}
		all[key] = s
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func record(t *testing.T, probes []probe) {
	t.Helper()
	engines := corazaEngines(t)
	lines := make([]string, 4*len(probes))
	each(len(lines), func(i int, f *waf.Facts) {
		p, level := &probes[i/4], i%4+1
		v := ask(engines[level], &p.m, f)
		lines[i] = p.key(level) + "\t" + sayOf(&v).String() + "\n"
	})
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	for _, l := range lines {
		_, _ = z.Write([]byte(l))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(verdictsFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// probes are all messages the engines are held against each other with.
func probes(t testing.TB) (all []probe) {
	for _, c := range crsTests(t) {
		all = append(all, probesOf("crs "+c.name, c.m)...)
	}
	for _, c := range corpora(t) {
		all = append(all, c.probes...)
	}
	return all
}
