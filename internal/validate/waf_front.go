package validate

import (
	"net/http"
	"strings"
)

// A provenRule is a rule of the WAF that no request can match by the time it is
// asked: the front refuses such requests, or they are written afresh without
// what the rule looks for.
type provenRule struct {
	why  string
	when func(*Operation) bool // nil: at every operation
}

// provenRules are the rules that need not be asked, by their id. What a row says
// must hold for every request that [Operation.Inspect] sees, whatever its version
// of HTTP and whatever the rules' settings: a row that is wrong is a hole nobody
// sees. waf_front_internal_test.go sends what each rule was written for.
var provenRules = map[int]provenRule{
	200004: {why: "a query has at most 256 parameters"},
	200009: {why: "the target that goes on is written afresh, every character encoded in one way"},

	920100: {why: "the request line that goes on is a known method, a path and query written afresh, and a known version"},
	920160: {why: "Content-Length is written from the body that goes on; one that is no number is refused"},
	920180: {why: "a POST goes on with a Content-Length or in chunks"},
	920181: {why: "Content-Length beside Transfer-Encoding is refused, and one of them goes on"},
	920210: {why: "Connection may name close, keep-alive, upgrade and te only, and does not go on"},
	920280: {why: "a request without Host is refused"},
	920290: {why: "a request with an empty Host is refused"},
	920340: {why: "a body without Content-Type is refused"},
	920610: {why: "a target with a fragment is refused"},
	920620: {why: "a second Content-Type is refused"},
	920640: {why: "a body without Content-Type is refused"},
	921151: {why: "control characters in a query are refused"},
	921160: {why: "control characters in a query are refused"},

	920170: {why: "the operation takes no body, or another method", when: (*Operation).noBodyOfGet},
	920171: {why: "the operation takes no body, or another method", when: (*Operation).noBodyOfGet},

	200003: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	920120: {why: "the operation takes no files", when: (*Operation).noParts},
	920121: {why: "the operation takes no files", when: (*Operation).noParts},
	920400: {why: "the operation takes no files", when: (*Operation).noParts},
	920410: {why: "the operation takes no files", when: (*Operation).noParts},
	922100: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	922110: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	922120: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	922130: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	922140: {why: "the operation takes no multipart body", when: (*Operation).noParts},
	922150: {why: "the operation takes no multipart body", when: (*Operation).noParts},

	920240: {why: "a form is written afresh, every escape valid", when: (*Operation).writesBodies},
	920250: {why: "path, query and body are refused when they are no UTF-8", when: (*Operation).writesBodies},
	920260: {why: "target and form are written afresh, and have no escapes like %u", when: (*Operation).writesBodies},
}

// impossible says why no request at this operation can match a rule.
func (o *Operation) impossible(id int) (why string, ok bool) {
	p, ok := provenRules[id]
	if !ok || p.when != nil && !p.when(o) {
		return "", false
	}
	return p.why, true
}

// noBodyOfGet reports that no GET or HEAD with a body comes here.
func (o *Operation) noBodyOfGet() bool {
	return o.body == nil || o.op.Method != http.MethodGet && o.op.Method != http.MethodHead
}

// noParts reports that no multipart body comes here.
func (o *Operation) noParts() bool {
	return o.everyBody(func(m media) bool { return m.kind != "multipart" && m.kind != "*" })
}

// writesBodies reports that every body that comes here is written afresh, and
// that the rules' reader takes it for what it is: JSON or a form.
func (o *Operation) writesBodies() bool {
	return o.everyBody(func(m media) bool {
		if m.kind != "application" {
			return false
		}
		before, isJSON := strings.CutSuffix(m.sub, "+json")
		return m.sub == "json" || m.sub == "x-www-form-urlencoded" || isJSON && before != "" && strings.IndexFunc(before, notPlain) < 0
	})
}

func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
}

func (o *Operation) everyBody(is func(media) bool) bool {
	if o.body == nil {
		return true
	}
	for i := range o.body.content {
		if !is(o.body.content[i].media) {
			return false
		}
	}
	return true
}
