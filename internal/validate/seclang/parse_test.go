package seclang_test

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// read parses text as own.conf beside which there is the file words.data.
func read(text string) (*seclang.Program, error) {
	return seclang.Parse([]seclang.Source{{Name: "own.conf", Text: []byte(text), Data: func(file string) ([]byte, error) {
		if file == "words.data" {
			return []byte("alpha\nbeta\n"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
	}}})
}

func TestFaultsAreToldWithTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an unknown directive":                     {"SecRul ARGS \"x\" \"id:1\"", `own.conf:1:1: unknown directive "SecRul"; did you mean "SecRule"?`},
		"a directive without argument":             {"\nSecMarker", `own.conf:2:1: SecMarker needs an argument`},
		"include":                                  {"Include other.conf", `own.conf:1:1: Include is not supported: name each file in gatehouse.yaml`},
		"an engine switched off":                   {"SecRuleEngine Off", `own.conf:1:1: SecRuleEngine is not supported: say it in gatehouse.yaml`},
		"faults overlooked by order":               {"SecIgnoreRuleCompilationErrors On", `never left out`},
		"an unknown variable":                      {`SecRule ARGS|REQUEST_HEADER "@rx x" "id:1"`, `own.conf:1:14: unknown variable "REQUEST_HEADER"; did you mean "REQUEST_HEADERS"?`},
		"a variable in a later line":               {"SecRule \\\n   ARGZ \\\n \"@rx x\" \"id:1\"", `own.conf:2:4: unknown variable "ARGZ"; did you mean "ARGS"?`},
		"no variable":                              {`SecRule ARGS| "@rx x" "id:1"`, `own.conf:1:14: a target has no name`},
		"a member of what has none":                {`SecRule REQUEST_URI:a "@rx x" "id:1"`, `own.conf:1:21: REQUEST_URI has no members`},
		"a member without name":                    {`SecRule ARGS: "@rx x" "id:1"`, `own.conf:1:14: the name of the member is missing`},
		"a path of XML nobody supports":            {`SecRule XML:/a/b "@rx x" "id:1"`, `own.conf:1:13: the path "/a/b" is not supported: XML:/*`},
		"an open expression about names":           {`SecRule ARGS:/a\/b|ARGS "@rx x" "id:1"`, `own.conf:1:14: the expression that begins here is not closed with a slash`},
		"text behind an expression":                {`SecRule ARGS:/a/b "@rx x" "id:1"`, `own.conf:1:17: a bar and the next target must follow`},
		"a bad expression about names":             {`SecRule ARGS:/a(b/ "@rx x" "id:1"`, `own.conf:1:15: regular expression: missing closing )`},
		"an open quote about names":                {`SecRule ARGS:'/a/|ARGS "@rx x" "id:1"`, `own.conf:1:14: the quote around the member is not closed`},
		"a quoted name":                            {`SecRule ARGS:'a' "@rx x" "id:1"`, `own.conf:1:14: a quoted member must be an expression`},
		"an unknown operator":                      {`SecRule ARGS "@detectSQL" "id:1"`, `own.conf:1:15: unknown operator "@detectSQL" or one that is not supported; did you mean "detectSQLi"?`},
		"an operator in wrong case":                {`SecRule ARGS "@pmfromfile words.data" "id:1"`, `did you mean "pmFromFile"?`},
		"an operator that asks the network":        {`SecRule REMOTE_ADDR "@rbl example.org" "id:1"`, `unknown operator "@rbl" or one that is not supported`},
		"an operator without argument":             {`SecRule ARGS "@eq" "id:1"`, `own.conf:1:15: @eq needs an argument`},
		"a bad regular expression":                 {`SecRule ARGS "@rx abc[z-a]" "id:1"`, `own.conf:1:23: regular expression: invalid character class range: "z-a"`},
		"a bad regular expression in a later line": {"SecRule ARGS \\\n    \"@rx ab(?<=c)\" \"id:1\"", `own.conf:2:12: regular expression: invalid named capture: "(?<=c)"`},
		"an expression in no UTF-8":                {"SecRule ARGS \"@rx \xff\" \"id:1\"", `own.conf:1:19: the expression is no UTF-8`},
		"a data file that is not there":            {`SecRule ARGS "@pmFromFile wrods.data" "id:1"`, `own.conf:1:27: open wrods.data: file does not exist`},
		"an open quote around the operator":        {`SecRule ARGS "@rx x id:1`, `own.conf:1:14: the quote that opens the operator is not closed`},
		"a quote behind two backslashes":           {`SecRule ARGS "x\\\\"c" "id:1"`, `own.conf:1:21: the actions must stand in double quotes`},
		"an operator without quotes":               {`SecRule ARGS @rx "id:1"`, `own.conf:1:14: the operator must stand in double quotes`},
		"an open quote around the actions":         {`SecRule ARGS "@rx x" "id:1`, `own.conf:1:22: the actions must stand in double quotes`},
		"an open quote in the actions":             {`SecRule ARGS "@rx x" "id:1,msg:'it,log"`, `own.conf:1:32: the quote that opens here is not closed`},
		"an unknown action":                        {`SecRule ARGS "@rx x" "id:1,serverity:2"`, `own.conf:1:28: unknown action "serverity"; did you mean "severity"?`},
		"a comma too many":                         {`SecRule ARGS "@rx x" "id:1,,log"`, `own.conf:1:28: an action is missing`},
		"an action that runs programs":             {`SecRule ARGS "@rx x" "id:1,exec:/bin/sh"`, `own.conf:1:28: the action exec is not supported`},
		"an unknown transformation":                {`SecRule ARGS "@rx x" "id:1,t:urlDecodeUnicode"`, `own.conf:1:30: unknown transformation "urlDecodeUnicode"`},
		"a transformation misspelt":                {`SecRule ARGS "@rx x" "id:1,t:lowercsae"`, `did you mean "lowercase"?`},
		"no id":                                    {`SecRule ARGS "@rx x" "phase:2,deny"`, `own.conf:1:1: the rule has no id`},
		"no actions":                               {`SecRule ARGS "@rx x"`, `own.conf:1:1: the rule has no id`},
		"an id taken":                              {"SecAction id:7\nSecAction \"id:7,pass\"", `own.conf:2:1: the id 7 is taken by the rule at own.conf:1:1`},
		"an id that is none":                       {"SecAction id:-7", `own.conf:1:14: "-7" is no id`},
		"a phase that is none":                     {"SecAction id:7,phase:6", `own.conf:1:22: "6" is no phase`},
		"a severity that is none":                  {"SecAction id:7,severity:HIGH", `own.conf:1:25: "HIGH" is no severity`},
		"a chain without end":                      {"SecRule ARGS \"@rx x\" \"id:1,chain\"", `own.conf:1:1: the chain goes on, but no rule follows`},
		"a chain cut by a marker":                  {"SecRule ARGS \"@rx x\" \"id:1,chain\"\nSecMarker X\nSecRule ARGS \"@rx y\" \"id:2\"", `own.conf:1:1: the chain goes on, but no rule follows`},
		"an id in a chain":                         {"SecRule ARGS \"@rx x\" \"id:1,chain\"\nSecRule ARGS \"@rx y\" \"id:2\"", `own.conf:2:23: the action id stands in a rule of a chain`},
		"a decision in a chain":                    {"SecRule ARGS \"@rx x\" \"id:1,chain\"\nSecRule ARGS \"@rx y\" \"deny\"", `own.conf:2:23: deny stands in a rule of a chain`},
		"a skip in a chain":                        {"SecRule ARGS \"@rx x\" \"id:1,chain\"\nSecRule ARGS \"@rx y\" \"skip:1\"", `own.conf:2:23: skip stands in a rule of a chain`},
		"a macro that is not closed":               {`SecAction "id:1,msg:'a %{TX.0'"`, `own.conf:1:24: the macro that begins here is not closed`},
		"a macro of an unknown variable":           {`SecAction "id:1,msg:'a %{TXX.0}'"`, `own.conf:1:26: %{TXX.0}: unknown variable "TXX"`},
		"a macro with a space":                     {`SecAction "id:1,msg:'a %{TX. 0}'"`, `own.conf:1:29: " " can not be part of the macro`},
		"a macro without member":                   {`SecAction "id:1,msg:'a %{TX.}'"`, `the member is missing`},
		"a macro in an operator":                   {`SecRule ARGS "@streq %{TX.a" "id:1"`, `own.conf:1:22: the macro that begins here`},
		"a variable set without value":             {`SecAction "id:1,setvar:tx.a"`, `own.conf:1:24: tx.a has no value: write tx.a=1 or !tx.a`},
		"a variable that lives longer":             {`SecAction "id:1,setvar:ip.a=1"`, `own.conf:1:24: "ip.a" can not be set`},
		"an unknown control":                       {`SecAction "id:1,ctl:ruleRemoveByID=7"`, `own.conf:1:21: ctl:ruleRemoveByID is unknown or not supported; did you mean "ruleRemoveById"?`},
		"a control of the body's access":           {`SecAction "id:1,ctl:requestBodyAccess=Off"`, `ctl:requestBodyAccess is unknown or not supported`},
		"a control without target":                 {`SecAction "id:1,ctl:ruleRemoveTargetById=7"`, `own.conf:1:21: ctl:ruleRemoveTargetById needs a target`},
		"a control of an unknown variable":         {`SecAction "id:1,ctl:ruleRemoveTargetById=7;ARG:x"`, `own.conf:1:44: unknown variable "ARG"; did you mean "ARGS"?`},
		"a control of no id":                       {`SecAction "id:1,ctl:ruleRemoveById=x"`, `own.conf:1:36: "x" is no id`},
		"a skip to where nothing is":               {"SecMarker END\nSecAction \"id:1,skipAfter:END\"\nSecMarker ENDE", `own.conf:2:1: rule 1 skips to the marker "END", which does not follow`},
		"default actions without phase":            {`SecDefaultAction "log,pass"`, `own.conf:1:19: default actions need a phase`},
		"default actions that decide nothing":      {`SecDefaultAction "phase:1,log"`, `default actions need one that decides`},
		"default actions with a transformation":    {`SecDefaultAction "phase:1,pass,t:lowercase"`, `own.conf:1:32: t can not be a default action`},
		"default actions said twice":               {"SecDefaultAction phase:1,pass\nSecDefaultAction phase:1,deny", `own.conf:2:1: the default actions of phase 1 are set at own.conf:1:1 already`},
		"removal of no rule":                       {"SecAction id:7\nSecRuleRemoveById 8", `own.conf:2:19: there is no rule 8 above this line`},
		"removal by an unknown tag":                {"SecAction id:7,tag:attack-sqli\nSecRuleRemoveByTag attack-sql", `own.conf:2:20: no rule above this line has the tag "attack-sql"; did you mean "attack-sqli"?`},
		"an update of no rule":                     {`SecRuleUpdateTargetById 8 "!ARGS:x"`, `own.conf:1:25: there is no rule 8 above this line`},
		"an update without targets":                {`SecRuleUpdateTargetById 8`, `own.conf:1:25: two arguments are needed`},
		"a range backwards":                        {`SecRuleRemoveById 9-8`, `own.conf:1:19: "9-8" is no id`},
		"a chain changed":                          {"SecAction id:7\nSecRuleUpdateActionById 7 \"chain\"", `own.conf:2:28: the chain of a rule can not be changed`},
		"a file that ends in the middle":           {"SecAction id:7,\\\n  log,\\\n", `own.conf:2:3: the line ends with a backslash, but the file ends here`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := read(c.text)
			if err == nil || p != nil {
				t.Fatalf("no error; %+v", p)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	_, err := read("SecRule ARGZ \"@rxx y\" \"id:1,chain\"\n  SecRule ARGS \"@rx x\" \"t:nome\"\nSecRule ARGS \"@rx x\" \"id:2,fog\"\n" + strings.Repeat("SecFoo\n", 30))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 20 || !strings.Contains(lines[1], "@rxx") || !strings.Contains(lines[2], "nome") || !strings.Contains(lines[3], "own.conf:3:") {
		t.Errorf("%d faults:\n%v", len(lines), err)
	}
}

func one(t *testing.T, text string) *seclang.Rule {
	t.Helper()
	p, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	return p.Items[len(p.Items)-1].Rule
}

// words gives values with spaces between them.
func words(v ...any) string { return strings.TrimSpace(fmt.Sprintln(v...)) }

func TestRulesMeanWhatCorazaTakesThemFor(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		got  func(*seclang.Rule) string
		want string
	}{
		"a rule without phase is of phase 2, logs and passes": {
			`SecRule ARGS "x" "id:1"`,
			func(r *seclang.Rule) string { return words(r.Phase, r.Log, r.Action) }, "2 true pass",
		},
		"a rule of phase 1 without default actions logs nothing": {
			`SecRule ARGS "x" "id:1,phase:1"`,
			func(r *seclang.Rule) string { return words(r.Phase, r.Log, r.Action == "") }, "1 false true",
		},
		"block is what the default action says": {
			"SecDefaultAction \"phase:2,deny,status:406\"\nSecRule ARGS \"x\" \"id:1,block\"",
			func(r *seclang.Rule) string { return words(r.Action, r.Blocks, r.Status, r.Log) }, "block deny 406 false",
		},
		"block without default action does nothing": {
			`SecRule RESPONSE_BODY "x" "id:1,phase:4,block"`,
			func(r *seclang.Rule) string { return r.Action + "/" + r.Blocks }, "block/",
		},
		"own actions come behind the default ones": {
			"SecDefaultAction \"phase:1,deny,log,setvar:tx.a=1\"\nSecRule ARGS \"x\" \"id:1,phase:1,nolog,pass,setvar:tx.b=2\"",
			func(r *seclang.Rule) string { return words(r.Action, r.Log, r.SetVars[0].Name, r.SetVars[1].Name) }, "pass false a b",
		},
		"of two decisions the last counts": {
			`SecRule ARGS "x" "id:1,deny,log,pass"`,
			func(r *seclang.Rule) string { return r.Action }, "pass",
		},
		"a quote behind a backslash is text, other backslashes stay": {
			`SecRule ARGS "!^a \"b\" \d\\" "id:1"`,
			func(r *seclang.Rule) string { return fmt.Sprintf("%s %v %s", r.Op.Name, r.Op.Negate, r.Op.Arg) }, `rx true ^a "b" \d\\`,
		},
		"t:none drops what was said before": {
			`SecRule ARGS "x" "id:1,t:lowercase,t:none,t:URLDecodeUni,t:normalizePath"`,
			func(r *seclang.Rule) string { return strings.Join(r.Transforms, " ") }, "urlDecodeUni normalisePath",
		},
		"names of ARGS keep their case and others do not": {
			`SecRule ARGS:User_ID|REQUEST_HEADERS:User-Agent|&TX:A "x" "id:1"`,
			func(r *seclang.Rule) string { return r.Targets[0].Key + r.Targets[1].Key + r.Targets[2].Key }, "User_IDuser-agenta",
		},
		"expressions about names may be quoted, and hold bars": {
			`SecRule ARGS:'/^a|b\/$/'|REQUEST_COOKIES:/^A\W/ "x" "id:1"`,
			func(r *seclang.Rule) string { return r.Targets[0].KeyRx.String() + " " + r.Targets[1].KeyRx.String() }, `^a|b\/$ ^a\w`,
		},
		"an exception counts for the targets before it": {
			`SecRule ARGS|!ARGS:A|ARGS:b|!REQUEST_COOKIES:c "x" "id:1"`,
			func(r *seclang.Rule) string { return words(r.Targets[0].Except, r.Targets[1].Except) }, "[{a <nil>}] []",
		},
		"a comma in quotes separates nothing": {
			`SecAction "id:'1',msg:'a, \'b\', c:d',severity:2,tag:x/y"`,
			func(r *seclang.Rule) string { return r.Msg + " " + r.Severity + " " + r.Tags[0] }, `a, \'b\', c:d CRITICAL x/y`,
		},
		"a variable is set, counted up and removed": {
			`SecAction "id:1,setvar:TX.A=b=c,setvar:tx.n=+%{TX.x},setvar:'tx.m=-2',setvar:!tx.o"`,
			func(r *seclang.Rule) string { return words(r.SetVars) }, "[{a b=c 61 false} {n %{TX.x} 43 false} {m 2 45 false} {o  61 true}]",
		},
		"controls with their targets": {
			`SecAction "id:1,ctl:ruleRemoveTargetById=5-9;ARGS:Pass,ctl:ruleRemoveTargetByTag=x;REQUEST_COOKIES:/^A/,ctl:requestBodyProcessor=json"`,
			func(r *seclang.Rule) string {
				c := r.Controls
				return words(c[0].Value, c[0].Target.Key, c[1].Target.Collection, c[1].Target.KeyRx, c[2].Value)
			}, "5-9 pass REQUEST_COOKIES ^A JSON",
		},
		"comments and empty lines may stand in a rule": {
			"SecRule ARGS \\\n# why\n\n   \"x\" \\\n  \"id:1,\\\n  deny\"\r\n",
			func(r *seclang.Rule) string { return words(r.Action, r.Place) }, "deny own.conf:1:1",
		},
		"a link has the phase of its chain": {
			"SecRule ARGS \"x\" \"id:1,phase:1,deny,chain\"\n SecRule TX:1 \"!@eq 2\" \"t:none,chain\"\n  SecRule TX:2 \"@eq 2\"",
			func(r *seclang.Rule) string { return words(len(r.Chain), r.Chain[1].Phase, r.Chain[0].Op.Negate) }, "2 1 true",
		},
		"data files are read": {
			`SecRule ARGS "@pmFromFile words.data" "id:1"`,
			func(r *seclang.Rule) string { return string(r.Op.Data) }, "alpha\nbeta\n",
		},
		"allow has a reach": {
			`SecAction "id:1,allow:request"`,
			func(r *seclang.Rule) string { return r.Action }, "allow:request",
		},
		"actions are updated": {
			"SecRule ARGS \"x\" \"id:1,deny,t:lowercase,msg:'a'\"\nSecRuleUpdateActionById 1 \"pass,nolog,msg:'b c',t:trim\"",
			func(r *seclang.Rule) string { return words(r.Action, r.Log, r.Msg, r.Transforms) }, "pass false b c [lowercase trim]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.got(one(t, c.text)); got != c.want {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestRulesAreUpdatedByIDRangeAndTag(t *testing.T) {
	r := one(t, "SecRule ARGS \"x\" \"id:1,tag:t\"\nSecRuleUpdateTargetById 1 1-3 \"!ARGS:a|TX:b\"\nSecRuleUpdateTargetByTag \"t\" \"!ARGS:c\"\nSecRuleUpdateTargetById 1 !ARGS:d")
	if got := fmt.Sprint(r.Targets); got != "[{ARGS  <nil> false [{a <nil>} {c <nil>} {d <nil>}]} {TX b <nil> false []}]" {
		t.Error(got)
	}
}

func TestOwnRulesChangeTheCoreRuleSet(t *testing.T) {
	p := crs(t, seclang.Setup{}, seclang.Source{Name: "own.conf", Text: []byte("SecRuleRemoveById 942100 941000-941999\nSecRuleRemoveByTag attack-injection-php\nSecRuleRemoveByMsg \"OS File Access Attempt\"\nSecRuleUpdateTargetById 942000-942999 \"!ARGS:note\"\n" +
		"SecRule ARGS:role \"@streq admin\" \"id:100,phase:2,deny,msg:'no'\"\n")})
	for _, item := range p.Items {
		r := item.Rule
		if r == nil {
			continue
		}
		if r.ID == 942100 || r.ID/1000 == 941 || r.ID == 930120 || strings.Contains(strings.Join(r.Tags, " "), "attack-injection-php") {
			t.Errorf("rule %d is still there", r.ID)
		}
		if r.ID == 942140 && !strings.Contains(fmt.Sprint(r.Targets), "{note <nil>}") {
			t.Errorf("%v", r.Targets)
		}
	}
	if r := p.Items[len(p.Items)-1].Rule; r.ID != 100 || r.Place.String() != "own.conf:5:1" {
		t.Errorf("%+v", r)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range must(seclang.CRS(seclang.Setup{Paranoia: 4})) {
		rules := strings.Split(string(s.Text), "\nSecRule ")
		for i := 1; i < len(rules); i += 12 {
			f.Add("SecRule " + rules[i])
		}
	}
	f.Add("SecDefaultAction phase:2,deny\nSecAction id:1,skipAfter:E\nSecRuleUpdateTargetById 1 \"!ARGS:/a/\"\nSecRuleUpdateActionById 1-2 \"t:none,ctl:ruleRemoveTargetById=1;ARGS:b\"\nSecMarker E\nSecRuleRemoveByTag t")
	place := regexp.MustCompile(`^own\.conf:[1-9][0-9]*:[1-9][0-9]*: .`)
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		_, err := read(text)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v for %d bytes", took, len(text))
		}
		if err == nil {
			return
		}
		for {
			many, ok := errors.AsType[interface {
				error
				Unwrap() []error
			}](err)
			if !ok {
				break
			}
			err = many.Unwrap()[0]
		}
		if !place.MatchString(err.Error()) {
			t.Errorf("no place: %q", err)
		}
	})
}

func TestDigestsTellRulesApart(t *testing.T) {
	const rule = `SecRule ARGS "@rx a" "id:1,phase:2,deny,t:none,chain"` + "\n" + `SecRule TX:1 "@eq 1" "setvar:tx.a=1"`
	same := one(t, rule).Digest()
	for name, c := range map[string]struct {
		from, to string
		same     bool
	}{
		"another message":           {"deny", "pass,msg:'x',tag:y,log", true},
		"a member that is left out": {"ARGS", "ARGS|!ARGS:x", true},
		"another pattern":           {"@rx a", "@rx b", false},
		"another operator":          {"@rx", "@streq", false},
		"a negated operator":        {"@rx", "!@rx", false},
		"one more target":           {"ARGS", "ARGS|ARGS_NAMES", false},
		"a count of targets":        {"ARGS", "&ARGS", false},
		"a transformation":          {"t:none", "t:trim", false},
		"another link":              {"@eq 1", "@eq 2", false},
		"another variable set":      {"tx.a", "tx.b", false},
		"another phase":             {"phase:2", "phase:1", false},
		"another id":                {"id:1", "id:2", false},
	} {
		if got := one(t, strings.Replace(rule, c.from, c.to, 1)).Digest() == same; got != c.same {
			t.Errorf("%s: the same digest is %v", name, got)
		}
	}
}
