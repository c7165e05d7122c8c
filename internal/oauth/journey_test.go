package oauth_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const password = "correct horse battery staple 7"

// follow goes where a page sends the browser, until that is not a page of ours.
func (b *browser) follow(a *reply) *reply {
	b.h.t.Helper()
	for range 8 {
		to := a.Header().Get("Location")
		if a.Code != http.StatusSeeOther || a.back() != nil || to == "" {
			return a
		}
		a = b.get(to)
	}
	b.h.t.Fatal("a browser sent in circles")
	return nil
}

// submit posts the form of a page that goes to path, with more fields.
func (b *browser) submit(page *reply, path string, pairs ...string) *reply {
	_, text, _ := strings.Cut(page.Body.String(), `action="/auth`+path+`"`)
	text, _, _ = strings.Cut(text, "</form>")
	v := fields(text)
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return b.follow(b.post(issuer+path, v))
}

// TestJourneys go through the pages as a person does.
func TestJourneys(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("shop", func(m *oauth.Metadata) { m.Trusted = false })
	ok(t, h.people.SetPassword(t.Context(), "test", h.user.ID, gatehouse.NewSecret(password)))
	signIn := func(b *browser, page *reply) *reply {
		return b.submit(page, "/signin", "name", "ada", "password", password)
	}
	t.Run("a password, and the code is at the client", func(t *testing.T) {
		b := h.browser()
		page := b.follow(b.authorize(request("app", "login_hint", "ada")))
		if !strings.Contains(page.Body.String(), "The app") || !strings.Contains(page.Body.String(), `value="ada"`) {
			t.Fatalf("%d %s", page.Code, page.Body)
		}
		wrong := b.submit(page, "/signin", "name", "ada", "password", "wrong")
		if wrong.back() != nil || wrong.Code == http.StatusOK && b.cookies["__Host-gatehouse"] != "" {
			t.Fatal("in with a wrong password")
		}
		back := signIn(b, page).back()
		a := h.token("app", redeem(back.Get("code")))
		if a.Code != http.StatusOK || fmt.Sprint(h.claims(a.text("id_token"), "JWT")["amr"]) != "[pwd]" {
			t.Fatalf("%v %s", back, a.Body)
		}
		t.Run("and again with prompt=login", func(t *testing.T) {
			page := b.follow(b.authorize(request("app", "prompt", "login")))
			if page.back() != nil {
				t.Fatal("no question")
			}
			<-time.After(1100 * time.Millisecond) // auth_time is in seconds
			next := h.token("app", redeem(signIn(b, page).back().Get("code")))
			was, is := h.claims(a.text("id_token"), "JWT"), h.claims(next.text("id_token"), "JWT")
			if was["auth_time"] == is["auth_time"] || was["sid"] != is["sid"] {
				t.Errorf("%v %v", was, is)
			}
		})
	})
	t.Run("a password, then the question, then the code", func(t *testing.T) {
		b := h.browser()
		page := signIn(b, b.follow(b.authorize(request("shop"))))
		if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "See your orders") {
			t.Fatalf("%d %s", page.Code, page.Body)
		}
		if b.submit(page, "/consent", "decision", "allow").back().Get("code") == "" {
			t.Error("no code")
		}
	})
	t.Run("step-up: a demand is met with a second factor, or is an error", func(t *testing.T) {
		strong := []string{"claims", `{"id_token":{"acr":{"essential":true,"values":["aal2","phr"]}}}`}
		b := h.browser()
		if back := signIn(b, b.follow(b.authorize(request("app", strong...)))).back(); back.Get("error") != "unmet_authentication_requirements" {
			t.Fatalf("who has one factor only: %v", back)
		}
		_, uri, state, err := h.people.NewTOTP(t.Context(), h.user.ID)
		ok(t, err)
		u, err := url.Parse(uri.Reveal())
		ok(t, err)
		secret := u.Query().Get("secret")
		_, err = h.people.ConfirmTOTP(t.Context(), identity.By{Actor: "test", User: h.user.ID}, state, totp(t, secret, 0))
		ok(t, err)
		b = h.browser()
		b.signIn(h.user.ID, identity.ACRTwo, "pwd", "otp", "mfa")
		a := h.token("app", redeem(b.authorize(request("app", strong...)).back().Get("code")))
		if got := h.claims(a.text("access_token"), "at+jwt")["acr"]; got != "aal2" {
			t.Errorf("acr %v", got)
		}
		// One who signs in with password and code has it as well.
		b = h.browser()
		second := signIn(b, b.follow(b.authorize(request("app", strong...))))
		if second.back() != nil || !strings.Contains(second.Body.String(), `name="code"`) {
			t.Fatalf("not asked for a code: %d %s", second.Code, second.Body)
		}
		path := "/signin/second"
		if back := b.submit(second, path, "code", totp(t, secret, 1)).back(); back.Get("code") == "" {
			t.Errorf("%v", back)
		}
	})
}

// totp is the code of RFC 6238 so many steps from now.
func totp(t *testing.T, secret string, steps int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	ok(t, err)
	m := hmac.New(sha1.New, key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/30+steps)))
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&(1<<31-1))%1000000)
}

func TestFormPost(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	page := b.authorize(request("app", "response_mode", "form_post"))
	v := fields(page.Body.String())
	if page.Code != http.StatusOK || page.Header().Get("Location") != "" || !strings.Contains(page.Body.String(), `action="`+callback+`"`) ||
		v.Get("code") == "" || v.Get("iss") != issuer || v.Get("state") != "s t&amp;a=te" {
		t.Errorf("%d %v %s", page.Code, v, page.Body)
	}
	if v.Has("csrf") {
		t.Error("what is ours goes to the client")
	}
	if a := h.token("app", redeem(v.Get("code"))); a.Code != http.StatusOK {
		t.Errorf("%s", a.Body)
	}
}

func TestTheMCPProfileWantsAResource(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Profile = oauth.MCP })
	h.client("spa", public)
	h.client("robot", machine)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	if back := b.authorize(request("spa")).back(); back.Get("error") != "invalid_target" {
		t.Errorf("%v", back)
	}
	wantError(t, h.token("robot", form("grant_type", "client_credentials")), 400, "invalid_target")
	a := h.token("spa", redeem(h.code("spa", "resource", orders), "resource", orders))
	if a.Code != http.StatusOK || h.claims(a.text("access_token"), "at+jwt")["aud"] != orders {
		t.Errorf("%s", a.Body)
	}
}

func TestTokensMadeInTheSecondOfARevocationLive(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	old := h.tokens("app")
	ok(t, h.people.Lock(t.Context(), "test", h.user.ID, "test"))
	ok(t, h.people.Unlock(t.Context(), "test", h.user.ID))
	fresh := h.tokens("app")
	if !h.active("app", fresh.text("access_token")) {
		t.Error("who signs in after a lockdown gets tokens that are dead")
	}
	eventually(t, "a token of before the lockdown lives", func() bool { return !h.active("app", old.text("access_token")) })
	if !h.active("app", fresh.text("access_token")) {
		t.Error("a token of after the lockdown died with those of before")
	}
}
