package identity

// An External is what an upstream proved about somebody who signed in there. The
// connectors of identity/upstream make it, out of what was verified only.
type External struct {
	Source  string // name of the connector
	Subject string // the upstream's own, stable name for the user; never an address

	Name          string // wish for a login name
	Email         string // as the upstream has it
	EmailVerified bool   // the upstream says so, and the connector's config believes it
	Claims        map[string]any
	Groups        []string // the upstream's
	Roles         []string // ours, by the connector's mapping of Groups
	AMR           []string // RFC 8176, when the connector's config believes it
	ACR           string   // one of ours, by the connector's mapping; "" is one factor

	Create    bool // the connector's config: make an account for who has none
	LinkEmail bool // the connector's config: an account with the same address, verified by both, is theirs
}
