package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

const (
	deviceLife      = 10 * time.Minute
	deviceEvery     = 5  // seconds between two questions, at first
	deviceSlower    = 5  // seconds more for each question too early (RFC 8628 §3.5)
	deviceSlowest   = 60 //
	devicePrefix    = "ghd_"
	deviceSecret    = 43 // base62 digits: 256 bits
	maxDevices      = 50_000
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ" // RFC 8628 §6.1: no vowels, so no words; nothing that looks like a digit
	userCodeLen     = 8                      // 34 bits, of which nobody gets more than ten guesses
	maxGuesses      = 10                     // wrong codes of one user
	guessWindow     = 10 * time.Minute
	onceGuess       = "user code "
	purposeDevice   = "device question"

	statePending  = "pending"
	stateApproved = "approved"
	stateDenied   = "denied"
	stateRedeemed = "redeemed"
)

// authorizeDevice is POST /device_authorization (RFC 8628 §3.1).
func (s *Server) authorizeDevice(w http.ResponseWriter, r *http.Request) error {
	s.freshNonce(w.Header())
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	if !slices.Contains(c.GrantTypes, grantTypeDevice) {
		return refuse("unauthorized_client", "This client is not registered for the device flow.")
	}
	ctx := r.Context()
	var asked authRequest
	if err := s.judgeScope(ctx, c.Client, form, &asked); err != nil {
		return err
	}
	if err := s.judgeTarget(ctx, c.Client, form, &asked); err != nil {
		return err
	}
	if asked.Details, err = s.judgeDetails(c.Client, form.Get("authorization_details")); err != nil {
		return err
	}
	if err := placedWithin(asked.Details, asked.Resource); err != nil {
		return err
	}
	secret, code, err := s.newDevice(ctx, c.ID, &asked)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{
		"device_code": secret, "user_code": code,
		"verification_uri": s.cfg.Issuer + "/device", "verification_uri_complete": s.cfg.Issuer + "/device?user_code=" + code,
		"expires_in": int(deviceLife / time.Second), "interval": deviceEvery,
	})
	return nil
}

func (s *Server) newDevice(ctx context.Context, client string, asked *authRequest) (secret, code string, err error) {
	now := time.Now()
	for range 3 { // a user code that is in use already is drawn again
		secret, code = devicePrefix+randomWord(deviceSecret), randomUserCode()
		made := false
		err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
			var waiting int64
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE expires > $1`, now.UnixMilli()).Scan(&waiting); err != nil {
				return err
			}
			if waiting >= maxDevices {
				return fmt.Errorf("oauth: %d devices wait already", waiting)
			}
			res, err := tx.ExecContext(ctx, `INSERT INTO devices (sha256, user_code, client, scope, resource, details, state, grant_id, every, polled, created, expires)
				VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, 0, $9, $10) ON CONFLICT DO NOTHING`,
				digest(secret), digest(code), client, words(asked.Scopes), words(asked.Resource), string(asked.Details), statePending,
				deviceEvery, now.UnixMilli(), now.Add(deviceLife).UnixMilli())
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			made = n == 1
			return err
		})
		if err != nil || made {
			return secret, code, err
		}
	}
	return "", "", errors.New("oauth: no free user code was found")
}

// randomUserCode draws BCDF-GHJK, each letter as likely as the others.
func randomUserCode() string {
	out := make([]byte, 0, userCodeLen+1)
	for _, c := range []byte(randomIndex(len(userCodeLetters), userCodeLen)) {
		if len(out) == userCodeLen/2 {
			out = append(out, '-')
		}
		out = append(out, userCodeLetters[c])
	}
	return string(out)
}

// readUserCode makes what somebody typed the code it means, "" when it is none:
// case, spaces and dashes do not count.
func readUserCode(typed string) string {
	if len(typed) > 32 {
		return ""
	}
	out := make([]byte, 0, userCodeLen+1)
	for _, c := range []byte(strings.ToUpper(typed)) {
		switch {
		case c == ' ' || c == '-':
		case strings.IndexByte(userCodeLetters, c) >= 0:
			if len(out) == userCodeLen/2 {
				out = append(out, '-')
			}
			out = append(out, c)
		default:
			return ""
		}
	}
	if len(out) != userCodeLen+1 {
		return ""
	}
	return string(out)
}

// grantDevice is the device's question whether its user has agreed (RFC 8628
// §3.4). The device code is used up in one statement, before anything is minted.
func (s *Server) grantDevice(ctx context.Context, c *proven, form url.Values) (*tokenResponse, error) {
	secret := form.Get("device_code")
	if secret == "" {
		return nil, refuse("invalid_request", "device_code is missing.")
	}
	if err := s.bindable(c); err != nil {
		return nil, err // before the code is used up: a nonce may be all that is missing
	}
	var g *grant
	var refused *Error
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		g, refused = nil, nil
		now := time.Now()
		var id string
		err := tx.QueryRowContext(ctx, `UPDATE devices SET state = $1 WHERE sha256 = $2 AND client = $3 AND state = $4 AND expires > $5 RETURNING grant_id`,
			stateRedeemed, digest(secret), c.ID, stateApproved, now.UnixMilli()).Scan(&id)
		if err == nil {
			g, err = s.startGrant(ctx, tx, c, id, now)
			if err == nil && g == nil {
				refused = refuse("invalid_grant", "The grant has ended.")
			}
			return err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		refused, err = waitDevice(ctx, tx, digest(secret), c.ID, now)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return nil, refused
	}
	user, err := s.grantor(ctx, c, g, s.cfg.People.SessionUsed)
	if err != nil {
		return nil, err
	}
	return s.issue(ctx, c, g, issueOptions{
		Scopes: g.Scopes, Resource: g.Resource, IDToken: slices.Contains(g.Scopes, scopeOpenID), Refresh: mayRefresh(c.Client), User: user,
	})
}

// waitDevice says why a device code gives nothing now, and counts the question.
func waitDevice(ctx context.Context, tx *sql.Tx, sum, client string, now time.Time) (*Error, error) {
	var state string
	var expires int64
	err := tx.QueryRowContext(ctx, `SELECT state, expires FROM devices WHERE sha256 = $1 AND client = $2`, sum, client).Scan(&state, &expires)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && state == stateRedeemed:
		// Another client's code is no code, and shown by it changes nothing.
		return refuse("invalid_grant", "The device_code is wrong, used, or not this client's."), nil
	case err != nil:
		return nil, err
	case expires <= now.UnixMilli():
		return refuse("expired_token", "The device_code has expired; start again."), nil
	case state == stateDenied:
		return refuse("access_denied", "The user said no."), nil
	}
	res, err := tx.ExecContext(ctx, `UPDATE devices SET polled = $1 WHERE sha256 = $2 AND polled + 1000 * every <= $1`, now.UnixMilli(), sum)
	if err != nil {
		return nil, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return nil, err
	}
	if n == 1 {
		return refuse("authorization_pending", "The user has not decided yet."), nil
	}
	_, err = tx.ExecContext(ctx, `UPDATE devices SET polled = $1, every = CASE WHEN every + $2 > $3 THEN $3 ELSE every + $2 END WHERE sha256 = $4`,
		now.UnixMilli(), deviceSlower, deviceSlowest, sum)
	return refuse("slow_down", "Asked too early; wait five seconds longer each time."), err
}

// A deviceQuestion is what a user is asked about a device. It travels sealed in
// the form, so that the answer is this user's, in this session, to this question.
type deviceQuestion struct {
	Device  string    `json:"device"` // digest of the user code
	User    string    `json:"user"`
	Session string    `json:"session"`
	Asked   time.Time `json:"asked"`
}

// devicePage is GET /device. A code in the URL is filled in and no more: who
// sends somebody a link must not get his device connected by it (RFC 8628 §5.4).
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request) error {
	code := readUserCode(r.URL.Query().Get("user_code"))
	_, u, _, err := s.pages.Session(r)
	if errors.Is(err, identity.ErrSession) {
		return s.pages.SignIn(w, r, s.base+"/device")
	}
	if err != nil {
		return err
	}
	s.pages.Device(w, r, pages.DeviceView{State: "ask", Code: code, User: u.Name})
	return nil
}

// deviceAnswer is POST /device: the code that was typed, then the decision.
func (s *Server) deviceAnswer(w http.ResponseWriter, r *http.Request) error {
	form, err := s.pages.Form(w, r, "user_code", "request", "decision")
	if err != nil {
		return err
	}
	ctx := r.Context()
	session, u, _, err := s.pages.Session(r)
	if errors.Is(err, identity.ErrSession) {
		return s.pages.SignIn(w, r, s.base+"/device")
	}
	if err != nil {
		return err
	}
	gatehouse.EventOf(ctx).Subject = u.ID
	typed := form.Get("user_code")
	code := readUserCode(typed)
	found, throttled, err := s.lookUpDevice(ctx, u.ID, code)
	if err != nil {
		return err
	}
	view := pages.DeviceView{State: "ask", Code: typed, User: u.Name}
	switch {
	case throttled:
		view.Problem = "Too many wrong codes. Wait ten minutes and try again."
	case found == nil:
		view.Problem = "This code is wrong or has expired. Look at your device again."
	}
	if view.Problem != "" {
		s.pages.Device(w, r, view)
		return nil
	}
	c, err := s.client(ctx, found.client)
	if err != nil {
		return err
	}
	view.Code, view.Client = code, shown(c)
	for _, w := range found.scopes {
		view.Scopes = append(view.Scopes, s.scopeItem(w))
	}
	view.Scopes = append(view.Scopes, detailItems(found.details)...)
	for _, id := range found.resource {
		if t := s.resources[id]; t != nil {
			view.Scopes = append(view.Scopes, pages.Item{Name: id, Text: "Do so at " + orElse(t.Name, id)})
		}
	}
	switch form.Get("decision") {
	case "allow", "deny":
		if !s.sameQuestion(form.Get("request"), code, session, u) {
			return s.askDevice(w, r, view, code, session, u) // of another session or too old: ask again
		}
		ok, err := s.decideDevice(ctx, found, form.Get("decision") == "allow", session, u)
		if err != nil {
			return err
		}
		switch {
		case !ok:
			view.State, view.Problem = "ask", "This code is wrong or has expired. Look at your device again."
		case form.Get("decision") == "allow":
			view.State = "approved"
		default:
			view.State = "denied"
		}
		s.pages.Device(w, r, view)
		return nil
	}
	return s.askDevice(w, r, view, code, session, u)
}

func (s *Server) askDevice(w http.ResponseWriter, r *http.Request, view pages.DeviceView, code string, session *identity.Session, u *identity.User) error {
	text, err := json.Marshal(deviceQuestion{Device: digest(code), User: u.ID, Session: session.ID, Asked: time.Now()})
	if err != nil {
		return err
	}
	if view.Request, err = s.cfg.Seal.Seal(purposeDevice, text); err != nil {
		return err
	}
	view.State = "confirm"
	s.pages.Device(w, r, view)
	return nil
}

func (s *Server) sameQuestion(sealed, code string, session *identity.Session, u *identity.User) bool {
	text, err := s.cfg.Seal.Open(purposeDevice, sealed)
	if err != nil {
		return false
	}
	var q deviceQuestion
	return json.Unmarshal(text, &q) == nil && q.Device == digest(code) && q.User == u.ID && q.Session == session.ID && time.Since(q.Asked) < deviceLife
}

// A device is one that waits.
type device struct {
	sum              string // of the user code
	client           string
	scopes, resource []string
	details          json.RawMessage
	expires          time.Time
}

// lookUpDevice finds the device that shows code. A code that is wrong counts
// against the user who typed it: guessing finds other people's devices.
func (s *Server) lookUpDevice(ctx context.Context, user, code string) (found *device, throttled bool, err error) {
	now := time.Now()
	kind := onceGuess + user
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		found, throttled = nil, false
		var wrong int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM once WHERE kind = $1 AND expires > $2`, kind, now.UnixMilli()).Scan(&wrong); err != nil {
			return err
		}
		if throttled = wrong >= maxGuesses; throttled {
			return nil
		}
		d := device{sum: digest(code)}
		var scope, resource, details, state string
		var expires int64
		err := tx.QueryRowContext(ctx, `SELECT client, scope, resource, details, state, expires FROM devices WHERE user_code = $1`, d.sum).
			Scan(&d.client, &scope, &resource, &details, &state, &expires)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.ExecContext(ctx, `INSERT INTO once (kind, sha256, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, kind, digest(randomWord(22)), now.Add(guessWindow).UnixMilli())
			return err
		}
		if err != nil || state != statePending || expires <= now.UnixMilli() {
			return err // it was one: typed too late, or twice, not guessed
		}
		d.scopes, d.resource, d.details, d.expires = strings.Fields(scope), strings.Fields(resource), jsonOrNil(details), store.Moment(expires)
		found = &d
		return nil
	})
	return found, throttled, err
}

// decideDevice writes the user's decision. Of two decisions one counts; ok is
// false when the device no longer waits.
func (s *Server) decideDevice(ctx context.Context, d *device, allow bool, session *identity.Session, u *identity.User) (ok bool, err error) {
	gone := errors.New("the device no longer waits")
	now := time.Now()
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		state, id := stateDenied, ""
		if allow {
			// Not of the browser's session: signing out there must not end what a device on the shelf does.
			g := &grant{
				Client: d.client, User: u.ID, Scopes: d.scopes, Resource: d.resource, Details: d.details,
				ACR: session.ACR, AMR: session.AMR, AuthTime: session.AuthTime, Offline: true, Created: now, Expires: d.expires,
			}
			if err := s.newGrant(ctx, tx, g); err != nil {
				return err
			}
			state, id = stateApproved, g.ID
		}
		res, err := tx.ExecContext(ctx, `UPDATE devices SET state = $1, grant_id = $2 WHERE user_code = $3 AND state = $4 AND expires > $5`, state, id, d.sum, statePending, now.UnixMilli())
		return oneRow(res, err, gone)
	})
	if errors.Is(err, gone) {
		return false, nil
	}
	return err == nil, err
}
