package oauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// jwks publishes the keys that tokens are signed with (RFC 7517 §5).
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) error {
	return public(w, s.cfg.Keys.JWKS(), "application/jwk-set+json")
}

// metadata says what this server can (RFC 8414 §2, OpenID Connect Discovery §3).
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) error {
	b, err := json.Marshal(s.describe())
	if err != nil {
		return err
	}
	return public(w, b, "application/json")
}

// public writes what everybody may read and keep for a while: less than the time a
// new signing key is published before it is used.
func public(w http.ResponseWriter, b []byte, contentType string) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(b) // the client may be gone
	return nil
}

func (s *Server) describe() map[string]any {
	scopes := map[string]bool{scopeOpenID: true, "profile": true, "email": true, "address": true, "phone": true, scopeOffline: true}
	for w := range s.cfg.Scopes {
		scopes[w] = true
	}
	for _, r := range s.resources {
		for _, w := range r.Scopes {
			scopes[w] = true
		}
	}
	claims := []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "sid", "at_hash", "email", "email_verified", "preferred_username", "updated_at", "roles", "groups"}
	for name := range standardClaims {
		claims = append(claims, name)
	}
	slices.Sort(claims)
	auth, assertions := []string{methodBasic, methodPost, methodJWT, methodTLS, methodSelfSigned, methodNone}, assertionAlgorithms()
	if s.cfg.Profile == FAPI2 {
		auth, assertions = slices.DeleteFunc(auth, func(m string) bool { return !strongMethod(m) }), fapiAlgorithms()
	}
	confidential := slices.DeleteFunc(slices.Clone(auth), func(m string) bool { return m == methodNone })
	m := map[string]any{
		"issuer":                                                   s.cfg.Issuer,
		"authorization_endpoint":                                   s.url("/authorize"),
		"token_endpoint":                                           s.url("/token"),
		"jwks_uri":                                                 s.url("/jwks.json"),
		"userinfo_endpoint":                                        s.url("/userinfo"),
		"introspection_endpoint":                                   s.url("/introspect"),
		"revocation_endpoint":                                      s.url("/revoke"),
		"end_session_endpoint":                                     s.url("/logout"),
		"pushed_authorization_request_endpoint":                    s.url("/par"),
		"device_authorization_endpoint":                            s.url("/device_authorization"),
		"scopes_supported":                                         slices.Sorted(maps.Keys(scopes)),
		"response_types_supported":                                 []string{"code"},
		"response_modes_supported":                                 []string{"query", "form_post"},
		"grant_types_supported":                                    []string{grantTypeCode, grantTypeRefresh, grantTypeClient, grantTypeDevice, grantTypeExchange},
		"subject_types_supported":                                  []string{"public"},
		"acr_values_supported":                                     knownACR,
		"id_token_signing_alg_values_supported":                    s.algorithms(),
		"claims_supported":                                         claims,
		"claim_types_supported":                                    []string{"normal"},
		"claims_parameter_supported":                               true,
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
		"display_values_supported":                                 []string{"page"},
		"ui_locales_supported":                                     []string{"en"},
		"prompt_values_supported":                                  []string{"none", "login", "consent", "select_account"},
		"token_endpoint_auth_methods_supported":                    auth,
		"token_endpoint_auth_signing_alg_values_supported":         assertions,
		"introspection_endpoint_auth_methods_supported":            confidential,
		"introspection_endpoint_auth_signing_alg_values_supported": assertions,
		"revocation_endpoint_auth_methods_supported":               auth,
		"revocation_endpoint_auth_signing_alg_values_supported":    assertions,
		"code_challenge_methods_supported":                         []string{"S256"},
		"authorization_response_iss_parameter_supported":           true,
		"tls_client_certificate_bound_access_tokens":               true,
		"dpop_signing_alg_values_supported":                        s.proofs.Algorithms(),
		"require_pushed_authorization_requests":                    s.cfg.Profile == FAPI2,
	}
	s.describeClients(m)
	if len(s.cfg.DetailTypes) > 0 {
		m["authorization_details_types_supported"] = s.cfg.DetailTypes
	}
	if s.cfg.Registration != "" {
		m["registration_endpoint"] = s.url("/register")
	}
	if len(s.cfg.MetadataDocs) > 0 {
		m["client_id_metadata_document_supported"] = true
	}
	if s.cfg.Post != nil {
		m["backchannel_logout_supported"], m["backchannel_logout_session_supported"] = true, true
	}
	return m
}

// algorithms are those of the published keys.
func (s *Server) algorithms() []string {
	var set struct {
		Keys []struct {
			Alg string `json:"alg"`
		} `json:"keys"`
	}
	_ = json.Unmarshal(s.cfg.Keys.JWKS(), &set) // ours
	var list []string
	for _, k := range set.Keys {
		if s.cfg.Profile == FAPI2 && !slices.Contains(fapiAlgorithms(), token.Algorithm(k.Alg)) {
			continue // no client may ask for it
		}
		if k.Alg != "" && !slices.Contains(list, k.Alg) {
			list = append(list, k.Alg)
		}
	}
	return list
}
