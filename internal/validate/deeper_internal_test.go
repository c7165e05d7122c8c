package validate

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestDeeperFindsWhatIsEncoded(t *testing.T) {
	const attack = `<script>alert(1)</script>`
	std := base64.StdEncoding.EncodeToString([]byte(attack))
	wide := make([]byte, 0, 2*len(attack))
	for i := range len(attack) {
		wide = append(wide, attack[i], 0)
	}
	lines := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(attack, 5)))
	tests := []struct{ name, text, kind, want string }{
		{"Base64", std, "base64", attack},
		{"Base64 without padding", strings.TrimRight(std, "="), "base64", attack},
		{"Base64 for URLs", base64.URLEncoding.EncodeToString([]byte(attack + "???>>>")), "base64", attack + "???>>>"},
		{"Base64 of UTF-16", base64.StdEncoding.EncodeToString(wide), "base64", attack},
		{"Base64 in a data URL", "see data:text/html;base64," + std + " there", "base64", attack},
		{"Base64 behind a path", "/files/" + std, "base64", attack},
		{"Base64 in lines", lines[:76] + "\r\n" + lines[76:], "base64", strings.Repeat(attack, 5)},
		{"hex", hex.EncodeToString([]byte(attack)), "hex", attack},
		{"hex with 0x", "0x" + strings.ToUpper(hex.EncodeToString([]byte(attack))), "hex", attack},
		{"percent-encoding", url.QueryEscape(attack), "percent", attack},
		{"percent-encoding twice", url.QueryEscape(url.QueryEscape(attack)), "percent percent", attack},
		{"HTML entities", "&lt;script&gt;alert(1)&lt;/script&gt;", "html", attack},
		{"HTML entities by number", "&#x3c;script>alert&#40;1)&#60;/script>", "html", attack},
		{"JSON in a string", `{"a":[{"b":"\u003cscript>alert(1)</script>"}]}`, "json", attack},
		{"a JSON name", `{"\u003cscript>alert(1)</script>":1}`, "json", attack},
		{"a JSON string alone", strconv.QuoteToASCII("\u00e9" + attack), "json", "\u00e9" + attack},
		{"Base64 in Base64", base64.StdEncoding.EncodeToString([]byte(std)), "base64 base64", attack},
		{"Base64 in JSON in percent-encoding", url.QueryEscape(`{"a":"` + std + `"}`), "percent json base64", attack},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			deeper(tt.text, func(kind, decoded string) bool {
				got = append(got, kind+": "+decoded)
				return true
			})
			if !slices.Contains(got, tt.kind+": "+tt.want) {
				t.Errorf("%q gives %q, want %s: %s", tt.text, got, tt.kind, tt.want)
			}
		})
	}
}

func TestDeeperLeavesOtherTextsAlone(t *testing.T) {
	for _, text := range []string{
		"", "a", "Hello, world", "internationalizationalism of the words", "100% sure", "50%-60%", "R&D; and more", "a & b", "{not json}", `"quoted" words`,
		"3f2504e0-4f89-11d3-9a0c-0305e82c3301", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "2026-11-23T17:52:30.123456789Z",
		"pk_test_TYooMQauvdEDq54NiTphI7jx", "AAAAAAAAAAAAAAAAAAAAAAAA", "/usr/local/share/applications/thing", "one-two-three-four-five-six-seven", "4111111111111111",
		"eyJhbGciOiJub25lIn0"[:15],
	} {
		deeper(text, func(kind, decoded string) bool {
			t.Errorf("%q gives %s %q", text, kind, decoded)
			return true
		})
	}
}

func TestDeeperIsBounded(t *testing.T) {
	bomb := strings.Repeat("<script>", 1000)
	for range 6 {
		bomb = base64.StdEncoding.EncodeToString([]byte(bomb))
	}
	for name, text := range map[string]string{
		"six layers":        bomb,
		"many strings":      "[" + strings.Repeat(`"%41",`, 20_000) + `"a"]`,
		"deep JSON":         strings.Repeat("[", 100_000) + `"a"` + strings.Repeat("]", 100_000),
		"entities that are": strings.Repeat("&nGt;", 20_000),
		"runs":              strings.Repeat("QUFBQUFBQUFBQUFB ", 5000),
	} {
		total, n := 0, 0
		deeper(text, func(_, decoded string) bool {
			total += len(decoded)
			n++
			return true
		})
		if total > deeperTimes*len(text)+deeperExtra || n > deeperMost {
			t.Errorf("%s: %d bytes gave %d in %d texts", name, len(text), total, n)
		}
	}
	n := 0
	deeper("%41%41 "+base64.StdEncoding.EncodeToString([]byte("hello, hello, hello")), func(string, string) bool { n++; return false })
	if n != 1 {
		t.Errorf("went on %d times after it was stopped", n-1)
	}
}

func TestAllocsDeeper(t *testing.T) {
	text := strings.Repeat("An ordinary sentence, with 100% of its words in the open & nothing else. ", 20)
	if n := testing.AllocsPerRun(100, func() { deeper(text, func(string, string) bool { return true }) }); n > 0 {
		t.Errorf("%v allocations for a text that is not encoded", n)
	}
}

// FuzzDeeper holds that no text makes it fail, last or grow.
func FuzzDeeper(f *testing.F) {
	for _, s := range []string{"JTNDc2NyaXB0JTNF", "%2541", `{"a":"JTNDc2NyaXB0JTNF"}`, "&lt;&amp;lt;", "3c7363726970743e3c7363726970743e", "0x" + strings.Repeat("41", 20)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		total := 0
		deeper(text, func(kind, decoded string) bool {
			total += len(decoded)
			if decoded == "" || strings.Count(kind, " ") >= deeperLayers {
				t.Fatalf("%q gives %s %q", text, kind, decoded)
			}
			return true
		})
		if total > deeperTimes*len(text)+deeperExtra {
			t.Fatalf("%d bytes gave %d", len(text), total)
		}
	})
}

func BenchmarkDeeper(b *testing.B) {
	plain := strings.Repeat("An ordinary sentence, with 100% of its words in the open & nothing else. ", 14)
	for name, text := range map[string]string{"plain": plain, "base64": base64.StdEncoding.EncodeToString([]byte(plain))} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				deeper(text, func(string, string) bool { return true })
			}
		})
	}
}
