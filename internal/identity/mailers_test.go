package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// A post office takes mail by SMTP.
type postOffice struct {
	address string
	roots   *x509.CertPool

	mu     sync.Mutex
	mails  []string      // what was accepted: envelope and data
	refuse error         // answer to RCPT TO
	slow   chan struct{} // not nil: DATA is answered when it is closed
}

type postSession struct {
	office   *postOffice
	from, to string
	known    bool
	login    bool // it must say who it is
}

func (s *postSession) Reset()        { s.from, s.to = "", "" }
func (s *postSession) Logout() error { return nil }

func (s *postSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "gatehouse" || password != "smtp secret" {
			return smtp.ErrAuthFailed
		}
		s.known = true
		return nil
	}), nil
}

func (s *postSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.login && !s.known {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.office.mu.Lock()
	defer s.office.mu.Unlock()
	s.to = to
	return s.office.refuse
}

func (s *postSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.office.slow != nil {
		<-s.office.slow
	}
	s.office.mu.Lock()
	defer s.office.mu.Unlock()
	s.office.mails = append(s.office.mails, s.from+" "+s.to+"\n"+string(b))
	return nil
}

type postal struct {
	tls, login bool // STARTTLS is offered; a password is asked for
	implicit   bool
}

func newPostOffice(t testing.TB, p postal) *postOffice {
	t.Helper()
	o := &postOffice{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &postSession{office: o, login: p.login}, nil
	}))
	server.Domain = "post.example.com"
	server.ErrorLog = silent{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.address = listener.Addr().String()
	if p.tls || p.implicit {
		certificate, roots := certify(t)
		o.roots = roots
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		if p.implicit {
			listener = tls.NewListener(listener, server.TLSConfig)
			server.TLSConfig = nil
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return o
}

// certify makes a certificate for 127.0.0.1.
func certify(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func (o *postOffice) got() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.mails...)
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// read decodes a mail; text has no soft line ends any more.
func read(t testing.TB, data string) (header mail.Header, text string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestSMTP(t *testing.T) {
	for _, c := range []struct {
		sentence string
		server   postal
		cfg      identity.SMTPConfig
		trusted  bool
		want     string // in the error; "" when the mail arrives
	}{
		{"a mail arrives by STARTTLS", postal{tls: true}, identity.SMTPConfig{}, true, ""},
		{"a mail arrives by TLS from the first byte", postal{implicit: true}, identity.SMTPConfig{TLS: identity.ImplicitTLS}, true, ""},
		{"a mail arrives without TLS on this machine", postal{}, identity.SMTPConfig{TLS: identity.NoTLS}, true, ""},
		{
			"a mail arrives with a password",
			postal{tls: true, login: true},
			identity.SMTPConfig{User: "gatehouse", Password: gatehouse.NewSecret("smtp secret")},
			true, "",
		},
		{
			"a mail arrives with a password by TLS from the first byte",
			postal{implicit: true, login: true},
			identity.SMTPConfig{TLS: identity.ImplicitTLS, User: "gatehouse", Password: gatehouse.NewSecret("smtp secret")},
			true, "",
		},
		{
			"a wrong password is an error",
			postal{tls: true, login: true},
			identity.SMTPConfig{User: "gatehouse", Password: gatehouse.NewSecret("wrong secret")},
			true, "535",
		},
		{
			"a password does not leave without TLS",
			postal{login: true},
			identity.SMTPConfig{TLS: identity.NoTLS, User: "gatehouse", Password: gatehouse.NewSecret("smtp secret")},
			true, "SMTP AUTH",
		},
		{"a mail does not leave when the server has no STARTTLS", postal{}, identity.SMTPConfig{}, true, "STARTTLS"},
		{"a mail does not leave to a server nobody vouches for", postal{tls: true}, identity.SMTPConfig{}, false, "certificate"},
		{"a mail does not leave by TLS to a server nobody vouches for", postal{implicit: true}, identity.SMTPConfig{TLS: identity.ImplicitTLS}, false, "certificate"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			office := newPostOffice(t, c.server)
			c.cfg.Address, c.cfg.From = office.address, "Gatehouse <no-reply@example.com>"
			if c.trusted {
				c.cfg.Roots = office.roots
			} else {
				c.cfg.Roots = x509.NewCertPool()
			}
			mailer, err := identity.NewSMTP(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = mailer.Send(t.Context(), "alice@example.com", "Grüße", "Hällo\n\nhttps://id.example.com/reset?code="+strings.Repeat("x", 80)+"\n")
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the password is in the error: %v", err)
				}
				if len(office.got()) != 0 {
					t.Error("it arrived")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := office.got()
			if len(got) != 1 {
				t.Fatalf("%d mails", len(got))
			}
			envelope, data, _ := strings.Cut(got[0], "\n")
			if envelope != "no-reply@example.com alice@example.com" {
				t.Errorf("envelope %q", envelope)
			}
			header, text := read(t, data)
			if header.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(header.Get("Message-ID"), "@example.com>") || header.Get("Date") == "" {
				t.Errorf("header %v", header)
			}
			if !strings.Contains(text, "Hällo\n") || !strings.Contains(text, "https://id.example.com/reset?code="+strings.Repeat("x", 80)+"\n") {
				t.Errorf("text %q", text)
			}
		})
	}
}

func TestSMTPSettingsThatAreRefused(t *testing.T) {
	for sentence, c := range map[string]identity.SMTPConfig{
		"no address":                   {From: "a@example.com"},
		"no port":                      {Address: "127.0.0.1", From: "a@example.com"},
		"no sender":                    {Address: "127.0.0.1:25"},
		"a sender of two lines":        {Address: "127.0.0.1:25", From: "a@example.com\r\nBcc: b@example.com"},
		"no TLS to another machine":    {Address: "mail.example.com:25", From: "a@example.com", TLS: identity.NoTLS},
		"a TLS mode nobody knows":      {Address: "127.0.0.1:25", From: "a@example.com", TLS: 77},
		"no TLS to a name like loop…":  {Address: "localhost.example.com:25", From: "a@example.com", TLS: identity.NoTLS},
		"no TLS to an address outside": {Address: "192.0.2.1:25", From: "a@example.com", TLS: identity.NoTLS},
	} {
		if _, err := identity.NewSMTP(c); err == nil {
			t.Errorf("%s is taken", sentence)
		}
	}
}

func TestAServerThatRefusesOrHangs(t *testing.T) {
	office := newPostOffice(t, postal{})
	mailer, err := identity.NewSMTP(identity.SMTPConfig{Address: office.address, From: "no-reply@example.com", TLS: identity.NoTLS})
	if err != nil {
		t.Fatal(err)
	}
	send := func(ctx context.Context) error { return mailer.Send(ctx, "alice@example.com", "s", "t") }
	office.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	wantErr(t, send(t.Context()), identity.ErrRefused)
	office.refuse = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
	if err := send(t.Context()); err == nil || errors.Is(err, identity.ErrRefused) {
		t.Errorf("come again later: got %v", err)
	}
	office.refuse = nil
	office.slow = make(chan struct{})
	defer close(office.slow)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := send(short); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("a server that hangs: %v after %v", err, time.Since(start))
	}
	for _, to := range []string{"alice@example.com\r\nRCPT TO:<eve@example.com>", "", "alice"} {
		if err := mailer.Send(t.Context(), to, "s", "t"); !errors.Is(err, identity.ErrRefused) {
			t.Errorf("to %q: %v", to, err)
		}
	}
	gone, err := identity.NewSMTP(identity.SMTPConfig{Address: closedPort(t), From: "no-reply@example.com", TLS: identity.NoTLS})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Send(t.Context(), "alice@example.com", "s", "t"); err == nil || errors.Is(err, identity.ErrRefused) {
		t.Errorf("nobody listens: got %v", err)
	}
}

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestOutbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	mailer, err := identity.NewOutbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := mailer.Send(t.Context(), "alice@example.com", "Grüße", "Hällo\n"); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 || filepath.Ext(f.Name()) != ".eml" {
			t.Errorf("%s of mode %v, %v", f.Name(), info.Mode(), err)
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if header, text := read(t, string(b)); header.Get("To") != "<alice@example.com>" || text != "Hällo\n" {
			t.Errorf("got %v, %q", header, text)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.NewOutbox(dir); err == nil {
		t.Error("a folder that others may read is taken")
	}
	if _, err := identity.NewOutbox(""); err == nil {
		t.Error("no folder is taken")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if mailer.Send(t.Context(), "alice@example.com", "s", "t") == nil {
		t.Error("a mail that was not kept is acknowledged")
	}
}
