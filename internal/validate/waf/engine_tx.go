package waf

import (
	"regexp"
	"strconv"
	"strings"
)

// A variable is one of TX while rules run. One that is not set is not there.
type variable struct {
	set  bool
	text string
}

// captured is how many variables TX:0, TX:1 … there are from the start. They come
// first in [Rules.names].
const captured = 11

// A state is TX while rules run over one message.
type state struct {
	fixed []variable // those that rules name, by their number in names
	other []pair     // those whose names were made of macros
}

// A pair is a variable whose name came up while rules ran.
type pair struct{ name, text string }

// names numbers the variables that rules name, in lower case.
type names struct {
	number map[string]int
	list   []string
}

func newNames() *names {
	n := &names{number: map[string]int{}}
	for i := range captured {
		n.of(strconv.Itoa(i))
	}
	return n
}

// of returns the number of a name, and gives it one.
func (n *names) of(name string) int {
	i, ok := n.number[name]
	if !ok {
		i = len(n.list)
		n.number[name], n.list = i, append(n.list, name)
	}
	return i
}

func (s *state) begin(template []variable) {
	s.fixed = append(s.fixed[:0], template...)
	clear(s.other)
	s.other = s.other[:0]
}

// get returns the variable that a macro named at run time.
func (s *state) get(n *names, name string) (string, bool) {
	if i, ok := n.number[name]; ok {
		return s.fixed[i].text, s.fixed[i].set
	}
	for i := range s.other {
		if s.other[i].name == name {
			return s.other[i].text, true
		}
	}
	return "", false
}

func (s *state) put(n *names, name, text string) {
	if i, ok := n.number[name]; ok {
		s.fixed[i] = variable{true, text}
		return
	}
	for i := range s.other {
		if s.other[i].name == name {
			s.other[i].text = text
			return
		}
	}
	s.other = append(s.other, pair{name, text})
}

func (s *state) remove(n *names, name string) {
	if i, ok := n.number[name]; ok {
		s.fixed[i] = variable{}
		return
	}
	for i := range s.other {
		if s.other[i].name == name {
			s.other = append(s.other[:i], s.other[i+1:]...)
			return
		}
	}
}

// match adds the variables that a rule's TX:/expression/ selects.
func (s *state) match(n *names, rx *regexp.Regexp, to []pair) []pair {
	for i := range s.fixed {
		if s.fixed[i].set && rx.MatchString(n.list[i]) {
			to = append(to, pair{n.list[i], s.fixed[i].text})
		}
	}
	for i := range s.other {
		if rx.MatchString(s.other[i].name) {
			to = append(to, s.other[i])
		}
	}
	return to
}

// all adds every variable.
func (s *state) all(n *names, to []pair) []pair {
	for i := range s.fixed {
		if s.fixed[i].set {
			to = append(to, pair{n.list[i], s.fixed[i].text})
		}
	}
	return append(to, s.other...)
}

// change returns what setvar makes of a variable: a value that begins with + or -
// and goes on as a number is added, all else is the new value. False: nothing
// changes, as the old one is no number.
func change(old, value string) (string, bool) {
	if value == "" || value[0] != '+' && value[0] != '-' {
		return value, true
	}
	by := 0
	if len(value) > 1 {
		n, err := strconv.Atoi(value[1:])
		if err != nil {
			return value, !strings.HasPrefix(value[1:], "tx.")
		}
		by = n
	}
	sum := 0
	if old != "" {
		n, err := strconv.Atoi(old)
		if err != nil {
			return "", false
		}
		sum = n
	}
	if value[0] == '-' {
		by = -by
	}
	return strconv.Itoa(sum + by), true
}

// A macro is a text with %{…} in it.
type macro []token

// A token is a piece of a macro.
type token struct {
	kind tokenKind
	text string // as it stands; of a macro what is between the braces, for when there is nothing to put in
	key  string // lower case
	n    int    // of a TX variable
	read func(*Facts) string
	in   ins
}

type tokenKind uint8

const (
	ofText      tokenKind = iota
	txVariable            // %{tx.anomaly_score}
	matchedVar            // %{MATCHED_VAR}
	matchedName           // %{MATCHED_VAR_NAME}
	single                // %{REMOTE_ADDR}
	memberText            // %{REQUEST_HEADERS.host}
	memberName            // %{ARGS_NAMES.x}
	ruleID                // %{RULE.id}
	ruleMsg
	ruleSeverity
)

// constant reports whether m holds no macro, and the text it then is.
func (m macro) constant() (string, bool) {
	switch {
	case len(m) == 0:
		return "", true
	case len(m) == 1 && m[0].kind == ofText:
		return m[0].text, true
	}
	return "", false
}

// newMacro takes text apart. The names of TX variables in it get a number.
func newMacro(text string, n *names) macro {
	var m macro
	for text != "" {
		before, rest, found := strings.Cut(text, "%{")
		inner, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return append(m, token{text: text})
		}
		if before != "" {
			m = append(m, token{text: before})
		}
		m = append(m, newToken(inner, n))
		text = after
	}
	return m
}

func newToken(inner string, n *names) token {
	collection, key, _ := strings.Cut(inner, ".")
	collection, key = strings.ToUpper(collection), strings.ToLower(key)
	t := token{text: inner, key: key}
	switch collection {
	case "TX":
		t.kind, t.n = txVariable, n.of(key)
		return t
	case "MATCHED_VAR":
		t.kind = matchedVar
		return t
	case "MATCHED_VAR_NAME":
		t.kind = matchedName
		return t
	case "RULE":
		switch key {
		case "id":
			t.kind = ruleID
		case "msg":
			t.kind = ruleMsg
		case "severity":
			t.kind = ruleSeverity
		}
		return t
	}
	if read, ok := singleOf(collection); ok {
		t.kind, t.read = single, read
		return t
	}
	if in, byName, ok := membersOf(collection); ok {
		t.kind, t.in = memberText, in
		if byName {
			t.kind = memberName
		}
	}
	return t
}

// expand returns the text of m now.
func (t *turn) expand(m macro) string {
	if len(m) == 1 {
		return t.token(&m[0])
	}
	b := t.scratch[:0]
	for i := range m {
		b = append(b, t.token(&m[i])...)
	}
	t.scratch = b[:0]
	return string(b)
}

func (t *turn) token(k *token) string {
	switch k.kind {
	case txVariable:
		if k.n < captured {
			t.settle()
		}
		if v := &t.tx.fixed[k.n]; v.set {
			return v.text
		}
	case matchedVar:
		return t.matched.text
	case matchedName:
		return t.matched.name
	case single:
		return k.read(t.facts)
	case memberText, memberName:
		for i := range t.facts.Values {
			if v := &t.facts.Values[i]; k.in.has(v.In) && t.visible(v.In) && sameName(v.Name, k.key) {
				if k.kind == memberName {
					return v.Name
				}
				return v.Text
			}
		}
	case ruleID:
		return strconv.Itoa(t.rule.src.ID)
	case ruleMsg:
		return t.expandOnce(t.rule.msg)
	case ruleSeverity:
		return t.rule.src.Severity
	case ofText:
	}
	return k.text
}

// expandOnce expands a rule's msg, in which another %{RULE.msg} stays as it is.
func (t *turn) expandOnce(m macro) string {
	var b strings.Builder
	for i := range m {
		if m[i].kind == ruleMsg {
			b.WriteString(m[i].text)
			continue
		}
		b.WriteString(t.token(&m[i]))
	}
	return b.String()
}

// sameName reports whether name is the key, which is lower case.
func sameName(name, key string) bool {
	if len(name) == len(key) {
		same := true
		for i := range len(name) {
			c := name[i]
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c != key[i] {
				same = false
				break
			}
		}
		if same {
			return true
		}
	}
	for i := range len(name) { // only other letters can fold to another length
		if name[i] >= 0x80 {
			return strings.ToLower(name) == key
		}
	}
	return false
}
