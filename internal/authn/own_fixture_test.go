package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	ownIssuer = "https://id.example"
	ordersAPI = "https://api.example/orders"
	otherAPI  = "https://api.example/billing"
	resource  = "https://orders.example/orders" // what request() asks for
)

var b64 = base64.RawURLEncoding

// An ownWorld is an Authenticator in front of our own authorization server and of
// a foreign one.
type ownWorld struct {
	*authn.Authenticator
	t       testing.TB
	signer  *token.Signer
	foreign *token.Signer
	opener  *opener
	revoked *revocations
}

func newOwn(t testing.TB, change func(*authn.Config)) *ownWorld {
	t.Helper()
	w := &ownWorld{t: t, opener: &opener{}, revoked: &revocations{}}
	w.signer, w.foreign = must[*token.Signer](t)(token.NewSigner(token.ES256)), must[*token.Signer](t)(token.NewSigner(token.ES256))
	issuer := func(name, iss string, s *token.Signer, own bool) authn.Issuer {
		return authn.Issuer{
			Name: name, Own: own, Keys: must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{Static: s.JWKS()}, nil)),
			Token: token.VerifierConfig{Issuer: iss, Audiences: []string{ordersAPI, otherAPI}},
		}
	}
	cfg := authn.Config{
		Realm: "orders", Issuers: []authn.Issuer{issuer("own", ownIssuer, w.signer, true), issuer("foreign", otherIssuer, w.foreign, false)},
		Proofs: must[*token.Proofs](t)(token.NewProofs(token.ProofsConfig{})), Opaque: w.opener, Revocations: w.revoked,
		Certificates: map[string]authn.Identity{"spiffe://example/billing": {}},
	}
	if change != nil {
		change(&cfg)
	}
	w.Authenticator = must[*authn.Authenticator](t)(authn.New(cfg))
	return w
}

// ask authenticates r with what w asks of callers.
func (w *ownWorld) ask(r *http.Request, acc *authn.Accept) (*gatehouse.Principal, error) {
	return w.Authenticate(w.t.Context(), r, "https", acc)
}

func (w *ownWorld) accept(change func(*authn.Ways)) *authn.Accept {
	w.t.Helper()
	ways := authn.Ways{Any: []authn.Way{{Issuers: []string{"own", "foreign"}}}, Audience: []string{ordersAPI}}
	if change != nil {
		change(&ways)
	}
	return must[*authn.Accept](w.t)(w.Accept(ways))
}

func ownClaims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": ownIssuer, "sub": "alice", "aud": ordersAPI, "client_id": "shop", "jti": "t1", "sid": "s1", "grant_id": "g1",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (w *ownWorld) token(change map[string]any) string {
	w.t.Helper()
	return sign(w.t, w.signer, ownClaims(change))
}

func (w *ownWorld) theirs(change map[string]any) string {
	w.t.Helper()
	c := ownClaims(map[string]any{"iss": otherIssuer})
	maps.Copy(c, change)
	return sign(w.t, w.foreign, c)
}

// An opener knows opaque tokens by heart.
type opener struct {
	known map[string]map[string]any
	err   error
	asked int
	empty bool
	hangs bool
}

var errUnknownToken = &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "token_invalid", Detail: "The access token is not valid here."}

func (o *opener) OpenToken(ctx context.Context, raw string) (*token.Claims, error) {
	o.asked++
	switch {
	case o.hangs:
		<-ctx.Done()
		return nil, ctx.Err()
	case o.err != nil:
		return nil, o.err
	case o.empty:
		return nil, nil //nolint:nilnil // that is what is tested
	}
	c, ok := o.known[raw]
	if !ok {
		return nil, errUnknownToken
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return token.ParseClaims(b)
}

type revocations struct {
	users atomic.Pointer[string]
	err   atomic.Pointer[error]
}

func (r *revocations) Revoked(c *token.Claims) bool {
	u := r.users.Load()
	return u != nil && *u == c.Subject
}

func (r *revocations) RevocationsErr() error {
	if e := r.err.Load(); e != nil {
		return *e
	}
	return nil
}

// A prover is a client with a DPoP key.
type prover struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	jwk map[string]any
	jkt string
}

func newProver(t testing.TB) *prover {
	t.Helper()
	p := &prover{t: t, key: must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	point := must[[]byte](t)(p.key.PublicKey.Bytes())
	p.jwk = map[string]any{"kty": "EC", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:])}
	p.jkt = must[string](t)(token.Thumbprint(must[[]byte](t)(json.Marshal(p.jwk))))
	return p
}

func (p *prover) cnf() map[string]any { return map[string]any{"cnf": map[string]any{"jkt": p.jkt}} }

// proof makes a proof for a GET of resource with tok, with changes to its header and claims.
func (p *prover) proof(tok string, header, claims map[string]any) string {
	p.t.Helper()
	sum := sha256.Sum256([]byte(tok))
	h := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": p.jwk}
	c := map[string]any{"jti": rand.Text(), "htm": "GET", "htu": resource, "iat": time.Now().Unix(), "ath": b64.EncodeToString(sum[:])}
	for m, change := range map[*map[string]any]map[string]any{&h: header, &c: claims} {
		maps.Copy(*m, change)
		maps.DeleteFunc(*m, func(_ string, v any) bool { return v == nil })
	}
	return p.sign(h, c)
}

func (p *prover) sign(h, c map[string]any) string {
	p.t.Helper()
	message := b64.EncodeToString(must[[]byte](p.t)(json.Marshal(h))) + "." + b64.EncodeToString(must[[]byte](p.t)(json.Marshal(c)))
	sum := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return message + "." + b64.EncodeToString(sig[:])
}

// proven asks with tok and a good proof.
func (p *prover) proven(tok string) *http.Request {
	return request("Authorization", "DPoP "+tok, "DPoP", p.proof(tok, nil, nil))
}

// wantChallenge wants one challenge of p to begin so and to hold each of the parts.
func wantChallenge(t *testing.T, p *gatehouse.Problem, scheme string, parts ...string) {
	t.Helper()
	for _, c := range p.Challenges {
		rest, ok := strings.CutPrefix(c, scheme+` realm="orders"`)
		for _, part := range parts {
			ok = ok && strings.Contains(rest, part)
		}
		if ok {
			return
		}
	}
	t.Errorf("no %s challenge with %q: %q", scheme, parts, p.Challenges)
}

var errDown = errors.New("the database is gone")
