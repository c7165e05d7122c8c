package oauth_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

func tv(m *oauth.Metadata) {
	m.GrantTypes, m.RedirectURIs, m.TokenEndpointAuthMethod = []string{deviceGrant, "refresh_token"}, nil, "none"
}

// start begins the flow as a device does.
func (h *house) start(client string, pairs ...string) *reply {
	h.t.Helper()
	a := h.post("/device_authorization", client, form(append([]string{"scope", "openid orders:read"}, pairs...)...))
	if a.Code != http.StatusOK {
		h.t.Fatalf("not begun: %d %s", a.Code, a.Body)
	}
	return a
}

func (h *house) poll(client string, begun *reply) *reply {
	return h.token(client, form("grant_type", deviceGrant, "device_code", begun.text("device_code")))
}

// typeCode opens the page and types the code; the answer is the question.
func (b *browser) typeCode(code string) *reply {
	v := fields(b.get(issuer + "/device").Body.String())
	v.Set("user_code", code)
	return b.post(issuer+"/device", v)
}

func (b *browser) decide(question *reply, decision string) *reply {
	v := fields(question.Body.String())
	v.Set("decision", decision)
	return b.post(issuer+"/device", v)
}

func (b *browser) allow(code string) *reply { return b.decide(b.typeCode(code), "allow") }

func TestDeviceFlow(t *testing.T) {
	h := newHouse(t, nil)
	h.client("tv", tv)
	h.client("other", tv)
	h.client("app", nil)
	user := func() *browser {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		return b
	}
	t.Run("a device begins with two codes and where to go", func(t *testing.T) {
		a := h.start("tv")
		if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(a.text("user_code")) {
			t.Error(a.text("user_code"))
		}
		if a.text("verification_uri") != issuer+"/device" || a.text("verification_uri_complete") != issuer+"/device?user_code="+a.text("user_code") {
			t.Error(a.Body)
		}
		if a.json["interval"] != 5.0 || a.json["expires_in"] != 600.0 || len(a.text("device_code")) < 43 {
			t.Error(a.Body)
		}
	})
	t.Run("it waits until its user has agreed, and has tokens then", func(t *testing.T) {
		begun := h.start("tv")
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
		if a := user().allow(begun.text("user_code")); a.Code != 200 || !strings.Contains(a.Body.String(), "is connected") {
			t.Fatal(a.Code, a.Body)
		}
		a := h.poll("tv", begun)
		if a.Code != 200 || a.text("access_token") == "" || a.text("refresh_token") == "" || a.text("id_token") == "" {
			t.Fatal(a.Code, a.Body)
		}
		if c := h.claims(a.text("access_token"), "at+jwt"); c["sub"] != h.user.ID || c["client_id"] != "tv" || c["sid"] != nil {
			t.Fatal(c)
		}
		wantError(t, h.poll("tv", begun), 400, "invalid_grant")
		if a := h.token("tv", refresh(a.text("refresh_token"))); a.Code != 200 {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("of fifty questions with an agreed code exactly one has tokens", func(t *testing.T) {
		begun := h.start("tv")
		user().allow(begun.text("user_code"))
		if n := parallel(50, func() bool { return h.poll("tv", begun).Code == 200 }); n != 1 {
			t.Fatalf("%d had tokens", n)
		}
	})
	t.Run("of twenty answers to one question one counts", func(t *testing.T) {
		begun := h.start("tv")
		b := user()
		q := b.typeCode(begun.text("user_code"))
		v := fields(q.Body.String())
		cookies := b.cookies
		n := parallel(20, func() bool {
			own := h.browser()
			maps.Copy(own.cookies, cookies)
			yes := maps.Clone(v)
			yes.Set("decision", "allow")
			return strings.Contains(own.post(issuer+"/device", yes).Body.String(), "is connected")
		})
		if n != 1 {
			t.Fatalf("%d counted", n)
		}
	})
	t.Run("who says no is not asked again", func(t *testing.T) {
		begun := h.start("tv")
		b := user()
		b.decide(b.typeCode(begun.text("user_code")), "deny")
		wantError(t, h.poll("tv", begun), 400, "access_denied")
		if a := b.typeCode(begun.text("user_code")); a.Code != http.StatusUnprocessableEntity {
			t.Fatal(a.Code)
		}
	})
	t.Run("who asks too early is told to slow down, more each time", func(t *testing.T) {
		begun := h.start("tv")
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
		wantError(t, h.poll("tv", begun), 400, "slow_down")
		h.exec(`UPDATE devices SET polled = polled - 6000`)
		wantError(t, h.poll("tv", begun), 400, "slow_down") // five seconds are not enough any more
		h.exec(`UPDATE devices SET polled = polled - 16000`)
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
	})
	t.Run("an expired code is said to be expired", func(t *testing.T) {
		begun := h.start("tv")
		h.exec(`UPDATE devices SET expires = 1`)
		wantError(t, h.poll("tv", begun), 400, "expired_token")
		if a := user().typeCode(begun.text("user_code")); a.Code != http.StatusUnprocessableEntity {
			t.Fatal(a.Code)
		}
	})
	t.Run("an agreed code that expired gives nothing", func(t *testing.T) {
		begun := h.start("tv")
		user().allow(begun.text("user_code"))
		h.exec(`UPDATE devices SET expires = 1`)
		wantError(t, h.poll("tv", begun), 400, "expired_token")
	})
	t.Run("another client's code is no code, and is not used up", func(t *testing.T) {
		begun := h.start("tv")
		user().allow(begun.text("user_code"))
		wantError(t, h.poll("other", begun), 400, "invalid_grant")
		if a := h.poll("tv", begun); a.Code != 200 {
			t.Fatal(a.Body)
		}
	})
	t.Run("a wrong, cut or longer code is refused", func(t *testing.T) {
		begun := h.start("tv")
		code := begun.text("device_code")
		for _, c := range []string{"x", code[:len(code)-1], code + "0", code[1:]} {
			wantError(t, h.token("tv", form("grant_type", deviceGrant, "device_code", c)), 400, "invalid_grant")
		}
		wantError(t, h.token("tv", form("grant_type", deviceGrant)), 400, "invalid_request")
	})
	t.Run("a client that is not registered for it may not", func(t *testing.T) {
		wantError(t, h.post("/device_authorization", "app", form("scope", "openid")), 400, "unauthorized_client")
		wantError(t, h.token("app", form("grant_type", deviceGrant, "device_code", "x")), 400, "unauthorized_client")
	})
	t.Run("a scope the client may not have is refused at the beginning", func(t *testing.T) {
		wantError(t, h.post("/device_authorization", "tv", form("scope", "root")), 400, "invalid_scope")
		wantError(t, h.post("/device_authorization", "tv", form("resource", "https://other.example")), 400, "invalid_target")
	})
	t.Run("a user locked in between gives nothing", func(t *testing.T) {
		u, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "eve"})
		ok(t, err)
		b := h.browser()
		b.signIn(u.ID, identity.ACRPassword)
		begun := h.start("tv")
		b.allow(begun.text("user_code"))
		ok(t, h.people.Lock(t.Context(), "test", u.ID, "test"))
		wantError(t, h.poll("tv", begun), 400, "invalid_grant")
	})
	t.Run("a device bound to a key has tokens of that key", func(t *testing.T) {
		h.client("bound", func(m *oauth.Metadata) { tv(m); m.DPoPBoundTokens = true })
		begun := h.start("bound")
		user().allow(begun.text("user_code"))
		wantError(t, h.poll("bound", begun), 400, "invalid_dpop_proof") // and the code is not used up
		r := formRequest(t, "/token", form("grant_type", deviceGrant, "device_code", begun.text("device_code"), "client_id", "bound"))
		r.URL.Path = "/auth/token"
		r.Header.Set("DPoP", newProver(t).proof(t, "", map[string]any{"htu": issuer + "/token"}))
		if a := h.do(r); a.Code != 200 || a.text("token_type") != "DPoP" {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("without a database there are no tokens", func(t *testing.T) {
		begun := h.start("tv")
		user().allow(begun.text("user_code"))
		_ = h.db.Close()
		if a := h.poll("tv", begun); a.Code != http.StatusServiceUnavailable || a.text("access_token") != "" {
			t.Fatal(a.Code, a.Body)
		}
	})
}

func TestDevicePage(t *testing.T) {
	h := newHouse(t, nil)
	h.client("tv", func(m *oauth.Metadata) { tv(m); m.ClientName = "<b>TV</b>" })
	b := h.browser()
	t.Run("who is not signed in signs in first, and comes back", func(t *testing.T) {
		a := b.get(issuer + "/device?user_code=BCDF-GHJK")
		if a.Code != http.StatusSeeOther || !strings.HasPrefix(a.Header().Get("Location"), "/auth/signin?to=") {
			t.Fatal(a.Code, a.Header())
		}
	})
	session := b.signIn(h.user.ID, identity.ACRPassword)
	t.Run("a link with the code fills it in and connects nothing", func(t *testing.T) {
		begun := h.start("tv")
		a := b.get(begun.text("verification_uri_complete"))
		if a.Code != 200 || !strings.Contains(a.Body.String(), `value="`+begun.text("user_code")+`"`) || strings.Contains(a.Body.String(), `value="allow"`) {
			t.Fatal(a.Code, a.Body)
		}
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
	})
	t.Run("a link with something else fills in nothing", func(t *testing.T) {
		a := b.get(issuer + "/device?user_code=" + url.QueryEscape(`"><script>`))
		if a.Code != 200 || strings.Contains(a.Body.String(), "<script>") {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("the question shows the client and what it wants, escaped", func(t *testing.T) {
		page := b.typeCode(h.start("tv").text("user_code")).Body.String()
		for _, want := range []string{"&lt;b&gt;TV&lt;/b&gt;", "See your orders", "ada"} {
			if !strings.Contains(page, want) {
				t.Errorf("%q is not shown:\n%s", want, page)
			}
		}
	})
	t.Run("a code may be typed in small letters and with spaces", func(t *testing.T) {
		code := h.start("tv").text("user_code")
		if a := b.typeCode(" " + strings.ToLower(strings.ReplaceAll(code, "-", " "))); !strings.Contains(a.Body.String(), `value="allow"`) {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("a decision without the question is a question", func(t *testing.T) {
		begun := h.start("tv")
		v := fields(b.get(issuer + "/device").Body.String())
		v.Set("user_code", begun.text("user_code"))
		v.Set("decision", "allow")
		b.post(issuer+"/device", v)
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
	})
	t.Run("the question of one code does not answer another", func(t *testing.T) {
		first, second := h.start("tv"), h.start("tv")
		v := fields(b.typeCode(first.text("user_code")).Body.String())
		v.Set("user_code", second.text("user_code"))
		v.Set("decision", "allow")
		b.post(issuer+"/device", v)
		wantError(t, h.poll("tv", second), 400, "authorization_pending")
	})
	t.Run("the question of one session is not answered in another", func(t *testing.T) {
		begun := h.start("tv")
		v := fields(b.typeCode(begun.text("user_code")).Body.String())
		before := b.cookies["__Host-gatehouse"]
		b.signIn(h.user.ID, identity.ACRPassword)
		v.Set("decision", "allow")
		b.post(issuer+"/device", v)
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
		b.cookies["__Host-gatehouse"] = before
	})
	t.Run("another site's form connects nothing", func(t *testing.T) {
		begun := h.start("tv")
		v := fields(b.typeCode(begun.text("user_code")).Body.String())
		v.Set("decision", "allow")
		if a := b.post(issuer+"/device", v, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); a.Code != http.StatusForbidden {
			t.Fatal(a.Code)
		}
		v.Del("csrf")
		if a := b.post(issuer+"/device", v); a.Code != http.StatusForbidden {
			t.Fatal(a.Code)
		}
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
	})
	t.Run("who has signed out is not asked", func(t *testing.T) {
		begun := h.start("tv")
		q := b.typeCode(begun.text("user_code"))
		ok(t, h.people.End(t.Context(), "test", session.ID))
		if a := b.decide(q, "allow"); a.Code != http.StatusSeeOther {
			t.Fatal(a.Code)
		}
		wantError(t, h.poll("tv", begun), 400, "authorization_pending")
	})
	t.Run("nobody guesses more than ten codes, and others are not held up by it", func(t *testing.T) {
		guesser := h.browser()
		guesser.signIn(h.user.ID, identity.ACRPassword)
		for range 10 {
			if a := guesser.typeCode("BBBB-BBBB"); !strings.Contains(a.Body.String(), "wrong or has expired") {
				t.Fatal(a.Code, a.Body)
			}
		}
		begun := h.start("tv")
		if a := guesser.typeCode(begun.text("user_code")); !strings.Contains(a.Body.String(), "Too many wrong codes") {
			t.Fatal(a.Code, a.Body)
		}
		u, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "bob"})
		ok(t, err)
		other := h.browser()
		other.signIn(u.ID, identity.ACRPassword)
		if a := other.allow(begun.text("user_code")); !strings.Contains(a.Body.String(), "is connected") {
			t.Fatal(a.Code, a.Body)
		}
		h.exec(`UPDATE once SET expires = $1 WHERE kind LIKE 'user code %'`, time.Now().Add(-time.Second).UnixMilli())
		if a := guesser.typeCode(h.start("tv").text("user_code")); !strings.Contains(a.Body.String(), `value="allow"`) {
			t.Fatal("for ever:", a.Code, a.Body)
		}
	})
}

func TestADevicesDetailsAreShownAndGranted(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.DetailTypes = []string{"payment"} })
	h.client("tv", func(m *oauth.Metadata) { tv(m); m.DetailTypes = []string{"payment"} })
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	begun := h.start("tv", "authorization_details", `[{"type":"payment","amount":4711}]`)
	q := b.typeCode(begun.text("user_code"))
	if !strings.Contains(q.Body.String(), "payment") {
		t.Fatal("a user agrees to what is not shown:", q.Body)
	}
	b.decide(q, "allow")
	if list, _ := h.poll("tv", begun).json["authorization_details"].([]any); len(list) != 1 || list[0].(map[string]any)["amount"] != 4711.0 {
		t.Fatal(list)
	}
	wantError(t, h.post("/device_authorization", "tv", form("authorization_details", `[{"type":"root"}]`)), 400, "invalid_authorization_details")
}

func TestADeletedClientsDeviceIsGone(t *testing.T) {
	h := newHouse(t, nil)
	h.client("tv", tv)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	begun := h.start("tv")
	ok(t, h.DeleteClient(t.Context(), "test", "tv"))
	if a := b.typeCode(begun.text("user_code")); a.Code != http.StatusUnprocessableEntity {
		t.Fatal(a.Code, a.Body)
	}
}
