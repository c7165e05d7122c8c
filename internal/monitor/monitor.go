package monitor

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	gatehouse "github.com/gatehouse-api/gatehouse"
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
}

// An Upstream is one service and whether it is used.
type Upstream struct {
	API     string
	URL     string // as configured, without credentials
	Healthy bool
}

// A Monitor counts events. Its methods may be called by many at once.
type Monitor struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	overhead *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	reported *prometheus.CounterVec
	refused  *prometheus.CounterVec
	config   *prometheus.GaugeVec
	loaded   prometheus.Gauge
	reloads  *prometheus.CounterVec

	inFlight atomic.Int64
	known    atomic.Pointer[snapshot]
	reasons  atomic.Pointer[map[reasonKey]prometheus.Counter]
	mu       sync.Mutex // of those who replace known and reasons
}

type (
	operationKey struct{ api, operation string }
	reasonKey    struct{ api, reason string }
)

// A snapshot resolves the operations of one config. It is never written to, but
// for the series in it, each of which fills itself at its first event.
type snapshot struct {
	operations map[operationKey]*series
	apis       map[string]*apiSeries
	unmatched  *series
}

// A series is what is counted for one operation, made at its first event: of ten
// thousand operations most are quiet, and each costs twenty lines of /metrics.
type series struct {
	key     operationKey
	api     *apiSeries
	status  [6]atomic.Pointer[prometheus.Counter] // by class; 0 is a status that is none
	seconds atomic.Pointer[prometheus.Observer]
}

// An apiSeries is what is counted for one API.
type apiSeries struct {
	overhead       prometheus.Observer
	received, sent prometheus.Counter
	reported       prometheus.Counter
}

var classes = [6]string{other, "1xx", "2xx", "3xx", "4xx", "5xx"}

// New gives a Monitor that knows no operation yet: all events count as unmatched
// until [Monitor.Configure].
func New(from Sources) *Monitor {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help,
			Buckets:                         []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Monitor{
		registry: prometheus.NewRegistry(),
		requests: counter("gatehouse_requests_total", "Requests, by operation and class of the status sent. Unmatched ones have no api and operation.", "api", "operation", "status"),
		seconds:  histogram("gatehouse_request_duration_seconds", "From the head of a request to the end of its answer.", "api", "operation"),
		overhead: histogram("gatehouse_overhead_seconds", "Of a request's duration, what was not waiting for the service.", "api"),
		received: counter("gatehouse_received_bytes_total", "Bytes of request bodies.", "api"),
		sent:     counter("gatehouse_sent_bytes_total", "Bytes of response bodies.", "api"),
		reported: counter("gatehouse_reported_total", "Requests in which a check in report mode found a fault.", "api"),
		refused:  counter("gatehouse_refused_total", "Requests that ended in a problem, by its reason.", "api", "reason"),
		config:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatehouse_config_info", Help: "1 for the digest of the running config."}, []string{"digest"}),
		loaded:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_config_loaded_timestamp_seconds", Help: "When the running config was taken."}),
		reloads:  counter("gatehouse_reloads_total", "Configs offered while running, by what became of them.", "result"),
	}
	m.registry.MustRegister(
		m.requests, m.seconds, m.overhead, m.received, m.sent, m.reported, m.refused, m.config, m.loaded, m.reloads,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_in_flight_requests", Help: "Requests being served now."},
			func() float64 { return float64(m.inFlight.Load()) }),
		&sourceCollector{from},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.reloads.WithLabelValues("taken")
	m.reloads.WithLabelValues("refused")
	m.reasons.Store(&map[reasonKey]prometheus.Counter{})
	m.known.Store(m.resolve(nil))
	return m
}

// Configure makes ops the operations that have metrics of their own, and forgets
// those that are gone: a gateway that reloads a thousand times does not grow.
func (m *Monitor) Configure(digest string, ops []*gatehouse.Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, now := m.known.Load(), m.resolve(ops)
	m.known.Store(now)
	for key, s := range old.operations {
		if now.operations[key] == nil {
			for _, class := range classes { // by full labels: a search for each of ten thousand would take seconds
				m.requests.DeleteLabelValues(s.key.api, s.key.operation, class)
			}
			m.seconds.DeleteLabelValues(s.key.api, s.key.operation)
		}
	}
	kept := maps.Clone(*m.reasons.Load())
	for api := range old.apis {
		if now.apis[api] != nil {
			continue
		}
		for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.overhead, m.received, m.sent, m.reported, m.refused} {
			vec.DeletePartialMatch(prometheus.Labels{"api": api})
		}
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

// resolve makes the snapshot of a config; "" is the API of unmatched requests.
func (m *Monitor) resolve(ops []*gatehouse.Operation) *snapshot {
	s := &snapshot{operations: make(map[operationKey]*series, len(ops)), apis: map[string]*apiSeries{}}
	api := func(name string) *apiSeries {
		if s.apis[name] == nil {
			s.apis[name] = &apiSeries{
				overhead: m.overhead.WithLabelValues(name), received: m.received.WithLabelValues(name),
				sent: m.sent.WithLabelValues(name), reported: m.reported.WithLabelValues(name),
			}
		}
		return s.apis[name]
	}
	s.unmatched = &series{api: api("")}
	for _, op := range ops {
		key := operationKey{op.API, op.ID}
		label := operationKey{strings.ToValidUTF8(op.API, "\ufffd"), strings.ToValidUTF8(op.ID, "\ufffd")} // Prometheus panics on other bytes
		s.operations[key] = &series{key: label, api: api(label.api)}
	}
	return s
}

// Begin counts a request as being served; its [Monitor.Observe] ends it.
func (m *Monitor) Begin() { m.inFlight.Add(1) }

// Observe counts a request that has ended. It keeps nothing of e.
func (m *Monitor) Observe(e *gatehouse.Event) {
	m.inFlight.Add(-1)
	m.Refused(e)
}

// Refused counts an event that had no [Monitor.Begin]: a head that was refused
// before it became a request.
func (m *Monitor) Refused(e *gatehouse.Event) {
	known := m.known.Load()
	s := known.operations[operationKey{e.API, e.Operation}]
	if s == nil {
		s = known.unmatched
	}
	class := e.Status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.counter(s, class).Inc()
	m.observer(s).Observe(e.Duration.Seconds())
	s.api.overhead.Observe(max(0, e.Duration-e.Service).Seconds())
	if e.In > 0 {
		s.api.received.Add(float64(e.In))
	}
	if e.Out > 0 {
		s.api.sent.Add(float64(e.Out))
	}
	if len(e.Reported) > 0 {
		s.api.reported.Inc()
	}
	if e.Reason != "" {
		m.reason(reasonKey{s.key.api, e.Reason}).Inc()
	}
}

func (m *Monitor) counter(s *series, class int) prometheus.Counter {
	if c := s.status[class].Load(); c != nil {
		return *c
	}
	c := m.requests.WithLabelValues(s.key.api, s.key.operation, classes[class])
	s.status[class].Store(&c) // two may do so at once, with the same counter
	return c
}

func (m *Monitor) observer(s *series) prometheus.Observer {
	if o := s.seconds.Load(); o != nil {
		return *o
	}
	o := m.seconds.WithLabelValues(s.key.api, s.key.operation)
	s.seconds.Store(&o)
	return o
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

func upstreamDesc() *prometheus.Desc {
	return prometheus.NewDesc("gatehouse_upstream_healthy", "1 when the service is used, 0 when it is left out.", []string{"api", "upstream"}, nil)
}

func plainDesc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// Describe promises nothing in advance: upstreams come and go with the config.
func (*sourceCollector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the sources.
func (c *sourceCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		metric, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, v, labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
	if c.from.Upstreams != nil {
		seen := map[Upstream]bool{}
		for _, u := range c.from.Upstreams() {
			key := Upstream{API: u.API, URL: u.URL}
			if !seen[key] { // a pair given twice would fail the whole page
				gauge(upstreamDesc(), one(u.Healthy), u.API, u.URL)
			}
			seen[key] = true
		}
	}
	if c.from.Record != nil {
		waiting, capacity := c.from.Record()
		gauge(plainDesc("gatehouse_record_waiting_bytes", "Events that are safe from a crash but not yet in a file."), float64(waiting))
		gauge(plainDesc("gatehouse_record_capacity_bytes", "How much can wait until requests are refused."), float64(capacity))
	}
	if c.from.RecordErr != nil {
		gauge(plainDesc("gatehouse_record_failed", "1 while events cannot be written."), one(c.from.RecordErr() != nil))
	}
	if c.from.Overflow != nil {
		out <- prometheus.MustNewConstMetric(plainDesc("gatehouse_limit_overflow_total", "Requests counted together with others because the table of limits was full: a flood of fresh callers."),
			prometheus.CounterValue, float64(c.from.Overflow()))
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
