package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 30 * 24 * time.Hour
	clientLife = 24 * time.Hour // of a client certificate when nothing is asked for
	backdate   = time.Hour      // for clocks that are behind

	caFile    = "local-ca.pem" // key and certificate: one file, so that they can not come apart
	trustFile = "ca.pem"       // the certificate alone, to hand out
)

// Names and addresses that never belong to somebody on the public internet: a
// local CA may always sign for them (RFC 6761, RFC 6762, RFC 8375, and .internal
// as reserved by ICANN in 2024; RFC 1918, RFC 4193, RFC 3927, RFC 4291).
var (
	privateNames = []string{"localhost", "test", "example", "invalid", "local", "internal", "home.arpa"}
	privateNets  = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"}
)

// A CA is a local certificate authority: for development, tests, the demo and
// networks that hand out its ca.pem themselves.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// LocalCA loads the CA kept in dir or makes one: ECDSA P-256, ten years, allowed
// to sign only for private names and addresses and for names, the host names and
// IP addresses it is made for.
func LocalCA(dir string, names []string) (*CA, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("pki: local CA: %w", err)
	}
	ca := &CA{dir: dir}
	data, err := ca.read()
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = newCA(names); err == nil {
			data, err = ca.keep(data)
		}
	}
	if err == nil {
		err = ca.parse(data)
	}
	if err == nil {
		err = ca.publish()
	}
	if err != nil {
		return nil, fmt.Errorf("pki: local CA in %s: %w", dir, err)
	}
	return ca, nil
}

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

func newCA(names []string) ([]byte, error) {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:                     pkix.Name{Organization: []string{"Gatehouse local CA"}, CommonName: "made " + now.UTC().Format(time.RFC3339)},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(caLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true, // it signs leaves only
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         slices.Clone(privateNames),
	}
	for _, cidr := range privateNets {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			return nil, err
		}
		t.PermittedIPRanges = append(t.PermittedIPRanges, n)
	}
	hosts, ips, err := splitNames(names)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		t.PermittedDNSDomains = append(t.PermittedDNSDomains, strings.TrimPrefix(h, "*."))
	}
	for _, ip := range ips {
		bits := 8 * len(ip)
		t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)})
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return append(secret, certPEM(der)...), nil
}

// keep stores a new CA unless another process was faster; then that one's is returned.
func (ca *CA) keep(data []byte) ([]byte, error) {
	if err := os.MkdirAll(ca.dir, 0o700); err != nil {
		return nil, err
	}
	err := writeFile(ca.path(caFile), data, 0o600, os.Link) // a link never replaces a file
	if errors.Is(err, fs.ErrExist) {
		return ca.read()
	}
	return data, err
}

func (ca *CA) read() ([]byte, error) {
	info, err := os.Stat(ca.path(caFile))
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others, who could sign with it: delete it to have a new CA made, or chmod 600 it if nobody did", caFile)
	}
	return os.ReadFile(ca.path(caFile))
}

func (ca *CA) parse(data []byte) error {
	way := fmt.Sprintf("restore %s, or delete it to have a new CA made, which callers must trust anew", caFile)
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return fmt.Errorf("%w; %s", err, way)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return fmt.Errorf("%s is not a CA made by Gatehouse; %s", caFile, way)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return fmt.Errorf("it expired at %s; %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339), way)
	}
	ca.cert, ca.key = pair.Leaf, key
	return nil
}

// publish writes the certificate where callers are told to find it.
func (ca *CA) publish() error {
	text := certPEM(ca.cert.Raw)
	if old, err := os.ReadFile(ca.path(trustFile)); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return writeFile(ca.path(trustFile), text, 0o644, os.Rename)
}

// TrustPath returns the PEM file callers must trust.
func (ca *CA) TrustPath() string { return ca.path(trustFile) }

// TrustLine returns a shell command that reaches rawURL trusting only this CA.
func (ca *CA) TrustLine(rawURL string) string {
	return "curl --cacert " + shellWord(ca.TrustPath()) + " " + shellWord(rawURL)
}

func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Pool returns a new pool that holds only this CA.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// A Self is a [Source] that shows a certificate signed by the local CA. Its key
// lives in memory only; the certificate lasts 30 days and is replaced, key and
// all, when two thirds of them are over.
type Self struct {
	ca      *CA
	names   []string
	mu      sync.Mutex // one renewal at a time
	current atomic.Pointer[leaf]
}

type leaf struct {
	tls.Certificate
	renew time.Time
}

// Server returns a source for the given host names ("*.name" too) and IP
// addresses. It fails when the CA was not made for one of them.
func (ca *CA) Server(names []string) (*Self, error) {
	if len(names) == 0 {
		return nil, errors.New("pki: a server certificate needs at least one name")
	}
	s := &Self{ca: ca, names: slices.Clone(names)}
	if _, err := s.certificate(); err != nil {
		return nil, err
	}
	return s, nil
}

// GetCertificate returns the certificate, a new one when it is time; it refuses
// a name that is not among those of [CA.Server].
func (s *Self) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l, err := s.certificate()
	if err != nil {
		return nil, err
	}
	return forName(hello, &l.Certificate)
}

func (s *Self) certificate() (*leaf, error) {
	now := time.Now()
	if l := s.current.Load(); l != nil && now.Before(l.renew) {
		return l, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.current.Load(); l != nil && now.Before(l.renew) {
		return l, nil
	}
	l, err := s.ca.server(s.names, now)
	if err != nil {
		return nil, err
	}
	s.current.Store(l)
	return l, nil
}

func (ca *CA) server(names []string, now time.Time) (*leaf, error) {
	hosts, ips, err := splitNames(names)
	if err != nil {
		return nil, fmt.Errorf("pki: server certificate: %w", err)
	}
	t := &x509.Certificate{DNSNames: hosts, IPAddresses: ips, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, key, err := ca.sign(t, now, serverLife)
	if err != nil {
		return nil, fmt.Errorf("pki: server certificate for %s: %w", strings.Join(names, ", "), err)
	}
	return &leaf{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: t},
		renew:       now.Add(t.NotAfter.Sub(now) * 2 / 3),
	}, nil
}

// sign completes t, which it replaces by the certificate as parsed, and checks
// it as a peer would: what our own constraints forbid must fail here and not in
// every client.
func (ca *CA) sign(t *x509.Certificate, now time.Time, life time.Duration) (der []byte, key *ecdsa.PrivateKey, err error) {
	t.NotBefore = now.Add(-backdate)
	t.NotAfter = now.Add(life)
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	if !t.NotAfter.After(now) {
		return nil, nil, fmt.Errorf("the local CA expired; delete %s to have a new one made", ca.path(caFile))
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	if t.Subject.CommonName == "" { // an empty subject breaks old clients
		t.Subject.Organization = []string{"Gatehouse local CA"}
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	if der, err = x509.CreateCertificate(rand.Reader, t, ca.cert, key.Public(), ca.key); err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if _, err := parsed.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: t.ExtKeyUsage, CurrentTime: parsed.NotAfter}); err != nil {
		return nil, nil, fmt.Errorf("%w; this CA was not made for that: delete %s to have a new one made, which callers must trust anew", err, ca.path(caFile))
	}
	*t = *parsed
	return der, key, nil
}

// A ClientRequest says who a client certificate is for. At least one name is needed.
type ClientRequest struct {
	URIs       []string      // like spiffe://example/billing
	DNS        []string      // must be within the CA's names
	Emails     []string      //
	CommonName string        // for services that look there
	Life       time.Duration // 24 h when zero
}

// A Pair is a certificate and its private key, both PEM.
type Pair struct {
	Certificate []byte
	Key         []byte // secret
}

// IssueClient makes a certificate with which a client proves its name here.
func (ca *CA) IssueClient(req ClientRequest) (*Pair, error) {
	if len(req.URIs)+len(req.DNS)+len(req.Emails) == 0 && req.CommonName == "" {
		return nil, errors.New("pki: a client certificate needs a name")
	}
	t := &x509.Certificate{
		Subject:        pkix.Name{CommonName: req.CommonName},
		DNSNames:       req.DNS,
		EmailAddresses: req.Emails,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, raw := range req.URIs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme == "" || u.Host == "" {
			return nil, fmt.Errorf("pki: client certificate: %q is not a URI with scheme and host", raw)
		}
		t.URIs = append(t.URIs, u)
	}
	life := req.Life
	if life <= 0 {
		life = clientLife
	}
	der, key, err := ca.sign(t, time.Now(), life)
	if err != nil {
		return nil, fmt.Errorf("pki: client certificate: %w", err)
	}
	secret, err := keyPEM(key)
	if err != nil {
		return nil, fmt.Errorf("pki: client certificate: %w", err)
	}
	return &Pair{Certificate: certPEM(der), Key: secret}, nil
}

// Save writes both into one file that only its owner can read, as curl --cert takes it.
func (p *Pair) Save(path string) error {
	if err := writeFile(path, slices.Concat(p.Certificate, p.Key), 0o600, os.Rename); err != nil {
		return fmt.Errorf("pki: client certificate: %w", err)
	}
	return nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// splitNames tells addresses from host names and refuses what is neither.
func splitNames(names []string) (hosts []string, ips []net.IP, err error) {
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			ips = append(ips, ip)
			continue
		}
		if !isHost(strings.TrimPrefix(n, "*.")) {
			return nil, nil, fmt.Errorf("%q is neither a host name nor an IP address", n)
		}
		hosts = append(hosts, strings.ToLower(n))
	}
	return hosts, ips, nil
}

func isHost(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return len(s) <= 253
}

// writeFile puts data in place whole or not at all, also when the power fails.
func writeFile(path string, data []byte, mode os.FileMode, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
