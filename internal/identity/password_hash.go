package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// ErrBusy tells that too many passwords are being checked at once: nobody was
// signed in, and nothing was counted. Ask again after a second.
var ErrBusy = errors.New("too many sign-ins at once")

const (
	slotWait    = 5 * time.Second
	slotQueue   = 16 // who waits, for each slot: more could not be served within slotWait
	saltBytes   = 16
	digestBytes = 32
)

// A cost is what one argon2id takes (RFC 9106).
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// today is the least that OWASP's Password Storage Cheat Sheet allows: 19 MiB, two
// passes. What was hashed otherwise is hashed anew when its owner signs in.
var today = cost{19456, 2, 1}

// most bounds what a row of the table may make us spend.
var most = cost{64 << 10, 8, 8}

// A phc is a password as the table keeps it: $argon2id$v=19$m=…,t=…,p=…$salt$digest.
type phc struct {
	cost
	salt, digest []byte
}

var phc64 = base64.RawStdEncoding.Strict()

func (p *phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.threads,
		phc64.EncodeToString(p.salt), phc64.EncodeToString(p.digest))
}

func parsePHC(s string) (*phc, error) {
	damaged := errors.New("a password in the database is damaged")
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return nil, damaged
	}
	var p phc
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.threads); err != nil || n != 3 {
		return nil, damaged
	}
	var errSalt, errDigest error
	p.salt, errSalt = phc64.DecodeString(parts[4])
	p.digest, errDigest = phc64.DecodeString(parts[5])
	switch {
	case errSalt != nil || errDigest != nil || len(p.salt) < 8 || len(p.digest) < 16 || len(p.digest) > 64,
		p.memory < 8*uint32(p.threads) || p.memory > most.memory,
		p.passes < 1 || p.passes > most.passes, p.threads < 1 || p.threads > most.threads,
		p.String() != s:
		return nil, damaged
	}
	return &p, nil
}

// A hasher runs argon2id, few at a time: each takes 19 MiB, and who signs in is a
// stranger.
type hasher struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func (h *hasher) open(slots int) { h.slots = make(chan struct{}, slots) }

// slot waits until there is room for a hash; call the function it returns when it
// is done. [ErrBusy] after five seconds, when ctx ends, and at once when too many
// wait already.
func (h *hasher) slot(ctx context.Context) (free func(), err error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > int64(slotQueue*cap(h.slots)) {
		return nil, ErrBusy
	}
	patience := time.NewTimer(slotWait)
	defer patience.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-patience.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, errors.Join(ErrBusy, context.Cause(ctx))
	}
}

// hashed makes a password's row. The caller holds a slot.
func hashed(password string) *phc {
	p := &phc{cost: today, salt: make([]byte, saltBytes)}
	_, _ = rand.Read(p.salt) // never fails
	p.digest = p.run(password)
	return p
}

// opens reports whether password is p's. A nil p is nobody's, and takes as long.
// The caller holds a slot.
func (p *phc) opens(password string) bool {
	known := p != nil
	if !known {
		p = &phc{cost: today, salt: make([]byte, saltBytes), digest: make([]byte, digestBytes)}
	}
	return subtle.ConstantTimeCompare(p.run(password), p.digest) == 1 && known
}

func (p *phc) run(password string) []byte {
	n := len(p.digest)
	if n == 0 {
		n = digestBytes
	}
	return argon2.IDKey([]byte(password), p.salt, p.passes, p.memory, p.threads, uint32(n))
}
