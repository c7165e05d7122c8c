package config

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Limit is a rate (GCRA) and what is counted together.
type Limit struct {
	ID         string `yaml:"id" format:"name" doc:"Name in headers and events. Default: per- and what it is per, like per-address."`
	Per        Per    `yaml:"per" required:"true" min:"1" enum:"address network asn country principal client key tenant operation api all" doc:"Whose requests are counted together; several: each combination. network, asn and country are those of networks; {cel: expression} is what the expression gives. Who lacks what is asked for is counted by address."`
	Rate       *Text  `yaml:"rate" format:"rate" doc:"Like 100/min, 10/s or 5000/h."`
	Burst      int    `yaml:"burst" min:"0" max:"1000000" doc:"How many may come at once. Default: the rate's number."`
	IPv6Prefix int    `yaml:"ipv6_prefix" default:"64" min:"48" max:"64" doc:"How much of an IPv6 address is one caller: 48, 56 or 64."`
	Only       Text   `yaml:"only" doc:"CEL expression: the requests it is for, like 'principal.anonymous'. Where it fails, the limit is for this request, too."`
	Cost       *Cost  `yaml:"cost" min:"1" max:"1000000" doc:"What a request costs, in requests: a number, or a CEL expression that gives one, held to 1 and the burst. A request of which it fails is refused. Default: 1."`
	Count      string `yaml:"count" default:"requests" enum:"requests failures" doc:"requests; or failures, only those answered 401, 403 or 404: what guessing passwords, tokens and names looks like. Up to ten bursts more can be owed."`
	Tiers      *Tiers `yaml:"tiers" doc:"Other rates for some callers: {by: CEL expression, gold: {rate: 1000/min, burst: 100}, free: {rate: 10/min}}. Who is in none has the limit's own rate."`
	Mode       string `yaml:"mode" default:"enforce" enum:"enforce shadow" doc:"shadow: counted, and what would be refused is told in the event and in metrics, not to the caller."`
	Quota      *Text  `yaml:"quota" format:"quota" doc:"In the place of rate: so many in each day, week (from Monday), month or year of the calendar, like 10000/month. Counted in the database, for all nodes that have the same one."`
	Timezone   string `yaml:"timezone" doc:"Whose calendar quota goes by: a name of the IANA database, like Europe/Berlin. Default: UTC."`
	Strict     bool   `yaml:"strict" doc:"Of several nodes, each request is counted with the others before it is let through: never one too many, and what cannot be counted is refused (503). For sign-in, one-time codes and money. Without it, all nodes together let through at most 5 % of the burst too much."`
	Place      Place  `yaml:"-"`
}

// A Per is what a limit counts by.
type Per struct {
	Words OneOrMany
	CEL   Text // "" for none
}

// Values lists what is counted by, an expression as cel.
func (p *Per) Values() []string {
	out := Values(p.Words)
	if p.CEL.Value != "" {
		out = append(out, "cel")
	}
	return out
}

type perCEL struct {
	CEL Text `yaml:"cel" required:"true" doc:"CEL expression that gives a text, a number or true or false."`
}

func (p *Per) decode(d *decoder, n *yaml.Node, at spot) {
	for here, item := range d.oneOrMany(n, at) {
		if item.Kind != yaml.MappingNode {
			if s, ok := d.text(item, here); ok {
				p.Words = append(p.Words, Text{s, d.place(item)})
			}
			continue
		}
		var e perCEL
		if d.fields(&e, item, here); p.CEL.Value != "" {
			d.errorf(item, "%s: there is one expression already; join the two", here)
		}
		p.CEL = e.CEL
	}
	d.distinct(p.Words, at)
}

func (*Per) schema(_ *schemer, at spot) schema {
	one := schema{"anyOf": []schema{text(at.tag), {
		"type": "object", "properties": schema{"cel": text("")}, "required": []string{"cel"}, "additionalProperties": false,
	}}}
	return schema{"anyOf": []schema{one, list(one, at.tag, true)}}
}

// A Cost is what one request takes of a limit: a number, or an expression.
type Cost struct {
	Number int // 0 where there is an expression
	CEL    Text
}

func (c *Cost) decode(d *decoder, n *yaml.Node, at spot) {
	if v, ok := decimal(n); ok {
		if d.bounds(n, at, float64(v)); int64(int(v)) == v {
			c.Number = int(v)
		}
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.expected(n, at, "a whole number, or a CEL expression")
		return
	}
	c.CEL = Text{n.Value, d.place(n)}
}

func (*Cost) schema(_ *schemer, at spot) schema {
	return schema{"anyOf": []schema{text(""), bounded(schema{"type": "integer"}, at.tag, "minimum", "maximum")}}
}

// Tiers are other rates, by what an expression gives.
type Tiers struct {
	By    Text
	Each  []Tier // in the order of the file
	Place Place
}

// A Tier is a rate with a name.
type Tier struct {
	Name  string `yaml:"-"`
	Rate  Text   `yaml:"rate" required:"true" format:"rate" doc:"Like 100/min, 10/s or 5000/h."`
	Burst int    `yaml:"burst" min:"0" max:"1000000" doc:"How many may come at once. Default: the rate's number."`
	Place Place  `yaml:"-"`
}

func (t *Tiers) decode(d *decoder, n *yaml.Node, at spot) {
	for key, value := range d.entries(n, at, "{by: CEL expression, name: {rate: 1000/min}}") {
		here := at.key(key.Value)
		here.tag = ""
		if key.Value == "by" {
			if s, ok := d.text(value, here); ok {
				t.By = Text{s, d.place(value)}
			}
			continue
		}
		if !d.checkFormat(key, here, "name", key.Value) {
			continue
		}
		tier := Tier{Name: key.Value}
		d.fields(&tier, value, here)
		t.Each = append(t.Each, tier)
	}
	if n.Kind == yaml.MappingNode && (t.By.Value == "" || len(t.Each) == 0) {
		d.errorf(n, "%s needs by, a CEL expression that names the caller's tier, and a tier", at)
	}
}

func (*Tiers) schema(s *schemer, _ spot) schema {
	return schema{
		"type": "object", "properties": schema{"by": text("")}, "required": []string{"by"},
		"propertyNames": schema{"pattern": formats["name"].pattern.String()}, "additionalProperties": s.of(reflect.TypeFor[Tier](), spot{}),
	}
}

func (c *checker) limits(limits []Limit, at string) {
	seen := map[string]bool{}
	for i := range limits {
		l := &limits[i]
		per := l.Per.Values()
		if l.ID == "" {
			l.ID = "per-" + strings.Join(per, "-")
		}
		if seen[l.ID] && l.ID != "" {
			c.errorf(l.Place, "%s.limits: the id %s is already taken; give one of them another id", at, l.ID)
		}
		seen[l.ID] = true
		c.amount(l, at)
		if l.IPv6Prefix%8 != 0 {
			c.errorf(l.Place, "%s.limits: %s: ipv6_prefix is 48, 56 or 64, not %d", at, l.ID, l.IPv6Prefix)
		}
		if len(per) > 1 && slices.Contains(per, "all") {
			c.errorf(l.Place, "%s.limits: %s counts all requests together; that does not go with %s", at, l.ID, strings.Join(per, ", "))
		}
		if l.Count == "failures" && l.Cost != nil && l.Cost.CEL.Value != "" {
			c.errorf(l.Place, "%s.limits: %s: what a failure costs is a number", at, l.ID)
		}
		n := &c.f.Networks
		for _, w := range l.Per.Words {
			missing := map[string]bool{"network": len(n.Lists) == 0, "asn": n.ASN == nil, "country": n.Country == nil}
			if missing[w.Value] {
				c.errorf(w.Place, "%s.limits: %s counts by %s, and networks does not say which address is where", at, l.ID, w.Value)
			}
		}
	}
}

// amount checks how much a limit lets through.
func (c *checker) amount(l *Limit, at string) {
	fail := func(place Place, text string) { c.errorf(place, "%s.limits: %s %s", at, l.ID, text) }
	switch {
	case l.Rate == nil && l.Quota == nil:
		fail(l.Place, "needs rate: like 100/min, 10/s or 5000/h; or quota: like 10000/month")
	case l.Rate != nil && l.Quota != nil:
		fail(l.Quota.Place, "has a rate and a quota; make them two limits")
	case l.Quota != nil && l.Burst != 0:
		fail(l.Quota.Place, "has a quota, all of which may come at once: burst is for rates")
	case l.Quota == nil && l.Timezone != "":
		fail(l.Place, "has a timezone, which is for a quota")
	case l.Quota != nil && l.Tiers != nil:
		fail(l.Tiers.Place, "has a quota and tiers, which have rates; make a limit with only: for each")
	}
}

// wholeLimits checks those of all APIs together.
func (c *checker) wholeLimits() {
	c.limits(c.f.Limits, "the file")
	for _, l := range c.f.Limits {
		if slices.Contains(l.Per.Values(), "api") {
			c.errorf(l.Place, "limits: %s counts by api; give the API a limit, or count by operation or all", l.ID)
		}
	}
}
