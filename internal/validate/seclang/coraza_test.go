package seclang_test

import (
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// peculiar are rules written in the ways of the language that CRS does not use.
const peculiar = `
SecRule REQUEST_HEADERS:X-Foo|ARGS:FOO|!ARGS:bar|&ARGS:/^A/ "!^a \"b\" \d\\" "id:5001,msg:'a, \'b\', c:d',severity:2,tag:x/y,tag:'z'"
SecRule ARGS|!ARGS:/^A|B\W/|!ARGS "@streq %{tx.a}" "id:'5002',phase:request,deny,pass,block,t:lowercase,t:NONE,t:URLDecodeUni,t:normalizePath"
SecRule REQUEST_COOKIES:/^A\W/|TX:'/^a|b/'|ARGS_NAMES "x" "id:5003,phase:5,t:trim,t:none,t:sha1,multiMatch,capture,status:406,nolog,auditlog,logdata:'%{matched_var} x'"
SecRule !ARGS:x|ARGS|XML:/* "@unconditionalMatch" "id:5004,phase:3,block,setvar:TX.A=b=c,setvar:tx.n=+%{TX.x},setvar:'tx.m=-2',setvar:!tx.O"
SecRule ARGS "!@contains a b" "id:5005,phase:1,chain, deny ,  log , skipAfter : END , ver:'a'"
  SecRule TX:1|MATCHED_VAR "!" "t:none,chain,capture,setvar:'tx.%{rule.id}_X=1'"
  # a comment in a chain

    SecRule &REQUEST_HEADERS:Host|REQUEST_HEADERS|!REQUEST_HEADERS:Cookie \
       "@ge 2"
SecAction "id:5006,phase:4,ctl:ruleRemoveTargetById=5-9;ARGS:Pass,ctl:ruleRemoveTargetByTag=x; REQUEST_COOKIES:/^A/ ,ctl:requestBodyProcessor=JSON,ctl:ruleRemoveById=7"
SecAction id:5007,allow:request,skip:2
SecMarker END
SecRule ARGS "@pmFromFile ssrf.data" \
    "id:5008,\
# why
    deny,\
    t:lowercase,tag:t5008,msg:'m'"
SecRuleUpdateTargetById 5008 "!ARGS:a|TX:B|!TX:b|&ARGS_GET"
SecRuleUpdateTargetById 5001-5003 "!ARGS:Zz"
SecRuleUpdateTargetByTag "t5008" "!ARGS:/X/"
SecRuleUpdateActionById 5008 "pass,nolog,msg:'b',t:trim,tag:u,severity:ERROR,setvar:tx.q=1"
SecRuleUpdateActionById 5003-5004 "status:500,log"
SecRuleRemoveById 5007 9000-9100
SecAction "id:5009,phase:2,tag:'gone'"
SecRuleRemoveByTag "gone"
`

// TestRulesAreReadAsCorazaReadsThem compares what is read with what Coraza holds
// in its memory after reading the same files.
func TestRulesAreReadAsCorazaReadsThem(t *testing.T) {
	sources := must(seclang.CRS(seclang.Setup{Paranoia: 2}))
	sources = append(sources, seclang.Source{Name: "peculiar.conf", Text: []byte(peculiar + "SecAction id:9050\n"), Data: sources[1].Data})
	i := strings.Index(peculiar, "SecRuleRemoveById")
	sources[len(sources)-1].Text = []byte(peculiar[:i] + "SecAction id:9050\n" + peculiar[i:]) // what a range removes must be there
	p, err := seclang.Parse(sources)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.Sub(coreruleset.FS, "@owasp_crs")
	if err != nil {
		t.Fatal(err)
	}
	c := coraza.NewWAFConfig().WithRootFS(data)
	for _, s := range sources {
		c = c.WithDirectives(string(s.Text))
	}
	w, err := coraza.NewWAF(c)
	if err != nil {
		t.Fatal(err)
	}
	rules := reflect.ValueOf(w).FieldByName("waf").Elem().FieldByName("Rules").FieldByName("rules")
	if rules.Len() != len(p.Items) {
		t.Errorf("%d rules and markers, Coraza has %d", len(p.Items), rules.Len())
	}
	for i := range min(rules.Len(), len(p.Items)) {
		got, want := ours(p.Items[i]), theirs(rules.Index(i))
		if got != want {
			t.Errorf("item %d\nours   %s\ntheirs %s", i, got, want)
		}
	}
}

// ours and theirs describe one rule with its chain, or a marker, in the same words.
func ours(item seclang.Item) string {
	if item.Rule == nil {
		return "marker " + item.Marker
	}
	var b strings.Builder
	for i, r := range chain(item.Rule) {
		if i == 0 {
			decides := r.Action
			if decides == "block" && r.Blocks != "" {
				decides = r.Blocks
			}
			decides, _, _ = strings.Cut(decides, ":")
			fmt.Fprintf(&b, "%d phase=%d %s log=%v", r.ID, r.Phase, decides, r.Log)
		}
		fmt.Fprintf(&b, "\n  capture=%v multi=%v status=%d severity=%q ver=%q tags=%q msg=%q logdata=%q skip=%d %q", r.Capture, r.MultiMatch, r.Status, strings.ToLower(r.Severity), r.Version, r.Tags, r.Msg, r.LogData, r.Skip, r.SkipAfter)
		for _, t := range r.Targets {
			key := t.Key
			rx := ""
			if t.KeyRx != nil {
				key, rx = "", t.KeyRx.String()
			}
			fmt.Fprintf(&b, "\n  target %s count=%v %q %q", t.Collection, t.Count, key, rx)
			for _, e := range t.Except {
				if rx = ""; e.KeyRx != nil {
					rx = e.KeyRx.String()
				}
				fmt.Fprintf(&b, " but %q %q", e.Key, rx)
			}
		}
		if r.Op.Name != "" {
			fmt.Fprintf(&b, "\n  op %v %s %q", r.Op.Negate, r.Op.Name, r.Op.Arg)
		}
		for _, t := range r.Transforms {
			if t != "none" { // t:NONE is one that changes nothing
				fmt.Fprintf(&b, " t:%s", strings.ToLower(t))
			}
		}
		for _, s := range r.SetVars {
			fmt.Fprintf(&b, "\n  set %q %q delete=%v", s.Name, strings.TrimPrefix(string(s.Op), "=")+s.Value, s.Delete)
		}
		for _, c := range r.Controls {
			rx := ""
			if c.Target.KeyRx != nil {
				rx = c.Target.KeyRx.String()
			}
			fmt.Fprintf(&b, "\n  ctl %q %s %q %q", c.Value, or(c.Target.Collection, "UNKNOWN"), c.Target.Key, rx)
		}
	}
	return b.String()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func theirs(r reflect.Value) string {
	meta := r.FieldByName("RuleMetadata")
	if mark := meta.FieldByName("SecMark_").String(); mark != "" {
		return "marker " + mark
	}
	var b strings.Builder
	for i := 0; ; i++ {
		meta := r.FieldByName("RuleMetadata")
		acts := r.FieldByName("actions")
		if i == 0 {
			decides := ""
			for k := range acts.Len() {
				if name := acts.Index(k).FieldByName("Name").String(); slices.Contains([]string{"pass", "deny", "drop", "allow", "block"}, name) {
					decides = name
				}
			}
			fmt.Fprintf(&b, "%d phase=%d %s log=%v", meta.FieldByName("ID_").Int(), meta.FieldByName("Phase_").Int(), decides, r.FieldByName("Log").Bool())
		}
		severity := ""
		if s := types.RuleSeverity(meta.FieldByName("Severity_").Int()); s >= 0 {
			severity = s.String()
		}
		var tags []string
		for k := range meta.FieldByName("Tags_").Len() {
			tags = append(tags, meta.FieldByName("Tags_").Index(k).String())
		}
		skip, after := int64(0), ""
		for k := range acts.Len() {
			a := acts.Index(k)
			switch fn := a.FieldByName("Function").Elem().Elem(); a.FieldByName("Name").String() {
			case "skip":
				skip = fn.FieldByName("data").Int()
			case "skipafter":
				after = fn.FieldByName("data").String()
			}
		}
		fmt.Fprintf(&b, "\n  capture=%v multi=%v status=%d severity=%q ver=%q tags=%q msg=%q logdata=%q skip=%d %q", r.FieldByName("Capture").Bool(), r.FieldByName("MultiMatch").Bool(),
			r.FieldByName("DisruptiveStatus").Int(), severity, meta.FieldByName("Version_").String(), tags, original(r.FieldByName("Msg")), original(r.FieldByName("LogData")), skip, after)
		for k := range r.FieldByName("variables").Len() {
			v := r.FieldByName("variables").Index(k)
			key, rx := keyOf(v)
			fmt.Fprintf(&b, "\n  target %s count=%v %q %q", variable(v.FieldByName("Variable")), v.FieldByName("Count").Bool(), key, rx)
			for n := range v.FieldByName("Exceptions").Len() {
				key, rx := keyOf(v.FieldByName("Exceptions").Index(n))
				fmt.Fprintf(&b, " but %q %q", strings.ToLower(key), rx)
			}
		}
		if op := r.FieldByName("operator"); !op.IsNil() {
			op = op.Elem()
			fmt.Fprintf(&b, "\n  op %v %s %q", op.FieldByName("Negation").Bool(), strings.TrimLeft(op.FieldByName("Function").String(), "!@"), op.FieldByName("Data").String())
		}
		for k := range r.FieldByName("transformations").Len() {
			name := runtime.FuncForPC(r.FieldByName("transformations").Index(k).FieldByName("Function").Pointer()).Name()
			name = strings.TrimPrefix(path.Ext(name), ".")
			if name != "none" {
				fmt.Fprintf(&b, " t:%s", strings.ToLower(strings.TrimSuffix(name, "T")))
			}
		}
		list := func(name string, do func(fn reflect.Value)) {
			for k := range acts.Len() {
				if acts.Index(k).FieldByName("Name").String() == name {
					do(acts.Index(k).FieldByName("Function").Elem().Elem())
				}
			}
		}
		list("setvar", func(fn reflect.Value) {
			fmt.Fprintf(&b, "\n  set %q %q delete=%v", strings.ToLower(original(fn.FieldByName("key"))), original(fn.FieldByName("value")), fn.FieldByName("isRemove").Bool())
		})
		list("ctl", func(fn reflect.Value) {
			rx := ""
			if x := fn.FieldByName("colKeyRx"); !x.IsNil() {
				rx = x.Elem().FieldByName("expr").String()
			}
			fmt.Fprintf(&b, "\n  ctl %q %s %q %q", fn.FieldByName("value").String(), variable(fn.FieldByName("collection")), fn.FieldByName("colKey").String(), rx)
		})
		if r.FieldByName("Chain").IsNil() {
			return b.String()
		}
		r = r.FieldByName("Chain").Elem()
	}
}

// original is the text of a macro, "" of none.
func original(v reflect.Value) string {
	if v.IsNil() {
		return ""
	}
	return v.Elem().Elem().FieldByName("original").String()
}

func keyOf(v reflect.Value) (key, rx string) {
	if x := v.FieldByName("KeyRx"); !x.IsNil() {
		return "", x.Elem().FieldByName("expr").String()
	}
	return v.FieldByName("KeyStr").String(), ""
}

func variable(v reflect.Value) string {
	return variables.RuleVariable(v.Uint()).Name()
}
