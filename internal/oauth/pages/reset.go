package pages

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// resetView is the question for whom, its answer when Sent, or with Code the new
// password.
type resetView struct {
	Sent  bool
	Login string
	Code  string
}

// getReset is also where the mail leads, with a code. It changes nothing: programs
// open the links of a mail before its reader does.
func (p *Pages) getReset(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	v, title := resetView{Sent: q.Has("sent"), Code: q.Get("code")}, "Reset your password"
	switch {
	case v.Code != "":
		title = "Choose a new password"
	case v.Sent:
		title = "Look into your mail"
	}
	p.render(w, r, "reset", page{Title: title, Script: v.Code != "", V: v})
	return nil
}

// postReset says the same whether there is such an account or not.
func (p *Pages) postReset(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "name")
	if err != nil {
		return err
	}
	name := strings.TrimSpace(form.Get("name"))
	err = p.cfg.People.SendReset(r.Context(), name, source(r))
	if errors.Is(err, identity.ErrThrottled) {
		pg, err := p.refused(w, r, err, "", "name")
		if err != nil {
			return err
		}
		pg.Title, pg.V = "Reset your password", resetView{Login: name}
		p.render(w, r, "reset", pg)
		return nil
	}
	if err != nil {
		return p.noMail(err)
	}
	p.see(w, r, p.base+"/reset?sent", "")
	return nil
}

func (p *Pages) postNewPassword(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "code", "password")
	if err != nil {
		return err
	}
	_, err = p.cfg.People.Reset(r.Context(), form.Get("code"), gatehouse.NewSecret(form.Get("password")))
	switch {
	case errors.Is(err, identity.ErrPassword):
		p.render(w, r, "reset", page{
			Title: "Choose a new password", Script: true, Status: http.StatusUnprocessableEntity, Error: "This password is not good enough.",
			Fields: map[string]string{"password": rule(err)}, V: resetView{Code: form.Get("code")},
		})
		return nil
	case errors.Is(err, identity.ErrCode):
		return codeOver(err)
	case err != nil:
		return err
	}
	p.SignedOut(w) // a session of this browser has ended with all others
	p.see(w, r, p.base+"/signin?done=reset", "")
	return nil
}

// noMail explains an error when the house sends no mail.
func (p *Pages) noMail(err error) error {
	if errors.Is(err, identity.ErrInvalid) {
		return &gatehouse.Problem{
			Kind: gatehouse.Overloaded, Reason: "mail_unavailable", Err: err,
			Detail: "No mail is sent from here. Ask the people who run " + p.cfg.Name + ".",
		}
	}
	return err
}

// rule is the sentence in a refusal of a password: everything after the sentinel.
func rule(err error) string {
	_, text, found := strings.Cut(err.Error(), identity.ErrPassword.Error()+": ")
	if !found || text == "" {
		return "Choose another one."
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func codeOver(err error) error {
	return &gatehouse.Problem{
		Kind: gatehouse.NotFound, Reason: "code_over", Err: err,
		Detail: "This link was used already or is too old. Ask for a new one.",
	}
}

// getVerify only asks, as getReset does.
func (p *Pages) getVerify(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	title := "Confirm your e-mail address"
	if q.Has("done") {
		title = "Your e-mail address is confirmed"
	}
	p.render(w, r, "verify", page{Title: title, V: resetView{Code: q.Get("code"), Sent: q.Has("done")}})
	return nil
}

func (p *Pages) postVerify(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "code")
	if err != nil {
		return err
	}
	if _, err := p.cfg.People.Verify(r.Context(), form.Get("code")); errors.Is(err, identity.ErrCode) {
		return codeOver(err)
	} else if err != nil {
		return err
	}
	p.see(w, r, p.base+"/verify?done", "")
	return nil
}
