package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A stage is a folder for the time of a run and what was started in it.
type stage struct {
	dir       string
	gatehouse string // the binary
	service   int    // port of what answers behind all proxies
	cert, key string // PEM files of one certificate for localhost, which all proxies show
	roots     *x509.CertPool
	started   []*exec.Cmd
}

// newStage makes the folder and the certificate, and builds Gatehouse unless it
// was given. What it starts is ended by close.
func newStage(ctx context.Context) (s *stage, err error) {
	s = &stage{gatehouse: *binary}
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return nil, err
	}
	s.dir = dir
	defer func() {
		if err != nil { // and s is nil
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := s.certify(); err != nil {
		return nil, err
	}
	if s.gatehouse == "" {
		s.gatehouse = filepath.Join(s.dir, "gatehouse")
		if o, err := exec.CommandContext(ctx, "go", "build", "-o", s.gatehouse, "./cmd/gatehouse").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, o)
		}
	}
	return s, nil
}

// close ends what was started, last first, and removes the folder.
func (s *stage) close() error {
	for _, c := range slices.Backward(s.started) {
		s.end(c)
	}
	return os.RemoveAll(s.dir)
}

// end asks c to stop, and kills it when it does not.
func (s *stage) end(c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
	_ = c.Wait()
	kill.Stop()
	s.started = slices.DeleteFunc(s.started, func(o *exec.Cmd) bool { return o == c })
}

// start runs a program until the stage closes or ctx ends, and waits until it
// listens on port.
func (s *stage) start(ctx context.Context, port int, name string, args ...string) (*exec.Cmd, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = s.dir
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is ours to pass on, in order
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(name)+strconv.Itoa(port)+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return nil, err
	}
	s.started = append(s.started, c)
	if err := listening(ctx, port); err != nil {
		said, _ := os.ReadFile(log.Name())
		return c, fmt.Errorf("%w\n%s", err, said)
	}
	return c, nil
}

// certify makes an ECDSA P-256 certificate for localhost that signs itself.
func (s *stage) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "api.bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	s.cert, s.key = filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM([]byte(cert))
	return errors.Join(write(s.dir, "cert.pem", cert), write(s.dir, "key.pem", secret), write(s.dir, "both.pem", cert+secret))
}

// tls is for callers of the proxies: TLS 1.3 with HTTP/1.1.
func (s *stage) tls() *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
}

// conditions says what was measured, on what and beside what.
func conditions(ctx context.Context, out io.Writer) {
	var parts []string
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		parts = append(parts, fmt.Sprintf("%s, %d processors", find(string(b), `model name\s*:\s*(.+)`), strings.Count(string(b), "\nprocessor")+1))
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		parts = append(parts, "Linux "+strings.TrimSpace(string(b)))
	}
	say := func(name, pattern string, args ...string) {
		if name == "" {
			return
		}
		o, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // wrk -v ends with 1
		if v := find(string(o), pattern); v != "" {
			parts = append(parts, filepath.Base(name)+" "+v)
		}
	}
	say("go", `go version go(\S+)`, "version")
	say("nginx", `nginx/(\S+)`, "-v")
	say("haproxy", `version (\S+)`, "-v")
	for _, peer := range []string{*caddy, *traefik} {
		if peer != "" {
			o, _ := exec.CommandContext(ctx, "go", "version", "-m", peer).CombinedOutput()
			parts = append(parts, filepath.Base(peer)+" "+find(string(o), `\smod\s+\S+\s+v?(\S+)`))
		}
	}
	say(*krakend, `Version:\s+(\S+)`, "version")
	say("wrk", `wrk (\S+)`, "-v")
	_, _ = fmt.Fprintf(out, "%s; load average before: %s\n", strings.Join(parts, "; "), loadAverage())
}
