package scim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/scim"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const base = "https://id.example.com/scim/v2"

// A house is a directory behind its SCIM endpoints.
type house struct {
	*identity.Directory
	scim http.Handler
	log  *auditlog.Changes
	db   *store.DB
}

func newHouse(t testing.TB, set func(*scim.Config)) *house {
	t.Helper()
	dir := t.TempDir()
	h := &house{}
	var err error
	if h.db, err = store.Open(t.Context(), storetest.At(filepath.Join(dir, "gatehouse.db"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	if h.log, err = auditlog.OpenChanges(filepath.Join(dir, "events")); err != nil {
		t.Fatal(err)
	}
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	h.Directory, err = identity.Open(t.Context(), identity.Config{DB: h.db, Seal: seal, Log: h.log, Issuer: "https://id.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := scim.Config{
		Directory: h.Directory, Base: base, Passwords: true,
		May: func(who *gatehouse.Principal, roles []string) bool {
			return slices.Contains(who.Roles, "warden") || !slices.Contains(roles, "warden")
		},
	}
	if set != nil {
		set(&cfg)
	}
	if h.scim, err = scim.New(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// An answer is a response with its JSON read.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

// do sends a request as the gateway would. Headers are name, value pairs.
func (h *house) do(t testing.TB, method, path, body string, headers ...string) *answer {
	t.Helper()
	ctx := gatehouse.WithPrincipal(t.Context(), &gatehouse.Principal{Subject: "provisioner", Issuer: "keys", Method: gatehouse.MethodAPIKey})
	r := httptest.NewRequestWithContext(gatehouse.WithEvent(ctx, &gatehouse.Event{Subject: "provisioner"}), method, base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.scim.ServeHTTP(w, r)
	a := &answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			t.Fatalf("%s %s answers %q: %v", method, path, w.Body, err)
		}
	}
	return a
}

// ok sends a request and wants that status.
func (h *house) ok(t testing.TB, status int, method, path, body string, headers ...string) *answer {
	t.Helper()
	a := h.do(t, method, path, body, headers...)
	if a.status != status {
		t.Fatalf("%s %s answers %d %s, want %d", method, path, a.status, a.raw, status)
	}
	if status < 300 && a.status != http.StatusNoContent && !strings.HasPrefix(a.header.Get("Content-Type"), "application/scim+json") {
		t.Errorf("content type %q", a.header.Get("Content-Type"))
	}
	return a
}

// refused sends a request and wants a SCIM error.
func (h *house) refused(t testing.TB, status int, typ, method, path, body string, headers ...string) {
	t.Helper()
	a := h.do(t, method, path, body, headers...)
	got, _ := a.body["scimType"].(string)
	if a.status != status || got != typ || a.body["status"] != itoa(status) || !strings.Contains(a.raw, "urn:ietf:params:scim:api:messages:2.0:Error") {
		t.Errorf("%s %s answers %d %s, want %d %s", method, path, a.status, a.raw, status, typ)
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// at walks into an answer: names, and indices of lists.
func (a *answer) at(path ...any) any {
	v := any(a.body)
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (a *answer) id() string {
	s, _ := a.body["id"].(string)
	return s
}

// list asks for the userNames, or displayNames, that match.
func (h *house) list(t testing.TB, path, filter string) []string {
	t.Helper()
	a := h.ok(t, http.StatusOK, http.MethodGet, path+"?filter="+url.QueryEscape(filter), "")
	names := []string{}
	resources, _ := a.body["Resources"].([]any)
	for _, r := range resources {
		m, _ := r.(map[string]any)
		s, ok := m["userName"].(string)
		if !ok {
			s, _ = m["displayName"].(string)
		}
		names = append(names, s)
	}
	if n, _ := a.body["totalResults"].(float64); int(n) != len(names) {
		t.Errorf("totalResults %v of %q", n, names)
	}
	return names
}

// patch is the body of a PATCH with these operations, in JSON.
func patch(operations ...string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + strings.Join(operations, ",") + `]}`
}

// equal compares an answer's value with JSON.
func equal(t testing.TB, what string, got any, want string) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	canonical, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, canonical) {
		t.Errorf("%s is %s, want %s", what, b, canonical)
	}
}
