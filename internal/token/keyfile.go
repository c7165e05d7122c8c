package token

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// A keyFile is the document of signing keys: private JWKs (RFC 7517).
type keyFile struct {
	Current jwk   `json:"current"`
	Next    jwk   `json:"next"`
	Retired []jwk `json:"retired"`
}

// LoadOrCreateSigner is [OpenSigner] for the file at path. A file that others may
// read is refused, since whoever has read it is the issuer.
func LoadOrCreateSigner(path string, alg Algorithm) (*Signer, error) {
	return OpenSigner(Files(filepath.Dir(path)), filepath.Base(path), alg)
}

// OpenSigner reads the signing keys that a keeper has under a name, or makes them
// there. Two that open at once end up with the same keys. Another alg than the
// document's takes over by rotation.
func OpenSigner(k Keeper, name string, alg Algorithm) (*Signer, error) {
	if alg == "" {
		alg = ES256
	}
	s := &Signer{alg: alg, kept: kept{k, name}}
	err := s.kept.open(func(doc Document) error {
		r, err := readRing(doc)
		s.ring.Store(r)
		return err
	}, func() (any, error) {
		r, err := newRing(alg)
		if err != nil {
			return nil, err
		}
		return r.file(), nil
	})
	if err == nil && s.ring.Load().next.alg != alg {
		err = s.replaceNext()
	}
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return s, nil
}

// replaceNext makes the next key one of the algorithm that is wanted now.
func (s *Signer) replaceNext() error {
	next, err := newKey(s.alg)
	if err != nil {
		return err
	}
	_, err = s.change(func(r *ring) (*ring, error) {
		if r.next.alg == s.alg {
			return nil, nil
		}
		return makeRing(r.current.jwk, next, r.retired)
	})
	return err
}

// Rotate makes the next key the current one if that has signed for longer than
// age, and reports whether it did. The new ring is on disk before it signs, and
// is made from what is there: another process may have rotated meanwhile.
// Leave the next key time to be seen: at least as long as verifiers cache sets.
func (s *Signer) Rotate(age time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, err := s.change(func(r *ring) (*ring, error) { return r.rotated(s.alg, age) })
	if err != nil {
		return false, fmt.Errorf("rotating signing keys: %w", err)
	}
	return done, nil
}

// change makes a ring of the one that is kept now and puts it there and to work; nil
// leaves it.
func (s *Signer) change(f func(*ring) (*ring, error)) (done bool, err error) {
	var made *ring
	if s.kept.keeper == nil {
		made, err = f(s.ring.Load())
		done = made != nil && err == nil
	} else {
		done, err = s.kept.change(func(doc Document) (any, error) {
			old, err := readRing(doc)
			if err != nil {
				return nil, err
			}
			s.use(old)
			if made, err = f(old); err != nil || made == nil {
				return nil, err
			}
			return made.file(), nil
		})
	}
	if done {
		s.ring.Store(made)
	}
	return done, err
}

// rotated is r with its next key in use and another one behind it; nil when the
// current one has not signed for longer than age.
func (r *ring) rotated(alg Algorithm, age time.Duration) (*ring, error) {
	now := time.Now().UTC().Truncate(time.Second)
	if now.Sub(r.current.Since) < age {
		return nil, nil
	}
	next, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	retired := []jwk{{Key: r.current.Key.Public(), Since: now}}
	for _, k := range r.retired {
		if now.Sub(k.Since) < retain && len(retired) < maxRetired {
			retired = append(retired, k)
		}
	}
	return makeRing(jwk{Key: r.next.Key, Since: now}, next, retired)
}

// Run takes over, within a second, what another process has rotated, until ctx
// ends. What is wrong with the document goes to report, once; the keys at work stay.
func (s *Signer) Run(ctx context.Context, report func(error)) {
	follow(ctx, report, &followed{kept: s.kept, load: s.reload})
}

// reload takes over what another process has written; if that cannot be used, the
// keys at work stay.
func (s *Signer) reload(doc Document) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := readRing(doc)
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	s.use(r)
	return nil
}

// use stores r, unless it holds the keys at work: tokens minted under the old
// ring would be thrown away for nothing.
func (s *Signer) use(r *ring) {
	if !bytes.Equal(s.ring.Load().published, r.published) {
		s.ring.Store(r)
	}
}

func readRing(doc Document) (*ring, error) {
	var f keyFile
	if err := json.Unmarshal(doc.Text, &f); err != nil {
		// The cause could quote the file; the place is enough.
		return nil, fmt.Errorf("%s is not a signing key file; restore it, or move it away to have new keys made", doc.Place)
	}
	r, err := makeRing(f.Current, f.Next, f.Retired)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it, or move it away to have new keys made", doc.Place, err)
	}
	return r, nil
}

func (r *ring) file() keyFile { return keyFile{r.current.jwk, r.next.jwk, r.retired} }
