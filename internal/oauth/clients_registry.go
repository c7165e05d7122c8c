package oauth

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// errUnknownClient is what a request hears of a client that is not there, is
// disabled or deleted: which of them is nobody's business.
var errUnknownClient = refuse("invalid_client", "The client is not known here.")

const (
	clientMiss = 20 * time.Millisecond // how long a request believes that there is no such client: it may have been made just now by another process
	usedEvery  = time.Minute           // precision of last_used
)

// A registry is the clients as requests need them: a snapshot of the tables.
// Whoever meets it out of date brings it up to date, one at a time.
type registry struct {
	*store.Follower // of live

	mu   sync.Mutex // held during a look
	live atomic.Pointer[map[string]*liveClient]
}

// A liveClient is read-only but for used. Deleted ones are there too.
type liveClient struct {
	Client
	secrets []liveSecret
	fetched time.Time // of a metadata document
	used    *lastUse
	keys    *clientKeys
}

// A lastUse outlives the snapshots, in Unix milliseconds.
type lastUse struct{ seen, kept atomic.Int64 }

func (u *lastUse) touch(now time.Time) {
	// One store a minute: the cache line is shared by all requests of the client.
	if ms := now.UnixMilli(); ms-u.seen.Load() >= usedEvery.Milliseconds() {
		u.seen.Store(ms)
	}
}

// openClients prepares what requests of clients need.
func (s *Server) openClients() (err error) {
	switch s.cfg.Registration {
	case "", registrationOpen:
	case registrationToken:
		if len(s.cfg.InitialAccess) != 2*sha256.Size {
			return errors.New("registration with a token needs the SHA-256 of the token, in hex")
		}
	default:
		return fmt.Errorf("registration %q: it is off, %s or %s", s.cfg.Registration, registrationToken, registrationOpen)
	}
	s.registry, s.documents = &registry{Follower: s.cfg.DB.Follow()}, newDocuments()
	s.details, err = compileDetails(&s.cfg)
	return err
}

// age is how long ago the snapshot was known to be right.
func (g *registry) age() time.Duration { return time.Since(g.Since()) }

// find returns what is known of a client, nil when there is none. Its error is
// the database's: then nobody knows who is disabled.
func (s *Server) find(ctx context.Context, id string) (*liveClient, error) {
	g := s.registry
	live := g.live.Load()
	if live == nil || g.age() > store.TrustFor {
		if err := s.refreshClients(ctx, true); err != nil {
			return nil, err
		}
	} else if g.age() > store.LookEvery { // a lockdown must be known within a second
		// The error counts when it has lasted for store.TrustFor, see above.
		_ = s.refreshClients(ctx, false)
	}
	c := (*g.live.Load())[id]
	if c == nil && g.age() > clientMiss {
		if err := s.refreshClients(ctx, true); err != nil {
			return nil, err
		}
		c = (*g.live.Load())[id]
	}
	return c, nil
}

// client returns the live client of that id: registered, or described by the
// document its id leads to. Every other id is errUnknownClient.
func (s *Server) client(ctx context.Context, id string) (*Client, error) {
	c, err := s.known(ctx, id)
	if err != nil {
		return nil, err
	}
	return &c.Client, nil
}

func (s *Server) known(ctx context.Context, id string) (*liveClient, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(id, "https://") && (c == nil || c.Origin == originDocument) {
		if c, err = s.document(ctx, id, c); err != nil {
			return nil, err
		}
	}
	if c == nil || c.Disabled || c.Origin == originDeleted {
		return nil, errUnknownClient
	}
	return c, nil
}

// refreshClients makes requests see what the database says. Without wait it does
// nothing when somebody else is at it.
func (s *Server) refreshClients(ctx context.Context, wait bool) error {
	g := s.registry
	if !wait {
		if !g.mu.TryLock() {
			return nil
		}
	} else {
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.LookLimit) // a caller who leaves must not fail the others
	defer cancel()
	if err := g.Look(ctx, s.loadClients); err != nil {
		return fmt.Errorf("oauth: clients: %w", err)
	}
	return nil
}

// loadClients reads the rows whose version is another than in the snapshot.
// Every change of a client or its secrets raises its row's version, and rows are
// never removed, so an unchanged sum means that nothing changed: most commits are
// about grants.
func (s *Server) loadClients(ctx context.Context) error {
	old := s.registry.live.Load()
	var next map[string]*liveClient
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		if old != nil {
			var have, want int64
			for _, c := range *old {
				have += c.Version
			}
			if err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(version), 0) FROM clients`).Scan(&want); err != nil {
				return err
			}
			if have == want {
				return nil
			}
			next = maps.Clone(*old)
		} else {
			next = map[string]*liveClient{}
		}
		changed, err := changedClients(ctx, tx, next)
		if err != nil {
			return err
		}
		for _, id := range changed {
			c, err := selectClient(ctx, tx, id)
			if err != nil {
				return err
			}
			c.keep(next[id])
			next[id] = c
		}
		return nil
	})
	if err == nil && next != nil {
		s.registry.live.Store(&next)
	}
	return err
}

func changedClients(ctx context.Context, tx *sql.Tx, known map[string]*liveClient) (ids []string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, version FROM clients`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var version int64
		if err := rows.Scan(&id, &version); err != nil {
			return nil, err
		}
		if c := known[id]; c == nil || c.Version != version {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// keep takes over what outlives a snapshot from the client as it was.
func (c *liveClient) keep(old *liveClient) {
	c.used, c.keys = new(lastUse), newClientKeys(&c.Client)
	c.used.seen.Store(store.Millis(c.LastUsed))
	c.used.kept.Store(store.Millis(c.LastUsed))
	uses := map[string]*lastUse{}
	if old != nil {
		c.used = old.used
		if c.JWKSURI != "" && old.JWKSURI == c.JWKSURI { // no second fetch for an unrelated change
			c.keys = old.keys
		}
		for _, sec := range old.secrets {
			uses[sec.ID] = sec.used
		}
	}
	for i := range c.secrets {
		sec := &c.secrets[i]
		if sec.used = uses[sec.ID]; sec.used == nil {
			sec.used = new(lastUse)
			sec.used.seen.Store(store.Millis(sec.LastUsed))
			sec.used.kept.Store(store.Millis(sec.LastUsed))
		}
	}
}

// keepUsed writes when clients and secrets were last used, in one transaction.
func (s *Server) keepUsed(ctx context.Context) error {
	live := s.registry.live.Load()
	if live == nil {
		return nil
	}
	type row struct {
		use  *lastUse
		seen int64
		stmt string
		id   string
	}
	var due []row
	for id, c := range *live {
		if seen := c.used.seen.Load(); seen > c.used.kept.Load() {
			due = append(due, row{c.used, seen, `UPDATE clients SET last_used = $1 WHERE id = $2 AND last_used < $1`, id})
		}
		for _, sec := range c.secrets {
			if seen := sec.used.seen.Load(); seen > sec.used.kept.Load() {
				due = append(due, row{sec.used, seen, `UPDATE client_secrets SET last_used = $1 WHERE id = $2 AND last_used < $1`, sec.ID})
			}
		}
	}
	if len(due) == 0 {
		return nil
	}
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, r := range due {
			if _, err := tx.ExecContext(ctx, r.stmt, r.seen, r.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("oauth: last use of clients: %w", err)
	}
	for _, r := range due {
		r.use.kept.Store(r.seen)
	}
	return nil
}
