package validate

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// place is where the values of e stand: "query", "body"; "" everywhere.
func (e Exclusion) place() string {
	at := strings.IndexAny(e.Parameter, "./")
	if at < 0 {
		return e.Parameter
	}
	return e.Parameter[:at]
}

// about reports whether e speaks of the value with that name. A trailing * stands
// for any rest.
func (e Exclusion) about(name string) bool {
	place, want, _ := strings.Cut(e.Parameter, ".")
	if place == inHeader {
		return strings.EqualFold(want, name)
	}
	if begin, open := strings.CutSuffix(want, "*"); open {
		return strings.HasPrefix(name, begin)
	}
	return want == name
}

// pointer splits body/items/*/note; false when e speaks of something else.
func (e Exclusion) pointer() ([]string, bool) {
	rest, ok := strings.CutPrefix(e.Parameter, inBody)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return nil, false
	case rest == "":
		return []string{}, true
	}
	tokens := strings.Split(rest[1:], "/")
	for i := range tokens {
		tokens[i] = untoken(tokens[i])
	}
	return tokens, true
}

func untoken(s string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(s) }

// names reports whether e speaks of rule r: by id, range or tag.
func (e Exclusion) names(r *seclang.Rule) bool {
	for _, spec := range e.Rules {
		low, high, ranged := strings.Cut(spec, "-")
		first, err := strconv.Atoi(low)
		if err != nil {
			if slices.Contains(r.Tags, spec) {
				return true
			}
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(high); err != nil {
				continue
			}
		}
		if first <= r.ID && r.ID <= last {
			return true
		}
	}
	return false
}

// about reports whether x speaks of the leaf that way leads to, or of what it
// stands in. Of way, * is any index; of x, * is any token.
func (x *exclusion) about(way []string) bool {
	if len(x.tokens) > len(way) {
		return false
	}
	for i, token := range x.tokens {
		if token != "*" && token != untoken(way[i]) {
			return false
		}
	}
	return true
}

// aboutName is about for a leaf as rules name it: json.items.0.note.
func (x *exclusion) aboutName(name []byte) bool {
	rest := string(name)
	for _, token := range x.tokens {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return false
		}
		switch {
		case token == "*":
			rest = ""
			if i := strings.IndexByte(after, '.'); i >= 0 {
				rest = after[i:]
			}
		case after == token:
			rest = ""
		case strings.HasPrefix(after, token+"."):
			rest = after[len(token):]
		default:
			return false
		}
	}
	return true
}

// counts reports whether x names an index: then the way of a leaf, not its field,
// decides.
func (x *exclusion) counts() bool {
	return slices.ContainsFunc(x.tokens, func(token string) bool { _, err := strconv.Atoi(token); return err == nil })
}

// without returns all rules but those.
func (w *WAF) without(those func(r *seclang.Rule) bool) waf.Mask {
	n := w.prover.Len()
	m := make(waf.Mask, (n+63)/64)
	for i := range n {
		if !those(w.prover.Rule(i)) {
			m[i>>6] |= 1 << (i & 63)
		}
	}
	return emptied(m)
}

func canonicalHeader(name string) string { return http.CanonicalHeaderKey(name) }

func quoteMeta(s string) string { return regexp.QuoteMeta(s) }

// placeName is a place as events and exclusions write it.
func placeName(in waf.In) string {
	switch in {
	case waf.ArgGet:
		return inQuery
	case waf.ArgPath:
		return inPath
	case waf.Header:
		return inHeader
	case waf.Cookie:
		return inCookie
	case waf.ArgPost, waf.File, waf.PartHeader, waf.XMLText, waf.XMLAttr:
		return inBody
	case waf.AnswerHeader:
		return "answer"
	case waf.Line:
	}
	return "request"
}
