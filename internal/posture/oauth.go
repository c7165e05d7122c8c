package posture

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const (
	maxRequests = 600 // about 480 where nothing is slow
	maxTime     = 30 * time.Second
	pollEvery   = 75 * time.Millisecond
	revoked     = time.Second // within which what was ended must be refused
	clearTime   = 10 * time.Second
)

// A ProofConfig says what to prove, and what there is to prove it with. Issuer and
// HTTP are required.
type ProofConfig struct {
	Issuer  string
	HTTP    *http.Client // trusts the server's certificate; its CheckRedirect and Timeout are set here
	Profile oauth.Profile
	Only    string // run the probes whose id begins with this; "": all
	Actor   string // who asks, for the record of changes

	// With both, the house's own clients and a user are made for the time of the
	// proof. Without, only what a stranger can try is tried.
	OAuth  *oauth.Server
	People *identity.Directory

	Client    *KnownClient  // one that there is already: for more probes without the data
	Routes    []Route       // operations behind the gateway where tokens can be tried
	Resources []string      // resource indicators that tokens can be for
	Outbox    string        // folder where mails are put as files; "": mails are really sent
	Unused    time.Duration // a scope granted and not used for so long is reported; 0: 90 days
}

// A KnownClient is a client that exists already. Its secret goes to the server
// only.
type KnownClient struct {
	ID          string `json:"client_id"`
	Secret      string `json:"client_secret,omitempty"`
	RedirectURI string `json:"redirect_uri"`
}

// A Route is an operation behind the gateway that takes tokens of this server.
type Route struct {
	Method, URL string
	Operation   string // for people
	Resource    string // resource indicator of its API
	Scopes      []string
}

// A Verdict is how a probe ended.
type Verdict string

// Verdicts.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	LeftOut Verdict = "left out"
)

// A Severity is how bad it is that a probe fails.
type Severity string

// Severities.
const (
	Critical Severity = "critical" // somebody else's account, or any token
	High     Severity = "high"     // with one more mistake of somebody's
	Medium   Severity = "medium"   // a second line of defence is missing
	Low      Severity = "low"
)

// A Result is one line of the checklist.
type Result struct {
	ID       string   `json:"id"`      // stable
	Section  string   `json:"section"` // where it is demanded
	Says     string   `json:"says"`    // what holds when it passes
	Verdict  Verdict  `json:"verdict"`
	Severity Severity `json:"severity"`
	Why      string   `json:"why,omitempty"` // it was left out
	Evidence []string `json:"evidence,omitempty"`
	Fix      string   `json:"fix,omitempty"` // of a failure
}

// A Proof is the whole result.
type Proof struct {
	Issuer   string         `json:"issuer"`
	Results  []Result       `json:"results"`
	Clients  []ClientReport `json:"clients"`
	Requests int64          `json:"requests"`
	Seconds  float64        `json:"seconds"`
	Left     []string       `json:"left,omitempty"` // of what was made and could not be removed
}

// Failed reports whether a probe failed or something was left behind.
func (p *Proof) Failed() bool {
	return len(p.Left) > 0 || slices.ContainsFunc(p.Results, func(r Result) bool { return r.Verdict == Fail })
}

// need is what a probe cannot do without.
type need int

const (
	outside  need = iota // nothing
	aClient              // a registered client and its redirect URI
	theHouse             // clients and a user of our own
)

// A probe is one sentence and how to try it. An error is that it could not be
// tried, which counts as failing.
type probe struct {
	id, section, says string
	severity          Severity
	need              need
	fix               string
	try               func(ctx context.Context, t *trial) error
}

// lab is what all probes share.
type lab struct {
	cfg    ProofConfig
	http   *http.Client
	origin string
	meta   map[string]any
	keys   []map[string]any // the published ones
	sent   atomic.Int64

	mu    sync.Mutex
	nonce string // last DPoP-Nonce

	canary *canary
	main   *party // confidential, for the code flow; nil without a client at all
	other  *party // another one like it
	native *party // public, with a loopback address; nil where the profile has none
	robot  *party // proves itself by private_key_jwt, for itself alone
	user   *identity.User
	pass   string
	in     *browser // signed in; nil until somebody needs it
	entry  *answer  // of the POST that signed it in
	before string   // session cookie planted before it
	route  *Route   // that tokens open; nil for none
	shared *answer  // tokens of main that are taken everywhere; nil until somebody needs them
}

// A party is a client as the proof plays it.
type party struct {
	id, secret, method string
	redirect           string
	key                *signingKey // of its assertions and proofs
	bound              bool        // its tokens are bound to key
}

// ProveOAuth tries every probe against the live server. The error is about the
// proof itself: the server was not there, or the data was not. What was made for
// the proof is removed before it returns.
func ProveOAuth(ctx context.Context, cfg ProofConfig) (proof *Proof, err error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || cfg.HTTP == nil {
		return nil, errors.New("a proof needs the issuer's URL and a way to get there")
	}
	if (cfg.OAuth == nil) != (cfg.People == nil) {
		return nil, errors.New("clients without users, or users without clients, prove nothing")
	}
	began := time.Now()
	timed, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("the bound of %v is reached", maxTime))
	defer cancel()
	defer cfg.HTTP.CloseIdleConnections()
	client := *cfg.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Timeout = maxTime / 3
	l := &lab{cfg: cfg, http: &client, origin: u.Scheme + "://" + u.Host}
	if l.canary, err = newCanary(timed); err != nil {
		return nil, err
	}
	defer l.canary.close()
	setup := l.trial()
	if err := setup.discover(timed); err != nil {
		return nil, fmt.Errorf("%s does not answer as an authorization server: %w", cfg.Issuer, err)
	}
	proof = &Proof{Issuer: cfg.Issuer}
	if cfg.OAuth != nil {
		made := &made{lab: l}
		defer func() {
			clean, done := context.WithTimeout(context.WithoutCancel(ctx), clearTime)
			defer done()
			proof.Left = made.remove(clean)
			proof.Seconds = time.Since(began).Seconds()
		}()
		if err := made.create(timed); err != nil {
			return proof, err
		}
		if err := setup.settle(timed); err != nil {
			return proof, fmt.Errorf("what was made for the proof does not work at %s, is its gateway running on this data folder? %w", cfg.Issuer, err)
		}
	} else if k := cfg.Client; k != nil {
		l.main = &party{id: k.ID, secret: k.Secret, method: "client_secret_basic", redirect: k.RedirectURI}
		if k.Secret == "" {
			l.main.method = "none"
		}
	}
	for _, p := range probes() {
		if strings.HasPrefix(p.id, cfg.Only) {
			proof.Results = append(proof.Results, l.run(timed, p))
		}
	}
	if cfg.OAuth != nil {
		if proof.Clients, err = reportClients(ctx, cfg, time.Now()); err != nil {
			return proof, err
		}
	}
	proof.Requests, proof.Seconds = l.sent.Load(), time.Since(began).Seconds()
	return proof, nil
}

func (l *lab) trial() *trial { return &trial{lab: l, lines: map[string]int{}} }

// run tries one probe and words its result.
func (l *lab) run(ctx context.Context, p probe) Result {
	r := Result{ID: p.id, Section: p.section, Says: p.says, Severity: p.severity, Verdict: LeftOut}
	switch {
	case p.need == theHouse && l.cfg.OAuth == nil:
		r.Why = "it needs clients and a user of its own: run it where the data folder is"
		return r
	case p.need == aClient && l.main == nil:
		r.Why = "it needs a client: run it where the data folder is, or name one with --client"
		return r
	}
	t := l.trial()
	err := p.try(ctx, t)
	switch {
	case t.limit && (err != nil || len(t.wrong) > 0):
		r.Why = "the server said 429 meanwhile, by oauth.limits or as too many sign-ins failed from this address: try again in ten minutes"
	case err != nil:
		r.Verdict = Fail
		t.wrong = append(t.wrong, "it could not be tried: "+err.Error())
	case len(t.wrong) > 0:
		r.Verdict = Fail
	case t.why != "":
		r.Why = t.why
	default:
		r.Verdict = Pass
	}
	if r.Verdict == Fail {
		r.Fix = p.fix
	}
	r.Evidence = append(append([]string{}, t.wrong...), t.notes...)
	for n, line := range t.order {
		if n == 12 {
			r.Evidence = append(r.Evidence, fmt.Sprintf("and %d other answers", len(t.order)-n))
			break
		}
		if c := t.lines[line]; c > 1 {
			line += fmt.Sprintf(" (%d times)", c)
		}
		r.Evidence = append(r.Evidence, line)
	}
	return r
}

// at is an endpoint, by its name in the metadata. What the server says of itself is
// believed only as far as its own origin.
func (l *lab) at(name string) string {
	said, _ := l.meta[name].(string)
	if strings.HasPrefix(said, l.origin+"/") {
		return said
	}
	return l.cfg.Issuer + defaults[name]
}

var defaults = map[string]string{
	"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks.json", "userinfo_endpoint": "/userinfo",
	"introspection_endpoint": "/introspect", "revocation_endpoint": "/revoke", "end_session_endpoint": "/logout",
	"pushed_authorization_request_endpoint": "/par",
}

// announced reports whether the server says that it has an endpoint.
func (l *lab) announced(name string) bool {
	s, _ := l.meta[name].(string)
	return s != ""
}

func (t *trial) discover(ctx context.Context) error {
	a, err := t.get(ctx, t.cfg.Issuer+"/.well-known/openid-configuration")
	if err != nil {
		return err
	}
	if a.doc == nil {
		return fmt.Errorf("no metadata: %s", a.line())
	}
	t.meta = a.doc
	if a, err = t.get(ctx, t.at("jwks_uri")); err != nil {
		return err
	}
	list, _ := a.doc["keys"].([]any)
	for _, k := range list {
		if jwk, ok := k.(map[string]any); ok {
			t.keys = append(t.keys, jwk)
		}
	}
	if len(t.keys) == 0 {
		return fmt.Errorf("no keys: %s", a.line())
	}
	return nil
}

// probes is the checklist, in the order in which it is tried: what ends the user
// comes last.
func probes() []probe {
	return slices.Concat(frontProbes(), requestProbes(), codeProbes(), clientProbes(), refreshProbes(), dpopProbes(), tokenProbes(), personProbes(), endProbes())
}
