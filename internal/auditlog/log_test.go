package auditlog_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// smallRing is the least that Open takes: sixteen shards of two events each.
const smallRing = 16 * 2 * 32 << 10

func open(t testing.TB, cfg auditlog.Config) *auditlog.Log {
	t.Helper()
	log, err := auditlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil && !errors.Is(err, auditlog.ErrClosed) {
			t.Error(err)
		}
	})
	return log
}

func event(i int) *gatehouse.Event {
	now := time.Now()
	return &gatehouse.Event{
		ID: auditlog.NewID(now), Time: now, Node: "gw-1", Config: "3a7bd3e2360a3d29eea436fcfb7e44c7", Address: "192.0.2.7",
		Host: "api.example", Method: "GET", Path: "/v1/orders/{id}", Protocol: "HTTP/1.1", TLS: "TLS1.3 AES_128_GCM",
		API: "orders", Operation: "getOrder", Subject: fmt.Sprint("user-", i), Issuer: "main", Auth: gatehouse.MethodJWT,
		Allow: true, Status: 200, Upstream: "http://127.0.0.1:9001", Duration: 1500 * time.Microsecond,
		Service: time.Millisecond, Out: 1234, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	}
}

// recorded gives every id in the files, in their order; each line must be whole.
func recorded(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 && b[len(b)-1] != '\n' {
			t.Fatalf("%s ends in a torn line", name)
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e struct{ ID string }
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %v in %s", name, err, lines.Text())
			}
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func TestEveryEventOfManyCallersIsRecordedOnce(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RotateBytes: 64 << 10, Keep: 1000, RingBytes: smallRing})
	const callers, each = 8, 500
	want := make([][]string, callers)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				e := event(i)
				if err := log.Append(e); err != nil {
					t.Error(err)
					return
				}
				want[c] = append(want[c], e.ID)
			}
		})
	}
	all.Wait()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	ids := slices.Sorted(slices.Values(recorded(t, dir)))
	if want := slices.Sorted(slices.Values(slices.Concat(want...))); !slices.Equal(ids, want) {
		t.Errorf("%d events appended, %d recorded", len(want), len(ids))
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "events-*.jsonl")); len(files) < 3 {
		t.Errorf("%d files: the log does not rotate", len(files))
	}
	if err := log.Append(event(0)); !errors.Is(err, auditlog.ErrClosed) {
		t.Errorf("a closed log answers %v", err)
	}
}

func TestOldFilesAreDeleted(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RotateBytes: 4 << 10, Keep: 3, RingBytes: smallRing})
	var last *gatehouse.Event
	for i := range 400 {
		last = event(i)
		if err := log.Append(last); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 { // wait until the writer had a batch to rotate between
			find(t, dir, last.ID)
			drained(t, log)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if len(files) != 3 {
		t.Errorf("%d files kept, want 3", len(files))
	}
	if ids := recorded(t, dir); !slices.Contains(ids, last.ID) {
		t.Error("the newest event was deleted")
	}
}

func TestManyStartsDeleteNothing(t *testing.T) {
	dir := t.TempDir()
	var ids []string
	for i := range 10 {
		log := open(t, auditlog.Config{Dir: dir, Keep: 2, RingBytes: smallRing})
		e := event(i)
		if err := errors.Join(log.Append(e), log.Close()); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	if got := slices.Sorted(slices.Values(recorded(t, dir))); !slices.Equal(got, ids) {
		t.Errorf("after 10 starts %d of %d events are left", len(got), len(ids))
	}
}

// drained waits until nothing is left in the ring.
func drained(t testing.TB, log *auditlog.Log) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if waiting, _ := log.Depth(); waiting == 0 {
			return
		}
	}
	t.Fatalf("the ring does not empty: %v", log.Err())
}

func find(t testing.TB, dir, id string) *gatehouse.Event {
	t.Helper()
	e, err := auditlog.Find(t.Context(), dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnEventIsFoundInTheRingAndInTheFiles(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RotateBytes: 2 << 10, Keep: 100, RingBytes: smallRing})
	var all []*gatehouse.Event
	for i := range 50 {
		e := event(i)
		e.Reasons = []gatehouse.Reason{{Rule: "amount", Effect: gatehouse.EffectDeny, Saw: "body.amount = 700"}}
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		if got := find(t, dir, e.ID); got.Subject != e.Subject {
			t.Fatalf("found %+v", got)
		}
		if i%10 == 0 {
			drained(t, log)
		}
	}
	drained(t, log)
	for _, e := range all {
		got := find(t, dir, strings.ToLower(e.ID))
		if got.ID != e.ID || !got.Time.Equal(e.Time) || got.Reasons[0] != e.Reasons[0] || got.Duration != e.Duration {
			t.Fatalf("got %+v, want %+v", got, e)
		}
	}
	for name, id := range map[string]string{
		"an id never used":     auditlog.NewID(time.Now()),
		"an id from the past":  auditlog.NewID(time.Unix(1, 0)),
		"an id of the future":  auditlog.NewID(time.Now().Add(time.Hour)),
		"a folder without log": auditlog.NewID(time.Now()),
	} {
		where := dir
		if strings.HasPrefix(name, "a folder") {
			where = t.TempDir()
		}
		if _, err := auditlog.Find(t.Context(), where, id); !errors.Is(err, auditlog.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := auditlog.Find(t.Context(), dir, "../../etc/passwd"); err == nil || errors.Is(err, auditlog.ErrNotFound) {
		t.Errorf("what is no id answers %v", err)
	}
}

func TestEachVisitsEveryEventOnce(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RotateBytes: 2 << 10, Keep: 100, RingBytes: smallRing})
	var want, all []string
	var since time.Time
	for i := range 60 {
		e := event(i)
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
		if all = append(all, e.ID); i == 20 {
			since = e.Time
		}
		if i >= 20 && !e.Time.Before(since) {
			want = append(want, e.ID)
		}
		if i%10 == 0 {
			drained(t, log)
		}
	}
	for name, test := range map[string]struct {
		since time.Time
		want  []string
	}{"all": {time.Time{}, all}, "since": {since, want}} {
		var got []string
		if err := auditlog.Each(t.Context(), dir, test.since, func(e *gatehouse.Event) bool { got = append(got, e.ID); return true }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: visited %d events, want %d", name, len(got), len(test.want))
		}
	}
	visits := 0
	if err := auditlog.Each(t.Context(), dir, time.Time{}, func(*gatehouse.Event) bool { visits++; return visits < 3 }); err != nil || visits != 3 {
		t.Errorf("%d visits after saying stop at 3: %v", visits, err)
	}
}

func TestASecondGatewayIsRefusedTheFolder(t *testing.T) {
	dir := t.TempDir()
	first := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	if _, err := auditlog.Open(auditlog.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
}

func TestBadFoldersAndConfigsAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]auditlog.Config{
		"no folder":            {},
		"a file for a folder":  {Dir: file},
		"beneath a file":       {Dir: filepath.Join(file, "x")},
		"too small a ring":     {Dir: t.TempDir(), RingBytes: 4096},
		"a negative rotation":  {Dir: t.TempDir(), RotateBytes: -1},
		"a negative retention": {Dir: t.TempDir(), Keep: -1},
	} {
		if log, err := auditlog.Open(cfg); err == nil {
			_ = log.Close()
			t.Errorf("%s is taken", name)
		}
	}
}

func TestALogThatCannotWriteRefusesAndRecovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	log := open(t, auditlog.Config{Dir: dir, RotateBytes: 1 << 10, RingBytes: smallRing})
	kept := []string{}
	add := func() error {
		e := event(0)
		err := log.Append(e)
		if err == nil {
			kept = append(kept, e.ID)
		}
		return err
	}
	for range 3 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		drained(t, log)
	}
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil { // the next file cannot be made
		t.Fatal(err)
	}
	var err error
	for range 10_000 {
		if err = add(); err != nil {
			break
		}
	}
	if !errors.Is(err, auditlog.ErrFull) {
		t.Fatalf("a log without a folder answers %v", err)
	}
	for end := time.Now().Add(10 * time.Second); log.Err() == nil; <-time.After(time.Millisecond) { // the writer may be a moment behind
		if time.Now().After(end) {
			t.Fatal("Err is nil, so readiness would lie")
		}
	}
	waiting, capacity := log.Depth()
	if waiting == 0 || waiting > capacity {
		t.Errorf("%d of %d bytes wait", waiting, capacity)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	drained(t, log)
	if err := add(); err != nil {
		t.Errorf("the folder is back, but: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(kept)
	if ids := slices.Sorted(slices.Values(recorded(t, dir))); !slices.Equal(ids, kept) {
		t.Errorf("%d events acknowledged, %d recorded", len(kept), len(ids))
	}
}

func TestAnEventOfAnySizeIsRecorded(t *testing.T) {
	dir := t.TempDir()
	log := open(t, auditlog.Config{Dir: dir, RingBytes: smallRing})
	e := event(0)
	e.Path = strings.Repeat("\x01", 1<<20)
	e.Cause = strings.Repeat("\u2028", 1<<20)
	e.Reasons = slices.Repeat([]gatehouse.Reason{{Rule: strings.Repeat("r", 1<<10), Effect: gatehouse.EffectDeny}}, 1000)
	for range 100 {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	drained(t, log)
	if got := find(t, dir, e.ID); got.Status != 200 || len(got.Path) > 2048 {
		t.Errorf("got %+v", got)
	}
}

// A folder made anew has neither the ring nor the lock: what the mapped ring
// takes would die with the process, so it must take nothing.
func TestAFolderMadeAnewIsNotTheOneThatWasTaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	log := open(t, auditlog.Config{Dir: dir, Sync: 10 * time.Millisecond, RingBytes: smallRing})
	if err := log.Append(event(0)); err != nil {
		t.Fatal(err)
	}
	drained(t, log)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(20 * time.Second)
	for log.Err() == nil {
		if time.Now().After(end) {
			t.Fatal("the folder is another one, and the log does not say so")
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := log.Append(event(1)); err == nil {
		for range 20_000 { // what the ring has room for is kept for the folder's return; then it is over
			if err = log.Append(event(1)); err != nil {
				break
			}
		}
		if err == nil {
			t.Fatal("a log that has lost its ring takes events for ever")
		}
	}
	if err := log.Close(); err == nil || !strings.Contains(err.Error(), "removed or replaced") {
		t.Errorf("closing says %v", err)
	}
}
