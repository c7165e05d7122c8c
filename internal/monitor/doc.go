// Package monitor turns events into metrics; practice 7.
//
// It owns the names of the metrics and a registry of its own; nothing registers
// itself from afar. It hides Prometheus: rooms hand it [gatehouse.Event]s and
// numbers, the operator's listener serves [Monitor.Handler].
//
// It trusts nothing in an event to be few. Labels are the APIs and operations of
// the running config, the class of the status and the reason of a problem; what a
// stranger sends (paths, hosts, methods, subjects) never is one, or a scan of the
// API would fill the memory here and at every Prometheus. Whoever forges metrics
// hides an attack from the graphs, not from the record in auditlog.
//
// Each processor counts for itself, and a page adds them up: counting costs a
// request no waiting for another.
//
// Metrics are no gate: nothing here can fail a request. What stops working is
// shown as such: gatehouse_record_failed is 1 while events cannot be written.
//
//	m := monitor.New(monitor.Sources{Record: log.Depth, RecordErr: log.Err})
//	m.Configure(digest, operations)
//	m.Begin(); defer m.Observe(event)
//	admin.Handle("GET /metrics", m.Handler())
package monitor
