package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

type schema = map[string]any

// A schemer describes the structs of shape.go in JSON Schema 2020-12, each under
// $defs by its name.
type schemer struct{ defs schema }

// Schema gives the JSON Schema (2020-12) of gatehouse.yaml and of the files it
// includes, for editors and for tools that write configs. It says what a value
// looks like; [Load] also says what fits together.
func Schema() []byte {
	s := &schemer{defs: schema{}}
	file, included := s.of(reflect.TypeFor[File](), spot{}), s.of(reflect.TypeFor[part](), spot{})
	b, err := json.MarshalIndent(schema{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "gatehouse.yaml",
		"description": "The configuration of Gatehouse. A file without the key gatehouse is one to be included.",
		"type":        "object",
		"if":          schema{"required": []string{"gatehouse"}},
		"then":        file,
		"else":        included,
		"$defs":       s.defs,
	}, "", "  ")
	if err != nil {
		panic(err) // maps, lists and texts of our own
	}
	return append(b, '\n')
}

// of describes a type where at.tag governs it.
func (s *schemer) of(t reflect.Type, at spot) schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if c, ok := reflect.TypeAssert[node](reflect.New(t)); ok {
		return c.schema(s, at)
	}
	switch t {
	case textType:
		return text(at.tag)
	case durationType:
		return schema{"type": "string", "pattern": durations.String()}
	case sizeType:
		return schema{"type": "string", "pattern": sizePattern}
	case prefixType:
		return schema{"type": "string", "pattern": `^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$`}
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.structure(t)
	case reflect.Map:
		m := schema{"type": "object", "additionalProperties": s.of(t.Elem(), at)}
		if keys := at.tag.Get("keys"); keys != "" {
			m["propertyNames"] = schema{"pattern": formats[keys].pattern.String()}
		}
		return m
	case reflect.Slice:
		return list(s.of(t.Elem(), at), at.tag, t.Elem() == textType)
	case reflect.String:
		return text(at.tag)
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return bounded(schema{"type": "integer"}, at.tag, "minimum", "maximum")
	default:
		return schema{} // any: whatever JSON has
	}
}

// structure puts a struct under $defs and refers to it.
func (s *schemer) structure(t reflect.Type) schema {
	ref := schema{"$ref": "#/$defs/" + t.Name()}
	if s.defs[t.Name()] != nil {
		return ref
	}
	def := schema{"type": "object", "additionalProperties": false}
	s.defs[t.Name()] = def // first, for structs within themselves
	properties, required := schema{}, []string{}
	for f := range structFields(t) {
		name := f.Tag.Get("yaml")
		p := s.of(f.Type, spot{name, f.Tag})
		p["description"] = f.Tag.Get("doc")
		if value, ok := f.Tag.Lookup("default"); ok {
			p["default"] = defaultOf(f.Type, value)
		}
		properties[name] = p
		if f.Tag.Get("required") != "" {
			required = append(required, name)
		}
	}
	def["properties"] = properties
	if len(required) > 0 {
		def["required"] = required
	}
	return ref
}

func defaultOf(t reflect.Type, value string) any {
	switch t.Kind() {
	case reflect.Bool:
		return value == "true"
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			panic("config: a tag has the default " + value)
		}
		return n
	case reflect.Slice:
		return strings.Fields(value)
	default:
		return value
	}
}

func text(tag reflect.StructTag) schema {
	if enum := tag.Get("enum"); enum != "" {
		return schema{"type": "string", "enum": strings.Fields(enum)}
	}
	if f, ok := formats[tag.Get("format")]; ok {
		return schema{"type": "string", "pattern": f.pattern.String()}
	}
	return schema{"type": "string", "minLength": 1}
}

func list(items schema, tag reflect.StructTag, distinct bool) schema {
	l := bounded(schema{"type": "array", "items": items}, tag, "minItems", "maxItems")
	if distinct {
		l["uniqueItems"] = true
	}
	return l
}

// bounded adds the bounds that are plain numbers; durations and sizes have theirs
// in the description of the error.
func bounded(m schema, tag reflect.StructTag, low, high string) schema {
	for key, bound := range map[string]string{low: tag.Get("min"), high: tag.Get("max")} {
		if n, err := strconv.Atoi(bound); err == nil {
			m[key] = n
		}
	}
	return m
}

func (*Path) schema(*schemer, spot) schema { return schema{"type": "string", "minLength": 1} }

func (*Secret) schema(*schemer, spot) schema {
	return schema{"type": "string", "pattern": `^\$\{file:.+\}$`}
}

func (*OneOrMany) schema(_ *schemer, at spot) schema {
	return schema{"anyOf": []schema{text(at.tag), list(text(at.tag), at.tag, true)}}
}

func (*RuleNames) schema(_ *schemer, at spot) schema {
	one := schema{"anyOf": []schema{text(at.tag), {"type": "integer", "minimum": 1, "maximum": 999_999_999}}}
	return schema{"anyOf": []schema{one, list(one, at.tag, true)}}
}

func (*Role) schema(s *schemer, _ spot) schema {
	type role Role // without the methods of a node
	grants := text(`format:"grant"`)
	return schema{"anyOf": []schema{grants, list(grants, "", true), s.structure(reflect.TypeFor[role]())}}
}

func (*AuthnWith) schema(*schemer, spot) schema {
	words := text(`format:"name"`)
	return schema{"anyOf": []schema{words, list(words, `min:"1"`, true)}}
}

func (*Rules) schema(s *schemer, _ spot) schema {
	return schema{
		"type": "object", "propertyNames": schema{"pattern": formats["name"].pattern.String()},
		"additionalProperties": schema{"anyOf": []schema{text(""), s.structure(reflect.TypeFor[longRule]())}},
	}
}

func (*Owns) schema(*schemer, spot) schema {
	return schema{
		"type": "object", "propertyNames": schema{"pattern": formats["object"].pattern.String()},
		"additionalProperties": text(`format:"owner"`),
	}
}

func (*Expect) schema(*schemer, spot) schema {
	return schema{"anyOf": []schema{{"enum": []string{"allow", "deny"}}, {"type": "integer", "minimum": 200, "maximum": 599}}}
}

func (*Claim) schema(s *schemer, _ spot) schema {
	ref := schema{"$ref": "#/$defs/claimType"}
	s.defs["claimType"] = schema{"anyOf": []schema{
		{"enum": []string{"any", "string", "integer", "number", "boolean"}},
		{"type": "array", "items": ref, "minItems": 1, "maxItems": 1},
		{"type": "object", "additionalProperties": ref},
	}}
	return schema{"$ref": "#/$defs/claimType"}
}
