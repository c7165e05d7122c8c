package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// to is where the answers to a request go.
func (a *authRequest) to() *redirect {
	return &redirect{URI: a.RedirectURI, State: a.State, Mode: a.ResponseMode}
}

// answerError tells the client why its request failed (RFC 6749 §4.1.2.1). A
// client nobody has vetted would make a redirector to any address of ours: its
// errors are a page until its user has signed in (RFC 9700 §4.11.2).
func (s *Server) answerError(w http.ResponseWriter, r *http.Request, c *Client, where *redirect, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status >= http.StatusInternalServerError {
		return err // ours: the user may try again, the client need not know
	}
	if !vetted(c) {
		if _, _, _, sessionErr := s.pages.Session(r); sessionErr != nil {
			return err
		}
	}
	e.note(r)
	return s.answerClient(w, r, where, url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// answerClient sends the browser back to its client, with state and with iss, by
// which the client knows whose answer it is (RFC 9207).
func (s *Server) answerClient(w http.ResponseWriter, r *http.Request, where *redirect, values url.Values) error {
	values.Set("iss", s.cfg.Issuer)
	if where.State != "" {
		values.Set("state", where.State)
	}
	if where.Mode == modePost {
		fields := make([]pages.Field, 0, len(values))
		for name := range values {
			fields = append(fields, pages.Field{Name: name, Value: values.Get(name)})
		}
		s.pages.FormPost(w, r, where.URI, fields)
		return nil
	}
	sep := "?"
	if strings.Contains(where.URI, "?") {
		sep = "&" // its own query stays as it was registered
	}
	to(w, where.URI+sep+values.Encode())
	return nil
}

// to redirects with 303, so that no browser repeats a POST, and with it a
// password, at the place it is sent to (RFC 9700 §4.12).
func to(w http.ResponseWriter, target string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

// page makes an http.Handler of h whose errors are pages.
func (s *Server) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		if _, ours := errors.AsType[*Error](err); !ours {
			if problem, ok := errors.AsType[*gatehouse.Problem](err); ok {
				s.pages.Fail(w, r, problem)
				return
			}
		}
		e := asError(err)
		e.note(r)
		status := e.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		title := "This request cannot be answered"
		if status >= http.StatusInternalServerError {
			title = "Not available at the moment"
		}
		s.pages.Problem(w, r, status, title, e.Description, "")
	})
}
