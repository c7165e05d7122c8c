package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A sender makes the same request of a client again and again, without what the
// tests' house does around it.
type sender struct {
	h    *house
	path string
	auth string
}

func (h *house) sender(path, client string) *sender {
	r := httptest.NewRequest(http.MethodPost, issuer+path, nil)
	r.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(h.secrets[client]))
	return &sender{h, path, r.Header.Get("Authorization")}
}

func (s *sender) send(b *testing.B, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, issuer+s.path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", s.auth)
	w := httptest.NewRecorder()
	s.h.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Errorf("%d %s", w.Code, w.Body)
	}
	return w
}

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s") }

func BenchmarkClientCredentials(b *testing.B) {
	h := newHouse(b, nil)
	h.client("robot", machine)
	for name, resource := range map[string]string{"jwt": orders, "opaque": mail} {
		b.Run(name, func(b *testing.B) {
			s, body := h.sender("/token", "robot"), form("grant_type", "client_credentials", "resource", resource).Encode()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.send(b, body)
				}
			})
			perSecond(b)
		})
	}
}

// BenchmarkRefresh refreshes 64 families side by side, each with its newest token.
func BenchmarkRefresh(b *testing.B) {
	h := newHouse(b, nil)
	h.client("app", nil)
	var families [64]string
	for i := range families {
		families[i] = h.tokens("app", "scope", "orders:read").text("refresh_token")
	}
	s := h.sender("/token", "app")
	var next atomic.Int64
	b.SetParallelism(len(families) / 2)
	b.ReportAllocs()
	b.ResetTimer() // the sign-ins are not meant
	b.RunParallel(func(pb *testing.PB) {
		i := (next.Add(1) - 1) % int64(len(families))
		for pb.Next() {
			body := s.send(b, "grant_type=refresh_token&refresh_token="+families[i]).Body.String()
			_, rest, _ := strings.Cut(body, `"refresh_token":"`)
			families[i], _, _ = strings.Cut(rest, `"`)
		}
	})
	perSecond(b)
}

func BenchmarkIntrospection(b *testing.B) {
	h := newHouse(b, nil)
	h.client("app", nil)
	for name, resource := range map[string]string{"jwt": orders, "opaque": mail} {
		b.Run(name, func(b *testing.B) {
			s, body := h.sender("/introspect", "app"), "token="+h.tokens("app", "scope", "orders:read mail", "resource", resource).text("access_token")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.send(b, body)
				}
			})
			perSecond(b)
		})
	}
}
