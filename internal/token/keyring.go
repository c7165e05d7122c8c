package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Keyring is one [Signer] per algorithm: what an authorization server signs
// with, as its clients may ask for different algorithms. It is safe for
// concurrent use.
type Keyring struct {
	signers []*Signer

	mu        sync.Mutex // held while publishing
	published atomic.Pointer[[]byte]
	keys      *KeySet
}

// NewKeyring makes a Keyring whose keys live in memory only. The algorithms are
// of ES256, EdDSA and RS256, the first is the default; none: ES256.
func NewKeyring(algs ...Algorithm) (*Keyring, error) {
	return makeKeyring(algs, NewSigner)
}

// OpenKeyring reads the keys that a keeper has under dir, or makes them there: one
// document for each algorithm, "es256.jwks" and so on, as [OpenSigner] does. RSA
// keys take about a second to make.
func OpenKeyring(k Keeper, dir string, algs ...Algorithm) (*Keyring, error) {
	return makeKeyring(algs, func(alg Algorithm) (*Signer, error) {
		return OpenSigner(k, path.Join(dir, strings.ToLower(string(alg))+".jwks"), alg)
	})
}

func makeKeyring(algs []Algorithm, signer func(Algorithm) (*Signer, error)) (*Keyring, error) {
	if len(algs) == 0 {
		algs = []Algorithm{ES256}
	}
	k := &Keyring{keys: &KeySet{}}
	for i, alg := range algs {
		if alg == "" || slices.Contains(algs[:i], alg) {
			return nil, fmt.Errorf("keyring: the algorithm %q is empty or given twice", string(alg))
		}
		// Before a file is made of that name, which may be a path.
		if err := checkAlgorithms(algs[i : i+1]); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		s, err := signer(alg)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		k.signers = append(k.signers, s)
	}
	return k, k.publish()
}

// Algorithms returns what [Keyring.Sign] can sign with, the default first.
func (k *Keyring) Algorithms() []Algorithm {
	algs := make([]Algorithm, len(k.signers))
	for i, s := range k.signers {
		algs[i] = s.alg
	}
	return algs
}

// Sign returns claims, a JSON object, as a compact JWS of the given typ, signed
// with alg; "" is the default. An algorithm the ring has no key for is an error:
// a client that asked for one must not get another.
func (k *Keyring) Sign(alg Algorithm, typ string, claims []byte) (string, error) {
	for i, s := range k.signers {
		if s.alg != alg && (alg != "" || i != 0) {
			continue
		}
		key := &s.ring.Load().current
		if key.alg != s.alg {
			return "", fmt.Errorf("sign: the key in the file for %s is for %s", s.alg, key.alg)
		}
		return key.signAs(typ, claims)
	}
	return "", fmt.Errorf("sign: there is no key for %q", string(alg))
}

// JWKS returns all public keys as one JWK Set document. The caller must not
// change it.
func (k *Keyring) JWKS() []byte {
	if doc := k.published.Load(); doc != nil {
		return *doc
	}
	return []byte(`{"keys":[]}`)
}

// KeySet returns the same keys for a [Verifier] in this process, which learns of
// a rotation at once and never fetches. Its Run need not be called.
func (k *Keyring) KeySet() *KeySet { return k.keys }

// Rotate rotates each algorithm whose current key has signed for longer than
// age, and reports whether any was; see [Signer.Rotate].
func (k *Keyring) Rotate(age time.Duration) (bool, error) {
	rotated := false
	var errs []error
	for _, s := range k.signers {
		done, err := s.Rotate(age)
		rotated = rotated || done
		errs = append(errs, err)
	}
	return rotated, errors.Join(append(errs, k.publish())...)
}

// Run takes over, within a second, what another process has rotated, until ctx
// ends. What is wrong with a document goes to report, once; the keys at work stay.
func (k *Keyring) Run(ctx context.Context, report func(error)) {
	all := make([]*followed, len(k.signers))
	for i, s := range k.signers {
		all[i] = &followed{kept: s.kept, load: func(doc Document) error { return errors.Join(s.reload(doc), k.publish()) }}
	}
	follow(ctx, report, all...)
}

// publish puts the signers' sets together.
func (k *Keyring) publish() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		return errors.New("keyring: it was not made by its constructors")
	}
	var all struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, s := range k.signers {
		var one struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := json.Unmarshal(s.JWKS(), &one); err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
		all.Keys = append(all.Keys, one.Keys...)
	}
	doc, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	t, warnings, err := parseJWKS(doc, nil)
	if err = errors.Join(append(warnings, err)...); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	k.published.Store(&doc)
	old := k.keys.current.Load()
	if old != nil && old.keys.same(t) {
		return nil
	}
	k.keys.current.Store(&generation{keys: t, fetched: time.Now()})
	if old != nil {
		k.keys.epoch.Add(1)
	}
	return nil
}
