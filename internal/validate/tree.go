package validate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/pb33f/go-yaml"
)

// maxFiles and maxFileBytes bound what one document may pull in, maxAliased what
// the aliases of one file may stand for: nine of them eleven levels deep are
// 30 billion values in 500 bytes. maxParams bounds the parameters of one operation,
// which are compared with each other, and maxMarks what stands between the values
// of one file: a parsed value takes some 300 bytes, and can be written with two.
const (
	maxFiles     = 256
	maxFileBytes = 64 << 20
	maxAliased   = 1_000_000
	maxMarks     = 4_000_000
	maxParams    = 1000
)

// baseURI is where documents live for the schema compiler. Nothing is ever
// fetched from it: relative references are files beside the document.
const baseURI = "openapi:///"

// A file is one YAML or JSON file of a document.
type file struct {
	name string // slash-separated, relative to the document's folder
	show string // for messages
	root *yaml.Node
}

func (f *file) uri() string { return baseURI + (&url.URL{Path: f.name}).EscapedPath() }

// An at is a node and where it is.
type at struct {
	f   *file
	n   *yaml.Node
	ptr string // JSON Pointer, already escaped for a URI fragment's content
}

func (a at) ok() bool { return a.n != nil }

// fault makes an error that names the place.
func (a at) fault(format string, args ...any) error {
	return fmt.Errorf("%s: %w", a.where(), fmt.Errorf(format, args...))
}

func (a at) where() string {
	if a.f == nil || a.n == nil {
		return "?"
	}
	return fmt.Sprintf("%s:%d:%d", a.f.show, a.n.Line, a.n.Column)
}

// location names the node for the schema compiler.
func (a at) location() string { return a.f.uri() + "#" + (&url.URL{Fragment: a.ptr}).EscapedFragment() }

func escapePointer(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func unalias(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (a at) get(key string) at {
	if a.n == nil || a.n.Kind != yaml.MappingNode {
		return at{}
	}
	for i := 0; i+1 < len(a.n.Content); i += 2 {
		if a.n.Content[i].Value == key {
			return at{a.f, unalias(a.n.Content[i+1]), a.ptr + "/" + escapePointer(key)}
		}
	}
	return at{}
}

// each calls do for every member of an object, in the file's order.
func (a at) each(do func(key string, v at) error) error {
	if a.n == nil {
		return nil
	}
	if a.n.Kind != yaml.MappingNode {
		return a.fault("expected an object")
	}
	for i := 0; i+1 < len(a.n.Content); i += 2 {
		key := a.n.Content[i].Value
		if err := do(key, at{a.f, unalias(a.n.Content[i+1]), a.ptr + "/" + escapePointer(key)}); err != nil {
			return err
		}
	}
	return nil
}

func (a at) items() []at {
	if a.n == nil || a.n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]at, len(a.n.Content))
	for i, c := range a.n.Content {
		out[i] = at{a.f, unalias(c), a.ptr + "/" + strconv.Itoa(i)}
	}
	return out
}

// token follows one reference token of a JSON Pointer (RFC 6901 §4).
func (a at) token(token string) at {
	token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	if a.n != nil && a.n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(a.n.Content) {
			return a.items()[i]
		}
		return at{}
	}
	return a.get(token)
}

func (a at) str() string {
	if a.n == nil || a.n.Kind != yaml.ScalarNode {
		return ""
	}
	return a.n.Value
}

// boolean reads a true or false; anything else is an error and not a default.
func (a at) boolean(otherwise bool) (bool, error) {
	switch {
	case a.n == nil:
		return otherwise, nil
	case a.n.Kind == yaml.ScalarNode && a.n.Value == "true":
		return true, nil
	case a.n.Kind == yaml.ScalarNode && a.n.Value == "false":
		return false, nil
	}
	return false, a.fault("expected true or false")
}

// files reads and resolves the files of one document.
type files struct {
	fsys   fs.FS
	prefix string // shown before every name
	byName map[string]*file
	order  []*file
	parse  func(name string, data []byte) (*yaml.Node, error)
	add    func(f *file, value any) error // tells the schema compilers
	seen   func(name string, data []byte)
}

func (s *files) open(name string) (*file, error) {
	if f := s.byName[name]; f != nil {
		return f, nil
	}
	if len(s.order) >= maxFiles {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	data, err := readFile(s.fsys, name)
	if err != nil {
		return nil, err
	}
	if marks(data) > maxMarks {
		return nil, fmt.Errorf("%s: too many values in one file; divide it", path.Join(s.prefix, name))
	}
	s.seen(name, data)
	root, err := s.parse(name, data)
	if err != nil {
		return nil, err
	}
	f := &file{name: name, show: path.Join(s.prefix, name), root: unalias(root)}
	s.byName[name] = f
	s.order = append(s.order, f)
	value, err := (&converter{f: f, done: map[*yaml.Node]anchored{}}).value(f.root)
	if err != nil {
		return nil, err
	}
	return f, s.add(f, value)
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	h, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Close() }()
	info, err := h.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s: not a regular file of at most %d MiB", name, maxFileBytes>>20)
	}
	return fs.ReadFile(fsys, name)
}

// marks counts what must stand between two values of YAML or JSON, so that their
// number is known before a parser has made them. Prose has some, too.
func marks(data []byte) (n int) {
	for i, c := range data {
		switch c {
		case ',', '[', '{', '\n', '\r':
			n++
		case ':', '-', '?':
			if i+1 == len(data) || strings.IndexByte(" \t\r\n\"'[{", data[i+1]) >= 0 {
				n++
			}
		}
	}
	return n
}

// resolve follows one $ref as far as the node it names.
func (s *files) resolve(from at, ref string) (at, error) {
	target, fragment, _ := strings.Cut(ref, "#")
	f := from.f
	if target != "" {
		u, err := url.Parse(target)
		switch {
		case err != nil:
			return at{}, from.fault("$ref %q is not a URI reference", ref)
		case u.IsAbs() || u.Host != "" || strings.HasPrefix(u.Path, "/"):
			return at{}, from.fault("$ref %q: only files beside the document are read; copy it there", ref)
		}
		name := path.Join(path.Dir(f.name), u.Path)
		if name == ".." || strings.HasPrefix(name, "../") {
			return at{}, from.fault("$ref %q leaves the folder of the document", ref)
		}
		if f, err = s.open(name); err != nil {
			return at{}, fmt.Errorf("%s: $ref %q: %w", from.where(), ref, err)
		}
	}
	fragment, err := url.PathUnescape(fragment)
	if err != nil || fragment != "" && fragment[0] != '/' {
		return at{}, from.fault("$ref %q: expected a JSON Pointer behind '#'", ref)
	}
	a := at{f: f, n: f.root}
	if fragment == "" {
		return a, nil
	}
	for token := range strings.SplitSeq(fragment[1:], "/") {
		next := a.token(token)
		if !next.ok() {
			return at{}, from.fault("$ref %q names nothing: there is no %q in %s", ref, token, f.show)
		}
		a = next
	}
	return a, nil
}

// deref follows Reference Objects; of anything else it is the identity.
func (s *files) deref(a at) (at, error) {
	for range 32 {
		ref := a.get("$ref")
		if !ref.ok() {
			return a, nil
		}
		next, err := s.resolve(ref, ref.str())
		if err != nil {
			return at{}, err
		}
		a = next
	}
	return at{}, a.fault("references go round in a circle")
}

// converter turns nodes into the plain values the schema compiler reads.
type converter struct {
	f    *file
	done map[*yaml.Node]anchored
	busy map[*yaml.Node]bool

	count   int // values so far, those behind aliases each time they are met
	aliased int // of these, behind aliases
}

// anchored is the value of an anchor, which its aliases share, and its size. Who
// walks the document meets it as often as it is named.
type anchored struct {
	value any
	count int
}

func (c *converter) value(n *yaml.Node) (any, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		if c.busy[n] {
			return nil, at{f: c.f, n: n}.fault("an alias inside its own anchor")
		}
		if v, ok := c.done[n]; ok {
			c.count += v.count
			if c.aliased += v.count; c.aliased > maxAliased {
				return nil, at{f: c.f, n: n}.fault("aliases stand for more than %d values", maxAliased)
			}
			return v.value, nil
		}
	}
	before := c.count
	c.count++
	if n.Anchor != "" {
		if c.busy == nil {
			c.busy = map[*yaml.Node]bool{}
		}
		c.busy[n] = true
		defer delete(c.busy, n)
	}
	v, err := c.plain(n)
	if err == nil && n.Anchor != "" {
		c.done[n] = anchored{v, c.count - before}
	}
	return v, err
}

func (c *converter) plain(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return nil, errors.New("expected one document")
		}
		return c.value(n.Content[0])
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return nil, at{f: c.f, n: key}.fault("expected a plain key")
			}
			if _, twice := m[key.Value]; twice {
				return nil, at{f: c.f, n: key}.fault("duplicate key %q", key.Value)
			}
			v, err := c.value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		for i, e := range n.Content {
			v, err := c.value(e)
			if err != nil {
				return nil, err
			}
			s[i] = v
		}
		return s, nil
	}
	return c.scalar(n)
}

func (c *converter) scalar(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int":
		i, ok := new(big.Int).SetString(strings.ReplaceAll(n.Value, "_", ""), 0)
		if !ok || len(n.Value) > 40 {
			return nil, at{f: c.f, n: n}.fault("cannot read the number")
		}
		return json.Number(i.String()), nil
	case "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		x, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			return nil, at{f: c.f, n: n}.fault("cannot read the number")
		}
		return json.Number(strconv.FormatFloat(x, 'g', -1, 64)), nil
	}
	return n.Value, nil // strings; dates too: YAML 1.1's timestamps are no JSON
}
