package monitor

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

const (
	maxReasons = 256 // of all APIs together; reasons are words of our own code
	other      = "other"
)

// Sources are asked when metrics are read. A nil one leaves its metrics out.
type Sources struct {
	Upstreams func() []Upstream                // every upstream of the running config
	Record    func() (waiting, capacity int64) // bytes in the ring of the event log
	RecordErr func() error                     // why events cannot be written; nil when they can
	Overflow  func() uint64                    // requests a full table of limits counted together
	Refusals  func() []ratelimit.Refusals      // what limits refused
	LimitsErr func() error                     // why limits are divided among the nodes; nil when they are shared, or there is one
	QuotasErr func() error                     // why calendar quotas cannot be counted
	Cache     func() cache.Figures             // how full the cache of answers is
	Guard     func() ddos.Figures              // who is challenged, throttled and banned
	Nodes     func() (alive int, differ bool)  // nodes of the fleet, and whether their configs have differed for long
}

// An Upstream is one service and whether it is used.
type Upstream struct {
	API     string
	URL     string // as configured, without credentials
	Healthy bool
	Room    ddos.CapacityStatus
}

// A Monitor counts events. Its methods may be called by many at once.
type Monitor struct {
	registry *prometheus.Registry
	seats    *seats
	refused  *prometheus.CounterVec
	config   *prometheus.GaugeVec
	loaded   prometheus.Gauge
	reloads  *prometheus.CounterVec

	known   atomic.Pointer[snapshot]
	reasons atomic.Pointer[map[reasonKey]prometheus.Counter]
	mu      sync.Mutex // of those who replace known and reasons
}

type (
	operationKey struct{ api, operation string }
	reasonKey    struct{ api, reason string }
)

// A snapshot resolves the operations of one config. It is never written to, but
// for the tallies in it.
type snapshot struct {
	operations map[operationKey]*series
	labelled   map[operationKey]*series // by what is shown: two names that are no text may look the same
	apis       map[string]*apiSeries
	unmatched  *series
}

// A series is what is counted for one operation, its tallies made at a seat's
// first event: of ten thousand operations most are quiet.
type series struct {
	key     operationKey // as shown
	api     *apiSeries
	born    time.Time
	tallies []*operationTally // by seat, whose lock guards it
}

// An apiSeries is what is counted for one API.
type apiSeries struct {
	born    time.Time
	tallies []*apiTally // likewise
}

// cacheResults are the words of [gatehouse.Event.Cache].
var cacheResults = [...]string{"hit", "miss", "refreshed", "stale", "bypass"}

var classes = [6]string{other, "1xx", "2xx", "3xx", "4xx", "5xx"}

// New gives a Monitor that knows no operation yet: all events count as unmatched
// until [Monitor.Configure].
func New(from Sources) *Monitor {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Monitor{
		registry: prometheus.NewRegistry(),
		seats:    newSeats(),
		refused:  counter("gatehouse_refused_total", "Requests that ended in a problem, by its reason.", "api", "reason"),
		config:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatehouse_config_info", Help: "1 for the digest of the running config."}, []string{"digest"}),
		loaded:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_config_loaded_timestamp_seconds", Help: "When the running config was taken."}),
		reloads:  counter("gatehouse_reloads_total", "Configs offered while running, by what became of them.", "result"),
	}
	m.registry.MustRegister(
		newPage(m), m.refused, m.config, m.loaded, m.reloads,
		&sourceCollector{from},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.reloads.WithLabelValues("taken")
	m.reloads.WithLabelValues("refused")
	m.reasons.Store(&map[reasonKey]prometheus.Counter{})
	m.known.Store(m.resolve(nil, &snapshot{}))
	return m
}

// Configure makes ops the operations that have metrics of their own, and forgets
// those that are gone: a gateway that reloads a thousand times does not grow.
func (m *Monitor) Configure(digest string, ops []*gatehouse.Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.known.Load()
	now := m.resolve(ops, old)
	m.known.Store(now)
	kept := maps.Clone(*m.reasons.Load())
	for api := range old.apis {
		if now.apis[api] != nil {
			continue
		}
		m.refused.DeletePartialMatch(prometheus.Labels{"api": api})
		maps.DeleteFunc(kept, func(k reasonKey, _ prometheus.Counter) bool { return k.api == api })
	}
	m.reasons.Store(&kept)
	m.config.Reset()
	m.config.WithLabelValues(digest).Set(1)
	m.loaded.SetToCurrentTime()
}

// Reloaded counts a config that was offered while running: taken, or refused for
// its faults while the old one serves on.
func (m *Monitor) Reloaded(taken bool) {
	result := "refused"
	if taken {
		result = "taken"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// resolve makes the snapshot of a config, in which what old had counts on; "" is
// the API of unmatched requests.
func (m *Monitor) resolve(ops []*gatehouse.Operation, old *snapshot) *snapshot {
	s := &snapshot{operations: make(map[operationKey]*series, len(ops)), labelled: make(map[operationKey]*series, len(ops)+1), apis: map[string]*apiSeries{}}
	now := time.Now()
	api := func(name string) *apiSeries {
		if s.apis[name] == nil {
			s.apis[name] = old.apis[name]
		}
		if s.apis[name] == nil {
			s.apis[name] = &apiSeries{born: now, tallies: make([]*apiTally, len(m.seats.all))}
		}
		return s.apis[name]
	}
	shown := func(label operationKey) *series {
		if s.labelled[label] == nil {
			s.labelled[label] = old.labelled[label]
		}
		if s.labelled[label] == nil {
			s.labelled[label] = &series{key: label, api: api(label.api), born: now, tallies: make([]*operationTally, len(m.seats.all))}
		}
		api(label.api) // of an old series, too
		return s.labelled[label]
	}
	s.unmatched = shown(operationKey{})
	for _, op := range ops {
		s.operations[operationKey{op.API, op.ID}] = shown(operationKey{strings.ToValidUTF8(op.API, "\ufffd"), strings.ToValidUTF8(op.ID, "\ufffd")}) // Prometheus takes no other bytes
	}
	return s
}

// Begin counts a request as being served; its [Monitor.Observe] ends it.
func (m *Monitor) Begin() { m.seats.all[m.seats.mine()].begun.Add(1) }

// Observe counts a request that has ended. It keeps nothing of e.
func (m *Monitor) Observe(e *gatehouse.Event) { m.count(e, 1) }

// Refused counts an event that had no [Monitor.Begin]: a head that was refused
// before it became a request.
func (m *Monitor) Refused(e *gatehouse.Event) { m.count(e, 0) }

func (m *Monitor) count(e *gatehouse.Event, ended int64) {
	known := m.known.Load()
	s := known.operations[operationKey{e.API, e.Operation}]
	if s == nil {
		s = known.unmatched
	}
	class := e.Status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	mine := m.seats.mine()
	seat := &m.seats.all[mine]
	seat.mu.Lock()
	seat.ended += ended
	t := s.tallies[mine]
	if t == nil {
		t = new(operationTally)
		s.tallies[mine] = t
	}
	a := s.api.tallies[mine]
	if a == nil {
		a = new(apiTally)
		s.api.tallies[mine] = a
	}
	t.status[class]++
	t.seconds.observe(e.Duration)
	a.overhead.observe(e.Duration - e.Service)
	a.received += uint64(max(0, e.In))
	a.sent += uint64(max(0, e.Out))
	if len(e.Reported) > 0 {
		a.reported++
	}
	if e.Cache != "" {
		if i := slices.Index(cacheResults[:], e.Cache); i >= 0 {
			a.cached[i]++
		}
	}
	seat.mu.Unlock()
	if e.Reason != "" {
		m.reason(reasonKey{s.key.api, e.Reason}).Inc()
	}
}

func (m *Monitor) reason(key reasonKey) prometheus.Counter {
	if c := (*m.reasons.Load())[key]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := *m.reasons.Load()
	if len(now) >= maxReasons {
		key = reasonKey{"", other}
	}
	if c := now[key]; c != nil {
		return c
	}
	next := maps.Clone(now)
	next[key] = m.refused.WithLabelValues(key.api, strings.ToValidUTF8(key.reason, "\ufffd"))
	m.reasons.Store(&next)
	return next[key]
}

// Handler serves the metrics in the formats of Prometheus and OpenMetrics, and as
// protobuf with native histograms to those who ask.
func (m *Monitor) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// A sourceCollector asks the Sources when metrics are read.
type sourceCollector struct{ from Sources }

// Describe promises nothing in advance: upstreams come and go with the config.
func (*sourceCollector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the sources.
func (c *sourceCollector) Collect(metrics chan<- prometheus.Metric) {
	out := shown(metrics)
	if c.from.Upstreams != nil {
		type pair struct{ api, url string }
		seen := map[pair]bool{}
		for _, u := range c.from.Upstreams() {
			key := pair{u.API, u.URL}
			if !seen[key] { // a pair given twice would fail the whole page
				out.upstream(&u)
			}
			seen[key] = true
		}
	}
	if c.from.Record != nil {
		waiting, capacity := c.from.Record()
		out.gauge("gatehouse_record_waiting_bytes", "Events that are safe from a crash but not yet in a file.", float64(waiting))
		out.gauge("gatehouse_record_capacity_bytes", "How much can wait until requests are refused.", float64(capacity))
	}
	if c.from.RecordErr != nil {
		out.gauge("gatehouse_record_failed", "1 while events cannot be written.", one(c.from.RecordErr() != nil))
	}
	if c.from.LimitsErr != nil {
		out.gauge("gatehouse_limits_divided", "1 while the shared engine does not answer: each node gives its part of every limit, strict ones refuse.", one(c.from.LimitsErr() != nil))
	}
	if c.from.QuotasErr != nil {
		out.gauge("gatehouse_quotas_failed", "1 while calendar quotas cannot be counted in the database.", one(c.from.QuotasErr() != nil))
	}
	if c.from.Nodes != nil {
		alive, differ := c.from.Nodes()
		out.gauge("gatehouse_nodes", "Nodes of the fleet that are alive.", float64(alive))
		out.gauge("gatehouse_nodes_configs_differ", "1 while the nodes have worked with different configs for over 30 seconds.", one(differ))
	}
	if c.from.Refusals != nil {
		out.refusals(c.from.Refusals())
	}
	if c.from.Overflow != nil {
		out.counter("gatehouse_limit_overflow_total", "Requests counted together with others because the table of limits was full: a flood of fresh callers.", float64(c.from.Overflow()))
	}
	if c.from.Cache != nil {
		f := c.from.Cache()
		out.gauge("gatehouse_cache_entries", "Answers kept.", float64(f.Entries))
		out.gauge("gatehouse_cache_bytes", "Memory they take.", float64(f.Bytes))
		out.counter("gatehouse_cache_evicted_total", "Answers that made room for others.", float64(f.Evicted))
	}
	if c.from.Guard != nil {
		out.guard(c.from.Guard())
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
