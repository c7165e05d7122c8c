package token

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxJWKS     = 1 << 20
	maxKeys     = 100
	maxSameName = 4 // keys under one kid and algorithm: each is one more verification a stranger can order
)

// A key is one public key under one algorithm. A JWK that names no algorithm
// and could serve several becomes several records.
type key struct {
	id     string
	alg    Algorithm
	public crypto.PublicKey
	print  string // RFC 7638 thumbprint
}

// A table is a parsed key set, read-only.
type table struct {
	keys    []*key
	jwks    int // different JWKs that gave at least one record
	byName  map[string][]*key
	headers headerCache
}

// find returns the keys that may verify a token with this header: never one
// whose own algorithm is another.
func (t *table) find(kid string, alg Algorithm) []*key {
	var hits []*key
	from := t.keys
	if kid != "" {
		from = t.byName[kid]
	}
	for _, k := range from {
		if k.alg == alg && len(hits) < maxSameName {
			hits = append(hits, k)
		}
	}
	return hits
}

// same reports whether both hold the same keys, in whatever order.
func (t *table) same(u *table) bool {
	return t != nil && u != nil && slices.Equal(t.names(), u.names())
}

func (t *table) names() []string {
	names := make([]string, len(t.keys))
	for i, k := range t.keys {
		names[i] = fmt.Sprintf("%q %s %s", k.id, k.alg, k.print)
	}
	slices.Sort(names)
	return names
}

// parseJWKS reads a JWK Set (RFC 7517 §5). One unusable key does not spoil the
// set (§5: "SHOULD ignore"); it is left out and named in warnings. A document
// that is no JWK Set is an error.
func parseJWKS(doc []byte, allowed []Algorithm) (t *table, warnings []error, err error) {
	if len(doc) > maxJWKS {
		return nil, nil, fmt.Errorf("the key set is larger than %d bytes", maxJWKS)
	}
	t = &table{byName: make(map[string][]*key)}
	found := false
	err = readObject(doc, func(r *reader, name string) error {
		v, err := r.value()
		if err != nil || name != "keys" {
			return err
		}
		list, ok := v.([]any)
		if !ok {
			return errors.New("keys is not a list")
		}
		if len(list) > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		found = true
		for i := range list {
			if err := t.add(list[i], allowed); err != nil {
				warnings = append(warnings, fmt.Errorf("key %d left out: %w", i, err))
			}
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("the member keys is missing")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("not a JWK Set: %w", err)
	}
	return t, warnings, nil
}

// add takes one JWK (RFC 7517 §4) into t.
func (t *table) add(v any, allowed []Algorithm) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("not an object")
	}
	if err := noSecrets(m); err != nil {
		return err
	}
	var id, alg, use string
	if err := errors.Join(textClaim(m, "kid", &id), textClaim(m, "alg", &alg), textClaim(m, "use", &use)); err != nil {
		return err
	}
	if use != "" && use != "sig" {
		return fmt.Errorf("it is for the use %q", use)
	}
	if ops, has := m["key_ops"]; has {
		list, _ := ops.([]any)
		if !slices.Contains(list, any("verify")) {
			return errors.New("its key_ops do not include verify")
		}
	}
	pub, thumb, err := publicKey(m)
	if err != nil {
		return err
	}
	algs, err := fits(pub)
	if err != nil {
		return err
	}
	switch {
	case alg != "":
		if !slices.Contains(algs, algorithmOf(alg)) {
			return fmt.Errorf("its alg %q does not fit its type", alg)
		}
		algs = []Algorithm{algorithmOf(alg)}
	case len(allowed) == 0:
		// The custom of issuers that leave alg out of an RSA key is RS256; any
		// other algorithm must be written, in the key or in the configuration.
		algs = algs[:1]
	}
	if len(allowed) > 0 {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a Algorithm) bool { return !slices.Contains(allowed, a) })
		if len(algs) == 0 {
			return errors.New("none of its algorithms is configured for this issuer")
		}
	}
	fresh := false
	for _, a := range algs {
		if slices.ContainsFunc(t.byName[id], func(k *key) bool { return k.alg == a && k.print == thumb }) {
			continue
		}
		if id != "" && len(t.find(id, a)) >= maxSameName {
			return fmt.Errorf("more than %d keys share its kid", maxSameName)
		}
		k := &key{id: id, alg: a, public: pub, print: thumb}
		t.keys = append(t.keys, k)
		t.byName[id] = append(t.byName[id], k)
		fresh = true
	}
	if fresh {
		t.jwks++
	}
	return nil
}

// noSecrets refuses a JWK that is not public. Whoever published a private key
// has lost it; a symmetric one would make every verifier an issuer. "priv" is
// where AKP keys (RFC 9964) keep theirs.
func noSecrets(m map[string]any) error {
	for _, name := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, has := m[name]; has {
			return fmt.Errorf("it holds private or symmetric key material (%s); its owner should revoke it", name)
		}
	}
	return nil
}

// Thumbprint returns the RFC 7638 thumbprint (SHA-256, base64url) of a public
// JWK of at most 16 KiB: what cnf.jkt and dpop_jkt hold. A private or symmetric
// key is an error, and so is one that no algorithm here can use.
func Thumbprint(publicJWK []byte) (string, error) {
	m, err := readJWK(publicJWK)
	if err != nil {
		return "", err
	}
	pub, sum, err := publicKey(m)
	if err == nil {
		_, err = fits(pub)
	}
	if err != nil {
		return "", fmt.Errorf("JWK: %w", err)
	}
	return strict64.EncodeToString([]byte(sum)), nil
}

const maxJWK = 16 << 10 // an RSA key with a certificate chain

// readJWK reads one JWK that must be public.
func readJWK(doc []byte) (map[string]any, error) {
	if len(doc) > maxJWK {
		return nil, fmt.Errorf("the JWK is larger than %d bytes", maxJWK)
	}
	m := make(map[string]any, 8)
	err := readObject(doc, func(r *reader, name string) (err error) {
		m[name], err = r.value()
		return err
	})
	if err == nil {
		err = noSecrets(m)
	}
	if err != nil {
		return nil, fmt.Errorf("JWK: %w", err)
	}
	return m, nil
}

// publicKey decodes the key itself. Only the members that make it are handed
// on: certificates in x5c carry faults that have nothing to do with the key.
func publicKey(m map[string]any) (crypto.PublicKey, string, error) {
	bare := make(map[string]string, 6)
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		var s string
		if err := textClaim(m, name, &s); err != nil {
			return nil, "", err
		}
		if s != "" {
			bare[name] = s
		}
	}
	b, err := json.Marshal(bare)
	if err != nil {
		return nil, "", err
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(b); err != nil {
		return nil, "", err
	}
	if !k.Valid() || !k.IsPublic() {
		return nil, "", errors.New("not a valid public key")
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", err
	}
	return k.Key, string(sum), nil
}
