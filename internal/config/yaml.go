package config

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parse gives the root of the one document in b, or nil after an error.
func (d *decoder) parse(b []byte) *yaml.Node {
	nowhere := &yaml.Node{Line: 1, Column: 1}
	if len(b) > maxBytes {
		d.errorf(nowhere, "the file is larger than %s; split it with include", Size(maxBytes))
		return nil
	}
	loader, err := yaml.NewLoader(strings.NewReader(string(b)))
	if err != nil {
		d.errorf(nowhere, "cannot read YAML: %v", err)
		return nil
	}
	var doc, more yaml.Node
	if err := loader.Load(&doc); err != nil {
		d.syntax(err, b)
		return nil
	}
	if err := loader.Load(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			d.syntax(err, b)
		} else {
			d.errorf(&more, "a second document begins here; a config is one document")
		}
		return nil
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode {
		if len(doc.Content) != 1 {
			d.errorf(nowhere, "the file is empty; it begins with gatehouse: 1")
			return nil
		}
		root = doc.Content[0]
	}
	if root.Kind == 0 {
		d.errorf(nowhere, "the file is empty; it begins with gatehouse: 1")
		return nil
	}
	before := len(d.errs)
	d.refuse(root, 0)
	if len(d.errs) > before {
		return nil // what a person reads and what YAML means may differ: do not read on
	}
	return root
}

// syntax places an error of the YAML parser.
func (d *decoder) syntax(err error, b []byte) {
	at := &yaml.Node{Line: 1, Column: 1}
	if errors.Is(err, io.EOF) {
		d.errorf(at, "the file is empty; it begins with gatehouse: 1")
		return
	}
	text := err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		text = e.Message
		if e.ContextMsg != "" {
			text = e.ContextMsg + ", " + text
		}
		if e.Mark.Line > 0 {
			at.Line, at.Column = e.Mark.Line, e.Mark.Column
		} else if e.Mark.Index > 0 && e.Mark.Index <= len(b) {
			at.Line = 1 + strings.Count(string(b[:e.Mark.Index]), "\n")
			at.Column = 0
		}
		if strings.HasPrefix(strings.TrimLeft(lineOf(b, at.Line), " "), "\t") {
			text += "; YAML is indented with spaces, not tabs"
		}
		if strings.Contains(text, "no documents") {
			text = "the file is empty; it begins with gatehouse: 1"
		}
	}
	d.errorf(at, "not YAML: %s", text)
}

// lineOf gives a line of b, counted from 1.
func lineOf(b []byte, line int) string {
	for i := 1; i < line; i++ {
		_, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return ""
		}
		b = rest
	}
	text, _, _ := bytes.Cut(b, []byte("\n"))
	return string(text)
}

// refuse finds what YAML can do and a config must not: aliases multiply (a
// billion laughs) and hide what a line means, tags pick types, of two equal keys
// readers disagree which one counts.
func (d *decoder) refuse(n *yaml.Node, depth int) {
	if depth > maxDepth {
		d.errorf(n, "nested deeper than %d levels", maxDepth)
		return
	}
	switch {
	case n.Kind == yaml.AliasNode:
		d.errorf(n, "aliases (*%s) are refused; write it out, or use roles and guardrails", cut(n.Value))
		return
	case n.Anchor != "":
		d.errorf(n, "anchors (&%s) are refused; write it out, or use roles and guardrails", cut(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.errorf(n, "tags (%s) are refused; quote what shall be text", cut(n.Tag))
	}
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			d.refuse(c, depth+1)
		}
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.errorf(key, "a key must be plain text, found %s", describe(key))
		case key.ShortTag() == "!!merge":
			d.errorf(key, "merge keys (<<) are refused; write it out")
		case key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
			d.errorf(key, "anchors and tags are refused")
		case seen[key.Value] > 0:
			d.errorf(key, "key %q is given twice, first in line %d", cut(key.Value), seen[key.Value])
		default:
			seen[key.Value] = key.Line
		}
		d.refuse(n.Content[i+1], depth+1)
	}
}
