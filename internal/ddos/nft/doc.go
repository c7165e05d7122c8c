// Package nft has the kernel drop packets of banned networks, by nftables: what is
// refused there costs no accept, no handshake and no file descriptor. Practice 10.
//
// It owns one table, "inet gatehouse-" and the name of the node, and touches nothing
// else: made at the start in place of one that was left behind, gone at the end. Only
// packets to the ports it is told are dropped, so that a ban cannot shut an operator
// out of the machine. Every entry has an end, ten minutes off at most, and is renewed
// while the ban stands: what a killed process leaves behind ends by itself.
//
// It needs the right to configure the network (CAP_NET_ADMIN). Errors are for the
// operator; without the kernel, bans hold where connections are accepted.
//
//	k, err := nft.Open("node-1", []uint16{443})
//	err = k.Ban(prefix, time.Hour)
//	err = k.Close()
package nft
