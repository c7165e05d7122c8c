package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/gatehouse-api/gatehouse"
)

// An outboxDir writes mail to a folder instead of sending it.
type outboxDir struct{ dir, from string }

// NewOutbox returns a Mailer that writes each mail as a file of its own, named
// TIME-….eml, into dir: for trying out, and for houses where another program sends
// them. Who may read the folder can take accounts over, so its mode is 0700.
func NewOutbox(dir string) (Mailer, error) {
	if dir == "" {
		return nil, errors.New("identity: the outbox needs a folder")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity: outbox: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("identity: outbox: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("identity: outbox: %s must be a folder that only its owner may use: chmod 700 it", dir)
	}
	return &outboxDir{dir, "gatehouse@localhost"}, nil
}

// Send returns when the mail is on the disk.
func (o *outboxDir) Send(ctx context.Context, to, subject, text string) error {
	m, err := compose(o.from, to, subject, text)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	f, err := os.CreateTemp(o.dir, ".new-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	_, err = io.Copy(f, &b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(o.dir, newID(time.Now().UTC().Format("20060102T150405.000Z-"))+".eml"))
	}
	if err != nil {
		return fmt.Errorf("outbox: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(o.dir)
}

// syncDir makes a rename survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// A TLSMode says how the connection to a mail server is protected.
type TLSMode uint8

// The zero TLSMode is STARTTLS, and the mail stays here when the server has none.
const (
	StartTLS    TLSMode = iota
	ImplicitTLS         // TLS from the first byte (port 465, RFC 8314 §3.3)
	NoTLS               // for a server on this machine only
)

// SMTPConfig says which server takes our mail.
type SMTPConfig struct {
	Address  string // host:port
	User     string // "": the server asks for none
	Password gatehouse.Secret
	From     string // address, or Name <address>
	TLS      TLSMode
	Roots    *x509.CertPool // who may vouch for the server; nil: the system's
}

type smtpServer struct {
	host, address, from string
	options             []mail.Option
	implicit            *tls.Config // nil: the connection begins without TLS
}

// NewSMTP returns a Mailer that hands mail to one server (RFC 6409), on a
// connection of its own for each. It connects to nobody yet. Without TLS it takes
// only a server on this machine: the links in the mails open accounts.
func NewSMTP(cfg SMTPConfig) (Mailer, error) {
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("identity: mail server %q must be host:port", cfg.Address)
	}
	if _, err := compose(cfg.From, "someone@example.com", "", ""); err != nil {
		return nil, fmt.Errorf("identity: mail can not be sent from %q", cfg.From)
	}
	secure := &tls.Config{ServerName: host, RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
	s := &smtpServer{host: host, address: cfg.Address, from: cfg.From}
	s.options = []mail.Option{mail.WithTimeout(mailLimit / 2), mail.WithoutNoop(), mail.WithoutRset(), mail.WithTLSConfig(secure)}
	switch cfg.TLS {
	case StartTLS:
		s.options = append(s.options, mail.WithTLSPolicy(mail.TLSMandatory))
	case ImplicitTLS:
		s.implicit = secure
		s.options = append(s.options, mail.WithTLSPolicy(mail.TLSOpportunistic)) // which then only notices that TLS is there
	case NoTLS:
		if !isLoopback(host) {
			return nil, fmt.Errorf("identity: mail server %q is not this machine: mail to it needs TLS", cfg.Address)
		}
		s.options = append(s.options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		return nil, fmt.Errorf("identity: mail server %q: unknown TLS mode %d", cfg.Address, cfg.TLS)
	}
	if cfg.User != "" { // by the strongest way the server has, none readable without TLS
		s.options = append(s.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(cfg.User), mail.WithPassword(cfg.Password.Reveal()))
	}
	if _, err := mail.NewClient(host, s.options...); err != nil {
		return nil, fmt.Errorf("identity: mail server %q: %w", cfg.Address, err)
	}
	return s, nil
}

// Send returns when the server has accepted the mail. The error wraps [ErrRefused]
// when the server said 5xx to the recipient or the mail.
func (s *smtpServer) Send(ctx context.Context, to, subject, text string) error {
	m, err := compose(s.from, to, subject, text)
	if err != nil {
		return err
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	// The library closes no connection on which it failed, and knows no context.
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	given := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	client, err := mail.NewClient(s.host, append(slices.Clone(s.options), mail.WithDialContextFunc(given))...)
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("mail server: %w", errors.Join(context.Cause(ctx), err))
	}
	err = client.SendWithSMTPClient(session, m)
	if m.IsDelivered() {
		_ = session.Quit() // it has the mail: how it says good-bye changes nothing
		return nil
	}
	if refused, ok := errors.AsType[*mail.SendError](err); ok && refused.ErrorCode() >= 500 &&
		(refused.Reason == mail.ErrSMTPRcptTo || refused.Reason == mail.ErrSMTPDataClose) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("mail server: %w", errors.Join(context.Cause(ctx), err, errNotDelivered))
}

var errNotDelivered = errors.New("the mail was not accepted")

func (s *smtpServer) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, mailLimit/2)
	defer cancel()
	if s.implicit == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", s.address)
	}
	return (&tls.Dialer{Config: s.implicit}).DialContext(ctx, "tcp", s.address)
}

// compose makes a text mail. The library encodes what is not ASCII, and refuses
// line ends in a header.
func compose(from, to, subject, text string) (*mail.Msg, error) {
	sender, err := netmail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(m.From(from), m.To(to)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	_, domain, _ := strings.Cut(sender.Address, "@")
	m.Subject(subject)
	m.SetDate()
	m.SetMessageIDWithValue(newID("") + "@" + domain)  // the library's would name this machine
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5: nobody's holiday answers it
	m.SetBodyString(mail.TypeTextPlain, text)
	return m, nil
}
