package config

import (
	"net/netip"
	"time"
)

// The tags of a field are its whole definition; decode.go and schema.go read them:
//
//	yaml      its key; "-" is not in the file
//	doc       one sentence for the reader, in the schema
//	required  "true": must be given
//	default   the text taken when left out
//	enum      the words it takes, separated by spaces
//	format    a shape of text, see format.go; on a list or map: of each element
//	keys      the format of a map's keys
//	min, max  bounds of a number, a duration, a size or a list's length, inclusive
//	carried   "true": the file it names goes along when a config is pushed to a database; never a key or a certificate
//
// A field of type Place is filled with where its struct began.

// A File is a whole configuration: gatehouse.yaml and what it includes. It is
// read-only after [Load].
type File struct {
	Version            int                `yaml:"gatehouse" required:"true" min:"1" max:"1" doc:"Version of this file's format: 1."`
	Environment        string             `yaml:"environment" default:"live" format:"environment" doc:"Names this environment in API keys: gk_live_…"`
	Data               Path               `yaml:"data" default:"./data" doc:"Folder for the database, unless there is a database of its own, the local CA and the events."`
	Include            []Text             `yaml:"include" max:"64" doc:"Files or globs, relative to this file, which hold only apis and tests: one file for each API's team."`
	Listeners          []Listener         `yaml:"listeners" max:"64" doc:"Where callers connect. Default: 127.0.0.1:8443 with a certificate of our own CA."`
	Admin              Admin              `yaml:"admin" doc:"Where /healthz, /livez, /readyz and /metrics are served: never on a caller's listener."`
	Issuers            map[string]*Issuer `yaml:"issuers" keys:"name" doc:"Authorization servers whose JWTs are taken, by the name used in authenticate."`
	DDoS               DDoS               `yaml:"ddos" doc:"Callers who send too much: challenge, throttle, ban."`
	Networks           Networks           `yaml:"networks" doc:"What is known about addresses: lists of your own, autonomous systems, countries."`
	APIKeys            APIKeys            `yaml:"api_keys" doc:"API keys, as 'gatehouse keys create' makes them."`
	ClientCertificates ClientCertificates `yaml:"client_certificates" doc:"Whom a verified client certificate stands for."`
	Roles              map[string]*Role   `yaml:"roles" keys:"name" doc:"Roles and what they may do."`
	OAuth              *OAuth             `yaml:"oauth" doc:"The central OAuth 2.1 and OpenID Connect server. Default: there is none."`
	Identity           Identity           `yaml:"identity" doc:"The people who sign in at the OAuth server."`
	Guardrails         []Guardrail        `yaml:"guardrails" max:"256" doc:"Rules which every operation of every API must satisfy, public ones included."`
	WAF                WAF                `yaml:"waf" doc:"Rules that look for attacks in the content of requests and answers: the OWASP Core Rule Set and your own."`
	Database           *Database          `yaml:"database" doc:"Where API keys, clients, people, grants, quotas and bans are kept for several nodes. Default: a file in data, for one node."`
	Shared             *Shared            `yaml:"shared" doc:"Where the nodes of a fleet count limits together, remember what was used once and tell one another. Default: memory of this process."`
	Fleet              *Fleet             `yaml:"fleet" doc:"Several nodes over one database that are one house. Default: a node of its own, with its keys in the data folder."`
	Limits             []Limit            `yaml:"limits" max:"32" doc:"Limits of all APIs together. What they count by address, network, asn or country is counted before a request is matched: who looks for doors is counted, too."`
	LimitHeaders       string             `yaml:"limit_headers" default:"standard" enum:"standard both none" doc:"How callers learn what is left: standard, by RateLimit and RateLimit-Policy of the IETF's draft; both, by X-RateLimit-Limit, -Remaining and -Reset (in seconds) as well; none, by the Retry-After of a refusal alone."`
	Cache              Cache              `yaml:"cache" doc:"Answers of services that are kept, for operations that declare it."`
	Events             Events             `yaml:"events" doc:"The record of every request."`
	Drain              Drain              `yaml:"drain" doc:"How the gateway ends when it is told to."`
	APIs               map[string]*API    `yaml:"apis" keys:"name" doc:"The APIs, by name."`
	Tests              []Test             `yaml:"tests" max:"10000" doc:"What must be allowed and denied: run by 'gatehouse test' and before each reload."`
	Digest             string             `yaml:"-"` // SHA-256 in hex over the names and contents of all files read, secrets' files excepted
	Files              []string           `yaml:"-"` // absolute paths of the files read, the main one first
	Carried            []string           `yaml:"-"` // of a pushed config, the files that come along with it but those that documents refer to: absolute paths
	Place              Place              `yaml:"-"`

	behind string // see Behind
	own    string // digest of the node's own file, where this was pushed
}

// A Listener is one address callers connect to.
type Listener struct {
	Address            string         `yaml:"address" required:"true" format:"address" doc:"host:port; port 0 takes a free one."`
	TLS                *TLS           `yaml:"tls" doc:"How this listener proves itself. Default: a certificate of our own CA for localhost."`
	Plaintext          string         `yaml:"plaintext" doc:"Why this listener has no TLS, in a sentence: anyone on the way can read and change what passes."`
	ClientCertificates *ClientAuth    `yaml:"client_certificates" doc:"Ask callers for certificates (mutual TLS)."`
	TrustedHops        []netip.Prefix `yaml:"trusted_hops" max:"256" doc:"Networks of the proxies in front of us, whose word on the caller's address is believed."`
	ForwardedHeader    string         `yaml:"forwarded_header" default:"x-forwarded-for" enum:"x-forwarded-for forwarded" doc:"The one header in which trusted hops tell the caller's address."`
	ProxyProtocol      *ProxyProtocol `yaml:"proxy_protocol" doc:"Proxies that say by the PROXY protocol whose connection they pass on."`
	Edge               *Edge          `yaml:"edge" doc:"The CDN in front of this listener. What did not come through it is refused."`
	Timeouts           Timeouts       `yaml:"timeouts" doc:"How long a caller may take."`
	Limits             ListenerLimits `yaml:"limits" doc:"How much a caller may take."`
	Place              Place          `yaml:"-"`
}

// TLS is how a listener proves itself: by a certificate from files, or by one of
// the gateway's own local CA.
type TLS struct {
	Self        []string `yaml:"self" format:"host" max:"100" doc:"Names for a certificate of our own local CA, renewed by itself."`
	Certificate *Path    `yaml:"certificate" doc:"PEM file with the certificate and its chain; read again when it changes."`
	Key         *Path    `yaml:"key" doc:"PEM file with the private key."`
	Place       Place    `yaml:"-"`
}

// ClientAuth is what a listener asks callers for in the TLS handshake.
type ClientAuth struct {
	Mode  string `yaml:"mode" default:"optional" enum:"optional required any" doc:"required: no handshake without a certificate; any: whoever signed it, for tokens and OAuth clients bound to a self-signed certificate (RFC 8705): it proves a key, never a name."`
	CA    *Path  `yaml:"ca" doc:"PEM file with the CA certificates that sign callers' certificates; unless mode is any."`
	Place Place  `yaml:"-"`
}

// Timeouts bound what one caller can hold.
type Timeouts struct {
	Head     time.Duration `yaml:"head" default:"5s" min:"100ms" max:"1m" doc:"For the whole head of a request."`
	Idle     time.Duration `yaml:"idle" default:"60s" min:"1s" max:"1h" doc:"Between two requests of a connection."`
	BodyIdle time.Duration `yaml:"body_idle" default:"10s" min:"100ms" max:"10m" doc:"Without a byte of a body."`
	TakeIdle time.Duration `yaml:"take_idle" default:"30s" min:"100ms" max:"10m" doc:"Without taking a byte of the answer."`
	Shake    time.Duration `yaml:"handshake" default:"5s" min:"100ms" max:"1m" doc:"For a whole TLS handshake."`
}

// ListenerLimits bound what callers can occupy.
type ListenerLimits struct {
	HeaderBytes           Size `yaml:"header_bytes" default:"32KiB" min:"1KiB" max:"1MiB" doc:"Of one request's head."`
	Connections           int  `yaml:"connections" default:"10000" min:"1" max:"10000000" doc:"Open at once."`
	ConnectionsPerAddress int  `yaml:"connections_per_address" default:"256" min:"1" max:"10000000" doc:"Open at once from one address (an IPv6 /64)."`
	Handshakes            int  `yaml:"handshakes" default:"1024" min:"16" max:"1000000" doc:"TLS handshakes at once; one address has a sixteenth of them."`
	BodyRate              Size `yaml:"body_rate" default:"240B" min:"1B" max:"1GiB" doc:"Of a body a second at least, once it has been waited for as long as timeouts.body_idle."`
	Streams               int  `yaml:"streams" default:"100" min:"1" max:"10000" doc:"HTTP/2 requests at once on a connection."`
	Resets                int  `yaml:"resets" default:"200" min:"10" max:"1000000" doc:"HTTP/2 requests of a connection taken back before they were answered, above those answered, and a tenth of it more each second. Beyond that it is closed."`
	Overhead              int  `yaml:"overhead" default:"2000" min:"10" max:"10000000" doc:"HTTP/2 frames of a connection that carry nothing, such as PING and SETTINGS, and a tenth of it more each second. Beyond that it is closed."`
}

// Admin is the operator's listener.
type Admin struct {
	Address string   `yaml:"address" default:"127.0.0.1:9443" format:"address" doc:"host:port. Beyond loopback it needs tls and token."`
	TLS     *TLS     `yaml:"tls" doc:"How the admin listener proves itself."`
	Token   *Secret  `yaml:"token" doc:"Bearer token asked for by /metrics and the details of /healthz."`
	API     AdminAPI `yaml:"api" doc:"The management API: users, groups, clients, grants, tokens."`
	Place   Place    `yaml:"-"`
}

// An Issuer is an authorization server whose JWTs are accepted (RFC 9068, RFC 8725).
type Issuer struct {
	Issuer     Text                 `yaml:"issuer" required:"true" format:"issuer" doc:"Exact value of iss (RFC 8414): an https URL."`
	Audience   OneOrMany            `yaml:"audience" required:"true" min:"1" doc:"One of these must be in aud; a token for somebody else is refused."`
	JWKS       Text                 `yaml:"jwks" format:"jwks" doc:"URL or file of its keys. Default: found by discovery (RFC 8414) at the issuer."`
	Algorithms []string             `yaml:"algorithms" default:"ES256 EdDSA RS256 PS256" enum:"ES256 ES384 ES512 EdDSA RS256 RS384 RS512 PS256 PS384 PS512" doc:"Signature algorithms taken; symmetric ones and none never are."`
	Type       string               `yaml:"typ" default:"at+jwt" enum:"at+jwt any" doc:"What the token's typ must be (RFC 9068 §2.1); any: for issuers that do not set it."`
	Leeway     time.Duration        `yaml:"leeway" default:"30s" min:"0s" max:"5m" doc:"Difference of clocks allowed."`
	Claims     map[string]*Claim    `yaml:"claims" keys:"claim" doc:"Claims that rules may use, with their types: string, integer, number, boolean, any, [type] or {name: type}."`
	Roles      string               `yaml:"roles" default:"roles" format:"claim" doc:"Claim with the caller's roles, like roles, groups or realm_access.roles."`
	RoleMap    map[string]OneOrMany `yaml:"role_map" doc:"The issuer's role: ours. Without it names are taken as they are; a role not under roles: is dropped."`
	Tenant     string               `yaml:"tenant" format:"claim" doc:"Claim that names the tenant."`
	Own        bool                 `yaml:"-"` // the authorization server of this very house
	Place      Place                `yaml:"-"`
}

// APIKeys says whether keys made by the gateway are accepted.
type APIKeys struct {
	Enabled bool   `yaml:"enabled" default:"true" doc:"Take API keys where an operation's security asks for one."`
	Header  string `yaml:"header" default:"X-API-Key" format:"header" doc:"Header in which callers send them where the document names none; Authorization: Bearer gk_… works too."`
	Place   Place  `yaml:"-"`
}

// ClientCertificates maps certificates to what their holders may do.
type ClientCertificates struct {
	Subjects map[string]*CertificateSubject `yaml:"subjects" doc:"By exact subject alternative name: a spiffe:// URI, a DNS name or an e-mail address."`
}

// A CertificateSubject is what one certificate name stands for.
type CertificateSubject struct {
	Roles  []Text `yaml:"roles" doc:"Roles of the holder."`
	Scopes []Text `yaml:"scopes" format:"scope" doc:"Scopes of the holder."`
	Tenant string `yaml:"tenant" doc:"Tenant of the holder."`
	Place  Place  `yaml:"-"`
}

// A Guardrail is a rule of the organisation: every API must also satisfy it.
// Exactly one of Deny and Require is given.
type Guardrail struct {
	ID      string `yaml:"id" required:"true" format:"name" doc:"Name of the rule, in decisions and tests."`
	Deny    *Text  `yaml:"deny" doc:"CEL expression; when it is true, or fails, the request is denied."`
	Require *Text  `yaml:"require" doc:"CEL expression; unless it is true the request is denied."`
	Because string `yaml:"because" doc:"The reason, in a sentence for the operator."`
	Place   Place  `yaml:"-"`
}

// Drain says how the gateway ends. Settings are those of the start.
type Drain struct {
	Delay  time.Duration `yaml:"delay" default:"0s" min:"0s" max:"5m" doc:"Go on serving for so long with /readyz answering 503, so that load balancers send nothing more. At least two of their probes."`
	Within time.Duration `yaml:"within" default:"15s" min:"1s" max:"10m" doc:"After that, how long requests under way may take to finish."`
}

// Events says where the record goes.
type Events struct {
	Path   Path          `yaml:"path" doc:"Folder of the event files. Default: events in the data folder."`
	Rotate Size          `yaml:"rotate" default:"100MiB" min:"1MiB" max:"16GiB" doc:"Start a new file at this size."`
	Keep   int           `yaml:"keep" default:"30" min:"1" max:"100000" doc:"Files kept; the oldest is deleted."`
	Sync   time.Duration `yaml:"sync" default:"1s" min:"10ms" max:"1m" doc:"How often events are forced to disk: what a power failure may take. A crash of the gateway takes nothing."`
}
