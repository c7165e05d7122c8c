package validate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// standalone is the name of the one document there is.
const standalone = "schema.json"

// A Schema checks values that are no part of an OpenAPI document. It is immutable
// and safe for concurrent use; a nil one refuses every value.
type Schema struct{ schema *jsonschema.Schema }

// NewSchema compiles a JSON Schema, 2020-12 unless it names another by $schema,
// with formats asserted. It must contain everything it refers to: nothing is read
// from files or the network.
func NewSchema(text []byte) (*Schema, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the schema")
	}
	c := jsonschema.NewCompiler(jsonschema.Options{Direction: jsonschema.Undirected, AssertFormats: true})
	if err := c.AddResource(standalone, doc); err != nil {
		return nil, err
	}
	s, err := c.Compile(standalone)
	if err != nil {
		return nil, err
	}
	return &Schema{s}, nil
}

// Check says whether the schema takes v: nil, bool, string, int64, float64,
// json.Number, []any or map[string]any. Its error says where and why, and never
// holds the value.
func (s *Schema) Check(v any) error {
	if s == nil {
		return errors.New("there is no schema")
	}
	return s.schema.ValidateValue(v)
}
