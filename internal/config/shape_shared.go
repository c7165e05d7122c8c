package config

// A Shared is where the nodes of a fleet keep what they share for a short time.
type Shared struct {
	URL    *Secret `yaml:"url" required:"true" doc:"URL of Valkey or Redis, in a file of its own: rediss://user:password@host:6379, several hosts with commas for a Cluster, rediss-sentinel://…/master, or unix:///path. Without TLS only on this machine."`
	CA     *Path   `yaml:"ca" doc:"PEM file with the CA certificates of the servers. Default: the system's."`
	Prefix string  `yaml:"prefix" default:"gatehouse:" doc:"Begins the names of all keys and channels there: the same at every node, and another one for another fleet at the same engine."`
	Place  Place   `yaml:"-"`
}

// same reports whether two configs mean the same engine.
func (x *Shared) same(y *Shared) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.URL.same(y.URL) && x.CA.Name() == y.CA.Name() && x.Prefix == y.Prefix
}
