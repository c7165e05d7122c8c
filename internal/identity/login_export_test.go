package identity

import (
	"context"
	"time"
)

// What is tested without its clock.
var (
	HOTP     = hotp
	TOTPStep = totpStep
)

// RaiseAt is what Raise decides at a moment.
func (s Session) RaiseAt(l *Login, now time.Time) (Session, error) { return s.raise(l, now) }

// Complete is what Start asks of a login.
func (l *Login) Complete(now time.Time) bool { return l.complete(now) }

// Prune is what Run does once a minute.
func (d *Directory) Prune(ctx context.Context) error { return d.prune(ctx) }
