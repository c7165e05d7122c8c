package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

const (
	requestURN  = "urn:ietf:params:oauth:request_uri:" // RFC 9126 §2.2
	pushedLife  = time.Minute
	kindPushed  = "pushed"
	maxPushedID = 43
)

// pushRequest is POST /par (RFC 9126): a client hands in its authorization request
// itself, proves who it is, and gets a name for it that works once and only for
// it. Everything is judged now, so that the browser brings nothing to judge.
func (s *Server) pushRequest(w http.ResponseWriter, r *http.Request) error {
	s.freshNonce(w.Header())
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	if form.Has("request_uri") {
		return refuse("invalid_request", "A pushed request cannot refer to another one.")
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		form.Del(name)
	}
	form.Set("client_id", c.ID)
	request, _, err := s.judge(r.Context(), c.Client, form, true)
	if err != nil {
		return err
	}
	if c.JKT != "" {
		// RFC 9449 §10.1: the proof says the same as dpop_jkt, and must not say otherwise.
		if request.JKT != "" && request.JKT != c.JKT {
			return refuse("invalid_dpop_proof", "dpop_jkt is not the thumbprint of the proof's key.")
		}
		request.JKT = c.JKT
	}
	request.Pushed = true
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	id := randomWord(maxPushedID) // 256 bits
	now := time.Now()
	err = s.cfg.DB.Write(r.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(r.Context(), `INSERT INTO requests (sha256, kind, client, browser, request, created, expires, consumed) VALUES ($1, $2, $3, '', $4, $5, $6, 0)`,
			digest(id), kindPushed, c.ID, string(text), now.UnixMilli(), now.Add(pushedLife).UnixMilli())
		return err
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, map[string]any{"request_uri": requestURN + id, "expires_in": int(pushedLife / time.Second)})
	return nil
}

// pushed takes the request out that client pushed: once, one statement decides
// for all browsers that bring it. Another client's attempt changes nothing.
func (s *Server) pushed(ctx context.Context, requestURI, client string) (*authRequest, error) {
	gone := refuse("invalid_request_uri", "The request_uri is unknown, used or expired.") // RFC 9101 §6.2
	id, ok := strings.CutPrefix(requestURI, requestURN)
	if !ok || len(id) != maxPushedID {
		return nil, gone
	}
	var text string
	now := time.Now().UnixMilli()
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `UPDATE requests SET consumed = $1 WHERE sha256 = $2 AND kind = $3 AND client = $4 AND consumed = 0 AND expires > $1 RETURNING request`,
			now, digest(id), kindPushed, client).Scan(&text)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	var request authRequest
	if err := json.Unmarshal([]byte(text), &request); err != nil {
		return nil, err
	}
	return &request, nil
}
