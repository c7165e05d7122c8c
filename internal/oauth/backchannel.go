package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Back-channel logout (OpenID Connect Back-Channel Logout 1.0). A row of logouts
// is made when a client gets the first token of a session, with no time at which
// it is due. When the session ends, whoever ends it, its rows become due; they go
// when the client has answered, or has not for too long.

const (
	logoutTick     = time.Second
	logoutEvent    = "http://schemas.openid.net/event/backchannel-logout"
	logoutLife     = 2 * time.Minute // of a logout token
	logoutAttempts = 5
	logoutAtOnce   = 8
	logoutBatch    = 64
	logoutWait     = 10 * time.Second
	logoutKeep     = 31 * 24 * time.Hour // of a row whose session nobody ended: it has long expired
	jtiBytes       = 22
)

// logoutPause is how long after an attempt the next one is due.
func logoutPause(attempt int64) time.Duration {
	return [...]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}[min(max(attempt, 1), 4)-1]
}

// joinSession remembers that c is told when session sid ends. It belongs in the
// transaction that makes c's first grant of the session.
func (s *Server) joinSession(ctx context.Context, tx *sql.Tx, c *Client, sid, user string) error {
	if sid == "" || c.BackchannelLogoutURI == "" || s.cfg.Post == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO logouts (id, client, user_id, sid, attempts, due, created) VALUES ($1, $2, $3, $4, 0, 0, $5) ON CONFLICT DO NOTHING`,
		sid+"/"+c.ID, c.ID, user, sid, time.Now().UnixMilli())
	return err
}

// enqueueLogout makes the clients of a session be told that it has ended. To say
// so twice changes nothing.
func (s *Server) enqueueLogout(ctx context.Context, tx *sql.Tx, sid string) error {
	// By the primary key, which begins with sid/: '0' is the character after '/'.
	_, err := tx.ExecContext(ctx, `UPDATE logouts SET due = $1 WHERE id > $2 AND id < $3 AND due = 0`, time.Now().UnixMilli(), sid+"/", sid+"0")
	return err
}

// runClients does what clients need done beside their requests, until ctx ends.
func (s *Server) runClients(ctx context.Context, report func(error)) {
	tick, keep := time.NewTicker(logoutTick), time.NewTicker(usedEvery)
	defer tick.Stop()
	defer keep.Stop()
	var mark int64
	down := false
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.LookLimit)
			defer cancel()
			if err := s.keepUsed(last); err != nil {
				report(err)
			}
			return
		case <-tick.C:
			if s.cfg.Post == nil {
				continue
			}
			err = errors.Join(s.followSessions(ctx, &mark), s.sendLogouts(ctx, report))
		case <-keep.C:
			err = errors.Join(s.keepUsed(ctx), s.forgetLogouts(ctx))
		}
		// The first error of an outage is reported, not each of its seconds.
		if err != nil && !down && ctx.Err() == nil {
			report(err)
		}
		down = err != nil
	}
}

// followSessions makes the rows of sessions due that were ended since mark, also
// by other processes.
func (s *Server) followSessions(ctx context.Context, mark *int64) error {
	for {
		ids, next, err := s.cfg.People.EndedSessions(ctx, *mark)
		if err != nil || len(ids) == 0 {
			return err
		}
		err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
			for _, sid := range ids {
				if err := s.enqueueLogout(ctx, tx, sid); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("oauth: back-channel logout: %w", err)
		}
		*mark = next
	}
}

func (s *Server) forgetLogouts(ctx context.Context) error {
	return s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM logouts WHERE due = 0 AND created < $1`, time.Now().Add(-logoutKeep).UnixMilli())
		return err
	})
}

// A logout is one row that is due.
type logout struct {
	id, client, user, sid string
	attempts, due         int64
}

// sendLogouts sends what is due, some at a time.
func (s *Server) sendLogouts(ctx context.Context, report func(error)) error {
	var due []logout
	now := time.Now()
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, client, user_id, sid, attempts, due FROM logouts WHERE due > 0 AND due <= $1 ORDER BY due LIMIT $2`, now.UnixMilli(), logoutBatch)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var l logout
			if err := rows.Scan(&l.id, &l.client, &l.user, &l.sid, &l.attempts, &l.due); err != nil {
				return err
			}
			due = append(due, l)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("oauth: back-channel logout: %w", err)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, logoutAtOnce)
	for i := range due {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.sendLogout(ctx, &due[i]); err != nil && ctx.Err() == nil {
				report(fmt.Errorf("oauth: back-channel logout of %s: %w", due[i].client, err))
			}
		})
	}
	wg.Wait()
	return nil
}

// sendLogout tells one client. The row is claimed by moving its due time, so that
// of two processes one sends, and what dies with a process is sent by the next.
func (s *Server) sendLogout(ctx context.Context, l *logout) error {
	now := time.Now()
	claimed := false
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE logouts SET attempts = attempts + 1, due = $1 WHERE id = $2 AND due = $3`,
			now.Add(logoutPause(l.attempts+1)).UnixMilli(), l.id, l.due)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		claimed = n == 1
		return err
	})
	if err != nil || !claimed {
		return err
	}
	sent := s.tellLogout(ctx, l, now)
	if sent != nil && l.attempts+1 < logoutAttempts {
		return sent
	}
	if sent != nil {
		sent = fmt.Errorf("given up after %d attempts: %w", logoutAttempts, sent)
	}
	return errors.Join(sent, s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM logouts WHERE id = $1`, l.id)
		return err
	}))
}

// tellLogout posts the logout token (§2.4, §2.5).
func (s *Server) tellLogout(ctx context.Context, l *logout, now time.Time) error {
	c, err := s.client(ctx, l.client)
	if errors.Is(err, errUnknownClient) || err == nil && c.BackchannelLogoutURI == "" {
		return nil // it has gone: nobody is left to tell
	}
	if err != nil {
		return err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": s.cfg.Issuer, "sub": l.user, "aud": c.ID, "sid": l.sid, "jti": randomWord(jtiBytes),
		"iat": now.Unix(), "exp": now.Add(logoutLife).Unix(), "events": map[string]any{logoutEvent: struct{}{}},
	})
	if err != nil {
		return err
	}
	raw, err := s.cfg.Keys.Sign(token.Algorithm(c.IDTokenAlg), "logout+jwt", claims)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, logoutWait)
	defer cancel()
	status, err := s.cfg.Post.Post(ctx, c.BackchannelLogoutURI, "application/x-www-form-urlencoded", []byte(url.Values{"logout_token": {raw}}.Encode()))
	if err != nil {
		return err
	}
	if status != http.StatusOK && status != http.StatusNoContent {
		return fmt.Errorf("the client answered with status %d", status)
	}
	return nil
}
