package server

import (
	"context"
	"errors"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/ddos/crowdsec"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/networks"
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

func guardSettings(d *config.DDoS, known *networks.Set) ddos.Settings {
	return ddos.Settings{
		Mode: ddos.ModeOf(d.Mode), UnderAttack: d.UnderAttack, Allow: d.Allow,
		Thresholds: ddos.Thresholds{
			Requests: float64(d.Thresholds.Requests), Refused: float64(d.Thresholds.Refused), Cost: d.Thresholds.Cost,
			Connections: float64(d.Thresholds.Connections), Handshakes: float64(d.Thresholds.Handshakes),
		},
		HalfLife: d.HalfLife, FirstBan: d.Ban.First, LongestBan: d.Ban.Longest, Difficulty: d.Challenge.Difficulty, PassLife: d.Challenge.Valid,
		Networks: ddos.NetworkRules{
			Of: known, Allow: namesOf(d.Networks.Allow), Deny: namesOf(d.Networks.Deny), Challenge: namesOf(d.Networks.Challenge),
		},
	}
}

func namesOf(texts []config.Text) (n ddos.Names) {
	for _, t := range texts {
		switch list, asn, country := config.NetworkName(t.Value); {
		case asn != 0:
			n.ASNs = append(n.ASNs, asn)
		case country != "":
			n.Countries = append(n.Countries, country)
		default:
			n.Lists = append(n.Lists, list)
		}
	}
	return n
}

// A GuardBook is the bans and the switch of a config's database, for the command
// line. It works beside a running gateway.
type GuardBook struct {
	*ddos.Book

	close func() error
}

// OpenGuardBook opens it. Close ends it.
func OpenGuardBook(ctx context.Context, path string) (*GuardBook, error) {
	k, err := OpenKeyRing(ctx, path)
	if err != nil {
		return nil, err
	}
	book, err := ddos.OpenBook(ctx, k.db, k.changes)
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return &GuardBook{book, k.Close}, nil
}

// Close closes the database.
func (b *GuardBook) Close() error { return b.close() }
