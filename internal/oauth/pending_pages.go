package oauth

import (
	"net/http"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// What follows goes when pages.Session and pages.SignedOut are here.

func (s *Server) session(r *http.Request) (*identity.Session, *identity.User, string, error) {
	all := r.CookiesNamed("__Host-gatehouse")
	if len(all) != 1 {
		return nil, nil, "", identity.ErrSession
	}
	session, u, err := s.cfg.People.Session(r.Context(), all[0].Value)
	return session, u, all[0].Value, err
}

func (s *Server) signedOut(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: "__Host-gatehouse", Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
