package waf

import (
	"github.com/corazawaf/libinjection-go"
)

type detectSQLi struct{}

// match captures the fingerprint: the kinds of the first tokens.
func (detectSQLi) match(text string, caps *captures) bool {
	found, fingerprint := libinjection.IsSQLi(text)
	if found && caps != nil {
		caps.add(fingerprint)
	}
	return found
}

func (detectSQLi) cost(text string) int64 { return 500 + 30*int64(len(text)) }

type detectXSS struct{}

func (detectXSS) match(text string, _ *captures) bool { return libinjection.IsXSS(text) }

func (detectXSS) cost(text string) int64 { return 200 + 30*int64(len(text)) }
