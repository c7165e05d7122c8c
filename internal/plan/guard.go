package plan

import (
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

// Guard is what the config says about callers who send too much.
func (p *Plan) Guard() ddos.Settings {
	d := &p.File.DDoS
	return ddos.Settings{
		Mode: ddos.ModeOf(d.Mode), UnderAttack: d.UnderAttack, Allow: d.Allow,
		Thresholds: ddos.Thresholds{
			Requests: float64(d.Thresholds.Requests), Refused: float64(d.Thresholds.Refused), Cost: d.Thresholds.Cost,
			Connections: float64(d.Thresholds.Connections), Handshakes: float64(d.Thresholds.Handshakes),
		},
		HalfLife: d.HalfLife, FirstBan: d.Ban.First, LongestBan: d.Ban.Longest, Difficulty: d.Challenge.Difficulty, PassLife: d.Challenge.Valid,
		Networks: ddos.NetworkRules{
			Of: p.Snapshot.Networks, Allow: namesOf(d.Networks.Allow), Deny: namesOf(d.Networks.Deny), Challenge: namesOf(d.Networks.Challenge),
		},
	}
}

func namesOf(texts []config.Text) (n ddos.Names) {
	for _, t := range texts {
		switch list, asn, country := config.NetworkName(t.Value); {
		case asn != 0:
			n.ASNs = append(n.ASNs, asn)
		case country != "":
			n.Countries = append(n.Countries, country)
		default:
			n.Lists = append(n.Lists, list)
		}
	}
	return n
}
