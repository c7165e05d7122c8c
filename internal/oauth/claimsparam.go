package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
)

// A claimsParameter is the claims request parameter (OpenID Connect Core §5.5):
// which claims are asked for where, beyond those of the scopes.
type claimsParameter struct {
	UserInfo map[string]*claimRequest `json:"userinfo,omitempty"`
	IDToken  map[string]*claimRequest `json:"id_token,omitempty"`
}

// A claimRequest is one claim asked for; null is a plain wish.
type claimRequest struct {
	Essential bool  `json:"essential,omitempty"`
	Value     any   `json:"value,omitempty"`
	Values    []any `json:"values,omitempty"`
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

// claimScope is the scope that stands for a claim, "" for one that no scope has.
func claimScope(name string) string {
	for scope, names := range scopeClaims {
		if slices.Contains(names, name) {
			return scope
		}
	}
	return ""
}

// within leaves those claims whose scope is among may: to ask for a claim by its
// name must not give a client what it may not ask for by scope.
func (p *claimsParameter) within(may []string) {
	for _, asked := range []map[string]*claimRequest{p.UserInfo, p.IDToken} {
		maps.DeleteFunc(asked, func(name string, _ *claimRequest) bool {
			scope := claimScope(name)
			return scope != "" && !slices.Contains(may, scope)
		})
	}
}

// scopes are those which what is asked for is part of.
func (p *claimsParameter) scopes() (list []string) {
	if p == nil {
		return nil
	}
	for _, asked := range []map[string]*claimRequest{p.UserInfo, p.IDToken} {
		for name := range asked {
			if scope := claimScope(name); scope != "" && !slices.Contains(list, scope) {
				list = append(list, scope)
			}
		}
	}
	slices.Sort(list)
	return list
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
