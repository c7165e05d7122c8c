package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
)

// Errors of AddSecret and RevokeSecret.
var (
	ErrSecretUnknown = errors.New("the client has no such secret")
	ErrSecretTwoLive = errors.New("two secrets are live already; revoke the old one first")
)

const (
	// A client secret is "gcs_", 43 base62 digits (256 bits) and 6 of a CRC-32, so
	// that scanners find what has leaked and know it from an accident. People do
	// not choose one, which is why SHA-256 is enough at rest.
	secretPrefix = "gcs_"
	secretRandom = 43
	secretSum    = 6
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	maxSecretOverlap = 90 * 24 * time.Hour
)

// A liveSecret is a secret as authentication needs it.
type liveSecret struct {
	Secret
	digest [sha256.Size]byte
	used   *lastUse
}

func (s *liveSecret) live(now time.Time) bool { return s.NotAfter.IsZero() || now.Before(s.NotAfter) }

// matches finds the live secret with this digest. It compares with every one, so
// that time tells nothing, and with one of nobody's when there is none.
func (c *liveClient) matches(digest [sha256.Size]byte, now time.Time) *liveSecret {
	var nobody [sha256.Size]byte
	subtle.ConstantTimeCompare(digest[:], nobody[:])
	if c == nil {
		return nil
	}
	var hit *liveSecret
	for i := range c.secrets {
		if sec := &c.secrets[i]; subtle.ConstantTimeCompare(digest[:], sec.digest[:]) == 1 && sec.live(now) {
			hit = sec
		}
	}
	return hit
}

func needsSecret(m *Metadata) bool {
	return m.TokenEndpointAuthMethod == methodBasic || m.TokenEndpointAuthMethod == methodPost
}

// AddSecret gives a client a second secret; the one it has works for overlap
// more (at most 90 days; 0: it ends at once). A third is refused: then somebody
// forgot to take the old one out of use.
func (s *Server) AddSecret(ctx context.Context, actor, id string, overlap time.Duration) (gatehouse.Secret, *Secret, error) {
	if overlap < 0 || overlap > maxSecretOverlap {
		return gatehouse.Secret{}, nil, fmt.Errorf("%w: an overlap of %v is not within 0 and %v", ErrClient, overlap, maxSecretOverlap)
	}
	now := time.UnixMilli(time.Now().UnixMilli())
	secret, sum, sec := newClientSecret(now)
	err := s.change(ctx, actor, "clients.secrets.create", id, map[string]string{"secret": sec.ID, "overlap": overlap.String()}, func(tx *sql.Tx) error {
		c, err := selectClient(ctx, tx, id)
		if errors.Is(err, sql.ErrNoRows) || err == nil && c.Origin == originDeleted {
			return fmt.Errorf("%q: %w", id, ErrClientUnknown)
		}
		if err != nil {
			return err
		}
		if !needsSecret(&c.Metadata) {
			return fmt.Errorf("%w: %s proves itself by %s, not by a secret", ErrClient, id, c.TokenEndpointAuthMethod)
		}
		live := 0
		for _, old := range c.secrets {
			if old.live(now) {
				live++
			}
		}
		if live > 1 && overlap > 0 {
			return fmt.Errorf("%q: %w", id, ErrSecretTwoLive)
		}
		end := now.Add(overlap).UnixMilli()
		if _, err := tx.ExecContext(ctx, `UPDATE client_secrets SET not_after = $1 WHERE client = $2 AND (not_after = 0 OR not_after > $1)`, end, id); err != nil {
			return err
		}
		// What has been dead for long is of no use to anybody.
		if _, err := tx.ExecContext(ctx, `DELETE FROM client_secrets WHERE client = $1 AND not_after > 0 AND not_after < $2`, id, now.Add(-maxSecretOverlap).UnixMilli()); err != nil {
			return err
		}
		if err := insertSecret(ctx, tx, id, sum, sec); err != nil {
			return err
		}
		return touchClient(ctx, tx, id, now)
	})
	if err != nil {
		return gatehouse.Secret{}, nil, err
	}
	return secret, &sec, nil
}

// RevokeSecret ends one secret of a client at once, here and within a second in
// every other process.
func (s *Server) RevokeSecret(ctx context.Context, actor, id, secret string) error {
	return s.change(ctx, actor, "clients.secrets.revoke", id, map[string]string{"secret": secret}, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM client_secrets WHERE client = $1 AND id = $2`, id, secret)
		if err := oneRow(res, err, fmt.Errorf("%q of %q: %w", secret, id, ErrSecretUnknown)); err != nil {
			return err
		}
		return touchClient(ctx, tx, id, time.Now())
	})
}

// touchClient makes every process read the client again.
func touchClient(ctx context.Context, tx *sql.Tx, id string, now time.Time) error {
	res, err := tx.ExecContext(ctx, `UPDATE clients SET updated = $1, version = version + 1 WHERE id = $2`, now.UnixMilli(), id)
	return oneRow(res, err, fmt.Errorf("%q: %w", id, ErrClientUnknown))
}

func newClientSecret(now time.Time) (gatehouse.Secret, string, Secret) {
	text := checked(secretPrefix + randomWord(secretRandom))
	return gatehouse.NewSecret(text), digest(text), Secret{ID: "sec_" + randomWord(12), Created: now}
}

func insertSecret(ctx context.Context, tx *sql.Tx, client, sum string, sec Secret) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO client_secrets (id, client, sha256, created, not_after, last_used) VALUES ($1, $2, $3, $4, $5, 0)`,
		sec.ID, client, sum, sec.Created.UnixMilli(), store.Millis(sec.NotAfter))
	return err
}

func selectSecrets(ctx context.Context, tx *sql.Tx, client string) (all []liveSecret, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, sha256, created, not_after, last_used FROM client_secrets WHERE client = $1 ORDER BY created, id`, client)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var sec liveSecret
		var sum string
		var created, notAfter, used int64
		if err := rows.Scan(&sec.ID, &sum, &created, &notAfter, &used); err != nil {
			return nil, err
		}
		b, err := hex.DecodeString(sum)
		if err != nil || len(b) != len(sec.digest) {
			return nil, fmt.Errorf("oauth: the digest of secret %s in the database is damaged", sec.ID)
		}
		copy(sec.digest[:], b)
		sec.Created, sec.NotAfter, sec.LastUsed = store.Moment(created), store.Moment(notAfter), store.Moment(used)
		all = append(all, sec)
	}
	return all, rows.Err()
}

// checked appends the checksum of body to it.
func checked(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	var out [secretSum]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return body + string(out[:])
}

// randomWord draws n base62 digits.
func randomWord(n int) string {
	out := []byte(randomIndex(len(base62), n))
	for i, b := range out {
		out[i] = base62[b]
	}
	return string(out)
}

// randomIndex draws n uniform numbers below limit, at most 128: bytes that would
// favour the first are thrown away.
func randomIndex(limit, n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // never fails (crypto/rand ends the process instead)
		for _, b := range buf {
			if int(b) < 256/limit*limit && len(out) < n {
				out = append(out, byte(int(b)%limit))
			}
		}
	}
	return string(out)
}
