package server_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func TestTwoNodesCountALimitTogether(t *testing.T) {
	url, redis := storetest.Redis(t)
	nodes := make([]*running, 2)
	for i := range nodes {
		s := newSite(t, nil)
		s.write("shared-url", url+"\n")
		s.write("gatehouse.yaml", s.config("shared: {url: \"${file:./shared-url}\"}\n",
			"health: {public: true}", "health: {public: true, limits: [{id: few, per: all, rate: 10/h, strict: true}]}"))
		nodes[i] = s.run(s.path(), func(o *server.Options) { o.Node = "n" + string(rune('1'+i)) })
	}
	for i := range 10 {
		if status, _, body := fetch(t, nodes[i%2].url+"/health"); status != 200 {
			t.Fatalf("request %d: %d %s", i, status, body)
		}
	}
	for i, n := range nodes {
		if status, _, body := fetch(t, n.url+"/health"); status != 429 || !strings.Contains(body, "rate_limited") {
			t.Errorf("node %d after ten: %d %s", i, status, body)
		}
	}
	// What is strict is not guessed: without the engine it is refused, and at once.
	redis.Kill()
	until(t, "what cannot be counted to be refused", 5*time.Second, func() bool {
		status, _, _ := fetch(t, nodes[0].url+"/health")
		return status == 503
	})
	if status, _, _ := fetch(t, nodes[0].url+"/slow"); status != 200 {
		t.Errorf("another operation: %d", status)
	}
	for _, n := range nodes {
		if strings.Contains(n.log.String(), strings.TrimPrefix(url, "redis://")) && strings.Contains(url, "@") {
			t.Error("the URL is in the log")
		}
	}
}

func TestASharedEngineThatIsNoneIsAnErrorWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ url, want string }{
		"beyond this machine without TLS": {"redis://user:s3cret-word@engine.example:6379", "without TLS"},
		"no URL":                          {"s3cret-word", "has no scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			s.write("shared-url", c.url)
			s.write("gatehouse.yaml", s.config("shared: {url: \"${file:./shared-url}\"}\n"))
			err := server.Run(t.Context(), server.Options{Config: s.path(), Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "gatehouse.yaml:") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("said %v", err)
			}
		})
	}
}
