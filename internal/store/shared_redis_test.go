package store_test

import (
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func shareAt(t testing.TB, url, node string) *store.Shared {
	t.Helper()
	return share(t, store.SharedConfig{URL: gatehouse.NewSecret(url), Node: node})
}

// patient is for tests that do not look at how long anything takes.
func patient(t testing.TB, url, node string) *store.Shared {
	t.Helper()
	return share(t, store.SharedConfig{URL: gatehouse.NewSecret(url), Node: node, Timeout: 20 * time.Second})
}

func TestSharedRedis(t *testing.T) {
	url, _ := storetest.Redis(t)
	storetest.RunShared(t, func(t *testing.T, node string) *store.Shared { return patient(t, url, node) })
}

func TestSharedRedisCluster(t *testing.T) {
	url, _ := storetest.RedisCluster(t)
	storetest.RunShared(t, func(t *testing.T, node string) *store.Shared { return patient(t, url, node) })
}

func TestSharedRedisSentinel(t *testing.T) {
	url, _, _, _ := storetest.RedisSentinel(t)
	storetest.RunShared(t, func(t *testing.T, node string) *store.Shared { return patient(t, url, node) })
}

// bound is what every call ends within: its time, and some more; on a busy machine as
// much longer as the test runs late.
const bound = 500 * time.Millisecond

func TestWhatSomebodyElseWroteToTheEngineGrantsNothing(t *testing.T) {
	url, server := storetest.Redis(t)
	s := patient(t, url, "a")
	ask := []store.Ask{{Key: [16]byte{0xab}, Interval: time.Second, Burst: 5, Want: 3}}
	const key = "gatehouse:rate:{ab}000000000000000000000000000000"
	for _, value := range []string{"nan", "-nan", "inf", "-inf", "1e308", "-1e308", "0x7fffffffffffffff", "word", ""} {
		server.Command("SET", key, value)
		got, err := s.Take(t.Context(), ask, nil)
		if err != nil || got[0].Err != nil {
			continue // the node goes on by itself
		}
		if g := got[0]; g.Tokens < 0 || g.Tokens > 3 || g.Left < 0 || g.Left > 5 || g.Retry < 0 || g.Reset < 0 || g.Reset > time.Minute {
			t.Errorf("%q: %+v", value, g)
		}
	}
	server.Command("DEL", key)
	within := time.Now().Add(20 * time.Second)
	for {
		got, err := s.Take(t.Context(), ask, nil)
		if err == nil && got[0].Err == nil && got[0].Tokens == 3 {
			return
		}
		if time.Now().After(within) {
			t.Fatalf("afterwards: %+v, %v", got, err)
		}
	}
}
