package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

const (
	// Longest is how long an entry holds until it must be renewed.
	Longest = 10 * time.Minute

	mostEntries = 100_000
	protocolV4  = 2 // NFPROTO_IPV4 of linux/netfilter.h
	protocolV6  = 10
	priority    = -150 // before the filters of others, after connection tracking could have been
)

// A Table is ours in the kernel. It is used by one goroutine.
type Table struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
	ports *nftables.Set
	sets  map[kind]*nftables.Set
	count int
}

// A kind is the networks of one length: each has a set of its own, since a set of
// overlapping intervals is none to the kernel.
type kind struct {
	bits int
	v4   bool
}

// Open makes the table of a node, in place of one left behind. It drops nothing yet.
func Open(node string, ports []uint16) (*Table, error) {
	if len(ports) == 0 {
		return nil, errors.New("nft: there are no ports to guard")
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	t := &Table{conn: conn, table: &nftables.Table{Name: name(node), Family: nftables.TableFamilyINet}, sets: map[kind]*nftables.Set{}}
	conn.AddTable(t.table) // there is one to delete now, whether there was or not
	conn.DelTable(t.table)
	conn.AddTable(t.table)
	at := nftables.ChainPriority(priority)
	accept := nftables.ChainPolicyAccept
	t.chain = conn.AddChain(&nftables.Chain{
		Name: "bans", Table: t.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: &at, Policy: &accept,
	})
	t.ports = &nftables.Set{Table: t.table, Name: "ports", KeyType: nftables.TypeInetService}
	var all []nftables.SetElement
	for _, p := range slices.Compact(slices.Sorted(slices.Values(ports))) {
		all = append(all, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p)})
	}
	if err := conn.AddSet(t.ports, all); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("nft: %w: is the right to configure the network there (CAP_NET_ADMIN)?", err)
	}
	return t, nil
}

// name is of letters, digits, - and _ of the node's, as nft reads them.
func name(node string) string {
	b := []byte("gatehouse-")
	for i := 0; i < len(node) && len(b) < 60; i++ {
		c := node[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b = append(b, c)
		}
	}
	return string(b)
}

// An Entry is a network and how long its packets are dropped, at most [Longest].
type Entry struct {
	Prefix netip.Prefix
	For    time.Duration
}

// Ban drops what comes from networks that are not in the table yet, all or none.
func (t *Table) Ban(list []Entry) error {
	if t.count+len(list) > mostEntries {
		return errors.New("nft: there are too many bans for the kernel; the others hold where connections are accepted")
	}
	made := map[kind]*nftables.Set{}
	elements := map[kind][]nftables.SetElement{}
	for _, e := range list {
		k := kindOf(e.Prefix)
		if t.sets[k] == nil && made[k] == nil {
			s, err := t.add(k)
			if err != nil {
				return err
			}
			made[k] = s
		}
		elements[k] = append(elements[k], nftables.SetElement{
			Key: e.Prefix.Masked().Addr().AsSlice(), Timeout: min(max(e.For, time.Second), Longest),
		})
	}
	for k, list := range elements {
		s := t.sets[k]
		if s == nil {
			s = made[k]
		}
		if err := t.conn.SetAddElements(s, list); err != nil {
			return fmt.Errorf("nft: %w", err)
		}
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	maps.Copy(t.sets, made)
	t.count += len(list)
	return nil
}

// Lift lets packets of networks through again.
func (t *Table) Lift(list []netip.Prefix) error {
	for _, p := range list {
		s := t.sets[kindOf(p)]
		if s == nil {
			continue
		}
		// One at a time: who has ended by itself meanwhile is an error that stops no other.
		if err := t.conn.SetDeleteElements(s, []nftables.SetElement{{Key: p.Masked().Addr().AsSlice()}}); err != nil {
			return fmt.Errorf("nft: %w", err)
		}
		if err := t.conn.Flush(); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("nft: %w", err)
		}
	}
	t.count -= len(list)
	return nil
}

// Close removes the table.
func (t *Table) Close() error {
	t.conn.DelTable(t.table)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	return nil
}

func kindOf(p netip.Prefix) kind { return kind{p.Bits(), p.Addr().Is4()} }

// add makes the set of a kind, and the rule that asks it.
func (t *Table) add(k kind) (*nftables.Set, error) {
	s := &nftables.Set{Table: t.table, Name: "v6-" + strconv.Itoa(k.bits), KeyType: nftables.TypeIP6Addr, HasTimeout: true, Dynamic: false}
	family, offset, size := byte(protocolV6), uint32(8), uint32(16)
	if k.v4 {
		s.Name, s.KeyType = "v4-"+strconv.Itoa(k.bits), nftables.TypeIPAddr
		family, offset, size = protocolV4, 12, 4
	}
	if err := t.conn.AddSet(s, nil); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	ones := make([]byte, size)
	for i := range k.bits {
		ones[i/8] |= 0x80 >> (i % 8)
	}
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: t.chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syscall.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: t.ports.Name, SetID: t.ports.ID},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: ones, Xor: make([]byte, size)},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return s, nil
}
