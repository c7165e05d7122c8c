package config

import (
	"slices"
	"strings"
)

// Fixed names what differs in b and cannot change while a gateway runs with f. It
// must name all of it: who asks for client certificates from now on, and gets none
// without a word, believes in a check that is not there.
func (f *File) Fixed(b *File) string {
	var out []string
	if f.Data.Value != b.Data.Value {
		out = append(out, "data")
	}
	if ea, eb := f.Events, b.Events; ea.Path.Value != eb.Path.Value || ea.Rotate != eb.Rotate || ea.Keep != eb.Keep || ea.Sync != eb.Sync {
		out = append(out, "events")
	}
	if f.Environment != b.Environment {
		out = append(out, "environment")
	}
	if !slices.EqualFunc(f.Listeners, b.Listeners, sameListener) {
		out = append(out, "listeners")
	}
	if x, y := &f.Admin, &b.Admin; x.Address != y.Address || !sameTLS(x.TLS, y.TLS) || !x.Token.same(y.Token) {
		out = append(out, "admin")
	}
	if !f.Database.same(b.Database) {
		out = append(out, "database")
	}
	if !f.Shared.same(b.Shared) {
		out = append(out, "shared")
	}
	if !f.Fleet.same(b.Fleet) {
		out = append(out, "fleet")
	}
	if f.Drain != b.Drain {
		out = append(out, "drain")
	}
	if f.DDoS.NFTables != b.DDoS.NFTables {
		out = append(out, "ddos.nftables")
	}
	if !sameCrowdSec(f.DDoS.CrowdSec, b.DDoS.CrowdSec) {
		out = append(out, "ddos.crowdsec")
	}
	return strings.Join(out, ", ")
}

// sameListener compares all of two listeners but where they are written.
func sameListener(x, y Listener) bool {
	if (x.ClientCertificates == nil) != (y.ClientCertificates == nil) {
		return false
	}
	if c, d := x.ClientCertificates, y.ClientCertificates; c != nil && (c.Mode != d.Mode || c.CA.Name() != d.CA.Name()) {
		return false
	}
	return x.Address == y.Address && sameFront(&x, &y) && (x.Plaintext == "") == (y.Plaintext == "") && sameTLS(x.TLS, y.TLS) &&
		slices.Equal(x.TrustedHops, y.TrustedHops) && x.ForwardedHeader == y.ForwardedHeader && x.Timeouts == y.Timeouts && x.Limits == y.Limits
}

func sameTLS(x, y *TLS) bool {
	if x == nil || y == nil {
		return x == y
	}
	return slices.Equal(x.Self, y.Self) && x.Certificate.Name() == y.Certificate.Name() && x.Key.Name() == y.Key.Name()
}
