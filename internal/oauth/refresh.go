package oauth

import (
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	refreshPrefix = "ghr_"
	sealedRefresh = "refresh token"
	grantBytes    = 16
	genBytes      = 8
	tagBytes      = 20 // of Sealer.Sign
	idleStep      = time.Minute
	writeTimeout  = 5 * time.Second
)

var grantEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// refreshToken is "ghr_" and base64url of grant id, generation and a tag over both
// with the client and the key they are bound to (RFC 9700 §4.14.2 allows the grant
// to be in the token). Nothing of it is kept, so the same generation always has the
// same token: who asks twice because an answer was lost gets what was lost.
func (s *Server) refreshToken(g *grant) (string, error) {
	id, err := grantEncoding.DecodeString(strings.TrimPrefix(g.ID, grantPrefix))
	if err != nil || len(id) != grantBytes || g.Gen < 1 {
		return "", errors.New("oauth: a grant without id or generation")
	}
	b := binary.BigEndian.AppendUint64(id, uint64(g.Gen))
	tag, err := s.cfg.Seal.Sign(sealedRefresh, bound(b, g.Client, g.JKT))
	if err != nil {
		return "", err
	}
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(append(b, tag...)), nil
}

// bound is what the tag of a refresh token is of.
func bound(head []byte, client, jkt string) []byte {
	b := append(slices.Clone(head), client...)
	return append(append(b, 0), jkt...) // no client id has a NUL
}

// openRefresh reads a refresh token of this client, bound to one of these keys. A
// token we did not make, or another client's, dies here without a look at the
// database.
func (s *Server) openRefresh(raw, client string, keys ...string) (id string, gen int64, jkt string, ok bool) {
	b, err := refreshBytes(raw)
	if err != nil {
		return "", 0, "", false
	}
	head, tag := b[:grantBytes+genBytes], b[grantBytes+genBytes:]
	id, gen = headOf(head)
	for _, key := range keys {
		if s.cfg.Seal.Verify(sealedRefresh, bound(head, client, key), tag) == nil {
			return id, gen, key, true
		}
	}
	return "", 0, "", false
}

// splitRefresh reads what a refresh token says of itself, which nobody has checked.
func splitRefresh(raw string) (id string, gen int64, err error) {
	b, err := refreshBytes(raw)
	if err != nil {
		return "", 0, err
	}
	id, gen = headOf(b)
	return id, gen, nil
}

func headOf(b []byte) (id string, gen int64) {
	return grantPrefix + grantEncoding.EncodeToString(b[:grantBytes]), int64(binary.BigEndian.Uint64(b[grantBytes:]) & (1<<63 - 1))
}

func refreshBytes(raw string) ([]byte, error) {
	text, found := strings.CutPrefix(raw, refreshPrefix)
	if !found || strings.ContainsAny(text, "\r\n") {
		return nil, errNotOurs
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != grantBytes+genBytes+tagBytes {
		return nil, errNotOurs
	}
	return b, nil
}

var errRefresh = refuse("invalid_grant", "The refresh token is wrong, used, expired or not this client's.")

// grantRefresh refreshes (RFC 6749 §6). A refresh token is good once and gives its
// successor; within Config.RefreshGrace it gives the same successor again, so that
// clients which race themselves or lose an answer stay signed in. Any older one is
// proof that two hold it, and ends the family (RFC 9700 §4.14).
func (s *Server) grantRefresh(ctx context.Context, c *proven, form url.Values) (*tokenResponse, error) {
	raw := form.Get("refresh_token")
	if raw == "" {
		return nil, refuse("invalid_request", "refresh_token is missing.")
	}
	if err := s.bindable(c); err != nil {
		return nil, err
	}
	keys := []string{c.JKT}
	if c.JKT != "" {
		keys = []string{"", c.JKT}
	}
	id, gen, jkt, ok := s.openRefresh(raw, c.ID, keys...)
	if !ok {
		return nil, errRefresh
	}
	g, err := s.grantByID(ctx, id)
	if errors.Is(err, errNoGrant) {
		return nil, errRefresh
	}
	if err != nil {
		return nil, err
	}
	if g.JKT != jkt || g.X5T != "" && g.X5T != c.X5T {
		return nil, errRefresh.again("bound to another key")
	}
	// Everything that can refuse comes first: a mistake of the client's must not
	// cost it the token.
	user, err := s.grantor(ctx, c, g, s.cfg.People.SessionUsed)
	if err != nil {
		return nil, err
	}
	scopes, err := narrowScopes(g.Scopes, form.Get("scope"))
	if err != nil {
		return nil, err
	}
	resource, err := narrow(g.Resource, form["resource"])
	if err != nil {
		return nil, err
	}
	if len(resource) > 0 {
		if _, err := s.targets(c.Client, resource, scopes); err != nil {
			return nil, err
		}
	}
	details, err := s.narrowDetails(c.Client, g.Details, form.Get("authorization_details"))
	if err != nil {
		return nil, err
	}
	if g, err = s.advance(ctx, c, g, gen); err != nil {
		return nil, err
	}
	return s.issue(ctx, c, g, issueOptions{
		Scopes: scopes, Resource: resource, Details: details, IDToken: user != nil && slices.Contains(scopes, scopeOpenID), Refresh: true, User: user,
	})
}

// rotates reports whether c's refresh tokens are good once. A confidential client
// whose tokens are bound to its keys proves more by these than rotation could, and
// FAPI 2.0 (§5.3.2.1) wants them left alone.
func (s *Server) rotates(c *Client) bool { return c.Public() || s.cfg.Profile != FAPI2 }

// advance takes the family of g from gen to the next generation and returns it as
// it is then.
func (s *Server) advance(ctx context.Context, c *proven, g *grant, gen int64) (*grant, error) {
	now := time.Now()
	idle := now.Add(s.cfg.RefreshIdle)
	if idle.After(g.Expires) {
		idle = g.Expires
	}
	step := advance{id: g.ID, gen: gen, next: gen + 1, now: now.UnixMilli(), idle: idle.UnixMilli()}
	if !s.rotates(c.Client) {
		if gen != g.Gen {
			return nil, errRefresh.again("of a generation that never was")
		}
		if idle.Sub(g.Idle) < idleStep {
			return g, nil
		}
		step.next = gen
	}
	done, err := s.refreshes.do(ctx, s.cfg.DB.Write, step)
	if err != nil {
		return nil, err
	}
	if done {
		g.Gen, g.Idle = step.next, idle
		return g, nil
	}
	// Somebody was faster, or the token is an old one: what is on disk now tells.
	if g, err = s.grantByID(ctx, g.ID); err != nil {
		return nil, err
	}
	switch {
	case !g.live(now):
		return nil, errRefresh.again("the family has ended meanwhile")
	case g.Gen == gen+1 && now.Sub(g.Rotated) <= s.cfg.RefreshGrace:
		return g, nil // the same successor, computed again
	case g.Gen <= gen:
		// Only an older copy of the database can have this.
		return nil, errRefresh.again("of a generation that is yet to come: was the database restored?")
	}
	if err := s.revokeGrant(ctx, "", g.ID, "refresh token shown again"); err != nil {
		return nil, err
	}
	e := errRefresh.again("a used refresh token was shown again, its family has ended")
	e.Event = "refresh_reuse"
	return nil, e
}

// narrowScopes reads the scope of a refresh: never more than was granted.
func narrowScopes(granted []string, text string) ([]string, error) {
	asked, err := scopesOf(text)
	if err != nil {
		return nil, err
	}
	if len(asked) == 0 {
		return granted, nil
	}
	if !subset(asked, granted) {
		return nil, refuse("invalid_scope", "That scope was not granted.")
	}
	return asked, nil
}

// advance is one step of one family: compare and swap.
type advance struct {
	id        string
	gen, next int64
	now, idle int64
	done      bool
	err       error
	ready     chan struct{}
}

// A queue gathers steps that arrive while another transaction is being written, and
// writes them in the next one: a disk that needs a millisecond for a commit still
// refreshes thousands of families a second.
type queue struct {
	mu      sync.Mutex
	waiting []*advance
	busy    bool
}

type writer func(ctx context.Context, f func(*sql.Tx) error) error

// do returns whether the step was made; it is on disk then. When ctx ends first the
// step may have been made nevertheless; the grace period is for that.
func (q *queue) do(ctx context.Context, write writer, a advance) (bool, error) {
	a.ready = make(chan struct{})
	q.mu.Lock()
	q.waiting = append(q.waiting, &a)
	lead := !q.busy
	q.busy = true
	q.mu.Unlock()
	if lead {
		// Not this request's work alone: its caller may hang up, the others' may not.
		go q.drain(context.WithoutCancel(ctx), write)
	}
	select {
	case <-a.ready:
		return a.done, a.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (q *queue) drain(ctx context.Context, write writer) {
	for {
		q.mu.Lock()
		steps := q.waiting
		q.waiting = nil
		if len(steps) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		err := write(ctx, func(tx *sql.Tx) error { return advanceAll(ctx, tx, steps) })
		cancel()
		for _, a := range steps {
			if a.err = err; err != nil {
				a.done = false
			}
			close(a.ready)
		}
	}
}

func advanceAll(ctx context.Context, tx *sql.Tx, steps []*advance) error {
	for _, a := range steps {
		res, err := tx.ExecContext(ctx, `UPDATE grants SET gen = $1, rotated = $2, idle = $3
			WHERE id = $4 AND gen = $5 AND revoked = 0 AND expires > $2 AND idle > $2`, a.next, a.now, a.idle, a.id, a.gen)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		a.done = n == 1
	}
	return nil
}
