package identity

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Authentication method references (RFC 8176 §2) that logins carry.
const (
	amrPassword = "pwd"
	amrOTP      = "otp"  // an authenticator app's code, or a recovery code: see [Directory.Recovery]
	amrHardware = "hwk"  // a passkey bound to its device
	amrSoftware = "swk"  // a passkey that is copied between devices
	amrUser     = "user" // the passkey verified its user by PIN, finger or face
	amrMulti    = "mfa"
)

const (
	sealedLogin = "identity login" // purpose of the Sealer
	loginLife   = 5 * time.Minute  // between the first and the second factor
	loginAge    = 2 * loginLife    // of a proof that still makes or raises a session
	clockStep   = time.Minute      // a proof may be this far ahead after the clock was set back
)

// ErrWeaker refuses to raise a session by a proof that is weaker than the one it
// has and adds no factor to it: it must not count as having signed in again.
var ErrWeaker = errors.New("this proof is weaker than the one the session has")

// Two factors are something known and something held (NIST SP 800-63B-4 §2.2).
// An authenticator app and a key that asks its user for nothing are both held:
// who stole the bag has both.
const (
	known = 1 << iota // a password, or whatever the upstream asked for
	held
)

// strength orders the ACR values; 0 is none that makes a session.
func strength(acr string) int {
	return 1 + slices.Index([]string{ACRPassword, ACRTwo, ACRPhishing}, acr)
}

// kinds tells which factors were proven to us. What an upstream says it asked for
// is not ours to count: the connector's mapping has made an ACR of it.
func kinds(amr []string, source string) (k int) {
	if source != "" {
		k |= known
		return k
	}
	for _, m := range amr {
		switch m {
		case amrPassword:
			k |= known
		case amrOTP, amrHardware, amrSoftware:
			k |= held
		}
	}
	return k
}

// level is what two proofs by the same user reach together. Only a passkey that
// verified its user in one ceremony is phr, so no sum of others becomes it.
func level(a, b string, kinds int) string {
	if strength(b) > strength(a) {
		a = b
	}
	if kinds == known|held && strength(a) < strength(ACRTwo) {
		return ACRTwo
	}
	return a
}

// methods is the union of a and b in order, with "mfa" exactly when acr says two factors.
func methods(a, b []string, acr string) []string {
	var out []string
	for _, m := range slices.Concat(a, b) {
		if m != amrMulti && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	if strength(acr) >= strength(ACRTwo) {
		out = append(out, amrMulti)
	}
	return out
}

// Combine makes one login of two proofs by the same user: a password and a key
// that asked for no PIN are two factors. It is as old as the older of them. Proofs
// of two users are [ErrCredentials].
func Combine(a, b *Login) (*Login, error) {
	if a == nil || b == nil || a.User == "" || a.User != b.User {
		return nil, ErrCredentials
	}
	k := kinds(a.AMR, a.Source) | kinds(b.AMR, b.Source)
	l := &Login{User: a.User, AuthTime: a.AuthTime, Source: a.Source, ACR: level(a.ACR, b.ACR, k)}
	if l.Source == "" {
		l.Source = b.Source
	}
	if l.AuthTime.IsZero() || !b.AuthTime.IsZero() && b.AuthTime.Before(l.AuthTime) {
		l.AuthTime = b.AuthTime
	}
	l.AMR = methods(a.AMR, b.AMR, l.ACR)
	l.Second = (a.Second || b.Second) && strength(l.ACR) < strength(ACRTwo) && !slices.Contains(l.AMR, amrOTP)
	return l, nil
}

// fresh reports whether l is a proof of just now.
func (l *Login) fresh(now time.Time) bool {
	return l != nil && l.User != "" && !l.AuthTime.IsZero() && now.Sub(l.AuthTime) <= loginAge && l.AuthTime.Sub(now) <= clockStep
}

// complete reports whether l can be a session by itself.
func (l *Login) complete(now time.Time) bool {
	return l.fresh(now) && !l.Second && strength(l.ACR) > 0
}

// raise is s after its user proved l as well. The level never falls, and nobody
// else's login gets in. The time of authentication becomes l's when l is by itself
// as strong as the session, or lifts it; a code alone, shown to a session that had
// one, is [ErrWeaker]: otherwise who holds the phone could renew for ever what
// needed a password as well (RFC 9470 §5, max_age).
func (s Session) raise(l *Login, now time.Time) (Session, error) {
	if !l.fresh(now) || l.Second || l.User != s.User {
		return Session{}, ErrCredentials
	}
	acr := level(s.ACR, l.ACR, kinds(s.AMR, s.Source)|kinds(l.AMR, l.Source))
	if strength(acr) == strength(s.ACR) && strength(l.ACR) < strength(s.ACR) {
		return Session{}, ErrWeaker
	}
	s.AMR = methods(s.AMR, l.AMR, acr)
	s.ACR = acr
	if l.Source != "" {
		s.Source = l.Source
	}
	if l.AuthTime.After(s.AuthTime) {
		s.AuthTime = l.AuthTime
	}
	return s, nil
}

type sealedLoginText struct {
	Login *Login    `json:"login"`
	Until time.Time `json:"until"`
}

// SealLogin makes text of a login that waits for its second factor, for the page
// that asks for it. It is good for five minutes and more than one try. A login
// that needs no more factor is refused: its text would be a key to start sessions with.
func (d *Directory) SealLogin(l *Login) (string, error) {
	now := time.Now()
	if !l.fresh(now) || !l.Second {
		return "", fmt.Errorf("%w: only a login that waits for its second factor is sealed", ErrInvalid)
	}
	return d.seal(sealedLogin, sealedLoginText{l, now.Add(loginLife)})
}

// OpenLogin gives back what SealLogin was given; all else, and what is older than
// five minutes, is [ErrCredentials].
func (d *Directory) OpenLogin(sealed string) (*Login, error) {
	var t sealedLoginText
	if err := d.open(sealedLogin, sealed, &t); err != nil {
		return nil, err
	}
	if now := time.Now(); !now.Before(t.Until) || !t.Login.fresh(now) {
		return nil, ErrCredentials
	}
	return t.Login, nil
}
