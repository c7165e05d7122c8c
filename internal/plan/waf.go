package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

var modes = map[string]validate.Mode{"report": validate.Report, "enforce": validate.Enforce}

// loadWAF reads the rules for content and makes their engine, or takes that of
// the plan at work where nothing of it changed; sum gets the text of those that
// are the user's own.
func (p *Plan) loadWAF(sum io.Writer, at *Plan) error {
	w := &p.File.WAF
	if !wantsWAF(p.File) {
		return nil
	}
	c := validate.RulesConfig{
		Paranoia: w.Paranoia, Detect: w.Detect, Threshold: w.Threshold, Outbound: w.Outbound,
		NoCRS: !w.CoreRules, Budget: int64(w.Budget),
	}
	if w.Engine == "coraza" { // ours is told for each operation
		for _, e := range w.Exclude {
			c.Without = append(c.Without, validate.RulesExclusion{Rules: config.Values(e.Rules)})
		}
	}
	made := sha256.New()
	_, _ = fmt.Fprintf(made, "%s %+v", w.Engine, c)
	sum = io.MultiWriter(sum, made)
	var errs []error
	read := func(paths []config.Path) (out []validate.RuleSource) {
		_, _ = fmt.Fprintln(made, len(paths))
		for _, path := range paths {
			text, err := os.ReadFile(path.Value)
			if err != nil {
				errs = append(errs, config.Errorf(path.Place, "waf: cannot read the rules: %v", err))
				continue
			}
			p.Watch = append(p.Watch, path.Value)
			_, _ = fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(path.Value), len(text), text)
			out = append(out, validate.RuleSource{Name: path.Value, Text: text})
		}
		return out
	}
	c.Before, c.After = read(w.Before), read(w.Rules)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.wafMade = hex.EncodeToString(made.Sum(nil))
	if at != nil && at.waf != nil && at.wafMade == p.wafMade {
		p.waf = at.waf
		return nil
	}
	var err error
	p.waf, err = validate.LoadWAF(w.Engine, c)
	return err
}

// leakNames refuses names of leak rules that there are not.
func leakNames(f *config.File) error {
	known := validate.LeakRules()
	var errs []error
	look := func(at string, names []config.Text) {
		for _, n := range names {
			if !slices.Contains(known, n.Value) {
				hint := config.DidYouMean(n.Value, known)
				if hint == "" {
					hint = "; there are " + strings.Join(known, ", ")
				}
				errs = append(errs, config.Errorf(n.Place, "%s.not_leaks: there is no leak rule %q%s", at, n.Value, hint))
			}
		}
	}
	look("waf", f.WAF.NotLeaks)
	for _, name := range slices.Sorted(maps.Keys(f.APIs)) {
		look("apis."+name+".waf", f.APIs[name].WAF.NotLeaks)
		for _, id := range slices.Sorted(maps.Keys(f.APIs[name].Operations)) {
			look("apis."+name+".operations."+id+".waf", f.APIs[name].Operations[id].WAF.NotLeaks)
		}
	}
	return errors.Join(errs...)
}

// wantsWAF reports whether any operation may have the rules asked.
func wantsWAF(f *config.File) bool {
	on := func(m string) bool { return m == "report" || m == "enforce" }
	if f.WAF.Mode == "off" {
		return false
	}
	for _, api := range f.APIs {
		if on(orElse(api.WAF.Mode, f.WAF.Mode)) || on(orElse(api.WAF.Answers, f.WAF.Answers)) {
			return true
		}
		for _, op := range api.Operations {
			if on(op.WAF.Mode) || on(op.WAF.Answers) {
				return true
			}
		}
	}
	return false
}

// content fills in what the rules for content do at an operation.
func content(s *validate.Settings, f *config.File, api *config.API, op *config.Operation) {
	here, w := config.WAFHere{}, &f.WAF
	if op != nil {
		here = op.WAF
	}
	pick := func(own, apis, all string) validate.Mode { return modes[orElse(own, orElse(apis, all))] }
	s.Leaks = pick(here.Leaks, api.WAF.Leaks, w.Leaks)
	s.LeakOptions.Without = slices.Concat(config.Values(w.NotLeaks), config.Values(api.WAF.NotLeaks), config.Values(here.NotLeaks))
	s.PassOverBudget = w.OverBudget == "pass"
	if w.Mode == "off" {
		return
	}
	s.Rules = pick(here.Mode, api.WAF.Mode, w.Mode)
	s.AnswerRules = pick(here.Answers, api.WAF.Answers, w.Answers)
	s.Deeper = min(s.Rules, pick(here.Deeper, api.WAF.Deeper, w.Deeper))
	for _, list := range [3][]config.WAFExclusion{w.Exclude, api.WAF.Exclude, here.Exclude} {
		for _, e := range list {
			s.Exclude = append(s.Exclude, validate.Exclusion{Rules: config.Values(e.Rules), Parameter: e.Parameter.Value})
		}
	}
}

// warnToothless tells of rules that find attacks where the one that refuses them
// was removed: who looks at the config only reads enforce.
func (p *Plan) warnToothless(op *validate.Operation) {
	if p.File.WAF.CoreRules && op.Settings().Rules == validate.Enforce && !op.Refuses() {
		p.warn(p.File.WAF.Place.String(), "waf", "rule 949110, which refuses what the others find, is removed: nothing is refused for its score; use mode: report, or remove the rules that find what is harmless")
	}
}

// effectiveWAF tells what the rules for content do at one operation, and where
// they do not look.
func (p *Plan) effectiveWAF(a *Access, op *validate.Operation, add func(step, layer, id, place, text string, args ...any)) {
	w, here := &p.File.WAF, config.WAFHere{}
	if a.cfg != nil {
		here = a.cfg.WAF
	}
	words := map[validate.Mode]string{validate.Off: "off", validate.Report: "report", validate.Enforce: "enforce"}
	s := op.Settings()
	if s.Rules == validate.Off {
		add("content", "waf", "", w.Place.String(), "no rules are asked")
	} else {
		add("content", "waf", "", w.Place.String(), "%s: a score of %d and more; rules up to paranoia level %d count, up to %d are reported; %s engine",
			words[s.Rules], w.Threshold, w.Paranoia, w.Detect, w.Engine)
	}
	for _, list := range [3][]config.WAFExclusion{w.Exclude, a.api.WAF.Exclude, here.Exclude} {
		for _, e := range list {
			where := e.Parameter.Value
			if where == "" {
				where = "anything"
			}
			add("content", "excluded", strings.Join(config.Values(e.Rules), " "), e.Place.String(), "do not look at %s: %s", where, e.Because)
		}
	}
	for _, f := range op.Remaining() {
		add("content", "rules", fieldName(&f), "", "%s", fieldText(&f))
	}
	if s.Deeper != validate.Off {
		add("content", "deeper", "", "", "%s: free text is decoded and looked at again", words[s.Deeper])
	}
	if s.AnswerRules != validate.Off {
		add("answer", "waf", "", "", "%s: a score of %d and more", words[s.AnswerRules], w.Outbound)
	}
	if s.Leaks != validate.Off {
		add("answer", "leaks", "", "", "%s: stack traces, database errors, card numbers, keys", words[s.Leaks])
	}
}

// bodies fills in what bodies other than JSON may be.
func bodies(s *validate.Settings, api *config.API, op *config.Operation) {
	s.Decompress = api.Decompress
	u := &api.Uploads
	s.Upload = validate.Upload{MaxParts: u.Parts, MaxField: int64(u.Field), Memory: int64(u.Memory)}
	if u.File != nil {
		s.Upload.MaxFile = int64(*u.File)
	}
	if u.Extensions != nil {
		s.Upload.Extensions = append([]string{}, config.Values(*u.Extensions)...)
	}
	s.GRPC = validate.GRPC{MaxMessage: int64(api.GRPC.Message), MaxMessages: api.GRPC.Messages, Compressed: api.GRPC.Compressed}
	if op == nil || op.GraphQL == nil {
		return
	}
	none := func(n int) int { // validate takes 0 for its default
		if n == 0 {
			return -1
		}
		return n
	}
	g := op.GraphQL
	s.GraphQL = &validate.GraphQL{
		Depth: g.Depth, Aliases: none(g.Aliases), RootFields: g.RootFields, Cost: g.Cost, Tokens: g.Tokens,
		Directives: none(g.Directives), Batch: g.Batch, Introspection: g.Introspection,
		Operations: config.Values(g.Operations), Persisted: g.Persisted,
	}
}

// fieldName writes a value of an operation as waf.exclude does.
func fieldName(f *validate.FieldRules) string {
	switch {
	case f.Pointer != "":
		return f.In + f.Pointer
	case f.Name != "":
		return f.In + "." + f.Name
	}
	return f.In
}

// fieldText tells which rules look at a value and why the others do not.
func fieldText(f *validate.FieldRules) string {
	var b strings.Builder
	switch len(f.Left) {
	case 0:
		fmt.Fprintf(&b, "%s: none of %d rules", f.Language, f.Rules)
	case f.Rules:
		fmt.Fprintf(&b, "%s: all %d rules", f.Language, f.Rules)
	default:
		fmt.Fprintf(&b, "%s: %d of %d rules", f.Language, len(f.Left), f.Rules)
		if len(f.Left) <= 12 {
			b.WriteString(":")
			for _, id := range f.Left {
				fmt.Fprintf(&b, " %d", id)
			}
		}
	}
	for _, r := range f.Removed {
		fmt.Fprintf(&b, "; %d: %s", len(r.Rules), r.Why)
	}
	return b.String()
}
