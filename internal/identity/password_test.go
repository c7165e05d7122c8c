package identity_test

import (
	"crypto/sha1"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

var (
	home  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.7")
)

func place(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }

func (h *house) guess(t testing.TB, login, password string, from netip.Addr) error {
	t.Helper()
	_, err := h.Password(t.Context(), login, gatehouse.NewSecret(password), from)
	return err
}

func TestPassword(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	h.create(t, identity.NewUser{Name: "keyonly"})
	h.create(t, identity.NewUser{Name: "guest", Source: "google"})
	h.create(t, identity.NewUser{Name: "sleeper", Password: gatehouse.NewSecret("quite the sleepy heads"), Inactive: true})
	for _, c := range []struct {
		sentence, login, password string
		ok                        bool
	}{
		{"the name and the password sign in", "alice", goodPassword, true},
		{"the name in another spelling signs in", "ALICE", goodPassword, true},
		{"the address signs in", "Alice@example.com", goodPassword, true},
		{"a wrong password does not", "alice", goodPassword + "r", false},
		{"the password in another case does not", "alice", strings.ToUpper(goodPassword), false},
		{"no password does not", "alice", "", false},
		{"a cut password does not", "alice", goodPassword[:len(goodPassword)-1], false},
		{"a password with a NUL behind it does not", "alice", goodPassword + "\x00", false},
		{"an endless password does not", "alice", strings.Repeat("a", 100_000), false},
		{"an unknown name does not", "mallory", goodPassword, false},
		{"an impossible name does not", "no such name", goodPassword, false},
		{"no name does not", "", goodPassword, false},
		{"who has no password does not", "keyonly", "", false},
		{"who has no password does not by any", "keyonly", goodPassword, false},
		{"who signs in elsewhere does not", "guest", goodPassword, false},
		{"who is inactive does not", "sleeper", "quite the sleepy heads", false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			h.exec(t, `DELETE FROM throttles`)
			l, err := h.Password(t.Context(), c.login, gatehouse.NewSecret(c.password), home)
			if !c.ok {
				if l != nil || err != identity.ErrCredentials { //nolint:errorlint // exactly this one: a wrapped one would tell more
					t.Errorf("got %+v, %v", l, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if l.User != u.ID || l.ACR != identity.ACRPassword || !slices.Equal(l.AMR, []string{"pwd"}) || l.Second || time.Since(l.AuthTime) > time.Minute {
				t.Errorf("got %+v", l)
			}
		})
	}
}

func TestAPasswordIsOneInEverySpelling(t *testing.T) {
	h := newHouse(t, nil)
	h.create(t, identity.NewUser{Name: "zoe", Password: gatehouse.NewSecret("Grüße aus Österreich")})
	for _, spelling := range []string{"Grüße aus Österreich", "Gru\u0308ße aus O\u0308sterreich", "Grüße\u00a0aus\u3000Österreich"} {
		if err := h.guess(t, "zoe", spelling, home); err != nil {
			t.Errorf("%q: %v", spelling, err)
		}
	}
}

// TestUnknownNamesCostTheSame holds the work of both beside each other, which is
// the hash above all: a shortcut for unknown names would be a hundred times faster.
func TestUnknownNamesCostTheSame(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	h.create(t, identity.NewUser{Name: "keyonly"})
	h.create(t, identity.NewUser{Name: "sleeper", Password: gatehouse.NewSecret("quite the sleepy heads"), Inactive: true})
	best := map[string]time.Duration{}
	for round := range 4 { // fewer than make somebody wait
		for i, login := range []string{"alice", "mallory", "no such name", "keyonly", "sleeper"} {
			start := time.Now()
			wantErr(t, h.guess(t, login, "wrong wrong wrong wrong", place(10*round+i)), identity.ErrCredentials)
			if took := time.Since(start); best[login] == 0 || took < best[login] {
				best[login] = took
			}
		}
	}
	for login, took := range best {
		if took < best["alice"]/5 || took > 5*best["alice"] {
			t.Errorf("%q takes %v, alice %v", login, took, best["alice"])
		}
	}
}

// TestAFullQueueAnswersBusyAndCountsNothing also shows that unknown names, which
// these are, wait for a hash like known ones: else none would be busy.
func TestAFullQueueAnswersBusyAndCountsNothing(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.HashSlots = 1 })
	h.alice(t)
	var busy, wrong atomic.Int64
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			switch err := h.guess(t, fmt.Sprint("user", i), "wrong", place(i)); {
			case errors.Is(err, identity.ErrBusy):
				busy.Add(1)
			case errors.Is(err, identity.ErrCredentials):
				wrong.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if busy.Load() == 0 || wrong.Load() == 0 {
		t.Errorf("%d busy, %d answered", busy.Load(), wrong.Load())
	}
	if err := h.guess(t, "alice", goodPassword, home); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOfFiftyParallelGuessesFiveAreMade(t *testing.T) {
	for _, login := range []string{"alice", "mallory"} {
		t.Run(login, func(t *testing.T) {
			h := newHouse(t, func(c *identity.Config) { c.HashSlots = 4 })
			h.alice(t)
			var made, told atomic.Int64
			var all sync.WaitGroup
			begun := time.Now()
			for i := range 50 {
				all.Go(func() {
					err := h.guess(t, login, fmt.Sprint("wrong", i), place(i))
					switch throttled, ok := errors.AsType[*identity.Throttled](err); {
					case errors.Is(err, identity.ErrCredentials):
						made.Add(1)
					case ok && throttled.Wait > 0:
						told.Add(1)
					default:
						t.Errorf("got %v", err)
					}
				})
			}
			all.Wait()
			free := int64(5)
			for wait, passed := time.Second, time.Since(begun); passed >= wait; wait *= 2 { // on a slow machine some waits end
				passed -= wait
				free++
			}
			if made.Load() < 5 || made.Load() > free || made.Load()+told.Load() != 50 {
				t.Errorf("%d made, %d told to wait", made.Load(), told.Load())
			}
		})
	}
}

// TestWaitsDoubleAndEnd moves the clock by moving the rows.
func TestWaitsDoubleAndEnd(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	for i := range 4 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	for i, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900} {
		wantErr(t, h.guess(t, "alice", "wrong", place(10+i)), identity.ErrCredentials)
		throttled, ok := errors.AsType[*identity.Throttled](h.guess(t, "alice", goodPassword, place(100+i)))
		if want := time.Duration(seconds) * time.Second; !ok || throttled.Wait > want || throttled.Wait < want-time.Second {
			t.Fatalf("after %d failures: %v, want %v", 5+i, throttled, want)
		}
		h.pass(t, throttled.Wait)
	}
	if err := h.guess(t, "alice", goodPassword, there); err != nil {
		t.Fatalf("after the wait: %v", err)
	}
	for i := range 4 { // a success forgets the failures
		wantErr(t, h.guess(t, "alice", "wrong", place(200+i)), identity.ErrCredentials)
	}
	wantErr(t, h.guess(t, "alice", "wrong", place(300)), identity.ErrCredentials)
}

func TestFailuresAreForgottenAfterADay(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	for i := range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	h.pass(t, 25*time.Hour)
	for i := range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	wantErr(t, h.guess(t, "alice", "wrong", place(6)), identity.ErrThrottled)
}

// pass moves every row of throttles into the past.
func (h *house) pass(t testing.TB, by time.Duration) {
	t.Helper()
	h.exec(t, `UPDATE throttles SET free = free - $1, seen = seen - $1, since = since - $1`, by.Milliseconds()+1)
}

func TestAnAccountIsCountedUnderAllItsNames(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	for i := range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	wantErr(t, h.guess(t, "ALICE", goodPassword, place(5)), identity.ErrThrottled)
	// By the address the right password must not sign in either. That the account
	// waits is not said: it would tell whose address it is.
	if err := h.guess(t, "alice@example.com", goodPassword, place(6)); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	if err := h.guess(t, "mallory@example.com", goodPassword, place(7)); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}

func TestARestartForgetsNoGuess(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	for i := range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	_, err := h.open(t, nil).Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), there)
	wantErr(t, err, identity.ErrThrottled)
}

func TestStrangersDoNotMakeTheOwnerWaitAtHome(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	if err := h.guess(t, "alice", goodPassword, home); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", place(i)), identity.ErrCredentials)
	}
	wantErr(t, h.guess(t, "alice", "wrong", there), identity.ErrThrottled)
	if err := h.guess(t, "alice", goodPassword, home); err != nil {
		t.Errorf("at home: %v", err)
	}
	wantErr(t, h.guess(t, "alice", goodPassword, there), identity.ErrThrottled) // which does not let the stranger go on
	for range 5 {
		wantErr(t, h.guess(t, "alice", "wrong", home), identity.ErrCredentials)
	}
	wantErr(t, h.guess(t, "alice", "wrong", home), identity.ErrThrottled) // at home it is counted too
}

func TestASourceIsCounted(t *testing.T) {
	for _, c := range []struct {
		sentence string
		from     func(i int) netip.Addr
		last     string // who comes after twenty failures
		waits    bool
	}{
		{"one address waits", func(int) netip.Addr { return home }, "192.0.2.1", true},
		{"the address as IPv6 waits", func(int) netip.Addr { return home }, "::ffff:192.0.2.1", true},
		{"the address beside it does not", func(int) netip.Addr { return home }, "192.0.2.2", false},
		{"a /64 waits as one", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)) }, "2001:db8::ffff:1", true},
		{"the /64 beside it does not", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)) }, "2001:db8:0:1::1", false},
		{"no address is one too", func(int) netip.Addr { return netip.Addr{} }, "", true},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			h := newHouse(t, func(c *identity.Config) { c.HashSlots = 4 })
			for i := range 20 {
				wantErr(t, h.guess(t, fmt.Sprint("user", i), "wrong", c.from(i)), identity.ErrCredentials)
			}
			last, _ := netip.ParseAddr(c.last)
			err := h.guess(t, "another", "wrong", last)
			if want := map[bool]error{true: identity.ErrThrottled, false: identity.ErrCredentials}[c.waits]; !errors.Is(err, want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOneGoodAccountPaysForNoGuesses(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	guesses := 0
	for i := range 40 {
		if i%3 == 0 {
			_ = h.guess(t, "alice", goodPassword, home)
		}
		if err := h.guess(t, fmt.Sprint("user", i), "wrong", home); errors.Is(err, identity.ErrThrottled) {
			break
		}
		guesses++
	}
	if guesses > 20 {
		t.Errorf("%d guesses from one address", guesses)
	}
}

func TestRulesOfPasswords(t *testing.T) {
	name := filepath.Join(t.TempDir(), "breached.txt")
	writeBreached(t, name, []string{"a password from a leak"}, false)
	h := newHouse(t, func(c *identity.Config) { c.Breached = name })
	u := h.create(t, identity.NewUser{Name: "marjorie", Email: "marge.simpson@example.com"})
	for _, c := range []struct{ password, rule string }{
		{"correct horse battery staple", ""},
		{"Grüße aus Österreich", ""},
		{"🐴🔋📎 horse battery ✅", ""},
		{"              horse       ", "common"},
		{strings.Repeat("long enough, really! ", 12), "repeats"},
		{"x" + strings.Repeat("y z", 85), ""},
		{strings.Repeat("abcdefghij klmnopq", 30), "256 are the most"},
		{strings.Repeat("y", 5000), "more than 256"},
		{"short passwort", "14 characters"},
		{"ÄÖÜäöüßÄÖÜäöü€", "14 characters"}, // more bytes, but characters count
		{"", "0 characters"},
		{"correct horse\x00battery staple", "not printable"},
		{"correct horse\nbattery staple", "not printable"},
		{"correct horse \xff battery", "not printable"},
		{"aaaaaaaaaaaaaaaaaaaa", "repeats"},
		{"passwordpassword", "repeats"},
		{"123456789012345678", "sequence"},
		{"abcdefghijklmnopqrstuvwxyz", "sequence"},
		{"zyxwvutsrqponmlkji", "sequence"},
		{"Password1234567890!", "common"},
		{"!!!!!!!!sunshine!!!!!!!!", "common"},
		{"qwertyuiop[]asdfgh", ""},
		{"my name is Marjorie and", "your name"},
		{"my name is MARGE.SIMPSON", "your name"},
		{"gatehouse rocks the house", "this service"},
		{"a good example of it all", "this service"},
		{"a password from a leak", "leak"},
	} {
		err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(c.password))
		switch {
		case c.rule == "" && err != nil:
			t.Errorf("%.40q: %v", c.password, err)
		case c.rule != "" && (!errors.Is(err, identity.ErrPassword) || !strings.Contains(err.Error(), c.rule)):
			t.Errorf("%.40q: got %v, want a word of %q", c.password, err, c.rule)
		case err != nil && c.password != "" && strings.Contains(err.Error(), c.password):
			t.Errorf("%.40q is in the error", c.password)
		}
	}
	wantErr(t, h.SetPassword(t.Context(), "root", "usr_none", gatehouse.NewSecret(goodPassword)), identity.ErrUnknown)
	guest := h.create(t, identity.NewUser{Name: "guest", Source: "google"})
	wantErr(t, h.SetPassword(t.Context(), "root", guest.ID, gatehouse.NewSecret(goodPassword)), identity.ErrInvalid)
}

// writeBreached writes the sums of passwords, among ten thousand others, in order.
func writeBreached(t testing.TB, name string, passwords []string, binary bool) {
	t.Helper()
	var sums [][sha1.Size]byte
	for i := range 10_000 {
		sums = append(sums, sha1.Sum(fmt.Appendf(nil, "other%d", i)))
	}
	for _, p := range passwords {
		sums = append(sums, sha1.Sum([]byte(p)))
	}
	slices.SortFunc(sums, func(a, b [sha1.Size]byte) int { return strings.Compare(string(a[:]), string(b[:])) })
	var b []byte
	for i, sum := range sums {
		if binary {
			b = append(b, sum[:]...)
		} else {
			b = fmt.Appendf(b, "%X:%d\r\n", sum, i*i)
		}
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryLineOfTheBreachedFileIsFound(t *testing.T) {
	for _, binary := range []bool{false, true} {
		t.Run(fmt.Sprint("binary ", binary), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "breached")
			var leaked []string
			for i := range 60 {
				leaked = append(leaked, fmt.Sprint("a password from a leak ", i))
			}
			writeBreached(t, name, leaked, binary)
			h := newHouse(t, func(c *identity.Config) { c.Breached = name })
			u := h.create(t, identity.NewUser{Name: "bob"})
			for _, p := range leaked {
				wantErr(t, h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(p)), identity.ErrPassword)
			}
			for i := range 3 {
				if err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(fmt.Sprint("a password from no leak ", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestTheEndsOfTheBreachedFileAreFound(t *testing.T) {
	for _, count := range []int{1, 2, 3} {
		for _, end := range []string{"\r\n", "\n", ""} {
			passwords := []string{"the first password of all", "the second password of all", "the third password of all"}[:count]
			var lines []string
			for _, p := range passwords {
				lines = append(lines, fmt.Sprintf("%X:1", sha1.Sum([]byte(p))))
			}
			slices.Sort(lines)
			name := filepath.Join(t.TempDir(), "breached.txt")
			if err := os.WriteFile(name, []byte(strings.Join(lines, orLF(end))+end), 0o600); err != nil {
				t.Fatal(err)
			}
			h := newHouse(t, func(c *identity.Config) { c.Breached = name })
			u := h.create(t, identity.NewUser{Name: "bob"})
			for _, p := range passwords {
				if err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(p)); !errors.Is(err, identity.ErrPassword) {
					t.Errorf("%d lines ending in %q: %q: got %v", count, end, p, err)
				}
			}
		}
	}
}

func orLF(end string) string {
	if end == "" {
		return "\n"
	}
	return end
}

func TestABreachedFileThatIsNoneIsRefused(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	writeBreached(t, good, nil, false)
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	slices.Reverse(lines)
	for sentence, content := range map[string]string{
		"an empty file":                "",
		"a file of words":              strings.Repeat("password\n", 1001),
		"a file in another order":      strings.Join(lines, ""),
		"sums of another length":       strings.Repeat("0123456789abcdef0123456789abcdef:1\n", 1000),
		"a page that says not found":   "<!doctype html><title>404</title>" + strings.Repeat("x", 100),
		"lines without an end between": strings.Repeat("0", 4000),
	} {
		name := filepath.Join(dir, "bad")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := identity.Open(t.Context(), configOf(t, name))
		if err == nil {
			t.Errorf("%s is taken", sentence)
		}
	}
	if _, err := identity.Open(t.Context(), configOf(t, filepath.Join(dir, "none"))); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func configOf(t testing.TB, breached string) identity.Config {
	h := newHouse(t, nil)
	return identity.Config{DB: h.db, Seal: h.seal, Log: h.log, Issuer: "https://id.example.com", Breached: breached}
}

func TestABreachedFileThatCannotBeReadRefusesPasswords(t *testing.T) {
	name := filepath.Join(t.TempDir(), "breached.txt")
	writeBreached(t, name, nil, false)
	h := newHouse(t, func(c *identity.Config) { c.Breached = name })
	u := h.create(t, identity.NewUser{Name: "bob"})
	if err := os.WriteFile(name, []byte(strings.Repeat("damaged ", 70_000)), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(goodPassword)); err == nil || errors.Is(err, identity.ErrPassword) {
		t.Errorf("got %v", err)
	}
}

func TestAnOldHashIsRenewedWhenItsOwnerSignsIn(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	salt := []byte("0123456789abcdef")
	old := fmt.Sprintf("$argon2id$v=19$m=8192,t=1,p=1$%s$%s", base64.RawStdEncoding.EncodeToString(salt),
		base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(goodPassword), salt, 1, 8192, 1, 32)))
	h.exec(t, `UPDATE users SET password = $1`, old)
	if err := h.guess(t, "alice", "wrong", home); !errors.Is(err, identity.ErrCredentials) || h.hash(t, u.ID) != old {
		t.Fatalf("a wrong password: %v, %s", err, h.hash(t, u.ID))
	}
	for range 2 {
		if err := h.guess(t, "alice", goodPassword, home); err != nil {
			t.Fatal(err)
		}
		if got := h.hash(t, u.ID); !strings.HasPrefix(got, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("got %s", got)
		}
	}
	if after, err := h.User(t.Context(), u.ID); err != nil || !after.ValidFrom.IsZero() {
		t.Errorf("sessions ended: %+v, %v", after, err)
	}
}

func (h *house) hash(t testing.TB, id string) (phc string) {
	t.Helper()
	err := h.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRow(`SELECT password FROM users WHERE id = $1`, id).Scan(&phc)
	})
	if err != nil {
		t.Fatal(err)
	}
	return phc
}

func TestADamagedHashOpensNothing(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	good := h.hash(t, u.ID)
	for i, bad := range []string{
		"x", "$argon2id$v=19$m=19456,t=2,p=1$$", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=19456", "m=4294967295", 1), strings.Replace(good, "t=2", "t=4000000000", 1), strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "m=19456", "m=019456", 1), good + "$", good[:len(good)-4] + "====", strings.Replace(good, "p=1", "p=1,x=1", 1),
	} {
		h.exec(t, `UPDATE users SET password = $1`, bad)
		if err := h.guess(t, "alice", goodPassword, place(i)); err == nil || errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%q: got %v", bad, err)
		}
		h.exec(t, `DELETE FROM throttles`)
	}
}

func TestABrokenDatabaseSignsNobodyIn(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{"alice", "mallory"} {
		l, err := h.Password(t.Context(), login, gatehouse.NewSecret(goodPassword), home)
		if l != nil || err == nil || errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: got %+v, %v", login, l, err)
		}
	}
	if _, err := h.FindUser(t.Context(), "alice"); err == nil || errors.Is(err, identity.ErrUnknown) {
		t.Errorf("a broken database says that there is no such user: %v", err)
	}
}

func BenchmarkPassword(b *testing.B) {
	h := newHouse(b, nil)
	h.alice(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := h.Password(b.Context(), "alice", gatehouse.NewSecret(goodPassword), home); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkArgon2id(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		argon2.IDKey([]byte(goodPassword), []byte("0123456789abcdef"), 2, 19456, 1, 32)
	}
}

// Who has the old password signs in while its owner changes it: the proof is read
// before the change, and hashed after it.
func TestAPasswordThatIsBeingChangedSignsNobodyInAfterwards(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.HashSlots = 1 })
	u := h.alice(t)
	old, raced := goodPassword, 0
	for round := range 5 {
		next := fmt.Sprintf("another horse and battery %d", round)
		var all sync.WaitGroup
		all.Go(func() {
			if err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(next)); err != nil {
				t.Error(err)
			}
		})
		logins := make(chan *identity.Login, 4)
		for range cap(logins) {
			all.Go(func() {
				if l, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(old), netip.MustParseAddr("192.0.2.1")); err == nil {
					logins <- l
				}
			})
		}
		all.Wait()
		close(logins)
		for l := range logins {
			raced++
			if _, s, err := h.Start(t.Context(), l, identity.Origin{}); err == nil {
				t.Fatalf("the old password is a session, %v, after it was changed", s.ID)
			}
		}
		old = next
		<-time.After(2 * time.Millisecond) // what is proven in the millisecond of the change is taken for older
		if l, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(next), netip.MustParseAddr("192.0.2.1")); err == nil {
			if _, _, err := h.Start(t.Context(), l, identity.Origin{}); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, identity.ErrThrottled) {
			t.Fatal(err)
		}
	}
	if raced == 0 {
		t.Error("no sign-in raced with a change")
	}
}
