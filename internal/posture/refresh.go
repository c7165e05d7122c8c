package posture

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const refreshes = 6 // at the same time

// refreshProbes are about refresh tokens.
func refreshProbes() []probe {
	return []probe{
		{
			"refresh-reuse", "RFC 9700 §2.2.2, §4.14", "refresh tokens are good once; an old one ends the family and its access tokens", Critical, theHouse,
			"rotate, remember the generation, and revoke the whole grant when an older one is shown", refreshReuse,
		},
		{
			"refresh-race", "RFC 9700 §4.14", fmt.Sprintf("of %d refreshes at the same time all that succeed give the same successor", refreshes), High, theHouse,
			"advance a family by compare-and-swap; within the grace give the same successor again", refreshRace,
		},
		{
			"refresh-scope", "RFC 9700 §2.2.2, RFC 6749 §6", "a refresh never gives more scope or another resource than was granted", High, theHouse,
			"take the scope of the grant as the limit of every refresh", refreshNeverGrows,
		},
		{
			"refresh-bound", "RFC 9700 §4.14", "a refresh token is worth nothing to another client, and to nobody without the client's proof", Critical, theHouse,
			"bind refresh tokens to their client", refreshIsBound,
		},
		{
			"refresh-damaged", "advisories: truncated token accepted", "a refresh token that is cut, longer or changed is refused and ends nothing", High, theHouse,
			"verify refresh tokens whole, by a MAC or a digest", refreshDamaged,
		},
	}
}

func (t *trial) refreshable(ctx context.Context, p *party) (access, refresh string, err error) {
	a, err := t.tokens(ctx, p)
	if err != nil {
		return "", "", err
	}
	if a.text("refresh_token") == "" {
		return "", "", fmt.Errorf("there was no refresh token: %s", a.line())
	}
	return a.text("access_token"), a.text("refresh_token"), nil
}

func refreshReuse(ctx context.Context, t *trial) error {
	if t.cfg.Profile == oauth.FAPI2 {
		return t.leaveOut("with the profile fapi2 refresh tokens are bound to the client's key and not rotated (FAPI 2.0 §5.3.2.1)")
	}
	parties := []*party{t.main}
	if t.native != nil {
		parties = append(parties, t.native)
	}
	for _, p := range parties {
		_, first, err := t.refreshable(ctx, p)
		if err != nil {
			return err
		}
		var last *answer
		now := first
		for range 2 {
			if last, err = t.refresh(ctx, p, now); err != nil {
				return err
			}
			next := last.text("refresh_token")
			if next == "" || last.text("access_token") == "" {
				return fmt.Errorf("a good refresh token was refused: %s", last.line())
			}
			t.wants(next != now, last, "the refresh token is not rotated")
			now = next
		}
		a, err := t.refresh(ctx, p, first)
		if err != nil {
			return err
		}
		t.refused(a, "an old refresh token is taken")
		if a, err = t.refresh(ctx, p, now); err != nil {
			return err
		}
		t.refused(a, "after reuse the newest refresh token still works")
		if p == t.native {
			continue // it cannot introspect
		}
		if err := t.ends(ctx, p, last.text("access_token"), "tokens of a reused family"); err != nil {
			return err
		}
	}
	return nil
}

func refreshRace(ctx context.Context, t *trial) error {
	_, raw, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	answers, errs := make([]*answer, refreshes), make([]error, refreshes)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range refreshes {
		all.Go(func() {
			<-start
			answers[i], errs[i] = t.refresh(ctx, t.main, raw)
		})
	}
	close(start)
	all.Wait()
	var next []string
	won := 0
	for i, a := range answers {
		if errs[i] != nil {
			return errs[i]
		}
		if n := a.text("refresh_token"); n != "" {
			if won++; !slices.Contains(next, n) {
				next = append(next, n)
			}
		} else {
			t.refused(a, "a loser was not refused as such")
		}
	}
	t.note("%d of %d succeeded, with %d different successors", won, refreshes, len(next))
	if !t.wants(len(next) == 1, nil, "there are %d different successors", len(next)) || won == 1 {
		return nil
	}
	a, err := t.refresh(ctx, t.main, next[0])
	if err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "the race has signed the client out")
	return nil
}

func refreshNeverGrows(ctx context.Context, t *trial) error {
	_, raw, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	for _, list := range [][]string{
		{"scope", "openid profile"}, {"scope", "openid offline_access"}, {"scope", "openid prove-nobody-has-this"}, {"resource", "https://" + evil + "/"},
	} {
		a, err := t.refresh(ctx, t.main, raw, list...)
		if err != nil {
			return err
		}
		t.refused(a, "a refresh with "+list[0]+"="+list[1])
	}
	a, err := t.refresh(ctx, t.main, raw, "scope", "openid")
	if err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "a refusal cost the client its token")
	if s := a.text("scope"); s != "" {
		t.wants(strings.TrimSpace(s) == "openid", a, "less scope was asked for, and more was given")
	}
	return nil
}

func refreshIsBound(ctx context.Context, t *trial) error {
	_, raw, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	parties := map[string]*party{"another client's": t.other}
	if t.native != nil {
		parties["a public client's"] = t.native
	}
	for whose, p := range parties {
		a, err := t.refresh(ctx, p, raw)
		if err != nil {
			return err
		}
		t.refused(a, "in "+whose+" hands it works")
	}
	a, err := t.post(ctx, "token_endpoint", nil, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {raw}, "client_id": {t.main.id}})
	if err != nil {
		return err
	}
	t.refused(a, "without the client's proof it works")
	if a, err = t.post(ctx, "revocation_endpoint", t.other, url.Values{"token": {raw}}); err != nil {
		return err
	}
	t.wants(a.status < 500, a, "revocation by another client fails")
	if a, err = t.refresh(ctx, t.main, raw); err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "somebody else could end it")
	return nil
}

func refreshDamaged(ctx context.Context, t *trial) error {
	_, raw, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	for _, f := range damaged(raw) {
		a, err := t.refresh(ctx, t.main, f.raw)
		if err != nil {
			return err
		}
		t.refused(a, f.how)
	}
	a, err := t.refresh(ctx, t.main, raw)
	if err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "a damaged copy has ended the real one")
	return nil
}
