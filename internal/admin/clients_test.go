package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/admin"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestAClientsLife(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	made := h.must(201, root, "POST", "/clients", `{"client_id":"shop","client_name":"Shop","redirect_uris":["https://shop.example/cb"],"scope":"openid"}`)
	if s := made.text("client_secret"); !strings.HasPrefix(s, "gcs_") || made.Header().Get("Location") != "/gatehouse/v1/clients/shop" {
		t.Fatalf("%s %v", made.Body, made.Header())
	}
	if a := h.must(200, root, "GET", "/clients/shop", ""); strings.Contains(a.Body.String(), "gcs_") || a.text("client_name") != "Shop" {
		t.Errorf("%s", a.Body)
	}
	h.refused("the id again", 409, "object_exists", h.ask(root, "POST", "/clients", `{"client_id":"shop","redirect_uris":["https://shop.example/cb"]}`))
	h.refused("what the profile forbids", 422, "object_refused", h.ask(root, "POST", "/clients", `{"redirect_uris":["http://shop.example/cb"]}`))
	h.refused("a member nobody knows", 422, "invalid_body", h.ask(root, "POST", "/clients", `{"redirect_urls":[]}`))
	h.refused("another id", 422, "object_refused", h.ask(root, "PUT", "/clients/shop", `{"client_id":"other","redirect_uris":["https://shop.example/cb"]}`))
	h.must(200, root, "PUT", "/clients/shop", `{"client_name":"Store","redirect_uris":["https://shop.example/cb"]}`, "If-Match", made.Header().Get("Etag"))
	h.refused("an old version", 412, "object_changed",
		h.ask(root, "PUT", "/clients/shop", `{"redirect_uris":["https://shop.example/cb"]}`, "If-Match", made.Header().Get("Etag")))

	second := h.must(201, root, "POST", "/clients/shop/secrets", `{"overlap":3600}`)
	if !strings.HasPrefix(second.text("client_secret"), "gcs_") {
		t.Errorf("%s", second.Body)
	}
	h.refused("a third secret", 409, "object_state", h.ask(root, "POST", "/clients/shop/secrets", `{"overlap":3600}`))
	h.must(204, root, "DELETE", "/clients/shop/secrets/"+second.text("id"), "")
	h.refused("a secret that is gone", 404, "object_not_found", h.ask(root, "DELETE", "/clients/shop/secrets/"+second.text("id"), ""))
	h.refused("an overlap of ages", 422, "object_refused", h.ask(root, "POST", "/clients/shop/secrets", `{"overlap":9223372036854775807}`))
	if a := h.must(200, root, "POST", "/clients/shop/disable", ""); a.json()["gatehouse_disabled"] != true {
		t.Errorf("%s", a.Body)
	}
	h.must(200, root, "POST", "/clients/shop/enable", "")
	h.must(204, root, "DELETE", "/clients/shop", "")
	h.refused("who is gone", 404, "object_not_found", h.ask(root, "GET", "/clients/shop", ""))
}

func TestAKeysLife(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	made := h.must(201, root, "POST", "/keys", `{"owner":"billing","roles":["billing"],"life":3600,"note":"nights"}`)
	at := "/keys/" + made.text("id")
	if made.text("key") == "" || made.text("expires") == "" || made.text("created_by") != "ann@main" {
		t.Fatalf("%s", made.Body)
	}
	if a := h.must(200, root, "GET", at, ""); strings.Contains(a.Body.String(), made.text("key")) || a.text("state") != "live" {
		t.Errorf("%s", a.Body)
	}
	h.refused("a key of nobody", 422, "object_refused", h.ask(root, "POST", "/keys", `{}`))
	next := h.must(201, root, "POST", at+"/rotate", `{"overlap":60}`)
	h.refused("a third one", 409, "object_state", h.ask(root, "POST", at+"/rotate", `{"overlap":60}`))
	h.must(204, root, "DELETE", at, "")
	if list := h.must(200, root, "GET", "/keys?state=live", "").items(); len(list) != 1 || list[0]["id"] != next.text("id") {
		t.Errorf("%v", list)
	}
	h.refused("no such key", 404, "object_not_found", h.ask(root, "DELETE", "/keys/nope", ""))
}

func TestTokensEndAndKeysChange(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	if i := h.must(200, root, "POST", "/tokens/inspect", `{"token":"noise"}`); i.json()["active"] != false || i.text("why") == "" {
		t.Errorf("%s", i.Body)
	}
	h.refused("noise", 404, "object_not_found", h.ask(root, "POST", "/tokens/revoke", `{"token":"noise"}`))
	h.must(204, root, "POST", "/revocations", `{"kind":"token","id":"some-jti"}`)
	if c := h.last(); c.Action != "tokens.revoke" || c.Object != "some-jti" || c.Actor != "ann@main" {
		t.Errorf("%+v", c)
	}
	if !h.People.Revoked(&token.Claims{JTI: "some-jti"}) {
		t.Error("the token goes on")
	}
	h.refused("a grant there is not", 404, "object_not_found", h.ask(root, "POST", "/revocations", `{"kind":"grant","id":"grt_x"}`))
	h.refused("a user there is not", 404, "object_not_found", h.ask(root, "POST", "/revocations", `{"kind":"user","id":"usr_x"}`))
	h.refused("a client there is not", 404, "object_not_found", h.ask(root, "POST", "/revocations", `{"kind":"client","id":"x"}`))
	h.refused("another kind", 422, "object_refused", h.ask(root, "POST", "/revocations", `{"kind":"house","id":"x"}`))
	before := string(h.Keyring.JWKS())
	sealed, _ := h.Seal.Sign("test", nil)
	keys := h.must(200, root, "POST", "/signing-keys/rotate", "")
	if after := keys.Body.String(); strings.TrimSpace(after) == before || strings.Contains(after, `"d":`) || !strings.Contains(after, `"kid"`) {
		t.Errorf("%s", after)
	}
	if again, _ := h.Seal.Sign("test", nil); bytes.Equal(again, sealed) || h.Seal.Verify("test", nil, sealed) != nil {
		t.Error("the sealing key is the same, or the one before is forgotten")
	}
	if c := h.last(); c.Action != "tokens.keys.rotate" {
		t.Errorf("%+v", c)
	}
}

func TestTheExportHasEverythingButSecrets(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	h.must(201, root, "POST", "/users", `{"name":"ada","password":"a sentence of Ada's alone"}`)
	h.must(201, root, "POST", "/groups", `{"name":"Desk"}`)
	secret := h.must(201, root, "POST", "/clients", `{"client_id":"one","grant_types":["client_credentials"]}`).text("client_secret")
	h.must(201, root, "POST", "/clients", `{"client_id":"two","grant_types":["client_credentials"]}`)
	a := h.must(200, root, "GET", "/export", "")
	var doc struct {
		Version int
		People  struct{ Users, Groups, Links []map[string]any }
		OAuth   struct {
			Clients []oauth.Client
			Grants  []oauth.Grant
		}
	}
	if err := json.Unmarshal(a.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v\n%s", err, a.Body)
	}
	if doc.Version != 1 || len(doc.People.Users) != 1 || len(doc.People.Groups) != 1 || len(doc.OAuth.Clients) != 2 || doc.OAuth.Grants == nil {
		t.Errorf("%s", a.Body)
	}
	for _, s := range []string{secret, "argon2", "gcs_", "sha256"} {
		if strings.Contains(a.Body.String(), s) {
			t.Errorf("%q is in the export", s)
		}
	}
	if c := h.last(); c.Action != "export" || c.Actor != "ann@main" {
		t.Errorf("%+v", c)
	}
}

type brokenLog struct{}

func (brokenLog) Append(context.Context, auditlog.Change) error {
	return errors.New("the disk is full")
}

func TestWhatCannotBeLoggedIsNotDone(t *testing.T) {
	h := newHouse(t)
	before := string(h.Keyring.JWKS())
	h.Log = brokenLog{}
	if err := h.RotateSigningKeys(t.Context(), "me"); err == nil || string(h.Keyring.JWKS()) != before {
		t.Errorf("the keys are rotated: %v", err)
	}
	var out strings.Builder
	if err := h.Export(t.Context(), "me", &out); err == nil || out.Len() > 0 {
		t.Errorf("it is exported: %v %s", err, out.String())
	}
}

func TestABrokenDatabaseIsAnErrorAndNothingElse(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	made := h.must(201, root, "POST", "/users", `{"name":"ada"}`)
	ok(t, h.db.Close())
	for _, c := range [][3]string{
		{"GET", "/users", ""},
		{"GET", "/users/" + made.text("id"), ""},
		{"POST", "/users", `{"name":"bob"}`},
		{"GET", "/clients", ""},
		{"POST", "/keys", `{"owner":"me"}`},
		{"POST", "/revocations", `{"kind":"token","id":"x"}`},
		{"GET", "/export", ""},
	} {
		if a := h.ask(root, c[0], c[1], c[2]); a.Problem == nil || a.Code < 500 || strings.Contains(a.Problem.Detail, "sql") {
			t.Errorf("%v: %d %s %+v", c, a.Code, a.Body, a.Problem)
		}
	}
}

func TestTheZeroConfigIsRefused(t *testing.T) {
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("there is an API of nothing")
	}
}

// TestTheDocumentHasWhatIsServed holds the OpenAPI document and the handlers
// together: an operation in one only is a hole or a dead end.
func TestTheDocumentHasWhatIsServed(t *testing.T) {
	b, err := os.ReadFile("../plan/builtin/admin.openapi.yaml")
	ok(t, err)
	var doc struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	ok(t, yaml.Unmarshal(b, &doc))
	var want []string
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				want = append(want, strings.ToUpper(method)+" "+path)
			}
		}
	}
	source, err := os.ReadFile("admin.go")
	ok(t, err)
	var got []string
	for _, m := range regexp.MustCompile(`"([A-Z]+ /[^"]*)":\s+a\.`).FindAllStringSubmatch(string(source), -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("served:   %v\ndocument: %v", got, want)
	}
	// And what cannot be said in the document cannot come in by it.
	h := newHouse(t)
	for _, w := range want {
		method, path, _ := strings.Cut(w, " ")
		path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "x")
		if a := h.ask(as("root"), method, path, `{"unheard_of":1}`); strings.HasPrefix(method, "P") && a.Code < 400 && !slices.Contains([]string{"/signing-keys/rotate"}, path) {
			t.Errorf("%s takes what nobody knows: %d", w, a.Code)
		}
	}
}

func TestClientsAreFoundInADatabaseAtRest(t *testing.T) {
	h := newHouse(t)
	h.must(201, as("root"), "POST", "/clients", `{"client_id":"one","grant_types":["client_credentials"]}`)
	if all, err := oauth.Stored(t.Context(), h.db); err != nil || len(all) != 1 || all[0].ID != "one" {
		t.Errorf("%v %v", all, err)
	}
	empty, err := store.Open(t.Context(), storetest.At(filepath.Join(t.TempDir(), "x.db")))
	ok(t, err)
	defer empty.Close()
	if all, err := oauth.Stored(t.Context(), empty); err != nil || all != nil {
		t.Errorf("%v %v", all, err)
	}
}
