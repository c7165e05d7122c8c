package attack

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// Why nothing was attacked.
var (
	ErrNotURL      = errors.New("is not the URL of a target")
	ErrNoOperation = errors.New("there is no operation to attack in it")
	ErrNotProved   = errors.New("did not prove that it is yours: nothing was attacked")
	ErrNoAnswer    = errors.New("does not answer")
)

// A Config says what to attack, and within which bounds.
type Config struct {
	Bare      string // URL of the service itself
	Through   string // URL of the gateway
	At        string // host:port where the gateway is connected to; "" for what its URL says
	Roots     *x509.CertPool
	Documents []Document
	Callers   []*Caller
	Rows      []string // only these; all if empty

	Requests int           // at most, both targets together
	Time     time.Duration // at most, once targets have proved whose they are
	Wait     time.Duration // for such a proof

	Agent  string                            // the User-Agent of what has none
	Issuer string                            // iss of forged tokens
	Mint   func(edit string) (string, error) // tokens of that issuer, right but "expired" or "for another audience"; may be nil

	Record   Record                       // the gateway's own; nil where it is not on this machine
	Ask      func(target, word string)    // tells the owner which word the target must answer; may be nil
	Progress func(row string, worked int) // where it is, and how many exploits worked bare; may be nil
}

// A Document is an OpenAPI document of what is attacked.
type Document struct {
	File string
	Base string // of its paths; "" for what the document says
}

// A Caller has valid credentials: what is right is to be tried, too.
type Caller struct {
	Name   string
	Header http.Header
}

// A Record visits the gateway's events since a time.
type Record func(ctx context.Context, since time.Time, visit func(*gatehouse.Event) bool) error

// Run tries everything. A run that ends early, by its requests or its time, has a
// report that says so.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	began := time.Now()
	r, err := prepare(ctx, &cfg)
	if r != nil && r.listen != nil {
		defer func() { _ = r.listen.l.Close() }()
	}
	if err != nil {
		return nil, err
	}
	left := cfg.Requests
	r.bare.left, r.through.left = &left, &left
	timed, cancel := context.WithTimeout(ctx, cfg.Time)
	defer cancel()
	r.run(timed)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	report := newReport(r, cfg.Requests-max(left, 0), time.Since(began))
	if err := report.consult(ctx, r, cfg.Record, began); err != nil {
		return nil, err
	}
	return report, nil
}

// prepare reads what there is to attack, and finds out whether it may be.
func prepare(ctx context.Context, cfg *Config) (*runner, error) {
	r := &runner{rows: cfg.Rows, callers: cfg.Callers, issuer: cfg.Issuer, mint: cfg.Mint, progress: cfg.Progress}
	if r.progress == nil {
		r.progress = func(string, int) {}
	}
	for _, d := range cfg.Documents {
		ops, err := readDocument(d.File, d.Base)
		if err != nil {
			return nil, err
		}
		r.ops = append(r.ops, ops...)
	}
	var err error
	unlimited := 1 << 10 // for the proofs of ownership
	own, local := [2]bool{}, true
	if r.bare, own[0], err = newTarget(ctx, cfg.Bare, "", cfg.Roots, &unlimited); err != nil {
		return nil, err
	}
	if r.through, own[1], err = newTarget(ctx, cfg.Through, cfg.At, cfg.Roots, &unlimited); err != nil {
		return nil, err
	}
	for i, t := range []*target{r.bare, r.through} {
		t.agent = cfg.Agent
		if own[i] {
			continue
		}
		local = false
		if err := t.owned(ctx, cfg.Ask, cfg.Wait); err != nil {
			return nil, err
		}
	}
	r.through.pace = true
	if local {
		if r.listen, err = listenForCallbacks(ctx); err != nil {
			return nil, err
		}
	}
	return r, r.alive(ctx)
}

// alive wants an answer of both before anything is attacked.
func (r *runner) alive(ctx context.Context) error {
	for what, t := range map[string]*target{"the service": r.bare, "the gateway": r.through} {
		if _, err := t.once(ctx, request{method: http.MethodGet, target: "/", header: http.Header{}}); err != nil {
			return fmt.Errorf("%s %w: %w", what, ErrNoAnswer, err)
		}
	}
	return nil
}
