package config

import "slices"

// A Fleet is what several nodes over one database have in common.
type Fleet struct {
	Key       *Secret  `yaml:"key" required:"true" doc:"Secret of at least 32 random bytes, the same at every node, under which the keys of the house are sealed in the database: openssl rand -base64 48 > fleet.key. Keep a copy where the database's backups are not."`
	OtherKeys []Secret `yaml:"other_keys" max:"8" doc:"Secrets that only open: while key is changed, the one before, or the one to come."`
	Config    string   `yaml:"config" default:"files" enum:"files database" doc:"Where the rest of the config is: files, here; database, as 'gatehouse fleet push' stored it for all nodes: this file then has only data, database, shared, fleet, admin, listeners and events."`
	Place     Place    `yaml:"-"`
}

// fleet holds the secrets against what they must be.
func (c *checker) fleet() {
	if c.f.Fleet == nil || c.f.Fleet.Key == nil {
		return
	}
	for _, s := range append([]Secret{*c.f.Fleet.Key}, c.f.Fleet.OtherKeys...) {
		if len(s.Reveal()) < 32 {
			c.errorf(s.Place, "fleet: a key has fewer than 32 bytes; make it with: openssl rand -base64 48 > fleet.key")
		}
	}
}

// same reports whether two nodes' settings of it are the same.
func (x *Fleet) same(y *Fleet) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.Config == y.Config && x.Key.same(y.Key) && slices.EqualFunc(x.OtherKeys, y.OtherKeys, func(a, b Secret) bool { return a.same(&b) })
}
