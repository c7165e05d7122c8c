package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// A Source gives the certificate for a handshake; [Files] and [Self] are two.
type Source interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// A ClientMode says whether callers show certificates. The zero ClientMode is
// refused: it must be decided.
type ClientMode string

// The modes of client certificates.
const (
	ClientsOff      ClientMode = "off"      // none is asked for
	ClientsOptional ClientMode = "optional" // one that is shown must be good
	ClientsRequired ClientMode = "required" // no handshake without a good one
	ClientsAny      ClientMode = "any"      // whoever signed it: it proves a key, never a name (RFC 8705 §2.2, §3)
)

// Clients says which client certificates a listener accepts.
type Clients struct {
	Mode ClientMode
	Pool *x509.CertPool // the CAs that sign them; the system's are never used
}

// ServerConfig returns the TLS settings of every listener: TLS 1.3, and 1.2
// with forward secrecy and AEAD only (RFC 9325 §4.2); post-quantum key exchange
// preferred (X25519MLKEM768); HTTP/2 and HTTP/1.1 by ALPN, where a client that
// offers only other protocols is refused (RFC 7301 §3.2).
func ServerConfig(source Source, clients Clients) (*tls.Config, error) {
	if source == nil {
		return nil, errors.New("pki: a TLS listener needs a certificate")
	}
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: source.GetCertificate,
		NextProtos:     []string{"h2", "http/1.1"},
		CurvePreferences: []tls.CurveID{
			tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384,
		},
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are not negotiable and all AEAD
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// Small records at first would show a page sooner; an answer of an API is read
		// whole, and each record is a system call.
		DynamicRecordSizingDisabled: true,
	}
	switch clients.Mode {
	case ClientsOff:
		return c, nil
	case ClientsAny:
		if clients.Pool != nil {
			return nil, errors.New("pki: with any client certificate taken, no CA is asked")
		}
		c.ClientAuth = tls.RequestClientCert
		return c, nil
	case ClientsOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case ClientsRequired:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, fmt.Errorf("pki: client certificates must be %q, %q, %q or %q, not %q", ClientsOff, ClientsOptional, ClientsRequired, ClientsAny, clients.Mode)
	}
	if clients.Pool == nil || clients.Pool.Equal(x509.NewCertPool()) {
		// crypto/tls would fall back to the system's CAs: anyone with a public certificate would be a client.
		return nil, fmt.Errorf("pki: client certificates are %s, but no CA is named that signs them", clients.Mode)
	}
	c.ClientCAs = clients.Pool
	return c, nil
}

// ReadPool reads a PEM file of CA certificates. Anything else in it is an error:
// a leaf among them would be trusted as if it had been signed.
func ReadPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("pki: CA certificates: %w", err)
	}
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		n++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("pki: %s: block %d is a %s; only certificates belong there", path, n, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("pki: %s: certificate %d: %w", path, n, err)
		}
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return nil, fmt.Errorf("pki: %s: certificate %d (%s) is not a CA's", path, n, cert.Subject)
		}
		pool.AddCert(cert)
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, fmt.Errorf("pki: %s: after certificate %d comes something that is not PEM", path, n)
	}
	if n == 0 {
		return nil, fmt.Errorf("pki: %s holds no certificate", path)
	}
	return pool, nil
}

// forName refuses a handshake that asks for a name the certificate does not
// have (RFC 6066 §3): a default certificate for any name is what lets traffic
// meant for another service be redirected here (ALPACA). A client that connects
// by address sends no name and is served.
func forName(hello *tls.ClientHelloInfo, cert *tls.Certificate) (*tls.Certificate, error) {
	if hello.ServerName != "" {
		if err := cert.Leaf.VerifyHostname(hello.ServerName); err != nil {
			return nil, fmt.Errorf("pki: a client asked for another name: %w", err)
		}
	}
	return cert, nil
}
