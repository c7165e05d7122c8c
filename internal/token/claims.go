package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Claims are what a verified token says. They are read-only: caches share them.
type Claims struct {
	Issuer    string       // iss
	Subject   string       // sub
	Audience  []string     // aud, as a list also when the token has a string
	ClientID  string       // client_id (RFC 9068 §2.2), or else azp (OpenID Connect Core §2)
	Scopes    []string     // scope (RFC 8693 §4.2), or else scp as a list or a string
	Expires   time.Time    // exp
	NotBefore time.Time    // nbf; zero when absent
	IssuedAt  time.Time    // iat; zero when absent
	AuthTime  time.Time    // auth_time; zero when absent
	JTI       string       // jti
	Cnf       Confirmation // cnf (RFC 7800)
	SID       string       // sid: the session it was issued in (OpenID Connect Front-Channel Logout §3)
	GrantID   string       // grant_id: the grant it was issued under; our own tokens only
	ACR       string       // acr: how well the user was authenticated (OpenID Connect Core §2, RFC 9470)
	AMR       []string     // amr: by which means (RFC 8176)
	// authorization_details (RFC 9396 §2), as in Raw: each is a map[string]any with a text "type".
	AuthorizationDetails []any
	Raw                  map[string]any // every claim: string, bool, nil, int64, float64, []any, map[string]any

	keys  *KeySet // whose keys vouched
	epoch uint64  // of keys, read before the signature was checked
}

// A Confirmation binds a token to a key (RFC 7800 §3). A token with any of it
// set is not a bearer token: who cannot check the binding must refuse it.
type Confirmation struct {
	JKT     string // jkt: the DPoP key's thumbprint (RFC 9449 §6.1)
	X5T     string // x5t#S256: the client certificate's SHA-256, base64url (RFC 8705 §3.1)
	Unknown bool   // the token is bound by a method not known here
}

// Bound reports whether the token must come with a proof of possession.
func (c Confirmation) Bound() bool { return c.JKT != "" || c.X5T != "" || c.Unknown }

// maxDate is the last second of the year 9999; what lies beyond overflows
// somebody's calendar, and a token that never expires was not meant.
const maxDate = 253402300799

// maxClaims is the size in bytes of a claims set that did not come as a token.
const maxClaims = 64 << 10

// ParseClaims reads object, a JWT Claims Set of at most 64 KiB that something
// else than a signature vouches for: the content of an opened opaque token. It
// is as strict about JSON and about the types of claims as [Verifier.Verify],
// and checks nothing else: the caller looks at iss, aud, exp and nbf. A [Cache]
// does not remember what it returns.
func ParseClaims(object []byte) (*Claims, error) {
	if len(object) > maxClaims {
		return nil, fmt.Errorf("claims: more than %d bytes", maxClaims)
	}
	return parseClaims(object)
}

// parseClaims reads a JWT Claims Set (RFC 7519 §4) strictly: a claim it knows
// has the type the RFC gives it, or the token is refused.
func parseClaims(payload []byte) (*Claims, error) {
	c := &Claims{Raw: make(map[string]any, 16)}
	err := readObject(payload, func(r *reader, name string) (err error) {
		c.Raw[name], err = r.value()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	var azp string
	var scope, scp []string
	err = errors.Join(
		textClaim(c.Raw, "iss", &c.Issuer),
		textClaim(c.Raw, "sub", &c.Subject),
		textClaim(c.Raw, "jti", &c.JTI),
		textClaim(c.Raw, "client_id", &c.ClientID),
		textClaim(c.Raw, "azp", &azp),
		dateClaim(c.Raw, "exp", &c.Expires),
		dateClaim(c.Raw, "nbf", &c.NotBefore),
		dateClaim(c.Raw, "iat", &c.IssuedAt),
		dateClaim(c.Raw, "auth_time", &c.AuthTime),
		listClaim(c.Raw, "aud", false, &c.Audience),
		listClaim(c.Raw, "scope", true, &scope),
		listClaim(c.Raw, "scp", true, &scp),
		cnfClaim(c.Raw, &c.Cnf),
		textClaim(c.Raw, "sid", &c.SID),
		textClaim(c.Raw, "grant_id", &c.GrantID),
		textClaim(c.Raw, "acr", &c.ACR),
		amrClaim(c.Raw, &c.AMR),
		detailsClaim(c.Raw, &c.AuthorizationDetails),
	)
	if err != nil {
		return nil, err
	}
	if c.ClientID == "" {
		c.ClientID = azp
	}
	// scope is the registered name; scp counts only where it is missing, so
	// that a token with both never grants the sum of them.
	if c.Scopes = scope; c.Raw["scope"] == nil {
		c.Scopes = scp
	}
	return c, nil
}

func textClaim(raw map[string]any, name string, dst *string) error {
	v, ok := raw[name]
	if !ok {
		return nil
	}
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("the claim %s is not a string", name)
	}
	*dst = s
	return nil
}

// dateClaim reads a NumericDate (RFC 7519 §2); fractions are cut off.
func dateClaim(raw map[string]any, name string, dst *time.Time) error {
	v, ok := raw[name]
	if !ok {
		return nil
	}
	t, err := numericDate(name, v)
	*dst = t
	return err
}

func numericDate(name string, v any) (time.Time, error) {
	var sec int64
	switch n := v.(type) {
	case int64:
		sec = n
	case float64:
		if n < 0 || n > maxDate {
			return time.Time{}, fmt.Errorf("the claim %s is out of range", name)
		}
		sec = int64(n)
	default:
		return time.Time{}, fmt.Errorf("the claim %s is not a number", name)
	}
	if sec <= 0 || sec > maxDate {
		return time.Time{}, fmt.Errorf("the claim %s is out of range", name)
	}
	return time.Unix(sec, 0), nil
}

// listClaim reads a string or a list of strings; with words a string is a list
// separated by spaces (RFC 6749 §3.3).
func listClaim(raw map[string]any, name string, words bool, dst *[]string) error {
	v, ok := raw[name]
	if !ok {
		return nil
	}
	switch v := v.(type) {
	case string:
		if words {
			*dst = strings.FieldsFunc(v, func(r rune) bool { return r == ' ' })
		} else {
			*dst = []string{v}
		}
		return nil
	case []any:
		list := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return fmt.Errorf("the claim %s has a member that is not a string", name)
			}
			if words && strings.Contains(s, " ") {
				return fmt.Errorf("the claim %s has a member with a space", name)
			}
			list[i] = s
		}
		*dst = list
		return nil
	}
	return fmt.Errorf("the claim %s is neither a string nor a list", name)
}

func cnfClaim(raw map[string]any, dst *Confirmation) error {
	v, ok := raw["cnf"]
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("the claim cnf is not an object")
	}
	for name, v := range m {
		s, isText := v.(string)
		switch {
		case name == "jkt" && isText && s != "":
			dst.JKT = s
		case name == "x5t#S256" && isText && s != "":
			dst.X5T = s
		case name == "jkt" || name == "x5t#S256":
			return fmt.Errorf("the claim cnf.%s is not a thumbprint", name)
		default:
			dst.Unknown = true
		}
	}
	// An empty cnf binds to nothing one could check, yet says the token is bound.
	if len(m) == 0 {
		dst.Unknown = true
	}
	return nil
}

// amrClaim reads a list of strings; unlike aud it has no form as one string
// (RFC 8176 §1), which somebody might read as a list of words.
func amrClaim(raw map[string]any, dst *[]string) error {
	if v, ok := raw["amr"]; ok {
		if _, isList := v.([]any); !isList {
			return errors.New("the claim amr is not a list")
		}
	}
	return listClaim(raw, "amr", false, dst)
}

func detailsClaim(raw map[string]any, dst *[]any) error {
	v, ok := raw["authorization_details"]
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return errors.New("the claim authorization_details is not a list")
	}
	for _, v := range list {
		m, _ := v.(map[string]any)
		if kind, ok := m["type"].(string); !ok || kind == "" {
			return errors.New("the claim authorization_details has a member that is no object with a type")
		}
	}
	*dst = list
	return nil
}

// hasAudience reports whether one of want is in the token's aud.
func (c *Claims) hasAudience(want []string) bool {
	return slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(want, a) })
}
