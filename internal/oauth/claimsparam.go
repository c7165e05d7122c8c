package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// A claimsParameter is the claims request parameter (OpenID Connect Core §5.5):
// which claims are asked for where, beyond those of the scopes.
type claimsParameter struct {
	UserInfo map[string]*claimRequest `json:"userinfo"`
	IDToken  map[string]*claimRequest `json:"id_token"`
}

// A claimRequest is one claim asked for; null is a plain wish.
type claimRequest struct {
	Essential bool  `json:"essential"`
	Value     any   `json:"value"`
	Values    []any `json:"values"`
}

// readClaimsParameter judges what a client sent.
func readClaimsParameter(text string) (*claimsParameter, error) {
	if len(text) > 8<<10 {
		return nil, errors.New("too long")
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	var p *claimsParameter
	if err := dec.Decode(&p); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	if p == nil || len(p.UserInfo)+len(p.IDToken) > 64 {
		return nil, errors.New("null, or too many claims")
	}
	return p, nil
}

// parseClaimsParameter reads what was judged before; nil for none.
func parseClaimsParameter(kept json.RawMessage) *claimsParameter {
	if len(kept) == 0 {
		return nil
	}
	p, err := readClaimsParameter(string(kept))
	if err != nil {
		return nil // it was readable when it was kept
	}
	return p
}

// texts are the values a claim is asked to have, as far as they are strings.
func (c *claimRequest) texts() []string {
	if c == nil {
		return nil
	}
	var list []string
	for _, v := range append([]any{c.Value}, c.Values...) {
		if s, ok := v.(string); ok && s != "" {
			list = append(list, s)
		}
	}
	return list
}
