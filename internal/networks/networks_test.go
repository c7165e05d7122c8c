package networks_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/networks"
)

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func prefixes(in ...string) (out []netip.Prefix) {
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func load(t testing.TB, c networks.Config) *networks.Set {
	t.Helper()
	s, err := networks.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsKnownAboutAnAddress(t *testing.T) {
	s := load(t, networks.Config{
		Lists: []networks.List{
			{Name: "partners", Prefixes: prefixes("198.51.100.0/24", "2001:db8:1::/48", "255.255.255.255/32")},
			{Name: "bots", File: file(t, "bots.txt", "# the worst\n198.51.100.7   # one of them\n\n2001:db8:1:2::/64\n198.51.100.0/24\n::ffff:192.0.2.0/120\n")},
		},
		ASN:     file(t, "asn.csv", "network,asn,organization\n198.51.0.0/16,64500,\"Example, Inc.\"\n198.51.100.0/25,AS64501\n2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,64502,A range\n198.51.100.4/32,0\n"),
		Country: file(t, "country.csv", "198.51.100.0,198.51.101.127,de,x\n::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,CH\n198.51.100.8/30,ZZ\n"),
	})
	for address, want := range map[string]networks.Of{
		"198.51.100.7":        {List: "bots", ASN: 64501, Country: "DE"},
		"198.51.100.6":        {List: "partners", ASN: 64501, Country: "DE"}, // of two equal prefixes the first list's
		"198.51.100.4":        {List: "partners", Country: "DE"},             // said to be of no AS
		"198.51.100.9":        {List: "partners", ASN: 64501},
		"198.51.100.12":       {List: "partners", ASN: 64501, Country: "DE"},
		"198.51.100.128":      {List: "partners", ASN: 64500, Country: "DE"},
		"198.51.101.127":      {ASN: 64500, Country: "DE"},
		"198.51.101.128":      {ASN: 64500},
		"198.50.255.255":      {},
		"198.52.0.0":          {},
		"0.0.0.0":             {},
		"255.255.255.255":     {List: "partners"},
		"255.255.255.254":     {},
		"192.0.2.9":           {List: "bots"},
		"::ffff:198.51.100.7": {List: "bots", ASN: 64501, Country: "DE"},
		"2001:db8:1:2::1":     {List: "bots", Country: "CH"},
		"2001:db8:1:3::1":     {List: "partners", Country: "CH"},
		"2001:db8::1":         {ASN: 64502, Country: "CH"},
		"2001:db8:0:1::1%eth": {ASN: 64502, Country: "CH"},
		"::1":                 {Country: "CH"},
		"::":                  {Country: "CH"},
		"ffff::":              {Country: "CH"},
	} {
		if got := s.Of(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %+v, want %+v", address, got, want)
		}
	}
	if got := s.Of(netip.Addr{}); got != (networks.Of{}) {
		t.Errorf("no address: %+v", got)
	}
	var none *networks.Set
	if none.Of(netip.MustParseAddr("::1")) != (networks.Of{}) || none.Len() != 0 {
		t.Error("a nil set knows something")
	}
}

func TestAnAddressIsInEveryListAroundIt(t *testing.T) {
	s := load(t, networks.Config{
		Lists: []networks.List{
			{Name: "inner", Prefixes: prefixes("10.1.0.0/16", "2001:db8:1::/48", "192.0.2.0/24")},
			{Name: "bad", Prefixes: prefixes("10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "192.0.2.0/24")},
			{Name: "all", Prefixes: prefixes("0.0.0.0/0", "::/0")},
		},
		ASN: file(t, "asn.csv", "10.1.2.0/24,64500\n"),
	})
	for address, want := range map[string]string{
		"10.2.0.1":             "bad all",
		"10.1.0.1":             "inner bad all",
		"10.1.2.2":             "inner bad all",
		"10.1.2.3":             "bad inner all",
		"::ffff:10.1.0.1":      "inner bad all",
		"11.0.0.0":             "all",
		"192.0.2.1":            "inner bad all",
		"2001:db8:1::1":        "inner bad all",
		"2001:db8:2::1":        "bad all",
		"2001:db9::1":          "all",
		"255.255.255.255":      "all",
		"2001:db8:1::1%eth0":   "inner bad all",
		"ffff:ffff:ffff::ffff": "all",
	} {
		if got := strings.Join(s.Lists(netip.MustParseAddr(address)), " "); got != want {
			t.Errorf("%s is in %q, want %q", address, got, want)
		}
	}
	var none *networks.Set
	if s.Lists(netip.Addr{}) != nil || none.Lists(netip.MustParseAddr("::1")) != nil {
		t.Error("no address, or no set, is in a list")
	}
}

// TestATableAgreesWithALookThroughThePrefixes compares with the slow and obvious way.
func TestATableAgreesWithALookThroughThePrefixes(t *testing.T) {
	state := uint64(7)
	next := func(n uint64) uint64 { // of a small space, so that prefixes meet
		state = state*6364136223846793005 + 1442695040888963407
		return (state >> 33) % n
	}
	address := func() netip.Addr {
		if next(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(next(2)), byte(next(4)), byte(next(256))})
		}
		b := [16]byte{0: 0x20, 1: 0x01, 7: byte(next(4)), 8: byte(next(4)), 15: byte(next(256))}
		return netip.AddrFrom16(b)
	}
	for round := range 50 {
		lists := make([]networks.List, 1+next(6))
		for i := range lists {
			lists[i].Name = fmt.Sprint("l", i)
			for range next(200) {
				a := address()
				p, _ := a.Prefix(a.BitLen() - int(next(uint64(a.BitLen())+1))/int(1+next(8)))
				lists[i].Prefixes = append(lists[i].Prefixes, p)
			}
		}
		s := load(t, networks.Config{Lists: lists})
		for range 2000 {
			a := address()
			want, bits := "", -1
			for _, l := range lists {
				for _, p := range l.Prefixes {
					if p.Contains(a) && p.Bits() > bits {
						want, bits = l.Name, p.Bits()
					}
				}
			}
			if got := s.Of(a).List; got != want {
				t.Fatalf("round %d: %s is in %q, want %q, of %v", round, a, got, want, lists)
			}
			var around []string
			for _, l := range lists {
				if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
					around = append(around, l.Name)
				}
			}
			if got := slices.Sorted(slices.Values(s.Lists(a))); !slices.Equal(got, around) {
				t.Fatalf("round %d: %s is in %v, want %v, of %v", round, a, got, around, lists)
			}
		}
	}
}

func TestAFileThatCannotBeReadIsRefusedWhole(t *testing.T) {
	for name, tt := range map[string]struct{ list, asn, country, want string }{
		"a word in a list":                    {list: "192.0.2.0/24\noffice\n", want: `list:2: "office" is not a network`},
		"a prefix longer than the address":    {list: "192.0.2.0/33", want: "list:1: "},
		"bits beyond the mask":                {list: "\n192.0.2.1/24", want: "list:2: 192.0.2.1/24 has bits beyond its mask; write 192.0.2.0/24"},
		"a zone":                              {list: "fe80::1%eth0", want: "list:1: "},
		"half of the mapped addresses":        {list: "::ffff:0:0/95", want: "list:1: "},
		"an AS that is none":                  {asn: "192.0.2.0/24,64500\n192.0.3.0/24,Example\n", want: `asn:2: "Example" is not the number of an autonomous system`},
		"an AS beyond 32 bits":                {asn: "192.0.2.0/24,4294967296\n", want: "asn:1: "},
		"a line with one field":               {asn: "192.0.2.0/24,1\n\n192.0.2.0/24\n", want: "asn:3: want"},
		"a second line of names":              {asn: "network,asn\nnetwork,asn\n", want: "asn:2: "},
		"a country of three letters":          {country: "192.0.2.0/24,DEU\n", want: `country:1: "DEU" is not a country`},
		"a range that ends before it begins":  {country: "192.0.2.9,192.0.2.8,DE\n", want: "country:1: 192.0.2.9 to 192.0.2.8 is not a range"},
		"a range from one family to another":  {country: "192.0.2.9,::1,DE\n", want: "country:1: "},
		"a quote that does not end":           {country: "192.0.2.0/24,DE\n\"192.0.2.0/24,DE\n", want: "country:"},
		"a byte that is no text in a country": {country: "192.0.2.0/24,\xff\xff\n", want: "country:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := networks.Config{}
			write := func(name, content string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			if tt.list != "" {
				c.Lists = []networks.List{{Name: "l", File: write("list", tt.list)}}
			}
			if tt.asn != "" {
				c.ASN = write("asn", tt.asn)
			}
			if tt.country != "" {
				c.Country = write("country", tt.country)
			}
			s, err := networks.Load(c)
			if err == nil || s != nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %v; want %q", s, err, tt.want)
			}
		})
	}
	for name, c := range map[string]networks.Config{
		"a file that is not there":  {ASN: "/nowhere/asn.csv"},
		"a device":                  {Country: "/dev/zero"},
		"a list without a name":     {Lists: []networks.List{{}}},
		"two lists of one name":     {Lists: []networks.List{{Name: "a"}, {Name: "a"}}},
		"a prefix that is none":     {Lists: []networks.List{{Name: "a", Prefixes: make([]netip.Prefix, 1)}}},
		"a prefix beyond its mask ": {Lists: []networks.List{{Name: "a", Prefixes: prefixes("192.0.2.1/24")}}},
	} {
		if s, err := networks.Load(c); err == nil || s != nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestTheDigestIsThatOfTheContent(t *testing.T) {
	path := file(t, "list", "192.0.2.0/24\n")
	c := networks.Config{Lists: []networks.List{{Name: "a", File: path}}}
	first := load(t, c).Digest()
	if again := load(t, c).Digest(); again != first || first == "" {
		t.Errorf("read again: %q, %q", first, again)
	}
	if err := os.WriteFile(path, []byte("192.0.3.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed := load(t, c).Digest(); changed == first {
		t.Error("another list has the same digest")
	}
	if given := load(t, networks.Config{Lists: []networks.List{{Name: "a", Prefixes: prefixes("192.0.3.0/24")}}}).Digest(); given == first {
		t.Error("given prefixes do not count")
	}
}

// half a million prefixes, most of IPv4, as in a table of countries.
func many(t testing.TB) string {
	var b strings.Builder
	for n := range 350_000 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(n)*12_000&^0xff)
		fmt.Fprintf(&b, "%s/24,%c%c\n", netip.AddrFrom4(a), 'A'+n%26, 'A'+n/26%26)
	}
	for n := range 150_000 {
		fmt.Fprintf(&b, "2a%02x:%x::/32,%c%c\n", n>>16, n&0xffff, 'A'+n%26, 'A'+n/26%26)
	}
	return file(t, "country.csv", b.String())
}

func TestHalfAMillionPrefixesLoadInASecond(t *testing.T) {
	path := many(t)
	best := time.Hour
	for range 3 { // the machine may be busy with something else
		start := time.Now()
		s := load(t, networks.Config{Country: path})
		best = min(best, time.Since(start))
		if s.Len() != 500_000 {
			t.Fatal(s.Len())
		}
	}
	t.Log(best)
	if best > time.Second && !raceEnabled {
		t.Errorf("took %s", best)
	}
}

func TestALookupDoesNotAllocate(t *testing.T) {
	s := load(t, networks.Config{Country: many(t)})
	four, six := netip.MustParseAddr("10.20.30.40"), netip.MustParseAddr("2a01:20::1")
	if n := testing.AllocsPerRun(100, func() { s.Of(four); s.Of(six); s.Lists(six) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOf(b *testing.B) {
	s := load(b, networks.Config{Country: many(b)})
	var four, six [4096]netip.Addr
	for i := range four {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i)*2_654_435_761)
		four[i] = netip.AddrFrom4(a)
		six[i] = netip.AddrFrom16([16]byte{0: 0x2a, 1: byte(i & 1), 2: byte(i * 37), 3: byte(i * 101), 15: 1})
	}
	for name, in := range map[string]*[4096]netip.Addr{"IPv4": &four, "IPv6": &six} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				_ = s.Of(in[i&4095])
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("192.0.2.0/24\n# x\n2001:db8::/32 # y\n", "network,asn\n192.0.2.0/24,AS64500\n10.0.0.1,10.0.0.9,1\n", "::,2001::,DE\n")
	f.Fuzz(func(t *testing.T, list, asn, country string) {
		got, err := networks.ParseList("list", []byte(list))
		if err != nil {
			return
		}
		s, err := networks.Parsed(got, asn, country)
		if err != nil {
			return
		}
		for _, p := range got {
			if p != p.Masked() || p.Addr().Is4In6() || s.Of(p.Addr()).List != "l" {
				t.Fatalf("%v", p)
			}
		}
		if c := s.Of(netip.MustParseAddr("10.0.0.5")).Country; c != "" && len(c) != 2 {
			t.Fatalf("country %q", c)
		}
	})
}
