package validate

import (
	"net/http"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// A provenRule is a rule of the WAF that no request can match by the time it is
// asked: the front refuses such requests, or they are written afresh without
// what the rule looks for.
type provenRule struct {
	digest string // of the rule that is meant: a user's own of that id, or a changed one, is another
	why    string
	when   func(*Operation) bool // nil: at every operation
}

// provenRules are the rules that need not be asked, by their id. What a row says
// must hold for every request that [Operation.Inspect] sees, whatever its version
// of HTTP and whatever the rules' settings: a row that is wrong is a hole nobody
// sees. waf_front_internal_test.go sends what each rule was written for.
var provenRules = map[int]provenRule{
	200004: {digest: "c14b942c40c9eb50", why: "a query has at most 256 parameters"},
	200009: {digest: "c161b5a2de9432c1", why: "the target that goes on is written afresh, every character encoded in one way"},

	920100: {digest: "a460c8905587eb50", why: "the request line that goes on is a known method, a path and query written afresh, and a known version"},
	920160: {digest: "76992c2bedca0fac", why: "Content-Length is written from the body that goes on; one that is no number is refused"},
	920180: {digest: "f4560a005840c823", why: "a POST goes on with a Content-Length or in chunks"},
	920181: {digest: "a5d584047f390c2c", why: "Content-Length beside Transfer-Encoding is refused, and one of them goes on"},
	920210: {digest: "e1651e31ab73f360", why: "Connection may name close, keep-alive, upgrade and te only, and does not go on"},
	920280: {digest: "aea83b05c81b1cd6", why: "a request without Host is refused"},
	920290: {digest: "8e38909ce98fccd5", why: "a request with an empty Host is refused"},
	920340: {digest: "f9d1fbf642b37d6f", why: "a body without Content-Type is refused"},
	920610: {digest: "fa5b7e32f0c8ed1e", why: "a target with a fragment is refused"},
	920620: {digest: "343313c5faf98255", why: "a second Content-Type is refused"},
	920640: {digest: "b2a99d547ebbe35f", why: "a body without Content-Type is refused"},
	921151: {digest: "3f0f38db52dd3ee3", why: "control characters in a query are refused"},
	921160: {digest: "8f549e5c2a0f664e", why: "control characters in a query are refused"},

	920170: {digest: "cfc0db2bc995d68f", why: "the operation takes no body, or another method", when: (*Operation).noBodyOfGet},
	920171: {digest: "846cce868fabb508", why: "the operation takes no body, or another method", when: (*Operation).noBodyOfGet},

	200003: {digest: "10297347835b4563", why: "the operation takes no multipart body", when: (*Operation).noParts},
	920120: {digest: "52dd631017c285d0", why: "the operation takes no files", when: (*Operation).noParts},
	920121: {digest: "b27c182a18e8da0e", why: "the operation takes no files", when: (*Operation).noParts},
	920400: {digest: "b0bb34a5490f7d73", why: "the operation takes no files", when: (*Operation).noParts},
	920410: {digest: "1ccf24b8fc0a25e3", why: "the operation takes no files", when: (*Operation).noParts},
	922100: {digest: "6006376e238b9390", why: "the operation takes no multipart body", when: (*Operation).noParts},
	922110: {digest: "50429cf5468bf308", why: "the operation takes no multipart body", when: (*Operation).noParts},
	922120: {digest: "45d336fac9c2c4fb", why: "the operation takes no multipart body", when: (*Operation).noParts},
	922130: {digest: "582bd49e55d9d46f", why: "the operation takes no multipart body", when: (*Operation).noParts},
	922140: {digest: "044e644bbc6833d7", why: "the operation takes no multipart body", when: (*Operation).noParts},
	922150: {digest: "b69a00501201e3fb", why: "the operation takes no multipart body", when: (*Operation).noParts},

	920240: {digest: "df390f66d5518d64", why: "a form is written afresh, every escape valid", when: (*Operation).writesBodies},
	920250: {digest: "19ab3268e3a5a4a3", why: "path, query and body are refused when they are no UTF-8", when: (*Operation).writesBodies},
	920260: {digest: "fffb40f995f608d3", why: "target and form are written afresh, and have no escapes like %u", when: (*Operation).writesBodies},
}

// impossible says why no request at this operation can match a rule.
func (o *Operation) impossible(r *seclang.Rule) (why string, ok bool) {
	p, ok := provenRules[r.ID]
	if !ok || p.when != nil && !p.when(o) || p.digest != r.Digest() {
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
