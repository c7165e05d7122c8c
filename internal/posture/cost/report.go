package cost

import (
	"math"
	"runtime"
	"slices"
)

// A Report is what was measured. Times are in µs, sizes in bytes, all of them for
// one request.
type Report struct {
	Version     string      `json:"version"`
	System      string      `json:"system"` // linux/amd64, go1.26.8
	CPUs        int         `json:"cpus"`
	Subject     string      `json:"subject"` // the sample, or an operation
	Service     string      `json:"service"` // where it listened
	Rounds      int         `json:"rounds"`
	Turn        float64     `json:"turn_seconds"`
	Connections int         `json:"connections"`
	Lines       []Line      `json:"lines"`
	Breakdowns  []Breakdown `json:"breakdowns"`
	Peers       []PeerLine  `json:"peers,omitempty"`
	Seconds     float64     `json:"seconds"`
}

// A Figure is the median of the rounds, and how far off it may be: twice its
// standard error, by the median deviation. Spread is 0 for fewer than 3 rounds,
// which say nothing about it.
type Figure struct {
	Median float64 `json:"median"`
	Spread float64 `json:"spread"`
}

// A Line is a whole request, over a connection that is kept.
type Line struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Method      string  `json:"method"`
	Status      int     `json:"status"`
	CPU         Figure  `json:"cpu"` // of the gateway, user and system
	Allocations float64 `json:"allocations"`
	Bytes       float64 `json:"bytes"`
	PerSecond   float64 `json:"per_second"`
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	Requests    int     `json:"requests"`
}

// A Breakdown is what a line is made of.
type Breakdown struct {
	Line   string  `json:"line"` // its ID
	Checks []Check `json:"checks"`
}

// A Check is one part of a line.
type Check struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Practice []int  `json:"practice"` // of the twelve
	// LeftOut is by how much a request is cheaper without it; of the last part, the
	// proxy, it is what is left when everything else is out. It is nil where it
	// cannot be left out: the schema of a body, which would go on as a stream.
	LeftOut *Figure `json:"left_out"`
	// Clear says that LeftOut is beyond its spread. Otherwise it is lost in the
	// noise, and what Alone says counts.
	Clear bool `json:"clear"`
	// Alone is the check by itself in a loop; nil where the operation has none. Of
	// the proxy it is the route and the second look at the head only.
	Alone *Alone  `json:"alone"`
	CPU   float64 `json:"cpu"`   // what counts
	Share float64 `json:"share"` // of the line's CPU, 0 to 1
	// Allocations are those of Alone, where they are exact; the proxy has what is
	// left of the line's.
	Allocations float64 `json:"allocations"`
	Bytes       float64 `json:"bytes"`
}

// Alone is a check by itself.
type Alone struct {
	CPU         Figure  `json:"cpu"`
	Allocations float64 `json:"allocations"`
	Bytes       float64 `json:"bytes"`
}

// A PeerLine is what a peer made of a line.
type PeerLine struct {
	URL       string  `json:"url"`
	Line      string  `json:"line"`
	CPU       *Figure `json:"cpu"`   // nil where its process was not named
	Times     float64 `json:"times"` // Gatehouse's CPU for each of the peer's; 0 where that is not known
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	Requests  int     `json:"requests"`
	Other     int     `json:"other"` // answers that were not 2xx
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(x))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// figure is the median of x and twice its standard error: 1.2533 σ/√n for a
// median, and σ is 1.4826 times the median deviation.
func figure(x []float64) Figure {
	f := Figure{Median: median(x)}
	if len(x) >= 3 {
		off := make([]float64, len(x))
		for i, v := range x {
			off[i] = math.Abs(v - f.Median)
		}
		f.Spread = 2 * 1.2533 * 1.4826 * median(off) / math.Sqrt(float64(len(x)))
	}
	f.Median, f.Spread = round(f.Median, 3), round(f.Spread, 3)
	return f
}

func round(v float64, places int) float64 {
	p := math.Pow10(places)
	return math.Round(v*p) / p
}

// a series is one line at one gateway, by round.
type series struct {
	cpu, pieces, bytes, rate, p50, p99 []float64
	requests, other                    int
}

func (s *series) add(t *tally, used spent) {
	n := float64(t.Requests)
	s.requests += t.Requests
	s.cpu = append(s.cpu, float64(used.cpu.Nanoseconds())/1e3/n)
	s.pieces, s.bytes = append(s.pieces, float64(used.pieces)/n), append(s.bytes, float64(used.bytes)/n)
	s.rate, s.p50, s.p99 = append(s.rate, n/t.Seconds), append(s.p50, t.P50), append(s.p99, t.P99)
	for code, n := range t.Statuses {
		if code/100 != 2 {
			s.other += n
		}
	}
}

func (l *line) report() Line {
	s := l.at[0]
	return Line{
		ID: l.id, Name: l.name, Method: l.method, Status: l.status, CPU: figure(s.cpu), Allocations: round(median(s.pieces), 1), Bytes: round(median(s.bytes), 0),
		PerSecond: round(median(s.rate), 0), P50: round(median(s.p50), 0), P99: round(median(s.p99), 0), Requests: s.requests,
	}
}

// breakdown compares each gateway with the next one, round by round.
func (l *line) breakdown(alone map[string]*Alone) Breakdown {
	out := Breakdown{Line: l.id}
	whole := l.at[0]
	pieces, size, last := median(whole.pieces), median(whole.bytes), len(l.at)-1
	for i, c := range append(slices.Clone(checks), rest) {
		r := Check{ID: c.id, Name: c.name, Practice: c.practice, Alone: alone[c.id]}
		switch {
		case c.id == rest.id:
			by := figure(l.at[last].cpu)
			if schema := out.Checks[i-1]; schema.LeftOut == nil { // it is in there
				by.Median = round(by.Median-schema.CPU, 3)
			}
			r.LeftOut, r.CPU, r.Clear = &by, by.Median, len(l.at[last].cpu) >= 3 && by.Median > by.Spread
			r.Allocations, r.Bytes = round(max(0, pieces), 1), round(max(0, size), 0)
		case i < last:
			cost := less(l.at[i].cpu, l.at[i+1].cpu)
			by := figure(cost)
			r.LeftOut, r.Clear = &by, len(cost) >= 3 && by.Median > by.Spread
		}
		if a := r.Alone; a != nil && c.id != rest.id {
			r.CPU, r.Allocations, r.Bytes = a.CPU.Median, a.Allocations, a.Bytes
			pieces, size = pieces-a.Allocations, size-a.Bytes
		}
		if r.Clear {
			r.CPU = r.LeftOut.Median
		}
		if cpu := median(whole.cpu); cpu > 0 {
			r.Share = round(r.CPU/cpu, 4)
		}
		out.Checks = append(out.Checks, r)
	}
	return out
}

// less is a − b, round by round.
func less(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] - b[i]
	}
	return out
}

func system() string { return runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version() }
