package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/pki"
)

// must ends the test when err is set.
func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func localCA(t testing.TB) *pki.CA {
	t.Helper()
	return must[*pki.CA](t)(pki.LocalCA(filepath.Join(t.TempDir(), "ca"), nil))
}

func config(t testing.TB, s pki.Source, c pki.Clients) *tls.Config {
	t.Helper()
	return must[*tls.Config](t)(pki.ServerConfig(s, c))
}

// handshake connects a client to a server over loopback and lets a byte go
// through both ways: in TLS 1.3 a refused client certificate shows only then.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l := must[net.Listener](t)(tls.Listen("tcp", "127.0.0.1:0", server))
	defer func() { _ = l.Close() }()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if n, _ := conn.Read(make([]byte, 1)); n == 1 {
			_, _ = conn.Write([]byte("."))
		}
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.Addr().String(), client)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(".")); err != nil {
		return tls.ConnectionState{}, err
	}
	if n, err := conn.Read(make([]byte, 1)); n == 0 { // the end of the stream may come with the byte
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

func clientPair(t testing.TB, ca *pki.CA, req pki.ClientRequest) tls.Certificate {
	t.Helper()
	p := must[*pki.Pair](t)(ca.IssueClient(req))
	return must[tls.Certificate](t)(tls.X509KeyPair(p.Certificate, p.Key))
}

func TestHandshakes(t *testing.T) {
	ca, stranger := localCA(t), localCA(t)
	source := must[*pki.Self](t)(ca.Server([]string{"localhost", "*.api.internal", "127.0.0.1"}))
	billing := clientPair(t, ca, pki.ClientRequest{URIs: []string{"spiffe://example/billing"}})
	foreign := clientPair(t, stranger, pki.ClientRequest{URIs: []string{"spiffe://example/billing"}})
	expired := clientPair(t, ca, pki.ClientRequest{URIs: []string{"spiffe://example/billing"}, Life: time.Nanosecond})
	served := must[*tls.Certificate](t)(source.GetCertificate(&tls.ClientHelloInfo{}))

	off, optional, required := pki.Clients{Mode: pki.ClientsOff},
		pki.Clients{Mode: pki.ClientsOptional, Pool: ca.Pool()}, pki.Clients{Mode: pki.ClientsRequired, Pool: ca.Pool()}
	trusting := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
		change(c)
		return c
	}
	with := func(cert tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }
	}
	for _, c := range []struct {
		name    string
		clients pki.Clients
		client  *tls.Config
		ok      bool
	}{
		{"a client that trusts the CA connects", off, trusting(func(*tls.Config) {}), true},
		{"a wildcard name is served", off, trusting(func(c *tls.Config) { c.ServerName = "orders.api.internal" }), true},
		{"a client that connects by address is served", off, trusting(func(c *tls.Config) { c.ServerName = "127.0.0.1" }), true},
		{"a client that trusts another CA does not connect", off, trusting(func(c *tls.Config) { c.RootCAs = stranger.Pool() }), false},
		{"a name the certificate does not have is refused by the server", off, trusting(func(c *tls.Config) { c.ServerName = "other.internal"; c.InsecureSkipVerify = true }), false},
		{"TLS 1.1 is refused", off, trusting(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), false},
		{"TLS 1.2 with a CBC suite is refused", off, trusting(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}), false},
		{"TLS 1.2 with an AEAD suite connects", off, trusting(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), true},
		{"a client that speaks only another protocol is refused", off, trusting(func(c *tls.Config) { c.NextProtos = []string{"ftp"} }), false},
		{"optional: no certificate is fine", optional, trusting(func(*tls.Config) {}), true},
		{"optional: a good certificate is fine", optional, trusting(with(billing)), true},
		{"optional: a certificate of another CA is refused", optional, trusting(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
		}), false},
		{"required: no certificate is refused", required, trusting(func(*tls.Config) {}), false},
		{"required: a good certificate is fine", required, trusting(with(billing)), true},
		{"required: an expired certificate is refused", required, trusting(with(expired)), false},
		{"optional: an expired certificate is refused", optional, trusting(with(expired)), false},
		{"any: no certificate is fine", pki.Clients{Mode: pki.ClientsAny}, trusting(func(*tls.Config) {}), true},
		{"any: a certificate of anybody's is fine", pki.Clients{Mode: pki.ClientsAny}, trusting(with(foreign)), true},
		{"required: a server's certificate is not a client's", required, trusting(with(*served)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, err := handshake(t, config(t, source, c.clients), c.client)
			if (err == nil) != c.ok {
				t.Fatalf("error %v, want success %v", err, c.ok)
			}
			if err == nil && state.Version == tls.VersionTLS13 && state.CurveID != tls.X25519MLKEM768 {
				t.Errorf("key exchange %v, want X25519MLKEM768", state.CurveID)
			}
		})
	}
}

func TestHTTP2IsPreferred(t *testing.T) {
	ca := localCA(t)
	source := must[*pki.Self](t)(ca.Server([]string{"localhost"}))
	state, err := handshake(t, config(t, source, pki.Clients{Mode: pki.ClientsOff}),
		&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", NextProtos: []string{"http/1.1", "h2"}})
	if err != nil || state.NegotiatedProtocol != "h2" {
		t.Errorf("protocol %q, error %v", state.NegotiatedProtocol, err)
	}
}

func TestServerConfigRefuses(t *testing.T) {
	ca := localCA(t)
	source := must[*pki.Self](t)(ca.Server([]string{"localhost"}))
	for name, c := range map[string]struct {
		source  pki.Source
		clients pki.Clients
	}{
		"no certificate":                      {nil, pki.Clients{Mode: pki.ClientsOff}},
		"an undecided client mode":            {source, pki.Clients{}},
		"any, and a CA that nobody asks":      {source, pki.Clients{Mode: pki.ClientsAny, Pool: ca.Pool()}},
		"a misspelt client mode":              {source, pki.Clients{Mode: "Required", Pool: ca.Pool()}},
		"required without a CA":               {source, pki.Clients{Mode: pki.ClientsRequired}},
		"optional with an empty list of CAs":  {source, pki.Clients{Mode: pki.ClientsOptional, Pool: x509.NewCertPool()}},
		"required with an empty list of CAs ": {source, pki.Clients{Mode: pki.ClientsRequired, Pool: x509.NewCertPool()}},
	} {
		if _, err := pki.ServerConfig(c.source, c.clients); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// pair writes a self-signed certificate made from a template and returns both paths.
func pair(t testing.TB, dir string, key crypto.Signer, change func(*x509.Certificate)) (string, string) {
	t.Helper()
	if key == nil {
		key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(c)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
	secret := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	certPath, keyPath := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return certPath, keyPath
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func nothing(*x509.Certificate) {}

func TestFilesRefusesAtLoad(t *testing.T) {
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	for _, c := range []struct {
		name, wants string
		files       func(dir string) (string, string)
	}{
		{"an expired certificate", "expired", func(d string) (string, string) {
			return pair(t, d, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}},
		{"a certificate of the future", "not valid before", func(d string) (string, string) {
			return pair(t, d, nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
		}},
		{"a certificate without a host name", "subjectAltName", func(d string) (string, string) {
			return pair(t, d, nil, func(c *x509.Certificate) { c.DNSNames = nil })
		}},
		{"a weak RSA key", "1024 bits", func(d string) (string, string) { return pair(t, d, weak, nothing) }},
		{"the key of another certificate", "does not match", func(d string) (string, string) {
			cert, _ := pair(t, d, nil, nothing)
			_, key := pair(t, t.TempDir(), nil, nothing)
			return cert, key
		}},
		{"a missing file", "no such file", func(d string) (string, string) {
			cert, key := pair(t, d, nil, nothing)
			return cert, key + ".missing"
		}},
		{"a file that is not PEM", "PEM", func(d string) (string, string) {
			cert, key := pair(t, d, nil, nothing)
			write(t, cert, []byte("hello"))
			return cert, key
		}},
		{"a folder", "directory", func(d string) (string, string) {
			_, key := pair(t, d, nil, nothing)
			return d, key
		}},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			_, err := pki.LoadFiles(c.files(t.TempDir()))
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("error %v, want one about %q", err, c.wants)
			}
		})
	}
}

func serial(t *testing.T, s pki.Source) string {
	t.Helper()
	return must[*tls.Certificate](t)(s.GetCertificate(&tls.ClientHelloInfo{})).Leaf.SerialNumber.String()
}

func TestFilesShowsWhatWasReloaded(t *testing.T) {
	dir := t.TempDir()
	files := must[*pki.Files](t)(pki.LoadFiles(pair(t, dir, nil, nothing)))
	if _, err := files.GetCertificate(&tls.ClientHelloInfo{ServerName: "other.example"}); err == nil {
		t.Error("a certificate for another name was shown")
	}
	must[*tls.Certificate](t)(files.GetCertificate(&tls.ClientHelloInfo{ServerName: "localhost"}))
	first := serial(t, files)
	pair(t, dir, nil, nothing)
	if err := files.Reload(); err != nil {
		t.Fatal(err)
	}
	second := serial(t, files)
	if second == first {
		t.Error("the new certificate is not shown")
	}
	write(t, filepath.Join(dir, "cert.pem"), []byte("broken"))
	if err := files.Reload(); err == nil {
		t.Error("a broken file was accepted")
	}
	if serial(t, files) != second {
		t.Error("after a failed reload the old certificate is gone")
	}
	if files.Expires().Before(time.Now()) {
		t.Error("the expiry of the certificate in use is not known")
	}
}

func TestTheZeroFilesRefusesHandshakes(t *testing.T) {
	if _, err := new(pki.Files).GetCertificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("a certificate out of nothing")
	}
}

func TestReadPool(t *testing.T) {
	dir := t.TempDir()
	ca := localCA(t)
	good := must[[]byte](t)(os.ReadFile(ca.TrustPath()))
	leaf := must[*pki.Pair](t)(ca.IssueClient(pki.ClientRequest{CommonName: "x"}))
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"one CA is accepted":                     {string(good), true},
		"two CAs are accepted":                   {string(good) + string(good), true},
		"an empty file is refused":               {"", false},
		"a leaf is refused":                      {string(leaf.Certificate), false},
		"a leaf beside a CA is refused":          {string(good) + string(leaf.Certificate), false},
		"a private key is refused":               {string(good) + string(leaf.Key), false},
		"a rest that is not PEM is refused":      {string(good) + "-----BEGIN CERT", false},
		"a certificate that is none is refused ": {"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "pool.pem")
			write(t, path, []byte(c.text))
			if _, err := pki.ReadPool(path); (err == nil) != c.ok {
				t.Errorf("error %v, want success %v", err, c.ok)
			}
		})
	}
	if _, err := pki.ReadPool(filepath.Join(dir, "missing.pem")); err == nil {
		t.Error("a missing file was accepted")
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	source := must[*pki.Self](b)(localCA(b).Server([]string{"localhost"}))
	hello := &tls.ClientHelloInfo{ServerName: "localhost"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := source.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
}
