package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// proxy2 is a header of version 2 as a proxy writes it.
func proxy2(command, family byte, body []byte) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...))
}

// ends are the addresses and ports of version 2.
func ends(src, dst netip.AddrPort) []byte {
	b := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, src.Port()), dst.Port())
}

func tlv(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// summed puts a checksum into a header, as PP2_TYPE_CRC32C.
func summed(command, family byte, body []byte) string {
	h := []byte(proxy2(command, family, append(body, tlv(3, "\x00\x00\x00\x00")...)))
	binary.BigEndian.PutUint32(h[len(h)-4:], crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
	return string(h)
}

var (
	four = ends(netip.MustParseAddrPort("192.0.2.7:5000"), netip.MustParseAddrPort("192.0.2.1:443"))
	six  = ends(netip.MustParseAddrPort("[2001:db8::7]:5000"), netip.MustParseAddrPort("[2001:db8::1]:443"))
)

func TestAProxysHeaderIsReadToItsLastByte(t *testing.T) {
	for name, tt := range map[string]struct{ header, want string }{
		"IPv4":                         {"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n", "192.0.2.7:5000"},
		"the shortest of IPv4":         {"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", "1.1.1.1:0"},
		"IPv6":                         {"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n", "[2001:db8::7]:5000"},
		"the shortest of IPv6":         {"PROXY TCP6 :: :: 1 1\r\n", "[::]:1"},
		"the longest there is":         {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "-"},
		"unknown":                      {"PROXY UNKNOWN\r\n", "-"},
		"unknown, and more":            {"PROXY UNKNOWN what ever\r\n", "-"},
		"version 2, IPv4":              {proxy2(0x21, 0x11, four), "192.0.2.7:5000"},
		"version 2, IPv6":              {proxy2(0x21, 0x21, six), "[2001:db8::7]:5000"},
		"version 2, with TLVs":         {proxy2(0x21, 0x11, append(bytes.Clone(four), append(tlv(0x02, "api.test"), tlv(0xea, strings.Repeat("x", 600))...)...)), "192.0.2.7:5000"},
		"version 2, with a checksum":   {summed(0x21, 0x21, append(bytes.Clone(six), tlv(4, "")...)), "[2001:db8::7]:5000"},
		"version 2, a Unix socket":     {proxy2(0x21, 0x31, make([]byte, 216)), "-"},
		"version 2, unspecified":       {proxy2(0x21, 0x00, tlv(4, "xx")), "-"},
		"version 2, the proxy's own":   {proxy2(0x20, 0x00, nil), "-"},
		"version 2, its own, and more": {proxy2(0x20, 0x11, []byte("skipped")), "-"},

		"no header":                       {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		"TLS":                             {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaa", ""},
		"half a header":                   {"PROXY TCP4 192.0.2.7", ""},
		"a long line":                     {"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", ""},
		"a line without CR":               {"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\n\n", ""},
		"a CR within":                     {"PROXY TCP4 192.0.2.7\r192.0.2.1 5000 443\r\n", ""},
		"a line feed in what is unknown":  {"PROXY UNKNOWN x\ny\r\n", ""},
		"two spaces":                      {"PROXY TCP4  192.0.2.7 192.0.2.1 5000 443\r\n", ""},
		"a field more":                    {"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443 1\r\n", ""},
		"lower case":                      {"proxy tcp4 192.0.2.7 192.0.2.1 5000 443\r\n", ""},
		"IPv6 called IPv4":                {"PROXY TCP4 2001:db8::7 2001:db8::1 5000 443\r\n", ""},
		"IPv4 called IPv6":                {"PROXY TCP6 192.0.2.7 192.0.2.1 5000 443\r\n", ""},
		"a zone":                          {"PROXY TCP6 fe80::1%eth0 fe80::2 5000 443\r\n", ""},
		"an address with leading zeros":   {"PROXY TCP4 192.000.2.7 192.0.2.1 5000 443\r\n", ""},
		"a name":                          {"PROXY TCP4 localhost 192.0.2.1 5000 443\r\n", ""},
		"a port beyond":                   {"PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n", ""},
		"a port with a zero before":       {"PROXY TCP4 192.0.2.7 192.0.2.1 05000 443\r\n", ""},
		"a port with a sign":              {"PROXY TCP4 192.0.2.7 192.0.2.1 +5000 443\r\n", ""},
		"UDP":                             {"PROXY UDP4 192.0.2.7 192.0.2.1 5000 443\r\n", ""},
		"UNKNOWNS":                        {"PROXY UNKNOWNS\r\n", ""},
		"version 1 in binary":             {proxy2(0x11, 0x11, four), ""},
		"version 3":                       {proxy2(0x31, 0x11, four), ""},
		"a command there is not":          {proxy2(0x22, 0x11, four), ""},
		"datagrams":                       {proxy2(0x21, 0x12, four), ""},
		"a family there is not":           {proxy2(0x21, 0x41, four), ""},
		"too short for its addresses":     {proxy2(0x21, 0x21, four), ""},
		"a TLV longer than the header":    {proxy2(0x21, 0x11, append(bytes.Clone(four), 4, 0, 9, 1)), ""},
		"half a TLV":                      {proxy2(0x21, 0x11, append(bytes.Clone(four), 4, 0)), ""},
		"half a TLV behind no addresses":  {proxy2(0x21, 0x00, []byte{4}), ""},
		"a wrong checksum":                {proxy2(0x21, 0x11, append(bytes.Clone(four), tlv(3, "\x00\x00\x00\x01")...)), ""},
		"a checksum of two bytes":         {proxy2(0x21, 0x11, append(bytes.Clone(four), tlv(3, "\x00\x00")...)), ""},
		"two checksums":                   {summed(0x21, 0x11, append(bytes.Clone(four), tlv(3, "\x00\x00\x00\x00")...)), ""},
		"longer than anything sends":      {proxy2(0x21, 0x11, append(bytes.Clone(four), tlv(4, strings.Repeat("x", 5000))...)), ""},
		"less than it says":               {proxy2(0x21, 0x11, four)[:20], ""},
		"the signature and nothing more ": {"\r\n\r\n\x00\r\nQUIT\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := strings.NewReader(tt.header + "behind it")
			if tt.want == "" {
				r = strings.NewReader(tt.header)
			}
			from, told, err := http1.ReadProxy(r)
			switch {
			case tt.want == "":
				if err == nil {
					t.Fatalf("taken, from %v", from)
				}
				return
			case err != nil:
				t.Fatal(err)
			case tt.want == "-" && told, tt.want != "-" && (!told || from.String() != tt.want):
				t.Errorf("from %v (%t), want %s", from, told, tt.want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "behind it" {
				t.Errorf("left %q behind the header", rest)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(proxy2(0x21, 0x21, six)))
	f.Add([]byte(summed(0x21, 0x11, bytes.Clone(four))))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		from, told, err := http1.ReadProxy(r)
		if err != nil {
			return
		}
		if told != from.IsValid() {
			t.Fatalf("%v, %t", from, told)
		}
		used := b[:len(b)-r.Len()]
		if used[0] == 'P' && (!bytes.HasSuffix(used, []byte("\r\n")) || len(used) > 107) {
			t.Fatalf("a line of %q", used)
		}
		// What is behind the header does not matter, and without its last byte it is none.
		again, toldAgain, err := http1.ReadProxy(bytes.NewReader(used))
		if err != nil || again != from || toldAgain != told {
			t.Fatalf("alone: %v, %v", again, err)
		}
		if _, _, err := http1.ReadProxy(bytes.NewReader(used[:len(used)-1])); err == nil {
			t.Fatal("taken without its last byte")
		}
	})
}

// told answers with the address a handler sees.
var told = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "<%s %s>", r.RemoteAddr, r.Proto)
})

func local(a netip.Addr) bool { return a.IsLoopback() }

func TestBehindAProxyTheCallerIsTheOneInTheHeader(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	f := newFront(t, http1.Config{Proxy: local}, told)
	for name, tt := range map[string]struct{ header, want string }{
		"version 1":           {"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n", "<192.0.2.7:5000 HTTP/1.1>"},
		"version 2":           {proxy2(0x21, 0x21, six), "<[2001:db8::7]:5000 HTTP/1.1>"},
		"a mapped address":    {"PROXY TCP6 ::ffff:192.0.2.7 ::1 5000 443\r\n", "<192.0.2.7:5000 HTTP/1.1>"},
		"the proxy's own":     {proxy2(0x20, 0, nil), "<127.0.0.1:"},
		"whom it cannot name": {"PROXY UNKNOWN\r\n", "<127.0.0.1:"},
	} {
		for _, piece := range []int{1, 1000} {
			if got := f.talk(t, tt.header+get, piece); !strings.Contains(got, tt.want) {
				t.Errorf("%s, in pieces of %d: got %q", name, piece, got)
			}
		}
	}
	// net/http serves what the lane hands over, and knows the caller too.
	c := f.dial(t)
	_, _ = io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: x\r\n\r\n")
	if got := ended(t, c); !strings.Contains(got, "<192.0.2.7:5000 HTTP/1.1>") {
		t.Errorf("with an upgrade: got %q", got)
	}
	if r := f.refusals(); len(r) != 0 {
		t.Errorf("refused %+v", r)
	}
}

func TestBehindAProxyWithTLS(t *testing.T) {
	f, client := newTLSFront(t, http1.Config{Proxy: local}, told)
	for _, proto := range []string{"http/1.1", "h2"} {
		conf := client.Clone()
		conf.NextProtos = []string{proto}
		transport := &http.Transport{
			TLSClientConfig: conf, ForceAttemptHTTP2: proto == "h2", DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, "tcp", f.addr)
				if err == nil {
					_, err = io.WriteString(c, proxy2(0x21, 0x11, four))
				}
				return c, err
			},
		}
		resp, err := (&http.Client{Transport: transport}).Get("https://api.test/")
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		if want := "<192.0.2.7:5000 " + resp.Proto + ">"; string(b) != want || (resp.ProtoMajor == 2) != (proto == "h2") {
			t.Errorf("%s: got %q, want %q", proto, b, want)
		}
	}
	// The header comes before TLS, not within it.
	c, err := tls.Dial("tcp", f.addr, client)
	if err == nil {
		_ = c.Close()
		t.Error("TLS without a header was taken")
	}
	f.awaitRefusal(t, "bad_proxy_header")
}

func TestWithoutAHeaderNobodyIsTaken(t *testing.T) {
	f := newFront(t, http1.Config{Proxy: local}, told)
	if got := f.talk(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1000); got != "" {
		t.Errorf("answered %q", got)
	}
	f.awaitRefusal(t, "bad_proxy_header")
}

func TestAHeaderOfAStrangerIsNotRead(t *testing.T) {
	f := newFront(t, http1.Config{Proxy: func(a netip.Addr) bool { return !a.IsLoopback() }}, told)
	for _, says := range []string{"", "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"} { // it need say nothing to be turned away
		if got := f.knock(t, says); got != "" {
			t.Errorf("answered %q", got)
		}
	}
	f.awaitRefusal(t, "not_from_proxy")
}

func TestAHeaderHasTheTimeOfAHead(t *testing.T) {
	const long = 2 * time.Second // for a busy machine to write a head in
	f := newFront(t, http1.Config{Proxy: local, HeadTimeout: long, IdleTimeout: time.Hour}, told)
	var begun []net.Conn
	for _, text := range []string{"", "P", "PROXY TCP4 192.0.2.7 ", proxy2(0x21, 0x11, four)[:20]} {
		c := f.dial(t)
		_, _ = io.WriteString(c, text)
		begun = append(begun, c)
	}
	for _, c := range begun {
		ended(t, c)
	}
	f.awaitRefusal(t, "bad_proxy_header")
	// And the time it took is not the connection's.
	c := f.dial(t)
	_, _ = io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	br := bufio.NewReader(c)
	again := func() {
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	again()
	timer := time.NewTimer(long + 500*time.Millisecond)
	<-timer.C
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	again()
}

func TestTheCapsAreThoseOfTheCallersBehindTheProxy(t *testing.T) {
	f := newFront(t, http1.Config{Proxy: local, MaxConnsPerAddress: 2}, told)
	open := func(from string) net.Conn {
		c := f.dial(t)
		_, _ = io.WriteString(c, "PROXY TCP4 "+from+" 192.0.2.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
		return c
	}
	taken := func(c net.Conn) bool {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err == nil && resp.StatusCode == 200
	}
	first := open("192.0.2.7")
	if !taken(first) || !taken(open("192.0.2.7")) {
		t.Fatal("two connections are allowed")
	}
	if taken(open("192.0.2.7")) {
		t.Error("a third connection of one caller was taken")
	}
	f.awaitRefusal(t, "too_many_connections")
	for n := range 5 {
		if !taken(open(fmt.Sprintf("192.0.2.%d", 10+n))) {
			t.Error("another caller behind the same proxy was turned away")
		}
	}
	_ = first.Close()
	for deadline := time.Now().Add(time.Minute); !taken(open("192.0.2.7")); {
		if time.Now().After(deadline) {
			t.Fatal("a connection that ended counts on")
		}
	}
}

func TestWhoMayNotConnectLearnsNothing(t *testing.T) {
	from := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.7") }
	t.Run("directly, before TLS", func(t *testing.T) {
		f, client := newTLSFront(t, http1.Config{From: from}, told)
		c, err := tls.Dial("tcp", f.addr, client)
		if err == nil {
			_ = c.Close()
			t.Fatal("was let in")
		}
		if _, ok := errors.AsType[*net.OpError](err); !ok && !errors.Is(err, io.EOF) {
			t.Errorf("was told something: %v", err)
		}
		f.awaitRefusal(t, "not_from_edge")
	})
	t.Run("through a proxy", func(t *testing.T) {
		f := newFront(t, http1.Config{From: from, Proxy: local}, told)
		const get = " 192.0.2.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		if got := f.talk(t, "PROXY TCP4 192.0.2.8"+get, 1000); got != "" {
			t.Errorf("answered %q", got)
		}
		f.awaitRefusal(t, "not_from_edge")
		if r := f.refusals()[0]; r.Address != "192.0.2.8:5000" {
			t.Errorf("refused %s", r.Address)
		}
		if got := f.talk(t, "PROXY TCP4 192.0.2.7"+get, 1000); !strings.Contains(got, "<192.0.2.7:5000 ") {
			t.Errorf("got %q", got)
		}
	})
}

// TestHAProxy has the proxy whose protocol it is speak both versions.
func TestHAProxy(t *testing.T) {
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is not installed (apt-get install haproxy)")
	}
	f := newFront(t, http1.Config{Proxy: local}, told)
	for name, send := range map[string]string{
		"version 1": "send-proxy", "version 2": "send-proxy-v2", "version 2 and more": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "front")
			port := freePort(t)
			conf := filepath.Join(t.TempDir(), "haproxy.cfg")
			text := "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten l\n bind 127.0.0.1:" + port +
				"\n bind unix@" + socket + "\n unique-id-format %ci:%cp\n server s " + f.addr + " " + send + " check\n"
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), binary, "-db", "-f", conf)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			var c net.Conn
			for deadline := time.Now().Add(time.Minute); ; {
				if c, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v: %s", err, said.String())
				}
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if got, want := ended(t, c), "<"+c.LocalAddr().String()+" HTTP/1.1>"; !strings.Contains(got, want) {
				t.Errorf("got %q, want %s", got, want)
			}
			u, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			_, _ = io.WriteString(u, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if got := ended(t, u); !strings.Contains(got, "<127.0.0.1:") {
				t.Errorf("from a Unix socket: got %q", got)
			}
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
