package ddos

import (
	"net/netip"
	"testing"
	"time"
)

func TestWhatAnotherNodeMayNotAskFor(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for name, b := range map[string]Banned{
		"half of the Internet": {Prefix: netip.MustParsePrefix("0.0.0.0/1"), Until: soon},
		"a provider":           {Prefix: netip.MustParsePrefix("2001:db8::/32"), Until: soon},
		"for ever":             {Prefix: netip.MustParsePrefix("192.0.2.1/32"), Until: soon.Add(10 * 365 * 24 * time.Hour)},
	} {
		if _, _, err := decodeBans(encodeBans("a", []Banned{b})); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	want := Banned{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: soon.Truncate(time.Millisecond), Accept: true}
	node, got, err := decodeBans(encodeBans("a", []Banned{want}))
	if err != nil || node != "a" || len(got) != 1 || got[0].Prefix != want.Prefix || !got[0].Until.Equal(want.Until) || !got[0].Accept {
		t.Errorf("%q %+v %v", node, got, err)
	}
}

func FuzzDecodeBans(f *testing.F) {
	f.Add(encodeBans("a", []Banned{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: time.Now().Add(time.Hour)}}))
	f.Add([]byte(`{"bans":[{"p":"::ffff:1.2.3.4/120","u":1}]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		_, found, err := decodeBans(message)
		if err != nil {
			return
		}
		for _, b := range found {
			if s, err := sourceOf(b.Prefix); err != nil || s.v4 && s.bits < 24 || !s.v4 && s.bits < 48 || s.prefix() != b.Prefix {
				t.Errorf("%q: %v", message, b.Prefix)
			}
		}
	})
}
