package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A page adds the seats up when metrics are read.
type page struct {
	m                                                                    *Monitor
	requests, seconds, overhead, received, sent, reported, cached, begun *prometheus.Desc
}

func newPage(m *Monitor) *page {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &page{
		m:        m,
		requests: desc("gatehouse_requests_total", "Requests, by operation and class of the status sent. Unmatched ones have no api and operation.", "api", "operation", "status"),
		seconds:  desc("gatehouse_request_duration_seconds", "From the head of a request to the end of its answer.", "api", "operation"),
		overhead: desc("gatehouse_overhead_seconds", "Of a request's duration, what was not waiting for the service.", "api"),
		received: desc("gatehouse_received_bytes_total", "Bytes of request bodies.", "api"),
		sent:     desc("gatehouse_sent_bytes_total", "Bytes of response bodies.", "api"),
		reported: desc("gatehouse_reported_total", "Requests in which a check in report mode found a fault.", "api"),
		cached:   desc("gatehouse_cache_requests_total", "Requests of operations that keep answers, by what became of them: hit, miss, refreshed (the service confirmed what was kept), stale (given instead of a failure, or while another request fetched it anew), bypass.", "api", "result"),
		begun:    desc("gatehouse_in_flight_requests", "Requests being served now."),
	}
}

// Describe implements prometheus.Collector.
func (p *page) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.requests, p.seconds, p.overhead, p.received, p.sent, p.reported, p.cached, p.begun} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Each lock is held for one addition: the
// requests of a processor do not wait until a page is made.
func (p *page) Collect(out chan<- prometheus.Metric) {
	known := p.m.known.Load()
	counter := func(desc *prometheus.Desc, v uint64, born time.Time, labels ...string) {
		if metric, err := prometheus.NewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, float64(v), born, labels...); err != nil {
			out <- prometheus.NewInvalidMetric(desc, err)
		} else {
			out <- metric
		}
	}
	for _, s := range known.labelled {
		t := sum(p.m.seats, s.tallies)
		if t.seconds.count == 0 {
			continue // of ten thousand operations most are quiet, and each costs twenty lines
		}
		for class, n := range t.status {
			if n > 0 {
				counter(p.requests, n, s.born, s.key.api, s.key.operation, classes[class])
			}
		}
		out <- newHistogram(p.seconds, &t.seconds, s.born, s.key.api, s.key.operation)
	}
	for name, s := range known.apis {
		t := sum(p.m.seats, s.tallies)
		out <- newHistogram(p.overhead, &t.overhead, s.born, name)
		counter(p.received, t.received, s.born, name)
		counter(p.sent, t.sent, s.born, name)
		counter(p.reported, t.reported, s.born, name)
		for i, n := range t.cached {
			if n > 0 {
				counter(p.cached, n, s.born, name, cacheResults[i])
			}
		}
	}
	out <- prometheus.MustNewConstMetric(p.begun, prometheus.GaugeValue, float64(p.m.seats.inFlight()))
}

// sum adds the tallies of one series up.
func sum[T any, P interface {
	*T
	add(*T)
}](s *seats, tallies []*T,
) (all T) {
	for i := range tallies {
		s.all[i].mu.Lock()
		if tallies[i] != nil {
			P(&all).add(tallies[i])
		}
		s.all[i].mu.Unlock()
	}
	return all
}

// A shownHistogram has classic and native buckets, which the library makes a
// constant of only one by one.
type shownHistogram struct{ classic, native prometheus.Metric }

func newHistogram(desc *prometheus.Desc, h *histogram, born time.Time, labels ...string) prometheus.Metric {
	upTo, n := make(map[float64]uint64, len(bounds)), uint64(0)
	for i, bound := range bounds {
		n += h.classic[i]
		upTo[bound.Seconds()] = n
	}
	classic, err := prometheus.NewConstHistogramWithCreatedTimestamp(desc, h.count, h.sum.Seconds(), upTo, born, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	buckets, schema := h.buckets()
	native, err := prometheus.NewConstNativeHistogram(desc, h.count, h.sum.Seconds(), buckets, nil, h.zero, schema, prometheus.DefNativeHistogramZeroThreshold, born, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return shownHistogram{classic, native}
}

// Desc implements prometheus.Metric.
func (s shownHistogram) Desc() *prometheus.Desc { return s.classic.Desc() }

// Write implements prometheus.Metric.
func (s shownHistogram) Write(out *dto.Metric) error {
	var native dto.Metric
	if err := s.native.Write(&native); err != nil {
		return err
	}
	if err := s.classic.Write(out); err != nil {
		return err
	}
	h, n := out.GetHistogram(), native.GetHistogram()
	h.Schema, h.ZeroThreshold, h.ZeroCount = n.Schema, n.ZeroThreshold, n.ZeroCount
	h.PositiveSpan, h.PositiveDelta = n.PositiveSpan, n.PositiveDelta
	return nil
}
