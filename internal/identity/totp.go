package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238 §1.2: HMAC-SHA-1 is what authenticator apps speak; collisions do not matter in an HMAC
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
)

const (
	totpPeriod  = 30 // seconds (RFC 6238 §5.2)
	totpDigits  = 1_000_000
	totpSkew    = 1  // steps that a phone's clock may be off, both ways
	totpKey     = 20 // bytes: the length of SHA-1 (RFC 4226 §4)
	totpConfirm = 10 * time.Minute

	sealedTOTP      = "identity totp" // at rest
	sealedTOTPState = "identity totp enrolment"
)

var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// hotp is RFC 4226 §5.3 with six digits.
func hotp(key []byte, step int64) string {
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, step) // a hash takes everything
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%totpDigits)
}

// totpStep finds the step around now whose code this is. A step up to last was
// used before and counts no more (RFC 6238 §5.2).
func totpStep(key []byte, code string, now time.Time, last int64) (int64, bool) {
	var found int64
	ok := 0
	at := now.Unix() / totpPeriod
	for step := at - totpSkew; step <= at+totpSkew; step++ {
		same := subtle.ConstantTimeCompare([]byte(hotp(key, step)), []byte(code))
		if step <= last {
			same = 0
		}
		if same == 1 {
			found = step
		}
		ok |= same
	}
	return found, ok == 1
}

// digits takes the spaces out of a code as people copy it; "" when it is none.
func digits(code string) string {
	code = strings.ReplaceAll(code, " ", "")
	if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
		return ""
	}
	return code
}

type totpState struct {
	User   string `json:"user"`
	Secret []byte `json:"secret"`
	Until  int64  `json:"until"` // Unix milliseconds
}

// NewTOTP makes a secret for user's authenticator app: as base32, as otpauth URI
// for a QR code, and as sealed state for ConfirmTOTP within ten minutes. It counts
// only when confirmed, so that a scan that failed locks nobody out.
func (d *Directory) NewTOTP(ctx context.Context, user string) (secret, uri gatehouse.Secret, state string, err error) {
	u, err := d.User(ctx, user)
	if err != nil {
		return secret, uri, "", err
	}
	key := make([]byte, totpKey)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	text := base32Plain.EncodeToString(key)
	q := url.Values{"secret": {text}, "issuer": {d.host}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	link := url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + d.host + ":" + u.Name,
		RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20"), // apps show a plus as it is
	}
	state, err = d.seal(sealedTOTPState, totpState{u.ID, key, time.Now().Add(totpConfirm).UnixMilli()})
	return gatehouse.NewSecret(text), gatehouse.NewSecret(link.String()), state, err
}

// ConfirmTOTP takes the authenticator app of NewTOTP's state into use when code is
// its, in place of the one before, and returns new recovery codes, which are shown
// only now. A wrong code is [ErrCode]; so is a state that was used.
func (d *Directory) ConfirmTOTP(ctx context.Context, by By, state, code string) ([]gatehouse.Secret, error) {
	var s totpState
	if err := d.open(sealedTOTPState, state, &s); errors.Is(err, ErrCredentials) || err == nil && s.User != by.User {
		return nil, ErrCode
	} else if err != nil {
		return nil, err
	}
	now := time.Now()
	step, ok := totpStep(s.Secret, digits(code), now, 0)
	if !ok || !now.Before(store.Moment(s.Until)) {
		return nil, ErrCode
	}
	sealed, err := d.cfg.Seal.Seal(sealedTOTP, s.Secret)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	codes := newRecoveryCodes()
	err = d.factor(ctx, by, "users.totp.add", nil, func(tx *sql.Tx) error {
		// A second confirmation would set the step of a code back that was used since.
		first, err := once(ctx, tx, state, store.Moment(s.Until))
		if err != nil {
			return err
		}
		if !first {
			return ErrCode
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO totp (user_id, secret, step, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, step = excluded.step, created = excluded.created`,
			s.User, sealed, step, now.UnixMilli())
		if err != nil {
			return err
		}
		return replaceRecoveryCodes(ctx, tx, s.User, codes)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// TOTP adds the code of the user's authenticator app to l. Each code counts once,
// whoever sends it first. [ErrCredentials] is the answer to every wrong one,
// [ErrThrottled] to too many. For a step-up, where the session is the first factor,
// l is only its User.
func (d *Directory) TOTP(ctx context.Context, l *Login, code string, source netip.Addr) (*Login, error) {
	return d.secondFactor(ctx, l, source, func(now time.Time) (bool, error) {
		var sealed string
		var last int64
		err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, `SELECT secret, step FROM totp WHERE user_id = $1`, l.User).Scan(&sealed, &last)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		key, err := d.cfg.Seal.Open(sealedTOTP, sealed)
		if err != nil {
			return false, fmt.Errorf("identity: the authenticator app of %s: %w; are the sealing keys those of this database?", l.User, err)
		}
		step, ok := totpStep(key, digits(code), now, last)
		if !ok {
			return false, nil
		}
		var won int64
		err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) (err error) {
			// The step is compared where it is advanced: of all who send one code at
			// once, one gets in. And the secret, which may have been replaced meanwhile.
			won, err = affected(tx.ExecContext(ctx, `UPDATE totp SET step = $1 WHERE user_id = $2 AND secret = $3 AND step < $1`, step, l.User, sealed))
			return err
		})
		return won == 1, err
	})
}

// RemoveTOTP takes the user's authenticator app out of use, and with it the
// recovery codes that stand in for it. [ErrInvalid] when there is none.
func (d *Directory) RemoveTOTP(ctx context.Context, by By) error {
	return d.factor(ctx, by, "users.totp.remove", nil, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM totp WHERE user_id = $1`, by.User))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: there is no authenticator app to remove", ErrInvalid)
		}
		return replaceRecoveryCodes(ctx, tx, by.User, nil)
	})
}
