package coraza

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// An Engine is Coraza with one set of rules. It is safe for concurrent use.
type Engine struct {
	waf   coraza.WAF
	level int // up to which matches count
}

// Load reads the rules of c.
func Load(c waf.Config) (*Engine, error) {
	sources, err := directives(&c)
	if err != nil {
		return nil, err
	}
	w, err := load(sources)
	if err != nil {
		return nil, err
	}
	e := &Engine{waf: w, level: max(c.Paranoia, 1)}
	// Coraza remembers every expression it compiled, for all engines of the
	// process: one that a reload replaced must give its own back, or each reload
	// costs its size for ever.
	if c, ok := w.(io.Closer); ok {
		runtime.AddCleanup(e, func(c io.Closer) { _ = c.Close() }, c)
	}
	return e, nil
}

func load(sources []seclang.Source) (coraza.WAF, error) {
	w, err := coraza.NewWAF(config(sources))
	if err == nil {
		return w, nil
	}
	// Coraza does not say in which of them: the first n that it does not take end with it.
	for n, s := range sources {
		w, err := coraza.NewWAF(config(sources[:n+1]))
		if err != nil {
			return nil, fmt.Errorf("%s: Coraza does not take these rules: %w", s.Name, err)
		}
		if c, ok := w.(io.Closer); ok {
			_ = c.Close()
		}
	}
	return nil, fmt.Errorf("coraza: %w", err)
}

// maxBody is how much of a body is held, in memory: all that comes. Who calls has bounded it.
const maxBody = 1<<30 - 1

func config(sources []seclang.Source) coraza.WAFConfig {
	c := coraza.NewWAFConfig().WithRootFS(files(sources)).
		WithRequestBodyAccess().WithRequestBodyLimit(maxBody).WithRequestBodyInMemoryLimit(maxBody).
		WithResponseBodyAccess()
	for _, s := range sources {
		c = c.WithDirectives(string(s.Text))
	}
	return c
}

// Request judges the request f.Message, phases 1 and 2. v is empty.
func (e *Engine) Request(f *waf.Facts, v *waf.Verdict) {
	began := time.Now()
	tx := e.waf.NewTransaction()
	defer end(tx, v)
	stopped := head(tx, &f.Message)
	if !stopped && len(f.Body) > 0 {
		stopped2, n, err := tx.WriteRequestBody(f.Body)
		stopped = stopped2 != nil
		v.Over = v.Over || err != nil || n != len(f.Body) && !stopped
	}
	if !stopped {
		_, err := tx.ProcessRequestBody()
		v.Over = v.Over || err != nil
	}
	e.say(tx, v, "inbound", types.PhaseRequestHeaders, types.PhaseRequestBody)
	v.Cost += time.Since(began).Nanoseconds()
}

// Answer judges the answer in f.Message, phases 3 and 4. Rules of phase 1 run
// before them, for what they set; those of phase 2 do not. Where phase 1 denies,
// Coraza asks nothing about the answer: that request is refused already.
func (e *Engine) Answer(f *waf.Facts, v *waf.Verdict) {
	began := time.Now()
	tx := e.waf.NewTransaction()
	defer end(tx, v)
	m := &f.Message
	if head(tx, m) {
		return
	}
	for _, h := range m.Answer {
		tx.AddResponseHeader(strings.Clone(h.Name), h.Value)
	}
	if tx.ProcessResponseHeaders(m.Status, m.Protocol) == nil {
		var stopped *types.Interruption
		var err error
		if tx.IsResponseBodyProcessable() && len(m.AnswerBody) > 0 {
			stopped, _, err = tx.WriteResponseBody(m.AnswerBody)
		}
		if stopped == nil && err == nil {
			_, err = tx.ProcessResponseBody()
		}
		v.Over = v.Over || err != nil
	}
	e.say(tx, v, "outbound", types.PhaseResponseHeaders, types.PhaseResponseBody)
	v.Cost += time.Since(began).Nanoseconds()
}

// head runs phase 1 and reports whether a rule ended the message there.
func head(tx types.Transaction, m *waf.Message) bool {
	tx.ProcessConnection(m.Address, 0, "", 0)
	tx.ProcessURI(m.Target, m.Method, m.Protocol)
	for _, h := range m.Header {
		// Coraza 3.8.1 takes the transformed text of one value for that of another
		// whose name is the same string in memory, as the names of two fields often
		// are: what the second User-Agent says would not be looked at.
		tx.AddRequestHeader(strings.Clone(h.Name), h.Value)
		if strings.EqualFold(h.Name, "Host") {
			tx.SetServerName(h.Value)
		}
	}
	return tx.ProcessRequestHeaders() != nil
}

// end lets go of what the message left, its uploaded files among it. Where Coraza
// panics, as 3.8.1 does for a rule that deletes a variable (setvar:!tx.x), the
// message was not looked at: it does not pass, and the others go on.
func end(tx types.Transaction, v *waf.Verdict) {
	if recover() != nil {
		v.Block, v.Over = true, true
	}
	_ = tx.Close()
}

// say writes what matched in phases first to last into v.
func (e *Engine) say(tx types.Transaction, v *waf.Verdict, direction string, first, last types.RulePhase) {
	for _, m := range tx.MatchedRules() {
		r := m.Rule()
		if p := r.Phase(); p < first || p > last || !logged(m) {
			continue
		}
		hit := waf.Hit{Rule: r.ID(), Msg: m.Message(), Level: level(r.Tags())}
		if r.Severity() >= 0 {
			hit.Severity = strings.ToUpper(r.Severity().String())
		}
		for _, d := range m.MatchedDatas() {
			if d.ChainLevel() > 0 {
				continue
			}
			if d.Message() != "" { // of this value; of a chain the first has the message
				hit.Msg = d.Message()
			}
			hit.Target, hit.Name, hit.Text, hit.Match = d.Variable().Name(), d.Key(), d.Value(), matched(d.Data())
			v.Hits = append(v.Hits, hit)
		}
	}
	v.Block = v.Block || tx.IsInterrupted()
	v.Score += e.score(tx, direction)
}

// score is the sum that rules 949110 and 959100 compare with the threshold. Their
// own sum is not there when another rule denied before.
func (e *Engine) score(tx types.Transaction, direction string) (sum int) {
	state, ok := tx.(plugintypes.TransactionState)
	if !ok {
		return 0
	}
	for level := range e.level {
		for _, s := range state.Variables().TX().Get(direction + "_anomaly_score_pl" + strconv.Itoa(level+1)) {
			n, _ := strconv.Atoi(s)
			sum += n
		}
	}
	return sum
}

// logged reports whether the rule is one that reports its matches.
func logged(m types.MatchedRule) bool {
	l, ok := m.(interface{ Log() bool })
	return !ok || l.Log()
}

// level is the paranoia level that CRS writes into a rule's tags.
func level(tags []string) int {
	for _, t := range tags {
		if l, ok := strings.CutPrefix(t, "paranoia-level/"); ok {
			n, _ := strconv.Atoi(l)
			return n
		}
	}
	return 0
}

// matched is the part that CRS quotes in its log line; Coraza gives it nowhere else.
func matched(data string) string {
	if rest, ok := strings.CutPrefix(data, "Matched Data: "); ok {
		if part, _, ok := strings.Cut(rest, " found within "); ok {
			return part
		}
	}
	return ""
}
