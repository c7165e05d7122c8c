package pages

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

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

	Name  string // of the service, in titles; "": the issuer's host
	Logo  []byte // PNG or SVG; nil: the first letter of Name
	Color string // #rrggbb of buttons and links; "": a blue
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
