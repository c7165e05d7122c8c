package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

const (
	sealedOutbox = "identity outbox" // purpose of the Sealer

	mailSenders = 4           // at once: one that hangs holds up no other
	mailEvery   = time.Second // look for what became due, or was queued by another process
	mailLimit   = time.Minute // one attempt
	mailLease   = 2 * mailLimit
	mailBackoff = 10 * time.Second // after the first failure; then twice that each time
	mailLongest = time.Hour
	mailQueue   = 10_000 // mails that may wait
)

// ErrRefused is what a [Mailer]'s error wraps when to try again is of no use: the
// mail is dropped then.
var ErrRefused = errors.New("the mail is refused for good")

var errNoMail = fmt.Errorf("%w: no way to send mail is configured", ErrInvalid)

// A letter is a mail in the outbox. It is sealed there: the link in it opens an
// account.
type letter struct{ To, Subject, Text string }

func (d *Directory) sealLetter(l *letter) (string, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	return d.cfg.Seal.Seal(sealedOutbox, b)
}

// queue puts a mail into the outbox. Once the transaction is committed it is sent,
// whatever ends the process: at least once, and until expires.
func (d *Directory) queue(ctx context.Context, tx *sql.Tx, l *letter, now, expires time.Time) error {
	content, err := d.sealLetter(l)
	if err != nil {
		return err
	}
	return insertOutbox(ctx, tx, "mail", content, now, expires)
}

func insertOutbox(ctx context.Context, tx *sql.Tx, kind, content string, now, expires time.Time) error {
	done, err := tx.ExecContext(ctx, `INSERT INTO outbox (id, kind, content, due, tries, expires)
		SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), 0, CAST($5 AS BIGINT)
		WHERE (SELECT COUNT(*) FROM outbox) < $6`,
		newID("out_"), kind, content, now.UnixMilli(), expires.UnixMilli(), mailQueue)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return ErrBusy
	}
	return nil
}

func deleteOutbox(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id = $1`, id)
	return err
}

func (d *Directory) wakeSender() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// sendMail sends what is due until ctx ends.
func (d *Directory) sendMail(ctx context.Context, report func(error)) {
	ticker := time.NewTicker(mailEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-d.wake:
		}
		for ctx.Err() == nil {
			found, err := d.sendOne(ctx)
			if found || err != nil {
				report(err)
			}
			if !found || err != nil {
				break
			}
		}
	}
}

// A posting is a row of the outbox that a sender has taken on.
type posting struct {
	id, kind, content string
	tries             int
	expires           time.Time
}

// sendOne takes on the mail that is due longest, and sends it. Should the process
// die over it, another one takes it on when the lease is over.
func (d *Directory) sendOne(ctx context.Context) (found bool, err error) {
	p, err := d.takeOn(ctx)
	if err != nil {
		return false, fmt.Errorf("identity: outbox: %w", err)
	}
	if p == nil {
		return false, nil
	}
	var failed error
	if time.Now().After(p.expires) {
		failed = fmt.Errorf("%w: it was not accepted in time", ErrRefused)
	} else {
		failed = d.deliver(ctx, p)
	}
	done, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.LookLimit) // also when we are to end: it was sent
	defer cancel()
	err = d.cfg.DB.Write(done, func(tx *sql.Tx) error {
		if failed == nil || errors.Is(failed, ErrRefused) {
			return deleteOutbox(done, tx, p.id)
		}
		wait := mailLongest
		if p.tries < 10 {
			wait = min(wait, mailBackoff<<(p.tries-1))
		}
		_, err := tx.ExecContext(done, `UPDATE outbox SET due = $1 WHERE id = $2`, time.Now().Add(wait).UnixMilli(), p.id)
		return err
	})
	if err = errors.Join(failed, err); err != nil {
		return true, fmt.Errorf("identity: mail %s, attempt %d: %w", p.id, p.tries, err)
	}
	return true, nil
}

func (d *Directory) takeOn(ctx context.Context) (*posting, error) {
	look, cancel := context.WithTimeout(ctx, store.LookLimit)
	defer cancel()
	now := time.Now()
	due := 0 // nearly always nothing is, and then no lock is needed
	err := d.cfg.DB.Read(look, func(tx *sql.Tx) error {
		return tx.QueryRowContext(look, `SELECT COUNT(*) FROM (SELECT id FROM outbox WHERE due <= $1 LIMIT 1) waiting`, now.UnixMilli()).Scan(&due)
	})
	if err != nil || due == 0 {
		return nil, err
	}
	var p posting
	var expires int64
	err = d.cfg.DB.Write(look, func(tx *sql.Tx) error {
		return tx.QueryRowContext(look, `UPDATE outbox SET due = $1, tries = tries + 1
			WHERE due <= $2 AND id = (SELECT id FROM outbox WHERE due <= $2 ORDER BY due LIMIT 1)
			RETURNING id, kind, content, tries, expires`,
			now.Add(mailLease).UnixMilli(), now.UnixMilli()).Scan(&p.id, &p.kind, &p.content, &p.tries, &expires)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // another sender was faster
	}
	p.expires = store.Moment(expires)
	return &p, err
}

func (d *Directory) deliver(ctx context.Context, p *posting) error {
	content, err := d.cfg.Seal.Open(sealedOutbox, p.content)
	if err != nil {
		return fmt.Errorf("%w: it can not be read: %w", ErrRefused, err)
	}
	l := &letter{}
	if p.kind == "reset" {
		l, err = d.resolveReset(ctx, p.id, string(content))
		if err != nil || l == nil {
			return err
		}
	} else if err := json.Unmarshal(content, l); err != nil {
		return fmt.Errorf("%w: it can not be read: %w", ErrRefused, err)
	}
	attempt, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	return d.cfg.Mail.Send(attempt, l.To, l.Subject, l.Text)
}
