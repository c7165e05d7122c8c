package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
	"github.com/gatehouse-api/gatehouse/internal/token"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const (
	maxAccessLife = time.Hour
	sweepEvery    = time.Minute
	sweepRows     = 500       // in one statement: others write meanwhile
	keepConsumed  = time.Hour // a code that was used, so that a thief who shows it again is noticed
)

// A Server is the authorization server. Its methods may be called by many
// requests at once. See [New].
type Server struct {
	cfg       Config
	base      string // path of the issuer: "", "/auth"
	resources map[string]*resource
	proofs    *token.Proofs
	own       ownKeys
	opened    *token.Cache[*token.Claims] // signatures of ours that held, for introspection
	refreshes queue
	pages     *pages.Pages
	registry  *registry
	documents *documents
	details   map[string]*validate.Schema // of authorization_details types that have one
}

// A resource is a [Resource] with what was made of it.
type resource struct {
	Resource
	encrypter *token.Encrypter // nil: not encrypted
}

// New checks cfg, brings the tables up to date and makes a Server. Nothing runs
// until [Server.Run].
func New(ctx context.Context, cfg Config) (*Server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	if err := cfg.DB.Migrate(ctx, Tables()); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	return s, nil
}

func newServer(cfg Config) (*Server, error) {
	if cfg.DB == nil || cfg.Keys == nil || cfg.Seal == nil || cfg.People == nil || cfg.Log == nil {
		return nil, errors.New("a database, signing keys, a sealer, the people and a log of changes are required")
	}
	u, err := url.Parse(cfg.Issuer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("issuer: %w", err)
	case u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(cfg.Issuer, "#"):
		return nil, fmt.Errorf("issuer %q: an https URL without user, query and fragment is needed (RFC 8414 §2)", cfg.Issuer)
	case strings.HasSuffix(u.Path, "/") || u.RawPath != "":
		return nil, fmt.Errorf("issuer %q: its path must not end with / nor be escaped", cfg.Issuer)
	}
	switch cfg.Profile {
	case "":
		cfg.Profile = OAuth21
	case OAuth21, FAPI2, MCP:
	default:
		return nil, fmt.Errorf("profile %q: there are %s, %s and %s", cfg.Profile, OAuth21, FAPI2, MCP)
	}
	cfg.AccessLife = orElse(cfg.AccessLife, 10*time.Minute)
	cfg.CodeLife = orElse(cfg.CodeLife, time.Minute)
	cfg.RefreshIdle = orElse(cfg.RefreshIdle, 30*24*time.Hour)
	cfg.RefreshLife = orElse(cfg.RefreshLife, 90*24*time.Hour)
	cfg.RefreshGrace = max(orElse(cfg.RefreshGrace, 10*time.Second), 0)
	switch {
	case cfg.AccessLife < 0 || cfg.CodeLife < 0 || cfg.RefreshIdle < 0 || cfg.RefreshLife < 0:
		return nil, errors.New("a negative life")
	case cfg.AccessLife > maxAccessLife:
		return nil, fmt.Errorf("access tokens that live %v: at most %v, that is what refresh tokens are for", cfg.AccessLife, maxAccessLife)
	case cfg.Profile == FAPI2 && cfg.CodeLife > time.Minute:
		return nil, fmt.Errorf("codes that live %v: at most 1 min in the profile %s (§5.3.2.1)", cfg.CodeLife, FAPI2)
	case cfg.CodeLife > 10*time.Minute:
		return nil, fmt.Errorf("codes that live %v: at most 10 min (RFC 6749 §4.1.2)", cfg.CodeLife)
	}
	if cfg.OnlyOne == nil {
		cfg.OnlyOne = func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	}
	s := &Server{cfg: cfg, base: u.Path, resources: map[string]*resource{}, opened: token.NewCache[*token.Claims](8192)}
	if err := s.openClients(); err != nil {
		return nil, err
	}
	if s.proofs = cfg.Proofs; s.proofs == nil {
		if s.proofs, err = token.NewProofs(token.ProofsConfig{Algorithms: ProofAlgorithms(cfg.Profile), Seal: cfg.Seal, RequireNonce: cfg.RequireNonce}); err != nil {
			return nil, err
		}
	}
	s.pages, err = pages.New(pages.Config{
		Issuer: cfg.Issuer, People: cfg.People, Seal: cfg.Seal, Flow: flowPages{s}, Scopes: cfg.Scopes, Keys: cfg.APIKeys, Upstreams: elsewhere(cfg.SignIns),
		Name: cfg.Pages.Name, Logo: cfg.Pages.Logo, Color: cfg.Pages.Color,
	})
	if err != nil {
		return nil, err
	}
	for i := range cfg.Resources {
		if err := s.addResource(&cfg.Resources[i]); err != nil {
			return nil, fmt.Errorf("resource %q: %w", cfg.Resources[i].ID, err)
		}
	}
	return s, nil
}

func (s *Server) addResource(r *Resource) error {
	if err := checkResource(r.ID); err != nil {
		return err
	}
	if s.resources[r.ID] != nil || r.ID == s.cfg.Issuer {
		return errors.New("the id is taken")
	}
	if r.Life < 0 || r.Life > maxAccessLife {
		return fmt.Errorf("a life of %v: at most %v", r.Life, maxAccessLife)
	}
	res := &resource{Resource: *r}
	switch r.Format {
	case "":
		res.Format = formatJWT
	case formatJWT, formatOpaque:
	case formatEncrypted:
		var err error
		if res.encrypter, err = token.NewEncrypter(r.Key); err != nil {
			return err
		}
	default:
		return fmt.Errorf("format %q: there are %s, %s and %s", r.Format, formatJWT, formatOpaque, formatEncrypted)
	}
	if r.Algorithm != "" {
		// Now, and not when the first client asks.
		if _, err := s.cfg.Keys.Sign(r.Algorithm, "JWT", []byte(`{}`)); err != nil {
			return err
		}
	}
	s.resources[r.ID] = res
	return nil
}

// checkResource wants what RFC 8707 §2 wants of an indicator.
func checkResource(id string) error {
	u, err := url.Parse(id)
	if err != nil || !u.IsAbs() || strings.Contains(id, "#") || strings.ContainsAny(id, " \t\r\n") {
		return errors.New("a resource indicator is an absolute URI without fragment (RFC 8707 §2)")
	}
	return nil
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Run removes what has expired and does what clients need done, until ctx ends.
// Errors are reported; the work goes on with the next turn.
func (s *Server) Run(ctx context.Context, report func(error)) {
	var clients sync.WaitGroup
	clients.Go(func() { s.runClients(ctx, report) })
	defer clients.Wait()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			sweep := func(ctx context.Context) error { return s.sweep(ctx, time.Now()) }
			if err := s.cfg.OnlyOne(ctx, sweep); err != nil && ctx.Err() == nil {
				report(fmt.Errorf("oauth: removing what has expired: %w", err))
			}
		}
	}
}

// sweep deletes what is over, some rows at a time: what waits for the database
// between two batches are requests.
func (s *Server) sweep(ctx context.Context, now time.Time) error {
	gone := []struct {
		statement string
		before    time.Time
	}{
		{`DELETE FROM authorization_codes WHERE sha256 IN (SELECT sha256 FROM authorization_codes WHERE expires < $1 LIMIT $2)`, now.Add(-keepConsumed)},
		{`DELETE FROM requests WHERE sha256 IN (SELECT sha256 FROM requests WHERE expires < $1 LIMIT $2)`, now},
		{`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE expires < $1 LIMIT $2)`, now.Add(-keepConsumed)},
		{`DELETE FROM once WHERE expires < $1 AND sha256 IN (SELECT sha256 FROM once WHERE expires < $1 LIMIT $2)`, now},
		{`DELETE FROM devices WHERE sha256 IN (SELECT sha256 FROM devices WHERE expires < $1 LIMIT $2)`, now},
	}
	for _, g := range gone {
		for n := int64(sweepRows); n == sweepRows; {
			err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
				res, err := tx.ExecContext(ctx, g.statement, g.before.UnixMilli(), sweepRows)
				if err != nil {
					return err
				}
				n, err = res.RowsAffected()
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A route is one endpoint below the issuer's path.
type route struct {
	methods string // separated by spaces
	path    string
	serve   handler
	kind    kind
}

// A kind says who calls an endpoint, and so how its errors look.
type kind int

const (
	machine kind = iota // programs: errors are JSON
	script              // and scripts of other origins, too: it knows nobody by cookie
	browser             // people: errors are pages
)

// routes is every endpoint there is, but for those of the pages.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/.well-known/openid-configuration", s.metadata, script},
		{"GET", "/.well-known/oauth-authorization-server", s.metadata, script},
		{"GET", "/jwks.json", s.jwks, script},
		{"GET POST", "/authorize", s.authorize, browser},
		{"GET", "/authorize/continue", s.proceedWaiting, browser},
		{"POST", "/consent", s.consent, browser},
		{"POST", "/token", s.token, script},
		{"POST", "/revoke", s.revoke, script},
		{"POST", "/introspect", s.introspect, machine},
		{"GET POST", "/userinfo", s.userinfo, script},
		{"POST", "/par", s.pushRequest, script},
		{"POST", "/device_authorization", s.authorizeDevice, script},
		{"GET", "/device", s.devicePage, browser},
		{"POST", "/device", s.deviceAnswer, browser},
		{"POST", "/register", s.register, script},
		{"GET PUT DELETE", "/register/{client_id}", s.registration, script},
		{"GET POST", "/logout", s.logout, browser},
	}
}

// Handler serves all endpoints, under the path of the issuer and at the
// well-known places of RFC 8414 §3.1, which put that path last.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		h := serve(r.serve)
		switch r.kind {
		case browser:
			h = s.page(r.serve)
		case script:
			h = crossOrigin(r.methods, h)
			mux.Handle("OPTIONS "+s.base+r.path, h)
		case machine:
		}
		for m := range strings.FieldsSeq(r.methods) {
			mux.Handle(m+" "+s.base+r.path, h)
			if s.base != "" && strings.HasPrefix(r.path, "/.well-known/") {
				mux.Handle(m+" "+r.path+s.base, h) // in front of the path (RFC 8414 §3.1)
				mux.Handle("OPTIONS "+r.path+s.base, h)
			}
		}
	}
	for pattern, h := range s.pages.Routes() {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+s.base+path, h)
	}
	return mux
}

// serve makes an http.Handler of h.
func serve(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			fail(w, r, err)
		}
	})
}

// crossOrigin lets scripts of any origin call h (Fetch §3.2). That is safe where
// no cookie counts, and never done at /authorize (RFC 9700 §2.6).
func crossOrigin(methods string, h http.Handler) http.Handler {
	allow := strings.Join(strings.Fields(methods), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			head.Set("Access-Control-Allow-Methods", allow)
			head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP")
			head.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		head.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate")
		h.ServeHTTP(w, r)
	})
}

// url is the address of one of our endpoints. The issuer is configuration: what
// Host a request named makes no difference to it.
func (s *Server) url(path string) string { return s.cfg.Issuer + path }

// words joins what the tables keep as one text.
func words(list []string) string { return strings.Join(list, " ") }

func jsonOrNil(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// subset reports whether all of list is in of.
func subset(list, of []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(of, s) })
}
