package waf

import (
	"fmt"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// recommended are the rules of Coraza's recommended configuration beside those
// that choose the reader of a body: what cannot be read whole does not pass. An
// attacker breaks a body on purpose where the service behind is more patient.
const recommended = `
SecRule URI_PARSE_ERROR "@eq 1" "id:200009,phase:1,t:none,log,deny,status:400,msg:'The URI cannot be read.'"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'The request body cannot be read.',logdata:'%{reqbody_error_msg}',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'The multipart body is not strictly one.'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200004,phase:1,t:none,log,deny,status:400,msg:'More arguments than are looked at.'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200005,phase:2,t:none,log,deny,status:400,msg:'More arguments than are looked at.'"
`

// Sources are the rules of c in the order in which they are read: what makes
// unreadable messages fail, the settings, the user's own that run before the Core
// Rule Set, the Core Rule Set, the user's own behind it. Every engine reads these
// and no others.
func (c *Config) Sources() ([]seclang.Source, error) {
	level := max(c.Paranoia, 1)
	if c.Paranoia < 0 || level > 4 || c.Detect != 0 && c.Detect < level || c.Detect > 4 {
		return nil, fmt.Errorf("rules: paranoia level %d, detection %d: levels are 1 to 4, and detection is not below paranoia", c.Paranoia, c.Detect)
	}
	sources := []seclang.Source{{Name: "recommended.conf", Text: []byte(recommended)}}
	var core []seclang.Source
	if !c.NoCRS {
		var err error
		core, err = seclang.CRS(seclang.Setup{
			Paranoia: level, Detect: max(c.Detect, level), Inbound: c.Threshold, Outbound: c.Outbound,
			Methods: c.Methods, ContentTypes: c.ContentTypes,
		})
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		sources, core = append(sources, core[0]), core[1:] // the settings
	}
	for _, s := range c.Before {
		sources = append(sources, seclang.Source{Name: s.Name, Text: s.Text})
	}
	sources = append(sources, core...)
	for _, s := range c.After {
		sources = append(sources, seclang.Source{Name: s.Name, Text: s.Text})
	}
	return sources, nil
}
