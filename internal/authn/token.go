package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	opaquePrefix = "gha_"
	maxOpaque    = 8 << 10         // as of a JWT
	openWait     = 2 * time.Second // for our own server to say what a token means
)

// shown is a token as the caller presents it.
type shown struct {
	raw   string
	kind  kind   // bearerToken or dpopToken
	proto string // "https" or "http"
	now   time.Time
}

// byToken looks into the caches first, where a token is whatever it looks like:
// what was believed once costs no parsing.
func (a *Authenticator) byToken(ctx context.Context, r *http.Request, acc *Accept, s shown) (*gatehouse.Principal, error) {
	for i := range acc.issuers {
		is := &acc.issuers[i]
		if t, ok := is.cache.GetAt(s.raw, s.now); ok {
			return a.onRequest(r, acc, is, t, s)
		}
	}
	if len(acc.issuers) == 0 {
		return nil, acc.notAccepted(s.kind, invalidToken, errors.New("a token, where none is taken"))
	}
	is, claims, err := a.read(ctx, acc, s.raw)
	if err != nil {
		return nil, acc.complete(s.kind, err)
	}
	switch cnf := claims.Cnf; {
	case cnf.JKT != "" && a.proofs == nil:
		return nil, acc.dpopUnsupported(errors.New("the token is bound to a DPoP key (cnf.jkt)"))
	case cnf.Unknown || cnf.Bound() && cnf.X5T == "" && cnf.JKT == "":
		return nil, acc.complete(s.kind, tokenInvalid(errors.New("the token is bound by a method not known here (cnf)")))
	}
	t := &checkedToken{is.principal(claims), claims}
	is.cache.Put(s.raw, claims, t)
	return a.onRequest(r, acc, is, t, s)
}

// read tells the three forms of a token apart, by its looks alone, and has the one
// issuer check it that it can be of.
func (a *Authenticator) read(ctx context.Context, acc *Accept, raw string) (*acceptIssuer, *token.Claims, error) {
	switch {
	case strings.HasPrefix(raw, opaquePrefix):
		claims, err := a.open(ctx, acc.own, raw)
		return acc.own, claims, err
	case token.Encrypted(raw):
		if acc.own == nil || a.decrypter == nil {
			return nil, nil, tokenInvalid(errors.New("an encrypted token, where none is taken"))
		}
		jws, err := a.decrypter.Decrypt(raw)
		if err != nil {
			return nil, nil, err
		}
		// Whoever knows our public key can encrypt; only the signature inside counts.
		claims, err := acc.own.verifier.Verify(ctx, jws)
		return acc.own, claims, err
	}
	iss, err := token.UnverifiedIssuer(raw)
	if err != nil {
		return nil, nil, err
	}
	at := slices.IndexFunc(acc.issuers, func(is acceptIssuer) bool { return is.iss == iss })
	if at < 0 {
		return nil, nil, &gatehouse.Problem{
			Kind: gatehouse.Unauthenticated, Reason: "token_issuer_unknown",
			Detail: "The access token is of an issuer that is not accepted here.", Err: fmt.Errorf("iss is %.200q", iss),
		}
	}
	claims, err := acc.issuers[at].verifier.Verify(ctx, raw)
	return &acc.issuers[at], claims, err
}

// open asks our own authorization server what an opaque token stands for. When it
// cannot tell, nothing is wrong with the token: that is no 401.
func (a *Authenticator) open(ctx context.Context, own *acceptIssuer, raw string) (*token.Claims, error) {
	switch {
	case own == nil || a.opaque == nil:
		return nil, tokenInvalid(errors.New("an opaque token, where none is taken"))
	case len(raw) > maxOpaque:
		return nil, tokenInvalid(errors.New("an opaque token longer than any of ours"))
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	claims, err := a.opaque.OpenToken(ctx, raw)
	if p, ok := errors.AsType[*gatehouse.Problem](err); ok && p.Kind == gatehouse.Unauthenticated {
		return nil, p
	}
	if err == nil && claims == nil {
		err = errors.New("neither claims nor an error")
	}
	if err != nil {
		return nil, &gatehouse.Problem{
			Kind: gatehouse.Overloaded, Reason: "tokens_unavailable", Detail: "Access tokens cannot be checked at the moment.",
			RetryAfter: time.Second, Err: fmt.Errorf("opening an opaque token: %w", err),
		}
	}
	if err := own.verifier.Check(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// onRequest checks what depends on the request a good token came with, and on what
// has happened since it was remembered. What is cheap comes first.
func (a *Authenticator) onRequest(r *http.Request, acc *Accept, is *acceptIssuer, t *checkedToken, s shown) (*gatehouse.Principal, error) {
	c := t.claims
	if is.own {
		if err := a.stillGood(acc, c, s.kind); err != nil {
			return nil, err
		}
		if err := acc.forUs(s.kind, c); err != nil {
			return nil, err
		}
	}
	if acc.bound && !c.Cnf.Bound() {
		return nil, acc.unbound(s.kind, errors.New("only tokens bound to a key are taken here, and this one is not"))
	}
	if c.Cnf.X5T != "" && !a.certs.holds(presented(r.TLS), c.Cnf.X5T) {
		return nil, acc.denial(s.kind, invalidToken, gatehouse.Problem{
			Reason: "certificate_mismatch", Detail: "The access token is bound to another client certificate.",
			Err: errors.New("cnf.x5t#S256 is not the connection's certificate (RFC 8705 §3)"),
		})
	}
	if c.Cnf.JKT != "" || s.kind == dpopToken {
		if err := a.proven(r, acc, c.Cnf.JKT, s); err != nil {
			return nil, err
		}
	}
	if is.withCert {
		if err := a.beside(acc, leaf(r.TLS), s.now); err != nil {
			return nil, err
		}
	}
	if acc.asks { // only who holds the key learns what else is missing
		if err := acc.enough(s.kind, c); err != nil {
			return nil, err
		}
	}
	return t.principal, nil
}

// stillGood refuses what was revoked, and everything while that is not known.
func (a *Authenticator) stillGood(acc *Accept, c *token.Claims, k kind) error {
	if err := a.revocations.RevocationsErr(); err != nil {
		return &gatehouse.Problem{
			Kind: gatehouse.Overloaded, Reason: "revocations_unavailable", Detail: "Access tokens cannot be checked at the moment.",
			RetryAfter: time.Second, Err: err,
		}
	}
	if a.revocations.Revoked(c) {
		return acc.denial(k, invalidToken, gatehouse.Problem{
			Reason: "token_revoked", Detail: "The access token is revoked.", Err: errors.New("the token, or its grant, session, client or user"),
		})
	}
	return nil
}

// proven checks the DPoP proof of a request (RFC 9449 §7). A token that is bound
// is not taken as a bearer token, or whoever stole it could use it; and one that
// is not bound proves nothing with a proof.
func (a *Authenticator) proven(r *http.Request, acc *Accept, jkt string, s shown) error {
	const detail = "The DPoP proof is not valid."
	proofs := r.Header["Dpop"]
	switch {
	case jkt == "":
		return acc.unbound(s.kind, errors.New("the scheme is DPoP, and the token is not bound to a key (cnf.jkt)"))
	case s.kind != dpopToken:
		return acc.denial(dpopToken, invalidToken, gatehouse.Problem{
			Reason: "dpop_required", Detail: "The access token is bound to a DPoP key.", Err: errors.New("the scheme is Bearer, and the token is bound (cnf.jkt)"),
		})
	case len(proofs) != 1: // RFC 9449 §4.3 step 1
		return acc.denial(dpopToken, invalidProof, gatehouse.Problem{
			Reason: "invalid_dpop_proof", Detail: detail, Nonce: a.proofs.Nonce(), Err: fmt.Errorf("%d DPoP headers", len(proofs)),
		})
	}
	_, err := a.proofs.Verify(r.Context(), proofs[0], token.ProofCheck{Method: r.Method, URL: urlOf(r, s.proto), AccessToken: s.raw, JKT: jkt})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, token.ErrUseNonce):
		return acc.denial(dpopToken, useNonce, gatehouse.Problem{
			Reason: "use_dpop_nonce", Detail: "The DPoP proof needs the nonce of this answer.", Nonce: a.proofs.Nonce(), Err: err,
		})
	case errors.Is(err, token.ErrProof):
		return acc.denial(dpopToken, invalidProof, gatehouse.Problem{Reason: "invalid_dpop_proof", Detail: detail, Err: err})
	}
	return &gatehouse.Problem{
		Kind: gatehouse.Overloaded, Reason: "proofs_unavailable", Detail: "DPoP proofs cannot be checked at the moment.",
		RetryAfter: time.Second, Err: err,
	}
}

// urlOf is the URL of r as its caller sees it, without query.
func urlOf(r *http.Request, proto string) string {
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") {
		path = r.URL.EscapedPath()
	}
	path, _, _ = strings.Cut(path, "?")
	return proto + "://" + r.Host + path
}

func (acc *Accept) unbound(k kind, cause error) *gatehouse.Problem {
	return acc.denial(k, invalidToken, gatehouse.Problem{
		Reason: "token_not_bound", Detail: "The access token is not bound to a key of the client.", Err: cause,
	})
}

func (acc *Accept) dpopUnsupported(cause error) *gatehouse.Problem {
	return acc.denial(bearerToken, invalidToken, gatehouse.Problem{
		Reason: "dpop_unsupported", Detail: "Tokens bound to a DPoP key are not accepted.", Err: cause,
	})
}

func tokenInvalid(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.Unauthenticated, Reason: "token_invalid", Detail: "The access token is not valid here.", Err: cause,
	}
}
