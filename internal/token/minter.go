package token

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	defaultLife = time.Minute
	maxLife     = time.Hour
)

// A MinterConfig says what internal tokens look like. The zero value is refused.
type MinterConfig struct {
	Issuer  string        // iss: this gateway, as services know it; required
	Life    time.Duration // of a token; 0: 1 min, at most 1 h
	Entries int           // about how many tokens are remembered; 0: 16,384
}

// A Minter turns principals into the short-lived tokens that services get
// instead of the caller's own. One token serves a principal and audience for
// half its life, so that a busy caller costs one signature in that time and
// every token has half its life left. It is safe for concurrent use.
type Minter struct {
	cfg    MinterConfig
	signer *Signer
	t      slots[minted]
}

type minted struct {
	hash      uint64
	principal *gatehouse.Principal
	audience  string
	until     int64 // Unix nanoseconds: when to make another
	ring      *ring // a token signed by a key that has been rotated out is not handed on
	raw       string
}

// NewMinter checks cfg.
func NewMinter(cfg MinterConfig, s *Signer) (*Minter, error) {
	switch {
	case cfg.Issuer == "":
		return nil, errors.New("minter: an issuer is required")
	case s == nil:
		return nil, errors.New("minter: a signer is required")
	case s.alg == RS256:
		// It signs twenty times slower, which the first request of every principal would pay.
		return nil, fmt.Errorf("minter: internal tokens are not signed with %s; use %s or %s", RS256, ES256, EdDSA)
	case cfg.Life < 0 || cfg.Life > maxLife:
		return nil, fmt.Errorf("minter: a life of %v; at most %v", cfg.Life, maxLife)
	case cfg.Life == 0:
		cfg.Life = defaultLife
	}
	return &Minter{cfg: cfg, signer: s, t: newSlots[minted](cfg.Entries)}, nil
}

// Mint returns an access token (RFC 9068) in which this gateway tells the
// service named audience who p is. It lives no longer than the proof p gave.
// Nobody, and who has no subject or an expired proof, gets none: an error.
//
// The jti is that of the token, not of the request: it may be seen again.
func (m *Minter) Mint(p *gatehouse.Principal, audience string) (string, error) {
	if p.Anonymous() || p.Subject == "" {
		return "", errors.New("mint: nobody was authenticated")
	}
	now := time.Now()
	hash := m.hash(p, audience)
	ring := m.signer.ring.Load()
	group := m.t.group(hash)
	for i := range group {
		e := group[i].Load()
		if e != nil && e.hash == hash && now.UnixNano() < e.until && e.ring == ring && e.audience == audience && samePrincipal(e.principal, p) {
			return e.raw, nil
		}
	}
	expires := now.Add(m.cfg.Life)
	if !p.Expires.IsZero() && p.Expires.Before(expires) {
		expires = p.Expires
	}
	// exp has whole seconds: a token of which less is left would be dead on arrival.
	if expires.Unix() <= now.Unix() {
		return "", errors.New("mint: the principal's proof has expired")
	}
	raw, err := m.signer.AccessToken(&AccessToken{
		Issuer: m.cfg.Issuer, Subject: p.Subject, Audience: audience, ClientID: p.Client,
		Scopes: p.Scopes, Roles: p.Roles, Tenant: p.Tenant, Provider: p.Issuer,
		IssuedAt: now, Expires: expires, AuthTime: p.AuthTime,
	})
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	e := &minted{hash, p, audience, now.Add(expires.Sub(now) / 2).UnixNano(), ring, raw}
	m.t.put(hash, e, func(old *minted) int64 { return old.until })
	return raw, nil
}

func (m *Minter) hash(p *gatehouse.Principal, audience string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.t.seed)
	// Not all of what samePrincipal compares: enough to tell callers apart.
	for _, s := range [...]string{p.Subject, p.Issuer, p.Client, p.Tenant, p.KeyID, audience} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	// One subject's many sessions must not fight for the slots of one group.
	maphash.WriteComparable(&h, p.Expires.UnixNano())
	return h.Sum64()
}

// samePrincipal compares all that goes into a token or bounds it.
func samePrincipal(a, b *gatehouse.Principal) bool {
	return a == b || a.Subject == b.Subject && a.Issuer == b.Issuer && a.Client == b.Client && a.Tenant == b.Tenant &&
		a.Method == b.Method && a.KeyID == b.KeyID && a.AuthTime.Equal(b.AuthTime) && a.Expires.Equal(b.Expires) &&
		slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Scopes, b.Scopes)
}
