package monitor

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// durations are those on each side of every bound, and many between.
func durations() (all []time.Duration) {
	for _, b := range bounds {
		all = append(all, b-1, b, b+1)
	}
	for d := time.Duration(1); d > 0 && d < 1<<61; d += d/7 + 1 {
		all = append(all, d)
	}
	for shift := range 62 {
		all = append(all, 1<<shift, time.Second>>min(shift, 29), time.Second<<min(shift, 33))
	}
	return append(all, 0, -time.Second, 1<<63-1)
}

func TestAHistogramIsTheOneOfTheLibrary(t *testing.T) {
	var upper []float64
	for _, b := range bounds {
		upper = append(upper, b.Seconds())
	}
	for name, few := range map[string]time.Duration{"of every duration": 0, "of usual ones": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Buckets: upper, NativeHistogramBucketFactor: 1.1})
			var halves [2]histogram // as two seats count
			n := 0
			for i, d := range durations() {
				if few > 0 && (d < 50*time.Microsecond || d > few) {
					continue
				}
				n++
				theirs.Observe(max(0, d).Seconds())
				halves[i%2].observe(d)
			}
			var ours histogram
			ours.add(&halves[0])
			ours.add(&halves[1])
			var got, want dto.Metric
			if err := newHistogram(prometheus.NewDesc("x", "", nil, nil), &ours, time.Now()).Write(&got); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Write(&want); err != nil {
				t.Fatal(err)
			}
			if got.GetHistogram().GetSampleCount() != uint64(n) {
				t.Errorf("%d of %d durations are counted", got.GetHistogram().GetSampleCount(), n)
			}
			for _, h := range []*dto.Histogram{got.GetHistogram(), want.GetHistogram()} {
				h.CreatedTimestamp, h.SampleSum = nil, nil // they add seconds up, we nanoseconds
			}
			if few == 0 { // too many buckets for a page
				if s := got.GetHistogram().GetSchema(); s != schema-1 {
					t.Errorf("schema %d", s)
				}
				clearNative(got.GetHistogram())
				clearNative(want.GetHistogram())
			}
			if got.String() != want.String() {
				t.Errorf("got  %v\nwant %v", &got, &want)
			}
		})
	}
}

func clearNative(h *dto.Histogram) {
	h.Schema, h.PositiveSpan, h.PositiveDelta = nil, nil, nil
}

// With half as many buckets to a doubling a page shows what the library would.
func TestAWideHistogramIsTheOneOfTheLibrary(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", NativeHistogramBucketFactor: 1.2})
	var ours histogram
	for _, d := range durations() {
		theirs.Observe(max(0, d).Seconds())
		ours.observe(d)
	}
	var got, want dto.Metric
	if err := newHistogram(prometheus.NewDesc("x", "", nil, nil), &ours, time.Now()).Write(&got); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Write(&want); err != nil {
		t.Fatal(err)
	}
	g, w := got.GetHistogram(), want.GetHistogram()
	if g.GetSchema() != w.GetSchema() || g.GetZeroCount() != w.GetZeroCount() || len(g.GetPositiveSpan()) == 0 {
		t.Fatalf("got schema %d, want %d", g.GetSchema(), w.GetSchema())
	}
	if fmt.Sprint(g.GetPositiveSpan(), g.GetPositiveDelta()) != fmt.Sprint(w.GetPositiveSpan(), w.GetPositiveDelta()) {
		t.Errorf("got  %v\nwant %v", g, w)
	}
}
