package oauth

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// ownKeys verify what we have signed. They follow the keyring: the keys it
// publishes at this moment, so that a rotation needs no telling.
type ownKeys struct {
	now atomic.Pointer[ownSet]
}

type ownSet struct {
	jwks []byte
	keys *token.KeySet
}

func (o *ownKeys) get(k Keyring) (*token.KeySet, error) {
	jwks := k.JWKS()
	old := o.now.Load()
	if old != nil && bytes.Equal(old.jwks, jwks) {
		return old.keys, nil
	}
	keys, err := token.NewKeySet(token.KeySetConfig{Static: jwks}, nil)
	if err != nil {
		return nil, err
	}
	if o.now.CompareAndSwap(old, &ownSet{bytes.Clone(jwks), keys}) && old != nil {
		old.keys.Flush() // what only a withdrawn key vouches for is not remembered
	}
	return keys, nil
}

// accessClaimsOf reads an access token of ours, JWT or opaque, that has not
// expired. Whether it was revoked is not looked at. An error that is not
// errNotOurs, in its chain, means that we could not tell.
func (s *Server) accessClaimsOf(ctx context.Context, raw string) (*token.Claims, error) {
	if len(raw) > maxToken {
		return nil, errNotOurs
	}
	if len(raw) > len(opaquePrefix) && raw[:len(opaquePrefix)] == opaquePrefix {
		c, err := s.OpenToken(ctx, raw)
		if err != nil {
			return nil, errors.Join(errNotOurs, err)
		}
		return c, nil
	}
	now := time.Now()
	if c, ok := s.opened.Get(raw); ok && now.Before(c.Expires) {
		return c, nil
	}
	keys, err := s.own.get(s.cfg.Keys)
	if err != nil {
		return nil, err
	}
	c, err := keys.Signed(ctx, raw, typeAccess)
	if err != nil {
		return nil, errors.Join(errNotOurs, err)
	}
	if c.Issuer != s.cfg.Issuer || c.Expires.IsZero() || !now.Before(c.Expires) {
		return nil, errors.Join(errNotOurs, errExpired)
	}
	s.opened.Put(raw, c, c)
	return c, nil
}

// alive reports whether an access token is still good: nothing of it revoked, and
// its client enabled. The error means that nobody can tell.
func (s *Server) alive(ctx context.Context, c *token.Claims) (bool, error) {
	if err := s.cfg.People.RevocationsErr(); err != nil {
		return false, err
	}
	if s.cfg.People.Revoked(c) {
		return false, nil
	}
	switch _, err := s.client(ctx, c.ClientID); {
	case errors.Is(err, errUnknownClient):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// hintOf returns the sub and sid of an ID token of ours that comes back as a hint,
// expired or not, with the client it was made for.
func (s *Server) hintOf(ctx context.Context, raw string) (*token.Claims, error) {
	keys, err := s.own.get(s.cfg.Keys)
	if err != nil {
		return nil, err
	}
	c, err := keys.Signed(ctx, raw, typeID)
	if err != nil {
		return nil, errors.Join(errNotOurs, err)
	}
	if c.Issuer != s.cfg.Issuer || c.Subject == "" || len(c.Audience) != 1 {
		return nil, errNotOurs
	}
	return c, nil
}
