package monitor

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collectUpstream shows one service: whether it is used, and how much it can take.
func collectUpstream(out chan<- prometheus.Metric, u *Upstream) {
	show := func(kind prometheus.ValueType, name, help string, v float64, more ...string) {
		names, values := []string{"api", "upstream"}, []string{u.API, u.URL}
		for i := 0; i < len(more); i += 2 {
			names, values = append(names, more[i]), append(values, more[i+1])
		}
		desc := prometheus.NewDesc("gatehouse_upstream_"+name, help, names, nil)
		metric, err := prometheus.NewConstMetric(desc, kind, v, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
	show(prometheus.GaugeValue, "healthy", "1 when the service is used, 0 when it is left out.", one(u.Healthy))
	room := &u.Room
	show(prometheus.GaugeValue, "in_flight", "Requests under way at the service, bodies of answers included.", float64(room.InFlight))
	show(prometheus.GaugeValue, "limit", "Requests whose answer has not begun that the service is given at once, as was found out.", float64(room.Limit))
	show(prometheus.GaugeValue, "waiting", "Requests in line for room at the service.", float64(room.Waiting))
	if room.Floor > 0 {
		show(prometheus.GaugeValue, "floor_seconds", "Time to the head of an answer while the service is at ease.", room.Floor.Seconds())
		show(prometheus.GaugeValue, "latency_seconds", "Time to the head of an answer lately.", room.Latency.Seconds())
	}
	for _, n := range room.Shed {
		show(prometheus.CounterValue, "shed_total", "Requests refused for want of room, by the priority of the operation and what was known of the caller.",
			float64(n.Requests), "priority", n.Priority, "caller", n.Claim)
	}
}
