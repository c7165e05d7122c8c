package plan_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/plan"
)

const cachedYAML = `
gatehouse: 1
data: ./data
cache: {memory: 16MiB}
apis:
  shop:
    openapi: ./openapi.yaml
    upstreams: ["http://127.0.0.1:9"]
    upstream: {token: none}
    operations:
      list: {public: true, cache: {ttl: 1m, stale_if_error: 5m, stale_while_revalidate: 10s, vary: [accept-language]}}
      add: {public: true}
      ask: {public: true}
      session: {public: true}
      other: {public: true}
`

const cachedOpenAPI = `
openapi: 3.1.0
info: {title: Shop, version: "1"}
paths:
  /things:
    get:
      operationId: list
      parameters: [{name: x-shop, in: header, schema: {type: string}}]
      responses: {"200": {description: ok}}
    post: {operationId: add, responses: {"201": {description: ok}}}
  /asked:
    get: {operationId: ask, requestBody: {content: {application/json: {schema: {type: object}}}}, responses: {"200": {description: ok}}}
  /session:
    get: {operationId: session, parameters: [{name: sid, in: cookie, schema: {type: string}}], responses: {"200": {description: ok}}}
  /other:
    get: {operationId: other, responses: {"200": {description: ok}}}
`

func compileCached(t *testing.T, edit ...string) (*plan.Plan, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"gatehouse.yaml": strings.NewReplacer(edit...).Replace(cachedYAML), "openapi.yaml": cachedOpenAPI} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return plan.Outline(filepath.Join(dir, "gatehouse.yaml"))
}

func TestAnOperationThatKeepsAnswers(t *testing.T) {
	p, err := compileCached(t)
	if err != nil {
		t.Fatal(err)
	}
	if p.Snapshot.CacheMemory != 16<<20 {
		t.Errorf("memory %d", p.Snapshot.CacheMemory)
	}
	for _, r := range p.Snapshot.Routes {
		switch id := r.Op.Op().ID; id {
		case "list":
			c := r.Cache
			if c == nil || c.TTL != time.Minute || c.StaleIfError != 5*time.Minute || c.StaleRefresh != 10*time.Second || c.Shared || strings.Join(c.Vary, " ") != "Accept-Language X-Shop" {
				t.Errorf("%+v", c)
			}
		default:
			if r.Cache != nil || r.Forgets != (id == "add") {
				t.Errorf("%s: cache %v, forgets %v", id, r.Cache, r.Forgets)
			}
		}
	}
}

func TestWhatCannotBeKept(t *testing.T) {
	for _, c := range []struct{ name, old, with, fault string }{
		{"what is changed", "add: {public: true}", "add: {public: true, cache: {ttl: 1s}}", "only answers to GET"},
		{"what depends on a body", "ask: {public: true}", "ask: {public: true, cache: {ttl: 1s}}", "takes a body"},
		{"what depends on a cookie", "session: {public: true}", "session: {public: true, cache: {ttl: 1s}}", "parameters in cookies"},
		{"what the service answers to credentials we do not judge", "token: none", "token: pass", "sees credentials"},
		{"what is closed", "other: {public: true}", "other: {closed: true, cache: {ttl: 1s}}", "is closed"},
		{"what is no answer", "other: {public: true}", "other: {public: true, upgrade: websocket, cache: {ttl: 1s}}", "no answer to keep"},
		{"by who calls, who is in the key", "accept-language", "authorization", "vary: authorization"},
		{"by what only we say", "accept-language", "x-forwarded-for", "vary: x-forwarded-for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := compileCached(t, c.old, c.with); err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "gatehouse.yaml:") {
				t.Errorf("%v, want %q", err, c.fault)
			}
		})
	}
}
