package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

const withAdminAPI = `
oauth: {issuer: "https://localhost"}
`

// newOffice is a site with an authorization server and the admin API, and an API
// key for each role.
func newOffice(t *testing.T) (s *site, keys map[string]string) {
	s = newSite(t, nil)
	s.write("gatehouse.yaml", s.config(withAdminAPI,
		`admin: {`, `admin: {api: {base: /gatehouse/v1}, `,
		`roles: {`, `roles: {root: ["*"], reader: ["gatehouse.users:read"], `))
	k, err := server.OpenKeyRing(t.Context(), s.path())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	keys = map[string]string{}
	for _, role := range []string{"root", "reader", "nothing"} {
		secret, _, err := k.Create(t.Context(), "test", authn.NewKey{Owner: role, Roles: []string{role}})
		if err != nil {
			t.Fatal(err)
		}
		keys[role] = secret.Reveal()
	}
	return s, keys
}

type reply struct {
	*http.Response
	body map[string]any
	text string
}

func (r *running) manage(key, method, path, body string, header ...string) reply {
	r.t.Helper()
	q := must[*http.Request](r.t)(http.NewRequestWithContext(r.t.Context(), method, r.url+"/gatehouse/v1"+path, strings.NewReader(body)))
	q.Host = "localhost"
	if key != "" {
		q.Header.Set("X-API-Key", key)
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	res := must[*http.Response](r.t)(http.DefaultTransport.RoundTrip(q))
	defer res.Body.Close()
	b := must[[]byte](r.t)(io.ReadAll(res.Body))
	out := reply{res, map[string]any{}, string(b)}
	_ = json.Unmarshal(b, &out.body)
	return out
}

func TestTheAdminAPIIsServedThroughTheGateway(t *testing.T) {
	s, keys := newOffice(t)
	r := s.run(s.path())
	root := keys["root"]
	made := r.manage(root, "POST", "/users", `{"name":"Ada","roles":["support"]}`)
	if made.StatusCode != 201 || made.Header.Get("Etag") != `"1"` || made.Header.Get("Gatehouse-Decision") == "" {
		t.Fatalf("%d %v %s", made.StatusCode, made.Header, made.text)
	}
	id := made.body["id"].(string)
	if l := made.Header.Get("Location"); l != "/gatehouse/v1/users/"+id {
		t.Errorf("Location: %s", l)
	}
	for _, c := range []struct {
		name, key, method, path, body string
		status                        int
		reason                        string
	}{
		{"nobody", "", "GET", "/users", "", 401, "credentials_missing"},
		{"no grant", keys["nothing"], "GET", "/users", "", 403, "forbidden"},
		{"who reads", keys["reader"], "GET", "/users/" + id, "", 200, ""},
		{"who reads does not write", keys["reader"], "POST", "/users/" + id + "/lock", "{}", 403, "forbidden"},
		{"nor looks at clients", keys["reader"], "GET", "/clients", "", 403, "forbidden"},
		{"nor takes everything along", keys["reader"], "GET", "/export", "", 403, "forbidden"},
		{"what the schema does not know", root, "POST", "/users", `{"name":"x","admin":true}`, 422, "invalid_body"},
		{"a parameter nobody knows", root, "GET", "/users?who=x", "", 400, "unknown_parameter"},
		{"too large a page", root, "GET", "/users?limit=1001", "", 422, "invalid_query"},
		{"an operation there is not", root, "PUT", "/users", "", 405, "method_not_allowed"},
		{"the API's own refusals look like the gateway's", root, "GET", "/users/usr_none", "", 404, "object_not_found"},
		{"a version that is gone", root, "PATCH", "/users/" + id, `{"tenant":"a"}`, 412, "object_changed"},
		{"everything", root, "GET", "/export", "", 200, ""},
		{"a lockdown without a reason", root, "POST", "/users/" + id + "/lock", "", 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.status == 412 {
				header = []string{"If-Match", `"77"`}
			}
			a := r.manage(c.key, c.method, c.path, c.body, header...)
			reason, _ := a.body["reason"].(string)
			if a.StatusCode != c.status || reason != c.reason {
				t.Fatalf("%d %s, want %d %s", a.StatusCode, a.text, c.status, c.reason)
			}
			if c.reason != "" && (a.Header.Get("Content-Type") != "application/problem+json" || a.body["decision"] == nil) {
				t.Errorf("%v %s", a.Header, a.text)
			}
		})
	}
}

func TestTheCommandLineWorksBesideARunningGateway(t *testing.T) {
	s, keys := newOffice(t)
	r := s.run(s.path())
	o, err := server.OpenOffice(t.Context(), s.path())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	made := r.manage(keys["root"], "POST", "/users", `{"name":"ada"}`)
	u, err := o.People.FindUser(t.Context(), "ADA")
	if err != nil || u.ID != made.body["id"] {
		t.Fatalf("%v %v", u, err)
	}
	if err := o.People.Lock(t.Context(), "os:me", u.ID, "test"); err != nil {
		t.Fatal(err)
	}
	if a := r.manage(keys["root"], "GET", "/users/"+u.ID, ""); a.body["active"] != false {
		t.Errorf("%s", a.text)
	}
	if err := o.RotateSigningKeys(t.Context(), "os:me"); err != nil {
		t.Fatal(err)
	}
	want := string(o.Keyring.JWKS())
	until(t, "the gateway publishes the new keys", 5*time.Second, func() bool {
		q := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", r.url+"/jwks.json", nil))
		q.Host = "localhost"
		res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(q))
		defer res.Body.Close()
		return strings.TrimSpace(string(must[[]byte](t)(io.ReadAll(res.Body)))) == strings.TrimSpace(want)
	})
}

func TestWithoutOAuthThereIsNoOffice(t *testing.T) {
	s := newSite(t, nil)
	if o, err := server.OpenOffice(t.Context(), s.path()); !errors.Is(err, server.ErrNoOAuth) {
		t.Errorf("%v %v", o, err)
	}
}

func TestClientsAreHeldAgainstTheProfile(t *testing.T) {
	s, _ := newOffice(t)
	o, err := server.OpenOffice(t.Context(), s.path())
	if err != nil {
		t.Fatal(err)
	}
	lint := func(ctx context.Context) []plan.Finding {
		t.Helper()
		found, err := server.LintClients(ctx, must[*plan.Plan](t)(plan.Compile(s.path())))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if _, _, err := o.OAuth.CreateClient(t.Context(), "test", "robot", oauth.Metadata{GrantTypes: []string{"client_credentials"}}); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if found := lint(t.Context()); len(found) > 0 {
		t.Errorf("%v", found)
	}
	s.write("gatehouse.yaml", s.config("\noauth: {issuer: \"https://localhost\", profile: fapi2}\n"))
	found := lint(t.Context())
	if len(found) < 2 || !strings.Contains(found[0].Text, "robot") || !strings.Contains(found[0].Text, "gatehouse clients set robot") || found[0].Place == "" {
		t.Errorf("%v", found)
	}
}

func TestTheAdminAPITakesOnlyTokensThatAreForIt(t *testing.T) {
	s, _ := newOffice(t)
	r := s.run(s.path())
	o, err := server.OpenOffice(t.Context(), s.path())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	secret, _, err := o.OAuth.CreateClient(t.Context(), "test", "robot", oauth.Metadata{GrantTypes: []string{"client_credentials"}, Roles: []string{"root"}})
	if err != nil {
		t.Fatal(err)
	}
	token := func(resource string) string {
		t.Helper()
		q := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", r.url+"/token",
			strings.NewReader("grant_type=client_credentials&resource="+url.QueryEscape(resource))))
		q.Host = "localhost"
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.SetBasicAuth("robot", secret.Reveal())
		res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(q))
		defer res.Body.Close()
		var a struct {
			Token string `json:"access_token"`
		}
		b := must[[]byte](t)(io.ReadAll(res.Body))
		if err := json.Unmarshal(b, &a); err != nil || a.Token == "" {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
		return "Bearer " + a.Token
	}
	mine := token("https://localhost/gatehouse/v1")
	made := r.manage("", "POST", "/users", `{"name":"ada"}`, "Authorization", mine)
	if made.StatusCode != 201 {
		t.Fatalf("%d %s", made.StatusCode, made.text)
	}
	if a := r.manage("", "GET", "/users", "", "Authorization", token("https://localhost/")); a.StatusCode != 401 || a.body["reason"] != "token_audience" {
		t.Errorf("a token for the orders: %d %s", a.StatusCode, a.text)
	}
	look := r.manage("", "POST", "/tokens/inspect", must[string](t)(jsonOf(map[string]string{"token": strings.TrimPrefix(mine, "Bearer ")})), "Authorization", mine)
	if look.body["active"] != true || look.body["client_id"] != "robot" {
		t.Errorf("%s", look.text)
	}
	if a := r.manage("", "POST", "/revocations", `{"kind":"client","id":"robot"}`, "Authorization", mine); a.StatusCode != 204 {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	until(t, "the token is refused", time.Second, func() bool { return r.manage("", "GET", "/users", "", "Authorization", mine).StatusCode == 401 })
}

func jsonOf(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
