package ddos

import (
	"slices"
	"time"
)

// A baseline is what is normal: the median of the last minutes, and how far their
// samples are from it (median absolute deviation). Both bear it when almost half of
// the samples are an attack's; to make that many an attack would have to last as
// long, and a sample far off enters no further away than it may grow: what the
// attack adds to the baseline is little, and growth that stays is learnt.
type baseline struct {
	ring    [baselineSamples]float64
	n, next int
	sorted  [baselineSamples]float64
}

const (
	baselineSamples = 60
	baselineEvery   = 10 * time.Second // so that the whole is ten minutes
	baselineLeast   = 6                // samples before it says anything
	baselineFar     = 8                // deviations
	baselineGrowth  = 1.5              // of one sample above the median, at most
)

// middle gives the median and the deviation, in terms of a standard deviation.
func (b *baseline) middle() (median, deviation float64) {
	if b.n == 0 {
		return 0, 0
	}
	s := b.sorted[:b.n]
	copy(s, b.ring[:b.n])
	slices.Sort(s)
	median = s[b.n/2]
	for i := range s {
		if s[i] -= median; s[i] < 0 {
			s[i] = -s[i]
		}
	}
	slices.Sort(s)
	return median, 1.4826 * s[b.n/2]
}

// odd reports whether v stands out from what is normal; least is what never does.
func (b *baseline) odd(v, least float64) bool {
	if b.n < baselineLeast || v <= least {
		return false
	}
	median, deviation := b.middle()
	return v > median+baselineFar*max(deviation, median/20) && v > 3*median
}

// learn takes a sample in.
func (b *baseline) learn(v float64) {
	if median, deviation := b.middle(); b.n >= baselineLeast {
		v = min(v, max(median*baselineGrowth, median+3*deviation)+1)
	}
	b.ring[b.next] = v
	b.next = (b.next + 1) % baselineSamples
	b.n = min(b.n+1, baselineSamples)
}
