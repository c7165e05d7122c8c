package validate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// TestGitHubExamples sends the bodies that GitHub's document gives as examples.
// Those its own schema does not take are listed with the reason.
func TestGitHubExamples(t *testing.T) {
	wantGitHub(t)
	text, err := os.ReadFile(*github)
	if err != nil {
		t.Fatal(err)
	}
	type example struct {
		Ref   string `json:"$ref"`
		Value json.RawMessage
	}
	var raw struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	doc, err := validate.LoadFile(*github, validate.Options{SkipUnsupportedPatterns: true})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	taken := 0
	for _, op := range doc.Operations() {
		var o struct {
			RequestBody struct {
				Content map[string]struct{ Examples map[string]example }
			}
		}
		if op.Op().Body == nil {
			continue
		}
		if err := json.Unmarshal(raw.Paths[op.Op().Path][strings.ToLower(op.Op().Method)], &o); err != nil {
			t.Fatal(err)
		}
		for name, e := range o.RequestBody.Content["application/json"].Examples {
			if e.Ref != "" || len(e.Value) == 0 {
				continue
			}
			var b validate.Body
			err := op.Body(request(t, op.Op().Method+" /", string(e.Value), asJSON), &b)
			if err == nil {
				taken++
				continue
			}
			f := gatehouse.AsProblem(err).Fields
			out = append(out, fmt.Sprintf("%s %s: %s %q %s", op.Op().ID, name, gatehouse.AsProblem(err).Reason, f[0].Pointer, f[0].Rule))
		}
	}
	slices.Sort(out)
	got := fmt.Sprintf("# %d example bodies pass. These do not, and their schemas say so:\n%s\n", taken, strings.Join(out, "\n"))
	const golden = "testdata/github_examples.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || string(want) != got {
		t.Errorf("%s differs (%v); run with -update and look at the difference:\n%s", golden, err, got)
	}
}

func TestOperationsAreSharedByRequests(t *testing.T) {
	a := orders(t, validate.Options{})
	good, bad := request(t, "GET /v1/orders?limit=1&tag=a", ""), request(t, "GET /v1/orders?limit=x", "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, _, head, _, err := a.call(good); err != nil || string(head.Query) != "limit=1&tag=a" {
					t.Errorf("%q, %v", head.Query, err)
				}
				if _, _, _, _, err := a.call(bad); err == nil {
					t.Error("passed")
				}
				if _, _, _, body, err := a.call(request(t, "POST /v1/orders", small, asJSON)); err != nil || string(body.Bytes) != small {
					t.Errorf("%q, %v", body.Bytes, err)
				}
			}
		})
	}
	wg.Wait()
}
