package pages

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Config says what the pages work with. Issuer, People, Seal and Flow are required.
type Config struct {
	Issuer string              // https URL; pages are below its path
	People *identity.Directory //
	Seal   *token.Sealer       // seals what comes back in forms and cookies
	Flow   Flow                //
	Keys   *authn.Keys         // API keys; nil: people can make none
	Scopes map[string]string   // scopes people may give their API keys, each with its sentence

	Upstreams []Upstream // where else people sign in

	Name  string // of the service, in titles; "": the issuer's host
	Logo  []byte // PNG or SVG; nil: the first letter of Name
	Color string // #rrggbb of buttons and links; "": a blue
}

// An Upstream is another place that proves who people are; see identity/upstream.
// Begin and Finish are for one that the browser is sent to, as an OpenID provider;
// Check alone is for one that is asked about passwords typed here, as LDAP.
type Upstream struct {
	Name  string // path segment, and the Source of its users
	Title string // on the button, after "Continue with"; "": Name
	Begin func(ctx context.Context, a Ask) (to, cookie string, err error)
	// Finish gives back who that was, and what Ask.Then said.
	Finish func(ctx context.Context, q url.Values, cookie string) (who *identity.External, then string, err error)
	// Check's refusals are [identity.ErrCredentials] and [identity.ErrThrottled].
	Check func(ctx context.Context, login string, password gatehouse.Secret, from netip.Addr) (*identity.External, error)
}

// An Ask is what an upstream is asked for.
type Ask struct {
	Then      string // comes back from Finish
	LoginHint string
	Fresh     bool // it must ask for a proof even if it knows the browser
}

// Pages render and handle what people see. Its methods are safe for concurrent
// use. See [New].
type Pages struct {
	cfg    Config
	base   string // path of the issuer, without a slash at its end
	origin string // scheme and authority of the issuer, as browsers send it in Origin
	views  map[string]*template.Template
	assets map[string]asset // by path below base
	style  string           // path of the style sheet
	script string           // path of the script
	logo   string           // path of the logo; ""
}

var upstreamName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// New checks the config and prepares every page.
func New(cfg Config) (*Pages, error) {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("pages: issuer %q must be an https URL without query and fragment: browsers keep the cookies of nothing else", cfg.Issuer)
	case cfg.People == nil || cfg.Seal == nil || cfg.Flow == nil:
		return nil, errors.New("pages: People, Seal and Flow are required")
	}
	if cfg.Name == "" {
		cfg.Name = u.Hostname()
	}
	p := &Pages{cfg: cfg, base: strings.TrimSuffix(u.EscapedPath(), "/"), origin: "https://" + strings.TrimSuffix(strings.ToLower(u.Host), ":443")}
	for i, up := range cfg.Upstreams {
		if !upstreamName.MatchString(up.Name) || (up.Begin == nil) != (up.Finish == nil) || (up.Begin == nil) == (up.Check == nil) || slices.ContainsFunc(cfg.Upstreams[:i], func(o Upstream) bool { return o.Name == up.Name }) {
			return nil, fmt.Errorf("pages: upstream %q needs a name of its own, of lower-case letters, digits and dashes, and either Begin and Finish or Check", up.Name)
		}
	}
	if err := p.loadAssets(); err != nil {
		return nil, err
	}
	if p.views, err = loadViews(); err != nil {
		return nil, err
	}
	return p, nil
}

// Routes returns the handlers by method and path below the issuer's path:
// "GET /signin". HEAD is served where GET is, see [http.ServeMux].
func (p *Pages) Routes() map[string]http.Handler {
	routes := map[string]http.Handler{
		"GET /assets/{file}": http.HandlerFunc(p.asset),

		"GET /signin":                  p.handle(p.getSignIn),
		"POST /signin":                 p.handle(p.postSignIn),
		"GET /signin/second":           p.handle(p.getSecond),
		"POST /signin/second":          p.handle(p.postSecond),
		"POST /signin/passkey/options": p.handle(p.passkeyOptions),
		"POST /signin/passkey":         p.handle(p.postPasskey),

		"GET /signin/upstream/{name}":          p.handle(p.beginUpstream),
		"GET /signin/upstream/{name}/callback": p.handle(p.finishUpstream),

		"GET /reset":      p.handle(p.getReset),
		"POST /reset":     p.handle(p.postReset),
		"POST /reset/new": p.handle(p.postNewPassword),
		"GET /verify":     p.handle(p.getVerify),
		"POST /verify":    p.handle(p.postVerify),

		"GET /account":                      p.account(p.profile),
		"POST /account/signout":             p.handle(p.signOut),
		"POST /account/verify":              p.account(p.sendVerification),
		"GET /account/security":             p.account(p.security),
		"GET /account/password":             p.account(p.getPassword),
		"POST /account/password":            p.account(p.postPassword),
		"POST /account/passkeys/options":    p.account(p.newPasskey),
		"POST /account/passkeys":            p.account(p.addPasskey),
		"POST /account/passkeys/remove":     p.account(p.removePasskey),
		"GET /account/totp":                 p.account(p.getTOTP),
		"POST /account/totp":                p.account(p.postTOTP),
		"POST /account/totp/remove":         p.account(p.removeTOTP),
		"POST /account/recovery":            p.account(p.newRecovery),
		"GET /account/sessions":             p.account(p.sessions),
		"POST /account/sessions/end":        p.account(p.endOne),
		"POST /account/sessions/end-others": p.account(p.endOthers),
		"GET /account/apps":                 p.account(p.apps),
		"POST /account/apps/revoke":         p.account(p.revokeApp),
	}
	if p.cfg.Keys != nil {
		routes["GET /account/keys"] = p.account(p.keys)
		routes["POST /account/keys"] = p.account(p.createKey)
		routes["POST /account/keys/rotate"] = p.account(p.rotateKey)
		routes["POST /account/keys/revoke"] = p.account(p.revokeKey)
	}
	return routes
}

// handle turns an error of h into a page.
func (p *Pages) handle(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			p.Fail(w, r, err)
		}
	})
}
