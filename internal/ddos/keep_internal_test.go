package ddos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

type deaf struct{}

func (deaf) Append(context.Context, auditlog.Change) error { return nil }

func newBook(t *testing.T) *Book {
	t.Helper()
	db, err := store.Open(t.Context(), storetest.At(filepath.Join(t.TempDir(), "d.db")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	book, err := OpenBook(t.Context(), db, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func TestWhoseBanIsLiftedIsForgivenOnce(t *testing.T) {
	book := newBook(t)
	g, err := NewGuard(GuardConfig{Key: book.Key()})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{KeepConfig: KeepConfig{Node: "a", Guard: g}, book: book, heard: map[netip.Prefix]Banned{}}
	change := func(err error) {
		t.Helper()
		if err == nil {
			err = k.load(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	of := source{hi: 0xcb007109 << 32, bits: 32, v4: true}
	on := func() bool { return g.ladder.rungs[of] != nil }
	for range 2 {
		change(book.Ban(t.Context(), "ann", of.prefix(), "", 0))
		g.heat(of, 20, countRequests, 1000)
		if change(book.Unban(t.Context(), "ann", of.prefix())); on() {
			t.Fatal("what it did before is not forgiven")
		}
		g.heat(of, 20, countRequests, 1000) // it goes on, and others are banned meanwhile
		if change(book.Ban(t.Context(), "ann", netip.MustParsePrefix("192.0.2.7/32"), "", 0)); !on() {
			t.Fatal("what it does since its ban was lifted is forgiven, too")
		}
		clear(g.ladder.rungs)
	}
}

func TestABanOfAnotherNodeDoesNotShutOutGoodCallersSeenHere(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good, bad := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("198.51.100.9")
	g.Observe(good, Outcome{Proven: true}, now)
	ban := func(a netip.Addr, hand bool) {
		g.Stand([]Entry{{Prefix: netip.PrefixFrom(a, 32), Accept: true, Hand: hand, Until: now.Add(time.Hour)}})
	}
	if ban(bad, false); g.Arrive(bad, false, now) {
		t.Error("a connection from where nobody good was seen is accepted")
	}
	if ban(good, true); g.Arrive(good, false, now) {
		t.Error("what the operator bans is accepted")
	}
	if ban(good, false); !g.Arrive(good, false, now) {
		t.Error("a connection from where a good caller was seen is refused")
	}
	v := g.Admit(good, now)
	if p := g.Judge(v, &Caller{Address: good, Now: now}); p == nil || p.Reason != "banned" {
		t.Errorf("without credentials: %v", p)
	}
	if p := g.Judge(v, &Caller{Address: good, Claims: true, Now: now}); p != nil {
		t.Errorf("with credentials: %v", p)
	}
}

func TestABanOfSomebodyElseGivesTheBannedNoFreshBurst(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := netip.MustParseAddr("203.0.113.9")
	bans := []Entry{{Prefix: netip.PrefixFrom(a, 32), Until: now.Add(time.Hour)}}
	passed := 0
	for n := range 4 * uncertainBurst {
		if n%uncertainBurst == 0 {
			bans = append(bans, Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n / uncertainBurst)}), 32), Until: now.Add(time.Hour)})
			g.Stand(bans)
			g.StandImported(bans)
		}
		if g.Judge(g.Admit(a, now), &Caller{Address: a, Claims: true, Now: now}) == nil {
			passed++
		}
	}
	if passed != uncertainBurst {
		t.Errorf("%d requests with credentials nobody has checked went through, want %d", passed, uncertainBurst)
	}
}

func TestInReportWhatOthersDecidedIsReportedAndNobodyShutsOutTheWorld(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	listed, other := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("198.51.100.9")
	var list []Entry
	for _, p := range []string{"203.0.113.0/24", "0.0.0.0/0", "128.0.0.0/1", "::/0"} {
		list = append(list, Entry{Prefix: netip.MustParsePrefix(p), Accept: true, Until: now.Add(time.Hour)})
	}
	g.StandImported(list)
	if v := g.Admit(listed, now); v.Step != Ban || v.Report || g.Arrive(listed, false, now) {
		t.Errorf("enforced: %+v", v)
	}
	if v := g.Admit(other, now); v.Step != Pass || !g.Arrive(other, false, now) || !g.Arrive(netip.MustParseAddr("2001:db8::1"), false, now) {
		t.Errorf("the rest of the world: %+v", v)
	}
	g.Configure(Settings{Mode: Report})
	if v := g.Admit(listed, now); v.Step != Ban || !v.Report || v.Why != WhyList || !g.Arrive(listed, false, now) {
		t.Errorf("reported: %+v", v)
	}
	d := &dropper{guard: g, hops: func() []netip.Prefix { return nil }}
	if w := d.wanted(now); len(w) != 0 {
		t.Errorf("the kernel drops %v", w)
	}
}

func TestABotnetIsWrittenDownInParts(t *testing.T) {
	book := newBook(t)
	k := &keeper{KeepConfig: KeepConfig{Node: "a"}, book: book}
	for i := range mostWritten + 200 {
		s := source{hi: uint64(i) << 32, bits: 32, v4: true}
		k.fresh = append(k.fresh, Banned{Prefix: s.prefix(), Until: time.Now().Add(time.Hour), Why: "w"})
	}
	for _, left := range []int{200, 0} {
		if err := k.write(t.Context()); err != nil || len(k.fresh) != left {
			t.Fatalf("%v, %d left, want %d", err, len(k.fresh), left)
		}
	}
	if list, err := book.Bans(t.Context()); err != nil || len(list) != mostWritten+200 {
		t.Errorf("%d in the book, %v", len(list), err)
	}
}

func TestWhatAnotherNodeMayNotAskFor(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for name, b := range map[string]Banned{
		"half of the Internet": {Prefix: netip.MustParsePrefix("0.0.0.0/1"), Until: soon},
		"a provider":           {Prefix: netip.MustParsePrefix("2001:db8::/32"), Until: soon},
		"for ever":             {Prefix: netip.MustParsePrefix("192.0.2.1/32"), Until: soon.Add(10 * 365 * 24 * time.Hour)},
	} {
		if _, _, err := decodeBans(someKey, encodeBans(someKey, "a", time.Now(), []Banned{b}), time.Now()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	want := Banned{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: soon.Truncate(time.Millisecond), Accept: true}
	good := encodeBans(someKey, "a", time.Now(), []Banned{want})
	m, got, err := decodeBans(someKey, good, time.Now())
	if err != nil || m.Node != "a" || len(got) != 1 || got[0].Prefix != want.Prefix || !got[0].Until.Equal(want.Until) || !got[0].Accept {
		t.Errorf("%+v %+v %v", m, got, err)
	}
	for name, c := range map[string]struct {
		message []byte
		after   time.Duration
	}{
		"of somebody who does not know the key of the house": {encodeBans([]byte("another key"), "a", time.Now(), []Banned{want}), 0},
		"with no mark of anybody":                            {good[sha256.Size:], 0},
		"too short for a mark":                               {good[:7], 0},
		"empty":                                              {[]byte{}, 0},
		"changed on its way":                                 {append(bytes.Clone(good[:len(good)-1]), ' '), 0},
		"sent again later":                                   {good, 2 * time.Minute},
		"of a clock that is ahead":                           {good, -2 * time.Minute},
	} {
		if _, _, err := decodeBans(someKey, c.message, time.Now().Add(c.after)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAMessageSentAgainDoesNotUndoWhatAnOperatorHasLifted(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: someKey})
	if err != nil {
		t.Fatal(err)
	}
	book := newBook(t)
	k := &keeper{KeepConfig: KeepConfig{Node: "a", Guard: g}, book: book, watch: book.db.Follow(), heard: map[netip.Prefix]Banned{}}
	p := netip.MustParsePrefix("203.0.113.9/32")
	found := []Banned{{Prefix: p, Until: time.Now().Add(time.Hour), Accept: true}}
	message := encodeBans(book.key, "b", time.Now(), found)
	banned := func() bool { return g.Admit(p.Addr(), time.Now()).Step == Ban }
	if k.hear(message); !banned() {
		t.Fatal("another node's ban does not hold")
	}
	if err := book.keep(t.Context(), "b", found); err != nil {
		t.Fatal(err)
	}
	if err := book.Unban(t.Context(), "os:ann", p); err != nil {
		t.Fatal(err)
	}
	if err := k.refresh(t.Context()); err != nil || banned() {
		t.Fatalf("it is not lifted: %v", err)
	}
	if k.hear(message); banned() {
		t.Error("the same message once more bans it again")
	}
	if k.hear(encodeBans(book.key, "b", time.Now().Add(time.Second), found)); !banned() {
		t.Error("a new one is not heard")
	}
}

func TestANodeWhoseClockIsWrongForgetsNoBanOfAnOperators(t *testing.T) {
	book := newBook(t)
	p := netip.MustParsePrefix("203.0.113.0/24")
	if err := book.Ban(t.Context(), "os:ann", p, "scraper", time.Hour); err != nil {
		t.Fatal(err)
	}
	far := time.Now().Add(-24 * time.Hour) // as a clock a day ahead sees it
	err := book.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE ddos_bans SET until = $1`, far.UnixMilli())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := book.keep(t.Context(), "b", []Banned{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Until: time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	rows := 0
	if err := book.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM ddos_bans WHERE prefix = $1`, p.String()).Scan(&rows)
	}); err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

var someKey = []byte("0123456789abcdef0123456789abcdef")

func FuzzDecodeBans(f *testing.F) {
	now := time.Now()
	f.Add(encodeBans(someKey, "a", now, []Banned{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: now.Add(time.Hour)}})[sha256.Size:])
	f.Add([]byte(`{"bans":[{"p":"::ffff:1.2.3.4/120","u":1}]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if _, _, err := decodeBans(someKey, message, now); err == nil {
			t.Error("taken without a mark")
		}
		_, found, err := decodeBans(someKey, append(bansMAC(someKey, message), message...), now)
		if err != nil {
			return
		}
		for _, b := range found {
			if s, err := sourceOf(b.Prefix); err != nil || s.v4 && s.bits < 24 || !s.v4 && s.bits < 48 || s.prefix() != b.Prefix {
				t.Errorf("%q: %v", message, b.Prefix)
			}
		}
	})
}
