package token

import (
	"context"
	"errors"
	"fmt"
)

// Signed returns the claims of raw when a key of s has signed it as the given typ,
// and looks at nothing else: not at iss, aud or any date. It is for an issuer who
// gets tokens of its own back, expired ones among them, and judges them itself: an
// id_token_hint (OpenID Connect Core §3.1.2.1), an access token to introspect. The
// claims may be kept in a [Cache].
func (s *KeySet) Signed(ctx context.Context, raw, typ string) (*Claims, error) {
	v := Verifier{cfg: VerifierConfig{MaxSize: defaultMaxSize, TypAny: true}, keys: s}
	parts, err := split(raw, defaultMaxSize)
	if err != nil {
		return nil, invalid(err)
	}
	// One key signs tokens of several kinds: the type alone tells them apart.
	h, err := parseHeader(parts.header)
	if err != nil {
		return nil, invalid(err)
	}
	if h.typ != typ || typ == "" {
		return nil, invalid(errors.New("the header's typ is another one"))
	}
	epoch := s.epoch.Load()
	payload, err := v.signed(ctx, raw)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, invalid(fmt.Errorf("claims: %w", err))
	}
	c.keys, c.epoch = s, epoch
	return c, nil
}
