package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A keyFile is the signing key file: private JWKs (RFC 7517), mode 0600.
type keyFile struct {
	Current jwk   `json:"current"`
	Next    jwk   `json:"next"`
	Retired []jwk `json:"retired"`
}

// LoadOrCreateSigner reads the signing keys at path, or makes them there, of
// mode 0600 in a folder of mode 0700. Two processes that start at once end up
// with the same keys. A file that others may read is refused, since whoever has
// read it is the issuer. Another alg than the file's takes over by rotation.
func LoadOrCreateSigner(path string, alg Algorithm) (*Signer, error) {
	if alg == "" {
		alg = ES256
	}
	r, err := loadRing(path)
	if errors.Is(err, fs.ErrNotExist) {
		if r, err = newRing(alg); err != nil {
			return nil, err
		}
		err = r.save(path, os.Link) // unlike a rename, a link never replaces
		if errors.Is(err, fs.ErrExist) {
			r, err = loadRing(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	sweep(path)
	s := &Signer{alg: alg, path: path}
	s.ring.Store(r)
	if r.next.alg != alg {
		if err := s.replaceNext(); err != nil {
			return nil, fmt.Errorf("signing keys: %w", err)
		}
	}
	return s, nil
}

// replaceNext makes the next key one of the algorithm that is wanted now.
func (s *Signer) replaceNext() error {
	unlock, err := lockKeys(s.path)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := loadRing(s.path)
	if err != nil {
		return err
	}
	if r.next.alg != s.alg {
		next, err := newKey(s.alg)
		if err != nil {
			return err
		}
		if r, err = makeRing(r.current.jwk, next, r.retired); err != nil {
			return err
		}
		if err := r.save(s.path, os.Rename); err != nil {
			return err
		}
	}
	s.ring.Store(r)
	return nil
}

// Rotate makes the next key the current one if that has signed for longer than
// age, and reports whether it did. The new ring is on disk before it signs, and
// is made from what is there: another process may have rotated meanwhile.
// Leave the next key time to be seen: at least as long as verifiers cache sets.
func (s *Signer) Rotate(age time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, err := s.rotate(age)
	if err != nil {
		return false, fmt.Errorf("rotating signing keys: %w", err)
	}
	return done, nil
}

func (s *Signer) rotate(age time.Duration) (bool, error) {
	old := s.ring.Load()
	if s.path != "" {
		unlock, err := lockKeys(s.path)
		if err != nil {
			return false, err
		}
		defer unlock()
		if old, err = loadRing(s.path); err != nil {
			return false, err
		}
		s.use(old)
	}
	now := time.Now().UTC().Truncate(time.Second)
	if now.Sub(old.current.Since) < age {
		return false, nil
	}
	next, err := newKey(s.alg)
	if err != nil {
		return false, err
	}
	retired := []jwk{{Key: old.current.Key.Public(), Since: now}}
	for _, k := range old.retired {
		if now.Sub(k.Since) < retain && len(retired) < maxRetired {
			retired = append(retired, k)
		}
	}
	r, err := makeRing(jwk{Key: old.next.Key, Since: now}, next, retired)
	if err != nil {
		return false, err
	}
	if s.path != "" {
		if err := r.save(s.path, os.Rename); err != nil {
			return false, err
		}
	}
	s.ring.Store(r)
	return true, nil
}

// reload takes over what another process has written to the file; if that
// cannot be used, the keys at work stay.
func (s *Signer) reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := loadRing(s.path)
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

// lockKeys keeps other processes from changing the key files beside path until
// unlock is called, or this process ends.
func lockKeys(path string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		_ = dir.Close()
		return nil, err
	}
	return func() { _ = dir.Close() }, nil
}

// sweep removes what a process killed while saving has left: those files hold
// private keys. One that is young may be somebody's who is saving right now.
func sweep(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), tempName(path)))
	for _, name := range left {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(name)
		}
	}
}

// tempName is the pattern of the files that save writes first.
func tempName(path string) string { return filepath.Base(path) + ".*.tmp" }

func loadRing(path string) (*ring, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	var f keyFile
	if err := json.Unmarshal(b, &f); err != nil {
		// The cause could quote the file; the place is enough.
		return nil, fmt.Errorf("%s is not a signing key file; restore it, or move it away to have new keys made", path)
	}
	r, err := makeRing(f.Current, f.Next, f.Retired)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it, or move it away to have new keys made", path, err)
	}
	return r, nil
}

// readPrivate reads a file of private keys.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %v); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return os.ReadFile(path)
}

func (r *ring) save(path string, publish func(from, to string) error) error {
	return saveKeys(path, keyFile{r.current.jwk, r.next.jwk, r.retired}, publish)
}

// saveKeys writes keys beside path, forces them to disk, and lets publish put
// them there in one step: a crash at any moment leaves the old file or the new one.
func saveKeys(path string, keys any, publish func(from, to string) error) (err error) {
	b, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempName(path)) // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
