package waf_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// ownRules are files as users write them, one meaning of SecLang each.
var ownRules = map[string]string{
	"a deny ends the message": `
SecRule ARGS:a "@streq 1" "id:1,phase:2,deny,msg:'one'"
SecRule ARGS:a "@rx ." "id:2,phase:2,pass,msg:'two'"`,
	"a deny in phase 1 ends it before the body": `
SecRule REQUEST_HEADERS:User-Agent "@contains client" "id:1,phase:1,deny,status:429,msg:'one'"
SecRule ARGS "@rx ." "id:2,phase:2,pass,msg:'two'"`,
	"allow lets the rest be": `
SecRule ARGS:a "@streq 1" "id:1,phase:2,allow,msg:'one'"
SecRule ARGS:a "@rx ." "id:2,phase:2,deny,msg:'two'"`,
	"allow of phase 1 holds for its phase": `
SecRule REQUEST_METHOD "@streq GET" "id:1,phase:1,allow:phase,msg:'one'"
SecRule REQUEST_METHOD "@rx ." "id:2,phase:1,pass,msg:'two'"
SecRule ARGS "@rx ." "id:3,phase:2,pass,msg:'three'"`,
	"allow of the request holds for both phases": `
SecRule REQUEST_METHOD "@streq GET" "id:1,phase:1,allow:request,msg:'one'"
SecRule ARGS "@rx ." "id:3,phase:2,pass,msg:'three'"`,
	"a variable is set once for each value that matched": `
SecRule ARGS "@rx ^[0-9]+$" "id:1,phase:2,pass,nolog,setvar:tx.n=+2"
SecRule TX:n "@ge 4" "id:2,phase:2,pass,msg:'n is %{tx.n}'"
SecRule TX:n "@eq 2" "id:3,phase:2,pass,msg:'two'"`,
	"a chain goes on with what matched": `
SecRule ARGS "@rx ^(.)(.*)" "id:1,phase:2,pass,capture,msg:'%{MATCHED_VAR_NAME} %{tx.1}',chain"
 SecRule MATCHED_VARS "@contains b" "chain"
 SecRule &MATCHED_VARS "@ge 1" "setvar:tx.x=1"
SecRule TX:x "@eq 1" "id:2,phase:2,pass,msg:'x'"`,
	"a chain that breaks keeps what its first link set": `
SecRule ARGS:a "@rx ." "id:1,phase:2,deny,msg:'one',setvar:tx.seen=1,chain"
 SecRule ARGS:none "@rx ." ""
SecRule TX:seen "@eq 1" "id:2,phase:2,pass,msg:'two'"`,
	"skip leaves rules out": `
SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,nolog,skip:1"
SecRule ARGS:a "@rx ." "id:2,phase:2,pass,msg:'two'"
SecRule ARGS:a "@rx ." "id:3,phase:2,pass,msg:'three'"`,
	"skipAfter goes on behind its marker": `
SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS:a "@rx ." "id:2,phase:2,pass,msg:'two'"
SecMarker END
SecRule ARGS:a "@rx ." "id:3,phase:2,pass,msg:'three'"`,
	"ctl takes a rule away": `
SecRule ARGS:a "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=3"
SecRule ARGS:a "@rx ." "id:2,phase:2,pass,msg:'two'"
SecRule ARGS:a "@rx ." "id:3,phase:2,pass,msg:'three'"`,
	"ctl takes rules of a range and of a tag away": `
SecRule ARGS:a "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=3-5,ctl:ruleRemoveByTag=gone"
SecRule ARGS:a "@rx ." "id:2,phase:2,pass,msg:'two',tag:'gone'"
SecRule ARGS:a "@rx ." "id:4,phase:2,pass,msg:'four'"
SecRule ARGS:a "@rx ." "id:6,phase:2,pass,msg:'six',tag:'gone/not'"`,
	"ctl takes a target away": `
SecRule ARGS:b "@rx ." "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a,ctl:ruleRemoveTargetByTag=t;ARGS:/^b/"
SecRule ARGS "@rx ." "id:2,phase:2,pass,msg:'two'"
SecRule ARGS "@rx ." "id:3,phase:2,pass,msg:'three',tag:'t'"`,
	"targets are left out, by name and expression": `
SecRule ARGS|!ARGS:a|REQUEST_HEADERS|!REQUEST_HEADERS:/^(?:user|acc)/ "@rx ." "id:1,phase:2,pass,msg:'one'"
SecRule ARGS:/^b/ "@rx ." "id:2,phase:2,pass,msg:'two'"
SecRule &ARGS|&REQUEST_COOKIES|&REQUEST_HEADERS:Host "@ge 1" "id:3,phase:2,pass,msg:'three'"`,
	"an update changes targets": `
SecRule ARGS "@rx ." "id:1,phase:2,pass,msg:'one'"
SecRule ARGS "@rx ." "id:2,phase:2,pass,msg:'two',tag:'t'"
SecRuleUpdateTargetById 1 "!ARGS:a"
SecRuleUpdateTargetByTag t "!ARGS:/^b/"
SecRuleUpdateTargetById 1 "REQUEST_METHOD"`,
	"removed rules do not run": `
SecRule ARGS "@rx ." "id:1,phase:2,pass,msg:'one'"
SecRule ARGS "@rx ." "id:2,phase:2,pass,msg:'two',tag:'t'"
SecRule ARGS "@rx ." "id:3,phase:2,pass,msg:'three'"
SecRuleRemoveById 1
SecRuleRemoveByTag t`,
	"multiMatch asks after each transformation": `
SecRule ARGS "@rx b" "id:1,phase:2,pass,t:none,t:lowercase,t:hexEncode,t:hexDecode,t:removeWhitespace,multiMatch,setvar:tx.n=+1,msg:'one'"
SecRule TX:n "@ge 2" "id:2,phase:2,pass,msg:'two'"`,
	"a negated operator matches each value that does not": `
SecRule ARGS "!@rx ^[0-9]+$" "id:1,phase:2,pass,msg:'one'"
SecRule ARGS:none "!@rx ." "id:2,phase:2,pass,msg:'two'"
SecRule &ARGS:none "!@eq 1" "id:3,phase:2,pass,msg:'three'"`,
	"macros stand in operators and messages": `
SecAction "id:1,phase:1,pass,nolog,setvar:tx.limit=2,setvar:'tx.word=bCd',setvar:tx.prefix_%{REQUEST_METHOD}=5"
SecRule ARGS "@ge %{tx.limit}" "id:2,phase:2,pass,msg:'%{MATCHED_VAR} of %{MATCHED_VAR_NAME}'"
SecRule ARGS "@contains %{tx.word}" "id:3,phase:2,pass,msg:'%{tx.word}'"
SecRule TX:prefix_get "@eq 5" "id:4,phase:2,pass,msg:'get'"
SecRule TX:/^prefix_/ "@eq 5" "id:5,phase:2,pass,msg:'any'"`,
	"variables are changed": `
SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=5,setvar:tx.a=-2,setvar:tx.b=x"
SecRule TX:a "@eq 3" "id:2,phase:2,pass,msg:'a'"
SecRule &TX:b "@eq 1" "id:3,phase:2,pass,msg:'b'"
SecRule TX:c "@rx .*" "id:4,phase:2,pass,msg:'c'"`,
	"operators of all kinds": `
SecRule ARGS "@pm one bcd three" "id:1,phase:2,pass,msg:'pm'"
SecRule ARGS "@within 1,bcd" "id:2,phase:2,pass,msg:'within'"
SecRule ARGS "@beginsWith b" "id:3,phase:2,pass,msg:'begins'"
SecRule ARGS "@endsWith d" "id:4,phase:2,pass,msg:'ends'"
SecRule REMOTE_ADDR "@ipMatch 192.0.2.0/24,2001:db8::/32" "id:6,phase:1,pass,msg:'address'"
SecRule ARGS "@validateByteRange 48-57" "id:7,phase:2,pass,msg:'range'"
SecRule ARGS "@lt 5" "id:8,phase:2,pass,msg:'less'"
SecRule ARGS "@unconditionalMatch" "id:9,phase:2,pass,msg:'any'"
SecRule ARGS "@noMatch" "id:10,phase:2,pass,msg:'none'"
SecRule ARGS "@strmatch b" "id:11,phase:2,pass,msg:'strmatch'"
SecRule REQUEST_URI_RAW "@validateUrlEncoding" "id:12,phase:2,pass,msg:'url'"
SecRule ARGS "@validateUtf8Encoding" "id:13,phase:2,pass,msg:'utf8'"
SecRule ARGS "@le 2" "id:14,phase:2,pass,msg:'le'"
SecRule ARGS "@gt 1" "id:15,phase:2,pass,msg:'gt'"`,
	"severity, defaults and logging": `
SecDefaultAction "phase:2,log,auditlog,deny,status:406"
SecRule ARGS:b "@rx ." "id:1,phase:2,pass,nolog,severity:2,msg:'silent'"
SecRule ARGS:a "@rx 2" "id:2,phase:2,block,severity:'ERROR',msg:'blocks'"
SecRule ARGS:a "@rx ." "id:3,phase:2,pass,severity:NOTICE,msg:'three'"`,
	"expressions see lines as (?sm) does": `
SecRule ARGS "@rx ^bcd$" "id:1,phase:2,pass,msg:'line'"
SecRule ARGS "@rx ^.+$" "id:2,phase:2,pass,msg:'all'"
SecRule ARGS "@rx a.b" "id:3,phase:2,pass,msg:'dot'"`,
	"captures stay until the next": `
SecRule ARGS "@rx (b)(c)?" "id:1,phase:2,pass,capture,msg:'%{tx.0}/%{tx.1}/%{tx.2}'"
SecRule TX:1 "@streq b" "id:2,phase:2,pass,msg:'b'"
SecRule TX:0|TX:2 "@rx ." "id:3,phase:2,pass,msg:'%{matched_var}'"`,
	"names and places of values": `
SecRule ARGS_NAMES|ARGS_GET_NAMES|ARGS_POST_NAMES "@rx ^[ab]" "id:1,phase:2,pass,msg:'%{matched_var_name}'"
SecRule ARGS_GET|ARGS_POST|QUERY_STRING|REQUEST_BODY "@rx b" "id:2,phase:2,pass,msg:'%{matched_var_name}'"
SecRule REQUEST_COOKIES|REQUEST_COOKIES_NAMES|REQUEST_HEADERS_NAMES "@rx ." "id:3,phase:2,pass,msg:'%{matched_var_name}'"
SecRule REQUEST_LINE|REQUEST_URI|REQUEST_FILENAME|REQUEST_BASENAME|REQUEST_METHOD|REQUEST_PROTOCOL "@rx ." "id:4,phase:1,pass,msg:'%{matched_var_name} %{matched_var}'"
SecRule ARGS_COMBINED_SIZE|REQBODY_PROCESSOR|REQBODY_ERROR "@rx ." "id:5,phase:2,pass,msg:'%{matched_var_name} %{matched_var}'"`,
	"answers": `
SecRule RESPONSE_STATUS "@rx ^5" "id:1,phase:3,pass,log,msg:'failed'"
SecRule RESPONSE_HEADERS:Server "@rx ." "id:2,phase:3,pass,log,msg:'server'"
SecRule RESPONSE_BODY "@contains secret" "id:3,phase:4,deny,log,msg:'secret'"
SecRule RESPONSE_BODY "@rx ." "id:4,phase:4,pass,log,msg:'body'"
SecRule RESPONSE_CONTENT_TYPE|RESPONSE_PROTOCOL "@rx ." "id:5,phase:3,pass,log,msg:'%{matched_var}'"`,
}

func ownMessages() (all []waf.Message) {
	for _, values := range []string{"", "a=1", "a=2&b=bcd", "a=1&b=bcd&b=b2", "b=7&c=abcd&c2=%20B", "a=x%0Abcd%0Ay&b=a%0Ab", "a=%ff&b=%zz&c=1", "bcd=bcd&a=0&a=12"} {
		get := client("GET", "/p/q.php?"+values)
		get.Header = append(get.Header, waf.Field{Name: "Cookie", Value: "a=1; theme=bcd"})
		all = append(all, get, post(client("POST", "/p?b=bcd"), "application/x-www-form-urlencoded", []byte(values)))
	}
	all = append(all, post(client("POST", "/j"), "application/json", []byte(`{"a":"1","b":["bcd",2,{"c":"Bcd"}]}`)))
	for _, body := range []string{"", "nothing", "a secret"} {
		m := client("GET", "/p?a=1")
		m.Status, m.AnswerBody = 200, []byte(body)
		m.Answer = []waf.Field{{Name: "Server", Value: "x/1"}, {Name: "Content-Type", Value: "text/html; charset=utf-8"}}
		all = append(all, m)
		m.Status, m.Answer = 503, []waf.Field{{Name: "Content-Type", Value: "application/octet-stream"}}
		all = append(all, m)
	}
	return all
}

// told is a verdict as an operator reads it.
func told(v *waf.Verdict) string {
	var b strings.Builder
	b.WriteString(sayOf(v).String())
	lines := make([]string, 0, len(v.Hits))
	for _, h := range v.Hits {
		lines = append(lines, strings.Join([]string{h.Msg, h.Severity, h.Target, h.Name, h.Text}, " | "))
	}
	return b.String() + "\n  " + strings.Join(slices.Sorted(slices.Values(lines)), "\n  ")
}

func TestSamenessOfOwnRules(t *testing.T) {
	for name, text := range ownRules {
		t.Run(name, func(t *testing.T) {
			same(t, waf.Config{NoCRS: true, After: []waf.Source{{Name: "own.conf", Text: []byte(text)}}}, ownMessages(), told)
		})
	}
}

// TestSamenessOfExclusions: what is left out is left out in both engines.
func TestSamenessOfExclusions(t *testing.T) {
	if raceEnabled {
		t.Skip("loads the rules thirty times; CI runs it without the race detector")
	}
	const sqli, xss = "1' or '1'='1' -- ", "<script>alert(1)</script>"
	var messages []waf.Message
	for _, text := range []string{sqli, xss, "../../etc/passwd"} {
		q := url.QueryEscape(text)
		get := client("GET", "/p?q="+q+"&note.1="+q+"&note.2=x")
		get.Header = append(get.Header, waf.Field{Name: "Cookie", Value: "c=" + q}, waf.Field{Name: "Referer", Value: text})
		messages = append(messages, get, post(client("POST", "/p"), "application/json", []byte(`{"a":{"note":"`+text+`"},"b":["`+text+`"]}`)),
			post(client("POST", "/p"), "application/xml", []byte(`<a b="`+url.PathEscape(text)+`">`+url.PathEscape(text)+`</a>`)))
	}
	for name, without := range map[string][]waf.Exclusion{
		"one rule at one value":           {{Rules: []string{"942100"}, In: waf.ArgGet, Name: "q"}},
		"a range at one value":            {{Rules: []string{"942000-942999"}, In: waf.ArgGet, Name: "q"}},
		"a tag at one value":              {{Rules: []string{"attack-xss"}, In: waf.ArgGet, Name: "q"}},
		"a JSON field":                    {{Rules: []string{"attack-sqli", "attack-xss"}, In: waf.ArgPost, Name: "json.a.note"}},
		"JSON fields by their beginning":  {{Rules: []string{"attack-sqli", "attack-xss"}, In: waf.ArgPost, Name: "json.b.*"}},
		"query values by their beginning": {{Rules: []string{"attack-sqli", "930000-930999"}, In: waf.ArgGet, Name: "note.*"}},
		"a header":                        {{Rules: []string{"941000-941999"}, In: waf.Header, Name: "Referer"}},
		"a cookie":                        {{Rules: []string{"942000-942999", "attack-lfi"}, In: waf.Cookie, Name: "c"}},
		"all of a place":                  {{Rules: []string{"attack-sqli"}, In: waf.Cookie}},
		"XML":                             {{Rules: []string{"attack-sqli", "attack-xss", "attack-lfi"}, In: waf.XMLText}, {Rules: []string{"attack-sqli", "attack-xss", "attack-lfi"}, In: waf.XMLAttr}},
		"a rule everywhere":               {{Rules: []string{"942100", "941110"}}},
		"a tag everywhere":                {{Rules: []string{"attack-lfi"}}},
		"a rule twice":                    {{Rules: []string{"942100", "942000-942999"}}, {Rules: []string{"942100"}, In: waf.ArgGet}},
		"the scoring rule itself":         {{Rules: []string{"949110"}}},
	} {
		t.Run(name, func(t *testing.T) {
			same(t, waf.Config{Paranoia: 2, Without: without}, messages, func(v *waf.Verdict) string { return sayOf(v).String() })
		})
	}
}

func same(t *testing.T, c waf.Config, messages []waf.Message, tell func(*waf.Verdict) string) {
	t.Helper()
	rules, err := waf.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := coraza.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	var f waf.Facts
	for _, m := range messages {
		v := ask(rules, &m, &f)
		got, want := tell(&v), ""
		for range 30 { // see TestSameness
			v := ask(reference, &m, &f)
			if want = tell(&v); want == got {
				break
			}
		}
		if got != want {
			t.Errorf("%s %s %q %d\n ours   %s\n Coraza %s", m.Method, m.Target, m.Body, m.Status, got, want)
		}
	}
}
