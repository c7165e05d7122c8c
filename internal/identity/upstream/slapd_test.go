package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
)

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile %[1]s/pid
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
sizelimit 50
database mdb
maxsize 10485760
suffix "dc=example,dc=com"
rootdn "cn=root,dc=example,dc=com"
rootpw root-password
directory %[1]s/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=search,dc=example,dc=com" read by * none
overlay memberof
overlay ppolicy
ppolicy_default "cn=policy,dc=example,dc=com"
`

// A slapd is OpenLDAP's server with some people in it.
type slapd struct {
	plain, secure string // URLs
	roots         *x509.CertPool
	root          *ldap.Conn
}

func startSlapd(t *testing.T) *slapd {
	t.Helper()
	const binary = "/usr/sbin/slapd"
	if _, err := os.Stat(binary); err != nil {
		t.Skip("NOT TESTED against a real LDAP server: there is no slapd (apt-get install slapd)")
	}
	dir := t.TempDir()
	s := &slapd{roots: writeCertificate(t, dir)}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, slapdConf, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 { // it can not choose a port itself, and another may be faster
		s.plain, s.secure = "ldap://"+freePort(t), "ldaps://"+freePort(t)
		cmd := exec.Command(binary, "-d", "0", "-f", conf, "-h", s.plain+" "+s.secure)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
		if s.root = connect(s.plain, ended); s.root != nil {
			break
		}
	}
	if s.root == nil {
		t.Fatal("slapd does not start")
	}
	t.Cleanup(func() { _ = s.root.Close() })
	if err := s.root.Bind("cn=root,dc=example,dc=com", "root-password"); err != nil {
		t.Fatal(err)
	}
	s.add(t, "dc=example,dc=com", "objectClass", "domain", "dc", "example")
	for _, ou := range []string{"people", "partners", "groups"} {
		s.add(t, "ou="+ou+",dc=example,dc=com", "objectClass", "organizationalUnit", "ou", ou)
	}
	s.add(t, "ou=groups,ou=partners,dc=example,dc=com", "objectClass", "organizationalUnit", "ou", "groups")
	s.add(t, "cn=policy,dc=example,dc=com", "objectClass", "device", "objectClass", "pwdPolicy", "cn", "policy", "pwdAttribute", "userPassword", "pwdMustChange", "TRUE")
	s.add(t, "cn=search,dc=example,dc=com", "objectClass", "organizationalRole", "objectClass", "simpleSecurityObject", "cn", "search", "userPassword", "search-password")
	return s
}

func connect(url string, ended chan struct{}) *ldap.Conn {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if c, err := ldap.DialURL(url); err == nil {
			return c
		}
		select {
		case <-ended:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// add makes an entry of attribute, value pairs.
func (s *slapd) add(t *testing.T, dn string, pairs ...string) {
	t.Helper()
	values := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = append(values[pairs[i]], pairs[i+1])
	}
	req := ldap.NewAddRequest(dn, nil)
	for name, v := range values {
		req.Attribute(name, v)
	}
	if err := s.root.Add(req); err != nil {
		t.Fatal(dn, err)
	}
}

func (s *slapd) person(t *testing.T, ou, uid string, pairs ...string) string {
	t.Helper()
	dn := "uid=" + ldap.EscapeDN(uid) + ",ou=" + ou + ",dc=example,dc=com"
	s.add(t, dn, append([]string{"objectClass", "inetOrgPerson", "uid", uid, "cn", "The " + uid, "sn", "Liddell"}, pairs...)...)
	return dn
}

func (s *slapd) config() upstream.LDAPConfig {
	return upstream.LDAPConfig{
		Name: "directory", URL: s.secure, Roots: s.roots, BindDN: "cn=search,dc=example,dc=com", BindPassword: gatehouse.NewSecret("search-password"),
		Base: "dc=example,dc=com", Filter: "(&(objectClass=inetOrgPerson)(|(uid={login})(mail={login})))", Timeout: 5 * time.Second,
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// writeCertificate makes a certificate for 127.0.0.1 that signs itself.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slapd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}
