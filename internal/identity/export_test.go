package identity_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

func exportedHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t, nil)
	_, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "authors", Roles: []string{"author"}})
	wantErr(t, err, nil)
	h.create(t, identity.NewUser{
		Name: "alice", Email: "alice@example.com", EmailVerified: true, Roles: []string{"editor"}, Groups: []string{"authors"}, Tenant: "acme",
		ExternalID: "x1", Claims: map[string]any{"name": "Alice \u2028 \"A\"", "address": map[string]any{"country": "AT"}}, Password: gatehouse.NewSecret(goodPassword),
	})
	guest := h.create(t, identity.NewUser{Name: "guest", Source: "google", Inactive: true})
	h.exec(t, `INSERT INTO links (source, subject, user_id, created) VALUES ('google', '1234', $1, 1700000000000)`, guest.ID)
	return h
}

var changing = regexp.MustCompile(`(usr|grp)_[0-9a-f]{32}|20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)

func TestExport(t *testing.T) {
	h := exportedHouse(t)
	var b bytes.Buffer
	wantErr(t, h.Export(t.Context(), &b, identity.ExportOptions{}), nil)
	if !json.Valid(b.Bytes()) {
		t.Errorf("no JSON: %s", b.Bytes())
	}
	seen := map[string]string{}
	got := changing.ReplaceAllStringFunc(b.String(), func(s string) string {
		prefix, _, _ := strings.Cut(s, "_")
		if len(prefix) > 3 {
			return "TIME"
		}
		if seen[s] == "" {
			seen[s] = prefix + "_" + string(rune('A'+len(seen)))
		}
		return seen[s]
	})
	want, err := os.ReadFile("testdata/export.json")
	wantErr(t, err, nil)
	if got != string(want) {
		t.Errorf("got\n%s", got)
	}
	if strings.Contains(b.String(), "argon2") {
		t.Error("there are hashes in it")
	}
}

func TestHashesAreExportedToWhoSaysSo(t *testing.T) {
	h := exportedHouse(t)
	var b bytes.Buffer
	wantErr(t, h.Export(t.Context(), &b, identity.ExportOptions{Hashes: true}), identity.ErrInvalid)
	if b.Len() != 0 {
		t.Error("something is written")
	}
	wantErr(t, h.Export(t.Context(), &b, identity.ExportOptions{Hashes: true, Actor: "root"}), nil)
	if strings.Count(b.String(), `"password":"$argon2id$`) != 1 || !json.Valid(b.Bytes()) {
		t.Errorf("got %s", b.Bytes())
	}
	if last := h.changes(t)[len(h.changes(t))-1]; last.Action != "users.export" || last.Actor != "root" {
		t.Errorf("logged %+v", last)
	}
}

var errNoRoom = errors.New("no room")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errNoRoom }

func TestAnExportThatIsCutIsAnError(t *testing.T) {
	h := exportedHouse(t)
	wantErr(t, h.Export(t.Context(), fullWriter{}, identity.ExportOptions{}), errNoRoom)
	wantErr(t, h.db.Close(), nil)
	var b bytes.Buffer
	if h.Export(t.Context(), &b, identity.ExportOptions{}) == nil {
		t.Error("a database that is closed is exported")
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	h := newHouse(t, nil)
	good := identity.Config{DB: h.db, Seal: h.seal, Log: h.log, Issuer: "https://id.example.com"}
	for sentence, set := range map[string]func(*identity.Config){
		"no database":                  func(c *identity.Config) { c.DB = nil },
		"no sealing key":               func(c *identity.Config) { c.Seal = nil },
		"no log":                       func(c *identity.Config) { c.Log = nil },
		"no issuer":                    func(c *identity.Config) { c.Issuer = "" },
		"an issuer without TLS":        func(c *identity.Config) { c.Issuer = "http://id.example.com" },
		"an issuer with a query":       func(c *identity.Config) { c.Issuer = "https://id.example.com?x=1" },
		"an issuer with a user":        func(c *identity.Config) { c.Issuer = "https://me@id.example.com" },
		"passwords that are too short": func(c *identity.Config) { c.MinPasswordSecond = 7 },
		"a negative life":              func(c *identity.Config) { c.SessionLife = -1 },
	} {
		cfg := good
		set(&cfg)
		if _, err := identity.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s is taken", sentence)
		}
	}
	local := good
	local.Issuer = "http://127.0.0.1:8080/"
	if _, err := identity.Open(t.Context(), local); err != nil {
		t.Errorf("an issuer on this machine: %v", err)
	}
}
