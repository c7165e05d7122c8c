package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

const pruneEvery = time.Minute

// A Directory is the people of one house. Its methods are safe for concurrent
// use. They authorise nobody: who calls them has. Each administrative change is
// written with its actor to the log first, and when that fails nothing is changed.
type Directory struct {
	cfg  Config
	host string // of Config.Issuer

	hashes      hasher
	breached    *breached
	revocations revocations
	wake        chan struct{} // there is mail to send
}

// Open brings the tables up to date and reads the revocations. Call [Directory.Run]
// before the first request: without it revocations are unknown after two seconds
// and no mail leaves.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("identity: people need a database")
	case cfg.Seal == nil:
		return nil, errors.New("identity: people need a sealing key")
	case cfg.Log == nil:
		return nil, errors.New("identity: people need a log of changes")
	}
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil || issuer.Host == "" || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "" ||
		issuer.Scheme != "https" && (issuer.Scheme != "http" || !isLoopback(issuer.Hostname())) {
		return nil, fmt.Errorf("identity: issuer %q must be an https URL without user, query and fragment (http only on this machine)", cfg.Issuer)
	}
	cfg.Issuer = strings.TrimRight(cfg.Issuer, "/")
	cfg.MinPassword = orElse(cfg.MinPassword, 15)
	cfg.MinPasswordSecond = orElse(cfg.MinPasswordSecond, 8)
	cfg.HashSlots = orElse(cfg.HashSlots, runtime.GOMAXPROCS(0))
	cfg.SessionIdle = orElse(cfg.SessionIdle, 30*time.Minute)
	cfg.SessionLife = orElse(cfg.SessionLife, 12*time.Hour)
	cfg.TokenLife = orElse(cfg.TokenLife, time.Hour)
	if cfg.MinPassword < 8 || cfg.MinPasswordSecond < 8 || cfg.MinPassword > 64 || cfg.MinPasswordSecond > 64 {
		return nil, errors.New("identity: the shortest password must have 8 to 64 characters")
	}
	if cfg.HashSlots < 0 || cfg.SessionIdle < 0 || cfg.SessionLife < 0 || cfg.TokenLife < 0 {
		return nil, errors.New("identity: slots and times must not be negative")
	}
	if cfg.OnlyOne == nil {
		cfg.OnlyOne = func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	}
	d := &Directory{cfg: cfg, host: issuer.Hostname(), wake: make(chan struct{}, 1)}
	d.revocations.follow, d.revocations.seq = cfg.DB.Follow(), -1
	d.hashes.open(cfg.HashSlots)
	if d.breached, err = openBreached(cfg.Breached); err != nil {
		return nil, err
	}
	if err := cfg.DB.Migrate(ctx, Tables()); err != nil {
		return nil, errors.Join(err, d.breached.Close())
	}
	if err := d.refresh(ctx); err != nil {
		return nil, errors.Join(err, d.breached.Close())
	}
	return d, nil
}

// Run follows the revocations, sends mail and removes what is over, until ctx
// ends. Report is told the first error of each outage and, with nil, its end;
// never two at a time.
func (d *Directory) Run(ctx context.Context, report func(error)) {
	var mu sync.Mutex
	outages := func() func(error) { // one for each thing that can fail by itself
		down := false
		return func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() != nil || down == (err != nil) {
				return
			}
			down = err != nil
			report(err)
		}
	}
	var all sync.WaitGroup
	all.Go(func() { every(ctx, store.LookEvery, d.refresh, outages()) })
	all.Go(func() {
		every(ctx, pruneEvery, func(ctx context.Context) error { return d.cfg.OnlyOne(ctx, d.prune) }, outages())
	})
	if d.cfg.Mail != nil {
		told := outages()
		for range mailSenders {
			all.Go(func() { d.sendMail(ctx, told) })
		}
	}
	all.Wait()
	if err := d.breached.Close(); err != nil {
		report(err)
	}
}

func every(ctx context.Context, pause time.Duration, f func(context.Context) error, report func(error)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, store.LookLimit)
		err := f(look)
		cancel()
		report(err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// prune removes what nobody will ask for again.
func (d *Directory) prune(ctx context.Context) error {
	now := time.Now()
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, old := range []struct {
			statement string
			before    time.Time
		}{
			{`DELETE FROM revocations WHERE until < $1`, now},
			{`DELETE FROM codes WHERE expires < $1`, now},
			{`DELETE FROM throttles WHERE seen < $1`, now.Add(-throttleMemory)},
			{`DELETE FROM throttles WHERE seen < $1 AND free = 0`, now.Add(-throttleIdle)},
			{`DELETE FROM familiar WHERE seen < $1`, now.Add(-familiarFor)},
			{`DELETE FROM sessions WHERE idle < $1`, now},
			{`DELETE FROM ceremonies WHERE until < $1`, now},
		} {
			if _, err := tx.ExecContext(ctx, old.statement, old.before.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("identity: removing what is over: %w", err)
	}
	return nil
}

// change runs f in a transaction and logs what it did before the commit: a change
// that was not logged does not happen. (The other way round, a crash between the
// two would leave a user nobody knows of.) If the commit then fails, that is
// logged too, with ".failed". An empty object from f means that nothing was
// changed. Revocations made by f are in force in this process when change returns.
func (d *Directory) change(ctx context.Context, actor, action string, f func(*sql.Tx) (object string, detail map[string]string, err error)) error {
	if actor == "" {
		return fmt.Errorf("%w: it must be known who asks", ErrInvalid)
	}
	err := auditlog.Commit(ctx, d.cfg.DB, d.cfg.Log, actor, action, func(tx *sql.Tx) (object string, detail map[string]string, err error) {
		if object, detail, err = f(tx); err != nil || object == "" || strings.HasPrefix(action, "sessions.") {
			return object, detail, err // sessions alone change nobody's rights
		}
		return object, detail, stir(ctx, tx)
	})
	if err != nil {
		return err
	}
	// The change is committed; should this look fail, Run's next one sees it.
	_ = d.refresh(ctx)
	return nil
}

// newID makes an id that was never used and can not be guessed.
func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return prefix + hex.EncodeToString(b[:])
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
