package ddos

import (
	"cmp"
	"slices"
	"time"
)

// A View is what operators see of a guard.
type View struct {
	Mode     string     `json:"mode"`
	Attack   bool       `json:"attack"`   // everyone without credentials is challenged
	Attacked []string   `json:"attacked"` // who has none and asks for one of these APIs is; "": for none
	Switched bool       `json:"switched"` // by an operator or the config
	Pressure float64    `json:"pressure"` // 0 to 1
	Bans     int        `json:"bans"`
	Imported int        `json:"imported"`
	Sources  []Standing `json:"sources"` // who stands out, the worst first
}

// A Standing is one address or network that stands out.
type Standing struct {
	Network string    `json:"network"`
	Step    string    `json:"step"`
	Until   time.Time `json:"until,omitzero"` // of a ban
	Why     string    `json:"why,omitempty"`  // what it did most of
	Shared  bool      `json:"shared"`         // good callers come from there, too: it is not banned at accept
}

// View shows at most so many sources.
func (g *Guard) View(most int) View {
	f := g.Figures()
	v := View{f.Mode.String(), f.Attack, append([]string{}, f.Attacked...), f.Switched, f.Pressure, f.Bans, f.Imported, []Standing{}}
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*rung
	for _, r := range g.ladder.rungs {
		if r.step < Pass {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *rung) int { return cmp.Or(cmp.Compare(a.step, b.step), cmp.Compare(b.heat, a.heat)) })
	for _, r := range all[:min(most, len(all))] {
		s := Standing{Network: r.source.prefix().String(), Step: r.step.String(), Why: r.why, Shared: r.shared}
		if r.step == Ban {
			s.Until = r.until.UTC()
		}
		v.Sources = append(v.Sources, s)
	}
	return v
}
