package scim_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func people(t *testing.T, h *house) {
	t.Helper()
	for _, body := range []string{
		`{"userName":"alice","externalId":"A-1","displayName":"Alice Liddell","title":"Guide","name":{"givenName":"Alice","familyName":"Liddell"},"active":true,
			"emails":[{"value":"alice@example.com","type":"work","primary":true},{"value":"alice@home.example","type":"home"}],
			"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Wonderland","manager":{"value":"usr_queen"}}}`,
		`{"userName":"bob","externalId":"B-1","displayName":"Bob Builder","active":false,"emails":[{"value":"bob@example.org","type":"work"}]}`,
		`{"userName":"carol","displayName":"Carol \"C\" Ö"}`,
	} {
		h.ok(t, http.StatusCreated, http.MethodPost, "/Users", body)
	}
}

func TestFilters(t *testing.T) {
	h := newHouse(t, nil)
	people(t, h)
	alice, err := h.FindUser(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{"displayName":"Tea Party","members":[{"value":"`+alice.ID+`"}]}`)
	h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{"displayName":"Nobody","externalId":"g2"}`)
	everyone := []string{"alice", "bob", "carol"}
	for filter, want := range map[string][]string{
		`userName eq "alice"`:                          {"alice"},
		`userName Eq "ALICE"`:                          {"alice"},
		`USERNAME eq "alice"`:                          {"alice"},
		`userName eq "nobody"`:                         {},
		`userName ne "alice"`:                          {"bob", "carol"},
		`userName co "o"`:                              {"bob", "carol"},
		`userName sw "ca"`:                             {"carol"},
		`userName ew "b"`:                              {"bob"},
		`userName gt "b"`:                              {"bob", "carol"},
		`userName ge "bob"`:                            {"bob", "carol"},
		`userName lt "bob"`:                            {"alice"},
		`userName le "bob"`:                            {"alice", "bob"},
		`userName co "%"`:                              {},
		`userName co "_"`:                              {},
		`externalId eq "A-1"`:                          {"alice"},
		`externalId eq "a-1"`:                          {}, // with case (RFC 7643 §3.1)
		`externalId pr`:                                {"alice", "bob"},
		`not (externalId pr)`:                          {"carol"},
		`externalId eq null`:                           {"carol"},
		`externalId ne null`:                           {"alice", "bob"},
		`id eq "` + alice.ID + `"`:                     {"alice"},
		`id eq "usr_none"`:                             {},
		`id eq "` + alice.ID + `" and active eq false`: {},
		`active eq true`:                               {"alice", "carol"},
		`active eq False`:                              {"bob"},
		`active eq "False"`:                            {"bob"},
		`active ne true`:                               {"bob"},
		`title pr`:                                     {"alice"},
		`title pr and userName sw "b"`:                 {},
		`title pr or userName sw "b"`:                  {"alice", "bob"},
		`userName sw "a" or userName sw "b" and active eq true`:        {"alice"},
		`(userName sw "a" or userName sw "b") and active eq false`:     {"bob"},
		`not (userName eq "alice") and not (active eq false)`:          {"carol"},
		`name.familyName eq "liddell"`:                                 {"alice"},
		`name pr`:                                                      {"alice"},
		`displayName eq "Carol \"C\" \u00d6"`:                          {"carol"},
		`displayName co "ö"`:                                           {"carol"},
		`emails.value eq "alice@home.example"`:                         {"alice"},
		`emails eq "bob@example.org"`:                                  {"bob"},
		`emails co "example"`:                                          {"alice", "bob"},
		`emails pr`:                                                    {"alice", "bob"},
		`emails[type eq "work" and value ew "org"]`:                    {"bob"},
		`emails[type eq "home" and value ew "com"]`:                    {},
		`emails.type eq "home" and emails.value ew "com"`:              {"alice"}, // of any two values
		`emails[type eq "work"].value sw "alice"`:                      {"alice"},
		`emails[type eq "home"].value sw "bob"`:                        {},
		`emails[not (type eq "work")]`:                                 {"alice"},
		`emails[primary eq true]`:                                      {"alice"},
		`urn:ietf:params:scim:schemas:core:2.0:User:userName eq "bob"`: {"bob"},
		`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "wonderland"`:   {"alice"},
		`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value eq "usr_queen"`: {"alice"},
		`manager eq "usr_queen"`:                               {"alice"},
		`id eq "` + alice.ID + `" and manager eq "usr_queen"`:  {"alice"},
		`meta.lastModified gt "2020-01-01T00:00:00Z"`:          everyone,
		`meta.lastModified ge "2020-01-01T00:00:00.000+01:00"`: everyone,
		`meta.created lt "2020-01-01T00:00:00Z"`:               {},
		`meta.resourceType eq "User"`:                          everyone,
		`groups.display eq "tea party"`:                        {"alice"},
		`groups pr`:                                            {"alice"},
	} {
		t.Run(filter, func(t *testing.T) {
			if got := h.list(t, "/Users", filter); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	for filter, want := range map[string][]string{
		`displayName eq "tea party"`:           {}, // names of groups differ by case
		`displayName eq "Tea Party"`:           {"Tea Party"},
		`displayName sw "Tea"`:                 {"Tea Party"},
		`members.value eq "` + alice.ID + `"`:  {"Tea Party"},
		`members eq "` + alice.ID + `"`:        {"Tea Party"},
		`members[value eq "` + alice.ID + `"]`: {"Tea Party"},
		`not (members pr)`:                     {"Nobody"},
		`externalId eq "g2"`:                   {"Nobody"},
	} {
		t.Run(filter, func(t *testing.T) {
			if got := h.list(t, "/Groups", filter); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestFiltersThatAreRefused(t *testing.T) {
	h := newHouse(t, nil)
	for name, filter := range map[string]string{
		"an attribute there is not":                 `shoeSize eq "42"`,
		"a sub-attribute there is not":              `name.shoe eq "42"`,
		"a password, which answers would spell out": `password sw "a"`,
		"a password's presence":                     `password pr`,
		"an operator there is not":                  `userName like "a"`,
		"no operator":                               `userName`,
		"no value":                                  `userName eq`,
		"a value without quotes":                    `userName eq alice`,
		"a value in the quotes of SQL":              `userName eq 'alice'`,
		"a value without an end":                    `userName eq "alice`,
		"a value that ends in an escape":            `userName eq "alice\`,
		"an escape there is not":                    `userName eq "\x41"`,
		"two filters in a row":                      `userName eq "a" userName eq "b"`,
		"a bracket more":                            `(userName eq "a"))`,
		"a bracket less":                            `((userName eq "a")`,
		"nothing in brackets":                       `()`,
		"not without brackets":                      `not userName eq "a"`,
		"values of what has none":                   `userName[value eq "a"]`,
		"values in values":                          `emails[emails[type eq "a"]]`,
		"values without an end":                     `emails[type eq "a"`,
		"order of true and false":                   `active gt true`,
		"a truth that is none":                      `active eq "maybe"`,
		"a time that is none":                       `meta.created gt "yesterday"`,
		"a part of a time":                          `meta.created co "2026"`,
		"order of null":                             `userName gt null`,
		"a complex attribute":                       `name eq "Alice"`,
		"another resource's attribute":              `members pr`,
		"another schema":                            `urn:ietf:params:scim:schemas:core:2.0:Group:displayName pr`,
		"a whole schema":                            `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User pr`,
		"a number":                                  `userName eq 1`,
		"seventeen levels":                          strings.Repeat("(", 17) + `title pr` + strings.Repeat(")", 17),
		"sixty-five terms":                          `title pr` + strings.Repeat(` or title pr`, 64),
		"nine kilobytes":                            `userName eq "` + strings.Repeat("a", 9<<10) + `"`,
		"bytes that are no text":                    "userName eq \"\xff\"",
	} {
		t.Run(name, func(t *testing.T) {
			h.refused(t, http.StatusBadRequest, "invalidFilter", http.MethodGet, "/Users?filter="+url.QueryEscape(filter), "")
		})
	}
}

func TestWindows(t *testing.T) {
	h := newHouse(t, nil)
	people(t, h)
	for query, want := range map[string]string{
		"":                                 `[3,1,3]`,
		"?count=2":                         `[3,1,2]`,
		"?startIndex=2&count=1":            `[3,2,1]`,
		"?startIndex=3&count=5":            `[3,3,1]`,
		"?startIndex=9":                    `[3,9,0]`,
		"?startIndex=0":                    `[3,1,3]`,
		"?startIndex=-5&count=1":           `[3,1,1]`,
		"?count=0":                         `[3,1,0]`,
		"?count=-1":                        `[3,1,0]`,
		"?count=100000":                    `[3,1,3]`,
		"?filter=userName+pr&count=0":      `[3,1,0]`,
		"?filter=userName+pr&startIndex=2": `[3,2,2]`,
		"?filter=userName+pr&startIndex=2&count=1": `[3,2,1]`,
	} {
		a := h.ok(t, http.StatusOK, http.MethodGet, "/Users"+query, "")
		equal(t, query, []any{a.body["totalResults"], a.body["startIndex"], a.body["itemsPerPage"]}, want)
		if list, ok := a.body["Resources"].([]any); !ok || float64(len(list)) != a.body["itemsPerPage"] {
			t.Errorf("%s: Resources %v", query, a.body["Resources"])
		}
	}
	h.refused(t, http.StatusBadRequest, "invalidValue", http.MethodGet, "/Users?count=many", "")
	h.refused(t, http.StatusBadRequest, "invalidSyntax", http.MethodGet, "/Users?count=1&count=2", "")
	a := h.ok(t, http.StatusOK, http.MethodPost, "/Users/.search", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"filter":"userName sw \"b\"","attributes":["userName"],"startIndex":1,"count":10}`)
	if a.body["totalResults"] != 1.0 || a.at("Resources", 0, "userName") != "bob" || a.at("Resources", 0, "active") != nil {
		t.Errorf("a search by POST: %s", a.raw)
	}
}

func TestProjections(t *testing.T) {
	h := newHouse(t, nil)
	people(t, h)
	for query, want := range map[string]string{
		"attributes=userName":                         `["id","schemas","userName"]`,
		"attributes=username,EMAILS.type":             `["emails","id","schemas","userName"]`,
		"attributes=name.givenName,password,shoeSize": `["id","name","schemas"]`,
		"attributes=shoeSize":                         `["id","schemas"]`,
		"excludedAttributes=emails,name,meta,id,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": `["active","displayName","externalId","id","schemas","title","userName"]`,
	} {
		a := h.ok(t, http.StatusOK, http.MethodGet, "/Users?filter="+url.QueryEscape(`userName eq "alice"`)+"&"+query, "")
		m, _ := a.at("Resources", 0).(map[string]any)
		names := []any{}
		for name := range m {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		equal(t, query, names, want)
		if strings.Contains(query, "EMAILS.type") {
			equal(t, query, m["emails"], `[{"type":"work"},{"type":"home"}]`)
		}
	}
	h.refused(t, http.StatusBadRequest, "invalidValue", http.MethodGet, "/Users?attributes=userName&excludedAttributes=name", "")
}
