package server

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// openGuard makes the guard and has it work until the house closes.
func (h *House) openGuard(ctx context.Context, node string) (err error) {
	if h.book, err = ddos.OpenBook(ctx, h.db, h.changes); err != nil {
		return err
	}
	if h.guard, err = ddos.NewGuard(ddos.GuardConfig{Key: h.book.Key()}); err != nil {
		return err
	}
	h.workers.Go(func() { h.book.Keep(h.ctx, ddos.KeepConfig{Guard: h.guard, Node: node, Log: h.log}) })
	return nil
}

var guardModes = map[string]ddos.Mode{"enforce": ddos.Enforce, "report": ddos.Report, "off": ddos.Off}

func guardSettings(d *config.DDoS, known *networks.Set) ddos.Settings {
	return ddos.Settings{
		Mode: guardModes[d.Mode], UnderAttack: d.UnderAttack, Allow: d.Allow,
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

// A GuardView is what GET /ddos of the operator's listener says.
type GuardView struct {
	Mode     string       `json:"mode"`
	Attack   bool         `json:"attack"`   // everyone without credentials is challenged
	Switched bool         `json:"switched"` // by an operator or the config
	Pressure float64      `json:"pressure"`
	Bans     int          `json:"bans"`
	Imported int          `json:"imported"`
	Sources  []SourceView `json:"sources"` // who stands out, the worst first, at most 200
}

// A SourceView is an address or a network that stands out.
type SourceView struct {
	Network string    `json:"network"`
	Step    string    `json:"step"`
	Until   time.Time `json:"until,omitzero"`
	Why     string    `json:"why,omitempty"`
	Shared  bool      `json:"shared"` // good callers come from there, too
}

func viewGuard(g *ddos.Guard) GuardView {
	f := g.Figures()
	v := GuardView{Attack: f.Attack, Switched: f.Switched, Pressure: f.Pressure, Bans: f.Bans, Imported: f.Imported, Sources: []SourceView{}}
	for name, mode := range guardModes {
		if mode == f.Mode {
			v.Mode = name
		}
	}
	for _, s := range g.Standings(200) {
		v.Sources = append(v.Sources, SourceView{s.Prefix.String(), s.Step.String(), s.Until.UTC(), s.Why, s.Shared})
		if s.Step != ddos.Ban {
			v.Sources[len(v.Sources)-1].Until = time.Time{}
		}
	}
	return v
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
