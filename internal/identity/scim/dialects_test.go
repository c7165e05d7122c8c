package scim_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/scim"
)

func groupRoles(roles ...string) func(*identity.Group) error {
	return func(g *identity.Group) error { g.Roles = roles; return nil }
}

// The requests of Okta's provisioning, in the order and form that its developer
// documentation for SCIM 2.0 gives.
func TestOkta(t *testing.T) {
	h := newHouse(t, func(c *scim.Config) { c.Passwords = false })
	find := "/Users?filter=" + url.QueryEscape(`userName eq "test.user@okta.local.example"`) + "&startIndex=1&count=100"
	a := h.ok(t, http.StatusOK, http.MethodGet, find, "", "Accept", "application/scim+json")
	equal(t, "nobody", []any{a.at("schemas"), a.at("totalResults"), a.at("Resources")}, `[["urn:ietf:params:scim:api:messages:2.0:ListResponse"],0,[]]`)
	a = h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "test.user@okta.local.example",
		"name": {"givenName": "Test", "familyName": "User"}, "emails": [{"primary": true, "value": "test.user@okta.local.example", "type": "work"}],
		"displayName": "Test User", "locale": "en-US", "externalId": "00ujl29u0le5T6Aj10h7", "groups": [], "password": "1mz050nq", "active": true}`)
	user := "/Users/" + a.id()
	equal(t, "the new user", []any{a.at("userName"), a.at("name"), a.at("emails"), a.at("displayName"), a.at("locale"), a.at("externalId"), a.at("active"), a.at("meta", "resourceType")},
		`["test.user@okta.local.example",{"givenName":"Test","familyName":"User"},[{"primary":true,"value":"test.user@okta.local.example","type":"work"}],"Test User","en-US","00ujl29u0le5T6Aj10h7",true,"User"]`)
	if a := h.ok(t, http.StatusOK, http.MethodGet, find, ""); a.at("totalResults") != 1.0 || a.at("Resources", 0, "id") != strings.TrimPrefix(user, "/Users/") {
		t.Errorf("found %s", a.raw)
	}
	h.refused(t, http.StatusConflict, "uniqueness", http.MethodPost, "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"test.user@okta.local.example"}`)
	h.ok(t, http.StatusOK, http.MethodGet, "/Users?startIndex=1&count=2", "")
	a = h.ok(t, http.StatusOK, http.MethodPut, user, `{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": "`+a.id()+`", "userName": "test.user@okta.local.example",
		"name": {"givenName": "Another", "middleName": "Excited", "familyName": "User"},
		"emails": [{"primary": true, "value": "test.user@okta.local.example", "type": "work", "display": "test.user@okta.local.example"}],
		"active": true, "groups": [], "meta": {"resourceType": "User"}}`)
	equal(t, "the changed user", []any{a.at("name"), a.at("active"), a.at("displayName")}, `[{"givenName":"Another","middleName":"Excited","familyName":"User"},true,null]`)

	a = h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Test SCIMv2", "members": []}`)
	group := "/Groups/" + a.id()
	h.ok(t, http.StatusOK, http.MethodGet, "/Groups?startIndex=1&count=100", "")
	a = h.ok(t, http.StatusOK, http.MethodPatch, group, patch(`{"op":"replace","value":{"id":"`+a.id()+`","displayName":"Test SCIMv22"}}`))
	if a.at("displayName") != "Test SCIMv22" {
		t.Errorf("got %s", a.raw)
	}
	id := strings.TrimPrefix(user, "/Users/")
	a = h.ok(t, http.StatusOK, http.MethodPatch, group, patch(`{"op":"remove","path":"members[value eq \"`+id+`\"]"}`, `{"op":"add","path":"members","value":[{"value":"`+id+`","display":"test.user@okta.local.example"}]}`))
	if a.at("members", 0, "value") != id || a.at("members", 1) != nil {
		t.Errorf("got %s", a.raw)
	}
	a = h.ok(t, http.StatusOK, http.MethodPut, group, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"id":"`+a.id()+`","displayName":"Test SCIMv2","members":[{"value":"`+id+`","display":"test.user"}]}`)
	if a.at("members", 0, "value") != id || a.at("displayName") != "Test SCIMv2" {
		t.Errorf("got %s", a.raw)
	}
	a = h.ok(t, http.StatusOK, http.MethodPatch, user, patch(`{"op":"replace","value":{"active":false}}`))
	if a.at("active") != false || a.at("groups", 0, "display") != "Test SCIMv2" {
		t.Errorf("got %s", a.raw)
	}
	h.ok(t, http.StatusNoContent, http.MethodDelete, group, "")
}

// The requests of Microsoft Entra ID, in the order and form that its documentation
// ("Develop and plan provisioning for a SCIM endpoint") gives, with the older
// dialect that writes truths as texts.
func TestEntra(t *testing.T) {
	h := newHouse(t, func(c *scim.Config) { c.TrustEmail = true })
	if got := h.list(t, "/Users", `userName eq "3a7b9e60-not-a-user"`); len(got) != 0 {
		t.Errorf("the test of the connection finds %q", got)
	}
	a := h.ok(t, http.StatusCreated, http.MethodPost, "/Users", `{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "`+enterprise+`"], "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
		"userName": "Test_User_ab6490ee@testuser.example", "active": "True",
		"emails": [{"primary": "True", "type": "work", "value": "Test_User_fd0ea19b@testuser.example"}],
		"meta": {"resourceType": "User"}, "name": {"formatted": "givenName familyName", "familyName": "familyName", "givenName": "givenName"}, "roles": []}`)
	user, id := "/Users/"+a.id(), a.id()
	if got := h.list(t, "/Users", `userName eq "Test_User_ab6490ee@testuser.example"`); !slices.Equal(got, []string{"test_user_ab6490ee@testuser.example"}) {
		t.Errorf("found %q", got)
	}
	if got := h.list(t, "/Users", `externalId eq "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef"`); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	a = h.ok(t, http.StatusOK, http.MethodPatch, user, patch(`{"op":"Replace","path":"emails[type eq \"work\"].value","value":"updatedEmail@microsoft.example"}`, `{"op":"Replace","path":"name.familyName","value":"updatedFamilyName"}`))
	equal(t, "the changed user", []any{a.at("emails"), a.at("name")}, `[[{"primary":true,"type":"work","value":"updatedEmail@microsoft.example"}],{"formatted":"givenName familyName","familyName":"updatedFamilyName","givenName":"givenName"}]`)
	if u, err := h.User(t.Context(), id); err != nil || u.Email != "updatedemail@microsoft.example" || u.EmailVerified.IsZero() {
		t.Errorf("got %+v, %v", u, err)
	}
	a = h.ok(t, http.StatusOK, http.MethodPatch, user, patch(`{"op":"Replace","path":"userName","value":"5b50642d-79fc-4410-9e90-4c077cdd1a59@testuser.example"}`))
	if a.at("userName") != "5b50642d-79fc-4410-9e90-4c077cdd1a59@testuser.example" {
		t.Errorf("got %s", a.raw)
	}
	h.ok(t, http.StatusOK, http.MethodPatch, user, patch(
		`{"op":"Add","path":"`+enterprise+`:department","value":"bob"}`, `{"op":"Add","path":"`+enterprise+`:manager","value":"`+id+`"}`,
		`{"op":"Add","path":"addresses[type eq \"work\"].locality","value":"Redmond"}`, `{"op":"Add","path":"phoneNumbers[type eq \"mobile\"].value","value":"1"}`,
		`{"op":"Add","value":{"title":"T","name.givenName":"G","`+enterprise+`:division":"D"}}`,
	))
	if got := h.list(t, "/Users", `id eq "`+id+`" and manager eq "`+id+`"`); len(got) != 1 {
		t.Errorf("its manager's: %q", got)
	}
	a = h.ok(t, http.StatusOK, http.MethodPatch, user, patch(`{"op":"Replace","path":"active","value":"False"}`))
	equal(t, "what became of it", []any{a.at("active"), a.at(enterprise), a.at("addresses"), a.at("title"), a.at("name", "givenName")},
		`[false,{"department":"bob","division":"D","manager":{"value":"`+id+`"}},[{"type":"work","locality":"Redmond"}],"T","G"]`)

	a = h.ok(t, http.StatusCreated, http.MethodPost, "/Groups", `{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group", "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
		"externalId": "8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159", "displayName": "displayName", "meta": {"resourceType": "Group"}}`)
	group := "/Groups/" + a.id()
	h.ok(t, http.StatusOK, http.MethodGet, group+"?excludedAttributes=members", "")
	found := h.ok(t, http.StatusOK, http.MethodGet, "/Groups?excludedAttributes=members&filter="+url.QueryEscape(`displayName eq "displayName"`), "")
	if found.at("totalResults") != 1.0 || found.at("Resources", 0, "externalId") != "8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159" {
		t.Errorf("found %s", found.raw)
	}
	h.ok(t, http.StatusOK, http.MethodPatch, group, patch(`{"op":"Replace","path":"displayName","value":"1879db59-3bdf-4490-ad68-ab880a269474updatedDisplayName"}`))
	h.ok(t, http.StatusOK, http.MethodPatch, group, patch(`{"op":"Add","path":"members","value":[{"$ref":null,"value":"`+id+`"}]}`))
	if got := h.list(t, "/Groups", `id eq "`+a.id()+`" and members eq "`+id+`"`); len(got) != 1 {
		t.Errorf("groups of the member: %q", got)
	}
	a = h.ok(t, http.StatusOK, http.MethodPatch, group, patch(`{"op":"Remove","path":"members","value":[{"$ref":null,"value":"`+id+`"}]}`))
	if a.at("members") != nil {
		t.Errorf("got %s", a.raw)
	}
	h.ok(t, http.StatusNoContent, http.MethodDelete, group, "")
	h.ok(t, http.StatusNoContent, http.MethodDelete, user, "")
}

func TestDiscovery(t *testing.T) {
	h := newHouse(t, nil)
	a := h.ok(t, http.StatusOK, http.MethodGet, "/ServiceProviderConfig", "")
	equal(t, "what is supported", []any{a.at("patch", "supported"), a.at("filter", "supported"), a.at("filter", "maxResults"), a.at("bulk", "supported"), a.at("etag", "supported"), a.at("changePassword", "supported"), a.at("sort", "supported")},
		`[true,true,200,false,true,true,false]`)
	a = h.ok(t, http.StatusOK, http.MethodGet, "/ResourceTypes", "")
	equal(t, "types", []any{a.at("totalResults"), a.at("Resources", 0, "endpoint"), a.at("Resources", 0, "schemaExtensions"), a.at("Resources", 1, "schema")},
		`[2,"/Users",[{"schema":"`+enterprise+`","required":false}],"urn:ietf:params:scim:schemas:core:2.0:Group"]`)
	h.ok(t, http.StatusOK, http.MethodGet, "/ResourceTypes/User", "")
	h.refused(t, http.StatusNotFound, "", http.MethodGet, "/ResourceTypes/Device", "")
	a = h.ok(t, http.StatusOK, http.MethodGet, "/Schemas", "")
	if a.at("totalResults") != 3.0 {
		t.Errorf("got %s", a.raw)
	}
	a = h.ok(t, http.StatusOK, http.MethodGet, "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User", "")
	list, _ := a.at("attributes").([]any)
	seen := map[string]any{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		seen[name] = []any{m["type"], m["multiValued"], m["required"], m["caseExact"], m["mutability"], m["returned"], m["uniqueness"]}
	}
	equal(t, "userName", seen["userName"], `["string",false,true,false,"readWrite","default","server"]`)
	equal(t, "password", seen["password"], `["string",false,false,false,"writeOnly","never","none"]`)
	equal(t, "groups", seen["groups"], `["complex",true,false,null,"readOnly","default",null]`)
	h.refused(t, http.StatusNotFound, "", http.MethodGet, "/Schemas/urn:none", "")
	h.refused(t, http.StatusMethodNotAllowed, "", http.MethodPost, "/Schemas", "{}")
}
