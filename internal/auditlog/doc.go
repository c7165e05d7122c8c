// Package auditlog is the append-only record: one event for each request, one
// change for each act of an administrator; practice 7.
//
// It owns the folder of events-….jsonl and changes.jsonl, the ids of decisions,
// and how an [gatehouse.Event] is written as a line of JSON. It hides how a line
// survives: [Log.Append] writes into a file mapped into memory (the ring), which
// belongs to the kernel and so outlives a kill -9; one goroutine carries lines
// from there to the files in large writes. What Append has acknowledged is found
// again exactly once, after a crash of the gateway. After a crash of the machine
// up to Config.Sync of events may be lost; changes never are.
//
// It trusts the folder: whoever may write there can forge or delete the record
// (the Merkle chain over it belongs to a later issue), whoever may read there
// learns who called what, though never a token, a key, a header or a body.
//
// It fails closed. When the disk is full, the folder gone or the writer too slow,
// the ring fills, and Append answers [ErrFull] after 100 ms: the gateway then
// answers 503 record_unavailable, because a request that leaves no trace is what
// an attacker wishes for. Errors are plain; callers see none of them.
//
//	log, err := auditlog.Open(auditlog.Config{Dir: "data/events"})
//	defer log.Close()
//	e := &gatehouse.Event{ID: auditlog.NewID(now), Time: now, Status: 200}
//	err = log.Append(e)
//	again, err := auditlog.Find(ctx, "data/events", e.ID)
package auditlog
