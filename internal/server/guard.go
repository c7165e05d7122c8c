package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/ddos/crowdsec"
	"github.com/gatehouse-api/gatehouse/internal/ddos/nft"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// openGuard makes the guard and has it work until the house closes.
func (h *House) openGuard(ctx context.Context, d *config.DDoS, node string) (err error) {
	if h.book, err = ddos.OpenBook(ctx, h.db, h.changes); err != nil {
		return err
	}
	if h.guard, err = ddos.NewGuard(ddos.GuardConfig{Key: h.book.Key()}); err != nil {
		return err
	}
	keep := ddos.KeepConfig{Guard: h.guard, Node: node, Log: h.log}
	if h.shared != nil && h.shared.Remote() {
		keep.Shared = h.shared
	}
	if cs := d.CrowdSec; cs != nil {
		if err := h.openCrowdSec(cs, &keep); err != nil {
			return config.Errorf(cs.Place, "ddos.crowdsec: %v", err)
		}
	}
	h.workers.Go(func() { h.book.Keep(h.ctx, keep) })
	return nil
}

func (h *House) openCrowdSec(cs *config.CrowdSec, keep *ddos.KeepConfig) error {
	origin, err := egress.Origin(cs.URL.Value)
	if err != nil {
		return err
	}
	out, err := egress.New(egress.Config{Allow: []string{origin}, MaxBody: 64 << 20})
	if err != nil {
		return err
	}
	h.close = append(h.close, func() error { out.Close(); return nil })
	c := crowdsec.Config{URL: cs.URL.Value, Key: cs.Key.Secret, Machine: cs.Machine, HTTP: out.HTTP()}
	if cs.Password != nil {
		c.Password = cs.Password.Secret
	}
	keep.Every = cs.Every
	keep.CrowdSec, err = crowdsec.New(c)
	return err
}

// openKernel has the kernel drop what banned networks send, if the config says so
// and it may, until end is called.
func (r *runner) openKernel(ctx context.Context, bound []Bound) (end func()) {
	f := r.plan.File
	if !f.DDoS.NFTables {
		return func() {}
	}
	var ports []uint16
	for _, b := range bound {
		if u, err := url.Parse(b.URL); err == nil {
			n, _ := strconv.ParseUint(u.Port(), 10, 16)
			ports = append(ports, uint16(n))
		}
	}
	table, err := nft.Open(r.o.Node, ports)
	if err != nil {
		r.log.Error("ddos.nftables: bans hold where connections are accepted, not in the kernel", slog.Any("error", err))
		return func() {}
	}
	var done sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	fixed := r.plan.Hops() // of listeners that are open: a reload changes their edges, and nothing else
	hops := func() []netip.Prefix { return slices.Concat(fixed, r.gate.Current().EdgeRanges()) }
	done.Go(func() { r.guard.Drop(ctx, table, hops, r.log) })
	return func() {
		stop()
		done.Wait()
		if err := table.Close(); err != nil {
			r.log.Error("the kernel's table of bans is left behind; its entries end within ten minutes", slog.Any("error", err))
		}
	}
}

// A GuardBook is the bans and the switch of a config's database, for the command
// line. It works beside a running gateway.
type GuardBook struct {
	*ddos.Book

	File *config.File
	db   *store.DB
}

// OpenGuardBook opens it. Close ends it.
func OpenGuardBook(ctx context.Context, path string) (*GuardBook, error) {
	f, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	changes, err := auditlog.OpenChanges(f.Events.Path.Value)
	if err != nil {
		return nil, err
	}
	db, err := OpenDatabase(ctx, f, store.Open)
	if err != nil {
		return nil, err
	}
	book, err := ddos.OpenBook(ctx, db, changes)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &GuardBook{book, f, db}, nil
}

// Close closes the database.
func (b *GuardBook) Close() error { return b.db.Close() }
