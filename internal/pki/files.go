package pki

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// reloadEvery is how often Run looks whether the files changed.
const reloadEvery = 5 * time.Second

// Files is a [Source] that shows the operator's certificate and follows the
// files when they are renewed.
type Files struct {
	certPath, keyPath string
	current           atomic.Pointer[tls.Certificate]

	mu       sync.Mutex // one reload at a time
	seen     [2]stamp   // of the files current was made of
	lastFail string     // told already
}

// A stamp tells one state of a file from the next. The inode is part of it
// (os.SameFile), for renewals within one tick of the clock.
type stamp struct{ info os.FileInfo }

func (a stamp) same(b stamp) bool {
	return a.info != nil && b.info != nil && os.SameFile(a.info, b.info) &&
		a.info.ModTime().Equal(b.info.ModTime()) && a.info.Size() == b.info.Size()
}

// LoadFiles reads a PEM certificate chain, leaf first, and its PEM key (which
// may be in the same file). It fails when they can not be read, do not belong
// together, are outdated, have no name, or are too weak.
func LoadFiles(certPath, keyPath string) (*Files, error) {
	f := &Files{certPath: certPath, keyPath: keyPath}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the files again. On error the certificate in use stays.
func (f *Files) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.stat()
	if err != nil {
		return err
	}
	return f.load(seen)
}

// Run follows the files until ctx ends, looking every 5 s. Report is told, once
// for each, of every failure (the old certificate stays in use) and, with nil,
// of every change that succeeded.
func (f *Files) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if changed, err := f.follow(); changed || err != nil {
			report(err)
		}
	}
}

func (f *Files) follow() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.stat()
	if err == nil {
		if seen[0].same(f.seen[0]) && seen[1].same(f.seen[1]) {
			f.lastFail = ""
			return false, nil
		}
		err = f.load(seen) // a pair caught between two writes does not match: the next tick tries again
	}
	if err != nil {
		if err.Error() == f.lastFail {
			return false, nil
		}
		f.lastFail = err.Error()
		return false, err
	}
	f.lastFail = ""
	return true, nil
}

func (f *Files) stat() (s [2]stamp, err error) {
	for i, path := range []string{f.certPath, f.keyPath} {
		if s[i].info, err = os.Stat(path); err != nil {
			return s, fmt.Errorf("pki: certificate: %w", err)
		}
	}
	return s, nil
}

func (f *Files) load(seen [2]stamp) error {
	cert, err := tls.LoadX509KeyPair(f.certPath, f.keyPath)
	if err != nil {
		return fmt.Errorf("pki: certificate %s with key %s: %w", f.certPath, f.keyPath, err)
	}
	if err := usable(&cert, time.Now()); err != nil {
		return fmt.Errorf("pki: certificate %s: %w", f.certPath, err)
	}
	f.current.Store(&cert)
	f.seen = seen
	return nil
}

func usable(cert *tls.Certificate, now time.Time) error {
	leaf := cert.Leaf
	switch {
	case leaf == nil:
		return errors.New("it could not be parsed")
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return errors.New("it names no host (subjectAltName); clients ignore a common name (RFC 9525 §2)")
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		return fmt.Errorf("its RSA key has %d bits; 2048 are needed", key.N.BitLen())
	}
	return nil
}

// GetCertificate returns the certificate in use; it refuses a name that is not in it.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := f.current.Load()
	if cert == nil {
		return nil, errors.New("pki: no certificate loaded")
	}
	return forName(hello, cert)
}

// Expires returns when the certificate in use ends; the zero time without one.
func (f *Files) Expires() time.Time {
	if cert := f.current.Load(); cert != nil {
		return cert.Leaf.NotAfter
	}
	return time.Time{}
}
