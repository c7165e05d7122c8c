package config

// A Database is a server that keeps what Gatehouse must remember, for several nodes.
type Database struct {
	URL   *Secret `yaml:"url" required:"true" doc:"URL of PostgreSQL 13 or newer, in a file of its own: postgres://user:password@host:5432/name?sslmode=verify-full, with sslrootcert=/path/ca.pem for a CA of your own. Without TLS only on this machine."`
	Place Place   `yaml:"-"`
}

// database refuses one whose nodes would each have keys of their own.
func (c *checker) database() {
	if d := c.f.Database; d != nil && c.f.Fleet == nil {
		c.errorf(d.Place, "database: a server is there for several nodes, and they are one house only with the same keys: add 'fleet: {key: \"${file:fleet.key}\"}', made with: openssl rand -base64 48 > fleet.key")
	}
}

// same reports whether two configs mean the same server.
func (x *Database) same(y *Database) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.URL.same(y.URL)
}
