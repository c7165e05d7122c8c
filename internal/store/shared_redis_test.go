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
