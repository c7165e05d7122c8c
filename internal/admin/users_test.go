package admin_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

func TestAUsersLife(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	made := h.must(201, root, "POST", "/users", `{"name":"Ada","email":"ada@example.org","email_verified":true,"roles":["billing"],"claims":{"given_name":"Ada"},"password":"a sentence of Ada's alone"}`)
	id, at := made.text("id"), "/users/"+made.text("id")
	if made.Header().Get("Location") != "/gatehouse/v1"+at || made.Header().Get("Etag") != `"1"` || made.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", made.Header())
	}
	if strings.Contains(made.Body.String(), "sentence") {
		t.Error("the password is in the answer")
	}
	if c := h.last(); c.Actor != "ann@main" || c.Action != "users.create" || c.Object != id || strings.Contains(fmt.Sprint(c), "sentence") {
		t.Errorf("%+v", c)
	}
	h.refused("the name again", 409, "object_exists", h.ask(root, "POST", "/users", `{"name":"ADA"}`))
	h.refused("a common password", 422, "object_refused", h.ask(root, "POST", "/users", `{"name":"bob","password":"password"}`))
	h.refused("a role there is not", 422, "role_unknown", h.ask(root, "POST", "/users", `{"name":"bob","roles":["biling"]}`))

	changed := h.must(200, root, "PATCH", at, `{"tenant":"acme"}`, "If-Match", `"1"`)
	if changed.text("tenant") != "acme" || changed.text("email") != "ada@example.org" || changed.json()["email_verified"] != true {
		t.Errorf("%s", changed.Body)
	}
	h.refused("an old version", 412, "object_changed", h.ask(root, "PATCH", at, `{"tenant":"other"}`, "If-Match", `"1"`))
	h.refused("a weak version", 412, "object_changed", h.ask(root, "PATCH", at, `{"tenant":"other"}`, "If-Match", `W/"2"`))
	if a := h.must(200, root, "PATCH", at, `{"email":"ada@other.example"}`); a.json()["email_verified"] != false {
		t.Errorf("a new address is verified: %s", a.Body)
	}
	h.refused("a reset by an address nobody has proven", 409, "object_state", h.ask(root, "POST", at+"/mails", `{"kind":"reset"}`))
	h.must(202, root, "POST", at+"/mails", `{"kind":"verification"}`)

	login, err := h.People.Password(t.Context(), "ada", secret("a sentence of Ada's alone"), local)
	ok(t, err)
	cookie, session, err := h.People.Start(t.Context(), login, identity.Origin{Address: "127.0.0.1", Agent: "test"})
	ok(t, err)
	if s := h.must(200, root, "GET", at+"/sessions", "").items(); len(s) != 1 || s[0]["id"] != session.ID || s[0]["user_agent"] != "test" {
		t.Errorf("%v", s)
	}
	h.refused("a session of another", 404, "object_not_found", h.ask(root, "DELETE", at+"/sessions/ses_other", ""))
	h.must(204, root, "DELETE", at+"/sessions/"+session.ID, "")
	if _, _, err := h.People.Session(t.Context(), cookie.Reveal()); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the session goes on: %v", err)
	}
	h.must(204, root, "DELETE", at+"/sessions?apps=true", "")
	h.must(204, root, "PUT", at+"/password", `{"password":"another sentence for Ada"}`)
	if a := h.must(200, root, "POST", at+"/lock", `{"why":"lost laptop"}`); a.json()["active"] != false {
		t.Errorf("%s", a.Body)
	}
	if c := h.last(); c.Detail["why"] != "lost laptop" {
		t.Errorf("%+v", c)
	}
	if _, err := h.People.Password(t.Context(), "ada", secret("another sentence for Ada"), local); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a locked user signs in: %v", err)
	}
	if a := h.must(200, root, "POST", at+"/unlock", ``); a.json()["active"] != true {
		t.Errorf("%s", a.Body)
	}
	if f := h.must(200, root, "GET", at+"/factors", "").json(); f["password"] != true || f["totp"] != false {
		t.Errorf("%v", f)
	}
	h.must(204, root, "DELETE", at+"/factors", "")
	h.must(204, root, "DELETE", at, "")
	h.refused("who is gone", 404, "object_not_found", h.ask(root, "GET", at, ""))
	for _, rest := range []string{"/sessions", "/grants", "/factors"} {
		h.refused("who is gone"+rest, 404, "object_not_found", h.ask(root, "GET", at+rest, ""))
	}
}

func TestNobodyHandsOutMoreThanTheyHave(t *testing.T) {
	h := newHouse(t)
	root, desk := as("root"), as("lead")
	boss := "/users/" + h.must(201, root, "POST", "/users", `{"name":"boss","roles":["root"]}`).text("id")
	clerk := "/users/" + h.must(201, desk, "POST", "/users", `{"name":"clerk","roles":["helpdesk"]}`).text("id")
	admins := h.must(201, root, "POST", "/groups", `{"name":"Admins","roles":["root"]}`).text("id")
	robot := "/clients/" + h.must(201, root, "POST", "/clients", `{"client_id":"robot","grant_types":["client_credentials"],"gatehouse_roles":["root"]}`).text("client_id")
	key := "/keys/" + h.must(201, root, "POST", "/keys", `{"owner":"robot","roles":["root"]}`).text("id")
	scoped := "/keys/" + h.must(201, root, "POST", "/keys", `{"owner":"robot","scopes":["bills"]}`).text("id")
	bossID := strings.TrimPrefix(boss, "/users/")
	for _, c := range []struct{ name, method, target, body string }{
		{"a role to somebody new", "POST", "/users", `{"name":"eve","roles":["root"]}`},
		{"a role by a group", "POST", "/users", `{"name":"eve","groups":["Admins"]}`},
		{"a role to a friend", "PATCH", clerk, `{"roles":["root"]}`},
		{"a group to a friend", "PATCH", clerk, `{"groups":["Admins"]}`},
		{"a password to who has more", "PUT", boss + "/password", `{"password":"a sentence I know myself"}`},
		{"an address to who has more", "PATCH", boss, `{"email":"eve@example.org","email_verified":true}`},
		{"no second factor to who has more", "DELETE", boss + "/factors", ``},
		{"life to who has more", "POST", boss + "/unlock", ``},
		{"an end to who has more", "DELETE", boss, ``},
		{"membership in a group that has more", "PATCH", "/groups/" + admins, `{"add_members":["` + strings.TrimPrefix(clerk, "/users/") + `"]}`},
		{"an end to a group that has more", "DELETE", "/groups/" + admins, ``},
		{"a group with a role", "POST", "/groups", `{"name":"Mine","roles":["billing"]}`},
		{"a client with a role", "POST", "/clients", `{"grant_types":["client_credentials"],"gatehouse_roles":["root"]}`},
		{"a client nobody is asked about", "POST", "/clients", `{"redirect_uris":["https://eve.example/"],"gatehouse_trusted":true}`},
		{"a client that takes others' tokens", "POST", "/clients", `{"grant_types":["urn:ietf:params:oauth:grant-type:token-exchange"],"gatehouse_exchange":["*"]}`},
		{"a secret of a client with a role", "POST", robot + "/secrets", `{"overlap":60}`},
		{"other keys to a client with a role", "PUT", robot, `{"grant_types":["client_credentials"]}`},
		{"life to a client with a role", "POST", robot + "/enable", ``},
		{"a key with a role", "POST", "/keys", `{"owner":"me","roles":["billing"]}`},
		{"a key with a scope", "POST", "/keys", `{"owner":"me","scopes":["bills"]}`},
		{"a key of who has more", "POST", "/keys", `{"owner":"` + bossID + `"}`},
		{"a key of a client that has more", "POST", "/keys", `{"owner":"robot"}`},
		{"the next key of who has more", "POST", key + "/rotate", `{"overlap":60}`},
		{"the next key with a scope", "POST", scoped + "/rotate", `{"overlap":60}`},
	} {
		h.refused(c.name, 403, "role_not_held", h.ask(desk, c.method, c.target, c.body))
	}
	tenant := as("lead")
	tenant.Tenant = "acme"
	h.refused("another tenant", 403, "role_not_held", h.ask(tenant, "POST", "/users", `{"name":"eve","tenant":"other"}`))
	h.refused("a user without tenant", 403, "role_not_held", h.ask(tenant, "PATCH", clerk, `{"tenant":"acme"}`))
	fay := h.must(201, tenant, "POST", "/users", `{"name":"fay","tenant":"acme"}`).text("id")
	clerkID := strings.TrimPrefix(clerk, "/users/")
	h.must(201, root, "POST", "/clients", `{"client_id":"other","grant_types":["client_credentials"],"gatehouse_tenant":"other"}`)
	shared := "/groups/" + h.must(201, root, "POST", "/groups", `{"name":"Shared","members":["`+clerkID+`","`+fay+`"]}`).text("id")
	own := "/groups/" + h.must(201, tenant, "POST", "/groups", `{"name":"Acme","roles":["helpdesk"],"members":["`+fay+`"]}`).text("id")
	for _, c := range []struct{ name, method, target, body string }{
		{"a key of another tenant's user", "POST", "/keys", `{"owner":"` + clerkID + `","tenant":"acme"}`},
		{"a key of another tenant's client", "POST", "/keys", `{"owner":"other","tenant":"acme"}`},
		{"a group with another tenant's user", "POST", "/groups", `{"name":"Theirs","roles":["helpdesk"],"members":["` + clerkID + `"]}`},
		{"membership to another tenant's user", "PATCH", own, `{"add_members":["` + clerkID + `"]}`},
		{"a group of several tenants", "PATCH", shared, `{"remove_members":["` + clerkID + `"]}`},
		{"an end to a group of several tenants", "DELETE", shared, ``},
	} {
		h.refused(c.name, 403, "role_not_held", h.ask(tenant, c.method, c.target, c.body))
	}
	h.must(200, tenant, "PATCH", own, `{"remove_members":["`+fay+`"]}`)
	h.must(201, tenant, "POST", "/keys", `{"owner":"acme-robot","tenant":"acme"}`)

	t.Run("to end what is dangerous is always allowed", func(*testing.T) {
		h.must(200, desk, "POST", boss+"/lock", `{"why":"stolen"}`)
		h.must(204, desk, "DELETE", boss+"/sessions", ``)
		h.must(200, desk, "POST", robot+"/disable", ``)
		h.must(204, desk, "DELETE", key, ``)
		h.must(204, desk, "POST", "/revocations", `{"kind":"user","id":"`+bossID+`"}`)
	})
	t.Run("what one has one may give", func(*testing.T) {
		h.must(200, desk, "PATCH", clerk, `{"roles":["helpdesk","lead"]}`)
		h.must(201, desk, "POST", "/groups", `{"name":"Desk","roles":["helpdesk"]}`)
		h.must(201, desk, "POST", "/keys", `{"owner":"printer","roles":["helpdesk"]}`)
	})
}

func TestNobodyComesPastTheGateway(t *testing.T) {
	h := newHouse(t)
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, httptest.NewRequest("GET", "/users", nil))
	if w.Code != 401 || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.refused("nobody", 401, "authentication_required", h.ask(&gatehouse.Principal{}, "GET", "/export", ""))
}

func TestListsGoOnByCursorsOfTheirOwn(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	for i := range 5 {
		h.must(201, root, "POST", "/users", fmt.Sprintf(`{"name":"user%d"}`, i))
		h.must(201, root, "POST", "/groups", fmt.Sprintf(`{"name":"group%d"}`, i))
		h.must(201, root, "POST", "/clients", fmt.Sprintf(`{"client_id":"client%d","grant_types":["client_credentials"]}`, i))
		h.must(201, root, "POST", "/keys", fmt.Sprintf(`{"owner":"owner%d"}`, i))
	}
	for _, list := range []string{"/users", "/groups", "/clients", "/keys"} {
		seen, next, pages := map[any]bool{}, "", 0
		for {
			target := list + "?limit=2"
			if next != "" {
				target += "&cursor=" + next
			}
			a := h.must(200, root, "GET", target, "")
			if a.json()["total"] != 5.0 || strings.Contains(a.Body.String(), "secret\":\"") {
				t.Errorf("%s: %s", list, a.Body)
			}
			for _, item := range a.items() {
				id := item["id"]
				if id == nil {
					id = item["client_id"]
				}
				if seen[id] {
					t.Errorf("%s: %v comes twice", list, id)
				}
				seen[id] = true
			}
			if pages++; pages > 4 {
				t.Fatalf("%s does not end", list)
			}
			if next = a.text("next"); next == "" {
				break
			}
			other := "/users"
			if list == other {
				other = "/users?search=x"
			}
			glue := "?"
			if strings.Contains(other, "?") {
				glue = "&"
			}
			h.refused("a cursor of another list", 400, "cursor_invalid", h.ask(root, "GET", other+glue+"cursor="+next, ""))
		}
		if len(seen) != 5 {
			t.Errorf("%s: %v", list, seen)
		}
		h.refused("a made up cursor", 400, "cursor_invalid", h.ask(root, "GET", list+"?cursor=eyJsIjoiIn0", ""))
	}
	if a := h.must(200, root, "GET", "/users?search=SER3", ""); len(a.items()) != 1 || a.json()["total"] != 1.0 {
		t.Errorf("%s", a.Body)
	}
	if a := h.must(200, root, "GET", "/clients?search=nt3", ""); len(a.items()) != 1 || a.json()["total"] != 1.0 {
		t.Errorf("%s", a.Body)
	}
}

func TestTwoAdministratorsLoseNothing(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	made := h.must(201, root, "POST", "/users", `{"name":"ada"}`)
	at, version := "/users/"+made.text("id"), made.Header().Get("Etag")
	var wg sync.WaitGroup
	codes := make([]int, 4)
	for i, body := range []string{`{"tenant":"acme"}`, `{"external_id":"x1"}`, `{"email":"ada@example.org"}`, `{"claims":{"given_name":"Ada"}}`} {
		wg.Go(func() { codes[i] = h.ask(root, "PATCH", at, body).Code })
	}
	wg.Wait()
	u := h.must(200, root, "GET", at, "")
	for i, name := range []string{"tenant", "external_id", "email", "claims"} {
		if done := u.json()[name] != nil; codes[i] != 200 || !done {
			t.Errorf("%s: %d, done %t", name, codes[i], done)
		}
	}
	won := 0
	for i := range codes {
		version := u.Header().Get("Etag")
		wg.Go(func() {
			codes[i] = h.ask(root, "PATCH", at, fmt.Sprintf(`{"tenant":"t%d"}`, i), "If-Match", version).Code
		})
	}
	wg.Wait()
	for _, code := range codes {
		if code == 200 {
			won++
		}
	}
	if won != 1 || u.Header().Get("Etag") == version {
		t.Errorf("of four who read the same version %d changed it: %v", won, codes)
	}
}
