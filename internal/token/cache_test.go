package token_test

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestCache(t *testing.T) {
	keys := jwks(t, token.ES256) // made outside of the bubble's year 2000
	synctest.Test(t, func(t *testing.T) {
		set := staticKeys(t, keys)
		v := newVerifier(t, set, nil)
		verified := func(t *testing.T, life time.Duration) (string, *token.Claims) {
			t.Helper()
			raw := sign(t, token.ES256, privateKeys()[token.ES256], head(token.ES256), claims(map[string]any{"exp": time.Now().Add(life).Unix()}))
			c, err := v.Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			return raw, c
		}
		hit := func(c *token.Cache[string], raw string) bool {
			v, ok := c.Get(raw)
			if ok != (v == "alice") {
				t.Errorf("got %q, %v", v, ok)
			}
			return ok
		}
		cache := token.NewCache[string](0)
		raw, c := verified(t, time.Hour)
		if hit(cache, raw) {
			t.Error("an empty cache knows a token")
		}
		cache.Put(raw, c, "alice")
		if !hit(cache, raw) {
			t.Error("a token is not remembered")
		}
		forged := "x" + raw[1:] // whose end, which the hash is of, is the same
		if hit(cache, raw[:len(raw)-1]) || hit(cache, raw+"A") || hit(cache, "") || hit(cache, forged) || hit(cache, raw[len(raw)-64:]) {
			t.Error("another token is taken for it")
		}
		time.Sleep(5*time.Minute - time.Nanosecond)
		if !hit(cache, raw) {
			t.Error("forgotten before five minutes")
		}
		time.Sleep(time.Nanosecond)
		if hit(cache, raw) {
			t.Error("remembered after five minutes")
		}

		raw, c = verified(t, 10*time.Second)
		cache.Put(raw, c, "alice")
		time.Sleep(10 * time.Second)
		if hit(cache, raw) {
			t.Error("remembered after exp")
		}

		raw, c = verified(t, time.Hour)
		cache.Put(raw, c, "alice")
		set.Flush()
		if hit(cache, raw) {
			t.Error("remembered after a flush")
		}
		cache.Put(raw, c, "alice")
		if hit(cache, raw) {
			t.Error("claims verified before a flush are remembered after it")
		}
		raw2, c2 := verified(t, time.Hour)
		cache.Put(raw2, c2, "alice")
		if !hit(cache, raw2) {
			t.Error("nothing is remembered after a flush")
		}

		cache.Put("forged", &token.Claims{Expires: time.Now().Add(time.Hour)}, "alice")
		cache.Put("nil", nil, "alice")
		if hit(cache, "forged") || hit(cache, "nil") {
			t.Error("claims nobody verified are remembered")
		}
	})
}

func TestAWithdrawnKeyEmptiesTheCache(t *testing.T) {
	old, next := jwks(t, token.ES256), jwks(t, token.EdDSA)
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{doc: old}
		v := newVerifier(t, remoteKeys(t, u, nil), nil)
		raw := longLived(t, token.ES256, "ES256")
		c, err := v.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		cache := token.NewCache[bool](0)
		cache.Put(raw, c, true)
		u.set(next, nil)
		time.Sleep(time.Minute)
		if _, ok := cache.Get(raw); !ok {
			t.Fatal("forgotten too early")
		}
		if _, err := v.Verify(t.Context(), longLived(t, token.EdDSA, "EdDSA")); err != nil {
			t.Fatal(err)
		}
		if _, ok := cache.Get(raw); ok {
			t.Error("a token of a withdrawn key is still remembered")
		}
		cache.Put(raw, c, true)
		if _, ok := cache.Get(raw); ok {
			t.Error("a token of a withdrawn key can still be put")
		}
	})
}

func TestCacheIsBoundedAndSafe(t *testing.T) {
	v := newVerifier(t, staticKeys(t, jwks(t, token.ES256)), nil)
	c, err := v.Verify(t.Context(), good(t, token.ES256))
	if err != nil {
		t.Fatal(err)
	}
	cache := token.NewCache[string](64)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				raw := strconv.Itoa(g%2) + "-" + strconv.Itoa(i)
				cache.Put(raw, c, raw)
				if v, ok := cache.Get(raw); ok && v != raw {
					t.Errorf("%s gives %s", raw, v)
				}
			}
		})
	}
	wg.Wait()
	known := 0
	for g := range 2 {
		for i := range 2000 {
			if _, ok := cache.Get(strconv.Itoa(g) + "-" + strconv.Itoa(i)); ok {
				known++
			}
		}
	}
	if known == 0 || known > 64 {
		t.Errorf("%d tokens remembered, want 1 to 64", known)
	}
}
