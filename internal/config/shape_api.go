package config

import "time"

// An API is one OpenAPI document, the services behind it and who may do what.
type API struct {
	OpenAPI      Path                  `yaml:"openapi" required:"true" carried:"true" doc:"OpenAPI 3.0 or 3.1 file. What is not in it is closed."`
	Hosts        []string              `yaml:"hosts" format:"host" max:"100" doc:"Host names under which it is served. Default: any."`
	Base         string                `yaml:"base" format:"base" doc:"Path prefix under which it is served. Default: the path of the document's first server, or /."`
	Upstreams    []Text                `yaml:"upstreams" required:"true" min:"1" max:"64" format:"upstream" doc:"URLs of the services that answer: http, https or h2c."`
	Upstream     Upstream              `yaml:"upstream" doc:"How the services are spoken to."`
	Authenticate map[string]*AuthnWith `yaml:"authenticate" doc:"Security scheme of the document: who serves it, as names of issuers (gatehouse: our own authorization server, see oauth), keys or mtls. Default by kind: every issuer for oauth2, openIdConnect and bearer, keys for apiKey, mtls for mutualTLS."`
	Resource     Text                  `yaml:"resource" format:"resource" doc:"Resource indicator of this API (RFC 8707), the aud of tokens for it. Default: the origin of oauth.issuer with the API's base."`
	AccessToken  *APIToken             `yaml:"access_token" doc:"What tokens of our own authorization server for this API are like. Default: oauth.access_token."`
	Metadata     string                `yaml:"resource_metadata" format:"metadata" doc:"URL of this API's protected resource metadata (RFC 9728), named in the challenges of a 401 and 403 so that clients find the authorization server."`
	Limits       []Limit               `yaml:"limits" max:"32" doc:"How often this API may be called."`
	Priority     string                `yaml:"priority" default:"default" enum:"critical default sheddable" doc:"What its operations are worth where a service has not room for all: sheddable ones are refused first, and a fifth of the room is kept for critical ones."`
	Responses    string                `yaml:"responses" default:"off" enum:"off report enforce" doc:"Check answers against the document: report writes what is wrong in the event, enforce answers 502 instead."`
	Unchecked    string                `yaml:"unchecked_patterns" default:"refuse" enum:"refuse skip" doc:"A pattern of the document that cannot be checked safely (look-around, back reference, too large): refuse the document, or leave that pattern unchecked and say so in check."`
	UnknownQuery string                `yaml:"unknown_query" default:"refuse" enum:"refuse drop" doc:"What to do with query parameters the document does not name."`
	WAF          WAFHere               `yaml:"waf" doc:"What the rules for content do differently at this API."`
	MaxBody      Size                  `yaml:"max_body" default:"1MiB" min:"0B" max:"1GiB" doc:"Size of a request body."`
	Decompress   bool                  `yaml:"decompress" doc:"Take request bodies in gzip; they are opened here, bounded, and go on as they are. Default: answered 415."`
	Uploads      Uploads               `yaml:"uploads" doc:"What multipart/form-data may be."`
	GRPC         GRPC                  `yaml:"grpc" doc:"What gRPC messages may be."`
	Require      Rules                 `yaml:"require" doc:"Rules all operations must satisfy: {id: CEL expression}."`
	Deny         Rules                 `yaml:"deny" doc:"Rules none may meet: {id: CEL expression}."`
	Operations   map[string]*Operation `yaml:"operations" keys:"operation" doc:"Who may do what, by operationId, or 'GET /path' where the document gives none."`
	Place        Place                 `yaml:"-"`
}

// APIToken is how our authorization server makes tokens for one API.
type APIToken struct {
	Life   *time.Duration `yaml:"life" min:"10s" max:"1h" doc:"How long one is good. Default: oauth.access_token.life."`
	Format string         `yaml:"format" enum:"jwt opaque encrypted" doc:"jwt, opaque or encrypted; this gateway reads all three. Default: oauth.access_token.format."`
	Bound  bool           `yaml:"sender_constrained" doc:"Only tokens bound to the caller's key are taken: DPoP (RFC 9449) or a client certificate (RFC 8705)."`
}

// An Upstream is how the services of an API are spoken to.
type Upstream struct {
	Timeout     time.Duration `yaml:"timeout" default:"30s" min:"10ms" max:"1h" doc:"Until the head of the answer is there."`
	Connect     time.Duration `yaml:"connect" default:"2s" min:"10ms" max:"1m" doc:"Until a connection is made."`
	StreamIdle  time.Duration `yaml:"stream_idle" default:"60s" min:"10ms" max:"24h" doc:"How long a body, an event stream or a WebSocket may be silent."`
	Idle        time.Duration `yaml:"idle" default:"90s" min:"1s" max:"1h" doc:"How long an unused connection is kept."`
	Health      *Health       `yaml:"health" doc:"Active health checks. Default: none; failing services are noticed by their answers."`
	Retries     int           `yaml:"retries" default:"1" min:"0" max:"5" doc:"Of requests that are safe to repeat."`
	MaxInFlight int           `yaml:"max_in_flight" default:"1000" min:"1" max:"1000000" doc:"Requests at once to one service, answers under way included; as many more wait for up to a second, the rest answers 503. How many it can take is found out, see concurrency: this is the ceiling."`
	Concurrency Concurrency   `yaml:"concurrency" doc:"Bounds of what the gateway finds out by itself: how many requests whose answer has not begun one service can work at."`
	Breaker     Breaker       `yaml:"breaker" doc:"When a failing service is left alone."`
	Host        string        `yaml:"host" default:"upstream" enum:"upstream original" doc:"Host sent to the service: its own, or the caller's."`
	CA          *Path         `yaml:"ca" doc:"PEM file with the CA certificates that sign the services'. Default: the system's."`
	Certificate *Path         `yaml:"certificate" doc:"PEM file with the certificate shown to the services."`
	Key         *Path         `yaml:"key" doc:"PEM file with its private key."`
	ServerName  string        `yaml:"server_name" format:"host" doc:"Name the services' certificates must carry. Default: the URL's host."`
	Token       string        `yaml:"token" default:"internal" enum:"internal none pass" doc:"What the service gets instead of the caller's credential: internal, a fresh short JWT of ours (RFC 9068); none; pass, the caller's own, which the service could then use elsewhere."`
	Audience    string        `yaml:"audience" doc:"aud of the internal token. Default: the API's name."`
	Place       Place         `yaml:"-"`
}

// Health is an active check of one service.
type Health struct {
	Path      string        `yaml:"path" required:"true" format:"base" doc:"Asked by GET; 2xx is healthy."`
	Interval  time.Duration `yaml:"interval" default:"5s" min:"100ms" max:"10m" doc:"Between two checks."`
	Timeout   time.Duration `yaml:"timeout" default:"1s" min:"10ms" max:"1m" doc:"Of one check."`
	Healthy   int           `yaml:"healthy" default:"1" min:"1" max:"100" doc:"Good answers in a row until it is used again."`
	Unhealthy int           `yaml:"unhealthy" default:"3" min:"1" max:"100" doc:"Bad answers in a row until it is left out."`
}

// A Breaker opens after failures in a row and lets one request try after a while.
type Breaker struct {
	Failures int           `yaml:"failures" default:"5" min:"1" max:"10000" doc:"Failures in a row that open it."`
	Open     time.Duration `yaml:"open" default:"10s" min:"100ms" max:"10m" doc:"Until one request may try again."`
}

// An Operation is who may call one operation, and how. One without access (grant,
// require, own or the document's own security), not public and not closed, does
// not load.
type Operation struct {
	Public    bool           `yaml:"public" doc:"Anyone may call it. Listed by 'gatehouse access-matrix'."`
	Closed    bool           `yaml:"closed" doc:"Nobody may call it: answered as if it were not in the document."`
	Grant     OneOrMany      `yaml:"grant" format:"grant" doc:"What a role must grant the caller, like orders:read; several: all of them."`
	Own       Owns           `yaml:"own" doc:"Whose object it is: {path.customerId: claims.sub} lets callers at their own only."`
	Unless    OneOrMany      `yaml:"unless" format:"grant" doc:"Grants that free the caller from own."`
	Require   Rules          `yaml:"require" doc:"Rules that must be true: {id: CEL expression}."`
	Deny      Rules          `yaml:"deny" doc:"Rules that must not be true: {id: CEL expression}."`
	ACR       []Text         `yaml:"acr" max:"16" doc:"How callers must have signed in: one of these acr values, like aal2 or phr. Others are sent to sign in again (RFC 9470)."`
	MaxAge    *time.Duration `yaml:"max_age" min:"1s" max:"720h" doc:"How long ago callers may have signed in (RFC 9470)."`
	Details   []Text         `yaml:"authorization_details" max:"16" doc:"The token must carry authorization_details of one of these types (RFC 9396)."`
	Bound     bool           `yaml:"sender_constrained" doc:"Only tokens bound to the caller's key are taken."`
	Limits    []Limit        `yaml:"limits" max:"32" doc:"Limits of this operation, beside the API's."`
	Priority  string         `yaml:"priority" enum:"critical default sheddable" doc:"What it is worth where the service has not room for all. Default: the API's."`
	MaxBody   *Size          `yaml:"max_body" min:"0B" max:"1GiB" doc:"Size of a request body. Default: the API's."`
	GraphQL   *GraphQL       `yaml:"graphql" doc:"The operation is a GraphQL endpoint, POST with JSON: what may be asked there."`
	Timeout   *time.Duration `yaml:"timeout" min:"10ms" max:"1h" doc:"Until the head of the answer is there. Default: the API's."`
	Upgrade   string         `yaml:"upgrade" enum:"websocket" doc:"Let callers switch to WebSocket (RFC 6455) here."`
	Responses string         `yaml:"responses" enum:"off report enforce" doc:"Check answers against the document. Default: the API's."`
	WAF       WAFHere        `yaml:"waf" doc:"What the rules for content do differently here."`
	Cache     *Caching       `yaml:"cache" doc:"Keep the answers to GET and give them again (RFC 9111). The service then sees no field of a request that is not in the key. Default: every request goes to the service."`
	Place     Place          `yaml:"-"`
}

// A Test is one question to the policy and the answer it must give.
type Test struct {
	Name   string         `yaml:"name" required:"true" doc:"What it shows, as a sentence."`
	As     *Caller        `yaml:"as" doc:"Who calls. Default: nobody."`
	Call   Text           `yaml:"call" required:"true" doc:"api.operation, like orders.getOrder."`
	Path   map[string]any `yaml:"path" doc:"Path parameters."`
	Query  map[string]any `yaml:"query" doc:"Query parameters."`
	Header map[string]any `yaml:"header" doc:"Header parameters."`
	Cookie map[string]any `yaml:"cookie" doc:"Cookie parameters."`
	Body   any            `yaml:"body" doc:"The body, written as YAML."`
	From   string         `yaml:"from" default:"127.0.0.1" format:"ip" doc:"Address of the caller."`
	Expect Expect         `yaml:"expect" required:"true" doc:"allow, deny, or the HTTP status."`
	Reason string         `yaml:"reason" format:"reason" doc:"The problem's reason, like forbidden."`
	Rule   string         `yaml:"rule" doc:"Id of the rule that must have denied."`
	Place  Place          `yaml:"-"`
}

// A Caller is the principal of a [Test].
type Caller struct {
	Subject string         `yaml:"subject" doc:"Like the token's sub."`
	Issuer  string         `yaml:"issuer" doc:"Name of the issuer, keys or mtls. Default: the only issuer."`
	Client  string         `yaml:"client" doc:"OAuth client_id."`
	Tenant  string         `yaml:"tenant" doc:"Tenant."`
	Roles   []Text         `yaml:"roles" doc:"Roles."`
	Scopes  []Text         `yaml:"scopes" format:"scope" doc:"Scopes."`
	Claims  map[string]any `yaml:"claims" doc:"Claims of the token."`
	Method  string         `yaml:"method" default:"jwt" enum:"jwt apikey mtls" doc:"How the caller proved who it is."`
	Place   Place          `yaml:"-"`
}
