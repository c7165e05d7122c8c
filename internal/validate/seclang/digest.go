package seclang

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is 16 hex digits of what r and its chain match: targets, operators,
// transformations and the variables they set. Members that are left out do not
// count: with them a rule matches less. Who has proven something about a rule
// holds its digest, lest another rule of the same id is taken for it.
func (r *Rule) Digest() string {
	h := sha256.New()
	write := func(r *Rule) {
		_, _ = fmt.Fprintf(h, "rule %q %v %v %q %v %q %v\n", r.Op.Name, r.Op.Negate, r.Op.Data != nil, r.Op.Arg, r.MultiMatch, r.Transforms, r.Capture)
		_, _ = h.Write(r.Op.Data)
		for _, t := range r.Targets {
			rx := ""
			if t.KeyRx != nil {
				rx = t.KeyRx.String()
			}
			_, _ = fmt.Fprintf(h, "target %s %q %q %v\n", t.Collection, t.Key, rx, t.Count)
		}
		for _, s := range r.SetVars {
			_, _ = fmt.Fprintf(h, "set %q %q %c %v\n", s.Name, s.Value, s.Op, s.Delete)
		}
	}
	_, _ = fmt.Fprintf(h, "%d %d\n", r.ID, r.Phase)
	write(r)
	for _, link := range r.Chain {
		write(link)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
