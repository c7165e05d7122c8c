package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
)

var address = netip.MustParseAddr("192.0.2.1")

func newLDAP(t *testing.T, cfg upstream.LDAPConfig) *upstream.LDAP {
	t.Helper()
	l, err := upstream.NewLDAP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestARealDirectory(t *testing.T) {
	s := startSlapd(t)
	password := []string{"userPassword", "correct horse"}
	alice := s.person(t, "people", "alice", append(password, "mail", "alice@example.com", "givenName", "Alice")...)
	for _, uid := range []string{"star*man", `back\slash`, "(both)", "zoë", "nul"} {
		s.person(t, "people", uid, password...)
	}
	s.person(t, "people", "nobody") // without password
	s.person(t, "people", "twin", password...)
	s.person(t, "partners", "twin", "userPassword", "battery staple")
	must := s.person(t, "people", "must", password...)
	change := ldap.NewModifyRequest(must, nil)
	change.Replace("pwdReset", []string{"TRUE"})
	if err := s.root.Modify(change); err != nil {
		t.Fatal(err)
	}
	s.add(t, "ou=nested,ou=groups,dc=example,dc=com", "objectClass", "organizationalUnit", "ou", "nested")
	for _, dn := range []string{"cn=admins,ou=nested,ou=groups,dc=example,dc=com", "cn=ops,ou=groups,dc=example,dc=com", "cn=admins,ou=groups,ou=partners,dc=example,dc=com"} {
		s.add(t, dn, "objectClass", "groupOfNames", "cn", strings.Split(dn[3:], ",")[0], "member", alice)
	}
	s.add(t, "cn=others,ou=groups,dc=example,dc=com", "objectClass", "groupOfNames", "cn", "others", "member", must)

	l := newLDAP(t, s.config())
	for _, tt := range []struct {
		name, login, password string
		want                  error
	}{
		{"the right password is taken", "alice", "correct horse", nil},
		{"an address is a login when the filter says so", "Alice@Example.com", "correct horse", nil},
		{"a login with a star is escaped, and found", "star*man", "correct horse", nil},
		{"a login with a backslash is escaped, and found", `back\slash`, "correct horse", nil},
		{"a login with brackets is escaped, and found", "(both)", "correct horse", nil},
		{"a login that is not ASCII is found", "zoë", "correct horse", nil},
		{"a wrong password is refused", "alice", "correct horsf", identity.ErrCredentials},
		{"no password is refused, which a directory would take", "alice", "", identity.ErrCredentials},
		{"no password for the user without one is refused", "nobody", "", identity.ErrCredentials},
		{"any password for the user without one is refused", "nobody", "x", identity.ErrCredentials},
		{"a password that ends early is refused", "alice", "correct horse\x00", identity.ErrCredentials},
		{"an unknown name is refused", "bob", "correct horse", identity.ErrCredentials},
		{"everybody is nobody", "*", "correct horse", identity.ErrCredentials},
		{"a name cut by a star is refused", "alic*", "correct horse", identity.ErrCredentials},
		{"a login that is a filter is refused", "alice)(uid=*", "correct horse", identity.ErrCredentials},
		{"a login that closes the filter is refused", "x)(|(objectClass=*", "correct horse", identity.ErrCredentials},
		{"an escaped star is refused", `alic\2a`, "correct horse", identity.ErrCredentials},
		{"an escaped letter is refused", `\61lice`, "correct horse", identity.ErrCredentials},
		{"a zero byte is refused", "alice\x00", "correct horse", identity.ErrCredentials},
		{"bytes that are no text are refused", "alice\xff", "correct horse", identity.ErrCredentials},
		{"a space more, which a directory would drop, is refused", "alice ", "correct horse", identity.ErrCredentials},
		{"no login is refused", "", "correct horse", identity.ErrCredentials},
		{"a login of a kilobyte is refused", strings.Repeat("a", 1024), "correct horse", identity.ErrCredentials},
		{"who has the name of two is refused", "twin", "correct horse", identity.ErrCredentials},
		{"the other one, too", "twin", "battery staple", identity.ErrCredentials},
		{"a password that must be changed is refused", "must", "correct horse", identity.ErrCredentials},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, err := l.Check(t.Context(), tt.login, gatehouse.NewSecret(tt.password), address)
			if !errors.Is(err, tt.want) || (who == nil) != (tt.want != nil) {
				t.Fatalf("got %+v, %v", who, err)
			}
			if tt.want == nil && (len(who.Subject) != 36 || !strings.EqualFold(who.Name, tt.login) && !strings.EqualFold(who.Email, tt.login)) {
				t.Errorf("got %+v", who)
			}
		})
	}

	const nested = "cn=admins,ou=nested,ou=groups,dc=example,dc=com"
	grouped := func(change func(*upstream.LDAPConfig)) *identity.External {
		t.Helper()
		cfg := s.config()
		cfg.Rules = upstream.Rules{Create: true, TrustEmail: true, Roles: map[string][]string{"ops": {"operator"}, "admins": {"root"}}}
		cfg.GroupBase = "ou=groups,dc=example,dc=com"
		change(&cfg)
		who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address)
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	t.Run("groups come from an attribute, and a group of another branch is another group", func(t *testing.T) {
		who := grouped(func(c *upstream.LDAPConfig) { c.GroupsAttribute = "memberOf" })
		if !slices.Equal(who.Groups, []string{"cn=admins,ou=groups,ou=partners,dc=example,dc=com", nested, "ops"}) || !slices.Equal(who.Roles, []string{"operator"}) {
			t.Errorf("got %q, %q", who.Groups, who.Roles)
		}
		if who.Email != "alice@example.com" || !who.EmailVerified || !who.Create || who.Claims["name"] != "The alice" || who.Claims["given_name"] != "Alice" || !slices.Equal(who.AMR, []string{"pwd"}) {
			t.Errorf("got %+v", who)
		}
	})
	t.Run("groups come from a search", func(t *testing.T) {
		who := grouped(func(c *upstream.LDAPConfig) { c.GroupFilter = "(&(objectClass=groupOfNames)(member={dn}))" })
		if !slices.Equal(who.Groups, []string{nested, "ops"}) || !slices.Equal(who.Roles, []string{"operator"}) {
			t.Errorf("got %q, %q", who.Groups, who.Roles)
		}
	})
	t.Run("a search for groups that fails is no sign-in with fewer of them", func(t *testing.T) {
		cfg := s.config()
		cfg.GroupBase, cfg.GroupFilter = "ou=missing,dc=example,dc=com", "(member={dn})"
		who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address)
		if who != nil || err == nil || errors.Is(err, identity.ErrCredentials) {
			t.Errorf("got %+v, %v", who, err)
		}
	})
	t.Run("without a stable name for the user there is no sign-in", func(t *testing.T) {
		cfg := s.config()
		cfg.SubjectAttribute = "employeeNumber"
		if who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); who != nil || err == nil {
			t.Errorf("got %+v", who)
		}
	})
	t.Run("StartTLS and loopback in the clear work as well", func(t *testing.T) {
		for _, startTLS := range []bool{true, false} {
			cfg := s.config()
			cfg.URL, cfg.StartTLS = s.plain, startTLS
			if _, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); err != nil {
				t.Errorf("startTLS %v: %v", startTLS, err)
			}
		}
	})
	t.Run("a directory with an unknown certificate is not asked", func(t *testing.T) {
		for _, url := range []string{s.secure, s.plain} {
			cfg := s.config()
			cfg.URL, cfg.StartTLS, cfg.Roots = url, url == s.plain, nil
			if who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); who != nil || err == nil || errors.Is(err, identity.ErrCredentials) {
				t.Errorf("%s: got %+v, %v", url, who, err)
			}
		}
	})
	t.Run("a searching account that is refused is a broken connector, not a wrong password", func(t *testing.T) {
		cfg := s.config()
		cfg.BindPassword = gatehouse.NewSecret("wrong")
		if who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); who != nil || err == nil || errors.Is(err, identity.ErrCredentials) {
			t.Errorf("got %+v, %v", who, err)
		}
	})
	t.Run("guesses are counted by the account, however its login is spelled, before they are made", func(t *testing.T) {
		cfg := s.config()
		counted := &throttle{}
		cfg.Throttle = counted
		l := newLDAP(t, cfg)
		for _, login := range []string{"alice", "ALICE", "alice@example.com"} {
			if _, err := l.Check(t.Context(), login, gatehouse.NewSecret("wrong"), address); !errors.Is(err, identity.ErrCredentials) {
				t.Fatal(err)
			}
		}
		if _, err := l.Check(t.Context(), "bob", gatehouse.NewSecret("wrong"), address); !errors.Is(err, identity.ErrCredentials) {
			t.Fatal(err)
		}
		if len(counted.subjects) != 4 || counted.subjects[0] != counted.subjects[1] || counted.subjects[0] != counted.subjects[2] || counted.subjects[3] != "bob" || counted.proven {
			t.Errorf("counted %+v", counted)
		}
		if _, err := l.Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); err != nil || !counted.proven {
			t.Errorf("counted %+v, %v", counted, err)
		}
		counted.refuse = errors.New("wait")
		if _, err := l.Check(t.Context(), "alice", gatehouse.NewSecret("correct horse"), address); !errors.Is(err, counted.refuse) {
			t.Errorf("who must wait gets %v", err)
		}
	})
}

type throttle struct {
	subjects []string
	proven   bool
	refuse   error
}

func (r *throttle) Attempt(_ context.Context, _, subject string, _ netip.Addr) (func(context.Context, bool) error, error) {
	r.subjects = append(r.subjects, subject)
	return func(_ context.Context, proven bool) error { r.proven = proven; return nil }, r.refuse
}

func TestABrokenDirectory(t *testing.T) {
	for name, behave := range map[string]func(net.Conn){
		"that says nothing":         func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); <-t.Context().Done() },
		"that hangs up":             func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) },
		"that talks nonsense":       func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) },
		"that never stops talking":  func(c net.Conn) { flood(c, []byte("\x30\x84\x7f\xff\xff\xff\x04\x84\x7f\xff\xff\xf0")) },
		"that nests without an end": func(c net.Conn) { flood(c, []byte("\x30\x80")) },
	} {
		t.Run("a directory "+name+" is an error in time", func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := listener.Accept()
				if err != nil {
					return
				}
				stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
				defer stop()
				behave(c)
				_ = c.Close()
			}()
			defer func() { _ = listener.Close() }()
			cfg := (&slapd{secure: "ldap://" + listener.Addr().String()}).config()
			cfg.Timeout = time.Second
			who, err := newLDAP(t, cfg).Check(t.Context(), "alice", gatehouse.NewSecret("x"), address)
			if who != nil || err == nil || errors.Is(err, identity.ErrCredentials) {
				t.Errorf("got %+v, %v", who, err)
			}
			if name == "that never stops talking" && !strings.Contains(err.Error(), "sent more than") {
				t.Errorf("all of it was read: %v", err)
			}
		})
	}
}

func flood(c net.Conn, head []byte) {
	if _, err := c.Write(head); err != nil {
		return
	}
	junk := []byte(strings.Repeat(string(head[:2]), 32<<10))
	for {
		if _, err := c.Write(junk); err != nil {
			return
		}
	}
}

func TestLDAPConfig(t *testing.T) {
	good := (&slapd{secure: "ldaps://ldap.example"}).config()
	if _, err := upstream.NewLDAP(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*upstream.LDAPConfig){
		"passwords in the clear":               func(c *upstream.LDAPConfig) { c.URL = "ldap://ldap.example" },
		"another protocol":                     func(c *upstream.LDAPConfig) { c.URL = "http://127.0.0.1" },
		"a path in the URL":                    func(c *upstream.LDAPConfig) { c.URL += "/dc=example" },
		"no searching account":                 func(c *upstream.LDAPConfig) { c.BindDN = "" },
		"a searching account without password": func(c *upstream.LDAPConfig) { c.BindPassword = gatehouse.Secret{} },
		"no base":                              func(c *upstream.LDAPConfig) { c.Base = "" },
		"a filter that finds everybody":        func(c *upstream.LDAPConfig) { c.Filter = "(uid=*)" },
		"a filter that is none":                func(c *upstream.LDAPConfig) { c.Filter = "(uid={login}" },
		"a group filter for everybody":         func(c *upstream.LDAPConfig) { c.GroupBase, c.GroupFilter = "ou=g", "(cn=*)" },
		"a group filter without base":          func(c *upstream.LDAPConfig) { c.GroupFilter = "(member={dn})" },
		"a base of groups that is no DN":       func(c *upstream.LDAPConfig) { c.GroupBase = "groups" },
		"a negative timeout":                   func(c *upstream.LDAPConfig) { c.Timeout = -1 },
		"a name with a space":                  func(c *upstream.LDAPConfig) { c.Name = "a b" },
	} {
		cfg := good
		change(&cfg)
		if _, err := upstream.NewLDAP(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
