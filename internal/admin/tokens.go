package admin

import (
	"encoding/json"
)

type tokenBody struct {
	Token string `json:"token"`
}

func (a *api) inspectToken(c *call) (answer, error) {
	var in tokenBody
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	i, err := a.OAuth.Inspect(c.Context(), in.Token)
	return answer{body: i}, err
}

func (a *api) revokeToken(c *call) (answer, error) {
	var in tokenBody
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	return answer{}, a.OAuth.RevokeToken(c.Context(), c.actor, in.Token)
}

func (a *api) revoke(c *call) (answer, error) {
	var in struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	return answer{}, a.Revoke(c.Context(), c.actor, in.Kind, in.ID)
}

func (a *api) rotateSigningKeys(c *call) (answer, error) {
	if err := a.RotateSigningKeys(c.Context(), c.actor); err != nil {
		return answer{}, err
	}
	return answer{body: json.RawMessage(a.Keyring.JWKS())}, nil
}

func (a *api) export(c *call) (answer, error) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	if err := a.Export(c.Context(), c.actor, c.w); err != nil {
		return answer{}, err // what has been sent of it is cut off by the gateway
	}
	return answer{written: true}, nil
}
