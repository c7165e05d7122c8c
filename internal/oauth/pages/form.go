package pages

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse"
)

const (
	cookieSession = "__Host-gatehouse"
	cookieBrowser = "__Host-gatehouse-flow"
	cookieLogin   = "__Host-gatehouse-login" // a password was right, a second factor must follow

	maxForm  = 64 << 10
	maxField = 16 << 10

	purposeForm = "page form"
)

// Browser returns a random value that this browser keeps in a cookie, and sets it
// when there is none: what waits for a browser is bound to it, so that nobody can
// make another's browser sign in to what he started (login CSRF). It is a
// credential: keep its digest only.
func (p *Pages) Browser(w http.ResponseWriter, r *http.Request) string {
	if v := p.browser(r); v != "" {
		return v
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	v := base64.RawURLEncoding.EncodeToString(b[:])
	// The rest of this request sees the cookie, too: two renderers agree.
	r.AddCookie(&http.Cookie{Name: cookieBrowser, Value: v}) //nolint:gosec // of a request: it has no attributes
	setCookie(w, cookieBrowser, v, 0)
	return v
}

func (p *Pages) browser(r *http.Request) string {
	v := cookie(r, cookieBrowser)
	if len(v) != 43 {
		return ""
	}
	return v
}

// cookie returns the value of the one cookie of that name. Of two, one was put
// there by somebody else: neither is taken.
func cookie(r *http.Request, name string) string {
	all := r.CookiesNamed(name)
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// setCookie sets a cookie that only this host can set and only we can read. Seconds
// 0: until the browser closes; negative: it is removed.
func setCookie(w http.ResponseWriter, name, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// formToken is the value of the field csrf: only a page we made for this browser
// has it. SameSite and Sec-Fetch-Site say the same a second and third time.
func (p *Pages) formToken(w http.ResponseWriter, r *http.Request) (string, error) {
	tag, err := p.cfg.Seal.Sign(purposeForm, []byte(p.Browser(w, r)))
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(tag), nil
}

// Form reads the form a page of ours has posted. It refuses what another site
// sent, fields that are not named here, fields given twice unless their name ends
// in "[]", and anything in the query. Fields left out are "".
func (p *Pages) Form(w http.ResponseWriter, r *http.Request, fields ...string) (url.Values, error) {
	if err := p.sameOrigin(r); err != nil {
		return nil, err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" || len(r.Header.Values("Content-Type")) != 1 {
		return nil, formProblem("The form was not sent the way this page sends it.", nil)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &gatehouse.Problem{Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: "The form is too large.", Err: err}
		}
		return nil, formProblem("The form could not be read.", err)
	}
	form := r.PostForm
	for name, values := range form {
		if name != "csrf" && !slices.Contains(fields, name) {
			return nil, formProblem("The form has a field this page does not have.", nil)
		}
		if len(values) > 1 && (len(name) < 2 || name[len(name)-2:] != "[]") {
			return nil, formProblem("The form has a field twice.", nil)
		}
		for _, v := range values {
			if len(v) > maxField || !utf8.ValidString(v) {
				return nil, formProblem("The form has a field that is too long or not text.", nil)
			}
		}
	}
	tag, err := base64.RawURLEncoding.DecodeString(form.Get("csrf"))
	browser := p.browser(r)
	if err != nil || browser == "" || p.cfg.Seal.Verify(purposeForm, []byte(browser), tag) != nil {
		return nil, crossSite("This form does not belong to this browser, or cookies are blocked. Open the page again and retry.")
	}
	return form, nil
}

// sameOrigin refuses what a page of another origin sent (CSRF). Unlike
// [http.CrossOriginProtection], which it uses, it also refuses what says nothing
// at all: every browser that can show these pages sends one of the two headers.
func (p *Pages) sameOrigin(r *http.Request) error {
	origin, site := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	if len(origin) > 1 || len(site) > 1 || len(origin)+len(site) == 0 {
		return crossSite("The form was not sent by a page of this site.")
	}
	if len(origin) == 1 && origin[0] != p.origin {
		return crossSite("The form was sent by another site's page.")
	}
	var guard http.CrossOriginProtection
	if err := guard.Check(r); err != nil {
		return crossSite("The form was sent by another site's page.")
	}
	return nil
}

func crossSite(detail string) error {
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "cross_site_form", Detail: detail}
}

func formProblem(detail string, err error) error {
	return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "form_refused", Detail: detail, Err: err}
}

func notFound() error {
	return &gatehouse.Problem{Kind: gatehouse.NotFound, Reason: "page_not_found", Detail: "There is no such page."}
}
