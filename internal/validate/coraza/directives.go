package coraza

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// directives are c as Coraza reads it, in order.
func directives(c *waf.Config) ([]seclang.Source, error) {
	all, err := c.Sources()
	if err != nil {
		return nil, err
	}
	during, after := exclusions(c.Without)
	// The first takes effect while a message runs, before any rule; the second removes rules that were read before.
	all = slices.Insert(all, 0, seclang.Source{Name: "coraza.conf", Text: []byte(settings)}, seclang.Source{Name: "waf.exclude", Text: []byte(during)})
	all = append(all, seclang.Source{Name: "waf.exclude", Text: []byte(after)})
	return slices.DeleteFunc(all, func(s seclang.Source) bool { return len(bytes.TrimSpace(s.Text)) == 0 }), nil
}

// exclusions writes them as an action that takes targets from rules while a
// message runs, which reaches the whole chain of a rule and not only its first
// link as SecRuleUpdateTargetById does, and as directives that remove rules.
//
// Coraza knows ARGS as one collection: an exclusion of the query's q is one of a
// form's q, too.
func exclusions(without []waf.Exclusion) (during, after string) {
	var act, remove strings.Builder
	for _, x := range without {
		for _, rule := range x.Rules {
			by := "Tag"
			if strings.Trim(rule, "0123456789-") == "" {
				by = "Id"
			}
			if x.In == 0 {
				fmt.Fprintf(&remove, "SecRuleRemoveBy%s %s\n", by, rule)
				continue
			}
			for _, collection := range collections(x.In) {
				fmt.Fprintf(&act, ",\\\n ctl:'ruleRemoveTargetBy%s=%s;%s%s'", by, rule, collection, member(x.Name))
			}
		}
	}
	if act.Len() > 0 {
		during = fmt.Sprintf("SecAction \"id:%d,phase:1,pass,nolog%s\"\n", excluder, act.String())
	}
	return during, remove.String()
}

// excluder is the id of the rule that takes targets from others.
const excluder = 199_999_999

// collections are where rules meet the values of a place.
func collections(in waf.In) []string {
	switch in {
	case waf.ArgGet:
		return []string{"ARGS", "ARGS_GET"}
	case waf.ArgPost:
		return []string{"ARGS", "ARGS_POST"}
	case waf.ArgPath:
		return []string{"ARGS", "ARGS_PATH"}
	case waf.Cookie:
		return []string{"REQUEST_COOKIES"}
	case waf.Header:
		return []string{"REQUEST_HEADERS"}
	case waf.File:
		return []string{"FILES", "FILES_NAMES"}
	case waf.PartHeader:
		return []string{"MULTIPART_PART_HEADERS"}
	case waf.XMLText, waf.XMLAttr:
		return []string{"XML"}
	case waf.AnswerHeader:
		return []string{"RESPONSE_HEADERS"}
	default:
		return nil
	}
}

// member is the key of a target. Names are compared in lower case.
func member(name string) string {
	if name == "" {
		return ""
	}
	stem, rest := strings.CutSuffix(strings.ToLower(name), "*")
	plain := strings.IndexFunc(stem, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}) < 0
	if plain && !rest {
		return ":" + stem
	}
	// Nothing of a name may end the quotes it stands in, or mean something in an expression.
	var b strings.Builder
	b.WriteString(":/^")
	for _, r := range stem {
		fmt.Fprintf(&b, `\x{%x}`, r)
	}
	if !rest {
		b.WriteByte('$')
	}
	b.WriteByte('/')
	return b.String()
}

// files gives Coraza the data files that the rules name, and nothing of the disk.
type files []seclang.Source

func (f files) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (f files) ReadFile(name string) ([]byte, error) {
	for _, s := range f {
		if s.Data == nil {
			continue
		}
		if b, err := s.Data(path.Base(name)); err == nil {
			return b, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// settings are Coraza's own recommended ones: who reads bodies, and how much of
// an answer is looked at.
const settings = `
SecRuleEngine On
SecRequestBodyJsonDepthLimit 1024
SecArgumentsLimit 1000
SecResponseBodyMimeType text/plain text/html text/xml
SecResponseBodyLimit 524288
SecResponseBodyLimitAction ProcessPartial
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
`
