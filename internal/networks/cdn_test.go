package networks_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/networks"
)

func TestProfilesOfCDNs(t *testing.T) {
	for name, want := range map[string]struct {
		ranges int
		inside string
	}{
		"cloudflare": {15 + 7, "104.16.0.1"}, "fastly": {19 + 2, "151.101.1.1"}, "cloudfront": {}, "generic": {},
	} {
		c, ok := networks.Profile(name)
		if !ok || c.Header == "" || len(c.Ranges) != want.ranges {
			t.Errorf("%s: %+v", name, c)
		}
		if want.ranges == 0 {
			continue
		}
		s := load(t, networks.Config{Lists: []networks.List{{Name: name, Prefixes: c.Ranges}}})
		if s.Of(netip.MustParseAddr(want.inside)).List != name || s.Of(netip.MustParseAddr("203.0.113.7")).List != "" {
			t.Errorf("%s: its ranges are not its addresses", name)
		}
	}
	if _, ok := networks.Profile("akamai"); ok {
		t.Error("a profile of nobody")
	}
}

func TestRangesAsTheyArePublished(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, err string }{
		"lines":            {text: "# ours\n198.51.100.0/24\n2001:db8::/32\n", want: "198.51.100.0/24 2001:db8::/32"},
		"of Fastly":        {text: `{"addresses": ["198.51.100.0/24"], "ipv6_addresses": ["2001:db8::/32"]}`, want: "198.51.100.0/24 2001:db8::/32"},
		"of AWS":           {text: "\n {\"syncToken\": \"1\", \"prefixes\": [{\"ip_prefix\": \"192.0.2.0/24\", \"region\": \"GLOBAL\", \"service\": \"CLOUDFRONT\"}, {\"ip_prefix\": \"198.51.100.0/24\", \"service\": \"CLOUDFRONT_ORIGIN_FACING\"}], \"ipv6_prefixes\": [{\"ipv6_prefix\": \"2001:db8::/32\", \"service\": \"CLOUDFRONT_ORIGIN_FACING\"}, {\"ipv6_prefix\": \"2001:db9::/32\", \"service\": \"EC2\"}]}", want: "198.51.100.0/24 2001:db8::/32"},
		"nothing":          {text: "# nothing\n", err: "r has no ranges"},
		"JSON of nothing":  {text: `{"prefixes": []}`, err: "r has no ranges"},
		"half of JSON":     {text: "{\n\"addresses\": [", err: "r:2: "},
		"JSON of a kind":   {text: `{"addresses": 1}`, err: "r: "},
		"a word in JSON":   {text: `{"addresses": ["x"]}`, err: `r: "x" is not a network`},
		"a word in a line": {text: "198.51.100.0/24\nx\n", err: `r:2: "x" is not a network`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := networks.ParseRanges("r", []byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			var texts []string
			for _, p := range got {
				texts = append(texts, p.String())
			}
			if s := strings.Join(texts, " "); err != nil || s != tt.want {
				t.Fatalf("got %s, %v", s, err)
			}
			if again, err := networks.ReadRanges(file(t, "ranges", tt.text)); err != nil || len(again) != len(got) {
				t.Fatalf("from a file: %v, %v", again, err)
			}
		})
	}
}

func FuzzParseRanges(f *testing.F) {
	f.Add([]byte("198.51.100.0/24\n"))
	f.Add([]byte(`{"addresses": ["198.51.100.0/24"], "prefixes": [{"ip_prefix": "198.51.100.0/24", "service": "CLOUDFRONT_ORIGIN_FACING"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := networks.ParseRanges("r", b)
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%v, %v", got, err)
		}
		for _, p := range got {
			if p != p.Masked() || p.Addr().Is4In6() {
				t.Fatal(p)
			}
		}
	})
}
