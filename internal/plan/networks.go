package plan

import (
	"io"
	"maps"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// loadNetworks reads what the config knows about addresses. What the files hold
// is part of the config: it is in its digest, and a change of theirs is one of it.
func (p *Plan) loadNetworks(sum io.Writer) error {
	in := &p.File.Networks
	c := networks.Config{ASN: in.ASN.Name(), Country: in.Country.Name()}
	for _, name := range slices.Sorted(maps.Keys(in.Lists)) {
		l := in.Lists[name]
		c.Lists = append(c.Lists, networks.List{Name: name, Prefixes: l.Prefixes, File: l.File.Name()})
	}
	if len(c.Lists) == 0 && c.ASN == "" && c.Country == "" {
		return nil
	}
	for _, file := range []string{c.ASN, c.Country} {
		p.watch(file)
	}
	for _, l := range c.Lists {
		p.watch(l.File)
	}
	set, err := networks.Load(c)
	if err != nil {
		return config.Errorf(in.Place, "%v", err)
	}
	_, err = io.WriteString(sum, set.Digest())
	p.Snapshot.Networks = set
	return err
}

// watch has the plan made again when the file changes.
func (p *Plan) watch(file string) {
	if file != "" && !slices.Contains(p.Watch, file) {
		p.Watch = append(p.Watch, file)
	}
}
