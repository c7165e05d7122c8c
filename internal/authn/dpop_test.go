package authn_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// The names in brackets are the blocks of the OIDF module
// FAPI2SPFinalDpopNegativeTests at the resource.
func TestDPoPNegative(t *testing.T) {
	w := newOwn(t, nil)
	client, thief := newProver(t), newProver(t)
	tok, plain, other := w.token(client.cnf()), w.token(nil), w.token(map[string]any{"cnf": client.cnf()["cnf"], "sub": "bob"})
	certified := named(t, "spiffe://example/billing")
	twice := w.token(map[string]any{"cnf": map[string]any{"jkt": client.jkt, "x5t#S256": x5t(certified)}})
	private := maps.Clone(client.jwk)
	private["d"] = "AA"
	type edit = map[string]any
	with := func(header, claims edit) *http.Request {
		return request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, header, claims))
	}
	now := time.Now().Unix()
	used := client.proof(tok, nil, nil)
	must[*gatehouse.Principal](t)(w.ask(request("Authorization", "DPoP "+tok, "DPoP", used), w.accept(nil)))
	for _, c := range []struct {
		name   string
		r      *http.Request
		reason string // "": accepted
		code   string // of the challenge; "": invalid_dpop_proof
	}{
		{"a token with its proof is accepted", client.proven(tok), "", ""},
		{"the scheme in any case [AccessTokenTypeHeaderCaseSensitivity]", request("Authorization", "dPoP "+tok, "DPoP", client.proof(tok, nil, nil)), "", ""},
		{"no proof [RemoveDpopHeader]", request("Authorization", "DPoP "+tok), "invalid_dpop_proof", ""},
		{"an empty proof", request("Authorization", "DPoP "+tok, "DPoP", ""), "invalid_dpop_proof", ""},
		{"two proofs [MultipleProofs]", request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, nil, nil), "DPoP", client.proof(tok, nil, nil)), "invalid_dpop_proof", ""},
		{"two proofs in one line", request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, nil, nil)+", "+client.proof(tok, nil, nil)), "invalid_dpop_proof", ""},
		{"the token bound to the key as a bearer token [CallResourceWithBearer]", bearer(tok), "dpop_required", "invalid_token"},
		{"as a bearer token with a proof", request("Authorization", "Bearer "+tok, "DPoP", client.proof(tok, nil, nil)), "dpop_required", "invalid_token"},
		{"a bearer token with the scheme DPoP", client.proven(plain), "token_not_bound", "invalid_token"},
		{"a bearer token with the scheme DPoP and no proof", request("Authorization", "DPoP "+plain), "token_not_bound", "invalid_token"},
		{"both schemes", request("Authorization", "DPoP "+tok, "Authorization", "Bearer "+tok, "DPoP", client.proof(tok, nil, nil)), "ambiguous_credentials", "-"},
		{"both in one line", request("Authorization", "DPoP "+tok+", Bearer "+tok, "DPoP", client.proof(tok, nil, nil)), "token_invalid", "invalid_token"},
		{"a DPoP token and an API key", request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, nil, nil), "X-API-Key", "gk_x"), "ambiguous_credentials", "-"},
		{"an API key with the scheme DPoP", request("Authorization", "DPoP gk_live_x", "DPoP", client.proof("gk_live_x", nil, nil)), "token_invalid", "invalid_token"},
		{"not a JWT [NotWellformedDPoP]", request("Authorization", "DPoP "+tok, "DPoP", "x.y"), "invalid_dpop_proof", ""},
		{"without typ [RemoveTypFromDpopProof]", with(edit{"typ": nil}, nil), "invalid_dpop_proof", ""},
		{"of another typ [SetDpopHeaderTypToInvalidValue]", with(edit{"typ": "at+jwt"}, nil), "invalid_dpop_proof", ""},
		{"without alg [SignDpopAndRemoveAlg]", with(edit{"alg": nil}, nil), "invalid_dpop_proof", ""},
		{"alg none [SignDpopProofWithNone]", with(edit{"alg": "none"}, nil), "invalid_dpop_proof", ""},
		{"alg of another family [ChangeSignAlgorithm]", with(edit{"alg": "PS256"}, nil), "invalid_dpop_proof", ""},
		{"without jwk [RemoveJwkFromDpopProof]", with(edit{"jwk": nil}, nil), "invalid_dpop_proof", ""},
		{"with a private key [SetDpopHeaderJwkToPrivateKey]", with(edit{"jwk": private}, nil), "invalid_dpop_proof", ""},
		{"signed by another key than jwk [GenerateNewSignKey]", with(edit{"jwk": thief.jwk}, nil), "invalid_dpop_proof", ""},
		{"of a thief's own key [MismatchedDpopJkt]", request("Authorization", "DPoP "+tok, "DPoP", thief.proof(tok, nil, nil)), "invalid_dpop_proof", ""},
		{"a signature that does not hold [InvalidateDpopProofSignature]", request("Authorization", "DPoP "+tok, "DPoP", used[:len(used)-8]+"AAAAAAAA"), "invalid_dpop_proof", ""},
		{"without jti [RemoveJtiFromDpopProof]", with(nil, edit{"jti": nil}), "invalid_dpop_proof", ""},
		{"used before [ReuseDpopProof]", request("Authorization", "DPoP "+tok, "DPoP", used), "invalid_dpop_proof", ""},
		{"without htm [RemoveHtmFromDpopProof]", with(nil, edit{"htm": nil}), "invalid_dpop_proof", ""},
		{"for another method [SetDpopHtmToPut]", with(nil, edit{"htm": "PUT"}), "invalid_dpop_proof", ""},
		{"without htu [RemoveHtuFromDpopProof]", with(nil, edit{"htu": nil}), "invalid_dpop_proof", ""},
		{"for another path [SetDpopHtuToDifferentUrl]", with(nil, edit{"htu": resource + "/1"}), "invalid_dpop_proof", ""},
		{"for another host", with(nil, edit{"htu": "https://evil.example/orders"}), "invalid_dpop_proof", ""},
		{"for http", with(nil, edit{"htu": "http://orders.example/orders"}), "invalid_dpop_proof", ""},
		{"a query and a fragment do not count [AddQueryAndFragmentToDpopHtu]", with(nil, edit{"htu": resource + "?a=b#c"}), "", ""},
		{"a host in capitals is the same [DpopHtuUpperCase]", with(nil, edit{"htu": "HTTPS://ORDERS.example/orders"}), "", ""},
		{"the default port is the same [DpopHtuWithPort]", with(nil, edit{"htu": "https://orders.example:443/orders"}), "", ""},
		{"without iat [RemoveIatFromDpopProof]", with(nil, edit{"iat": nil}), "invalid_dpop_proof", ""},
		{"an hour old [SetDpopIatToOneHourInPast]", with(nil, edit{"iat": now - 3600}), "invalid_dpop_proof", ""},
		{"an hour ahead [SetDpopIatToOneHourInFuture]", with(nil, edit{"iat": now + 3600}), "invalid_dpop_proof", ""},
		{"iat eight seconds ahead is a clock", with(nil, edit{"iat": now + 8}), "", ""},
		{"without ath [RemoveDpopAccessTokenHash]", with(nil, edit{"ath": nil}), "invalid_dpop_proof", ""},
		{"with a wrong ath [SetDpopAccessTokenHashToIncorrectValue]", with(nil, edit{"ath": "x"}), "invalid_dpop_proof", ""},
		{"made for another token of the same key", request("Authorization", "DPoP "+tok, "DPoP", client.proof(other, nil, nil)), "invalid_dpop_proof", ""},
		{"bound to a key and a certificate, over its connection", over(client.proven(twice), certified), "", ""},
		{"bound to a key and a certificate, without that", client.proven(twice), "certificate_mismatch", "invalid_token"},
		{"bound to a key and a certificate, without a proof", over(bearer(twice), certified), "dpop_required", "invalid_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := w.ask(c.r, w.accept(nil))
			if c.reason == "" {
				if err != nil || who.Subject != "alice" || who.KeyID == "" {
					t.Fatalf("%+v, %v", who, err)
				}
				return
			}
			kind := gatehouse.Unauthenticated
			if c.code == "-" {
				kind = gatehouse.Malformed
			}
			p := wantProblem(t, who, err, kind, c.reason)
			if c.code == "" {
				c.code = "invalid_dpop_proof"
			}
			if c.code != "-" {
				wantChallenge(t, p, "DPoP", `error="`+c.code+`"`, `algs="ES256 ES384 EdDSA PS256"`)
			}
			if strings.Contains(strings.Join(p.Challenges, "")+p.Detail, tok) {
				t.Error("the answer holds the token")
			}
		})
	}
}

func TestDPoPIsOfferedWhereItIsTaken(t *testing.T) {
	w := newOwn(t, nil)
	acc := w.accept(func(w *authn.Ways) {
		w.ResourceMetadata = "https://api.example/.well-known/oauth-protected-resource/orders"
	})
	who, err := w.ask(request(), acc)
	p := wantProblem(t, who, err, gatehouse.Unauthenticated, "credentials_missing")
	const metadata = `, resource_metadata="https://api.example/.well-known/oauth-protected-resource/orders"`
	want := []string{`Bearer realm="orders"` + metadata, `DPoP realm="orders", algs="ES256 ES384 EdDSA PS256"` + metadata}
	if strings.Join(p.Challenges, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q, want %q", p.Challenges, want)
	}
	step := w.accept(func(w *authn.Ways) { w.ACR = []string{"aal2"} })
	client := newProver(t)
	who, err = w.ask(client.proven(w.token(client.cnf())), step)
	wantChallenge(t, wantProblem(t, who, err, gatehouse.Unauthenticated, "insufficient_user_authentication"), "DPoP", `error="insufficient_user_authentication"`, `acr_values="aal2"`)
}

func TestDPoPWithNonces(t *testing.T) {
	seal := must[*token.Sealer](t)(token.NewSealer())
	proofs := must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{Seal: seal, RequireNonce: true}))
	w := newOwn(t, func(c *authn.Config) { c.Proofs = proofs })
	client, acc := newProver(t), w.accept(nil)
	tok := w.token(client.cnf())
	who, err := w.ask(client.proven(tok), acc)
	p := wantProblem(t, who, err, gatehouse.Unauthenticated, "use_dpop_nonce")
	wantChallenge(t, p, "DPoP", `error="use_dpop_nonce"`)
	if p.Nonce == "" {
		t.Fatal("no nonce to use")
	}
	ask := func(nonce string) (*gatehouse.Principal, error) {
		return w.ask(request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, nil, map[string]any{"nonce": nonce})), acc)
	}
	must[*gatehouse.Principal](t)(ask(p.Nonce))
	who, err = ask("made-up")
	wantProblem(t, who, err, gatehouse.Unauthenticated, "use_dpop_nonce")
}

func TestProofsThatCannotBeRememberedAreRefused(t *testing.T) {
	proofs := must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{Entries: 64}))
	w := newOwn(t, func(c *authn.Config) { c.Proofs = proofs })
	client, acc := newProver(t), w.accept(nil)
	tok := w.token(client.cnf())
	full := 0
	for range 300 {
		who, err := w.ask(client.proven(tok), acc)
		if err == nil {
			continue
		}
		full++
		if p := wantProblem(t, who, err, gatehouse.Overloaded, "proofs_unavailable"); p.RetryAfter <= 0 {
			t.Fatalf("%+v", p)
		}
	}
	if full < 300-64 {
		t.Errorf("%d of 300 were refused, and 64 can be remembered", full)
	}
}

// A thief without the key cannot make the gateway remember anything, and so not
// crowd out those who have theirs.
func TestAStolenTokenTakesNoRoom(t *testing.T) {
	proofs := must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{Entries: 64}))
	w := newOwn(t, func(c *authn.Config) { c.Proofs = proofs })
	client, thief, acc := newProver(t), newProver(t), w.accept(nil)
	tok := w.token(client.cnf())
	for range 200 {
		who, err := w.ask(request("Authorization", "DPoP "+tok, "DPoP", thief.proof(tok, nil, nil)), acc)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "invalid_dpop_proof")
	}
	must[*gatehouse.Principal](t)(w.ask(client.proven(tok), acc))
}

func TestTheURLOfAProofIsTheCallers(t *testing.T) {
	w := newOwn(t, nil)
	client, acc := newProver(t), w.accept(nil)
	tok := w.token(client.cnf())
	for _, c := range []struct {
		name, proto, uri, htu string
		ok                    bool
	}{
		{"by http", "http", "/orders?q=1", "http://orders.example/orders", true},
		{"by https", "https", "/orders?q=1", "https://orders.example/orders", true},
		{"not the other way", "http", "/orders", "https://orders.example/orders", false},
		{"with an escape as received", "https", "/orders/a%2Cb", "https://orders.example/orders/a%2Cb", true},
		{"with an escape decoded is another", "https", "/orders/a%2Cb", "https://orders.example/orders/a,b", false},
		{"in absolute form", "https", "https://orders.example/orders?x", "https://orders.example/orders", true},
	} {
		r := request("Authorization", "DPoP "+tok, "DPoP", client.proof(tok, nil, map[string]any{"htu": c.htu}))
		r.RequestURI = c.uri
		who, err := w.Authenticate(t.Context(), r, c.proto, acc)
		if (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", c.name, who, err)
		}
	}
}

// Whoever is let in by a DPoP header has shown a good proof for the very token.
func FuzzDPoP(f *testing.F) {
	w := newOwn(f, nil)
	client := newProver(f)
	tok, plain := w.token(client.cnf()), w.token(nil)
	w.opener.known = map[string]map[string]any{opaque: ownClaims(client.cnf())}
	good := client.proof(tok, nil, nil)
	acc := w.accept(nil)
	for _, auth := range []string{"DPoP " + tok, "dpop  " + tok, "Bearer " + tok, "Bearer " + plain, "DPoP " + plain, "DPoP " + opaque, "Bearer " + opaque, "DPoP", "DPoP ", "DPoP gk_x", "DPoP a.b.c.d.e", ""} {
		for _, proof := range []string{good, "", "a.b.c", good + "," + good, good[:len(good)-1]} {
			f.Add(auth, proof, false)
			f.Add(auth, proof, true)
		}
	}
	f.Fuzz(func(t *testing.T, auth, proof string, twice bool) {
		r := request("Authorization", auth, "DPoP", proof)
		if twice {
			r.Header.Add("DPoP", proof)
		}
		who, err := w.Authenticate(t.Context(), r, "https", acc)
		if err == nil {
			if who.Subject != "alice" || !strings.HasSuffix(auth, plain) && (twice || !strings.HasSuffix(auth, tok) || proof != good) {
				t.Fatalf("%q with %q was accepted as %+v", auth, proof, who)
			}
			return
		}
		p := gatehouse.AsProblem(err)
		if s := p.Kind.Status(); s != 401 && s != 400 {
			t.Fatalf("%q with %q: %d %v", auth, proof, s, err)
		}
		for _, c := range p.Challenges {
			if strings.ContainsFunc(c, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("challenge %q", c)
			}
		}
	})
}
