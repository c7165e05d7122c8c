package config

import "time"

// OwnIssuer is the name in authenticate of the tokens our own authorization server
// issues.
const OwnIssuer = "gatehouse"

// OAuth is the central authorization server. Its endpoints are served on the
// listeners, under the issuer's host and path.
type OAuth struct {
	Issuer       Text                   `yaml:"issuer" required:"true" format:"issuer" doc:"https URL callers reach us by, with a path or without: the iss of our tokens (RFC 8414)."`
	Profile      string                 `yaml:"profile" default:"oauth21" enum:"oauth21 fapi2 mcp" doc:"Rules for all clients: oauth21 (RFC 9700), fapi2 (FAPI 2.0 Security Profile), mcp (Model Context Protocol)."`
	AccessToken  AccessToken            `yaml:"access_token" doc:"What access tokens are like, unless a resource says otherwise."`
	RefreshToken RefreshToken           `yaml:"refresh_token" doc:"How long a client may stay signed in."`
	Code         time.Duration          `yaml:"code" default:"60s" min:"5s" max:"10m" doc:"Life of an authorization code."`
	Scopes       map[string]string      `yaml:"scopes" keys:"scope" doc:"Scopes, and what each permits in a sentence for the consent page."`
	Resources    map[string]*Resource   `yaml:"resources" keys:"name" doc:"APIs elsewhere that tokens can be for (RFC 8707). The APIs behind this gateway are known already."`
	DPoP         DPoP                   `yaml:"dpop" doc:"Tokens bound to a key of the client (RFC 9449)."`
	Details      map[string]*DetailType `yaml:"authorization_details" keys:"detail" doc:"Types of authorization_details (RFC 9396) that clients may ask for."`
	Registration Registration           `yaml:"registration" doc:"How clients may come to be known other than by 'gatehouse clients create'."`
	Internal     []Text                 `yaml:"internal_hosts" format:"anyhost" max:"100" doc:"Hosts with private addresses that clients' URLs (back-channel logout, jwks_uri) may name. Others must be public."`
	Limits       []Limit                `yaml:"limits" max:"32" doc:"How often the endpoints may be called. Guessing is slowed down without them."`
	Look         Look                   `yaml:"look" doc:"What the sign-in pages show of you."`
	Place        Place                  `yaml:"-"`
}

// AccessToken is how access tokens are made.
type AccessToken struct {
	Life   time.Duration `yaml:"life" default:"10m" min:"10s" max:"1h" doc:"How long one is good."`
	Format string        `yaml:"format" default:"jwt" enum:"jwt opaque encrypted" doc:"jwt (RFC 9068); opaque: only this gateway and who may introspect it can read it; encrypted: a JWT only its one reader can open."`
}

// RefreshToken is how families of refresh tokens live.
type RefreshToken struct {
	Idle  time.Duration `yaml:"idle" default:"720h" min:"1m" max:"8760h" doc:"A family not used for so long ends."`
	Life  time.Duration `yaml:"life" default:"2160h" min:"1m" max:"87600h" doc:"A family ends after this, used or not."`
	Grace time.Duration `yaml:"grace" default:"10s" min:"0s" max:"1m" doc:"Within it the token used last gives the same successor again: a lost answer or two tabs sign nobody out."`
}

// A Resource is an API that is not behind this gateway.
type Resource struct {
	ID         Text           `yaml:"id" required:"true" format:"resource" doc:"Resource indicator (RFC 8707): the aud of its tokens."`
	Scopes     []Text         `yaml:"scopes" format:"scope" doc:"Scopes that mean something there. Default: any."`
	Format     string         `yaml:"format" enum:"jwt opaque encrypted" doc:"Of its access tokens. Default: access_token.format."`
	Algorithm  string         `yaml:"algorithm" enum:"ES256 RS256 EdDSA" doc:"Its JWTs are signed with. Default: ES256."`
	Life       *time.Duration `yaml:"life" min:"10s" max:"1h" doc:"Of its access tokens. Default: access_token.life."`
	Key        *Path          `yaml:"key" doc:"File with the public JWK its tokens are encrypted to, for encrypted."`
	Introspect []Text         `yaml:"introspect" doc:"Ids of the clients that may introspect its tokens (RFC 7662)."`
	Place      Place          `yaml:"-"`
}

// DPoP is how proofs of possession are asked for.
type DPoP struct {
	Nonce bool `yaml:"nonce" doc:"A proof must carry a nonce of ours (RFC 9449 §8): one made in advance is worth nothing."`
}

// A DetailType is one type of authorization_details.
type DetailType struct {
	Schema *Path `yaml:"schema" carried:"true" doc:"File with the JSON Schema of its objects. Default: any object of that type."`
	Place  Place `yaml:"-"`
}

// Registration is how clients make themselves known.
type Registration struct {
	Dynamic       string  `yaml:"dynamic" default:"off" enum:"off token open" doc:"Dynamic registration (RFC 7591): token asks for the initial access token, open takes anybody."`
	InitialAccess *Secret `yaml:"initial_access_token" doc:"For dynamic: token."`
	Documents     []Text  `yaml:"metadata_documents" format:"anyhost" max:"100" doc:"Hosts whose client-id metadata documents are fetched and believed; '*': any public host. Default: none."`
	Place         Place   `yaml:"-"`
}

// Look is what the pages show.
type Look struct {
	Name  string `yaml:"name" doc:"Name of the service in titles. Default: the issuer's host."`
	Logo  *Path  `yaml:"logo" carried:"true" doc:"PNG or SVG file shown above the forms."`
	Color string `yaml:"color" format:"color" doc:"Colour of buttons and links, as #rrggbb."`
}

// Identity is who the people are and how they prove it.
type Identity struct {
	Passwords Passwords            `yaml:"passwords" doc:"Rules for passwords (NIST SP 800-63B-4)."`
	Sessions  Sessions             `yaml:"sessions" doc:"How long somebody stays signed in in one browser."`
	Mail      Mail                 `yaml:"mail" doc:"How mails are sent. Default: into a folder, to be read by hand."`
	Upstreams map[string]*SignInAt `yaml:"upstreams" keys:"name" doc:"Where else people can sign in."`
	SCIM      SCIM                 `yaml:"scim" doc:"Users and groups provisioned by another system (RFC 7644)."`
	Place     Place                `yaml:"-"`
}

// Passwords are the rules for passwords.
type Passwords struct {
	Minimum  int   `yaml:"minimum" default:"15" min:"8" max:"64" doc:"Characters, where the password is all there is."`
	Second   int   `yaml:"minimum_with_second_factor" default:"8" min:"8" max:"64" doc:"Characters, where another factor is asked for as well."`
	Breached *Path `yaml:"breached" doc:"File of known passwords: SHA-1 in hex, sorted, as Have I Been Pwned offers it. Default: a list of the most common ones."`
	Hashes   int   `yaml:"hashes" min:"0" max:"1024" doc:"Passwords hashed at once, 19 MiB of memory each. Default: one for each processor."`
}

// Sessions are how long sessions last.
type Sessions struct {
	Idle time.Duration `yaml:"idle" default:"30m" min:"1m" max:"720h" doc:"Ends without a request for so long."`
	Life time.Duration `yaml:"life" default:"12h" min:"1m" max:"2160h" doc:"Ends after this, used or not."`
}

// Mail is how mails leave.
type Mail struct {
	Outbox Path  `yaml:"outbox" doc:"Folder where mails are put as files. Default: outbox in the data folder, unless smtp is given."`
	SMTP   *SMTP `yaml:"smtp" doc:"Server that sends them."`
}

// SMTP is a mail server.
type SMTP struct {
	Address  string  `yaml:"address" required:"true" format:"address" doc:"host:port, like mail.example.com:587."`
	From     string  `yaml:"from" required:"true" doc:"Address mails come from."`
	User     string  `yaml:"user" doc:"To sign in with. Default: without."`
	Password *Secret `yaml:"password" doc:"Its password."`
	TLS      string  `yaml:"tls" default:"starttls" enum:"starttls implicit none" doc:"none only on this machine."`
	CA       *Path   `yaml:"ca" doc:"PEM file with the CA certificates that sign the server's. Default: the system's."`
	Place    Place   `yaml:"-"`
}

// SignInAt is another place where people sign in: exactly one of OIDC and LDAP.
type SignInAt struct {
	OIDC  *UpstreamOIDC `yaml:"oidc" doc:"An OpenID Connect provider."`
	LDAP  *UpstreamLDAP `yaml:"ldap" doc:"A directory that checks the passwords typed into our page."`
	Place Place         `yaml:"-"`
}

// UpstreamOIDC is an OpenID Connect provider people sign in at.
type UpstreamOIDC struct {
	Preset   string               `yaml:"preset" enum:"google microsoft gitlab" doc:"A provider whose settings are known."`
	Issuer   Text                 `yaml:"issuer" format:"issuer" doc:"Its issuer URL, unless the preset has it."`
	Tenant   string               `yaml:"tenant" doc:"For microsoft: the directory's id."`
	ClientID string               `yaml:"client_id" required:"true" doc:"Ours there. Redirect URI: {our issuer}/signin/upstream/{name}/callback."`
	Secret   *Secret              `yaml:"client_secret" doc:"Ours there."`
	Scopes   []Text               `yaml:"scopes" format:"scope" doc:"Asked for beside openid. Default: profile email."`
	Title    string               `yaml:"title" doc:"Text of its button. Default: its name here."`
	Groups   string               `yaml:"groups" format:"claim" doc:"Claim with the groups there. Default: groups."`
	Require  map[string]OneOrMany `yaml:"require" doc:"A claim: values of which it must have one, like {hd: example.com} for one company of a provider of many."`
	ACR      map[string]string    `yaml:"acr" doc:"Its acr: ours (aal1, aal2, phr). Default: one factor."`
	Create   bool                 `yaml:"create" doc:"Whoever signs in there becomes a user here. Default: only users that are linked."`
	Link     bool                 `yaml:"link_by_email" doc:"Link by an e-mail address that both sides have verified."`
	Believe  bool                 `yaml:"trust_email" doc:"Addresses it calls verified are; a directory's: all it has."`
	Roles    map[string]OneOrMany `yaml:"roles" doc:"A group there: roles here. Other groups give nothing."`
	Place    Place                `yaml:"-"`
}

// UpstreamLDAP is a directory that checks passwords.
type UpstreamLDAP struct {
	URL      Text                 `yaml:"url" required:"true" format:"ldap" doc:"ldaps://host:636, or ldap://host:389 with STARTTLS."`
	BindDN   string               `yaml:"bind_dn" required:"true" doc:"Who searches."`
	Password *Secret              `yaml:"bind_password" required:"true" doc:"Its password."`
	Base     string               `yaml:"base_dn" required:"true" doc:"Where people are."`
	Filter   string               `yaml:"filter" default:"(uid={login})" doc:"Finds one person; {login} is what was typed, escaped."`
	Subject  string               `yaml:"subject" default:"entryUUID" doc:"Attribute that never changes and is nobody else's; objectGUID for Active Directory."`
	Name     string               `yaml:"name" default:"uid" doc:"Attribute with the login name."`
	Mail     string               `yaml:"mail" default:"mail" doc:"Attribute with the e-mail address."`
	Groups   string               `yaml:"groups" doc:"Attribute with the DNs of the groups, like memberOf."`
	GroupsIn string               `yaml:"group_base_dn" doc:"Groups right below are named by their first value, others by their DN."`
	CA       *Path                `yaml:"ca" doc:"PEM file with the CA certificates that sign the server's. Default: the system's."`
	Create   bool                 `yaml:"create" doc:"Whoever signs in there becomes a user here. Default: only users that are linked."`
	Link     bool                 `yaml:"link_by_email" doc:"Link by an e-mail address that both sides have verified."`
	Believe  bool                 `yaml:"trust_email" doc:"Addresses it calls verified are; a directory's: all it has."`
	Roles    map[string]OneOrMany `yaml:"roles" doc:"A group there: roles here. Other groups give nothing."`
	Place    Place                `yaml:"-"`
}

// SCIM is where another system provisions users.
type SCIM struct {
	Base      string `yaml:"base" format:"base" doc:"Path it is served under, like /scim/v2; callers need a role that grants gatehouse.scim:read and gatehouse.scim:write, and gatehouse.roles:write for people and groups with roles that open more of Gatehouse itself. Default: it is not."`
	Passwords bool   `yaml:"passwords" doc:"Take passwords from the provisioning system. Default: people set their own, or sign in elsewhere."`
	Believe   bool   `yaml:"trust_email" doc:"Addresses it gives are verified."`
}

// AdminAPI is the management API.
type AdminAPI struct {
	Base  string   `yaml:"base" format:"base" doc:"Path it is served under on the listeners, like /gatehouse/v1; callers need roles that grant gatehouse.users:read and the like. Default: it is not."`
	Hosts []string `yaml:"hosts" format:"host" max:"100" doc:"Host names under which it is served. Default: any."`
}
