package config

import (
	"fmt"
	"iter"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

const (
	maxBytes = 4 << 20
	maxDepth = 64
)

// A decoder reads one file into the structs of shape.go and collects every fault.
type decoder struct {
	file string // as errors name it
	dir  string // to which its paths are relative
	disk disk
	errs []*Error

	pushed  bool     // to a database: relative paths are of files that come along, and nothing else may have one
	carried []string // which those are
}

// A spot is a value's place in the structure, with the tag that governs it.
type spot struct {
	path string
	tag  reflect.StructTag
}

func (s spot) String() string {
	if s.path == "" {
		return "the file"
	}
	return s.path
}

func (s spot) key(k string) spot {
	if s.path == "" {
		return spot{k, s.tag}
	}
	return spot{s.path + "." + cut(k), s.tag}
}

func (s spot) index(i int) spot { return spot{s.path + "[" + strconv.Itoa(i) + "]", s.tag} }

func (d *decoder) place(n *yaml.Node) Place { return Place{d.file, n.Line, n.Column} }

func (d *decoder) errorf(n *yaml.Node, text string, args ...any) {
	if d.hopeless() {
		return
	}
	d.errs = append(d.errs, &Error{d.place(n), fmt.Sprintf(text, args...)})
}

// hopeless reports that there are more faults than anyone reads. Looking for
// suggestions goes on for seconds in a file made of nothing else.
func (d *decoder) hopeless() bool { return len(d.errs) >= 10*maxErrors }

// durations are written as Go writes them, without sign.
var durations = regexp.MustCompile(`^([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h))+$`)

func parseDuration(s string) (time.Duration, bool) {
	t, err := time.ParseDuration(s)
	return t, err == nil && durations.MatchString(s)
}

var (
	placeType    = reflect.TypeFor[Place]()
	textType     = reflect.TypeFor[Text]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// value reads n into v, governed by at.tag.
func (d *decoder) value(v reflect.Value, n *yaml.Node, at spot) {
	if v.Kind() != reflect.Interface && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		d.errorf(n, "%s is empty; give it a value or leave the key out", at)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if c, ok := reflect.TypeAssert[node](v.Addr()); ok {
		c.decode(d, n, at)
		setPlace(v, d.place(n))
		return
	}
	switch v.Type() {
	case textType:
		if s, ok := d.text(n, at); ok {
			v.Set(reflect.ValueOf(Text{s, d.place(n)}))
		}
		return
	case durationType:
		if t, ok := parseDuration(n.Value); n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && ok {
			v.SetInt(int64(t))
			d.bounds(n, at, float64(t))
		} else {
			d.expected(n, at, "a duration like 500ms, 5s or 1m")
		}
		return
	case sizeType:
		if s, ok := parseSize(n.Value); n.Kind == yaml.ScalarNode && ok {
			v.SetInt(int64(s))
			d.bounds(n, at, float64(s))
		} else {
			d.expected(n, at, "a size like 512B, 32KiB or 1MiB")
		}
		return
	case prefixType:
		p, err := netip.ParsePrefix(n.Value)
		if ip, ipErr := netip.ParseAddr(n.Value); err != nil && ipErr == nil && ip.Zone() == "" {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		switch {
		case n.Kind != yaml.ScalarNode || err != nil:
			d.expected(n, at, "a network like 10.0.0.0/8")
		case p != p.Masked():
			d.errorf(n, "%s: %s has bits beyond its mask; write %s", at, p, p.Masked())
		default:
			v.Set(reflect.ValueOf(p))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(v.Addr().Interface(), n, at)
	case reflect.Map:
		d.mapping(v, n, at)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.expected(n, at, "a list")
			return
		}
		d.bounds(n, at, float64(len(n.Content)))
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			item := at.index(i)
			d.value(v.Index(i), c, item)
		}
		if texts, ok := reflect.TypeAssert[[]Text](v); ok {
			d.distinct(texts, at)
		}
	case reflect.String:
		if s, ok := d.text(n, at); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			d.expected(n, at, "true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, ok := decimal(n)
		if !ok || int64(int(i)) != i {
			d.expected(n, at, "a whole number")
			return
		}
		v.SetInt(i)
		d.bounds(n, at, float64(i))
	case reflect.Interface:
		if x, ok := d.any(n, at); ok && x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		panic("config: no way to read a " + v.Type().String())
	}
}

// fields reads a mapping into the struct that p points to, and gives what is
// left out its default.
func (d *decoder) fields(p any, n *yaml.Node, at spot) {
	v := reflect.ValueOf(p).Elem()
	at.tag = ""
	setPlace(v, d.place(n))
	if n.Kind != yaml.MappingNode {
		d.expected(n, at, "a mapping with "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		given[n.Content[i].Value] = true
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := fieldOf(v.Type(), key.Value)
		if !ok {
			d.unknown(key, v.Type(), given, at)
			continue
		}
		here := at.key(key.Value)
		here.tag = f.Tag
		d.value(v.FieldByIndex(f.Index), value, here)
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" || given[name] {
			continue
		}
		if f.Tag.Get("required") != "" {
			d.errorf(n, "%s needs %s: %s", at, name, f.Tag.Get("doc"))
			continue
		}
		here := at.key(name)
		here.tag = f.Tag
		d.leftOut(v.Field(i), n, here)
	}
}

// leftOutFields gives the struct that p points to all its defaults, but keeps what it holds.
func (d *decoder) leftOutFields(p any, at Place) {
	v := reflect.ValueOf(p).Elem()
	here := &yaml.Node{Kind: yaml.MappingNode, Line: at.Line, Column: at.Column}
	setPlace(v, at)
	for i := range v.NumField() {
		if f := v.Type().Field(i); v.Field(i).IsZero() && f.Tag.Get("yaml") != "-" {
			d.leftOut(v.Field(i), here, spot{f.Tag.Get("yaml"), f.Tag})
		}
	}
}

// leftOut gives v its default, as if it had been written at n.
func (d *decoder) leftOut(v reflect.Value, n *yaml.Node, at spot) {
	text, has := at.tag.Lookup("default")
	pushed := d.pushed
	d.pushed = false // a default is nothing that somebody wrote
	defer func() { d.pushed = pushed }()
	if !has {
		if _, custom := reflect.TypeAssert[node](v.Addr()); v.Kind() == reflect.Struct && v.Type() != textType && !custom {
			d.fields(v.Addr().Interface(), &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}, at)
		}
		return
	}
	scalar := func(s string) *yaml.Node {
		c := &yaml.Node{Kind: yaml.ScalarNode, Value: s, Tag: "!!str", Line: n.Line, Column: n.Column}
		switch {
		case v.Kind() == reflect.Bool:
			c.Tag = "!!bool"
		case v.Kind() == reflect.Int:
			c.Tag = "!!int"
		}
		return c
	}
	c := scalar(text)
	if v.Kind() == reflect.Slice {
		c = &yaml.Node{Kind: yaml.SequenceNode, Line: n.Line, Column: n.Column}
		for s := range strings.FieldsSeq(text) {
			c.Content = append(c.Content, scalar(s))
		}
	}
	d.value(v, c, at)
}

// mapping reads n into a map with free keys.
func (d *decoder) mapping(v reflect.Value, n *yaml.Node, at spot) {
	keys := at.tag.Get("keys")
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range d.entries(n, at, "a mapping") {
		here := at.key(key.Value)
		if keys != "" && !d.checkFormat(key, here, keys, key.Value) {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(item, value, here)
		if item.Kind() == reflect.Pointer && !item.IsNil() {
			setPlace(item.Elem(), d.place(key)) // a named thing stands where its name does
		}
		if item.Kind() != reflect.Pointer || !item.IsNil() {
			v.SetMapIndex(reflect.ValueOf(key.Value), item)
		}
	}
}

// entries walks the keys and values of a mapping in the order of the file.
func (d *decoder) entries(n *yaml.Node, at spot, what string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(_, _ *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			d.expected(n, at, what)
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// text reads a scalar that must be text, in the enum and format of its tag.
func (d *decoder) text(n *yaml.Node, at spot) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.expected(n, at, expectedText(at.tag))
		return "", false
	}
	if tag := n.ShortTag(); tag != "!!str" {
		d.expected(n, at, expectedText(at.tag))
		return "", false
	}
	if n.Value == "" {
		d.errorf(n, "%s is empty; give it a value or leave the key out", at)
		return "", false
	}
	if enum := at.tag.Get("enum"); enum != "" {
		words := strings.Fields(enum)
		if !slices.Contains(words, n.Value) {
			d.errorf(n, "%s: expected %s, found %q%s", at, oneOf(words), cut(n.Value), DidYouMean(n.Value, words))
			return "", false
		}
	}
	return n.Value, d.checkFormat(n, at, at.tag.Get("format"), n.Value)
}

func (d *decoder) checkFormat(n *yaml.Node, at spot, name, s string) bool {
	if name == "" {
		return true
	}
	f := formats[name]
	if !f.pattern.MatchString(s) {
		d.expected(n, at, f.says)
		return false
	}
	if f.check != nil {
		if err := f.check(s); err != nil {
			d.errorf(n, "%s: expected %s; %q %v", at, f.says, cut(s), err)
			return false
		}
	}
	return true
}

// bounds checks x against the min and max of the tag, which are written like the
// value. For a list x is its length.
func (d *decoder) bounds(n *yaml.Node, at spot, x float64) {
	if low := at.tag.Get("min"); low != "" && x < quantity(low) {
		d.errorf(n, "%s needs at least %s", at, low)
	}
	if high := at.tag.Get("max"); high != "" && x > quantity(high) {
		d.errorf(n, "%s takes at most %s", at, high)
	}
}

// quantity reads a bound of a tag: a number, a duration or a size.
func quantity(s string) float64 {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	if t, err := time.ParseDuration(s); err == nil {
		return float64(t)
	}
	if b, ok := parseSize(s); ok {
		return float64(b)
	}
	panic("config: a tag has the bound " + s)
}

// distinct refuses a text given twice in one list.
func (d *decoder) distinct(texts []Text, at spot) {
	seen := make(map[string]bool, len(texts))
	for _, t := range texts {
		if t.Value != "" && seen[t.Value] {
			d.errs = append(d.errs, &Error{t.Place, fmt.Sprintf("%s: %q is given twice", at, cut(t.Value))})
		}
		seen[t.Value] = true
	}
}

// decimal reads a whole number as JSON writes it: 010 is eight to some readers of
// YAML and ten to others.
func decimal(n *yaml.Node) (int64, bool) {
	i, err := strconv.ParseInt(n.Value, 10, 64)
	return i, n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" && err == nil && strconv.FormatInt(i, 10) == n.Value
}

// any reads free values, as JSON has them.
func (d *decoder) any(n *yaml.Node, at spot) (any, bool) {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for key, value := range d.entries(n, at, "") {
			m[key.Value], _ = d.any(value, at.key(key.Value))
		}
		return m, true
	case yaml.SequenceNode:
		l := make([]any, len(n.Content))
		for i, c := range n.Content {
			l[i], _ = d.any(c, at.index(i))
		}
		return l, true
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return nil, true
		case "!!bool":
			return strings.EqualFold(n.Value, "true"), true
		case "!!int":
			if i, ok := decimal(n); ok {
				return i, true
			}
			d.expected(n, at, "a decimal number of 64 bits without leading zeros")
			return nil, false
		case "!!float":
			if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
				return f, true
			}
			d.expected(n, at, "a finite number")
			return nil, false
		}
		return n.Value, true
	default:
		d.expected(n, at, "a value")
		return nil, false
	}
}

func (d *decoder) expected(n *yaml.Node, at spot, what string) {
	hint := ""
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!str" && n.ShortTag() != "!!null" && strings.HasPrefix(what, "text") {
		hint = "; quote it"
	}
	d.errorf(n, "%s: expected %s, found %s%s", at, what, describe(n), hint)
}

// unknown refuses a key. What is still missing is the likeliest to have been meant.
func (d *decoder) unknown(key *yaml.Node, t reflect.Type, given map[string]bool, at spot) {
	if d.hopeless() {
		return
	}
	var missing, open []string
	for f := range structFields(t) {
		name := f.Tag.Get("yaml")
		if given[name] {
			continue
		}
		open = append(open, name)
		if f.Tag.Get("required") != "" {
			missing = append(missing, name)
		}
	}
	hint := DidYouMean(key.Value, missing)
	if hint == "" {
		hint = DidYouMean(key.Value, open)
	}
	if hint == "" {
		hint = "; it takes " + strings.Join(keysOf(t), ", ")
	}
	in := ""
	if at.path != "" {
		in = " in " + at.path
	}
	d.errorf(key, "unknown key %q%s%s", cut(key.Value), in, hint)
}

func expectedText(tag reflect.StructTag) string {
	if enum := tag.Get("enum"); enum != "" {
		return oneOf(strings.Fields(enum))
	}
	if f, ok := formats[tag.Get("format")]; ok {
		return f.says
	}
	return "text"
}

func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// describe names what stands at n, for "found …".
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return "nothing"
		case "!!bool":
			return "the boolean " + cut(n.Value)
		case "!!int", "!!float":
			return "the number " + cut(n.Value)
		case "!!timestamp":
			return "the date " + cut(n.Value)
		}
		return strconv.Quote(cut(n.Value))
	default:
		return "something else"
	}
}

// userInfo is the user and password of a URL.
var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// cut bounds what an error repeats: a password in a URL is not for the log.
func cut(s string) string {
	s = userInfo.ReplaceAllString(s, "://…@")
	if r := []rune(s); len(r) > 64 {
		return string(r[:63]) + "…"
	}
	return s
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range structFields(t) {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range structFields(t) {
		if f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// structFields walks the fields that are in the file.
func structFields(t reflect.Type) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for f := range t.Fields() {
			if key := f.Tag.Get("yaml"); key != "" && key != "-" && !yield(f) {
				return
			}
		}
	}
}

func setPlace(v reflect.Value, p Place) {
	if v.Kind() != reflect.Struct {
		return
	}
	if f := v.FieldByName("Place"); f.IsValid() && f.Type() == placeType && f.CanSet() {
		f.Set(reflect.ValueOf(p))
	}
}

func sortFields(fields []gatehouse.Field) {
	slices.SortFunc(fields, func(a, b gatehouse.Field) int { return strings.Compare(a.Name, b.Name) })
}
