package token

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSealed is what [Sealer.Open] and [Sealer.Verify] answer about bytes that no
// key of theirs sealed for that purpose.
var ErrSealed = errors.New("not sealed by this house for this purpose, or changed since")

// A Sealer keeps what leaves the process and must come back unchanged, and unread
// where it is sealed: opaque tokens, refresh tokens, nonces, state of pages,
// secrets at rest. Keys rotate: the newest seals, all that are kept open. It is
// safe for concurrent use; the zero Sealer opens nothing and seals nothing.
type Sealer struct {
	kept kept // zero: in memory
	mu   sync.Mutex
	ring atomic.Pointer[sealRing]
}

// sealKeys is the key file: 256-bit keys, newest last, ids never used again.
type sealKeys struct {
	Keys []sealKey `json:"keys"`
}

type sealKey struct {
	ID    uint32    `json:"id"`
	Key   []byte    `json:"key"`
	Since time.Time `json:"since"`
}

type sealRing struct {
	file sealKeys
	keys map[uint32]*openKey
	now  *openKey
	late *openKey  // seals instead of now
	from time.Time // from then on
}

// sealing is the key that seals now.
func (r *sealRing) sealing() *openKey {
	if r.late != nil && !time.Now().Before(r.from) {
		return r.late
	}
	return r.now
}

type openKey struct {
	id   uint32
	seal []byte
	mac  []byte
}

const (
	sealLate = 2 * time.Second // how long a new key only opens: others follow within a second
	sealID   = 4               // bytes that name the key
	sealSalt = 16              // bytes that make the key of one text
	macBytes = 16              // of a tag: 128 bits, as forging needs our answer to each guess
)

// NewSealer makes a Sealer whose key lives in memory only.
func NewSealer() (*Sealer, error) {
	s := &Sealer{}
	f, err := sealKeys{}.next()
	if err != nil {
		return nil, err
	}
	return s, s.use(f)
}

// OpenSealer reads the sealing keys that a keeper has under a name, or makes them
// there. Who has read them can make tokens.
func OpenSealer(k Keeper, name string) (*Sealer, error) {
	s := &Sealer{kept: kept{k, name}}
	err := s.kept.open(s.reload, func() (any, error) { return sealKeys{}.next() })
	if err != nil {
		return nil, fmt.Errorf("sealing keys: %w", err)
	}
	return s, nil
}

// Rotate adds a key that seals from now on; where other processes share the keys,
// from in two seconds on, when all of them can open what it seals. Older ones go on
// opening: what they sealed at rest has no end.
func (s *Sealer) Rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.rotate(); err != nil {
		return fmt.Errorf("rotating sealing keys: %w", err)
	}
	return nil
}

func (s *Sealer) rotate() error {
	r := s.ring.Load()
	if r == nil {
		return errors.New("a sealer without keys")
	}
	var f sealKeys
	var err error
	if s.kept.keeper == nil {
		f, err = r.file.next()
	} else {
		// What another process sealed with a key that this one would overwrite
		// could never be opened again.
		_, err = s.kept.change(func(doc Document) (any, error) {
			old, err := readSealKeys(doc)
			if err != nil {
				return nil, err
			}
			f, err = old.next()
			return f, err
		})
	}
	if err != nil {
		return err
	}
	return s.use(f)
}

// Run takes over, within a second, the keys that another process has added, until
// ctx ends. What is wrong with the document goes to report, once; the keys at work
// stay.
func (s *Sealer) Run(ctx context.Context, report func(error)) {
	follow(ctx, report, &followed{kept: s.kept, load: func(doc Document) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.reload(doc)
	}})
}

func (s *Sealer) reload(doc Document) error {
	f, err := readSealKeys(doc)
	if err != nil {
		return err
	}
	return s.use(f)
}

// Seal encrypts plain (AES-256-GCM) and returns it as base64url. Only Open with
// the same purpose gives it back.
func (s *Sealer) Seal(purpose string, plain []byte) (string, error) {
	r := s.ring.Load()
	if r == nil {
		return "", errors.New("a sealer without keys")
	}
	b := make([]byte, sealID+sealSalt, sealID+sealSalt+16+len(plain))
	k := r.sealing()
	putID(b, k.id)
	if _, err := rand.Read(b[sealID:]); err != nil {
		return "", err
	}
	aead, err := k.aead(b[sealID:])
	if err != nil {
		return "", err
	}
	var nonce [12]byte // each text has a key of its own
	b = aead.Seal(b, nonce[:], plain, additional(purpose, b[:sealID+sealSalt]))
	return strict64.EncodeToString(b), nil
}

// Open gives back what Seal was given; every other text is [ErrSealed].
func (s *Sealer) Open(purpose, sealed string) ([]byte, error) {
	r := s.ring.Load()
	b, err := decode64(nil, sealed)
	if err != nil || r == nil || len(b) < sealID+sealSalt {
		return nil, ErrSealed
	}
	k := r.keys[getID(b)]
	if k == nil {
		return nil, ErrSealed
	}
	aead, err := k.aead(b[sealID : sealID+sealSalt])
	if err != nil {
		return nil, ErrSealed
	}
	var nonce [12]byte
	plain, err := aead.Open(nil, nonce[:], b[sealID+sealSalt:], additional(purpose, b[:sealID+sealSalt]))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// Sign returns a tag of data (HMAC-SHA-256, with the key's id in front) that
// Verify takes. The same data has the same tag until the key rotates.
func (s *Sealer) Sign(purpose string, data []byte) ([]byte, error) {
	r := s.ring.Load()
	if r == nil {
		return nil, errors.New("a sealer without keys")
	}
	return r.sealing().tag(purpose, data), nil
}

// Verify says nil when tag is of Sign for that purpose and data, else [ErrSealed].
func (s *Sealer) Verify(purpose string, data, tag []byte) error {
	r := s.ring.Load()
	if r == nil || len(tag) != sealID+macBytes {
		return ErrSealed
	}
	k := r.keys[getID(tag)]
	if k == nil || !hmac.Equal(tag, k.tag(purpose, data)) {
		return ErrSealed
	}
	return nil
}

// aead is the cipher of one text. Random nonces of 96 bits under one key would
// be good for 2^32 texts (SP 800-38D §8.3): sixteen days of opaque tokens at
// 3,000 a second. A key for each text, of 128 random bits, has no such end.
func (k *openKey) aead(salt []byte) (cipher.AEAD, error) {
	m := hmac.New(sha256.New, k.seal)
	m.Write(salt)
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (k *openKey) tag(purpose string, data []byte) []byte {
	m := hmac.New(sha256.New, k.mac)
	var n [8]byte
	putID(n[:4], k.id)
	putID(n[4:], uint32(len(purpose)))
	m.Write(n[:])
	m.Write([]byte(purpose))
	m.Write(data)
	out := make([]byte, sealID, sealID+sha256.Size)
	putID(out, k.id)
	return m.Sum(out)[:sealID+macBytes]
}

func (s *Sealer) use(f sealKeys) error {
	if len(f.Keys) == 0 {
		return errors.New("sealing keys: there are none")
	}
	r := &sealRing{file: f, keys: map[uint32]*openKey{}}
	var before *openKey
	for _, k := range f.Keys {
		if len(k.Key) != 32 || r.keys[k.ID] != nil {
			return errors.New("sealing keys: a key is not 256 bits long, or is there twice")
		}
		// One key for two algorithms would let one tell about the other.
		derived := hmac.New(sha256.New, k.Key)
		derived.Write([]byte("gatehouse seal"))
		seal := derived.Sum(nil)
		derived = hmac.New(sha256.New, k.Key)
		derived.Write([]byte("gatehouse mac"))
		r.now, before = &openKey{id: k.ID, seal: seal, mac: derived.Sum(nil)}, r.now
		r.keys[k.ID] = r.now
	}
	if s.kept.keeper != nil && before != nil {
		// The clock that counts is that of who seals: from when it knows the key.
		r.from = f.Keys[len(f.Keys)-1].Since.Add(sealLate)
		if old := s.ring.Load(); old != nil {
			if r.from = old.from; old.keys[r.now.id] == nil {
				r.from = time.Now().Add(sealLate)
			}
		}
		r.now, r.late = before, r.now
	}
	s.ring.Store(r)
	return nil
}

// next is f with a new key behind the others.
func (f sealKeys) next() (sealKeys, error) {
	k := sealKey{ID: 1, Key: make([]byte, 32), Since: time.Now().UTC().Truncate(time.Second)}
	if _, err := rand.Read(k.Key); err != nil {
		return sealKeys{}, err
	}
	out := sealKeys{Keys: make([]sealKey, 0, len(f.Keys)+1)}
	for _, old := range f.Keys {
		out.Keys = append(out.Keys, old)
		k.ID = max(k.ID, old.ID+1)
	}
	out.Keys = append(out.Keys, k)
	return out, nil
}

func readSealKeys(doc Document) (f sealKeys, err error) {
	if err := json.Unmarshal(doc.Text, &f); err != nil || len(f.Keys) == 0 {
		// The cause could quote the file; the place is enough.
		return f, fmt.Errorf("%s is not a sealing key file; restore it: what it sealed cannot be read without it", doc.Place)
	}
	return f, nil
}

// additional binds a sealed text to its purpose and key.
func additional(purpose string, head []byte) []byte {
	return append(append(make([]byte, 0, len(head)+len(purpose)), head...), purpose...)
}

func putID(b []byte, id uint32) {
	b[0], b[1], b[2], b[3] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
}

func getID(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
