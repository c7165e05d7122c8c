package scim_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/scim"
)

const (
	enterprise   = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	goodPassword = "correct horse battery staple"
)

func TestAUserFromBirthToDeath(t *testing.T) {
	h := newHouse(t, func(c *scim.Config) { c.TrustEmail = true })
	a := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{
		"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","`+enterprise+`"],
		"userName":"Alice","externalId":"x-1","id":"usr_mine","displayName":"Alice L.","nickName":"Ally","password":"`+goodPassword+`",
		"name":{"givenName":"Alice","familyName":"Liddell","formatted":"Ms. Alice Liddell"},"title":"Guide","timezone":"Europe/London",
		"emails":[{"value":"alice@home.example","type":"home"},{"value":"alice@example.com","type":"work","primary":true}],
		"phoneNumbers":[{"value":"+44 1","type":"work"}],"addresses":[{"type":"work","streetAddress":"1 Road","locality":"Oxford","primary":true}],
		"roles":[{"value":"root"}],"groups":[{"value":"grp_root"}],"shoeSize":42,
		"`+enterprise+`":{"department":"Wonderland","manager":{"value":"usr_q","displayName":"forged"}}}`)
	if a.header.Get("Location") != base+"/Users/"+a.id() || a.header.Get("ETag") != `W/"1"` || a.at("meta", "version") != `W/"1"` || a.at("meta", "location") != base+"/Users/"+a.id() {
		t.Errorf("headers %v, meta %v", a.header, a.at("meta"))
	}
	for _, never := range []string{goodPassword, "password", "root", "forged", "shoeSize", "usr_mine"} {
		if strings.Contains(a.raw, never) {
			t.Errorf("the answer contains %q: %s", never, a.raw)
		}
	}
	equal(t, "name", a.at("name"), `{"givenName":"Alice","familyName":"Liddell","formatted":"Ms. Alice Liddell"}`)
	equal(t, "emails", a.at("emails"), `[{"value":"alice@home.example","type":"home"},{"value":"alice@example.com","type":"work","primary":true}]`)
	equal(t, "extension", a.at(enterprise), `{"department":"Wonderland","manager":{"value":"usr_q"}}`)
	equal(t, "schemas", a.at("schemas"), `["urn:ietf:params:scim:schemas:core:2.0:User","`+enterprise+`"]`)

	u, err := h.User(t.Context(), a.id())
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "alice" || u.Email != "alice@example.com" || u.EmailVerified.IsZero() || u.ExternalID != "x-1" || !u.Active || !u.HasPassword || len(u.Roles) != 0 || len(u.Groups) != 0 {
		t.Errorf("got %+v", u)
	}
	equal(t, "claims", []any{u.Claims["name"], u.Claims["given_name"], u.Claims["family_name"], u.Claims["nickname"], u.Claims["zoneinfo"], u.Claims["phone_number"], u.Claims["address"]},
		`["Alice L.","Alice","Liddell","Ally","Europe/London","+44 1",{"street_address":"1 Road","locality":"Oxford"}]`)
	if _, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Error(err)
	}

	// What is changed here is seen there, and not undone by what does not name it.
	if _, err := h.Update(t.Context(), "alice", u.ID, 0, func(u *identity.User) error {
		u.Email, u.Claims["name"], u.Claims["birthdate"] = "new@example.com", "Alice", "1852-05-04"
		u.Roles = []string{"reader"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := h.ok(t, http.StatusOK, http.MethodGet, "/Users/"+u.ID, "")
	equal(t, "emails", got.at("emails"), `[{"value":"alice@home.example","type":"home"},{"value":"new@example.com","type":"work","primary":true}]`)
	if got.at("displayName") != "Alice" || got.header.Get("ETag") == `W/"1"` {
		t.Errorf("got %s", got.raw)
	}
	if _, err := h.Update(t.Context(), "alice", u.ID, 0, func(u *identity.User) error { u.Claims["phone_number"] = "+44 9"; return nil }); err != nil {
		t.Fatal(err)
	}
	h.ok(t, http.StatusOK, http.MethodPatch, "/Users/"+u.ID, patch(`{"op":"add","path":"title","value":"Queen"}`))
	if u, err := h.User(t.Context(), u.ID); err != nil || u.Claims["phone_number"] != "+44 9" {
		t.Errorf("got %+v, %v", u, err)
	}
	put := h.ok(t, http.StatusOK, http.MethodPut, "/Users/"+u.ID, `{"userName":"alice.l","emails":[{"value":"al@example.com"}]}`)
	if put.at("userName") != "alice.l" || put.at("displayName") != nil || put.at("externalId") != nil || put.at(enterprise) != nil || put.at("active") != true || put.at("name") != nil {
		t.Errorf("a PUT leaves %s", put.raw)
	}
	u, err = h.User(t.Context(), u.ID)
	if err != nil || u.Claims["birthdate"] != "1852-05-04" || !slices.Equal(u.Roles, []string{"reader"}) || !u.HasPassword || u.Email != "al@example.com" || u.EmailVerified.IsZero() {
		t.Errorf("got %+v, %v", u, err)
	}
	h.ok(t, http.StatusNoContent, http.MethodDelete, "/Users/"+u.ID, "")
	h.refused(t, http.StatusNotFound, "", http.MethodGet, "/Users/"+u.ID, "")
	h.refused(t, http.StatusNotFound, "", http.MethodDelete, "/Users/"+u.ID, "")

	all, err := h.log.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Actor != "provisioner" && c.Actor != "alice" {
			t.Errorf("change %+v", c)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d changes", len(all))
	}
}

func TestInactiveIsLocked(t *testing.T) {
	h := newHouse(t, nil)
	for name, body := range map[string]string{
		"a patch":                    patch(`{"op":"replace","path":"active","value":false}`),
		"Okta's patch":               patch(`{"op":"replace","value":{"active":false}}`),
		"Entra's patch":              patch(`{"op":"Replace","path":"active","value":"False"}`),
		"a patch that does more too": patch(`{"op":"add","path":"title","value":"x"}`, `{"op":"replace","path":"active","value":false}`),
		"a PUT":                      `{"userName":"USER","active":false}`,
	} {
		t.Run(name, func(t *testing.T) {
			login := strings.ToLower(strings.NewReplacer(" ", "", "'", "").Replace(name))
			id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"`+login+`"}`).id()
			method := http.MethodPatch
			if name == "a PUT" {
				method, body = http.MethodPut, strings.Replace(body, "USER", login, 1)
			}
			if a := h.ok(t, http.StatusOK, method, "/Users/"+id, body); a.at("active") != false {
				t.Errorf("got %s", a.raw)
			}
			u, err := h.User(t.Context(), id)
			if err != nil || u.Active || u.ValidFrom.IsZero() || h.RevokedAt("user", id).IsZero() {
				t.Errorf("got %+v, revoked at %v, %v", u, h.RevokedAt("user", id), err)
			}
			if a := h.ok(t, http.StatusOK, http.MethodPatch, "/Users/"+id, patch(`{"op":"replace","path":"active","value":"True"}`)); a.at("active") != true {
				t.Errorf("got %s", a.raw)
			}
			if u, err := h.User(t.Context(), id); err != nil || !u.Active {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
	t.Run("a PUT that does not say is neither lock nor key", func(t *testing.T) {
		id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"left","active":false}`).id()
		if a := h.ok(t, http.StatusOK, http.MethodPut, "/Users/"+id, `{"userName":"left","title":"x"}`); a.at("active") != false {
			t.Errorf("got %s", a.raw)
		}
	})
}

func TestPasswords(t *testing.T) {
	opens := func(h *house, password string) bool {
		_, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(password), netip.MustParseAddr("192.0.2.1"))
		return err == nil
	}
	t.Run("are set where the config says so, by the rules of here", func(t *testing.T) {
		h := newHouse(t, nil)
		id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice"}`).id()
		h.refused(t, http.StatusBadRequest, "invalidValue", http.MethodPatch, "/Users/"+id, patch(`{"op":"add","path":"title","value":"x"}`, `{"op":"replace","path":"password","value":"short"}`))
		if a := h.ok(t, http.StatusOK, http.MethodGet, "/Users/"+id, ""); a.at("title") != nil {
			t.Errorf("half of a refused patch is done: %s", a.raw)
		}
		h.ok(t, http.StatusOK, http.MethodPatch, "/Users/"+id, patch(`{"op":"replace","path":"password","value":"`+goodPassword+`"}`), "If-Match", `W/"1"`)
		if !opens(h, goodPassword) {
			t.Error("the password is not taken")
		}
		if a := h.ok(t, http.StatusOK, http.MethodGet, "/Users/"+id+"?attributes=password", ""); strings.Contains(a.raw, "password") {
			t.Errorf("got %s", a.raw)
		}
		u, err := h.User(t.Context(), id)
		if err != nil || strings.Contains(u.Name+errorText(u.Claims), "horse") {
			t.Errorf("the password lies in %+v", u)
		}
	})
	t.Run("are ignored where it does not", func(t *testing.T) {
		h := newHouse(t, func(c *scim.Config) { c.Passwords = false })
		id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice","password":"1mz050nq"}`).id()
		h.ok(t, http.StatusOK, http.MethodPatch, "/Users/"+id, patch(`{"op":"replace","value":{"password":"`+goodPassword+`"}}`))
		h.ok(t, http.StatusOK, http.MethodPut, "/Users/"+id, `{"userName":"alice","password":"`+goodPassword+`"}`)
		if u, err := h.User(t.Context(), id); err != nil || u.HasPassword {
			t.Errorf("got %+v, %v", u, err)
		}
	})
}

func errorText(v any) string {
	m, _ := v.(map[string]any)
	var b strings.Builder
	for name, e := range m {
		s, _ := e.(string)
		b.WriteString(name + s + errorText(e))
	}
	return b.String()
}

func TestVersions(t *testing.T) {
	h := newHouse(t, nil)
	for _, kind := range []struct{ path, body, patch string }{
		{"/Users", `{"userName":"alice"}`, patch(`{"op":"add","path":"externalId","value":"1"}`)},
		{"/Groups", `{"displayName":"g"}`, patch(`{"op":"add","path":"externalId","value":"1"}`)},
	} {
		one := kind.path + "/" + h.ok(t, http.StatusCreated, http.MethodPost, kind.path, kind.body).id()
		h.ok(t, http.StatusNotModified, http.MethodGet, one, "", "If-None-Match", `W/"1"`)
		h.ok(t, http.StatusOK, http.MethodGet, one, "", "If-None-Match", `W/"2"`)
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete} {
			h.refused(t, http.StatusPreconditionFailed, "", method, one, kind.patch, "If-Match", `W/"7"`)
			h.refused(t, http.StatusPreconditionFailed, "", method, one, kind.patch, "If-Match", `nonsense`)
		}
		a := h.ok(t, http.StatusOK, http.MethodPatch, one, kind.patch, "If-Match", `"7", W/"1"`)
		if a.header.Get("ETag") != `W/"2"` {
			t.Errorf("ETag %s", a.header.Get("ETag"))
		}
		h.refused(t, http.StatusPreconditionFailed, "", http.MethodPatch, one, kind.patch, "If-Match", `W/"1"`)
		h.ok(t, http.StatusOK, http.MethodPut, one, kind.body, "If-Match", `*`)
		h.ok(t, http.StatusNoContent, http.MethodDelete, one, "", "If-Match", `W/"3"`)
	}
}

func TestWhatIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice","emails":[{"value":"alice@example.com"}]}`).id()
	h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{"displayName":"g"}`)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		typ                      string
	}{
		{"a user without userName", "POST", "/Users", `{"displayName":"x"}`, 400, "invalidValue"},
		{"a group without displayName", "POST", "/Groups", `{}`, 400, "invalidValue"},
		{"a name that is taken", "POST", "/Users", `{"userName":"ALICE"}`, 409, "uniqueness"},
		{"an address that is taken", "POST", "/Users", `{"userName":"bob","emails":[{"value":"alice@example.com"}]}`, 409, "uniqueness"},
		{"a name that is another's address", "POST", "/Users", `{"userName":"alice@example.com"}`, 409, "uniqueness"},
		{"a group's name that is taken", "POST", "/Groups", `{"displayName":"g"}`, 409, "uniqueness"},
		{"a name of letters of two scripts", "POST", "/Users", `{"userName":"аlice"}`, 400, "invalidValue"},
		{"an address that is none", "POST", "/Users", `{"userName":"bob","emails":[{"value":"bob"}]}`, 400, "invalidValue"},
		{"two primary addresses", "POST", "/Users", `{"userName":"bob","emails":[{"value":"a@example.com","primary":true},{"value":"b@example.com","primary":true}]}`, 400, "invalidValue"},
		{"a number as a name", "POST", "/Users", `{"userName":1}`, 400, "invalidValue"},
		{"a truth that is none", "POST", "/Users", `{"userName":"bob","active":"yes"}`, 400, "invalidValue"},
		{"a name that is a text", "POST", "/Users", `{"userName":"bob","name":"Bob"}`, 400, "invalidValue"},
		{"a name there twice", "POST", "/Users", `{"userName":"bob","userName":"alice"}`, 400, "invalidSyntax"},
		{"a name there twice in two cases", "POST", "/Users", `{"userName":"bob","active":true,"ACTIVE":false}`, 400, "invalidSyntax"},
		{"profile of 20 KB", "POST", "/Users", `{"userName":"bob","addresses":[` + strings.Repeat(`{"formatted":"`+strings.Repeat("x", 1000)+`"},`, 20) + `{}]}`, 400, "invalidValue"},
		{"another schema", "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"userName":"bob"}`, 400, "invalidSyntax"},
		{"no JSON", "POST", "/Users", `userName=bob`, 400, "invalidSyntax"},
		{"a list", "POST", "/Users", `[]`, 400, "invalidSyntax"},
		{"null", "POST", "/Users", `null`, 400, "invalidSyntax"},
		{"bytes that are no text", "POST", "/Users", "{\"userName\":\"\xff\"}", 400, "invalidSyntax"},
		{"nesting without an end", "POST", "/Users", `{"x":` + strings.Repeat("[", 20000), 400, "invalidSyntax"},
		{"a member who is no user", "POST", "/Groups", `{"displayName":"h","members":[{"value":"usr_none"}]}`, 400, "invalidValue"},
		{"a group in a group", "POST", "/Groups", `{"displayName":"h","members":[{"value":"grp_1","type":"Group"}]}`, 400, "invalidValue"},
		{"a member without value", "POST", "/Groups", `{"displayName":"h","members":[{"type":"User"}]}`, 400, "invalidValue"},
		{"a user there is not", "GET", "/Users/usr_none", ``, 404, ""},
		{"a patch of one there is not", "PATCH", "/Users/usr_none", patch(`{"op":"add","path":"title","value":"x"}`), 404, ""},
		{"a PUT of one there is not", "PUT", "/Users/usr_none", `{"userName":"x"}`, 404, ""},
		{"a group there is not", "PATCH", "/Groups/grp_none", patch(`{"op":"add","path":"displayName","value":"x"}`), 404, ""},
		{"a longer path", "GET", "/Users/" + id + "/emails", ``, 404, ""},
		{"no id", "GET", "/Users/", ``, 404, ""},
		{"an endpoint there is not", "GET", "/Me", ``, 404, ""},
		{"a method there is not", "DELETE", "/Users", ``, 405, ""},
		{"another one", "POST", "/Users/" + id, `{}`, 405, ""},
		{"a form", "POST", "/Users", `{"userName":"x"}`, 415, ""},
		{"a body of five megabytes", "POST", "/Users", `{"userName":"` + strings.Repeat("x", 5<<20) + `"}`, 413, ""},
		{"no operations", "PATCH", "/Users/" + id, patch(), 400, "invalidSyntax"},
		{"a patch that is none", "PATCH", "/Users/" + id, `{"userName":"bob"}`, 400, "invalidSyntax"},
		{"an operation there is not", "PATCH", "/Users/" + id, patch(`{"op":"move","path":"title","value":"x"}`), 400, "invalidSyntax"},
		{"a path there is not", "PATCH", "/Users/" + id, patch(`{"op":"add","path":"roles","value":"root"}`), 400, "invalidPath"},
		{"a path with more behind it", "PATCH", "/Users/" + id, patch(`{"op":"add","path":"title eq","value":"x"}`), 400, "invalidPath"},
		{"a path with a broken filter", "PATCH", "/Users/" + id, patch(`{"op":"add","path":"emails[type eq].value","value":"x"}`), 400, "invalidFilter"},
		{"a read-only path", "PATCH", "/Users/" + id, patch(`{"op":"replace","path":"id","value":"usr_1"}`), 400, "mutability"},
		{"groups by way of the user", "PATCH", "/Users/" + id, patch(`{"op":"add","path":"groups","value":[{"value":"grp_1"}]}`), 400, "mutability"},
		{"no userName any more", "PATCH", "/Users/" + id, patch(`{"op":"remove","path":"userName"}`), 400, "invalidValue"},
		{"remove without path", "PATCH", "/Users/" + id, patch(`{"op":"remove"}`), 400, "noTarget"},
		{"a replacement of what is not there", "PATCH", "/Users/" + id, patch(`{"op":"replace","path":"emails[type eq \"none\"].value","value":"x@example.com"}`), 400, "noTarget"},
		{"a value of another type", "PATCH", "/Users/" + id, patch(`{"op":"replace","path":"active","value":"perhaps"}`), 400, "invalidValue"},
		{"a text without path", "PATCH", "/Users/" + id, patch(`{"op":"replace","value":"x"}`), 400, "invalidValue"},
		{"a filter of schemas", "GET", "/Schemas?filter=id+pr", ``, 403, ""},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			headers := []string{}
			if tt.name == "a form" {
				headers = []string{"Content-Type", "application/x-www-form-urlencoded"}
			}
			h.refused(t, tt.status, tt.typ, tt.method, tt.path, tt.body, headers...)
		})
	}
	if _, n, err := h.Users(t.Context(), identity.Query{}); err != nil || n != 1 {
		t.Errorf("%d users, %v", n, err)
	}
	if u, err := h.User(t.Context(), id); err != nil || u.Version != 1 {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestWhatBreaksChangesNothing(t *testing.T) {
	h := newHouse(t, nil)
	id := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{"userName":"alice"}`).id()
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/Users", ""},
		{"GET", "/Users/" + id, ""},
		{"GET", "/Groups", ""},
		{"POST", "/Users", `{"userName":"bob"}`},
		{"POST", "/Groups", `{"displayName":"g"}`},
		{"PATCH", "/Users/" + id, patch(`{"op":"replace","path":"active","value":false}`)},
		{"DELETE", "/Users/" + id, ""},
	} {
		a := h.do(t, r.method, r.path, r.body)
		if a.status != http.StatusInternalServerError || strings.Contains(a.raw, "sql") || strings.Contains(a.raw, "database") {
			t.Errorf("%s %s answers %d %s", r.method, r.path, a.status, a.raw)
		}
	}
}

func TestTheEventHearsWhy(t *testing.T) {
	h := newHouse(t, nil)
	e := &gatehouse.Event{}
	r := httptest.NewRequestWithContext(gatehouse.WithEvent(t.Context(), e), http.MethodGet, base+"/Users?filter=x", http.NoBody)
	h.scim.ServeHTTP(httptest.NewRecorder(), r)
	if e.Reason != "scim_refused" || !strings.Contains(e.Cause, "invalidFilter") {
		t.Errorf("event %+v", e)
	}
}

func TestConfig(t *testing.T) {
	h := newHouse(t, nil)
	for _, b := range []string{"", "/scim", "ftp://id.example.com/scim", "https://id.example.com/scim?x=1"} {
		if _, err := scim.New(scim.Config{Directory: h.Directory, Base: b}); err == nil {
			t.Errorf("base %q is taken", b)
		}
	}
	if _, err := scim.New(scim.Config{Base: base}); err == nil {
		t.Error("no directory is taken")
	}
	if _, err := h.User(t.Context(), "x"); !errors.Is(err, identity.ErrUnknown) {
		t.Error(err)
	}
}
