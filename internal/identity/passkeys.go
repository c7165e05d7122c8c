package identity

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

const (
	ceremonyLife = 5 * time.Minute
	maxPasskeys  = 20       // of one user
	maxResponse  = 64 << 10 // bytes of what a browser answers; attestation certificates are the most of it

	sealedRegistration = "identity passkey registration"
	sealedSignIn       = "identity passkey sign-in"
)

var (
	// ErrPasskey refuses to register a passkey; the text says why.
	ErrPasskey = errors.New("the passkey was not registered")
	// ErrNoPasskeys tells that people reach Gatehouse by an IP address, for which
	// there are no passkeys (WebAuthn §5.1.2: an RP id is a domain).
	ErrNoPasskeys = errors.New("passkeys need an issuer with a host name, not an IP address")
)

// A Passkey is a public key whose private part an authenticator keeps (WebAuthn).
type Passkey struct {
	ID         string // "key_…"; not the authenticator's id for it
	Name       string // given by its user
	Transports []string
	Synced     bool // copied between the user's devices by its maker
	Created    time.Time
	Used       time.Time // zero: never
	Copied     time.Time // when its counter last went back, as of two that are one; zero: never

	user       string
	credential webauthn.Credential
}

// A holder is a user as the WebAuthn library wants it.
type holder struct {
	user     *User
	passkeys []Passkey
}

// WebAuthnID is the user handle: random, as the id is, and says nothing of its user.
func (h holder) WebAuthnID() []byte          { return []byte(h.user.ID) }
func (h holder) WebAuthnName() string        { return h.user.Name }
func (h holder) WebAuthnDisplayName() string { return h.user.Name }
func (h holder) WebAuthnCredentials() []webauthn.Credential {
	list := make([]webauthn.Credential, len(h.passkeys))
	for i := range h.passkeys {
		list[i] = h.passkeys[i].credential
	}
	return list
}

// A ceremony is what the library must remember between asking and answer. The
// allowed credentials are not in it: its length would tell how many there are.
type ceremony struct {
	Challenge string `json:"challenge"`
	User      string `json:"user,omitempty"` // "" for whoever the passkey says
	Name      string `json:"name,omitempty"`
	Until     int64  `json:"until"` // Unix milliseconds
}

func (c ceremony) data() webauthn.SessionData {
	s := webauthn.SessionData{Challenge: c.Challenge, UserVerification: protocol.VerificationPreferred, Expires: store.Moment(c.Until)}
	if c.User != "" {
		s.UserID = []byte(c.User)
	}
	return s
}

// relyingParty is this house to authenticators. Its origin is configuration, never
// what a request says of its host.
func (d *Directory) relyingParty() (*webauthn.WebAuthn, error) {
	issuer, err := url.Parse(d.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if _, err := netip.ParseAddr(issuer.Hostname()); err == nil {
		return nil, ErrNoPasskeys
	}
	ask := webauthn.TimeoutConfig{Timeout: ceremonyLife, TimeoutUVD: ceremonyLife}
	rp, err := webauthn.New(&webauthn.Config{
		RPID: issuer.Hostname(), RPDisplayName: issuer.Hostname(), RPOrigins: []string{issuer.Scheme + "://" + issuer.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: ask, Registration: ask},
	})
	if err != nil {
		return nil, fmt.Errorf("identity: passkeys: %w", err)
	}
	return rp, nil
}

// BeginPasskey asks user's browser for a new passkey, which will have that name:
// options are for navigator.credentials.create, state comes back to FinishPasskey
// within five minutes. Authenticators that have one already are told to refuse.
func (d *Directory) BeginPasskey(ctx context.Context, user, name string) (options json.RawMessage, state string, err error) {
	if name = strings.TrimSpace(name); name == "" {
		name = "Passkey"
	}
	if len(name) > 64 || !printable(name) {
		return nil, "", fmt.Errorf("%w: its name has at most 64 bytes, all of them printable characters", ErrPasskey)
	}
	rp, err := d.relyingParty()
	if err != nil {
		return nil, "", err
	}
	h, err := d.holder(ctx, user)
	if err != nil {
		return nil, "", err
	}
	if len(h.passkeys) >= maxPasskeys {
		return nil, "", fmt.Errorf("%w: %d are enough, remove one first", ErrPasskey, maxPasskeys)
	}
	have := webauthn.Credentials(h.WebAuthnCredentials()).CredentialDescriptors()
	creation, session, err := rp.BeginRegistration(h, webauthn.WithExclusions(have))
	if err != nil {
		return nil, "", fmt.Errorf("identity: passkeys: %w", err)
	}
	return d.begin(sealedRegistration, creation, ceremony{Challenge: session.Challenge, User: user, Name: name})
}

// begin gives options and the sealed ceremony that belongs to them.
func (d *Directory) begin(purpose string, options any, c ceremony) (json.RawMessage, string, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return nil, "", fmt.Errorf("identity: passkeys: %w", err)
	}
	c.Until = time.Now().Add(ceremonyLife).UnixMilli()
	state, err := d.seal(purpose, c)
	return b, state, err
}

// FinishPasskey keeps the passkey that response (JSON of a PublicKeyCredential)
// brings. [ErrPasskey] when it is not an answer to state, or state was used before.
func (d *Directory) FinishPasskey(ctx context.Context, by By, state string, response []byte) (*Passkey, error) {
	var c ceremony
	if err := d.open(sealedRegistration, state, &c); errors.Is(err, ErrCredentials) || err == nil && c.User != by.User {
		return nil, fmt.Errorf("%w: it was not asked for here", ErrPasskey)
	} else if err != nil {
		return nil, err
	}
	rp, err := d.relyingParty()
	if err != nil {
		return nil, err
	}
	h, err := d.holder(ctx, by.User)
	if err != nil {
		return nil, err
	}
	if len(response) > maxResponse {
		return nil, fmt.Errorf("%w: the answer is larger than %d bytes", ErrPasskey, maxResponse)
	}
	answer, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	session := c.data()
	session.CredParams = webauthn.CredentialParametersDefault()
	credential, err := rp.CreateCredential(h, session, answer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	p := &Passkey{
		ID: newID("key_"), Name: c.Name, Synced: credential.Flags.BackupEligible, Created: store.Moment(time.Now().UnixMilli()),
		user: c.User, credential: *credential,
	}
	for _, t := range credential.Transport {
		if isWord(string(t)) && len(p.Transports) < 8 {
			p.Transports = append(p.Transports, string(t))
		}
	}
	detail := map[string]string{"passkey": p.ID, "name": p.Name}
	err = d.factor(ctx, by, "users.passkeys.add", detail, func(tx *sql.Tx) error {
		first, err := once(ctx, tx, c.Challenge, store.Moment(c.Until))
		if err != nil {
			return err
		}
		if !first {
			return fmt.Errorf("%w: this answer was used before", ErrPasskey)
		}
		return p.insert(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Passkeys returns the passkeys of a user, oldest first.
func (d *Directory) Passkeys(ctx context.Context, user string) ([]Passkey, error) {
	return d.passkeys(ctx, `WHERE user_id = $1`, user)
}

func (d *Directory) passkeys(ctx context.Context, where, arg string) (list []Passkey, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		list, err = selectPasskeys(ctx, tx, where, arg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("identity: passkeys: %w", err)
	}
	return list, nil
}

// RemovePasskey takes a passkey of the user out of use. [ErrInvalid] when there is
// none of that id; [ErrLast] when the user would have no way to sign in.
func (d *Directory) RemovePasskey(ctx context.Context, by By, id string) error {
	return d.factor(ctx, by, "users.passkeys.remove", map[string]string{"passkey": id}, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM passkeys WHERE id = $1 AND user_id = $2 AND (
			EXISTS (SELECT 1 FROM users WHERE id = $2 AND password <> '')
			OR EXISTS (SELECT 1 FROM links WHERE user_id = $2)
			OR (SELECT COUNT(*) FROM passkeys WHERE user_id = $2) > 1)`, id, by.User))
		if err != nil || n == 1 {
			return err
		}
		var found int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM passkeys WHERE id = $1 AND user_id = $2`, id, by.User).Scan(&found); err != nil {
			return err
		}
		if found == 1 {
			return ErrLast
		}
		return fmt.Errorf("%w: there is no such passkey", ErrInvalid)
	})
}

// holder reads a user with the user's passkeys.
func (d *Directory) holder(ctx context.Context, user string) (h holder, err error) {
	if h.user, err = d.User(ctx, user); err != nil {
		return holder{}, err
	}
	h.passkeys, err = d.Passkeys(ctx, user)
	return h, err
}

const keyColumns = `id, user_id, credential, public_key, name, transports, aaguid, attestation,
	backup_eligible, backup_state, sign_count, created, used, copied`

func (p *Passkey) insert(ctx context.Context, tx *sql.Tx) error {
	c := &p.credential
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO passkeys (`+keyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0) ON CONFLICT (credential) DO NOTHING`,
		p.ID, p.user, base64.RawURLEncoding.EncodeToString(c.ID), base64.RawURLEncoding.EncodeToString(c.PublicKey), p.Name,
		strings.Join(p.Transports, " "), hex.EncodeToString(c.Authenticator.AAGUID), c.AttestationFormat,
		truth(c.Flags.BackupEligible), truth(c.Flags.BackupState), int64(c.Authenticator.SignCount), store.Millis(p.Created)))
	if err == nil && n == 0 {
		// WebAuthn §7.1 step 26: another user's credential must not come to be this one's.
		return fmt.Errorf("%w: this one is registered already", ErrPasskey)
	}
	return err
}

func selectPasskeys(ctx context.Context, tx *sql.Tx, where, arg string) ([]Passkey, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+keyColumns+` FROM passkeys `+where+` ORDER BY created, id`, arg) //nolint:gosec // where is a constant of this file, the value goes in arg
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []Passkey
	for rows.Next() {
		var p Passkey
		var credential, key, transports, aaguid string
		var eligible, state, count, created, used, copied int64
		c := &p.credential
		err := rows.Scan(&p.ID, &p.user, &credential, &key, &p.Name, &transports, &aaguid, &c.AttestationFormat, &eligible, &state, &count, &created, &used, &copied)
		if err != nil {
			return nil, err
		}
		var damaged [3]error
		c.ID, damaged[0] = base64.RawURLEncoding.DecodeString(credential)
		c.PublicKey, damaged[1] = base64.RawURLEncoding.DecodeString(key)
		c.Authenticator.AAGUID, damaged[2] = hex.DecodeString(aaguid)
		if err := errors.Join(damaged[:]...); err != nil || len(c.ID) == 0 || len(c.PublicKey) == 0 {
			return nil, fmt.Errorf("passkey %s in the database is damaged", p.ID)
		}
		p.Transports = strings.Fields(transports)
		for _, t := range p.Transports {
			c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
		}
		c.Authenticator.SignCount = uint32(count)
		c.Flags.BackupEligible, c.Flags.BackupState = eligible == 1, state == 1
		p.Synced = c.Flags.BackupEligible
		p.Created, p.Used, p.Copied = store.Moment(created), store.Moment(used), store.Moment(copied)
		list = append(list, p)
	}
	return list, rows.Err()
}
