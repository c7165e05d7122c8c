package oauth

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	maxRegistration   = 16 << 10          // bytes of a registration
	maxRegistered     = 10_000            // clients: more are refused, so that a stranger cannot fill the table
	maxGone           = 2 * maxRegistered // of them deleted within a day: their rows stay
	registrationActor = "registration"
	sectorWait        = 5 * time.Second

	registrationOpen  = "open"
	registrationToken = "token"
)

// A registration is what a stranger sends (RFC 7591 §2, RFC 7592 §2.2).
type registration struct {
	ClientID          string `json:"client_id"`
	ClientSecret      string `json:"client_secret"`
	SoftwareStatement string `json:"software_statement"`
	SectorURI         string `json:"sector_identifier_uri"`
	Metadata
}

// A registered is what it is answered (RFC 7591 §3.2.1).
type registered struct {
	ClientID      string `json:"client_id"`
	ClientSecret  string `json:"client_secret,omitempty"`
	IssuedAt      int64  `json:"client_id_issued_at"`
	SecretExpires *int64 `json:"client_secret_expires_at,omitempty"` // 0: it does not
	AccessToken   string `json:"registration_access_token"`
	ClientURI     string `json:"registration_client_uri"`
	Metadata
}

// register is POST /register (RFC 7591).
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	switch s.cfg.Registration {
	case registrationOpen:
	case registrationToken:
		given, ok := bearer(r)
		if !ok || subtle.ConstantTimeCompare([]byte(digest(given)), []byte(s.cfg.InitialAccess)) != 1 {
			return badRegistrationToken()
		}
	default:
		return &Error{Code: "access_denied", Description: "Clients cannot register themselves here.", Status: http.StatusForbidden}
	}
	reg, err := s.readRegistration(r)
	if err != nil {
		return err
	}
	if reg.ClientID != "" || reg.ClientSecret != "" {
		return refuse("invalid_client_metadata", "client_id and client_secret are chosen by the server.")
	}
	access := newRegistrationToken()
	secret, c, err := s.createClient(r.Context(), registrationActor, "dyn_"+randomWord(20), originRegistered, digest(access), reg.Metadata)
	if err != nil {
		return registrationError(err)
	}
	gatehouse.EventOf(r.Context()).Client = c.ID
	answer(w, http.StatusCreated, s.registered(c, secret, access))
	return nil
}

// registration is GET, PUT and DELETE of /register/{client_id} (RFC 7592).
func (s *Server) registration(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Registration == "" {
		return &Error{Code: "access_denied", Description: "Clients cannot register themselves here.", Status: http.StatusForbidden}
	}
	ctx, id := r.Context(), r.PathValue("client_id")
	access, ok := bearer(r)
	if !ok {
		return badRegistrationToken()
	}
	c, err := s.registeredAs(ctx, id, access)
	if err != nil {
		return err
	}
	gatehouse.EventOf(ctx).Client = c.ID
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		answer(w, http.StatusOK, s.registered(c, gatehouse.Secret{}, access))
		return nil
	case http.MethodPut:
		return s.reregister(w, r, c, access)
	case http.MethodDelete:
		if err := s.DeleteClient(ctx, c.ID, c.ID); err != nil {
			return registrationError(err)
		}
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return &Error{Code: "invalid_request", Description: "GET, PUT and DELETE are the methods here.", Status: http.StatusMethodNotAllowed}
}

// registeredAs returns the client that access was given to. A client that is not
// there, or did not register itself, is answered like a wrong token.
func (s *Server) registeredAs(ctx context.Context, id, access string) (*Client, error) {
	var have string
	var disabled int64
	var c *liveClient
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		err = tx.QueryRowContext(ctx, `SELECT registration, disabled FROM clients WHERE id = $1 AND origin = $2`, id, originRegistered).Scan(&have, &disabled)
		if err == nil {
			c, err = selectClient(ctx, tx, id)
		}
		return err
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	same := subtle.ConstantTimeCompare([]byte(digest(access)), []byte(have)) == 1
	if err != nil || !same || have == "" || disabled != 0 {
		return nil, badRegistrationToken()
	}
	return &c.Client, nil
}

// reregister replaces the metadata, and the registration access token: the old
// one is the condition of the one statement, so of two at once one wins.
func (s *Server) reregister(w http.ResponseWriter, r *http.Request, c *Client, access string) error {
	reg, err := s.readRegistration(r)
	if err != nil {
		return err
	}
	if reg.ClientID != c.ID {
		return refuse("invalid_client_metadata", "client_id must be the registered one.")
	}
	// What an operator has set since to keep the client in bounds is not the client's to lift.
	reg.AccessTokenAlg, reg.Resources, reg.Tenant = c.AccessTokenAlg, c.Resources, c.Tenant
	reg.setDefaults()
	if err := s.checkMetadata(&reg.Metadata); err != nil {
		return registrationError(err)
	}
	ctx := r.Context()
	next := newRegistrationToken()
	now := time.UnixMilli(time.Now().UnixMilli())
	var secret gatehouse.Secret
	err = s.change(ctx, c.ID, "clients.update", c.ID, reg.detail(), func(tx *sql.Tx) error {
		secret = gatehouse.Secret{}
		doc, err := json.Marshal(&reg.Metadata)
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, registration = $2, updated = $3, version = version + 1
			WHERE id = $4 AND origin = $5 AND registration = $6 AND disabled = 0 AND version = $7`,
			string(doc), digest(next), now.UnixMilli(), c.ID, originRegistered, digest(access), c.Version)
		if err := oneRow(res, err, badRegistrationToken()); err != nil {
			return err
		}
		if !needsSecret(&reg.Metadata) {
			_, err := tx.ExecContext(ctx, `DELETE FROM client_secrets WHERE client = $1`, c.ID)
			return err
		}
		var live int64
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM client_secrets WHERE client = $1 AND (not_after = 0 OR not_after > $2)`, c.ID, now.UnixMilli()).Scan(&live)
		if err != nil || live > 0 {
			return err
		}
		var sum string
		var sec Secret
		secret, sum, sec = newClientSecret(now)
		return insertSecret(ctx, tx, c.ID, sum, sec)
	})
	if err != nil {
		return registrationError(err)
	}
	c, err = s.Client(ctx, c.ID)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, s.registered(c, secret, next))
	return nil
}

func (s *Server) registered(c *Client, secret gatehouse.Secret, access string) *registered {
	out := &registered{ClientID: c.ID, IssuedAt: c.Created.Unix(), AccessToken: access, ClientURI: s.cfg.Issuer + "/register/" + c.ID, Metadata: c.Metadata}
	if !secret.Empty() {
		out.ClientSecret, out.SecretExpires = secret.Reveal(), new(int64)
	}
	return out
}

// readRegistration reads the body and takes away what strangers may not have.
func (s *Server) readRegistration(r *http.Request) (*registration, error) {
	if r.URL.RawQuery != "" || !isJSON(r.Header.Get("Content-Type")) {
		return nil, refuse("invalid_client_metadata", "The body must be application/json, and the query empty.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRegistration))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &Error{Code: "invalid_client_metadata", Description: "The body is too large.", Status: http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return nil, refuse("invalid_client_metadata", "The body could not be read.").because(err)
	}
	if err := strictJSON(string(body), 8); err != nil {
		return nil, refuse("invalid_client_metadata", "The body is not a JSON object.").because(err)
	}
	var reg registration
	if err := json.Unmarshal(body, &reg); err != nil {
		return nil, refuse("invalid_client_metadata", "The body is not client metadata.").because(err)
	}
	if reg.SoftwareStatement != "" {
		return nil, refuse("unapproved_software_statement", "Software statements are not taken here.")
	}
	if err := s.narrowStranger(&reg.Metadata); err != nil {
		return nil, registrationError(err)
	}
	if reg.SectorURI != "" {
		if err := s.checkSector(r.Context(), reg.SectorURI, reg.RedirectURIs); err != nil {
			return nil, refuse("invalid_client_metadata", "The sector_identifier_uri does not list the redirect URIs.").because(err)
		}
	}
	return &reg, nil
}

// narrowStranger takes from metadata that no operator has looked at what is the
// operator's to give. Without a user nobody would have consented to what such a
// client does, so it acts for users only.
func (s *Server) narrowStranger(m *Metadata) error {
	m.AccessTokenAlg, m.Resources, m.Roles, m.Tenant, m.Trusted, m.Exchange = "", nil, nil, "", false, nil
	for _, g := range m.GrantTypes {
		switch g {
		case grantTypeClient, grantTypeExchange, grantTypeDevice:
			return &metadataError{[]Finding{{"grant_types", "operator", fmt.Sprintf("%s is given by an operator only", g)}}}
		}
	}
	if m.IDTokenAlg == "" && s.cfg.Profile != FAPI2 && slices.Contains(s.algorithms(), string(token.RS256)) {
		m.IDTokenAlg = string(token.RS256) // what a client that names none expects (OpenID Connect Registration §2)
	}
	if m.Scope == "" {
		// RFC 7591 §2: the default set; each user decides what of it is granted.
		m.Scope = words(s.allScopes())
	}
	return nil
}

// allScopes is what clients may ask for, sorted.
func (s *Server) allScopes() []string {
	all := map[string]bool{}
	for _, name := range oidcScopes() {
		all[name] = true
	}
	for name := range s.cfg.Scopes {
		all[name] = true
	}
	for _, r := range s.cfg.Resources {
		for _, name := range r.Scopes {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// checkSector fetches the list that ties redirect URIs of several hosts together
// (OpenID Connect Registration §5). With public subjects nothing hangs on it, but
// a client that says it must not be contradicted by it.
func (s *Server) checkSector(ctx context.Context, uri string, redirects []string) error {
	if why := webURI(uri, false); why != "" {
		return errors.New(why)
	}
	if s.cfg.Fetch == nil {
		return errors.New("nothing is configured to fetch it with")
	}
	ctx, cancel := context.WithTimeout(ctx, sectorWait)
	defer cancel()
	body, _, err := s.cfg.Fetch.Fetch(ctx, uri)
	if err != nil {
		return err
	}
	var list []string
	if err := json.Unmarshal(body, &list); err != nil {
		return errors.New("it is not a list of URIs")
	}
	if !subset(redirects, list) {
		return errors.New("a redirect URI is not in it")
	}
	return nil
}

// registrationError is err in the words of RFC 7591 §3.2.2.
func registrationError(err error) error {
	e, ok := errors.AsType[*metadataError](err)
	if !ok {
		return err
	}
	// Redirect URIs of a client without a grant that uses them are not what is wrong with it.
	first, code := e.found[0], "invalid_client_metadata"
	if i := slices.IndexFunc(e.found, func(f Finding) bool { return f.Field != "redirect_uris" || f.Rule != "unused" }); i >= 0 {
		first = e.found[i]
	}
	if first.Field == "redirect_uris" {
		code = "invalid_redirect_uri"
	}
	return refuse(code, safeText(first.String())).because(err)
}

// safeText makes a description of s (RFC 6749 §5.2): it may quote what was sent.
func safeText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
}

func badRegistrationToken() *Error {
	return &Error{Code: "invalid_token", Description: "The access token is missing or wrong.", Status: http.StatusUnauthorized, Challenge: `Bearer error="invalid_token"`}
}

func newRegistrationToken() string { return checked("gcr_" + randomWord(secretRandom)) }

// bearer returns the token of the one Authorization header (RFC 6750 §2.1).
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, given, ok := strings.Cut(values[0], " ")
	return given, ok && strings.EqualFold(scheme, "Bearer") && given != "" && len(given) <= maxCredential
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"))
}
