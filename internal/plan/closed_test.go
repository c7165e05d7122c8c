package plan_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/plan"
)

func TestAClosedOperationIsNotReachedAsAnother(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"api.yaml": `openapi: 3.1.0
info: {title: T, version: "1"}
paths:
  /users/{id}:
    get: {operationId: getUser, parameters: [{name: id, in: path, required: true, schema: {type: string}}], responses: {}}
  /users/export:
    get: {operationId: exportUsers, responses: {}}
`,
		"gatehouse.yaml": `gatehouse: 1
apis:
  users:
    openapi: api.yaml
    hosts: [users.example]
    upstreams: ["http://127.0.0.1:1"]
    operations:
      getUser: {public: true}
      exportUsers: {closed: true}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Snapshot.Router.Match("users.example", "GET", "/users/1", nil); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.Snapshot.Router.Match("users.example", "GET", "/users/export", nil)
	if problem, ok := errors.AsType[*gatehouse.Problem](err); !ok || problem.Reason != "operation_not_found" {
		t.Fatalf("got %v, want operation_not_found", err)
	}
	if len(p.Operations()) != 1 {
		t.Fatalf("operations served: %d, want 1", len(p.Operations()))
	}
}
