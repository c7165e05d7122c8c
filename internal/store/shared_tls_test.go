package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// certified writes a self-signed certificate for a host and its key.
func certified(t *testing.T, host string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(host); ip != nil {
		is.IPAddresses = []net.IP{ip}
	} else {
		is.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, is, is, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestSharedProvesWhoTheServerIs(t *testing.T) {
	secured := func(host string) (address, cert string) {
		t.Helper()
		port := storetest.FreePort(t)
		cert, key := certified(t, host)
		_, server := storetest.Redis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
		server.Command("PING")
		return "127.0.0.1:" + port, cert
	}
	address, cert := secured("127.0.0.1")
	url := gatehouse.NewSecret("rediss://" + address)
	if failed, _ := everyCall(t, share(t, store.SharedConfig{URL: url, CA: cert})); failed != 0 {
		t.Errorf("%d calls failed at the right server", failed)
	}
	elsewhere, other := secured("engine.example")
	for name, cfg := range map[string]store.SharedConfig{
		"signed by somebody nobody knows": {URL: url},
		"signed by another CA":            {URL: url, CA: other},
		"of another name":                 {URL: gatehouse.NewSecret("rediss://" + elsewhere), CA: other},
		"a ca that holds none":            {URL: url, CA: os.DevNull},
		"a ca without TLS":                {URL: gatehouse.NewSecret("redis://127.0.0.1"), CA: cert},
	} {
		if s, err := store.OpenShared(t.Context(), cfg); err == nil {
			t.Errorf("%s: it was opened", name)
			_ = s.Close()
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
