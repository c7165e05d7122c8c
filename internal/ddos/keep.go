package ddos

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/ddos/crowdsec"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A Broadcast reaches all nodes at once; [store.Shared] is one. It may lose messages:
// what it carries is in the database, too.
type Broadcast interface {
	Publish(ctx context.Context, topic string, message []byte) error
	Subscribe(ctx context.Context, topic string, f func(message []byte)) // f(nil): some may be missing
}

const (
	topicBans   = "ddos.bans"
	lookEvery   = 250 * time.Millisecond
	lookLimit   = 2 * time.Second
	messageMax  = 1 << 20
	mostFresh   = 1 << 14 // kept while the database is away
	mostWritten = 500     // at once: a transaction with all of them might never end in time
)

// KeepConfig says how a guard is kept.
type KeepConfig struct {
	Guard  *Guard
	Node   string
	Shared Broadcast // nil: the database alone

	CrowdSec *crowdsec.Client // nil: none
	Every    time.Duration    // it is asked
	Log      *slog.Logger
}

// A keeper carries between a guard, the book and the other nodes.
type keeper struct {
	KeepConfig

	book  *Book
	watch *store.Follower // of it

	mu     sync.Mutex
	seq    int64
	attack Attack
	kept   []Entry
	heard  map[netip.Prefix]Banned // of other nodes, until the database says so
	fresh  []Banned                // not written down yet

	forgiven map[netip.Prefix]time.Time // lifted bans the guard was told of, and when they were

	alerts chan []Banned // for CrowdSec
}

// Keep lets the guard work until ctx ends: it looks at what was counted four times a
// second, writes bans into the book and tells other nodes, and takes over what they
// and operators have written. While the database is away the guard goes on with what
// it knows, and writes down later what it finds out.
func (b *Book) Keep(ctx context.Context, c KeepConfig) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	k := &keeper{KeepConfig: c, book: b, watch: b.db.Follow(), heard: map[netip.Prefix]Banned{}, alerts: make(chan []Banned, 16)}
	var both sync.WaitGroup
	if c.CrowdSec != nil {
		both.Go(func() { k.follow(ctx) })
	}
	both.Go(func() { k.count(ctx) })
	if c.Shared != nil {
		both.Go(func() { c.Shared.Subscribe(ctx, topicBans, k.hear) })
	}
	k.run(ctx)
	both.Wait()
}

// count is apart from what waits for the database or the network.
func (k *keeper) count(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	attack, attacked := false, []string(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			k.Guard.Tick(now)
		}
		s := k.Guard.state.Load()
		if s.attack != attack {
			attack = s.attack
			k.noteAttack(ctx, s, everything, attack)
		}
		if slices.Equal(attacked, s.attacked) {
			continue
		}
		for _, name := range attacked {
			if !slices.Contains(s.attacked, name) {
				k.noteAttack(ctx, s, objectOf(name), false)
			}
		}
		for _, name := range s.attacked {
			if !slices.Contains(attacked, name) {
				k.noteAttack(ctx, s, objectOf(name), true)
			}
		}
		attacked = s.attacked
	}
}

// everything is what is attacked when it is not one API.
const everything = "gateway"

// objectOf names an API for people; what is asked for and is none has no name.
func objectOf(api string) string {
	if api == "" {
		return "no API"
	}
	return "API " + api
}

// noteAttack writes down that all callers, of everything or of one API, are
// challenged from now on, or no longer.
func (k *keeper) noteAttack(ctx context.Context, s *state, object string, began bool) {
	action := "ddos.attack.ended"
	if began {
		action = "ddos.attack.began"
	}
	why := "found out"
	switch {
	case object != everything:
	case s.switched:
		why = "switched on"
	case s.settings.UnderAttack:
		why = "config"
	}
	k.Log.Warn("callers without credentials are challenged from now on, or no longer", slog.String("action", action), slog.String("of", object), slog.String("why", why))
	err := k.book.log.Append(context.WithoutCancel(ctx), auditlog.Change{
		Actor: "guard@" + k.Node, Action: action, Object: object, Detail: map[string]string{"why": why},
	})
	if err != nil { // it is no change of an administrator's, and defence must not wait for a disk
		k.Log.Error("it could not be written into the log of changes", slog.Any("error", err))
	}
}

func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(store.LookEvery)
	defer tick.Stop()
	down := false
	for {
		k.tell(ctx)
		err := errors.Join(limited(ctx, k.write), limited(ctx, k.refresh))
		if ctx.Err() != nil {
			return
		}
		if down != (err != nil) {
			down = err != nil
			if down {
				k.Log.Error("the bans cannot be read or written; those known go on", slog.Any("error", err))
			} else {
				k.Log.Info("the bans can be read and written again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limited gives each its own time: while a botnet's bans are written the node must
// hear what operators say.
func limited(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return do(ctx)
}

// tell takes the guard's new bans and sends them to the other nodes.
func (k *keeper) tell(ctx context.Context) {
	found := k.Guard.Fresh()
	if len(found) == 0 {
		return
	}
	enforced := k.Guard.state.Load().settings.Mode == Enforce
	for i := range found[:min(len(found), 10)] {
		f := &found[i]
		k.Log.Warn("banned", slog.String("network", f.Prefix.String()), slog.String("why", f.Why), slog.Time("until", f.Until), slog.Bool("enforced", enforced))
	}
	if len(found) > 10 {
		k.Log.Warn("banned more", slog.Int("networks", len(found)-10), slog.Bool("enforced", enforced))
	}
	if !enforced {
		return
	}
	k.mu.Lock()
	k.fresh = append(k.fresh, found...)
	k.fresh = k.fresh[max(0, len(k.fresh)-mostFresh):]
	k.mu.Unlock()
	if k.CrowdSec != nil {
		select {
		case k.alerts <- found:
		default: // it is away; ours stand without it
		}
	}
	if k.Shared == nil {
		return
	}
	const each = 1000
	for len(found) > 0 {
		n := min(each, len(found))
		if err := k.Shared.Publish(ctx, topicBans, encodeBans(k.book.key, k.Node, time.Now(), found[:n])); err != nil {
			return // the database tells them
		}
		found = found[n:]
	}
}

func (k *keeper) write(ctx context.Context) error {
	k.mu.Lock()
	found := k.fresh[:min(len(k.fresh), mostWritten)]
	k.mu.Unlock()
	if len(found) == 0 {
		return nil
	}
	if err := k.book.keep(ctx, k.Node, found); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fresh = k.fresh[min(len(found), len(k.fresh)):]
	return nil
}

// follow takes over the decisions of CrowdSec, and hands ours in. While it is away
// those known stand until they expire.
func (k *keeper) follow(ctx context.Context) {
	tick := time.NewTicker(max(time.Second, k.Every))
	defer tick.Stop()
	down := false
	ask := func() error {
		list, err := k.CrowdSec.Decisions(ctx)
		if err != nil {
			k.CrowdSec.Again() // what was said meanwhile may be lost
			return err
		}
		bans := make([]Entry, 0, len(list))
		for i := range list {
			d := &list[i]
			bans = append(bans, Entry{Prefix: d.Prefix, Accept: !d.Challenge, Challenge: d.Challenge, Until: d.Until, Reason: d.Scenario})
		}
		k.Guard.StandImported(bans)
		return nil
	}
	err := ask()
	for {
		if ctx.Err() != nil {
			return
		}
		if down != (err != nil) {
			down = err != nil
			if down {
				k.Log.Error("CrowdSec cannot be asked; the decisions known go on until they expire", slog.Any("error", err))
			} else {
				k.Log.Info("CrowdSec can be asked again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case found := <-k.alerts:
			var list []crowdsec.Decision
			for i := range found {
				list = append(list, crowdsec.Decision{Prefix: found[i].Prefix, Until: found[i].Until, Scenario: "gatehouse/ddos"})
			}
			err = k.CrowdSec.Alert(ctx, list)
		case <-tick.C:
			err = ask()
		}
	}
}

// refresh has the guard know what the database says.
func (k *keeper) refresh(ctx context.Context) error {
	if err := k.watch.Look(ctx, k.load); err != nil {
		return fmt.Errorf("ddos: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.attack
	k.Guard.Switch(a.On && (a.Until.IsZero() || time.Now().Before(a.Until)))
	return nil
}

// load reads the book again when something in it is new.
func (k *keeper) load(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	var attack Attack
	var seq int64
	var all, lifted []Entry
	err := k.book.db.Read(ctx, func(tx *sql.Tx) (err error) {
		if attack, seq, err = readAttack(ctx, tx); err != nil || seq == k.seq {
			return err
		}
		if all, err = readBans(ctx, tx, selectStanding, now.UnixMilli()); err != nil {
			return err
		}
		lifted, err = readBans(ctx, tx, selectLifted, now.Add(-time.Hour).UnixMilli())
		return err
	})
	if err != nil || seq == k.seq {
		return err
	}
	k.seq, k.attack, k.kept = seq, attack, all
	for i := range all {
		delete(k.heard, all[i].Prefix)
	}
	before := k.forgiven
	k.forgiven = make(map[netip.Prefix]time.Time, len(lifted))
	for i := range lifted {
		p, at := lifted[i].Prefix, lifted[i].Lifted
		if k.forgiven[p] = at; before[p].Equal(at) {
			continue // once: what it does since then counts
		}
		delete(k.heard, p)
		k.Guard.Forgive(p, at)
	}
	k.stand(now)
	return nil
}

// stand gives the guard the bans there are; k.mu is held.
func (k *keeper) stand(now time.Time) {
	bans := k.kept
	if len(k.heard) > 0 {
		bans = append([]Entry{}, bans...)
		for p, b := range k.heard {
			if !now.Before(b.Until) {
				delete(k.heard, p)
				continue
			}
			bans = append(bans, Entry{Prefix: p, Accept: b.Accept, Until: b.Until})
		}
	}
	k.Guard.Stand(bans)
}

// hear takes over what another node has found out.
func (k *keeper) hear(message []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if message == nil {
		k.watch.Again() // there may be something new
		return
	}
	now := time.Now()
	m, found, err := decodeBans(k.book.key, message, now)
	if err != nil || m.Node == k.Node {
		return
	}
	for _, b := range found {
		if b.Until.After(now) && len(k.heard) < mostFresh && !k.lifted(b.Prefix, time.UnixMilli(m.Made)) {
			k.heard[b.Prefix] = b
		}
	}
	k.stand(now)
}

// lifted reports whether what was found out about p at a time was forgiven since; k.mu
// is held.
func (k *keeper) lifted(p netip.Prefix, at time.Time) bool {
	for by, when := range k.forgiven {
		if by.Bits() <= p.Bits() && by.Contains(p.Addr()) && !at.After(when) {
			return true
		}
	}
	return false
}

type bansMessage struct {
	Node string      `json:"node"`
	Made int64       `json:"made"` // Unix ms
	Bans []banOnWire `json:"bans"`
}

type banOnWire struct {
	Prefix netip.Prefix `json:"p"`
	Until  int64        `json:"u"`
	Accept bool         `json:"a"`
}

// bansMAC is what a message begins with. Who can write to the shared engine, and does
// not know the key of the house, must not be able to shut anybody out.
func bansMAC(key, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = m.Write([]byte("gatehouse bans\n"))
	_, _ = m.Write(body)
	return m.Sum(nil)
}

func encodeBans(key []byte, node string, made time.Time, found []Banned) []byte {
	m := bansMessage{Node: node, Made: made.UnixMilli()}
	for i := range found {
		m.Bans = append(m.Bans, banOnWire{found[i].Prefix, found[i].Until.UnixMilli(), found[i].Accept})
	}
	b, _ := json.Marshal(&m) // strings and numbers only
	return append(bansMAC(key, b), b...)
}

// longestHeard bounds what another node can ask for: its own ladder gives no more.
// longestAway is how long a message may have been on its way, and how far clocks may
// be apart: an older one may be somebody's who sends it again.
const (
	longestHeard = 30 * 24 * time.Hour
	longestAway  = time.Minute
)

// decodeBans reads what another node sent. A network that no ladder has is refused: a
// message that shuts out half of the world is none of ours.
func decodeBans(key, message []byte, now time.Time) (m bansMessage, found []Banned, err error) {
	if len(message) > messageMax {
		return m, nil, errors.New("ddos: the message of a node is too long")
	}
	body := message[min(sha256.Size, len(message)):]
	if !hmac.Equal(bansMAC(key, body), message[:len(message)-len(body)]) {
		return m, nil, errors.New("ddos: the message is of no node of ours")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, nil, fmt.Errorf("ddos: the message of a node: %w", err)
	}
	if away := now.Sub(time.UnixMilli(m.Made)).Abs(); away > longestAway {
		return m, nil, errors.New("ddos: the message of a node is an old one, or a clock is wrong")
	}
	limit := now.Add(longestHeard)
	for _, b := range m.Bans {
		s, err := sourceOf(b.Prefix)
		until := time.UnixMilli(b.Until)
		if err != nil || s.v4 && s.bits < 24 || !s.v4 && s.bits < 48 || until.After(limit) {
			return m, nil, errors.New("ddos: the message of a node has a ban that no guard gives")
		}
		found = append(found, Banned{Prefix: s.prefix(), Until: until, Accept: b.Accept})
	}
	return m, found, nil
}

// Stand puts the bans of the book before requests, in place of those before. What
// another node's guard has found out about a network does not shut out good callers
// whom only this node has seen there: its connections are accepted here.
func (g *Guard) Stand(bans []Entry) {
	hand, found := new(set), new(set)
	before, now := g.state.Load(), time.Now()
	for i := range bans {
		e := bans[i]
		if e.Hand {
			hand.ban(&e, before.book)
			continue
		}
		if of, err := sourceOf(e.Prefix); err == nil && e.Accept && g.vouched(of, now) {
			e.Accept = false
		}
		found.ban(&e, before.fleet)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ladder.book, g.ladder.fleet = hand.orNil(), found.orNil()
	g.renew()
}

// StandImported does the same with what others than operators and nodes say. Nobody
// else shuts out a network that is too large for an operator's ban.
func (g *Guard) StandImported(bans []Entry) {
	s, before := new(set), g.state.Load()
	for i := range bans {
		s.ban(&bans[i], before.imported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ladder.imported = s.orNil()
	g.renew()
}

// ban adds what e says. What it lets through goes on being counted as it was in the
// set before: else each new ban of anybody would give all of them a fresh burst.
func (s *set) ban(e *Entry, before *set) {
	of, err := sourceOf(e.Prefix)
	if err != nil || of.vast() {
		return
	}
	r := &ruling{step: Ban, accept: e.Accept}
	if e.Challenge {
		r.step = Challenge
	}
	if !r.accept {
		if r.bucket = before.bucket(of); r.bucket == nil {
			r.bucket = new(buckets)
		}
	}
	if !e.Until.IsZero() {
		r.until = e.Until.UnixMilli()
	}
	s.add(of, r)
}
