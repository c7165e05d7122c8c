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
	err = s.keepRequest(r.Context(), keptRequest{id, kindPushed, c.ID, "", string(text), now, now.Add(pushedLife)})
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, map[string]any{"request_uri": requestURN + id, "expires_in": int(pushedLife / time.Second)})
	return nil
}

var errPushed = refuse("invalid_request_uri", "The request_uri is unknown, used or expired.") // RFC 9101 §6.2

// pushed reads the request that client pushed. Coming here with it does not use it
// up: whoever reloads the page, or has a program look at the link before, would
// stand there with nothing (FAPI 2.0 §5.3.2.2, note 3). An answer does, see
// answered.
func (s *Server) pushed(ctx context.Context, requestURI, client string) (*authRequest, error) {
	id, ok := strings.CutPrefix(requestURI, requestURN)
	if !ok || len(id) != maxPushedID {
		return nil, errPushed
	}
	var text string
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT request FROM requests WHERE sha256 = $1 AND kind = $2 AND client = $3 AND consumed = 0 AND expires > $4`,
			digest(id), kindPushed, client, time.Now().UnixMilli()).Scan(&text)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errPushed
	}
	if err != nil {
		return nil, err
	}
	var request authRequest
	if err := json.Unmarshal([]byte(text), &request); err != nil {
		return nil, err
	}
	request.Reference = digest(id)
	return &request, nil
}

// answered uses up the pushed request a came from, in the transaction of the user's
// answer: of all browsers that brought it, one gets a code. The row may be swept
// away while its user signs in, so what decides is a row of its own that outlives
// every browser still waiting.
func (s *Server) answered(ctx context.Context, tx *sql.Tx, a *authRequest, now time.Time) error {
	if a.Reference == "" {
		return nil
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO once (kind, sha256, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		kindPushed, a.Reference, now.Add(waitingLife+pushedLife).UnixMilli())
	if err := oneRow(res, err, errPushed); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE requests SET consumed = $1 WHERE sha256 = $2 AND kind = $3`, now.UnixMilli(), a.Reference, kindPushed)
	return err
}
