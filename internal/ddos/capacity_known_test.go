package ddos_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

func TestKnown(t *testing.T) {
	k, now := ddos.NewKnown(), time.Now()
	ann, bob := k.Principal("main", "ann"), k.Principal("main", "bob")
	k.Saw(ann, now)
	for _, c := range []struct {
		name string
		who  ddos.Who
		at   time.Duration
		want bool
	}{
		{"who got a good answer is known", ann, time.Second, true},
		{"and still is some minutes later", ann, 9 * time.Minute, true},
		{"and is forgotten after ten", ann, 11 * time.Minute, false},
		{"who was not seen is not known", bob, 0, false},
		{"the same name of another issuer is another", k.Principal("other", "ann"), 0, false},
		{"nobody is not known", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := k.Is(c.who, now.Add(c.at)); got != c.want {
				t.Errorf("known: %t", got)
			}
		})
	}
	k.Saw(0, now)
	if k.Is(0, now) {
		t.Error("nobody became known")
	}
	var none *ddos.Known
	none.Saw(ann, now)
	if none.Is(ann, now) || none.Any(now) {
		t.Error("a table that is not there knows somebody")
	}
}

func TestAFloodOfFreshPrincipalsDoesNotPushOutWhoComesOften(t *testing.T) {
	k, now := ddos.NewKnown(), time.Now()
	ann := k.Principal("main", "ann")
	for n := range 200_000 {
		if n%10_000 == 0 {
			now = now.Add(40 * time.Second)
			k.Saw(ann, now)
		}
		k.Saw(k.Principal("main", fmt.Sprint("m", n)), now.Add(-35*time.Second))
	}
	if !k.Is(ann, now) {
		t.Error("ann is forgotten")
	}
}

func TestAnIPv6NetworkIsOneCaller(t *testing.T) {
	k := ddos.NewKnown()
	at := func(s string) ddos.Who { return k.Address(netip.MustParseAddr(s)) }
	if at("2001:db8::1") != at("2001:db8::ffff:2") || at("2001:db8::1") == at("2001:db8:0:1::1") {
		t.Error("a /64 is not one caller, or another is the same")
	}
	if at("192.0.2.1") != at("::ffff:192.0.2.1") || at("192.0.2.1") == at("192.0.2.2") {
		t.Error("an IPv4 address has two names, or two have one")
	}
}
