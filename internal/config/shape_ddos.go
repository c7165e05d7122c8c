package config

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DDoS says what is done about callers who send too much.
type DDoS struct {
	Mode        string         `yaml:"mode" default:"enforce" enum:"enforce report off" doc:"enforce challenges, throttles and bans who stands out; report writes in the event what would be done; off counts nothing and lifts what stands. Bans by hand, networks and under_attack hold in report, too."`
	UnderAttack bool           `yaml:"under_attack" doc:"Challenge every caller without valid credentials, and lower the thresholds to a fourth. 'gatehouse ddos attack on' does the same without a change of the config."`
	Allow       []netip.Prefix `yaml:"allow" default:"127.0.0.0/8 ::1/128 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 fc00::/7 fe80::/10" max:"1024" doc:"Networks that are neither counted nor refused. The default is this machine and private networks: a balancer that trusted_hops does not name must not be banned for its callers."`
	Thresholds  DDoSThresholds `yaml:"thresholds" doc:"What one address may do in a second, as a mean of ten, before it stands out; its network may do a few times as much. What has valid credentials does not count, limits are for that."`
	HalfLife    time.Duration  `yaml:"half_life" default:"2m" min:"10s" max:"24h" doc:"In which what an address did is half forgotten."`
	Ban         DDoSBan        `yaml:"ban" doc:"How long one is shut out who goes on under challenge and throttle."`
	Challenge   DDoSChallenge  `yaml:"challenge" doc:"The proof of work that is asked of callers without credentials."`
	Networks    DDoSNetworks   `yaml:"networks" doc:"What is done about callers of the networks under networks: by the name of a list, asn:64500 or country:XX. allow is asked first, then deny, then challenge, each about every list the address is in."`
	NFTables    bool           `yaml:"nftables" doc:"Have the kernel drop what banned networks send to our ports (Linux, CAP_NET_ADMIN), in a table of our own. Without the right, bans hold where connections are accepted. Taken at the start only."`
	CrowdSec    *CrowdSec      `yaml:"crowdsec" doc:"A CrowdSec whose decisions are taken over, and that learns of our bans. Taken at the start only."`
	Place       Place          `yaml:"-"`
}

// CrowdSec is a local API of CrowdSec.
type CrowdSec struct {
	URL      Text          `yaml:"url" required:"true" format:"upstream" doc:"Of its local API, like http://127.0.0.1:8080."`
	Key      *Secret       `yaml:"key" required:"true" doc:"Key of a bouncer, as 'cscli bouncers add gatehouse' prints it."`
	Every    time.Duration `yaml:"every" default:"10s" min:"1s" max:"1h" doc:"How often it is asked for what is new."`
	Machine  string        `yaml:"machine" doc:"Name of a machine, as 'cscli machines add' makes it, that hands in our bans. Default: they are not."`
	Password *Secret       `yaml:"password" doc:"Of the machine."`
	Place    Place         `yaml:"-"`
}

// DDoSThresholds are rates of one address.
type DDoSThresholds struct {
	Requests    int           `yaml:"requests" default:"200" min:"1" max:"1000000" doc:"Requests a second without valid credentials."`
	Refused     int           `yaml:"refused" default:"20" min:"1" max:"1000000" doc:"Answers 400, 401, 403, 404, 405 and 429 a second, and requests that could not be read."`
	Cost        time.Duration `yaml:"cost" default:"300ms" min:"1ms" max:"1m" doc:"Processor time a second that the rules for content took."`
	Connections int           `yaml:"connections" default:"50" min:"1" max:"1000000" doc:"New connections a second."`
	Handshakes  int           `yaml:"handshakes" default:"30" min:"1" max:"1000000" doc:"New connections a second that cost a TLS handshake."`
}

// DDoSBan is how long bans are.
type DDoSBan struct {
	First   time.Duration `yaml:"first" default:"1m" min:"1s" max:"24h" doc:"The first one. Each further one is four times as long, while the ones before are remembered."`
	Longest time.Duration `yaml:"longest" default:"24h" min:"1s" max:"720h" doc:"None is longer."`
}

// DDoSChallenge is how much work is asked for.
type DDoSChallenge struct {
	Difficulty int           `yaml:"difficulty" default:"16" min:"8" max:"22" doc:"Bits: 16 are 65,000 hashes, a tenth of a second in a browser. Who stands out, and everyone under attack, is asked for more, at most 24."`
	Valid      time.Duration `yaml:"valid" default:"10m" min:"30s" max:"24h" doc:"How long a solved one opens, for the address that got it."`
}

// DDoSNetworks are networks by their names.
type DDoSNetworks struct {
	Allow     []Text `yaml:"allow" format:"network" max:"256" doc:"Whatever was found out about them, they are let through; a ban by hand holds."`
	Deny      []Text `yaml:"deny" format:"network" max:"256" doc:"Refused, at the door where there is no trusted hop between."`
	Challenge []Text `yaml:"challenge" format:"network" max:"256" doc:"Challenged when they have no valid credentials."`
}

// NetworkName takes apart what DDoSNetworks names: one of list, asn and country is set.
func NetworkName(text string) (list string, asn uint32, country string) {
	if v, ok := strings.CutPrefix(text, "asn:"); ok {
		n, _ := strconv.ParseUint(v, 10, 32)
		return "", uint32(n), ""
	}
	if v, ok := strings.CutPrefix(text, "country:"); ok {
		return "", 0, v
	}
	return text, 0, ""
}

func (c *checker) ddos() {
	d := &c.f.DDoS
	if d.Ban.Longest < d.Ban.First {
		c.errorf(d.Place, "ddos.ban: longest is shorter than first")
	}
	if cs := d.CrowdSec; cs != nil && (cs.Machine == "") != (cs.Password == nil) {
		c.errorf(cs.Place, "ddos.crowdsec: machine and password go together")
	}
	for what, names := range map[string][]Text{"allow": d.Networks.Allow, "deny": d.Networks.Deny, "challenge": d.Networks.Challenge} {
		for _, n := range names {
			list, asn, country := NetworkName(n.Value)
			switch nets := &c.f.Networks; {
			case asn != 0 && nets.ASN == nil:
				c.errorf(n.Place, "ddos.networks.%s: %s needs networks.asn, the file that tells the autonomous system of an address", what, n.Value)
			case country != "" && nets.Country == nil:
				c.errorf(n.Place, "ddos.networks.%s: %s needs networks.country, the file that tells the country of an address", what, n.Value)
			case list != "" && nets.Lists[list] == nil:
				c.errorf(n.Place, "ddos.networks.%s: there is no list %q%s", what, list, DidYouMean(list, slices.Collect(maps.Keys(nets.Lists))))
			}
		}
	}
}

// sameCrowdSec compares all of two but where they are written.
func sameCrowdSec(x, y *CrowdSec) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.URL.Value == y.URL.Value && x.Every == y.Every && x.Machine == y.Machine && x.Key.same(y.Key) && x.Password.same(y.Password)
}
