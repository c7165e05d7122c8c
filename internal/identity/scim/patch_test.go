package scim_test

import (
	"net/http"
	"testing"
)

// Each patch is made on the same user; what is looked at is JSON.
func TestPatches(t *testing.T) {
	const work, home = `{"value":"a@example.com","type":"work","primary":true}`, `{"value":"b@example.com","type":"home"}`
	for _, tt := range []struct {
		name  string
		patch string
		attr  string
		want  string
	}{
		{"add sets what is singular", patch(`{"op":"add","path":"title","value":"Guide"}`), "title", `"Guide"`},
		{"an operation's case does not matter", patch(`{"op":"Replace","path":"TITLE","value":"Guide"}`), "title", `"Guide"`},
		{"a path may name its schema", patch(`{"op":"add","path":"urn:ietf:params:scim:schemas:core:2.0:User:title","value":"Guide"}`), "title", `"Guide"`},
		{"replace sets what is not there", patch(`{"op":"replace","path":"nickName","value":"Ally"}`), "nickName", `"Ally"`},
		{"remove unsets", patch(`{"op":"remove","path":"displayName"}`), "displayName", `null`},
		{"null unsets", patch(`{"op":"replace","path":"displayName","value":null}`), "displayName", `null`},
		{"an empty text unsets", patch(`{"op":"replace","path":"displayName","value":""}`), "displayName", `null`},
		{"remove of what is not there is done", patch(`{"op":"remove","path":"nickName"}`), "nickName", `null`},
		{"a sub-attribute leaves the others", patch(`{"op":"replace","path":"name.familyName","value":"Hargreaves"}`), "name", `{"givenName":"Alice","familyName":"Hargreaves"}`},
		{"a complex value leaves what it does not name", patch(`{"op":"replace","path":"name","value":{"familyName":"Hargreaves"}}`), "name", `{"givenName":"Alice","familyName":"Hargreaves"}`},
		{"remove of a sub-attribute leaves the others", patch(`{"op":"remove","path":"name.familyName"}`), "name", `{"givenName":"Alice"}`},
		{"remove of the whole", patch(`{"op":"remove","path":"name"}`), "name", `null`},
		{"add appends to what is multi-valued", patch(`{"op":"add","path":"emails","value":[{"value":"c@example.com"}]}`), "emails", `[` + work + `,` + home + `,{"value":"c@example.com"}]`},
		{"add of what is there changes nothing", patch(`{"op":"add","path":"emails","value":` + home + `}`), "emails", `[` + work + `,` + home + `]`},
		{
			"add of a new primary one takes it from the other", patch(`{"op":"add","path":"emails","value":{"value":"c@example.com","primary":true}}`), "emails",
			`[{"value":"a@example.com","type":"work"},` + home + `,{"value":"c@example.com","primary":true}]`,
		},
		{"replace replaces all values", patch(`{"op":"replace","path":"emails","value":[{"value":"c@example.com"}]}`), "emails", `[{"value":"c@example.com"}]`},
		{"replace by nothing removes all", patch(`{"op":"replace","path":"emails","value":[]}`), "emails", `null`},
		{"a value filter finds the one", patch(`{"op":"replace","path":"emails[type eq \"home\"].value","value":"c@example.com"}`), "emails", `[` + work + `,{"value":"c@example.com","type":"home"}]`},
		{"replace of a filtered value replaces it whole", patch(`{"op":"replace","path":"emails[type eq \"home\"]","value":{"value":"c@example.com"}}`), "emails", `[` + work + `,{"value":"c@example.com"}]`},
		{"add to a filtered value adds to it", patch(`{"op":"add","path":"emails[type eq \"home\"]","value":{"display":"B"}}`), "emails", `[` + work + `,{"value":"b@example.com","type":"home","display":"B"}]`},
		{
			"a filtered value becomes the primary one", patch(`{"op":"replace","path":"emails[type eq \"home\"].primary","value":"True"}`), "emails",
			`[{"value":"a@example.com","type":"work"},{"value":"b@example.com","type":"home","primary":true}]`,
		},
		{"remove by filter removes the one", patch(`{"op":"remove","path":"emails[value sw \"a\"]"}`), "emails", `[` + home + `]`},
		{"remove by a filter nothing matches is done", patch(`{"op":"remove","path":"emails[value sw \"z\"]"}`), "emails", `[` + work + `,` + home + `]`},
		{"remove of a sub-attribute by filter", patch(`{"op":"remove","path":"emails[value sw \"b\"].type"}`), "emails", `[` + work + `,{"value":"b@example.com"}]`},
		{
			"add by filter makes the value that it describes", patch(`{"op":"Add","path":"emails[type eq \"other\"].value","value":"c@example.com"}`), "emails",
			`[` + work + `,` + home + `,{"value":"c@example.com","type":"other"}]`,
		},
		{"add by filter of a first value", patch(`{"op":"Add","path":"phoneNumbers[type eq \"mobile\"].value","value":"+44 2"}`), "phoneNumbers", `[{"value":"+44 2","type":"mobile"}]`},
		{"an extension's attribute", patch(`{"op":"add","path":"` + enterprise + `:department","value":"Tea"}`), enterprise, `{"department":"Tea","manager":{"value":"usr_q"}}`},
		{"an extension's manager as a text", patch(`{"op":"add","path":"` + enterprise + `:manager","value":"usr_k"}`), enterprise, `{"manager":{"value":"usr_k"}}`},
		{"an extension's manager as a list", patch(`{"op":"Add","path":"` + enterprise + `:manager","value":[{"$ref":null,"value":"usr_k"}]}`), enterprise, `{"manager":{"value":"usr_k"}}`},
		{"the last of an extension goes with it", patch(`{"op":"remove","path":"` + enterprise + `:manager"}`), enterprise, `null`},
		{"without path each name is an attribute", patch(`{"op":"replace","value":{"title":"Guide","name":{"familyName":"H"},"id":"usr_x","shoeSize":42,"meta":{}}}`), "name", `{"givenName":"Alice","familyName":"H"}`},
		{"without path a name may have a dot", patch(`{"op":"add","value":{"name.givenName":"Al","` + enterprise + `:department":"Tea"}}`), "name", `{"givenName":"Al","familyName":"Liddell"}`},
		{"without path a name may have a filter", patch(`{"op":"replace","value":{"emails[type eq \"work\"].value":"c@example.com"}}`), "emails", `[{"value":"c@example.com","type":"work","primary":true},` + home + `]`},
		{"without path an extension is an object", patch(`{"op":"add","value":{"` + enterprise + `":{"department":"Tea"}}}`), enterprise, `{"department":"Tea","manager":{"value":"usr_q"}}`},
		{"operations follow one another", patch(`{"op":"remove","path":"emails"}`, `{"op":"add","path":"emails","value":{"value":"c@example.com"}}`, `{"op":"replace","path":"emails.type","value":"work"}`), "emails", `[{"value":"c@example.com","type":"work"}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, nil)
			one := "/Users/" + h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice","displayName":"Alice","name":{"givenName":"Alice","familyName":"Liddell"},
				"emails":[`+work+`,`+home+`],"`+enterprise+`":{"manager":{"value":"usr_q"}}}`).id()
			equal(t, tt.attr, h.ok(t, http.StatusOK, http.MethodPatch, one, tt.patch).at(tt.attr), tt.want)
			equal(t, tt.attr+" later", h.ok(t, http.StatusOK, http.MethodGet, one, "").at(tt.attr), tt.want)
		})
	}
	t.Run("all operations are done, or none", func(t *testing.T) {
		h := newHouse(t, nil)
		one := "/Users/" + h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice"}`).id()
		h.refused(t, http.StatusBadRequest, "invalidPath", http.MethodPatch, one, patch(`{"op":"add","path":"title","value":"x"}`, `{"op":"replace","path":"active","value":false}`, `{"op":"add","path":"shoeSize","value":"42"}`))
		a := h.ok(t, http.StatusOK, http.MethodGet, one, "")
		if a.at("title") != nil || a.at("active") != true || a.header.Get("ETag") != `W/"1"` {
			t.Errorf("got %s", a.raw)
		}
	})
}

func TestGroupsGiveRoles(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice"}`).id()
	bob := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"bob"}`).id()
	member := func(id string) string {
		return `{"$ref":"` + base + `/Users/` + id + `","type":"User","value":"` + id + `"}`
	}
	a := h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{"displayName":"ops","roles":["root"],"members":[{"value":"`+alice+`","display":"Alice"}]}`)
	one := "/Groups/" + a.id()
	equal(t, "members", a.at("members"), `[`+member(alice)+`]`)
	g, err := h.Group(t.Context(), a.id())
	if err != nil || len(g.Roles) != 0 {
		t.Fatalf("got %+v, %v", g, err)
	}
	if _, err := h.UpdateGroup(t.Context(), "root", g.ID, 0, groupRoles("operator")); err != nil {
		t.Fatal(err)
	}
	sorted := func(a, b string) string {
		if a > b {
			a, b = b, a
		}
		return `[` + member(a) + `,` + member(b) + `]`
	}
	for _, step := range []struct{ name, patch, want string }{
		{"add", patch(`{"op":"Add","path":"members","value":[{"$ref":null,"value":"` + bob + `"}]}`), sorted(alice, bob)},
		{"add again", patch(`{"op":"add","path":"members","value":[{"value":"` + bob + `","display":"b"}]}`), sorted(alice, bob)},
		{"remove one by filter", patch(`{"op":"remove","path":"members[value eq \"` + bob + `\"]"}`), `[` + member(alice) + `]`},
		{"remove it again", patch(`{"op":"remove","path":"members[value eq \"` + bob + `\"]"}`), `[` + member(alice) + `]`},
		{"remove one who is named by value leaves the others", patch(`{"op":"Remove","path":"members","value":[{"$ref":null,"value":"` + bob + `"}]}`), `[` + member(alice) + `]`},
		{"remove by an empty list removes nobody", patch(`{"op":"remove","path":"members","value":[]}`), `[` + member(alice) + `]`},
		{"replace", patch(`{"op":"replace","path":"members","value":[{"value":"` + bob + `"}]}`), `[` + member(bob) + `]`},
		{"rename, as Okta does", patch(`{"op":"replace","value":{"id":"` + a.id() + `","displayName":"ops 2"}}`), `[` + member(bob) + `]`},
		{"remove all", patch(`{"op":"remove","path":"members"}`), `null`},
		{"add without path", patch(`{"op":"add","value":{"members":[{"value":"` + alice + `"}]}}`), `[` + member(alice) + `]`},
	} {
		equal(t, step.name, h.ok(t, http.StatusOK, http.MethodPatch, one, step.patch).at("members"), step.want)
	}
	u, err := h.User(t.Context(), alice)
	if err != nil || len(u.Effective) != 1 || u.Effective[0] != "operator" {
		t.Errorf("got %+v, %v", u, err)
	}
	equal(t, "groups", h.ok(t, http.StatusOK, http.MethodGet, "/Users/"+alice, "").at("groups"), `[{"value":"`+a.id()+`","display":"ops 2","$ref":"`+base+one+`"}]`)
	if a := h.ok(t, http.StatusOK, http.MethodGet, one+"?excludedAttributes=members", ""); a.at("members") != nil || a.at("displayName") != "ops 2" {
		t.Errorf("got %s", a.raw)
	}
	if a := h.ok(t, http.StatusOK, http.MethodPut, one, `{"displayName":"ops 3"}`); a.at("members") != nil {
		t.Errorf("got %s", a.raw)
	}
	if g, err := h.Group(t.Context(), a.id()); err != nil || len(g.Roles) != 1 {
		t.Errorf("a PUT takes the roles: %+v, %v", g, err)
	}
	h.ok(t, http.StatusNoContent, http.MethodDelete, one, "")
	h.refused(t, http.StatusNotFound, "", http.MethodGet, one, "")
}
