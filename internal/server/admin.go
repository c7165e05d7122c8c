package server

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

// admin serves the operator: health, metrics, and the keys with which services
// check our internal tokens.
func (r *runner) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.status(new(strings.Builder)); err != nil || r.ending.Load() {
			plain(w, http.StatusServiceUnavailable, "not ready\n")
			return
		}
		plain(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /healthz", r.healthz)
	mux.HandleFunc("GET /jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(r.signer.JWKS())
	})
	mux.HandleFunc("GET /ddos", func(w http.ResponseWriter, q *http.Request) {
		if !r.operator(q) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
			plain(w, http.StatusUnauthorized, "the admin token is needed\n")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(r.guard.View(200))
	})
	metrics := r.meter.Handler()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, q *http.Request) {
		if !r.operator(q) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
			plain(w, http.StatusUnauthorized, "the admin token is needed\n")
			return
		}
		metrics.ServeHTTP(w, q)
	})
	return mux
}

// operator reports whether q may see details: anyone where no token is set,
// since then the listener is loopback only (config refuses anything else). Its
// name must then be loopback's, too: a page whose name is made to resolve to
// 127.0.0.1 (DNS rebinding) reads what the operator's browser can reach.
func (r *runner) operator(q *http.Request) bool {
	token := r.token // of the start: a reload cannot open this door
	if token == nil {
		host := q.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
	}
	given, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	return ok && token.Equal(given)
}

type health struct {
	Status     string    `json:"status"` // ok, degraded (the last config was refused) or unready
	Config     string    `json:"config"` // digest at work
	Version    string    `json:"version,omitempty"`
	Node       string    `json:"node,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	Reload     string    `json:"reload,omitempty"`     // why the last reload was refused
	ReloadTime time.Time `json:"reload_time,omitzero"` // of the last reload, taken or refused
	Parts      []string  `json:"parts,omitempty"`      // services and issuers
	Error      string    `json:"error,omitempty"`      // why it is not ready
}

func (r *runner) healthz(w http.ResponseWriter, q *http.Request) {
	var parts strings.Builder
	err := r.status(&parts)
	r.mu.Lock()
	h := health{Status: "ok", Config: r.plan.Digest}
	lastErr, lastTime := r.lastErr, r.lastTime
	r.mu.Unlock()
	status := http.StatusOK
	if lastErr != nil {
		h.Status = "degraded"
	}
	if err == nil && r.ending.Load() {
		err = errors.New("it is ending")
	}
	if err != nil {
		h.Status, status = "unready", http.StatusServiceUnavailable
	}
	if r.operator(q) {
		h.Version, h.Node, h.Started, h.ReloadTime = r.o.Version, r.o.Node, r.started.UTC(), lastTime.UTC()
		if lastTime.IsZero() {
			h.ReloadTime = time.Time{}
		}
		h.Parts = strings.Split(strings.TrimSuffix(parts.String(), "\n"), "\n")
		if lastErr != nil {
			h.Reload = lastErr.Error()
		}
		if err != nil {
			h.Error = err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(h)
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
