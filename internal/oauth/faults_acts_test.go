package oauth_test

import (
	"context"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// A tally counts the changes of each action that are logged.
type tally struct {
	log  oauth.ChangeLog
	acts map[string]int
}

func (c *tally) Append(ctx context.Context, e auditlog.Change) error {
	err := c.log.Append(ctx, e)
	if err == nil {
		c.acts[e.Action]++
	}
	return err
}

// TestTheLogDoesNotSayWhatWasNotDone ends grants and tokens with the first, second,
// third … thing failing that is asked of the database: an act of which the log says
// no more was done, and one that was not done is not in it, or again as failed.
func TestTheLogDoesNotSayWhatWasNotDone(t *testing.T) {
	var f fuse
	acts := map[string]int{}
	h := newFaultyHouse(t, f.fault, func(c *oauth.Config) { c.Log = &tally{c.Log, acts} })
	h.client("app", nil)
	for action, act := range map[string]func(tok string) error{
		"grants.revoke": func(tok string) error {
			return h.RevokeGrant(t.Context(), "test", h.claims(tok, "at+jwt")["grant_id"].(string))
		},
		"tokens.revoke": func(tok string) error {
			return h.RevokeJTI(t.Context(), "test", h.claims(tok, "at+jwt")["jti"].(string))
		},
	} {
		t.Run(action, func(t *testing.T) {
			done := 0
			for n := int64(1); ; n++ {
				if n > 100 {
					t.Fatal("it never gets done")
				}
				tok := h.tokens("app").text("access_token")
				f.set(n)
				err := act(tok)
				f.set(0)
				if err == nil {
					done++
					gone(t, h, tok)
				}
				if kept := acts[action] - acts[action+".failed"]; kept != done {
					t.Fatalf("fault %d (%v): the log has %d done, and %d were", n, err, kept, done)
				}
				if err == nil && !f.burnt.Load() {
					return
				}
			}
		})
	}
}
