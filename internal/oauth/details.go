package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const (
	maxDetails     = 16 << 10 // bytes of authorization_details: they travel in every token
	maxDetailCount = 32
	maxDetailDepth = 8
)

// compileDetails makes the schemas of Config.DetailSchemas.
func compileDetails(cfg *Config) (map[string]*validate.Schema, error) {
	all := map[string]*validate.Schema{}
	for kind, text := range cfg.DetailSchemas {
		if !slices.Contains(cfg.DetailTypes, kind) {
			return nil, fmt.Errorf("a schema for authorization_details of type %q, which is not among the types", kind)
		}
		schema, err := validate.NewSchema(text)
		if err != nil {
			return nil, fmt.Errorf("the schema of authorization_details type %q: %w", kind, err)
		}
		all[kind] = schema
	}
	return all, nil
}

// judgeDetails checks an authorization_details parameter (RFC 9396 §2, §5): a
// list of objects, each of a type that is configured and that c is registered
// for, each as its schema wants it. What it returns is written anew, so that all
// who read it later read the same. Every error is invalid_authorization_details.
func (s *Server) judgeDetails(c *Client, raw string) (json.RawMessage, error) {
	if raw == "" {
		return nil, nil
	}
	list, err := s.readDetails(c, raw)
	if err != nil {
		e := refuse("invalid_authorization_details", "The authorization_details are not of a kind this client may ask for.")
		return nil, e.because(err)
	}
	out, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) readDetails(c *Client, raw string) ([]map[string]any, error) {
	if len(raw) > maxDetails {
		return nil, fmt.Errorf("more than %d bytes", maxDetails)
	}
	if err := strictJSON(raw, maxDetailDepth); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.UseNumber()
	var list []map[string]any
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("not a list of objects: %w", err)
	}
	if len(list) == 0 || len(list) > maxDetailCount {
		return nil, fmt.Errorf("%d entries; 1 to %d are taken", len(list), maxDetailCount)
	}
	for i, d := range list {
		if err := s.judgeDetail(c, d); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return list, nil
}

func (s *Server) judgeDetail(c *Client, d map[string]any) error {
	kind, ok := d["type"].(string)
	if !ok || !slices.Contains(s.cfg.DetailTypes, kind) {
		return errors.New("its type is missing or not configured")
	}
	if !slices.Contains(c.DetailTypes, kind) {
		return fmt.Errorf("%s may not ask for the type %q", c.ID, kind)
	}
	// RFC 9396 §2.2: names that mean the same in every type.
	for _, name := range []string{"locations", "actions", "datatypes", "privileges"} {
		v, has := d[name]
		if !has {
			continue
		}
		if _, ok := texts(v); !ok {
			return fmt.Errorf("%s is not a list of strings", name)
		}
	}
	if v, has := d["identifier"]; has {
		if _, ok := v.(string); !ok {
			return errors.New("identifier is not a string")
		}
	}
	for _, at := range detailLocations(d) {
		if !slices.ContainsFunc(s.cfg.Resources, func(r Resource) bool { return r.ID == at }) || len(c.Resources) > 0 && !slices.Contains(c.Resources, at) {
			return fmt.Errorf("the location %.100q is none of this client's resources", at)
		}
	}
	schema := s.details[kind]
	if schema == nil {
		return nil
	}
	if err := schema.Check(d); err != nil {
		return fmt.Errorf("not as the schema of %q wants it: %w", kind, err)
	}
	return nil
}

// placedWithin refuses details that name a location which is none of the
// resources the same request asks for: its token would not be for there.
func placedWithin(details json.RawMessage, resource []string) error {
	if details == nil {
		return nil
	}
	var list []map[string]any
	if err := json.Unmarshal(details, &list); err != nil {
		return err
	}
	for _, d := range list {
		if !subset(detailLocations(d), resource) {
			return refuse("invalid_authorization_details", "The authorization_details name a location that is not among the resources asked for.")
		}
	}
	return nil
}

// detailsAt leaves those details that mean something at one of targets: each API
// reads its own and no other's (RFC 9396 §9).
func detailsAt(details json.RawMessage, targets []*resource) (json.RawMessage, error) {
	if details == nil {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(details))
	dec.UseNumber()
	var list []map[string]any
	if err := dec.Decode(&list); err != nil {
		return nil, err
	}
	n := len(list)
	list = slices.DeleteFunc(list, func(d map[string]any) bool {
		at := detailLocations(d)
		return len(at) > 0 && !slices.ContainsFunc(targets, func(r *resource) bool { return slices.Contains(at, r.ID) })
	})
	switch len(list) {
	case 0:
		return nil, nil
	case n:
		return details, nil
	}
	return json.Marshal(list)
}

// detailLocations are the resources that one entry names.
func detailLocations(d map[string]any) []string {
	at, _ := texts(d["locations"])
	return at
}

func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i := range list {
		if out[i], ok = list[i].(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// strictJSON refuses what two readers could read differently: a name that is
// there twice in one object, or a second value after the first; and what is
// nested deeper than maxDepth.
func strictJSON(raw string, maxDepth int) error {
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.UseNumber()
	if err := strictValue(dec, maxDepth); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func strictValue(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == 0 {
		return errors.New("nested too deeply")
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			t, err := dec.Token()
			if err != nil {
				return fmt.Errorf("not JSON: %w", err)
			}
			name, _ := t.(string)
			if seen[name] {
				return fmt.Errorf("the name %.64q is there twice", name)
			}
			seen[name] = true
		}
		if err := strictValue(dec, depth-1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return nil
}
