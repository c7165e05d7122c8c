package upstream

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	ldapTime   = 10 * time.Second // for a whole sign-in
	ldapAtOnce = 16               // sign-ins at one directory
	ldapBytes  = 4 << 20          // read for one sign-in
	maxLogin   = 256              // bytes
)

// LDAPConfig is one directory. Name, URL, BindDN, BindPassword, Base and Filter
// are required.
type LDAPConfig struct {
	Name     string // of the connector, and the Source of its users
	URL      string // ldaps://host[:636], or ldap://host[:389] with StartTLS; in the clear to loopback only
	StartTLS bool
	Roots    *x509.CertPool // nil: the system's

	BindDN       string // of the account that searches
	BindPassword gatehouse.Secret
	Base         string
	Filter       string // "(&(objectClass=person)(uid={login}))"; {login} is escaped

	SubjectAttribute string // stable, never given to another; "": entryUUID. objectGUID for Active Directory
	NameAttribute    string // "": uid
	EmailAttribute   string // "": mail
	DisplayAttribute string // "": cn

	// Groups of the user are named by their first value when they are right below
	// GroupBase ("cn=ops,ou=groups,…" is ops), and by their whole DN elsewhere:
	// another branch's "ops" is another group.
	GroupBase       string
	GroupsAttribute string // of the user, with DNs, such as memberOf
	GroupFilter     string // or a search below GroupBase: "(&(objectClass=groupOfNames)(member={dn}))"; {dn} and {name} are escaped

	Rules
	Throttle Throttle      // how fast somebody may guess; nil: as fast as the directory lets them
	Timeout  time.Duration // for a whole sign-in; 0: 10 s
}

// A Throttle is asked before a password is tried. Subject is the directory's name
// for the account, however the login was spelled, or the login when there is none;
// from is the browser's address. Its error ends the sign-in; done hears how it went.
// [*identity.Directory] is one.
type Throttle interface {
	Attempt(ctx context.Context, source, subject string, from netip.Addr) (done func(ctx context.Context, proven bool) error, err error)
}

// An LDAP signs people in at one directory: it searches for the one entry that the
// login names, then binds as it. It is safe for concurrent use.
type LDAP struct {
	cfg   LDAPConfig
	host  string // host:port
	name  string // host
	tls   bool
	base  *ldap.DN // of groups
	slots chan struct{}
	took  atomic.Int64 // nanoseconds that the last bind of somebody who exists took
}

// NewLDAP checks cfg. It calls nobody.
func NewLDAP(cfg LDAPConfig) (*LDAP, error) {
	fail := func(why string) (*LDAP, error) { return nil, fmt.Errorf("upstream %q: %s", cfg.Name, why) }
	u, err := url.Parse(cfg.URL)
	var port string
	switch {
	case !connectorName.MatchString(cfg.Name):
		return fail("the name is not made of a-z, 0-9 and - (32 at most)")
	case err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return fail("the URL is not like ldaps://host:636")
	case u.Scheme == "ldaps" && !cfg.StartTLS:
		port = "636"
	case u.Scheme == "ldap" && (cfg.StartTLS || loopback(u.Hostname())):
		port = "389"
	case u.Scheme == "ldap":
		return fail("passwords would go over the network in the clear: use ldaps:// or startTLS")
	default:
		return fail("the URL's scheme is not ldaps, or ldap")
	}
	switch {
	case cfg.BindDN == "" || cfg.BindPassword.Empty() || cfg.Base == "":
		return fail("bindDN, bindPassword and base are needed: an anonymous search proves nobody unique")
	case !strings.Contains(cfg.Filter, "{login}"):
		return fail("the filter does not contain {login}")
	case cfg.GroupFilter != "" && !strings.Contains(cfg.GroupFilter, "{dn}") && !strings.Contains(cfg.GroupFilter, "{name}"):
		return fail("the group filter contains neither {dn} nor {name}: everybody would be in every group")
	case cfg.GroupFilter != "" && cfg.GroupBase == "":
		return fail("a groupFilter needs a groupBase to search below")
	case cfg.Timeout < 0:
		return fail("a negative timeout")
	}
	base, err := ldap.ParseDN(cfg.GroupBase)
	if err != nil {
		return fail(fmt.Sprintf("groupBase %q is not a DN", cfg.GroupBase))
	}
	for _, f := range []string{fill(cfg.Filter, "x"), fill(cfg.GroupFilter, "x")} {
		if _, err := ldap.CompileFilter(f); f != "" && err != nil {
			return fail(fmt.Sprintf("%q is not an LDAP filter", f))
		}
	}
	for field, standard := range map[*string]string{
		&cfg.SubjectAttribute: "entryUUID", &cfg.NameAttribute: "uid", &cfg.EmailAttribute: "mail",
		&cfg.DisplayAttribute: "cn",
	} {
		if *field == "" {
			*field = standard
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = ldapTime
	}
	if p := u.Port(); p != "" {
		port = p
	}
	return &LDAP{
		cfg: cfg, host: net.JoinHostPort(u.Hostname(), port), name: u.Hostname(), tls: u.Scheme == "ldaps", base: base,
		slots: make(chan struct{}, ldapAtOnce),
	}, nil
}

// Name returns the connector's name.
func (l *LDAP) Name() string { return l.cfg.Name }

// Check proves who login and password are. [identity.ErrCredentials] is the answer
// to an unknown name, one that names several, and a wrong password; another error
// means that the directory could not be asked, or the Throttle's. From is the
// address of who asks.
func (l *LDAP) Check(ctx context.Context, login string, password gatehouse.Secret, from netip.Addr) (*identity.External, error) {
	// A bind without password is "unauthenticated" and succeeds (RFC 4513 §5.1.2).
	if password.Empty() || strings.ContainsRune(password.Reveal(), 0) || !goodLogin(login) {
		return nil, fmt.Errorf("upstream %s: %w", l.cfg.Name, identity.ErrCredentials)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("upstream %s: too many sign-ins at once: %w", l.cfg.Name, ctx.Err())
	}
	who, err := l.check(ctx, login, password, from)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", l.cfg.Name, err)
	}
	return who, nil
}

func (l *LDAP) check(ctx context.Context, login string, password gatehouse.Secret, from netip.Addr) (*identity.External, error) {
	c, stop, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := l.bindService(c); err != nil {
		return nil, err
	}
	entry, err := l.find(c, login)
	if err != nil {
		return nil, err
	}
	subject, dn := login, "cn="+rand.Text()+","+l.cfg.Base
	if entry != nil {
		dn = entry.DN
		if subject = l.subject(entry); subject == "" || dn == "" {
			return nil, fmt.Errorf("the entry of a user has no %s: who it is could not be said again", l.cfg.SubjectAttribute)
		}
	}
	done := func(context.Context, bool) error { return nil }
	if l.cfg.Throttle != nil {
		if done, err = l.cfg.Throttle.Attempt(ctx, l.cfg.Name, subject, from); err != nil {
			return nil, err
		}
	}
	// Who does not exist is tried too, and waited for as long as a directory hashes
	// the password of who does: the time must not tell names.
	began := time.Now()
	err = l.bindUser(c, dn, password)
	if took := time.Since(began); entry != nil {
		l.took.Store(int64(took))
	} else {
		pause(ctx, time.Duration(l.took.Load())-took)
	}
	proven := err == nil && entry != nil
	if errDone := done(ctx, proven); errDone != nil {
		return nil, errDone
	}
	switch {
	case err != nil:
		return nil, err
	case entry == nil:
		return nil, identity.ErrCredentials
	}
	who := l.external(entry, subject)
	if l.cfg.GroupFilter != "" {
		if err := l.bindService(c); err != nil {
			return nil, err
		}
		found, err := l.groups(c, entry, who.Name)
		if err != nil {
			return nil, err
		}
		who.Groups = append(who.Groups, found...)
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	l.cfg.apply(who)
	return who, nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// dial connects. Every wait on the connection ends with ctx.
func (l *LDAP) dial(ctx context.Context) (*ldap.Conn, func(), error) {
	d := net.Dialer{Timeout: l.cfg.Timeout / 2}
	raw, err := d.DialContext(ctx, "tcp", l.host)
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = raw.SetDeadline(deadline)
	settings := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.cfg.Roots, ServerName: l.name}
	var conn net.Conn = &metered{raw, ldapBytes}
	switch {
	case l.tls:
		secured := tls.Client(conn, settings)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, nil, err
		}
		conn = secured
	case !l.cfg.StartTLS && !at(raw.RemoteAddr()).IsLoopback(): // "localhost" led elsewhere
		_ = raw.Close()
		return nil, nil, errors.New("the host is not loopback, and the connection not encrypted")
	}
	c := ldap.NewConn(conn, l.tls)
	c.SetTimeout(l.cfg.Timeout)
	c.Start()
	cancel := context.AfterFunc(ctx, func() { _ = raw.Close() })
	stop := func() {
		cancel()
		_ = c.Close()
	}
	if l.cfg.StartTLS {
		if err := c.StartTLS(settings); err != nil {
			stop()
			return nil, nil, fmt.Errorf("StartTLS: %w", plainly(err))
		}
	}
	return c, stop, nil
}

func at(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

// metered ends a connection on which too much was read: a directory does not
// decide how much memory a sign-in takes.
type metered struct {
	net.Conn
	left int
}

func (m *metered) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("the directory sent more than %d bytes", ldapBytes)
	}
	n, err := m.Conn.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

func (l *LDAP) bindService(c *ldap.Conn) error {
	if err := c.Bind(l.cfg.BindDN, l.cfg.BindPassword.Reveal()); err != nil {
		return fmt.Errorf("binding as the searching account: %w", plainly(err))
	}
	return nil
}

// bindUser proves the password. A directory with a password policy may let
// somebody in only to change an expired password: that is no sign-in.
func (l *LDAP) bindUser(c *ldap.Conn, dn string, password gatehouse.Secret) error {
	res, err := c.SimpleBind(ldap.NewSimpleBindRequest(dn, password.Reveal(), []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	if err != nil {
		for _, refused := range []uint16{
			ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
			ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultConstraintViolation,
			ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultInsufficientAccessRights,
		} {
			if ldap.IsErrorWithCode(err, refused) {
				return identity.ErrCredentials
			}
		}
		return fmt.Errorf("binding as the user: %w", plainly(err))
	}
	for _, control := range res.Controls {
		if p, ok := control.(*ldap.ControlBeheraPasswordPolicy); ok && p.Error >= 0 {
			return identity.ErrCredentials
		}
	}
	return nil
}

// find returns the one entry that login names, or nil.
func (l *LDAP) find(c *ldap.Conn, login string) (*ldap.Entry, error) {
	want := []string{l.cfg.SubjectAttribute, l.cfg.NameAttribute, l.cfg.EmailAttribute, l.cfg.DisplayAttribute, "givenName", "sn"}
	if l.cfg.GroupsAttribute != "" {
		want = append(want, l.cfg.GroupsAttribute)
	}
	// Two are asked for to see that there are not two. Referrals are not followed:
	// the password would go to whomever the directory names.
	res, err := c.Search(ldap.NewSearchRequest(l.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2,
		l.seconds(), false, strings.ReplaceAll(l.cfg.Filter, "{login}", ldap.EscapeFilter(login)), want, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("searching the user: %w", plainly(err))
	case len(res.Entries) != 1:
		return nil, nil
	}
	return res.Entries[0], nil
}

func (l *LDAP) groups(c *ldap.Conn, entry *ldap.Entry, name string) ([]string, error) {
	filter := fillGroup(l.cfg.GroupFilter, ldap.EscapeFilter(entry.DN), ldap.EscapeFilter(name))
	res, err := c.Search(ldap.NewSearchRequest(l.cfg.GroupBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxGroups,
		l.seconds(), false, filter, []string{"1.1"}, nil)) // no attributes
	if err != nil {
		return nil, fmt.Errorf("searching the groups: %w", plainly(err))
	}
	var out []string
	for _, e := range res.Entries {
		if g := l.group(e.DN); g != "" {
			out = append(out, g)
		}
	}
	return out, nil
}

func (l *LDAP) seconds() int { return max(1, int(l.cfg.Timeout/time.Second)) }

func (l *LDAP) external(entry *ldap.Entry, subject string) *identity.External {
	get := func(attribute string) string { return text(entry.GetEqualFoldAttributeValue(attribute)) }
	e := &identity.External{
		Source: l.cfg.Name, Subject: subject, Name: get(l.cfg.NameAttribute), Email: get(l.cfg.EmailAttribute),
		Claims: map[string]any{},
		AMR:    []string{"pwd"}, // we have seen it ourselves
	}
	e.EmailVerified = e.Email != "" && l.cfg.TrustEmail
	for claim, attribute := range map[string]string{"name": l.cfg.DisplayAttribute, "given_name": "givenName", "family_name": "sn"} {
		if s := get(attribute); s != "" {
			e.Claims[claim] = s
		}
	}
	if l.cfg.GroupsAttribute != "" {
		values := entry.GetEqualFoldAttributeValues(l.cfg.GroupsAttribute)
		for _, v := range values[:min(len(values), maxGroups)] {
			if g := l.group(v); g != "" {
				e.Groups = append(e.Groups, g)
			}
		}
	}
	return e
}

// group returns the name of the group at dn.
func (l *LDAP) group(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err == nil && len(l.base.RDNs) > 0 && len(parsed.RDNs) == len(l.base.RDNs)+1 && l.base.AncestorOfFold(parsed) && len(parsed.RDNs[0].Attributes) == 1 {
		return text(parsed.RDNs[0].Attributes[0].Value)
	}
	return text(dn)
}

// subject returns the entry's stable name; bytes that are no text in hex.
func (l *LDAP) subject(entry *ldap.Entry) string {
	raw := entry.GetEqualFoldRawAttributeValue(l.cfg.SubjectAttribute)
	s := string(raw)
	if strings.EqualFold(l.cfg.SubjectAttribute, "objectGUID") || strings.EqualFold(l.cfg.SubjectAttribute, "objectSid") || !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		s = hex.EncodeToString(raw)
	}
	if len(s) > 255 {
		return ""
	}
	return s
}

// goodLogin refuses what no login is. A directory's matching rules drop outer and
// double spaces, and so would make two spellings of one name.
func goodLogin(s string) bool {
	return s != "" && len(s) <= maxLogin && utf8.ValidString(s) && !strings.ContainsFunc(s, control) &&
		strings.TrimSpace(s) == s && !strings.Contains(s, "  ")
}

// fill puts one value into every place of a filter, to see that it compiles.
func fill(filter, value string) string {
	return strings.NewReplacer("{login}", value, "{dn}", value, "{name}", value).Replace(filter)
}

// fillGroup replaces in one pass: a name that contains "{dn}" stays a name.
func fillGroup(filter, dn, name string) string {
	return strings.NewReplacer("{dn}", dn, "{name}", name).Replace(filter)
}
