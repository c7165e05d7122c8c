package oauth

// describeClients adds to the metadata of the server what clients*.go, par.go,
// device.go, exchange.go, register.go and backchannel.go do (RFC 8414 §2, RFC
// 9126 §5, RFC 8628 §4, RFC 7591, OpenID Connect Back-Channel Logout §2.1).
func (s *Server) describeClients(m map[string]any) {
	assertions := assertionAlgorithms()
	if s.cfg.Profile == FAPI2 {
		assertions = fapiAlgorithms()
	}
	for _, endpoint := range []string{"token", "introspection", "revocation"} {
		m[endpoint+"_endpoint_auth_signing_alg_values_supported"] = assertions
	}
	m["grant_types_supported"] = []string{grantTypeCode, grantTypeRefresh, grantTypeClient, grantTypeDevice, grantTypeExchange}
	m["pushed_authorization_request_endpoint"] = s.url("/par")
	m["device_authorization_endpoint"] = s.url("/device_authorization")
	m["dpop_signing_alg_values_supported"] = s.proofs.Algorithms()
	if s.cfg.Registration != "" {
		m["registration_endpoint"] = s.url("/register")
	}
	if len(s.cfg.MetadataDocs) > 0 && s.cfg.Fetch != nil {
		m["client_id_metadata_document_supported"] = true
	}
	if s.cfg.Post != nil {
		m["backchannel_logout_supported"], m["backchannel_logout_session_supported"] = true, true
	}
}
