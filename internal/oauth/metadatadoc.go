package oauth

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxDocument     = 5 << 10 // bytes; draft-ietf-oauth-client-id-metadata-document §6.6
	documentMin     = 5 * time.Minute
	documentMax     = 24 * time.Hour
	documentFailed  = 30 * time.Second // before a document that could not be had is asked for again
	documentWait    = 5 * time.Second
	maxDocumentRows = 10_000 // of clients by document: more are refused, so that a stranger cannot fill the table
	maxFailures     = 1_000
	maxFlights      = 16 // at once: strangers choose what is fetched
)

// documents are the client-id metadata documents under way.
type documents struct {
	mu      sync.Mutex
	flying  map[string]*flight
	failed  map[string]failure
	expires map[string]time.Time // of documents fetched by this process
}

// A failure is why a document could not be taken, and when to ask again.
type failure struct {
	again time.Time
	err   error
}

// A flight is one fetch that all requests for it wait for.
type flight struct {
	done chan struct{}
	err  error
}

func newDocuments() *documents {
	return &documents{flying: map[string]*flight{}, failed: map[string]failure{}, expires: map[string]time.Time{}}
}

// documentURL judges a client id that is an https URL (client-id metadata
// document draft §3). The id is compared byte by byte, so it must have one
// spelling.
func (s *Server) documentURL(id string) bool {
	if len(s.cfg.MetadataDocs) == 0 || s.cfg.Fetch == nil || len(id) > 512 {
		return false
	}
	if rule, _ := lintRedirect(id, false); rule != "" {
		return false
	}
	u, err := url.Parse(id)
	if err != nil || u.Scheme != "https" || u.Path == "" || u.Path == "/" || u.RawQuery != "" || u.ForceQuery || u.String() != id || u.Host != strings.ToLower(u.Host) {
		return false
	}
	return slices.Contains(s.cfg.MetadataDocs, "*") || slices.Contains(s.cfg.MetadataDocs, u.Host)
}

// document returns the client whose id is the URL of its metadata, fetching it
// when it is not known or c is too old. Whatever does not fit is errUnknownClient.
func (s *Server) document(ctx context.Context, id string, c *liveClient) (*liveClient, error) {
	if !s.documentURL(id) {
		return nil, errUnknownClient
	}
	if c != nil && c.Disabled {
		return c, nil
	}
	now := time.Now()
	d := s.documents
	d.mu.Lock()
	if c != nil {
		end := d.expires[id]
		if end.IsZero() {
			end = c.fetched.Add(documentMin) // another process, or an earlier one, knew for how long
		}
		if now.Before(end) {
			d.mu.Unlock()
			return c, nil
		}
	}
	if f, ok := d.failed[id]; ok && now.Before(f.again) {
		d.mu.Unlock()
		return c.despite(f.err, now)
	}
	f := d.flying[id]
	if f == nil && len(d.flying) >= maxFlights {
		d.mu.Unlock()
		return nil, fmt.Errorf("oauth: %d metadata documents are being fetched already", maxFlights)
	}
	if f == nil {
		f = &flight{done: make(chan struct{})}
		d.flying[id] = f
		go s.fly(context.WithoutCancel(ctx), id, f)
	}
	d.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.err != nil {
		return c.despite(f.err, now)
	}
	return s.find(ctx, id)
}

// errAway: the document could not be had, which says nothing about what is in it.
var errAway = errors.New("the metadata document could not be fetched")

// despite is what a request gets although err kept its client's document from
// being renewed: the client as it was, for a day at most, when its host is only
// away; nothing when the document is not good any more.
func (c *liveClient) despite(err error, now time.Time) (*liveClient, error) {
	if e, ok := errors.AsType[*unavailable](err); ok {
		return nil, e.err
	}
	if c != nil && errors.Is(err, errAway) && now.Before(c.fetched.Add(documentMax)) {
		return c, nil
	}
	return nil, refuse(errUnknownClient.Code, errUnknownClient.Description).because(errors.Join(errUnknownClient, err))
}

// fly fetches and keeps one document.
func (s *Server) fly(ctx context.Context, id string, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, documentWait)
	defer cancel()
	life, err := s.fetchDocument(ctx, id)
	f.err = err
	d := s.documents
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.flying, id)
	now := time.Now()
	if err == nil {
		d.expires[id] = now.Add(life)
		delete(d.failed, id)
	} else {
		if len(d.failed) >= maxFailures {
			clear(d.failed) // strangers choose these ids: memory comes first
		}
		d.failed[id] = failure{now.Add(documentFailed), err}
	}
	close(f.done)
}

func (s *Server) fetchDocument(ctx context.Context, id string) (time.Duration, error) {
	body, header, err := s.cfg.Fetch.Fetch(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAway, err)
	}
	m, err := s.readDocument(id, body, header)
	if err != nil {
		return 0, fmt.Errorf("the metadata document %.200q: %w", id, err)
	}
	if err := s.keepDocument(ctx, id, m); err != nil {
		return 0, &unavailable{err}
	}
	return documentLife(header), nil
}

// readDocument judges a document. What only an operator may give, and what needs
// a shared secret, is refused: the document is public.
func (s *Server) readDocument(id string, body []byte, header http.Header) (*Metadata, error) {
	if len(body) > maxDocument {
		return nil, fmt.Errorf("it is larger than %d bytes", maxDocument)
	}
	if !isJSON(header.Get("Content-Type")) {
		return nil, errors.New("it is not JSON")
	}
	if err := strictJSON(string(body), 8); err != nil {
		return nil, err
	}
	var doc struct {
		ClientID      string          `json:"client_id"`
		ClientSecret  json.RawMessage `json:"client_secret"`
		SecretExpires json.RawMessage `json:"client_secret_expires_at"`
		Metadata
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&doc); err != nil {
		return nil, errors.New("it is not client metadata")
	}
	if doc.ClientID != id {
		return nil, errors.New("its client_id is not its own URL")
	}
	if doc.ClientSecret != nil || doc.SecretExpires != nil {
		return nil, errors.New("it has a client_secret")
	}
	m := doc.Metadata
	if m.TokenEndpointAuthMethod == "" {
		m.TokenEndpointAuthMethod = methodNone // there is no secret that the default could use
	}
	if m.TokenEndpointAuthMethod != methodNone && m.TokenEndpointAuthMethod != methodJWT {
		return nil, fmt.Errorf("its token_endpoint_auth_method is %.64q; only none and private_key_jwt are possible", m.TokenEndpointAuthMethod)
	}
	if err := s.narrowStranger(&m); err != nil {
		return nil, err
	}
	if err := ownOrigin(id, &m); err != nil {
		return nil, err
	}
	m.setDefaults()
	if err := s.checkMetadata(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

// ownOrigin holds the redirect URIs of a document to its own origin, or to the
// user's own machine: who can write at one host must not have codes sent to
// another in its name. (The draft leaves this to the server, §6.)
func ownOrigin(id string, m *Metadata) error {
	own, err := url.Parse(id)
	if err != nil {
		return err
	}
	for _, list := range [][]string{m.RedirectURIs, m.PostLogoutRedirectURIs} {
		for _, raw := range list {
			u, err := url.Parse(raw)
			if err != nil {
				return err
			}
			if u.Scheme == "http" && isLoopback(u.Hostname()) {
				m.ApplicationType = native
				continue
			}
			if u.Scheme != own.Scheme || u.Host != own.Host {
				return fmt.Errorf("the redirect URI %.100q is at another origin than the document", raw)
			}
		}
	}
	for _, raw := range []string{m.BackchannelLogoutURI, m.JWKSURI} {
		if u, err := url.Parse(raw); raw != "" && (err != nil || u.Host != own.Host) {
			return fmt.Errorf("%.100q is at another origin than the document", raw)
		}
	}
	return nil
}

// keepDocument makes or renews the client's row. It is no act of an
// administrator, but it is in the log all the same: a new client can ask for
// codes now.
func (s *Server) keepDocument(ctx context.Context, id string, m *Metadata) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	same := false
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE clients SET fetched = $1, version = version + 1 WHERE id = $2 AND origin = $3 AND metadata = $4`, now, id, originDocument, string(text))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		same = n > 0
		return err
	})
	if err != nil {
		return err
	}
	if same {
		return s.refreshClients(ctx, true)
	}
	return s.change(ctx, id, "clients.document", id, m.detail(), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, fetched = $2, updated = $2, version = version + 1 WHERE id = $3 AND origin = $4`, string(text), now, id, originDocument)
		if err := oneRow(res, err, ErrClientUnknown); !errors.Is(err, ErrClientUnknown) {
			return err
		}
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM clients WHERE origin = $1`, originDocument).Scan(&n); err != nil {
			return err
		}
		if n >= maxDocumentRows {
			return fmt.Errorf("%w: there are %d clients by metadata document already; delete some", ErrClient, n)
		}
		res, err = tx.ExecContext(ctx, `INSERT INTO clients (id, metadata, origin, registration, disabled, created, created_by, updated, fetched, last_used, version)
			VALUES ($1, $2, $3, '', 0, $4, $1, $4, $4, 0, 1) ON CONFLICT DO NOTHING`, id, string(text), originDocument, now)
		return oneRow(res, err, fmt.Errorf("%q: %w", id, ErrClientTaken))
	})
}

// documentLife is how long a document is believed: as its host says, within bounds.
func documentLife(h http.Header) time.Duration {
	for d := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(d)), "max-age="); ok {
			if n, err := strconv.ParseInt(strings.Trim(v, `"`), 10, 32); err == nil {
				return min(max(time.Duration(n)*time.Second, documentMin), documentMax)
			}
		}
	}
	return documentMin
}
