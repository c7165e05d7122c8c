package server_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

func TestAGatewayFromStartToEnd(t *testing.T) {
	s := newSite(t, nil)
	r := s.run(s.path())
	if status, _, body := fetch(t, r.url+"/orders"); status != 401 {
		t.Fatalf("nobody: %d %s", status, body)
	}
	status, h, body := fetch(t, r.url+"/orders", "Authorization", s.token("ann"))
	if status != 200 || body != "served" {
		t.Fatalf("ann: %d %s", status, body)
	}
	e := must[*gatehouse.Event](t)(server.Explain(t.Context(), s.path(), h.Get("Gatehouse-Decision")))
	if e.Subject != "ann" || e.Operation != "listOrders" || e.Status != 200 || e.Node != "n1" || !e.Allow {
		t.Fatalf("%+v", e)
	}
	for path, want := range map[string]string{
		"/livez": "alive", "/readyz": "ready", "/metrics": `gatehouse_requests_total{api="orders"`, "/jwks.json": `"keys"`,
		"/healthz": `"node":"n1"`,
	} {
		if status, _, body := fetch(t, "http://"+s.admin+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.300s", path, status, body)
		}
	}
	if h := r.health(); h.Status != "ok" || h.Config != e.Config || h.Version != "v0" || len(h.Parts) != 2 {
		t.Errorf("%+v", h)
	}
	changes := must[*auditlog.Changes](t)(auditlog.OpenChanges(filepath.Join(s.dir, "data", "events")))
	all := must[[]auditlog.Change](t)(changes.All(t.Context()))
	if len(all) != 1 || all[0].Action != "config.take" || all[0].Object != e.Config || all[0].Actor != "file" {
		t.Errorf("%+v", all)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil {
		t.Error("the listener is still open")
	}
	if strings.Contains(r.log.String(), "Bearer") || strings.Contains(r.log.String(), "panic") {
		t.Errorf("logged %s", r.log)
	}
}

func TestAStopLetsRequestsUnderWayFinish(t *testing.T) {
	came, finish := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		close(came)
		<-finish
		_, _ = io.WriteString(w, "second")
	})
	r := s.run(s.path())
	answer := make(chan string, 1)
	go func() {
		status, _, body := fetch(t, r.url+"/slow")
		answer <- http.StatusText(status) + ": " + body
	}()
	<-came
	ended := make(chan error, 1)
	go func() { ended <- r.end() }()
	until(t, "the listener to close", 10*time.Second, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("it ended with a request under way: %v", err)
	default:
	}
	close(finish)
	if got := <-answer; got != "OK: first second" {
		t.Fatal(got)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrongAtStartIsAnErrorWithItsPlace(t *testing.T) {
	taken := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer taken.Close()
	for _, c := range []struct {
		name string
		edit func(s *site) string
		want string
	}{
		{"a config that does not compile", func(s *site) string { return s.config("", "listOrders: {grant", "listOrdres: {grant") }, `did you mean "listOrders"`},
		{"a test of its own that fails", func(s *site) string {
			return s.config("tests: [{name: nobody may list, call: orders.listOrders, expect: allow}]\n")
		}, `the test "nobody may list" fails: wanted allow, got 401`},
		{"an address that is taken", func(s *site) string {
			return s.config("", `plaintext: The tests speak in the clear}`, `plaintext: The tests speak in the clear}, {address: "`+taken.Addr().String()+`", plaintext: Another one in the clear}`)
		}, "address already in use"},
		{"an admin address that is taken", func(s *site) string { return s.config("", s.admin, taken.Addr().String()) }, "admin: "},
		{"a certificate that is not there", func(s *site) string {
			return s.config("", "plaintext: The tests speak in the clear", "tls: {certificate: ./gone.pem, key: ./gone.key}")
		}, "gone.pem"},
		{"a CA of services that is not there", func(s *site) string {
			return s.config("", "    operations:", "    upstream: {ca: ./gone.pem}\n    operations:")
		}, "gone.pem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			first := freeAddress(t)
			s.write("gatehouse.yaml", strings.Replace(c.edit(s), `"127.0.0.1:0"`, `"`+first+`"`, 1))
			err := server.Run(t.Context(), server.Options{Config: s.path(), Log: slog.New(slog.DiscardHandler), Ready: func([]server.Bound) { t.Error("it served") }})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "gatehouse.yaml:") {
				t.Fatalf("said %v", err)
			}
			l, err := net.Listen("tcp", first)
			if err != nil {
				t.Fatalf("the other listener stays open: %v", err)
			}
			_ = l.Close()
			// What was opened is closed: a second try gets the folder.
			s.write("gatehouse.yaml", s.config(""))
			r := s.run(s.path())
			if status, _, _ := fetch(t, r.url+"/health"); status != 200 {
				t.Fatal(status)
			}
		})
	}
}

func TestARevokedKeyIsRefusedWithinASecond(t *testing.T) {
	s := newSite(t, nil)
	r := s.run(s.path())
	ring := must[*server.KeyRing](t)(server.OpenKeyRing(t.Context(), s.path()))
	defer ring.Close()
	secret, key, err := ring.Create(t.Context(), "tester", authn.NewKey{Owner: "robot", Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		status, _, _ := fetch(t, r.url+"/orders", "X-API-Key", secret.Reveal())
		return status
	}
	until(t, "the new key to work", 3*time.Second, func() bool { return ask() == 200 })
	if err := ring.Revoke(t.Context(), "tester", key.ID); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	until(t, "the revoked key to be refused", 3*time.Second, func() bool { return ask() == 401 })
	t.Logf("refused after %v", time.Since(start))
	if strings.Contains(r.log.String(), secret.Reveal()) {
		t.Error("the key is in the log")
	}
	if err := ring.Known([]string{"support", "suport"}); err == nil || !strings.Contains(err.Error(), `did you mean "support"`) {
		t.Errorf("%v", err)
	}
}

func TestDetailsAreTheOperators(t *testing.T) {
	s := newSite(t, nil)
	s.write("token", "s3cret-admin-token\n")
	s.write("gatehouse.yaml", s.config("", "admin: {", "admin: {token: \"${file:./token}\", "))
	s.run(s.path())
	admin := "http://" + s.admin
	for _, c := range []struct {
		name, path, auth string
		status           int
		details          bool
	}{
		{"metrics without the token", "/metrics", "", 401, false},
		{"metrics with another", "/metrics", "Bearer s3cret-admin-tokem", 401, false},
		{"metrics with an empty one", "/metrics", "Bearer ", 401, false},
		{"metrics with the token as a password", "/metrics", "s3cret-admin-token", 401, false},
		{"metrics with the token", "/metrics", "Bearer s3cret-admin-token", 200, true},
		{"health for everyone", "/healthz", "", 200, false},
		{"health for the operator", "/healthz", "Bearer s3cret-admin-token", 200, true},
		{"readiness for everyone", "/readyz", "", 200, false},
		{"services get keys without it", "/jwks.json", "", 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, body := fetch(t, admin+c.path, "Authorization", c.auth)
			if status != c.status {
				t.Fatalf("%d %s", status, body)
			}
			if got := strings.Contains(body, `"n1"`) || strings.Contains(body, "gatehouse_") || strings.Contains(body, s.service.URL); got != c.details {
				t.Errorf("shows %s", body)
			}
		})
	}
	if status, h, _ := fetch(t, admin+"/metrics"); status != 401 || h.Get("Www-Authenticate") != `Bearer realm="admin"` {
		t.Errorf("%d %v", status, h)
	}
}

func TestAServiceChecksOurTokenWithTheAdminsKeys(t *testing.T) {
	got := make(chan string, 1)
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })
	r := s.run(s.path())
	fetch(t, r.url+"/orders", "Authorization", s.token("ann"))
	auth := <-got
	if auth == "" || auth == s.token("ann") {
		t.Fatalf("the service got %q", auth)
	}
	_, _, jwks := fetch(t, "http://"+s.admin+"/jwks.json")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(jwks), &set); err != nil || len(set.Keys) == 0 {
		t.Fatal(jwks, err)
	}
	for _, k := range set.Keys {
		if k["d"] != nil {
			t.Fatal("a private key is published")
		}
	}
}

func TestWhoIsToldToEndServesThoseWhoHaveNotSeenIt(t *testing.T) {
	s := newSite(t, nil)
	s.write("gatehouse.yaml", s.config("drain: {delay: 2s}\n"))
	r := s.run(s.path())
	ready := func() int {
		status, _, _ := fetch(t, "http://"+s.admin+"/readyz")
		return status
	}
	if got := ready(); got != 200 {
		t.Fatalf("ready before: %d", got)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.end() }()
	until(t, "readiness to end", time.Second, func() bool { return ready() == 503 })
	if status, _, _ := fetch(t, r.url+"/orders", "Authorization", s.token("ann")); status != 200 {
		t.Fatalf("a request while traffic moves away: %d", status)
	}
	if h := r.health(); h.Status != "unready" || h.Error != "it is ending" {
		t.Errorf("%+v", h)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestASupervisorIsToldWhatBecomesOfTheGateway(t *testing.T) {
	s := newSite(t, nil)
	var mu sync.Mutex
	var told []string
	r := s.run(s.path(), func(o *server.Options) {
		o.Watchdog = 20 * time.Millisecond
		o.Supervisor = func(state string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, state)
		}
	})
	heard := func(state string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(told, state)
	}
	until(t, "the watchdog's word", 3*time.Second, func() bool { return heard("WATCHDOG=1") })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if told[0] != "READY=1" || !heard("STOPPING=1") {
		t.Errorf("told %q", told)
	}
}
