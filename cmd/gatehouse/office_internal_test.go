package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// office is a folder with a good config that has an authorization server; it gives
// a function that runs commands in it, which must succeed, and one for those that
// may fail.
func openOffice(t *testing.T, replace ...string) (config string, must func(in string, args ...string) (string, string), try func(in string, args ...string) (string, string, int)) {
	t.Helper()
	config = shop(t, append(replace, "\ntests:", "\noauth: {issuer: \"https://id.example\"}\ntests:")...)
	try = func(in string, args ...string) (string, string, int) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), append(args, "--config", config), stdio{in: strings.NewReader(in), out: &out, err: &errs})
		return out.String(), errs.String(), code
	}
	must = func(in string, args ...string) (string, string) {
		t.Helper()
		out, errs, code := try(in, args...)
		if code != exitOK {
			t.Fatalf("%q ends with %d\n%s%s", args, code, out, errs)
		}
		return out, errs
	}
	return config, must, try
}

func TestAUserAtTheCommandLine(t *testing.T) {
	config, must, _ := openOffice(t)
	id, _ := must("", "users", "create", "Ada", "--email", "ada@example.org", "--email-verified", "--role", "reader", "--claim", "given_name=Ada")
	if id = strings.TrimSpace(id); !strings.HasPrefix(id, "usr_") {
		t.Fatalf("not an id: %q", id)
	}
	must("", "groups", "create", "Desk", "--role", "writer", "--member", "ada")
	type user struct {
		ID, Name, Email, Tenant string
		Active                  bool
		Roles, Groups           []string
		Effective               []string `json:"effective_roles"`
		Claims                  map[string]any
		Factors                 struct{ Password bool }
	}
	show := func() user {
		t.Helper()
		out, _ := must("", "users", "show", "ada@example.org", "-o", "json")
		return decode[user](t, out)
	}
	if u := show(); u.ID != id || u.Name != "ada" || !slices.Equal(u.Effective, []string{"reader", "writer"}) || u.Claims["given_name"] != "Ada" || u.Factors.Password {
		t.Errorf("%+v", u)
	}
	must("", "users", "set", "ada", "--tenant", "acme", "--add-role", "writer", "--remove-role", "reader", "--remove-group", "Desk", "--claim", "given_name=")
	if u := show(); u.Tenant != "acme" || !slices.Equal(u.Roles, []string{"writer"}) || len(u.Groups) > 0 || len(u.Claims) > 0 || u.Email == "" {
		t.Errorf("%+v", u)
	}
	must("a long sentence of Ada's\n", "users", "password", "ada", "--password-stdin")
	if u := show(); !u.Factors.Password {
		t.Error("no password")
	}
	_, errs := must("", "users", "password", "ada", "--mail")
	if !strings.Contains(errs, "ada@example.org") {
		t.Errorf("%s", errs)
	}
	must("", "users", "lock", id, "--why", "stolen")
	if u := show(); u.Active {
		t.Error("not locked")
	}
	must("", "users", "unlock", "ada")
	must("", "users", "reset-mfa", "ada")
	must("", "users", "sign-out", "ada", "--apps")
	for _, list := range []string{"sessions", "grants"} {
		if out, _ := must("", "users", list, "ada", "-o", "json"); decode[[]any](t, out) == nil {
			t.Errorf("%s: %s", list, out)
		}
	}
	must("", "groups", "set", "Desk", "--name", "Front desk", "--add-member", "ada")
	if out, _ := must("", "users", "list", "--group", "Front desk"); !strings.Contains(out, "ada@example.org") {
		t.Errorf("%s", out)
	}
	must("", "groups", "delete", "Front desk")
	must("", "users", "delete", "ada")

	changes, err := auditlog.OpenChanges(filepath.Join(filepath.Dir(config), "data", "events"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := changes.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var acts []string
	for _, c := range all {
		acts = append(acts, c.Action)
		if !strings.HasPrefix(c.Actor, "os:") {
			t.Errorf("%s by %q", c.Action, c.Actor)
		}
	}
	for _, want := range []string{"users.create", "groups.create", "users.update", "users.password", "users.lock", "users.unlock", "groups.update", "groups.delete", "users.delete"} {
		if !slices.Contains(acts, want) {
			t.Errorf("%s is not in the record: %v", want, acts)
		}
	}
	b, _ := json.Marshal(all)
	if strings.Contains(string(b), "sentence") {
		t.Error("a password is in the record")
	}
}

func TestAClientAtTheCommandLine(t *testing.T) {
	config, must, try := openOffice(t)
	out, errs := must("", "clients", "create", "--id", "till", "--name", "Till", "--redirect-uri", "https://till.example/cb", "--scope", "openid")
	if secret := strings.TrimSpace(out); !strings.HasPrefix(secret, "gcs_") || strings.ContainsAny(secret, " \n") || strings.Contains(errs, secret) || !strings.Contains(errs, "till") {
		t.Errorf("%q %q", out, errs)
	}
	if out, _ := must("", "clients", "show", "till"); strings.Contains(out, "gcs_") || !strings.Contains(out, `"client_name": "Till"`) {
		t.Errorf("%s", out)
	}
	file := filepath.Join(filepath.Dir(config), "client.json")
	if err := os.WriteFile(file, []byte(`{"client_name":"App","redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := must("", "clients", "create", file, "--id", "app"); out != "app\n" {
		t.Errorf("%q", out)
	}
	type client struct {
		ID      string                `json:"client_id"`
		Name    string                `json:"client_name"`
		Secret  string                `json:"client_secret"`
		URIs    []string              `json:"redirect_uris"`
		Grants  []string              `json:"grant_types"`
		Off     bool                  `json:"gatehouse_disabled"`
		Secrets []struct{ ID string } `json:"gatehouse_secrets"`
	}
	show := func(id string) client {
		t.Helper()
		out, _ := must("", "clients", "show", id)
		return decode[client](t, out)
	}
	must("", "clients", "set", "app", "--redirect-uri", "https://app.example/two")
	if c := show("app"); c.Name != "App" || !slices.Equal(c.URIs, []string{"https://app.example/two"}) {
		t.Errorf("%+v", c)
	}
	out, _ = must(`{"grant_types":["client_credentials"]}`, "clients", "create", "-", "--id", "robot", "--role", "reader", "-o", "json")
	if c := decode[client](t, out); !strings.HasPrefix(c.Secret, "gcs_") || c.ID != "robot" {
		t.Errorf("%s", out)
	}
	save := filepath.Join(t.TempDir(), "secret")
	if out, _ := must("", "clients", "secret", "add", "robot", "--overlap", "1h", "--save", save); out != "" {
		t.Errorf("the secret is shown and saved: %s", out)
	}
	if b, err := os.ReadFile(save); err != nil || !strings.HasPrefix(string(b), "gcs_") {
		t.Errorf("%s %v", b, err)
	}
	if _, errs, code := try("", "clients", "secret", "add", "robot"); code != exitUsage || !strings.Contains(errs, "two secrets") {
		t.Errorf("%d %s", code, errs)
	}
	must("", "clients", "secret", "revoke", "robot", show("robot").Secrets[0].ID)
	must("", "clients", "disable", "robot")
	if c := show("robot"); !c.Off || len(c.Secrets) != 1 {
		t.Errorf("%+v", c)
	}
	must("", "clients", "enable", "robot")
	must("", "clients", "delete", "robot", "app")
	if out, _ := must("", "clients", "list"); strings.Contains(out, "robot") || !strings.Contains(out, "till") {
		t.Errorf("%s", out)
	}
}

func TestCheckHoldsClientsAgainstTheProfile(t *testing.T) {
	config, must, try := openOffice(t)
	must("", "check")
	must("", "clients", "create", "--id", "till", "--redirect-uri", "https://till.example/cb")
	must("", "check")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.Replace(b, []byte("oauth: {"), []byte("oauth: {profile: fapi2, "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := try("", "check")
	if code != exitFailed || !strings.Contains(out, "error: client till breaks the profile fapi2") || !strings.Contains(out, "gatehouse clients set till") {
		t.Errorf("%d %s", code, out)
	}
	out, _, code = try("", "check", "-o", "json")
	if code != exitFailed || !strings.Contains(out, `"clients"`) {
		t.Errorf("%d %s", code, out)
	}
	decode[any](t, out)
}

func TestTokensAtTheCommandLine(t *testing.T) {
	_, must, try := openOffice(t)
	list := func() []struct{ Kid string } {
		t.Helper()
		out, _ := must("", "token", "keys", "list", "-o", "json")
		return decode[struct{ Keys []struct{ Kid string } }](t, out).Keys
	}
	before := list()
	must("", "token", "keys", "rotate")
	if after := list(); len(after) <= len(before) {
		t.Errorf("%v, then %v", before, after)
	}
	out, _, code := try("noise\n", "token", "inspect", "-o", "json")
	if i := decode[struct {
		Active bool
		Why    string
	}](t, out); code != exitFailed || i.Active || i.Why == "" {
		t.Errorf("%d %s", code, out)
	}
	must("", "token", "revoke", "--jti", "some-id")
	must("", "users", "create", "ada")
	out, _ = must("", "export")
	if e := decode[struct{ People struct{ Users []any } }](t, out); len(e.People.Users) != 1 {
		t.Errorf("%s", out)
	}
}

func TestTheOfficesErrorsNameTheWayOut(t *testing.T) {
	_, must, try := openOffice(t)
	must("", "users", "create", "margaret")
	must("", "groups", "create", "Support")
	must("", "clients", "create", "--id", "till", "--redirect-uri", "https://till.example/cb")
	for name, c := range map[string]struct {
		in   string
		args []string
		says []string
	}{
		"a user there is not":       {"", []string{"users", "lock", "margret"}, []string{`no user "margret"`, `did you mean "margaret"?`, "hint: gatehouse users list"}},
		"a group there is not":      {"", []string{"groups", "set", "Suport"}, []string{`did you mean "Support"?`, "hint: gatehouse groups list"}},
		"a client there is not":     {"", []string{"clients", "show", "til"}, []string{`did you mean "till"?`, "hint: gatehouse clients list"}},
		"a role there is not":       {"", []string{"users", "create", "eve", "--role", "raeder"}, []string{`no role "raeder"`, `did you mean "reader"?`}},
		"a name that is taken":      {"", []string{"users", "create", "Margaret"}, []string{"taken"}},
		"a password on no terminal": {"", []string{"users", "password", "margaret"}, []string{"no terminal", "hint: pipe it in, with --password-stdin"}},
		"no password at all":        {"", []string{"users", "password", "margaret", "--password-stdin"}, []string{"no password on standard input"}},
		"a password too short":      {"short\n", []string{"users", "password", "margaret", "--password-stdin"}, []string{"password is refused"}},
		"a mail to nowhere":         {"", []string{"users", "password", "margaret", "--mail"}, []string{"no verified address", "--email-verified"}},
		"metadata nobody knows":     {`{"redirect_urls":[]}`, []string{"clients", "create", "-"}, []string{`no metadata "redirect_urls"`, `did you mean "redirect_uris"?`}},
		"what the rules forbid":     {"", []string{"clients", "create", "--redirect-uri", "http://till.example/cb"}, []string{"redirect_uris", "https"}},
		"a token that is none":      {"noise", []string{"token", "revoke"}, []string{"nothing to end", "hint: "}},
		"a grant there is not":      {"", []string{"token", "revoke", "--grant", "grt_x"}, []string{"no such grant"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs, code := try(c.in, c.args...)
			if code != exitUsage {
				t.Errorf("exit code %d", code)
			}
			for _, text := range c.says {
				if !strings.Contains(errs, text) {
					t.Errorf("%q does not say %q", errs, text)
				}
			}
		})
	}
	t.Run("a config without oauth", func(t *testing.T) {
		_, errs, code := do(t, "users", "list", "--config", shop(t))
		if code != exitUsage || !strings.Contains(errs, "no oauth") || !strings.Contains(errs, "hint: ") {
			t.Errorf("%d %s", code, errs)
		}
	})
}
