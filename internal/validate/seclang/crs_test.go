package seclang_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

var update = flag.Bool("update", false, "write testdata/rules.golden")

func crs(t testing.TB, setup seclang.Setup, own ...seclang.Source) *seclang.Program {
	t.Helper()
	sources, err := seclang.CRS(setup)
	if err != nil {
		t.Fatal(err)
	}
	p, err := seclang.Parse(append(sources, own...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ruleOf(t testing.TB, p *seclang.Program, id int) *seclang.Rule {
	t.Helper()
	for _, item := range p.Items {
		if item.Rule != nil && item.Rule.ID == id {
			return item.Rule
		}
	}
	t.Fatalf("there is no rule %d", id)
	return nil
}

func chain(r *seclang.Rule) []*seclang.Rule { return append([]*seclang.Rule{r}, r.Chain...) }

func TestTheWholeCoreRuleSetIsRead(t *testing.T) {
	// The numbers are those of grep over the files of 4.25.0, and one action is
	// the settings'.
	p := crs(t, seclang.Setup{})
	var rules, actions, markers, withData, top int
	for _, item := range p.Items {
		if item.Rule == nil {
			markers++
			continue
		}
		top++
		for _, r := range chain(item.Rule) {
			if r.Op.Name == "" {
				actions++
				continue
			}
			rules++
			if len(r.Targets) == 0 {
				t.Errorf("%s: a rule that looks at nothing", r.Place)
			}
			if r.Op.Data != nil {
				withData++
			}
			if r.Phase != item.Rule.Phase || r != item.Rule && (r.ID != 0 || r.Chain != nil || r.Action != "") {
				t.Errorf("%s: phase %d, id %d, action %q in a chain of phase %d", r.Place, r.Phase, r.ID, r.Action, item.Rule.Phase)
			}
		}
		if r := item.Rule; r.Action == "block" && (r.Blocks != "pass" || !r.Log) {
			t.Errorf("rule %d of phase %d: block means %q, log %v", r.ID, r.Phase, r.Blocks, r.Log)
		}
	}
	got := fmt.Sprint(top, " with id, ", rules, " SecRule, ", actions, " SecAction, ", markers, " markers, ", withData, " with a data file")
	if want := "626 with id, 690 SecRule, 8 SecAction, 30 markers, 21 with a data file"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTargetUpdatesOfTheCoreRuleSetAreApplied(t *testing.T) {
	p := crs(t, seclang.Setup{})
	except := 0
	for _, item := range p.Items {
		if item.Rule == nil {
			continue
		}
		for _, tg := range item.Rule.Targets {
			if tg.Collection == "REQUEST_COOKIES" && item.Rule.ID != 921250 {
				except += len(tg.Except)
			}
		}
	}
	// 54 of the 55 updates are about cookies; 942420, 942421, 942490 and others
	// have exceptions of their own.
	own := 0
	for _, f := range must(seclang.CRS(seclang.Setup{})) {
		for line := range strings.Lines(string(f.Text)) {
			if strings.HasPrefix(strings.TrimSpace(line), "SecRule ") {
				own += strings.Count(line, "!REQUEST_COOKIES:")
			}
		}
	}
	if except-own != 54 {
		t.Errorf("%d exceptions about cookies beside the rules' own %d, want 54", except, own)
	}
	names := ruleOf(t, p, 930120).Targets
	if i := slices.IndexFunc(names, func(tg seclang.Target) bool { return tg.Collection == "ARGS_NAMES" }); i < 0 || len(names[i].Except) != 1 || names[i].Except[0].Key != "json.profile" {
		t.Errorf("930120 looks at json.profile: %+v", names)
	}
}

func TestRulesAboutXMLLookAtAttributes(t *testing.T) {
	// GHSA-6jp8-c2w2-x7wr: 4.25.0 looks at attributes in 14 of 174 rules.
	n := 0
	for _, item := range crs(t, seclang.Setup{}).Items {
		if item.Rule == nil {
			continue
		}
		for _, r := range chain(item.Rule) {
			var keys []string
			for _, tg := range r.Targets {
				if tg.Collection == "XML" {
					keys = append(keys, tg.Key)
				}
			}
			if len(keys) > 0 {
				n++
				if !slices.Equal(keys, []string{"/*", "//@*"}) {
					t.Errorf("%s: rule %d looks at %v of XML", r.Place, item.Rule.ID, keys)
				}
			}
		}
	}
	if n != 174 {
		t.Errorf("%d rules look at XML, want 174", n)
	}
}

func TestSettingsReachTheRules(t *testing.T) {
	r := ruleOf(t, crs(t, seclang.Setup{
		Paranoia: 2, Detect: 3, Inbound: 7, Methods: []string{"GET", "PUT"}, ContentTypes: []string{"application/json", "text/xml"},
		Set: map[string]string{"max_num_args": "255"},
	}), 9900990)
	got := map[string]string{}
	for _, s := range r.SetVars {
		got[s.Name] = string(s.Op) + s.Value
	}
	want := map[string]string{
		"crs_setup_version": "=4250", "blocking_paranoia_level": "=2", "detection_paranoia_level": "=3", "inbound_anomaly_score_threshold": "=7",
		"allowed_methods": "=GET PUT", "allowed_request_content_type": "=|application/json| |text/xml|", "max_num_args": "=255",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestASettingCannotWriteARule(t *testing.T) {
	for name, s := range map[string]seclang.Setup{
		"a quote in a method":         {Methods: []string{"GET'\"\nSecRuleEngine Off"}},
		"a comma is fine, a quote no": {ContentTypes: []string{"a/b',ctl:ruleEngine=Off,setvar:'tx.x=1"}},
		"a macro in a value":          {Set: map[string]string{"x": "%{ARGS.q}"}},
		"a name with a value":         {Set: map[string]string{"x=1": "y"}},
		"a line end in a value":       {Set: map[string]string{"x": "1\n"}},
	} {
		if _, err := seclang.CRS(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestEveryRuleSurvivesBeingWrittenAndReadAgain writes each rule as [show] does,
// which knows nothing of the reader, and reads that.
func TestEveryRuleSurvivesBeingWrittenAndReadAgain(t *testing.T) {
	sources := must(seclang.CRS(seclang.Setup{}))
	data := sources[1].Data
	p := crs(t, seclang.Setup{})
	var defaults strings.Builder
	for phase := range 5 {
		fmt.Fprintf(&defaults, "SecDefaultAction phase:%d,log,pass\n", phase+1)
	}
	for _, item := range p.Items {
		if item.Rule == nil {
			continue
		}
		text := defaults.String() + show(item.Rule) + "\nSecMarker " + item.Rule.SkipAfter + "-\n"
		if item.Rule.SkipAfter != "" {
			text += "SecMarker " + item.Rule.SkipAfter + "\n"
		}
		again, err := seclang.Parse([]seclang.Source{{Name: "again", Text: []byte(text), Data: data}})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got := chain(again.Items[0].Rule)
		for i, want := range chain(item.Rule) {
			w, g := *want, *got[i]
			w.Place, w.Chain, g.Place, g.Chain = seclang.Place{}, nil, seclang.Place{}, nil
			if !reflect.DeepEqual(w, g) {
				t.Errorf("rule %d.%d\nwas   %+v\nis    %+v\nas %s", item.Rule.ID, i, w, g, text)
			}
		}
	}
}

func TestSomeRulesAreReadAsAPersonReadThem(t *testing.T) {
	// Checked by eye against the files of CRS when it was written.
	p := crs(t, seclang.Setup{})
	var b bytes.Buffer
	for _, id := range []int{901410, 905100, 911100, 913100, 920100, 920230, 920270, 920450, 920540, 921180, 921250, 922100, 930120, 932240, 934130, 941100, 942100, 942440, 949110, 951100, 980170} {
		fmt.Fprintf(&b, "%s\n\n", show(ruleOf(t, p, id)))
	}
	if *update {
		if err := os.WriteFile("testdata/rules.golden", b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/rules.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got\n%s", b.Bytes())
	}
}

// show writes a rule in one canonical form.
func show(rule *seclang.Rule) string {
	var b strings.Builder
	all := chain(rule)
	for i, r := range all {
		var acts []string
		add := func(key, value string) { acts = append(acts, key+":'"+value+"'") }
		if i == 0 {
			add("id", fmt.Sprint(r.ID))
			add("phase", fmt.Sprint(r.Phase))
			if r.Action != "" {
				acts = append(acts, r.Action)
			}
		} else {
			b.WriteString("\n  ")
		}
		if r.Log {
			acts = append(acts, "log")
		} else {
			acts = append(acts, "nolog")
		}
		if r.Status != 0 {
			add("status", fmt.Sprint(r.Status))
		}
		for _, t := range r.Transforms {
			add("t", t)
		}
		if r.MultiMatch {
			acts = append(acts, "multiMatch")
		}
		if r.Capture {
			acts = append(acts, "capture")
		}
		for _, one := range [][2]string{{"msg", r.Msg}, {"logdata", r.LogData}, {"severity", r.Severity}, {"ver", r.Version}, {"skipAfter", r.SkipAfter}} {
			if one[1] != "" {
				add(one[0], one[1])
			}
		}
		if r.Skip > 0 {
			add("skip", fmt.Sprint(r.Skip))
		}
		for _, tag := range r.Tags {
			add("tag", tag)
		}
		for _, s := range r.SetVars {
			sign := strings.TrimPrefix(string(s.Op), "=")
			add("setvar", "tx."+s.Name+"="+sign+s.Value)
		}
		for _, c := range r.Controls {
			target := ""
			if c.Target.Collection != "" {
				target = ";" + showTarget(c.Target)
			}
			add("ctl", c.Name+"="+c.Value+target)
		}
		if i < len(all)-1 {
			acts = append(acts, "chain")
		}
		if r.Op.Name == "" {
			fmt.Fprintf(&b, "SecAction \"%s\"", strings.Join(acts, ","))
			continue
		}
		var targets []string
		except := map[string]bool{}
		for _, t := range r.Targets {
			targets = append(targets, showTarget(t))
		}
		for _, t := range r.Targets {
			for _, e := range t.Except {
				one := "!" + showTarget(seclang.Target{Collection: t.Collection, Key: e.Key, KeyRx: e.KeyRx})
				if !except[one] {
					except[one] = true
					targets = append(targets, one)
				}
			}
		}
		not := map[bool]string{true: "!"}[r.Op.Negate]
		fmt.Fprintf(&b, "SecRule %s \"%s@%s %s\" \"%s\"", strings.Join(targets, "|"), not, r.Op.Name, strings.ReplaceAll(r.Op.Arg, `"`, `\"`), strings.Join(acts, ","))
	}
	return b.String()
}

func showTarget(t seclang.Target) string {
	s := t.Collection
	if t.Count {
		s = "&" + s
	}
	switch {
	case t.KeyRx != nil:
		s += ":/" + t.KeyRx.String() + "/"
	case t.Key != "":
		s += ":" + t.Key
	}
	return s
}

// Measured: 25 ms on one core of a 2-core AMD EPYC, half of it the check of 295
// regular expressions.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		crs(b, seclang.Setup{Paranoia: 4})
	}
}
