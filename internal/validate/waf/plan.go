package waf

import (
	"fmt"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// defaultBudget is [Config.Budget] when it is not given.
const defaultBudget = 20_000_000

// Load reads the rules of c and makes a plan of them. An error names file, line
// and column of what is wrong in a rule.
func Load(c Config) (*Rules, error) {
	sources, err := c.Sources()
	if err != nil {
		return nil, err
	}
	program, err := seclang.Parse(sources)
	if err != nil {
		return nil, err
	}
	p := &plan{program: program, names: newNames(), paranoia: max(c.Paranoia, 1)}
	if err := p.compile(); err != nil {
		return nil, err
	}
	if err := p.exclude(c.Without); err != nil {
		return nil, err
	}
	p.fold()
	return p.rules(&c)
}

// A plan is made while rules load.
type plan struct {
	program  *seclang.Program
	names    *names
	paranoia int
	all      []*rule // in the order of the program; n is the index here
	phases   [5][]*rule
	template []variable
	varies   map[int]bool     // variables of TX that messages can change
	families []string         // and how the names begin of those that get theirs at run time
	markers  map[string][]int // positions
}

// rules makes what runs of what folding left.
func (p *plan) rules(c *Config) (*Rules, error) {
	r := &Rules{
		names: p.names, template: p.template, budget: c.Budget,
	}
	if r.budget <= 0 {
		r.budget = defaultBudget
	}
	for i, direction := range []string{"inbound", "outbound"} {
		for l := range p.paranoia {
			if n, ok := p.names.number[fmt.Sprintf("%s_anomaly_score_pl%d", direction, l+1)]; ok {
				r.scores[i] = append(r.scores[i], n)
			}
		}
	}
	number := make([]int, len(p.all)) // new numbers of the old
	for i := range number {
		number[i] = -1
	}
	for _, x := range p.all {
		if x == nil {
			continue
		}
		number[x.n], x.n = len(r.rules), len(r.rules)
		r.rules = append(r.rules, x)
		r.phases[x.phase] = append(r.phases[x.phase], x)
	}
	for _, x := range r.rules {
		for i := range x.links {
			for j := range x.links[i].ctl {
				c := &x.links[i].ctl[j]
				kept := c.removes[:0]
				for _, n := range c.removes {
					if number[n] >= 0 {
						kept = append(kept, number[n])
					}
				}
				c.removes = kept
			}
		}
	}
	for i := range singles {
		read, ok := singleOf(singles[i].name)
		if !ok {
			return nil, fmt.Errorf("waf: nothing reads %s", singles[i].name)
		}
		r.read = append(r.read, read)
	}
	p.wakers(r)
	if err := r.scans(); err != nil {
		return nil, err
	}
	r.turns.New = func() any { return newTurn(r) }
	return r, nil
}

// levelOf is the paranoia level that CRS writes into a rule's tags.
func levelOf(tags []string) int {
	for _, t := range tags {
		if l, ok := strings.CutPrefix(t, "paranoia-level/"); ok && len(l) == 1 && l[0] >= '1' && l[0] <= '4' {
			return int(l[0] - '0')
		}
	}
	return 0
}
