package identity

import (
	"context"
	"embed"
	"errors"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("identity", migrations) }

// Errors of the methods of [Directory].
var (
	// ErrCredentials is the one answer to a sign-in that is not one: who guesses
	// learns neither that a name exists nor that its owner is locked out.
	ErrCredentials = errors.New("the name or the proof is wrong")
	// ErrThrottled tells that this account or source must wait; see [Throttled].
	ErrThrottled = errors.New("too many attempts")
	ErrUnknown   = errors.New("there is no such user or group")
	ErrTaken     = errors.New("the name or address is taken")
	ErrInvalid   = errors.New("identity refused")
	ErrPassword  = errors.New("the password is refused")
	ErrSession   = errors.New("there is no such session, or it has ended")
	ErrCode      = errors.New("the code is wrong, used or expired")
)

// A ChangeLog keeps changes for ever; [*auditlog.Changes] is one. What it can not
// keep must not happen.
type ChangeLog interface {
	Append(ctx context.Context, c auditlog.Change) error
}

// A User is a person, or whoever else signs in.
type User struct {
	ID            string // "usr_…", random, never used again: the sub of tokens
	Name          string // canonical login name, unique
	Email         string // canonical, unique; "" when there is none
	EmailVerified time.Time
	Claims        map[string]any // standard claims (OpenID Connect Core §5.1): name, given_name, locale, address, phone_number…
	Roles         []string       // given directly
	Groups        []string       // names of the groups, sorted
	Effective     []string       // roles of the user and of the groups, sorted
	Tenant        string
	ExternalID    string // of the system that provisions the user (SCIM)
	Source        string // "" when local, or the name of the upstream that signs the user in
	Active        bool
	HasPassword   bool
	ValidFrom     time.Time // what was issued before is dead (lockdown, new password)
	Created       time.Time
	Updated       time.Time
	Version       int64 // of the row, for If-Match
}

// A Group gives its members its roles.
type Group struct {
	ID         string // "grp_…"
	Name       string // unique
	Roles      []string
	Members    []string // ids of users, sorted
	ExternalID string
	Created    time.Time
	Updated    time.Time
	Version    int64
}

// Authentication context classes, weakest first: what [Session.ACR] and a token's
// acr say (RFC 9470; phr is of the OpenID EAP ACR values).
const (
	ACRPassword = "aal1" // one factor
	ACRTwo      = "aal2" // two factors
	ACRPhishing = "phr"  // phishing-resistant: a passkey that verified its user
)

// A Login is a proof that has just been checked: what a session is made of. Its
// zero value is nobody's.
type Login struct {
	User     string   // id
	AMR      []string // RFC 8176: "pwd", "otp", "hwk", "user", "mfa", …
	ACR      string
	AuthTime time.Time
	Second   bool   // another factor must follow before there is a session
	Source   string // upstream that proved it; "" when we did
}

// A Session is one browser in which a user has signed in.
type Session struct {
	ID       string // public id, sid of tokens; the cookie's value is another one
	User     string
	AMR      []string
	ACR      string
	Source   string    // upstream that proved it last; "" when we did
	AuthTime time.Time // of the last full authentication
	Created  time.Time
	Seen     time.Time // to the minute
	Idle     time.Time // ends then without a request
	Expires  time.Time // ends then at the latest
	Address  string
	Agent    string
}

// Config says what a [Directory] works with. DB, Seal, Log and Issuer are required.
type Config struct {
	DB     *store.DB
	Seal   *token.Sealer // seals TOTP secrets and pages' state
	Log    ChangeLog
	Issuer string // https URL under which people reach the pages; origin of passkeys and links
	Mail   Mailer // nil: no mail is sent, and what needs it is refused

	MinPassword       int           // characters, when the password is all there is; 0: 15
	MinPasswordSecond int           // and when a second factor is asked for as well; 0: 8
	Breached          string        // file of SHA-1 hashes in the format of Have I Been Pwned; "": only the built-in list
	HashSlots         int           // argon2id runs at once, 19 MiB each; 0: as many as processors
	SessionIdle       time.Duration // 0: 30 min
	SessionLife       time.Duration // 0: 12 h
	TokenLife         time.Duration // longest life of an access token: how long revocations are kept; 0: 1 h

	// OnlyOne runs work if this process is the one of its fleet that does it, until it
	// no more is; nil: it always is.
	OnlyOne func(ctx context.Context, work func(context.Context) error) error
}

// A Mailer sends one text mail. Its error means that it was not accepted.
type Mailer interface {
	Send(ctx context.Context, to, subject, text string) error
}
