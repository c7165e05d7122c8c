package validate_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func TestStandaloneSchema(t *testing.T) {
	s, err := validate.NewSchema([]byte(`{"type":"object","required":["amount"],"properties":{"amount":{"$ref":"#/$defs/euros"},"mail":{"format":"email"}},
		"additionalProperties":false,"$defs":{"euros":{"type":"integer","maximum":100}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		v    any
		want string // in the error; "": taken
	}{
		{"what fits is taken", map[string]any{"amount": json.Number("5")}, ""},
		{"a number too large is refused", map[string]any{"amount": json.Number("500")}, "maximum"},
		{"a missing member is refused", map[string]any{}, "required"},
		{"a member too many is refused", map[string]any{"amount": json.Number("5"), "x": nil}, "additionalProperties"},
		{"a format is asserted", map[string]any{"amount": json.Number("5"), "mail": "hunter2"}, "format"},
		{"another type is refused", "5", "type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Check(tt.v)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatal(err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Fatal("the error holds the value")
			}
		})
	}
	t.Run("no schema takes nothing", func(t *testing.T) {
		if err := (*validate.Schema)(nil).Check(nil); err == nil {
			t.Fatal("taken")
		}
	})
	for _, text := range []string{``, `{`, `{} {}`, `{"type":"x"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"https://example.com/s"}`, `{"$ref":"#/nowhere"}`, `{"$ref":"#"}`, `5`} {
		t.Run("what is no schema, or not a whole one, is refused: "+text, func(t *testing.T) {
			if _, err := validate.NewSchema([]byte(text)); err == nil {
				t.Fatal("taken")
			}
		})
	}
}
