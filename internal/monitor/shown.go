package monitor

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

// A shown is where figures go that are read now. Labels are names and values in turn.
type shown chan<- prometheus.Metric

func (s shown) gauge(name, help string, v float64, labels ...string) {
	s.show(prometheus.GaugeValue, name, help, v, labels)
}

func (s shown) counter(name, help string, v float64, labels ...string) {
	s.show(prometheus.CounterValue, name, help, v, labels)
}

func (s shown) show(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	desc := prometheus.NewDesc(name, help, names, nil)
	metric, err := prometheus.NewConstMetric(desc, kind, v, values...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(desc, err)
	}
	s <- metric
}

// upstream shows one service: whether it is used, and how much it can take.
func (s shown) upstream(u *Upstream) {
	gauge := func(name, help string, v float64) {
		s.gauge("gatehouse_upstream_"+name, help, v, "api", u.API, "upstream", u.URL)
	}
	gauge("healthy", "1 when the service is used, 0 when it is left out.", one(u.Healthy))
	room := &u.Room
	gauge("in_flight", "Requests under way at the service, bodies of answers included.", float64(room.InFlight))
	gauge("limit", "Requests whose answer has not begun that the service is given at once, as was found out.", float64(room.Limit))
	gauge("waiting", "Requests in line for room at the service.", float64(room.Waiting))
	if room.Floor > 0 {
		gauge("floor_seconds", "Time to the head of an answer while the service is at ease.", room.Floor.Seconds())
		gauge("latency_seconds", "Time to the head of an answer lately.", room.Latency.Seconds())
	}
	for _, n := range room.Shed {
		s.counter("gatehouse_upstream_shed_total", "Requests refused for want of room, by the priority of the operation and what was known of the caller.",
			float64(n.Requests), "api", u.API, "upstream", u.URL, "priority", n.Priority, "caller", n.Claim)
	}
}

// guard shows who is challenged, throttled and banned.
func (s shown) guard(f ddos.Figures) {
	s.gauge("gatehouse_ddos_attack", "1 while every caller without credentials is challenged, of the gateway or of one API.", one(f.Attack || len(f.Attacked) > 0))
	s.gauge("gatehouse_ddos_switched", "1 while an operator or the config says so.", one(f.Switched))
	s.gauge("gatehouse_ddos_pressure", "How short of room the gateway is, or its API that is shortest of it, 0 to 1; thresholds are as low as a fourth at 1.", f.Pressure)
	s.gauge("gatehouse_ddos_bans", "Bans of operators and of the fleet's guards.", float64(f.Bans))
	s.gauge("gatehouse_ddos_bans_imported", "Bans that others decided.", float64(f.Imported))
	s.counter("gatehouse_ddos_solved_total", "Requests that came with a solved challenge when one was asked for.", float64(f.Solved))
	s.counter("gatehouse_ddos_overflow_total", "Times an address stood out and there was no room to note it.", float64(f.Overflow))
	for step, n := range f.Sources {
		s.gauge("gatehouse_ddos_sources", "Addresses and networks that stand out, by what is done about them.", float64(n), "step", step)
	}
	for step, n := range f.Refused {
		s.counter("gatehouse_ddos_refused_total", "Connections and requests refused, by why.", float64(n), "step", step)
	}
}

// refusals tells what limits refused, or would have if they were no shadows.
func (s shown) refusals(list []ratelimit.Refusals) {
	for _, r := range list {
		mode := "enforce"
		if r.Shadow {
			mode = "shadow"
		}
		s.counter("gatehouse_limit_refused_total", "Requests that a limit refused, or in mode shadow would have.", float64(r.Number), "limit", r.Limit, "mode", mode)
	}
}
