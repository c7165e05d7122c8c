package posture

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// dpopProbes are about tokens that are bound to a key.
func dpopProbes() []probe {
	return []probe{
		{
			"dpop-proofs", "RFC 9700 §2.2.1, RFC 9449 §4.3, §11", "a DPoP proof is of this request, fresh, used once, and signed by the key it shows", High, theHouse,
			"check typ, alg, jwk, htm, htu, iat and jti of every proof, and remember the jti", proofsAreChecked,
		},
		{
			"dpop-nonce", "RFC 9449 §8", "a nonce that is not the server's is refused", Medium, theHouse,
			"make nonces that only the server can make, and refuse others with use_dpop_nonce", noncesAreChecked,
		},
		{
			"dpop-bound", "RFC 9700 §4.10.1, RFC 9449 §7", "a bound token opens nothing as a bearer token, without its proof or with another key's", Critical, theHouse,
			"demand the proof of cnf.jkt wherever the token is shown, with ath", boundTokensStayBound,
		},
		{
			"dpop-code", "RFC 9449 §10", "a code asked for with dpop_jkt is redeemed with that key only", Medium, theHouse,
			"keep dpop_jkt with the code and compare it", codesKeepTheirKey,
		},
	}
}

// asBound asks for a token of the robot's own, with this proof.
func (t *trial) asBound(ctx context.Context, proofs ...string) (*answer, error) {
	p := *t.robot
	p.bound = false
	var headers []string
	for _, proof := range proofs {
		headers = append(headers, "DPoP", proof)
	}
	return t.post(ctx, "token_endpoint", &p, pairs(url.Values{"grant_type": {"client_credentials"}}, []string{"resource", t.someResource()}), headers...)
}

// bound gets the robot a token bound to key.
func (t *trial) bound(ctx context.Context, key *signingKey) (*answer, error) {
	for try := 0; ; try++ {
		proof, err := key.proof(http.MethodPost, t.at("token_endpoint"), t.lastNonce(), "", nil)
		if err != nil {
			return nil, err
		}
		a, err := t.asBound(ctx, proof)
		if err != nil || a.code() != "use_dpop_nonce" || try > 0 {
			return a, err
		}
	}
}

func proofsAreChecked(ctx context.Context, t *trial) error {
	if t.meta["dpop_signing_alg_values_supported"] == nil {
		return t.leaveOut("the server does not offer DPoP")
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	a, err := t.bound(ctx, key)
	if err != nil {
		return err
	}
	if !t.wants(a.text("token_type") == "DPoP", a, "a good proof does not bind the token") {
		return nil
	}
	if !t.main.bound { // of what it is told: introspection shows the key
		claims, err := t.claimsOf(ctx, t.robot, a.text("access_token"))
		if err != nil {
			return err
		}
		cnf, _ := claims["cnf"].(map[string]any)
		t.wants(cnf["jkt"] == key.jkt, a, "cnf.jkt is not the key's thumbprint")
	}
	other, err := newKey()
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	target := t.at("token_endpoint")
	for _, c := range []struct {
		what   string
		change func(h, c map[string]any)
	}{
		{"typ is JWT", func(h, _ map[string]any) { h["typ"] = "JWT" }},
		{"alg is RS256", func(h, _ map[string]any) { h["alg"] = "RS256" }},
		{"jwk is missing", func(h, _ map[string]any) { delete(h, "jwk") }},
		{"jwk is another key", func(h, _ map[string]any) { h["jwk"] = other.jwk }},
		{"jwk is a private key", func(h, _ map[string]any) { h["jwk"] = key.leaked() }},
		{"jwk is a shared secret", func(h, _ map[string]any) { h["jwk"] = map[string]any{"kty": "oct", "k": "AAAA"} }},
		{"crit names what nobody knows", func(h, _ map[string]any) { h["crit"] = []string{"prove"}; h["prove"] = 1 }},
		{"htm is GET", func(_, c map[string]any) { c["htm"] = http.MethodGet }},
		{"htu is another endpoint", func(_, c map[string]any) { c["htu"] = t.at("userinfo_endpoint") }},
		{"htu is another host", func(_, c map[string]any) { c["htu"] = "https://" + evil + "/token" }},
		{"iat is ten minutes old", func(_, c map[string]any) { c["iat"] = now - 600 }},
		{"iat is ten minutes ahead", func(_, c map[string]any) { c["iat"] = now + 600 }},
		{"jti is missing", func(_, c map[string]any) { delete(c, "jti") }},
	} {
		proof, err := key.proof(http.MethodPost, target, t.lastNonce(), "", c.change)
		if err != nil {
			return err
		}
		if a, err = t.asBound(ctx, proof); err != nil {
			return err
		}
		t.refused(a, c.what)
	}
	head := map[string]any{"typ": "dpop+jwt", "alg": "none", "jwk": key.jwk}
	claims := map[string]any{"jti": random(16), "htm": "POST", "htu": target, "iat": now, "nonce": t.lastNonce()}
	public, err := json.Marshal(key.jwk)
	if err != nil {
		return err
	}
	good := func() (string, error) { return key.proof(http.MethodPost, target, t.lastNonce(), "", nil) }
	once, err := good()
	if err != nil {
		return err
	}
	twice, err := good()
	if err != nil {
		return err
	}
	bad := map[string][]string{
		"alg is none":          {unsigned(head, claims) + "."},
		"there are two proofs": {once, twice},
	}
	head["alg"] = "HS256"
	bad["alg is HS256"] = []string{hmacSigned(head, claims, public)}
	for what, proofs := range bad {
		if a, err = t.asBound(ctx, proofs...); err != nil {
			return err
		}
		t.refused(a, what)
	}
	used, err := good()
	if err != nil {
		return err
	}
	if a, err = t.asBound(ctx, used); err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "a good proof is refused, so that the refusals prove nothing")
	if a, err = t.asBound(ctx, used); err != nil {
		return err
	}
	t.refused(a, "a proof is taken twice")
	return nil
}

func noncesAreChecked(ctx context.Context, t *trial) error {
	if t.meta["dpop_signing_alg_values_supported"] == nil {
		return t.leaveOut("the server does not offer DPoP")
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	proof, err := key.proof(http.MethodPost, t.at("token_endpoint"), random(32), "", nil)
	if err != nil {
		return err
	}
	a, err := t.asBound(ctx, proof)
	if err != nil {
		return err
	}
	if t.lastNonce() == "" && a.text("access_token") != "" {
		return t.leaveOut("the server asks for no nonces: dpop.nonce in its config switches them on")
	}
	t.refused(a, "a nonce of nobody's is taken")
	t.wants(a.code() == "use_dpop_nonce" && a.head.Get("Dpop-Nonce") != "" || t.lastNonce() == "", a, "the refusal brings no nonce to try again with")
	return nil
}

func boundTokensStayBound(ctx context.Context, t *trial) error {
	if t.meta["dpop_signing_alg_values_supported"] == nil {
		return t.leaveOut("the server does not offer DPoP")
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	other, err := newKey()
	if err != nil {
		return err
	}
	a, err := t.bound(ctx, key)
	if err != nil {
		return err
	}
	access := a.text("access_token")
	if !t.wants(a.text("token_type") == "DPoP" && access != "", a, "a good proof does not bind the token") {
		return nil
	}
	places := [][2]string{{http.MethodGet, t.at("userinfo_endpoint")}}
	if t.route != nil {
		places = append(places, [2]string{t.route.Method, t.route.URL})
	}
	for n, place := range places {
		method, target := place[0], place[1]
		proof := func(k *signingKey, change func(h, c map[string]any)) string {
			raw, _ := k.proof(method, target, t.lastNonce(), access, change) // without one it must be refused as well
			return raw
		}
		replay := proof(key, nil)
		for i, c := range []struct {
			what   string
			scheme string
			proofs []string
			good   bool
		}{
			{"as a bearer token", "Bearer", nil, false},
			{"as a bearer token with a proof", "Bearer", []string{proof(key, nil)}, false},
			{"without a proof", "DPoP", nil, false},
			{"with another key's proof", "DPoP", []string{proof(other, nil)}, false},
			{"with a proof for another token", "DPoP", []string{proof(key, func(_, c map[string]any) { c["ath"] = digestOf("x") })}, false},
			{"with a proof for no token", "DPoP", []string{proof(key, func(_, c map[string]any) { delete(c, "ath") })}, false},
			{"with a proof for another method", "DPoP", []string{proof(key, func(_, c map[string]any) { c["htm"] = "DELETE" })}, false},
			{"with a proof for another URL", "DPoP", []string{proof(key, func(_, c map[string]any) { c["htu"] = target + "x" })}, false},
			{"with two proofs", "DPoP", []string{proof(key, nil), proof(key, nil)}, false},
			{"with its proof", "DPoP", []string{replay}, true},
			{"with a proof used before", "DPoP", []string{replay}, false},
		} {
			if n == 0 && len(places) > 1 && i > 3 {
				break // the operation is asked for all of them
			}
			headers := []string{"Authorization", c.scheme + " " + access}
			for _, p := range c.proofs {
				headers = append(headers, "DPoP", p)
			}
			a, err := t.send(ctx, method, target, nil, headers...)
			if err != nil {
				return err
			}
			if c.good && a.code() == "use_dpop_nonce" {
				if a, err = t.send(ctx, method, target, nil, "Authorization", "DPoP "+access, "DPoP", proof(key, nil)); err != nil {
					return err
				}
			}
			refused := a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest
			t.wants(refused != c.good, a, "%s", c.what)
		}
	}
	return nil
}

func codesKeepTheirKey(ctx context.Context, t *trial) error {
	if t.meta["dpop_signing_alg_values_supported"] == nil {
		return t.leaveOut("the server does not offer DPoP")
	}
	if t.main.bound {
		// The request was pushed with a proof, which says the same.
		code, verifier, err := t.code(ctx, t.main)
		if err != nil {
			return err
		}
		thief := *t.main
		if thief.key, err = newKey(); err != nil {
			return err
		}
		assertion, err := t.main.key.assertion(t.main.id, t.cfg.Issuer, nil)
		if err != nil {
			return err
		}
		a, err := t.redeem(ctx, &thief, code, verifier, "client_assertion", assertion, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		if err != nil {
			return err
		}
		t.refused(a, "with another key")
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	for _, with := range []string{"no key", "another key", "its key"} {
		code, verifier, err := t.code(ctx, t.main, "dpop_jkt", key.jkt)
		if err != nil {
			return err
		}
		use := key
		if with == "another key" {
			if use, err = newKey(); err != nil {
				return err
			}
		}
		form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {t.main.redirect}, "code_verifier": {verifier}}
		var a *answer
		for try := range 2 {
			var headers []string
			if with != "no key" {
				proof, err := use.proof(http.MethodPost, t.at("token_endpoint"), t.lastNonce(), "", nil)
				if err != nil {
					return err
				}
				headers = []string{"DPoP", proof}
			}
			if a, err = t.post(ctx, "token_endpoint", t.main, form, headers...); err != nil {
				return err
			}
			if try == 0 && a.code() != "use_dpop_nonce" {
				break
			}
		}
		if with == "its key" {
			t.wants(a.text("token_type") == "DPoP", a, "with its key it is refused, so that the refusals prove nothing")
		} else {
			t.refused(a, "with "+with)
		}
	}
	return nil
}
