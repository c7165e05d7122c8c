package identity

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse"
	"golang.org/x/text/unicode/norm"
)

// newPassword checks the rules and returns the row to be written; second tells that
// another factor is asked for as well.
func (d *Directory) newPassword(ctx context.Context, p gatehouse.Secret, u *User, second bool) (string, error) {
	password := norm.NFC.String(p.Reveal())
	shortest := d.cfg.MinPassword
	if second {
		shortest = d.cfg.MinPasswordSecond
	}
	if utf8.RuneCountInString(password) < shortest {
		return "", fmt.Errorf("%w: it has fewer than %d characters", ErrPassword, shortest)
	}
	free, err := d.hashes.slot(ctx)
	if err != nil {
		return "", err
	}
	defer free()
	return hashed(password).String(), nil
}
