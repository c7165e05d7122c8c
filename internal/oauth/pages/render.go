package pages

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

//go:embed templates/*.html
var templateFiles embed.FS

// A page is what the layout needs, around what one view needs.
type page struct {
	Title   string // says where the reader is, first in the tab
	Section string // of the account, for its navigation; "": the page is one card
	User    *identity.User
	Notice  string
	Error   string
	Fields  map[string]string // what is wrong with a field, by its name
	Script  bool
	Status  int    // 0: 200
	Target  string // redirect URI in which submitting a form of this page may end; ""

	V any // the view's own
}

// frame is a page in its layout.
type frame struct {
	page
	Site, Initial, Base    string
	Style, ScriptURL, Logo string
	CSRF                   string
	HasKeys                bool
}

// layout files hold what every page is made in; the others are one page each.
const layout = "layout.html"

func loadViews() (map[string]*template.Template, error) {
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	views := map[string]*template.Template{}
	for _, n := range names {
		base := path.Base(n)
		if base == layout {
			continue
		}
		t, err := template.New(layout).Funcs(template.FuncMap{
			"day": day, "ago": ago, "used": used, "https": httpsOnly, "home": home, "webHost": webHost,
			"device": device, "name": clientName, "scopeList": items,
		}).Option("missingkey=error").ParseFS(templateFiles, "templates/"+layout, n)
		if err != nil {
			return nil, fmt.Errorf("pages: %w", err)
		}
		views[strings.TrimSuffix(base, ".html")] = t
	}
	return views, nil
}

// render writes a page, or when that fails an error without a page: half of one
// is never sent.
func (p *Pages) render(w http.ResponseWriter, r *http.Request, view string, pg page) {
	csrf, err := p.formToken(w, r)
	var b bytes.Buffer
	if err == nil {
		initial, _ := utf8.DecodeRuneInString(p.cfg.Name)
		err = p.views[view].ExecuteTemplate(&b, layout, frame{
			page: pg, Site: p.cfg.Name, Initial: strings.ToUpper(string(initial)), Base: p.base,
			Style: p.style, ScriptURL: p.script, Logo: p.logo, CSRF: csrf, HasKeys: p.cfg.Keys != nil,
		})
	}
	if err != nil {
		gatehouse.EventOf(r.Context()).Cause = err.Error()
		p.headers(w, "")
		http.Error(w, "This page cannot be shown at the moment.", http.StatusInternalServerError)
		return
	}
	p.headers(w, pg.Target)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if pg.Status != 0 {
		w.WriteHeader(pg.Status)
	}
	_, _ = w.Write(b.Bytes()) // the browser may be gone
}

// headers forbid everything a page does not need.
func (p *Pages) headers(w http.ResponseWriter, target string) {
	h := w.Header()
	// Chromium holds a redirect after a form's POST against form-action as well,
	// however many redirects are between: where the answer goes in the end must be
	// in it, and only there.
	action := "'self'"
	if s := formTarget(target); s != "" {
		action += " " + s
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action "+action+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it browsers send forms of our own with "Origin: null",
	// and older ones could then not be told from strangers. To other sites this
	// sends nothing either.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=(), payment=(), usb=()")
}

var (
	safeHost   = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$`)
	safeScheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)
)

// formTarget is the CSP source of a redirect URI: its origin, or its scheme when
// it has no host the CSP's grammar knows. A URI with characters that could end the
// directive gives "".
func formTarget(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case uri == "" || err != nil || !safeScheme.MatchString(u.Scheme):
		return ""
	case u.Scheme != "https" && u.Scheme != "http":
		return u.Scheme + ":"
	case safeHost.MatchString(u.Host):
		return u.Scheme + "://" + u.Host
	case u.Hostname() == "::1": // CSP has no form for IPv6 addresses
		return u.Scheme + ":"
	}
	return ""
}

// Fail writes err as a page. A [*gatehouse.Problem] is shown with its detail;
// anything else is a fault of ours that the reader learns nothing of.
func (p *Pages) Fail(w http.ResponseWriter, r *http.Request, err error) {
	problem, ok := errors.AsType[*gatehouse.Problem](err)
	switch {
	case ok:
	case errors.Is(err, identity.ErrBusy):
		problem = &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "sign_in_busy", RetryAfter: 5 * time.Second, Detail: "Too many people are signing in just now. Try again in a few seconds.", Err: err}
	default:
		problem = &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "sign_in_unavailable", Err: err}
	}
	ev := gatehouse.EventOf(r.Context())
	ev.Reason = problem.Reason
	if problem.Err != nil {
		ev.Cause = problem.Err.Error()
	}
	if problem.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((problem.RetryAfter+time.Second-1)/time.Second)))
	}
	title, text := problemWords(problem)
	p.Problem(w, r, problem.Kind.Status(), title, text, "")
}

func problemWords(problem *gatehouse.Problem) (title, text string) {
	text = problem.Detail
	switch problem.Kind.Status() {
	case http.StatusNotFound:
		title = "Page not found"
		if problem.Err != nil { // there was one
			title = "This has expired"
		}
	case http.StatusTooManyRequests:
		title = "Too many attempts"
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		title = "Not available at the moment"
		if text == "" {
			text = "Something does not work on our side. Nothing was changed. Try again in a minute."
		}
	default:
		title = "This did not work"
	}
	return title, text
}

// Problem shows what went wrong, with the decision id under which the operator
// finds the cause; decision "" takes the request's. Text is one or two safe
// sentences.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, status int, title, text, decision string) {
	if decision == "" {
		decision = r.Header.Get("Gatehouse-Decision")
	}
	p.render(w, r, "problem", page{Title: title, Status: status, V: struct{ Text, Decision string }{text, decision}})
}

// Consent asks the user; see [ConsentView].
func (p *Pages) Consent(w http.ResponseWriter, r *http.Request, v ConsentView) {
	p.render(w, r, "consent", page{Title: "Allow access", Target: v.RedirectURI, V: v})
}

// Device shows a step of the device flow; see [DeviceView].
func (p *Pages) Device(w http.ResponseWriter, r *http.Request, v DeviceView) {
	pg := page{V: v}
	switch v.State {
	case "confirm":
		pg.Title = "Connect this device?"
	case "approved":
		pg.Title = "Device connected"
	case "denied":
		pg.Title = "Device not connected"
	default:
		pg.Title = "Connect a device"
		if v.Problem != "" {
			pg.Status, pg.Error, pg.Fields = http.StatusUnprocessableEntity, "The code was not accepted.", map[string]string{"user_code": v.Problem}
		}
	}
	p.render(w, r, "device", pg)
}

// Logout asks whether to sign out, or says that it is done; see [LogoutView].
func (p *Pages) Logout(w http.ResponseWriter, r *http.Request, v LogoutView) {
	title := "Sign out?"
	if v.Done {
		title = "You are signed out"
	}
	p.render(w, r, "logout", page{Title: title, Target: v.RedirectURI, V: v})
}

// FormPost sends the browser on to action with fields in a POST
// (response_mode=form_post): at once where scripts run, with a button otherwise.
func (p *Pages) FormPost(w http.ResponseWriter, r *http.Request, action string, fields []Field) {
	p.render(w, r, "formpost", page{Title: "Going back to the application", Script: true, Target: action, V: struct {
		Action template.URL
		Fields []Field
	}{postTarget(action), fields}})
}

// postTarget lets an action through html/template's filter of URLs, which knows
// no schemes but the web's and mail's. Anything that is not a page of the web is
// refused all the same: no form is posted to javascript: or data:.
func postTarget(action string) template.URL {
	if u, err := url.Parse(action); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return template.URL(action) //nolint:gosec // an http or https URL, and escaped for its attribute
}

// see answers a POST: the browser gets another page, and reloading it posts nothing.
func (p *Pages) see(w http.ResponseWriter, r *http.Request, target, redirect string) {
	p.headers(w, redirect)
	http.Redirect(w, r, target, http.StatusSeeOther) //nolint:gosec // a path of ours, one we sealed, or an upstream of the config: see next
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// ago is when something happened, as roughly as a reader wants it.
func ago(t time.Time) string {
	switch d := time.Since(t); {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " minutes ago"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " hours ago"
	}
	return "on " + day(t)
}

func used(t time.Time) string {
	if t.IsZero() {
		return "never used"
	}
	return "last used " + ago(t)
}

// home is where the name of a client leads: nowhere when nobody has looked at it,
// since it could be another sign-in page.
func home(c Client) string {
	if c.Stranger {
		return ""
	}
	return httpsOnly(c.URI)
}

// webHost is the host of a redirect URI: what a client cannot say of itself
// without its being true.
func webHost(uri string) string {
	if u, err := url.Parse(uri); err == nil && u.Scheme == "https" {
		return u.Host
	}
	return ""
}

// httpsOnly is the URI when a link to it is safe to show, or "".
func httpsOnly(uri string) string {
	if u, err := url.Parse(uri); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return uri
}

func clientName(c Client) string {
	if strings.TrimSpace(c.Name) == "" {
		return "An application"
	}
	return c.Name
}

// items leaves out what has nothing to show.
func items(all []Item) []Item {
	return slices.DeleteFunc(slices.Clone(all), func(i Item) bool { return i.Name == "" && i.Text == "" })
}

// device makes "Firefox on Linux" of a User-Agent: enough to know one's own by.
func device(agent string) string {
	find := func(pairs [][2]string) string {
		for _, p := range pairs {
			if strings.Contains(agent, p[0]) {
				return p[1]
			}
		}
		return ""
	}
	browser := find([][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"SamsungBrowser/", "Samsung Internet"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}})
	system := find([][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	switch {
	case browser == "" && system == "":
		return "Unknown device"
	case system == "":
		return browser
	case browser == "":
		return system
	}
	return browser + " on " + system
}
