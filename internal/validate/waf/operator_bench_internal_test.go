package waf

import (
	"io/fs"
	"runtime"
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
	size := int64(after.HeapAlloc) - int64(before.HeapAlloc) //nolint:gosec // sizes of a heap
	t.Logf("%d lists take %d KiB", len(lists), size>>10)
	if size > 16<<20 {
		t.Errorf("%d lists take %d KiB", len(lists), size>>10)
	}
	runtime.KeepAlive(lists)
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
