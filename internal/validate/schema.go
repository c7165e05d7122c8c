package validate

import (
	"errors"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// A schema is one compiled schema with its reduced shape.
type schema struct {
	compiled *jsonschema.Schema
	shape    *gatehouse.Shape
	tree     *jsonschema.Tree // once it is asked for
}

// fields is what the schema says about each place of a value. It is asked for
// while a document is loaded, by one goroutine.
func (s *schema) fields() *jsonschema.Tree {
	if s.tree == nil {
		s.tree = s.compiled.Fields()
	}
	return s.tree
}

func (s *schema) validateValue(v any) error { return s.compiled.ValidateValue(v) }

func (s *schema) appendJSON(dst, src []byte) ([]byte, error) { return s.compiled.Append(dst, src) }

// schema notes why a value was refused.
func (f *faults) schema(in, name string, err error) {
	bad, ok := errors.AsType[*jsonschema.Error](err)
	if !ok { // a check that fails by itself refuses, too
		f.add(in, name, ruleType, "The value could not be checked.")
		return
	}
	f.syntax = f.syntax || bad.Malformed
	for _, v := range bad.Violations {
		if !f.full() {
			f.fields = append(f.fields, gatehouse.FieldError{In: in, Name: clip(name), Pointer: v.Pointer, Rule: v.Keyword, Detail: v.Detail})
		}
	}
}

// schemas compiles the schemas of one document for one direction, each once.
type schemas struct {
	compiler *jsonschema.Compiler
	placed   func(text string) Warning // file and line for URI and pointer
	done     map[string]*schema
}

// anythingURI is the schema of content the document gives none for: any JSON.
const anythingURI = "openapi:/anything"

func newSchemas(dialect jsonschema.Dialect, direction jsonschema.Direction, o *Options, placed func(string) Warning) (*schemas, error) {
	s := &schemas{
		compiler: jsonschema.NewCompiler(jsonschema.Options{
			Dialect: dialect, Direction: direction,
			AssertFormats: true, SkipUnsupportedPatterns: o.SkipUnsupportedPatterns,
			MaxViolations: maxFaults,
		}),
		placed: placed,
		done:   map[string]*schema{},
	}
	return s, s.compiler.AddResource(anythingURI, map[string]any{})
}

// at compiles the schema at a place of the document, or the one of anything.
func (s *schemas) at(a at) (*schema, error) {
	location := anythingURI + "#"
	if a.ok() {
		location = a.location()
	}
	if have := s.done[location]; have != nil {
		return have, nil
	}
	compiled, err := s.compiler.Compile(location)
	if err != nil {
		return nil, errors.New(s.placed(strings.TrimPrefix(err.Error(), "jsonschema: ")).String())
	}
	out := &schema{compiled: compiled, shape: compiled.Shape()}
	if out.shape == nil {
		out.shape = &gatehouse.Shape{}
	}
	s.done[location] = out
	return out, nil
}
