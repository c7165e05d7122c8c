package oauth_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestAnOperatorSeesWhyATokenOpensNothing(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	inspect := func(raw string) *oauth.Inspection {
		t.Helper()
		i, err := h.Inspect(t.Context(), raw)
		ok(t, err)
		return i
	}
	tokens := h.tokens("app", "scope", "openid offline_access")
	access, fresh := tokens.text("access_token"), tokens.text("refresh_token")
	if i := inspect(access); !i.Active || i.Kind != "access_token" || i.Client != "app" || i.JTI == "" || i.Expires == nil {
		t.Errorf("an access token: %+v", i)
	}
	if i := inspect(fresh); !i.Active || i.Kind != "refresh_token" || i.GrantID == "" || i.Client != "app" {
		t.Errorf("a refresh token: %+v", i)
	}
	for name, raw := range map[string]string{
		"nothing": "", "noise": "noise", "a made up refresh token": fresh[:len(fresh)-4] + "AAAA", "an opaque token of nobody's": "gha_AAAA",
	} {
		if i := inspect(raw); i.Active || i.Why == "" || i.Client != "" {
			t.Errorf("%s: %+v", name, i)
		}
		if err := h.RevokeToken(t.Context(), "tester", raw); !errors.Is(err, oauth.ErrTokenUnknown) {
			t.Errorf("%s is revoked: %v", name, err)
		}
	}
	next := h.token("app", refresh(fresh))
	if i := inspect(fresh); i.Active || i.Why == "" {
		t.Errorf("a used refresh token: %+v", i)
	}
	ok(t, h.RevokeToken(t.Context(), "tester", access))
	if i := inspect(access); i.Active || i.Why == "" {
		t.Errorf("a revoked access token: %+v", i)
	}
	if i := inspect(next.text("access_token")); !i.Active {
		t.Errorf("its sister is dead, too: %+v", i)
	}
	ok(t, h.RevokeToken(t.Context(), "tester", next.text("refresh_token")))
	if i := inspect(next.text("access_token")); i.Active {
		t.Errorf("a revoked grant leaves tokens: %+v", i)
	}
}
