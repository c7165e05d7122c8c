//go:build race

package gateway

import (
	"bytes"
	"net/http"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// poisoned: under the race detector what goes back to a pool is filled with
// nonsense instead, and never used again, so that whoever kept it is found out.
const poisoned = true

const poison = "POISONED"

// poison makes everything in x that somebody could have kept tell on them.
func (x *exchange) poison() {
	f := &x.flight
	for _, room := range [][]byte{x.limits, x.text, x.seen, f.buf, x.head.Path, x.head.Query, x.body.Bytes, x.cached, x.everybody, x.status} {
		room = room[:cap(room)]
		copy(room, bytes.Repeat([]byte(poison), len(room)/len(poison)+1))
	}
	for _, fields := range [][]http1.Field{x.own[:], f.fields[:cap(f.fields)], f.given[:cap(f.given)], x.narrow[:]} {
		for i := range fields {
			fields[i] = http1.Field{Name: poison, Value: poison}
		}
	}
	clear(x.vals)
	x.found.Reset()
	*x = exchange{
		r: &http.Request{Method: poison, Host: poison}, event: gatehouse.Event{ID: poison, Subject: poison, Reason: poison, Cause: poison},
		own: x.own, narrow: x.narrow, proto: poison,
	}
	x.out = Outbound{Request: x.r, Path: poison, Host: poison, Decision: poison, Cookie: poison}
	x.flight = flight{x: &x.out, token: poison}
}
