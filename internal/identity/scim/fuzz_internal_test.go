package scim

import (
	"testing"
)

func sample() map[string]any {
	return map[string]any{
		"userName": "alice", "active": true, "externalId": "x", "displayName": "Alice",
		"name":        map[string]any{"givenName": "Alice", "familyName": "Liddell"},
		"emails":      []any{map[string]any{"value": "a@example.com", "type": "work", "primary": true}, map[string]any{"value": "b@example.com", "type": "home"}},
		"addresses":   []any{map[string]any{"type": "work", "locality": "Oxford"}},
		enterpriseURN: map[string]any{"department": "Wonderland", "manager": map[string]any{"value": "usr_1"}},
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		`userName eq "alice"`, `emails[type eq "work" and value co "@"].value ew "com"`, `not (active eq false) or title pr and (name.givenName sw "A")`,
		`meta.lastModified gt "2026-01-01T00:00:00Z"`, `urn:ietf:params:scim:schemas:core:2.0:User:userName ne null`, enterpriseURN + `:manager.value eq "usr_1"`,
		`((((`, `emails[`, `userName eq "\`, `a eq "\ud800"`, `not`, `emails[emails[type pr]]`, `active gt true`, ``,
	} {
		f.Add(s)
	}
	rt := newUserType()
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := rt.parseFilter(s)
		if err != nil {
			if fault, ok := asFault(err); !ok || fault.status != 400 || fault.typ != "invalidFilter" {
				t.Fatalf("error %v", err)
			}
			return
		}
		doc := sample()
		opposite, err := rt.parseFilter("not (" + s + ")")
		if err != nil {
			return // one level, or some bytes, too many
		}
		if parsed.match(doc) == opposite.match(doc) {
			t.Fatal("a filter and its opposite agree")
		}
		if !same(doc, sample()) {
			t.Fatal("a filter changes what it looks at")
		}
	})
}

// What a patch leaves is what the schema takes, whatever its path and value.
func FuzzPatch(f *testing.F) {
	for _, s := range []struct{ op, path, value string }{
		{"add", `emails[type eq "work"].value`, "c@example.com"},
		{"replace", `emails[type eq "home"].primary`, "true"},
		{"remove", `emails[value sw "a"]`, ""},
		{"add", "name.givenName", "Bob"},
		{"replace", enterpriseURN + ":manager", "usr_2"},
		{"remove", enterpriseURN + ":department", ""},
		{"remove", "addresses.locality", ""},
		{"add", "emails", "d@example.com"},
		{"replace", "active", "False"},
		{"remove", `emails[type pr].type`, ""},
	} {
		f.Add(s.op, s.path, s.value)
	}
	rt := newUserType()
	f.Fuzz(func(t *testing.T, op, path, value string) {
		target, err := rt.parsePath(path)
		if err != nil {
			if fault, ok := asFault(err); !ok || fault.status != 400 {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, v := range []any{value, map[string]any{"value": value, "primary": true}, []any{map[string]any{"type": value, "value": "v", "primary": true}}, value == "true", nil} {
			doc := sample()
			if err := target.apply(doc, op, v); err != nil {
				if fault, ok := asFault(err); !ok || fault.status != 400 {
					t.Fatalf("error %v", err)
				}
				continue
			}
			again, err := rt.resource(clone(doc))
			if err != nil || !same(again, doc) {
				t.Fatalf("%s %s %v leaves %v, which the schema reads as %v, %v", op, path, v, doc, again, err)
			}
		}
	})
}
