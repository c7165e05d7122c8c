package oauth

import (
	"bytes"
	"encoding/json"
	"slices"
)

// narrowDetails picks the authorization_details of one token out of those granted
// (RFC 9396 §6.1): whole entries, as they were granted. Nothing asked is all; nil
// is none.
func (s *Server) narrowDetails(c *Client, granted json.RawMessage, asked string) (json.RawMessage, error) {
	if asked == "" {
		return registeredFor(c, granted)
	}
	wanted, err := s.judgeDetails(c, asked)
	if err != nil {
		return nil, err
	}
	// Both were written by judgeDetails: what is the same is spelled the same.
	have, want := entries(granted), entries(wanted)
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h json.RawMessage) bool { return bytes.Equal(h, w) }) {
			return nil, refuse("invalid_authorization_details", "That was not granted.")
		}
	}
	return wanted, nil
}

// registeredFor leaves those of granted whose type c may still ask for.
func registeredFor(c *Client, granted json.RawMessage) (json.RawMessage, error) {
	list := entries(granted)
	keep := slices.DeleteFunc(slices.Clone(list), func(d json.RawMessage) bool {
		var kind struct {
			Type string `json:"type"`
		}
		return json.Unmarshal(d, &kind) != nil || !slices.Contains(c.DetailTypes, kind.Type)
	})
	if len(keep) == len(list) {
		return granted, nil
	}
	return json.Marshal(keep) // none left is [], which is not what was granted
}

func entries(details json.RawMessage) (list []json.RawMessage) {
	if len(details) > 0 && json.Unmarshal(details, &list) != nil {
		return nil
	}
	return list
}
