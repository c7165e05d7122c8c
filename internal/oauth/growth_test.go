package oauth_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// TestADatabaseGrowsWithFamiliesNotWithRefreshes refreshes one family ten thousand
// times.
func TestADatabaseGrowsWithFamiliesNotWithRefreshes(t *testing.T) {
	storetest.OnlyAFile(t, "it measures the file")
	t.Parallel()
	const times = 10_000
	h := newHouse(t, nil)
	h.client("app", nil)
	tok := h.tokens("app", "scope", "orders:read").text("refresh_token")
	size := func() (bytes int64) {
		t.Helper()
		for _, end := range []string{"", "-wal"} {
			info, err := os.Stat(h.path + end)
			ok(t, err)
			bytes += info.Size()
		}
		return bytes
	}
	var early int64
	for n := range times {
		a := h.token("app", refresh(tok))
		if a.Code != http.StatusOK {
			t.Fatalf("refresh %d: %d %s", n, a.Code, a.Body)
		}
		if tok = a.text("refresh_token"); n == times/10 { // the log has had its length by then
			early = size()
		}
	}
	if rows, gen := h.count(`SELECT COUNT(*) FROM grants`), h.count(`SELECT gen FROM grants`); rows != 1 || gen != times+1 {
		t.Errorf("%d rows, generation %d", rows, gen)
	}
	for _, table := range []string{"authorization_codes", "requests", "revocations", "once", "sessions"} {
		if n := h.count(`SELECT COUNT(*) FROM ` + table); n > 1 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	if late := size(); late > early+early/4 || late > 8<<20 {
		t.Errorf("the files had %d bytes after %d refreshes and have %d after %d", early, times/10, late, times)
	}
}
