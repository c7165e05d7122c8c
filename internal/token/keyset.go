package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultRefresh  = time.Hour
	minRefresh      = 5 * time.Minute
	maxRefresh      = 24 * time.Hour
	defaultMaxStale = 24 * time.Hour
	fileRefresh     = time.Minute
	fetchTimeout    = 10 * time.Second
	fetchGap        = 10 * time.Second // between the starts of two fetches, whoever asks
	maxBackoff      = 5 * time.Minute
	maxWait         = 2 * time.Second // of a request for a fetch
	unknownFor      = time.Minute     // a kid the issuer was asked for in vain is not asked for again
	maxUnknown      = 256
)

// A KeySetConfig says where an issuer's keys come from: exactly one of URL,
// File and Static, or none of them, which means discovery from Issuer.
type KeySetConfig struct {
	Issuer     string        // for discovery (OpenID Connect Discovery §4, RFC 8414 §3); the document must name the same
	URL        string        // of the JWK Set; https, or http to loopback
	File       string        // with the JWK Set
	Static     []byte        // the JWK Set itself; never refreshed, never stale
	Algorithms []Algorithm   // keys for others are left out; needed to use an RSA key without alg for anything but RS256
	Refresh    time.Duration // where the issuer sends no max-age; 0: 1 h, kept within 5 min and 24 h; of a file 1 min
	MaxStale   time.Duration // how long keys serve after the last successful fetch; 0: 24 h
	Logger     *slog.Logger  // for keys left out and failed fetches; nil: discarded
}

// A KeySet holds an issuer's public keys (RFC 7517) and keeps them fresh. Its
// methods may be called by many requests at once; reads take no lock.
//
// Keys serve until MaxStale after the last successful fetch, so an issuer may be
// down for a while; then, and before the first fetch succeeded, every lookup is
// an issuer_unavailable Problem. An unknown kid asks the issuer again, but no
// two fetches start within ten seconds and no request waits longer than two.
type KeySet struct {
	cfg    KeySetConfig
	source source // nil: static
	log    *slog.Logger

	current atomic.Pointer[generation] // nil before the first success
	epoch   atomic.Uint64              // grows when keys change or Flush is called

	mu       sync.Mutex           // held for the fields below, never during a fetch
	inflight chan struct{}        // closed when the fetch under way has ended; nil: none
	attempt  time.Time            // when the last fetch began
	failures int                  // fetches failed since the last success
	err      error                // of the last fetch
	unknown  map[string]time.Time // kids the issuer was asked for in vain, with when to forget that
}

// A generation is the outcome of one successful fetch.
type generation struct {
	keys    *table
	fetched time.Time
	due     time.Time // when to fetch again
	gone    time.Time // when to stop serving; zero: never
}

// A KeySetStatus is a KeySet's health, for doctor and metrics.
type KeySetStatus struct {
	Keys    int       // usable public keys; 0 before the first fetch
	Fetched time.Time // last success
	Err     error     // of the last fetch; nil when it succeeded
}

// NewKeySet checks cfg and, for a static set, parses it. Nothing is fetched yet.
// The fetcher may be nil for File and Static.
func NewKeySet(cfg KeySetConfig, fetcher Fetcher) (*KeySet, error) {
	s := &KeySet{cfg: cfg, log: cfg.Logger, unknown: make(map[string]time.Time)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := checkAlgorithms(cfg.Algorithms); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if cfg.Refresh < 0 || cfg.MaxStale < 0 {
		return nil, errors.New("key set: a negative duration")
	}
	if cfg.MaxStale == 0 {
		s.cfg.MaxStale = defaultMaxStale
	}
	sources := 0
	for _, given := range []bool{cfg.URL != "", cfg.File != "", cfg.Static != nil} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		return nil, errors.New("key set: give one of url, file and static keys, not several")
	}
	switch {
	case cfg.Static != nil:
		t, warnings, err := parseJWKS(cfg.Static, cfg.Algorithms)
		if err != nil {
			return nil, fmt.Errorf("key set: %w", err)
		}
		// Nobody will mend a static set later: what is wrong with it is an error now.
		if err := errors.Join(warnings...); err != nil {
			return nil, fmt.Errorf("key set: %w", err)
		}
		s.current.Store(&generation{keys: t, fetched: time.Now()})
		return s, nil
	case cfg.File != "":
		s.source = fileSource{cfg.File}
		if cfg.Refresh == 0 {
			s.cfg.Refresh = fileRefresh
		}
		return s, nil
	case fetcher == nil:
		return nil, errors.New("key set: a fetcher is required")
	case cfg.URL != "":
		if err := checkURL(cfg.URL); err != nil {
			return nil, fmt.Errorf("key set: url: %w", err)
		}
		s.source = &urlSource{fetcher: fetcher, url: cfg.URL}
	default:
		if err := checkURL(cfg.Issuer); err != nil {
			return nil, fmt.Errorf("key set: issuer: %w", err)
		}
		s.source = &discovery{fetcher: fetcher, issuer: cfg.Issuer}
	}
	if cfg.Refresh == 0 {
		s.cfg.Refresh = defaultRefresh
	}
	s.cfg.Refresh = min(max(s.cfg.Refresh, minRefresh), maxRefresh)
	return s, nil
}

// Run keeps the set fresh until ctx ends, and then waits for a fetch under way.
// Without it the set still works: it fetches when a token needs it.
func (s *KeySet) Run(ctx context.Context) {
	if s.source == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			done := s.inflight
			s.mu.Unlock()
			if done != nil {
				<-done
			}
			return
		case <-timer.C:
		}
		if done := s.refresh(ctx); done != nil {
			select {
			case <-done:
			case <-ctx.Done():
				continue
			}
		}
		timer.Reset(max(time.Until(s.nextFetch()), time.Second))
	}
}

// nextFetch is when the keys are due, or after failures when to try again.
func (s *KeySet) nextFetch() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.attempt.Add(min(fetchGap<<min(s.failures-1, 8), maxBackoff))
	}
	if g := s.current.Load(); g != nil {
		return g.due
	}
	return s.attempt.Add(fetchGap)
}

// Flush makes every [Cache] forget what this set's keys vouched for: after a
// revocation, the next request with each token pays for a full check.
func (s *KeySet) Flush() { s.epoch.Add(1) }

// Status returns the set's health.
func (s *KeySet) Status() KeySetStatus {
	s.mu.Lock()
	st := KeySetStatus{Err: s.err}
	s.mu.Unlock()
	if g := s.current.Load(); g != nil {
		st.Keys, st.Fetched = g.keys.jwks, g.fetched
	}
	return st
}

// table returns the keys in force. It waits only when there are none.
func (s *KeySet) table(ctx context.Context) (*table, error) {
	if t := s.serving(ctx); t != nil {
		return t, nil
	}
	err := s.await(ctx, s.refresh(ctx))
	if t := s.serving(ctx); t != nil {
		return t, nil
	}
	if err == nil {
		err = errors.New("the keys are too old to be trusted")
	}
	return nil, unavailable(fetchGap, err)
}

// serving returns the keys in force or nil; keys that are due are asked for
// without waiting.
func (s *KeySet) serving(ctx context.Context) *table {
	g := s.current.Load()
	if g == nil || s.source == nil {
		if g == nil {
			return nil
		}
		return g.keys
	}
	now := time.Now()
	if now.After(g.gone) {
		return nil
	}
	if now.After(g.due) {
		s.refresh(ctx)
	}
	return g.keys
}

// find returns the keys for kid and alg and the table they are from, asking
// the issuer again if t does not know the kid.
func (s *KeySet) find(ctx context.Context, t *table, kid string, alg Algorithm) (*table, []*key, error) {
	if keys := t.find(kid, alg); len(keys) > 0 {
		return t, keys, nil
	}
	if kid == "" || len(t.byName[kid]) > 0 {
		return nil, nil, invalid(errors.New("no key of the issuer is for the header's alg"))
	}
	noKey := invalid(errors.New("the issuer has no key of this kid"))
	if s.source == nil || s.isUnknown(kid) {
		return nil, nil, noKey
	}
	done := s.refresh(ctx)
	if err := s.await(ctx, done); err != nil {
		return nil, nil, unavailable(fetchGap, err)
	}
	g := s.current.Load()
	if keys := g.keys.find(kid, alg); len(keys) > 0 {
		return g.keys, keys, nil
	}
	if done != nil {
		s.markUnknown(kid)
	}
	return nil, nil, noKey
}

// suspect is told that a signature failed under a key that exists. An issuer
// may have put a new key under an old name, or under none; so the keys are
// fetched again if they are not fresh, but nobody waits for what is most likely
// a forgery.
func (s *KeySet) suspect(ctx context.Context) {
	g := s.current.Load()
	if s.source != nil && g != nil && time.Since(g.fetched) >= minRefresh {
		s.refresh(ctx)
	}
}

// refresh starts a fetch and returns what to wait for: the one under way if
// there is one already, nil if the last began too short a time ago.
func (s *KeySet) refresh(ctx context.Context) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inflight != nil {
		return s.inflight
	}
	if !s.attempt.IsZero() && time.Since(s.attempt) < fetchGap {
		return nil
	}
	s.attempt = time.Now()
	done := make(chan struct{})
	s.inflight = done
	// Others wait for this fetch too: a caller who hangs up must not be able to
	// keep the issuer's new keys out.
	ctx = context.WithoutCancel(ctx)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		err := s.fetch(ctx)
		s.mu.Lock()
		s.inflight, s.err = nil, err
		if s.failures++; err == nil {
			s.failures = 0
		}
		s.mu.Unlock()
		close(done)
	}()
	return done
}

// await waits for done, bounded, and returns why the last fetch failed, if it did.
func (s *KeySet) await(ctx context.Context, done <-chan struct{}) error {
	if done != nil {
		timer := time.NewTimer(maxWait)
		defer timer.Stop()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("the issuer did not answer within %v", maxWait)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fetch replaces the keys; on an error the old ones stay.
func (s *KeySet) fetch(ctx context.Context) error {
	began := time.Now()
	body, maxAge, err := s.source.fetch(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "fetching an issuer's keys failed", slog.String("issuer", s.cfg.Issuer), slog.Any("error", err))
		return err
	}
	next, warnings, err := parseJWKS(body, s.cfg.Algorithms)
	if err != nil {
		s.log.WarnContext(ctx, "an issuer's keys cannot be read", slog.String("issuer", s.cfg.Issuer), slog.Any("error", err))
		return err
	}
	for _, w := range warnings {
		s.log.WarnContext(ctx, "an issuer's key is not used", slog.String("issuer", s.cfg.Issuer), slog.Any("error", w))
	}
	if maxAge < 0 {
		maxAge = s.cfg.Refresh
	} else {
		maxAge = min(max(maxAge, minRefresh), maxRefresh)
	}
	g := &generation{keys: next, fetched: began, due: began.Add(min(maxAge, s.cfg.MaxStale)), gone: began.Add(s.cfg.MaxStale)}
	old := s.current.Load()
	if old != nil && old.keys.same(next) {
		g.keys = old.keys // and with them the headers they remember
		s.current.Store(g)
		return nil
	}
	// An empty set is obeyed too: that is how an issuer withdraws all its keys.
	s.current.Store(g)
	if old != nil { // the first keys make nothing invalid
		s.epoch.Add(1)
	}
	s.mu.Lock()
	clear(s.unknown)
	s.mu.Unlock()
	return nil
}

func (s *KeySet) isUnknown(kid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.unknown[kid])
}

func (s *KeySet) markUnknown(kid string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unknown) >= maxUnknown {
		for k, until := range s.unknown {
			if now.After(until) {
				delete(s.unknown, k)
			}
		}
	}
	if len(s.unknown) < maxUnknown {
		s.unknown[kid] = now.Add(unknownFor)
	}
}
