//go:build !linux

package nft

import (
	"errors"
	"net/netip"
	"time"
)

// Longest is how long an entry would hold.
const Longest = 10 * time.Minute

// An Entry is a network and how long its packets would be dropped.
type Entry struct {
	Prefix netip.Prefix
	For    time.Duration
}

// A Table is none: only Linux has nftables.
type Table struct{}

var errOther = errors.New("nft: only Linux has nftables")

// Open says so.
func Open(string, []uint16) (*Table, error) { return nil, errOther }

// Ban says so.
func (*Table) Ban([]Entry) error { return errOther }

// Lift says so.
func (*Table) Lift([]netip.Prefix) error { return errOther }

// Close does nothing.
func (*Table) Close() error { return nil }
