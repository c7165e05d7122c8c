package waf

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"

	crs "github.com/corazawaf/coraza-coreruleset/v4"
)

// crsLists are the lists of the Core Rule Set by their file.
func crsLists(tb testing.TB) map[string]*phrases {
	tb.Helper()
	out := map[string]*phrases{}
	files, err := fs.Glob(crs.FS, "@owasp_crs/*.data")
	if err != nil || len(files) < 20 {
		tb.Fatal(len(files), err)
	}
	for _, name := range files {
		data, err := fs.ReadFile(crs.FS, name)
		if err != nil {
			tb.Fatal(err)
		}
		o, err := newOperator(seclang.Operator{Name: "pmFromFile", Data: data})
		if err != nil {
			tb.Fatal(err)
		}
		o.(*phrases).auto()
		out[strings.TrimPrefix(name, "@owasp_crs/")] = o.(*phrases)
	}
	return out
}

// requestLists are the lists asked about arguments.
var requestLists = []string{"lfi-os-files.data", "windows-powershell-commands.data", "unix-shell.data", "php-variables.data", "php-function-names-933150.data", "ssrf.data", "ssrf-no-scheme.data"}

func TestTheListsOfTheCoreRuleSetTakeLittleRoom(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	lists := crsLists(t)
	runtime.GC()
	runtime.ReadMemStats(&after)
	size := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d lists take %d KiB", len(lists), size>>10)
	if size > 16<<20 {
		t.Errorf("%d lists take %d KiB", len(lists), size>>10)
	}
	runtime.KeepAlive(lists)
}

// TestLongListsAreFoundAsOneByOne is about states without a row of their own,
// which only long lists have.
func TestLongListsAreFoundAsOneByOne(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	lists := crsLists(t)
	var all []*phrases
	names := slices.Sorted(maps.Keys(lists))
	for _, name := range names {
		all = append(all, lists[name])
	}
	multi := newMultiPM(all)
	if int(multi.auto.dense) >= len(multi.auto.label) {
		t.Fatal("all states have a row: the lists prove nothing")
	}
	found := 0
	for range 1500 {
		var b strings.Builder
		for range 1 + rnd.IntN(3) { // pieces of phrases, some whole, in any case
			list := all[rnd.IntN(len(all))].list
			phrase := list[rnd.IntN(len(list))]
			if rnd.IntN(2) == 0 {
				phrase = phrase[rnd.IntN(len(phrase)):]
			}
			if rnd.IntN(2) == 0 {
				phrase = phrase[:rnd.IntN(len(phrase)+1)]
			}
			if rnd.IntN(2) == 0 {
				phrase = strings.Map(func(r rune) rune {
					if r >= 'a' && r <= 'z' {
						r -= 'a' - 'A' // only ASCII has two cases here
					}
					return r
				}, phrase)
			}
			b.WriteString(phrase)
		}
		text := b.String()
		small := strings.ToLower(text)
		hits := make([]uint64, 1)
		multi.scan(text, hits)
		for i, p := range all {
			want := slices.ContainsFunc(p.list, func(phrase string) bool { return strings.Contains(small, strings.ToLower(phrase)) })
			if want {
				found++
			}
			var caps captures
			if got := hits[0]>>i&1 != 0; got != want || p.match(text, nil) != want || p.match(text, &caps) != want || caps.n > 0 != want {
				t.Errorf("%s in %q: %v in one pass, %v alone, %d captured; it is %v", names[i], text, got, p.match(text, nil), caps.n, want)
			}
		}
	}
	if found == 0 {
		t.Error("the texts prove nothing")
	}
}

func BenchmarkPhrases(b *testing.B) {
	lists := crsLists(b)
	var all []*phrases
	for _, name := range requestLists {
		all = append(all, lists[name])
	}
	multi := newMultiPM(all)
	hits := make([]uint64, 1)
	texts := map[string]string{
		"value":          "Please leave the parcel at the door",
		"prose 8 KiB":    strings.Repeat("The quick brown fox jumps over the lazy dog and opens /usr or /etc now. ", 114)[:8<<10],
		"hostile 64 KiB": strings.Repeat("get-childite", 5462)[:64<<10],
	}
	for name, text := range texts {
		for _, list := range []string{"unix-shell.data", "php-errors.data", "scanners-user-agents.data"} {
			b.Run(list+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					lists[list].auto().scan(text, hits)
				}
			})
		}
		b.Run("seven in one pass/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				multi.scan(text, hits)
			}
		})
		b.Run("seven one by one/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for _, p := range all {
					p.match(text, nil)
				}
			}
		})
	}
	b.Run("make php-errors", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newPhrases(lists["php-errors.data"].list).auto()
		}
	})
	b.Run("make seven in one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newMultiPM(all)
		}
	})
}
