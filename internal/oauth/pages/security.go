package pages

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const purposeTOTP = "page totp enrolment"

type securityView struct {
	identity.Factors
	Keys []identity.Passkey
	Name string // proposed for a new passkey
}

// security shows how the user signs in, and lets it change that.
func (p *Pages) security(w http.ResponseWriter, r *http.Request, m *me) error {
	return p.showSecurity(w, r, m, page{})
}

func (p *Pages) showSecurity(w http.ResponseWriter, r *http.Request, m *me, pg page) error {
	f, err := p.cfg.People.Factors(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	keys, err := p.cfg.People.Passkeys(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	pg.Script, pg.V = true, securityView{f, keys, device(r.UserAgent())}
	return p.show(w, r, m, "security", "security", "How you sign in", pg)
}

func (p *Pages) getPassword(w http.ResponseWriter, r *http.Request, m *me) error {
	if stale, err := p.stale(w, r, m, "/account/password"); stale || err != nil {
		return err
	}
	return p.show(w, r, m, "password", "security", "Change your password", page{Script: true})
}

func (p *Pages) postPassword(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/password", "username", "password")
	if form == nil {
		return err
	}
	err = p.cfg.People.SetPassword(r.Context(), m.user.ID, m.user.ID, gatehouse.NewSecret(form.get("password")))
	if errors.Is(err, identity.ErrPassword) {
		return p.show(w, r, m, "password", "security", "Change your password", page{
			Script: true, Status: http.StatusUnprocessableEntity, Error: "This password is not good enough.", Fields: map[string]string{"password": rule(err)},
		})
	}
	if err != nil {
		return err
	}
	// All sessions have ended, this one too: whoever shared it is out.
	p.SignedOut(w)
	p.see(w, r, p.base+"/signin?done=password", "")
	return nil
}

// newPasskey starts the registration of a passkey, for the script.
func (p *Pages) newPasskey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.Form(w, r, "name")
	if err != nil {
		return err
	}
	if m.old() {
		to, err := p.sealAfter(after{Path: p.base + "/account/security?done=again", Fresh: true})
		if err != nil {
			return err
		}
		return p.answer(w, map[string]any{"location": p.base + "/signin?to=" + to})
	}
	options, state, err := p.cfg.People.BeginPasskey(r.Context(), m.user.ID, form.Get("name"))
	if errors.Is(err, identity.ErrPasskey) || errors.Is(err, identity.ErrNoPasskeys) {
		return p.answer(w, map[string]any{"error": sentence(err)})
	}
	if err != nil {
		return err
	}
	return p.answer(w, map[string]any{"options": options, "state": state})
}

func (p *Pages) addPasskey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/security", "name", "state", "response")
	if form == nil {
		return err
	}
	_, err = p.cfg.People.FinishPasskey(r.Context(), m.by(), form.get("state"), []byte(form.get("response")))
	if errors.Is(err, identity.ErrPasskey) {
		gatehouse.EventOf(r.Context()).Cause = err.Error()
		text := "The passkey was not added. Try again."
		return p.showSecurity(w, r, m, page{Status: http.StatusUnprocessableEntity, Error: text, Fields: map[string]string{"passkey": text}})
	}
	if err != nil {
		return err
	}
	if err := p.rotate(w, r, m); err != nil {
		return err
	}
	return p.done(w, r, "/account/security", "passkey")
}

func (p *Pages) removePasskey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/security", "id")
	if form == nil {
		return err
	}
	err = p.cfg.People.RemovePasskey(r.Context(), m.by(), form.get("id"))
	switch {
	case errors.Is(err, identity.ErrLast):
		return p.showSecurity(w, r, m, page{Status: http.StatusConflict, Error: "This passkey is your only way to sign in. Set a password or add another passkey first."})
	case errors.Is(err, identity.ErrInvalid): // removed in another tab
		return p.done(w, r, "/account/security", "removed")
	case err != nil:
		return err
	}
	if err := p.rotate(w, r, m); err != nil {
		return err
	}
	return p.done(w, r, "/account/security", "removed")
}

// enrolment is what an authenticator app is being set up with. It comes back
// sealed, so that a mistyped code shows the same QR code again.
type enrolment struct {
	URI   string `json:"uri"` // otpauth:, with the secret
	State string `json:"state"`
}

type totpView struct {
	Sealed string
	Secret string       // in groups of four
	URI    template.URL // otpauth:, for an app on this device
	Code   code
	Again  bool // there is an app already, which this one replaces
}

func (p *Pages) getTOTP(w http.ResponseWriter, r *http.Request, m *me) error {
	if stale, err := p.stale(w, r, m, "/account/totp"); stale || err != nil {
		return err
	}
	_, uri, state, err := p.cfg.People.NewTOTP(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	return p.showTOTP(w, r, m, enrolment{uri.Reveal(), state}, page{})
}

func (p *Pages) showTOTP(w http.ResponseWriter, r *http.Request, m *me, e enrolment, pg page) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	sealed, err := p.cfg.Seal.Seal(purposeTOTP, b)
	if err != nil {
		return err
	}
	f, err := p.cfg.People.Factors(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	picture, err := qrCode(e.URI)
	if err != nil {
		return err
	}
	uri, err := url.Parse(e.URI)
	if err != nil {
		return err
	}
	pg.V = totpView{
		Sealed: sealed, Secret: grouped(uri.Query().Get("secret")), Code: picture, Again: f.TOTP,
		URI: template.URL(e.URI), //nolint:gosec // made by identity, with the scheme otpauth, and sealed since
	}
	return p.show(w, r, m, "totp", "security", "Set up an authenticator app", pg)
}

func grouped(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// postTOTP shows the recovery codes in its answer and not on a page of its own:
// they are shown once, and nowhere kept for a second look.
func (p *Pages) postTOTP(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/totp", "enrolment", "code")
	if form == nil {
		return err
	}
	var e enrolment
	b, err := p.cfg.Seal.Open(purposeTOTP, form.get("enrolment"))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		return formProblem("This page is too old. Open it again.", err)
	}
	codes, err := p.cfg.People.ConfirmTOTP(r.Context(), m.by(), e.State, strings.TrimSpace(form.get("code")))
	if errors.Is(err, identity.ErrCode) {
		text := "The code is not right. Enter the one that the app shows now, and look whether this device and your phone have the same time."
		return p.showTOTP(w, r, m, e, page{Status: http.StatusUnprocessableEntity, Error: "The code is not right.", Fields: map[string]string{"code": text}})
	}
	if err != nil {
		return err
	}
	return p.showCodes(w, r, m, codes, "The authenticator app is set up.")
}

func (p *Pages) showCodes(w http.ResponseWriter, r *http.Request, m *me, codes []gatehouse.Secret, notice string) error {
	if err := p.rotate(w, r, m); err != nil {
		return err
	}
	plain := make([]string, len(codes))
	for i, c := range codes {
		plain[i] = c.Reveal()
	}
	return p.show(w, r, m, "codes", "security", "Your recovery codes", page{Notice: notice, V: plain})
}

func (p *Pages) removeTOTP(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/security")
	if form == nil {
		return err
	}
	if err := p.cfg.People.RemoveTOTP(r.Context(), m.by()); err != nil && !errors.Is(err, identity.ErrInvalid) {
		return err
	}
	if err := p.rotate(w, r, m); err != nil {
		return err
	}
	return p.done(w, r, "/account/security", "totp")
}

func (p *Pages) newRecovery(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/security")
	if form == nil {
		return err
	}
	codes, err := p.cfg.People.NewRecoveryCodes(r.Context(), m.by())
	if errors.Is(err, identity.ErrInvalid) {
		return p.showSecurity(w, r, m, page{Status: http.StatusConflict, Error: "Recovery codes stand in for an authenticator app. Set one up first."})
	}
	if err != nil {
		return err
	}
	return p.showCodes(w, r, m, codes, "The codes you had before count no more.")
}

// sentence makes one of an error that was written for the user.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
