package oauth

import (
	"context"
	"embed"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("oauth", migrations) }

// A Profile is a set of rules for all clients, switched as one.
type Profile string

// The profiles.
const (
	OAuth21 Profile = "oauth21" // draft-ietf-oauth-v2-1 with RFC 9700
	FAPI2   Profile = "fapi2"   // FAPI 2.0 Security Profile: confidential, sender-constrained, pushed requests
	MCP     Profile = "mcp"     // Model Context Protocol: resource indicators required, metadata documents welcome
)

// Config says what a [Server] works with. Issuer, DB, Keys, Seal, People and Log
// are required.
type Config struct {
	Issuer    string  // https URL without query and fragment, path allowed (RFC 8414 §2)
	Profile   Profile // "": oauth21
	DB        *store.DB
	Keys      Keyring // ES256 first, RS256 and EdDSA for clients that ask
	Seal      *token.Sealer
	People    *identity.Directory
	Log       ChangeLog
	Resources []Resource        // what tokens can be for
	Scopes    map[string]string // scope: a sentence for the consent page; openid, profile, email, address, phone and offline_access are known
	Fetch     token.Fetcher     // SSRF-guarded: jwks_uri, metadata documents
	Post      Poster            // SSRF-guarded: back-channel logout; nil: none is sent

	AccessLife    time.Duration              // of access tokens; 0: 10 min, at most 1 h
	CodeLife      time.Duration              // 0: 60 s
	RefreshIdle   time.Duration              // 0: 30 days
	RefreshLife   time.Duration              // of a family; 0: 90 days
	RefreshGrace  time.Duration              // within which the last but one refresh token gives the same successor; 0: 10 s; negative: none
	Registration  string                     // dynamic registration (RFC 7591): "" off, "token" with an initial access token, "open"
	InitialAccess string                     // SHA-256 in hex of the initial access token
	MetadataDocs  []string                   // hosts whose client-id metadata documents are taken; "*": any public host; none: off
	RequireNonce  bool                       // DPoP proofs need a nonce of ours
	DetailTypes   []string                   // authorization_details types known (RFC 9396)
	DetailSchemas map[string]json.RawMessage // JSON Schema of a type; without one any object of that type is taken
	Pages         Look
	SignIns       []SignIn    // where else people sign in
	APIKeys       *authn.Keys // that people may make on their account page; nil: none
	// OnlyOne runs work if this process is the one of its fleet that does it, until it
	// no more is; nil: it always is.
	OnlyOne   func(ctx context.Context, work func(context.Context) error) error
	Proofs    *token.Proofs    // DPoP proofs seen, kept over reloads, see ProofAlgorithms; nil: our own memory of them
	Decrypter *token.Decrypter // opens encrypted tokens whose one reader is this gateway; nil: introspection cannot
}

// Look is what the pages show of their owner.
type Look struct {
	Name  string // of the service, in titles; "": the issuer's host
	Logo  []byte // PNG or SVG shown inside a data-free <img> served by us; nil: none
	Color string // #rrggbb of buttons and links; "": a blue with enough contrast
}

// A SignIn is another place where people can sign in: one of OIDC and LDAP.
type SignIn struct {
	Name  string // of the connector
	Title string // of its button; "": Name
	OIDC  *upstream.OIDC
	LDAP  *upstream.LDAP // asked about passwords typed into our page
}

// A Resource is an API that tokens can be for.
type Resource struct {
	ID         string          // resource indicator (RFC 8707): an absolute URI without fragment; aud of its tokens
	Name       string          // for people
	Scopes     []string        // those that mean something there; none: any
	Format     string          // of access tokens: "jwt" (default), "opaque", "encrypted"
	Algorithm  token.Algorithm // of its JWTs; "": the client's, or ES256
	Key        json.RawMessage // public JWK that tokens are encrypted to, for "encrypted"
	Life       time.Duration   // of its access tokens; 0: Config.AccessLife
	Introspect []string        // client ids that may introspect its tokens (and see its opaque ones)
}

// A Keyring signs with one key for each algorithm; [*token.Keyring] is one.
type Keyring interface {
	Sign(alg token.Algorithm, typ string, claims []byte) (string, error) // "": the first algorithm
	JWKS() []byte
}

// A ChangeLog keeps changes for ever; [*auditlog.Changes] is one. What it can not
// keep must not happen.
type ChangeLog interface {
	Append(ctx context.Context, c auditlog.Change) error
}

// A Poster sends a form to a URL of a client's, for back-channel logout.
type Poster interface {
	Post(ctx context.Context, url, contentType string, body []byte) (status int, err error)
}

// Metadata is a client as RFC 7591 §2, OpenID Connect Registration §2, RFC 8705,
// RFC 9101, RFC 9126, RFC 9396 and RFC 9449 name its parts. What begins with
// gatehouse_ is ours and only an operator may set it.
type Metadata struct {
	ClientName              string          `json:"client_name,omitempty"`
	ClientURI               string          `json:"client_uri,omitempty"`
	LogoURI                 string          `json:"logo_uri,omitempty"` // never fetched, never shown: its host would see who signs in
	PolicyURI               string          `json:"policy_uri,omitempty"`
	TOSURI                  string          `json:"tos_uri,omitempty"`
	Contacts                []string        `json:"contacts,omitempty"`
	SoftwareID              string          `json:"software_id,omitempty"`
	SoftwareVersion         string          `json:"software_version,omitempty"`
	ApplicationType         string          `json:"application_type,omitempty"` // web, native; "": native when all redirect URIs are on the user's machine
	RedirectURIs            []string        `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs  []string        `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI    string          `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSID    bool            `json:"backchannel_logout_session_required,omitempty"`
	ResponseTypes           []string        `json:"response_types,omitempty"` // code only
	GrantTypes              []string        `json:"grant_types,omitempty"`
	Scope                   string          `json:"scope,omitempty"`                      // what it may ask for, at most
	TokenEndpointAuthMethod string          `json:"token_endpoint_auth_method,omitempty"` // client_secret_basic (default), client_secret_post, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none
	TokenEndpointAuthAlg    string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS                    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI                 string          `json:"jwks_uri,omitempty"`
	TLSSubjectDN            string          `json:"tls_client_auth_subject_dn,omitempty"`
	TLSSANDNS               string          `json:"tls_client_auth_san_dns,omitempty"`
	TLSSANURI               string          `json:"tls_client_auth_san_uri,omitempty"`
	TLSBoundTokens          bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DPoPBoundTokens         bool            `json:"dpop_bound_access_tokens,omitempty"`
	RequirePAR              bool            `json:"require_pushed_authorization_requests,omitempty"`
	IDTokenAlg              string          `json:"id_token_signed_response_alg,omitempty"` // ES256 (default here), RS256, EdDSA
	SubjectType             string          `json:"subject_type,omitempty"`                 // public
	DefaultMaxAge           *int64          `json:"default_max_age,omitempty"`
	RequireAuthTime         bool            `json:"require_auth_time,omitempty"`
	DefaultACR              []string        `json:"default_acr_values,omitempty"`
	DetailTypes             []string        `json:"authorization_details_types,omitempty"`

	AccessTokenAlg string   `json:"gatehouse_access_token_alg,omitempty"` // of its JWT access tokens; "": ES256
	Resources      []string `json:"gatehouse_resources,omitempty"`        // it may ask tokens for; none: any configured
	Roles          []string `json:"gatehouse_roles,omitempty"`            // of its own (client_credentials)
	Tenant         string   `json:"gatehouse_tenant,omitempty"`
	Trusted        bool     `json:"gatehouse_trusted,omitempty"`  // ours: no consent page
	Exchange       []string `json:"gatehouse_exchange,omitempty"` // clients whose tokens it may exchange (RFC 8693); "*": any
}

// A Client is a registered program. Its id is never a user's: those begin with usr_.
type Client struct {
	ID string `json:"client_id"`
	Metadata
	Origin    string    `json:"gatehouse_origin"` // "operator", "registered" (RFC 7591) or "document" (client-id metadata)
	Disabled  bool      `json:"gatehouse_disabled,omitempty"`
	Created   time.Time `json:"gatehouse_created,omitzero"`
	CreatedBy string    `json:"gatehouse_created_by,omitempty"`
	Updated   time.Time `json:"gatehouse_updated,omitzero"`
	LastUsed  time.Time `json:"gatehouse_last_used,omitzero"` // to the minute
	Secrets   []Secret  `json:"gatehouse_secrets,omitempty"`
	Version   int64     `json:"gatehouse_version"`
}

// A Secret is a client secret as lists show it: everything but the secret. Two may
// be live at once, so that it can be changed without an outage.
type Secret struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	NotAfter time.Time `json:"not_after,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// Public reports whether anybody could be this client: it has nothing to prove
// itself with.
func (c *Client) Public() bool { return c.TokenEndpointAuthMethod == "none" }

// A proven is a client that has just proved who it is, at one request.
type proven struct {
	*Client
	Method string    // how: a token_endpoint_auth_method
	X5T    string    // SHA-256 of the certificate of its connection, base64url; "" without one
	JKT    string    // thumbprint of the key of its DPoP proof; "" without one
	Since  time.Time // what this request knows of the client and its user is not older
}

// A grant is what a user, or a client for itself, has granted: one row, whatever
// number of tokens came of it. It is the family of its refresh tokens.
type grant struct {
	ID       string // "grt_…"
	Client   string
	User     string // "" when the client acts for itself
	SID      string // session it came from
	Scopes   []string
	Resource []string        // resource indicators granted
	Details  json.RawMessage // authorization_details granted; nil for none
	Claims   json.RawMessage // claims request parameter (OpenID Connect Core §5.5); nil for none
	ACR      string
	AMR      []string
	AuthTime time.Time
	JKT      string // key the refresh tokens of a public client are bound to
	X5T      string
	Offline  bool // outlives the session it came from
	Gen      int64
	Rotated  time.Time // when Gen became what it is
	Created  time.Time
	Expires  time.Time // absolute
	Idle     time.Time
	Revoked  time.Time
}

// An authRequest is an authorization request whose every part has been judged.
type authRequest struct {
	Client       string          `json:"client"`
	RedirectURI  string          `json:"redirect_uri"`
	State        string          `json:"state,omitempty"`
	Nonce        string          `json:"nonce,omitempty"`
	Challenge    string          `json:"challenge"` // S256
	Scopes       []string        `json:"scopes,omitempty"`
	Resource     []string        `json:"resource,omitempty"`
	Details      json.RawMessage `json:"details,omitempty"`
	Claims       json.RawMessage `json:"claims,omitempty"`
	Prompt       []string        `json:"prompt,omitempty"`
	MaxAge       *int64          `json:"max_age,omitempty"` // seconds
	ACR          []string        `json:"acr,omitempty"`
	ACREssential bool            `json:"acr_essential,omitempty"`
	LoginHint    string          `json:"login_hint,omitempty"`
	IDTokenHint  string          `json:"id_token_hint,omitempty"` // sub of it, checked
	UILocales    string          `json:"ui_locales,omitempty"`
	JKT          string          `json:"jkt,omitempty"`           // dpop_jkt or the PAR proof's (RFC 9449 §10)
	ResponseMode string          `json:"response_mode,omitempty"` // query (default), form_post
	Pushed       bool            `json:"pushed,omitempty"`
	Reference    string          `json:"reference,omitempty"` // digest of the request_uri it was brought by
}

// A tokenResponse is the answer of the token endpoint (RFC 6749 §5.1).
type tokenResponse struct {
	AccessToken     string          `json:"access_token"`
	TokenType       string          `json:"token_type"` // Bearer, DPoP, N_A (RFC 8693)
	ExpiresIn       int64           `json:"expires_in,omitempty"`
	RefreshToken    string          `json:"refresh_token,omitempty"`
	Scope           string          `json:"scope,omitempty"`
	IDToken         string          `json:"id_token,omitempty"`
	IssuedTokenType string          `json:"issued_token_type,omitempty"`
	Details         json.RawMessage `json:"authorization_details,omitempty"`
}

// A handler answers one endpoint; its error is written in one place, see fail.
type handler func(w http.ResponseWriter, r *http.Request) error
