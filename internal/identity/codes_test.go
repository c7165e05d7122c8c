package identity_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A letterbox is a Mailer that keeps mail for the test.
type letterbox struct {
	mu    sync.Mutex
	mails []string // "to subject\ntext"
	fail  error
	tries int
}

func (l *letterbox) Send(_ context.Context, to, subject, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
	if l.fail != nil {
		return l.fail
	}
	l.mails = append(l.mails, to+" "+subject+"\n"+text)
	return nil
}

func (l *letterbox) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *letterbox) counts() (sent, tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mails), l.tries
}

var linkPattern = regexp.MustCompile(`(?m)^(https://id\.example\.com/(?:reset|verify))\?code=([A-Za-z0-9_-]{43})$`)

// code waits for the mail number n and returns its address, path and code.
func (l *letterbox) code(t testing.TB, n int) (to, link, code string) {
	t.Helper()
	until(t, fmt.Sprint("mail ", n), 5*time.Second, func() bool { sent, _ := l.counts(); return sent >= n })
	l.mu.Lock()
	defer l.mu.Unlock()
	m := linkPattern.FindStringSubmatch(l.mails[n-1])
	if m == nil {
		t.Fatalf("no link in %q", l.mails[n-1])
	}
	to, _, _ = strings.Cut(l.mails[n-1], " ")
	return to, m[1], m[2]
}

func postedHouse(t testing.TB) (*house, *letterbox) {
	t.Helper()
	box := &letterbox{}
	h := newHouse(t, func(c *identity.Config) { c.Mail = box })
	run(t, h.Directory, nil)
	return h, box
}

const newPassword = "another horse battery staple"

func TestReset(t *testing.T) {
	h, box := postedHouse(t)
	u := h.alice(t)
	for i := range 5 { // somebody guesses
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	issued := &token.Claims{Subject: u.ID, IssuedAt: time.Now()}
	if err := h.SendReset(t.Context(), "ALICE", home); err != nil {
		t.Fatal(err)
	}
	to, link, code := box.code(t, 1)
	if to != "alice@example.com" || link != "https://id.example.com/reset" {
		t.Errorf("to %s: %s", to, link)
	}
	_, err := h.Reset(t.Context(), code, gatehouse.NewSecret("short"))
	wantErr(t, err, identity.ErrPassword) // and the code stays good
	_, err = h.Verify(t.Context(), code)
	wantErr(t, err, identity.ErrCode) // it is for something else
	got, err := h.Reset(t.Context(), code, gatehouse.NewSecret(newPassword))
	if err != nil || got.ID != u.ID || got.ValidFrom.IsZero() {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !h.Revoked(issued) {
		t.Error("a token issued before lives")
	}
	if err := h.guess(t, "alice", newPassword, there); err != nil {
		t.Errorf("the new password does not sign in, or its owner must wait: %v", err)
	}
	wantErr(t, h.guess(t, "alice", goodPassword, home), identity.ErrCredentials)
	_, err = h.Reset(t.Context(), code, gatehouse.NewSecret("a third horse battery staple"))
	wantErr(t, err, identity.ErrCode)
	last := h.changes(t)[len(h.changes(t))-1]
	if last.Action != "users.reset" || last.Actor != u.ID || last.Object != u.ID {
		t.Errorf("logged %+v", last)
	}
}

func TestCodesThatAreNotTaken(t *testing.T) {
	for _, c := range []struct {
		sentence string
		before   func(t *testing.T, h *house, u *identity.User)
		code     func(code string) string
	}{
		{"another code", nil, func(string) string { return strings.Repeat("A", 43) }},
		{"no code", nil, func(string) string { return "" }},
		{"the code in other letters", nil, strings.ToLower},
		{"the code's digest, as a thief of the table has it", nil, func(code string) string { return code + "=" }},
		{"a code after its time", func(t *testing.T, h *house, _ *identity.User) {
			h.exec(t, `UPDATE codes SET expires = $1`, time.Now().UnixMilli()-1)
		}, nil},
		{"a code that went to an address the user has no more", func(t *testing.T, h *house, u *identity.User) {
			_, err := h.Update(t.Context(), "root", u.ID, 0, func(u *identity.User) error { u.Email = "alice@example.org"; return nil })
			wantErr(t, err, nil)
		}, nil},
		{"a code of a locked user", func(t *testing.T, h *house, u *identity.User) {
			wantErr(t, h.Lock(t.Context(), "root", u.ID, ""), nil)
		}, nil},
		{"a code from before a lock", func(t *testing.T, h *house, u *identity.User) {
			wantErr(t, h.Lock(t.Context(), "root", u.ID, ""), nil)
			wantErr(t, h.Unlock(t.Context(), "root", u.ID), nil)
		}, nil},
		{"a code from before a new password", func(t *testing.T, h *house, u *identity.User) {
			wantErr(t, h.SetPassword(t.Context(), u.ID, u.ID, gatehouse.NewSecret(newPassword)), nil)
		}, nil},
		{"a code of a deleted user", func(t *testing.T, h *house, u *identity.User) {
			wantErr(t, h.Delete(t.Context(), "root", u.ID), nil)
		}, nil},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			h, box := postedHouse(t)
			u := h.alice(t)
			wantErr(t, h.SendReset(t.Context(), "alice@example.com", home), nil)
			_, _, code := box.code(t, 1)
			if c.before != nil {
				c.before(t, h, u)
			}
			if c.code != nil {
				code = c.code(code)
			}
			_, err := h.Reset(t.Context(), code, gatehouse.NewSecret("a third horse battery staple"))
			wantErr(t, err, identity.ErrCode)
		})
	}
}

func TestANewCodeKillsTheOld(t *testing.T) {
	h, box := postedHouse(t)
	h.alice(t)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	_, _, first := box.code(t, 1)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	_, _, second := box.code(t, 2)
	_, err := h.Reset(t.Context(), first, gatehouse.NewSecret(newPassword))
	wantErr(t, err, identity.ErrCode)
	_, err = h.Reset(t.Context(), second, gatehouse.NewSecret(newPassword))
	wantErr(t, err, nil)
}

func TestACodeIsUsedOnce(t *testing.T) {
	h, box := postedHouse(t)
	h.alice(t)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	_, _, code := box.code(t, 1)
	var used atomic.Int64
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, err := h.Reset(t.Context(), code, gatehouse.NewSecret(fmt.Sprint("horse battery staple ", i)))
			if err == nil {
				used.Add(1)
			} else if !errors.Is(err, identity.ErrCode) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used.Load() != 1 {
		t.Errorf("used %d times", used.Load())
	}
}

func TestACodeIsNotUsedUpByWhatCannotBeLogged(t *testing.T) {
	h, box := postedHouse(t)
	u := h.alice(t)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	_, _, code := box.code(t, 1)
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	_, _, verify := box.code(t, 2)
	broken := h.open(t, func(c *identity.Config) { c.Log = brokenLog{} })
	_, err := broken.Reset(t.Context(), code, gatehouse.NewSecret(newPassword))
	wantErr(t, err, errDiskFull)
	_, err = broken.Verify(t.Context(), verify)
	wantErr(t, err, errDiskFull)
	wantErr(t, h.guess(t, "alice", newPassword, there), identity.ErrCredentials)
	_, err = h.Verify(t.Context(), verify)
	wantErr(t, err, nil)
	_, err = h.Reset(t.Context(), code, gatehouse.NewSecret(newPassword))
	wantErr(t, err, nil)
}

// TestWithoutADatabaseNothingIsSaid: neither that a code is wrong nor that a mail
// is on its way.
func TestWithoutADatabaseNothingIsSaid(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.Mail = &letterbox{} })
	u := h.alice(t)
	wantErr(t, h.db.Close(), nil)
	for name, do := range map[string]func() error{
		"reset":        func() error { _, err := h.Reset(t.Context(), "x", gatehouse.NewSecret(newPassword)); return err },
		"verify":       func() error { _, err := h.Verify(t.Context(), "x"); return err },
		"send reset":   func() error { return h.SendReset(t.Context(), "alice", home) },
		"verification": func() error { return h.SendVerification(t.Context(), u.ID) },
		"password":     func() error { return h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(newPassword)) },
		"lock":         func() error { return h.Lock(t.Context(), "root", u.ID, "") },
		"group":        func() error { _, err := h.Group(t.Context(), "x"); return err },
	} {
		err := do()
		if err == nil || errors.Is(err, identity.ErrCode) || errors.Is(err, identity.ErrUnknown) || errors.Is(err, identity.ErrThrottled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestVerification(t *testing.T) {
	h, box := postedHouse(t)
	u := h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com"})
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	to, link, code := box.code(t, 1)
	if to != "bob@example.com" || link != "https://id.example.com/verify" {
		t.Errorf("to %s: %s", to, link)
	}
	_, err := h.Reset(t.Context(), code, gatehouse.NewSecret(newPassword))
	wantErr(t, err, identity.ErrCode) // it is for something else
	got, err := h.Verify(t.Context(), code)
	if err != nil || got.EmailVerified.IsZero() || got.ID != u.ID {
		t.Fatalf("got %+v, %v", got, err)
	}
	_, err = h.Verify(t.Context(), code)
	wantErr(t, err, identity.ErrCode)

	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	_, _, code = box.code(t, 2)
	_, err = h.Update(t.Context(), "root", u.ID, 0, func(u *identity.User) error { u.Email = "bob@example.org"; return nil })
	wantErr(t, err, nil)
	_, err = h.Verify(t.Context(), code)
	wantErr(t, err, identity.ErrCode)
	if got, err := h.User(t.Context(), u.ID); err != nil || !got.EmailVerified.IsZero() {
		t.Errorf("an address is verified by a code that went to another one: %+v, %v", got, err)
	}
	wantErr(t, h.SendVerification(t.Context(), "usr_none"), identity.ErrUnknown)
	wantErr(t, h.SendVerification(t.Context(), h.create(t, identity.NewUser{Name: "nomail"}).ID), identity.ErrInvalid)
	wantErr(t, newHouse(t, nil).SendVerification(t.Context(), u.ID), identity.ErrInvalid)
}

// TestWhoGetsNoResetMail: the answers are alike, and nothing is sent.
func TestWhoGetsNoResetMail(t *testing.T) {
	h, box := postedHouse(t)
	h.alice(t)
	h.create(t, identity.NewUser{Name: "unverified", Email: "u@example.com"})
	h.create(t, identity.NewUser{Name: "nomail"})
	h.create(t, identity.NewUser{Name: "guest", Email: "g@example.com", EmailVerified: true, Source: "google"})
	h.create(t, identity.NewUser{Name: "sleeper", Email: "s@example.com", EmailVerified: true, Inactive: true})
	keyed := h.create(t, identity.NewUser{Name: "keyonly", Email: "k@example.com", EmailVerified: true})
	h.register(t, keyed, newDevice(keyed))
	for i, login := range []string{"mallory", "mallory@example.com", "no such name", "", strings.Repeat("x", 10_000), "unverified", "nomail", "guest", "sleeper", "keyonly", "a\r\nb"} {
		wantErr(t, h.SendReset(t.Context(), login, place(i)), nil)
	}
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil) // after them all
	if to, _, _ := box.code(t, 1); to != "alice@example.com" {
		t.Errorf("a mail to %s", to)
	}
	until(t, "the outbox is empty", 5*time.Second, func() bool { return h.waiting(t) == 0 })
	if sent, _ := box.counts(); sent != 1 {
		t.Errorf("%d mails", sent)
	}
}

func (h *house) waiting(t testing.TB) (n int) {
	t.Helper()
	err := h.db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM outbox`).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNobodyIsBuriedInMail(t *testing.T) {
	h, box := postedHouse(t)
	h.alice(t)
	for i := range 15 {
		wantErr(t, h.SendReset(t.Context(), []string{"alice", "alice@example.com"}[i%2], place(i)), nil)
	}
	until(t, "the outbox is empty", 5*time.Second, func() bool { return h.waiting(t) == 0 })
	if sent, _ := box.counts(); sent != 5 {
		t.Errorf("%d mails within an hour", sent)
	}
	for i := range 21 {
		err := h.SendReset(t.Context(), "mallory", home)
		if i < 20 && err != nil || i == 20 && !errors.Is(err, identity.ErrThrottled) {
			t.Errorf("number %d from one address: %v", i+1, err)
		}
	}
}

func TestTheOutboxIsBoundedAndSealed(t *testing.T) {
	box := &letterbox{}
	h := newHouse(t, func(c *identity.Config) { c.Mail = box }) // nobody sends
	u := h.alice(t)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	err := h.db.Read(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.Query(`SELECT content FROM outbox`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var content string
			if err := rows.Scan(&content); err != nil {
				return err
			}
			if strings.Contains(content, "alice") || strings.Contains(content, "code=") {
				t.Errorf("readable: %q", content)
			}
		}
		return rows.Err()
	})
	wantErr(t, err, nil)
	err = h.db.Write(t.Context(), func(tx *sql.Tx) error {
		for i := range 10_000 {
			if _, err := tx.Exec(`INSERT INTO outbox (id, kind, content, due, tries, expires) VALUES ($1, 'mail', '', 0, 0, 0)`, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	wantErr(t, err, nil)
	for _, login := range []string{"alice", "mallory"} {
		wantErr(t, h.SendReset(t.Context(), login, home), identity.ErrBusy)
	}
}

func TestMailThatFailsIsTriedAgain(t *testing.T) {
	box := &letterbox{fail: errors.New("the server is away")}
	h := newHouse(t, func(c *identity.Config) { c.Mail = box })
	reports := make(chan error, 100)
	run(t, h.Directory, func(err error) { reports <- err })
	u := h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com"})
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	if err := <-reports; err == nil || strings.Contains(err.Error(), "code=") {
		t.Errorf("reported %v", err)
	}
	if n := h.waiting(t); n != 1 {
		t.Fatalf("%d wait", n)
	}
	box.set(nil)
	h.exec(t, `UPDATE outbox SET due = $1`, time.Now().UnixMilli()) // ten seconds later
	if to, _, code := box.code(t, 1); to != "bob@example.com" {
		t.Errorf("to %s", to)
	} else if _, err := h.Verify(t.Context(), code); err != nil {
		t.Error(err)
	}
	if err := <-reports; err != nil {
		t.Errorf("the end of the outage: %v", err)
	}

	box.set(fmt.Errorf("%w: no such mailbox", identity.ErrRefused))
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	if err := <-reports; !errors.Is(err, identity.ErrRefused) {
		t.Errorf("reported %v", err)
	}
	until(t, "a refused mail is dropped", 5*time.Second, func() bool { return h.waiting(t) == 0 })

	box.set(errors.New("the server is away"))
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	until(t, "it is tried", 5*time.Second, func() bool { _, tries := box.counts(); return tries >= 4 })
	until(t, "it waits for the next attempt", 5*time.Second, func() bool {
		var due int64
		err := h.db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow(`SELECT due FROM outbox`).Scan(&due) })
		return err == nil && due < time.Now().Add(time.Minute).UnixMilli()
	})
	_, before := box.counts()
	h.exec(t, `UPDATE outbox SET due = 0, expires = $1`, time.Now().UnixMilli()-1)
	until(t, "a mail after its time is dropped", 5*time.Second, func() bool { return h.waiting(t) == 0 })
	if _, tries := box.counts(); tries != before {
		t.Error("a mail whose link is dead is sent")
	}
}

// TestManySendersSendEachMailOnce: eight, in two processes.
func TestManySendersSendEachMailOnce(t *testing.T) {
	h, box := postedHouse(t)
	run(t, h.open(t, func(c *identity.Config) { c.Mail = box }), nil)
	want := map[string]bool{}
	for i := range 40 {
		u := h.create(t, identity.NewUser{Name: fmt.Sprint("user", i), Email: fmt.Sprintf("user%d@example.com", i)})
		wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
		want[u.Email] = true
	}
	until(t, "the outbox is empty", 10*time.Second, func() bool { return h.waiting(t) == 0 })
	box.mu.Lock()
	defer box.mu.Unlock()
	for _, m := range box.mails {
		to, _, _ := strings.Cut(m, " ")
		if !want[to] {
			t.Errorf("one mail too many to %s", to)
		}
		delete(want, to)
	}
	if len(want) > 0 {
		t.Errorf("no mail to %v", want)
	}
}

func TestAResetArrivesBySMTP(t *testing.T) {
	office := newPostOffice(t, postal{tls: true})
	mailer, err := identity.NewSMTP(identity.SMTPConfig{Address: office.address, From: "no-reply@example.com", Roots: office.roots})
	wantErr(t, err, nil)
	h := newHouse(t, func(c *identity.Config) { c.Mail = mailer })
	h.alice(t)
	run(t, h.Directory, nil)
	wantErr(t, h.SendReset(t.Context(), "alice", home), nil)
	until(t, "it arrives", 5*time.Second, func() bool { return len(office.got()) == 1 })
	_, data, _ := strings.Cut(office.got()[0], "\n")
	_, text := read(t, data)
	m := linkPattern.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no link in %q", text)
	}
	_, err = h.Reset(t.Context(), m[2], gatehouse.NewSecret(newPassword))
	wantErr(t, err, nil)
}
