package waf

import (
	"fmt"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// Sources are the rules of c in the order in which they are read: the settings,
// the user's own that run before the Core Rule Set, the Core Rule Set, the user's
// own behind it. Every engine reads these and no others.
func (c *Config) Sources() ([]seclang.Source, error) {
	level := max(c.Paranoia, 1)
	var sources []seclang.Source
	if !c.NoCRS {
		var err error
		sources, err = seclang.CRS(seclang.Setup{Paranoia: level, Detect: max(c.Detect, level), Inbound: c.Threshold, Outbound: c.Outbound})
		if err != nil {
			return nil, fmt.Errorf("waf: %w", err)
		}
	}
	first := min(len(sources), 1) // the settings
	all := append([]seclang.Source{}, sources[:first]...)
	for _, s := range c.Before {
		all = append(all, seclang.Source{Name: s.Name, Text: s.Text})
	}
	all = append(all, sources[first:]...)
	for _, s := range c.After {
		all = append(all, seclang.Source{Name: s.Name, Text: s.Text})
	}
	return all, nil
}
