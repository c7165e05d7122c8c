package posture

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// personProbes are about the pages and the people who use them.
func personProbes() []probe {
	return []probe{
		{
			"sign-in-303", "RFC 9700 §4.12", "after the sign-in form the browser is sent on with 303, and the password goes no further", High, theHouse,
			"answer the form with 303 and never with 307 or 308", signInSees303,
		},
		{
			"session-fixation", "advisories: session fixation", "a session cookie from before the sign-in is worth nothing after it; the cookie is the host's own", High, theHouse,
			"make a new value at every sign-in; set __Host-, Secure, HttpOnly and SameSite", sessionFixation,
		},
		{
			"open-redirect-after-sign-in", "RFC 9700 §4.11; advisories: open redirects", "no link makes a sign-in or sign-out end elsewhere", High, theHouse,
			"seal where a sign-in leads, and compare post_logout_redirect_uri with what is registered", noWayOut,
		},
		{
			"mail-poisoning", "advisories: Host poisoning", "links in mails lead to the issuer, whatever host a request claims", High, theHouse,
			"make links from the configured issuer", mailsAreOurs,
		},
		{
			"logout", "OpenID Connect RP-Initiated Logout §2, RFC 9700 §4.7", "a stranger's link signs nobody out; a client's own ID token does, and the grants of that session end", High, theHouse,
			"ask the user unless an ID token of this session is shown; end the session's grants with it", logoutEnds,
		},
	}
}

func signInSees303(ctx context.Context, t *trial) error {
	if _, err := t.browser(ctx); err != nil {
		return err
	}
	a := t.entry
	if a == nil {
		return errors.New("nobody had to sign in")
	}
	t.wants(a.status == http.StatusSeeOther, a, "another status repeats the password at the next place")
	to := a.to()
	t.wants(to != nil && to.Scheme+"://"+to.Host == t.origin, a, "the form leads to another host")
	t.wants(to == nil || !strings.Contains(to.String(), url.QueryEscape(t.pass)), a, "the password is in the URL")
	t.wants(strings.Contains(a.head.Get("Cache-Control"), "no-store"), a, "it may be kept")
	return nil
}

func sessionFixation(ctx context.Context, t *trial) error {
	if _, err := t.browser(ctx); err != nil {
		return err
	}
	a, got := t.entry, false
	for _, c := range (&http.Response{Header: a.head}).Cookies() {
		if c.Name != sessionCookie {
			continue
		}
		got = true
		t.wants(c.Value != t.before && len(c.Value) >= 22, a, "the session is the one the browser came with")
		t.wants(c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "", a, "its cookie is not the host's own")
		t.wants(c.SameSite == http.SameSiteLaxMode || c.SameSite == http.SameSiteStrictMode, a, "its cookie is sent with other sites' requests")
	}
	t.wants(got, a, "a sign-in sets no session cookie %s", sessionCookie)
	planted := newBrowser()
	planted.cookies[sessionCookie] = &http.Cookie{Name: sessionCookie, Value: t.before} //nolint:gosec // of a request
	v, _ := t.request(t.main, "prompt", "none")
	o, err := t.ask(ctx, planted, t.main, v)
	if err != nil {
		return err
	}
	t.wants(o.back.Get("code") == "", o.answer, "who planted the cookie is signed in")
	return nil
}

func noWayOut(ctx context.Context, t *trial) error {
	b, err := t.browser(ctx)
	if err != nil {
		return err
	}
	for _, path := range []string{
		"/signin?to=https://" + evil, "/signin?to=//" + evil, "/authorize/continue?request=https://" + evil,
		"/logout?post_logout_redirect_uri=https://" + evil, "/logout?client_id=" + url.QueryEscape(t.main.id) + "&post_logout_redirect_uri=https://" + evil,
		"/logout?client_id=" + url.QueryEscape(t.main.id) + "&post_logout_redirect_uri=" + url.QueryEscape(callback+"/x"),
	} {
		a, err := t.visit(ctx, b, http.MethodGet, t.cfg.Issuer+path, nil)
		if err != nil {
			return err
		}
		to := a.to()
		t.wants(to == nil || to.Scheme+"://"+to.Host == t.origin, a, "it leads away")
		t.wants(!a.says(`="https://`+evil) && !a.says(`="//`+evil), a, "its page links to where a stranger said")
	}
	v, _ := t.request(t.main, "prompt", "none")
	o, err := t.ask(ctx, b, t.main, v)
	if err != nil {
		return err
	}
	t.wants(o.back.Get("code") != "", o.answer, "one of these links has signed the user out")
	return nil
}

// attempt sends the sign-in form with a wrong password.
func (t *trial) attempt(ctx context.Context, name string) (*answer, string, error) {
	b := newBrowser()
	page, err := t.visit(ctx, b, http.MethodGet, t.cfg.Issuer+"/signin", nil)
	if err != nil {
		return nil, "", err
	}
	action, form := page.formOf("password")
	if form == nil {
		return nil, "", errors.New("the sign-in page has no field for a password")
	}
	form.Set("name", name)
	form.Set("password", random(18))
	a, err := t.visit(ctx, b, http.MethodPost, action, form)
	if err != nil {
		return nil, "", err
	}
	// What differs by chance or because it was typed: the tokens of forms, the name, the decision's id.
	text := strings.ReplaceAll(string(a.body), name, "NAME")
	for _, m := range hiddenTag.FindAllStringSubmatch(text, -1) {
		text = strings.ReplaceAll(text, m[2], "")
	}
	return a, decisionWord.ReplaceAllString(text, "DECISION"), nil
}

func usersAreNotTold(ctx context.Context, t *trial) error {
	// Once each: the address this comes from is counted against guessing.
	stranger := prefix + strings.Repeat("x", len(t.user.Name)-len(prefix))
	known, knownText, err := t.attempt(ctx, t.user.Name)
	if err != nil {
		return err
	}
	nobody, nobodyText, err := t.attempt(ctx, stranger)
	if err != nil {
		return err
	}
	t.wants(known.status == nobody.status, nobody, "the status differs")
	t.wants(knownText == nobodyText, nobody, "the page differs")
	t.note("a name there is took %v, one there is not %v", known.took.Round(time.Millisecond), nobody.took.Round(time.Millisecond))
	slow, fast := max(known.took, nobody.took), min(known.took, nobody.took)
	// Only an answer for which nothing was hashed can be that fast; a busy machine is slow for both.
	t.wants(slow < 3*fast || fast > 10*time.Millisecond, nil, "the time differs")
	if t.cfg.Outbox == "" {
		t.note("the reset page was not tried: it would really send a mail")
		return nil
	}
	return t.resetsAlike(ctx, stranger)
}

// resetsAlike asks for a new password of somebody and of nobody.
func (t *trial) resetsAlike(ctx context.Context, stranger string) error {
	var first *answer
	for _, name := range []string{t.user.Name, stranger} {
		a, err := t.reset(ctx, name)
		if err != nil {
			return err
		}
		if first == nil {
			first = a
			continue
		}
		t.wants(a.status == first.status && a.head.Get("Location") == first.head.Get("Location"), a, "the reset page tells who has an account")
	}
	return nil
}

func (t *trial) reset(ctx context.Context, name string, headers ...string) (*answer, error) {
	b := newBrowser()
	page, err := t.visit(ctx, b, http.MethodGet, t.cfg.Issuer+"/reset", nil)
	if err != nil {
		return nil, err
	}
	action, form := page.formOf("name")
	if form == nil {
		return nil, errors.New("the reset page has no field for a name")
	}
	form.Set("name", name)
	return t.visit(ctx, b, http.MethodPost, action, form, append([]string{"Origin", t.origin, "Sec-Fetch-Site", "same-origin"}, headers...)...)
}

func mailsAreOurs(ctx context.Context, t *trial) error {
	if t.cfg.Outbox == "" {
		return t.leaveOut("mails are really sent: with identity.mail.outbox they can be read here")
	}
	var headers []string
	for _, s := range spoofs {
		if strings.HasPrefix(s[0], "X-Forwarded") || s[0] == "Forwarded" { // others are refused at the door
			headers = append(headers, s...)
		}
	}
	a, err := t.reset(ctx, t.user.Name, headers...)
	if err != nil {
		return err
	}
	if a.status >= 400 {
		return nil // and nobody gets a mail
	}
	var mail string
	_, ok, err := within(ctx, 2*time.Second, func() (bool, error) {
		var err error
		mail, err = newestTo(t.cfg.Outbox, t.user.Email)
		return mail != "", err
	})
	if err != nil {
		return err
	}
	if !ok {
		t.wants(false, a, "no mail was found in %s", t.cfg.Outbox)
		return nil
	}
	mail = strings.NewReplacer("=\r\n", "", "=\n", "", "=3D", "=").Replace(mail) // quoted-printable (RFC 2045 §6.7)
	t.wants(!strings.Contains(mail, evil), a, "the mail names the host a stranger claimed")
	links := linkWord.FindAllString(mail, -1)
	t.wants(len(links) > 0, a, "the mail has no link")
	for _, link := range links {
		t.wants(strings.HasPrefix(link, t.cfg.Issuer+"/") || link == t.cfg.Issuer, a, "a link of the mail leads elsewhere")
	}
	return nil
}

// newestTo finds the mail to an address that was written last.
func newestTo(dir, address string) (string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var found string
	var at time.Time
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.IsDir() || info.Size() > maxAnswer || info.ModTime().Before(at) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && strings.Contains(string(b), address) {
			found, at = string(b), info.ModTime()
		}
	}
	return found, nil
}

func logoutEnds(ctx context.Context, t *trial) error {
	b, err := t.browser(ctx)
	if err != nil {
		return err
	}
	in := func() (bool, *outcome, error) {
		v, _ := t.request(t.main, "prompt", "none")
		o, err := t.ask(ctx, b, t.main, v)
		return err == nil && o.back.Get("code") != "", o, err
	}
	good, err := t.tokens(ctx, t.main)
	if err != nil {
		return err
	}
	for _, query := range []string{"", "?client_id=" + url.QueryEscape(t.main.id), "?logout_hint=" + url.QueryEscape(t.user.Name)} {
		if _, err := t.visit(ctx, b, http.MethodGet, t.at("end_session_endpoint")+query, nil); err != nil {
			return err
		}
	}
	still, o, err := in()
	if err != nil {
		return err
	}
	t.wants(still, o.answer, "a stranger's link has signed the user out")
	v := url.Values{"id_token_hint": {good.text("id_token")}, "post_logout_redirect_uri": {callback}, "state": {"s"}}
	a, err := t.visit(ctx, b, http.MethodGet, t.at("end_session_endpoint")+"?"+v.Encode(), nil)
	if err != nil {
		return err
	}
	t.wants(backOf(a, callback).Get("state") == "s", a, "the client does not get its user back")
	if still, o, err = in(); err != nil {
		return err
	}
	t.wants(!still, o.answer, "the session goes on")
	if raw := good.text("refresh_token"); raw != "" {
		if a, err = t.refresh(ctx, t.main, raw); err != nil {
			return err
		}
		t.refused(a, "a refresh token of the session still works")
	}
	if err := t.ends(ctx, t.main, good.text("access_token"), "tokens of an ended session"); err != nil {
		return err
	}
	t.in = nil // whoever needs a browser next signs in again
	return nil
}
