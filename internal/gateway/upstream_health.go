package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// tend sweeps e's idle connections and, where configured, asks it how it is.
func (u *Upstreams) tend(ctx context.Context, e *endpoint) {
	every := max(u.cfg.Idle/2, time.Second)
	h := u.cfg.Health
	if h != nil {
		every = h.Interval
	}
	t := time.NewTicker(every)
	defer t.Stop()
	var verdict healthVerdict
	for {
		if h != nil {
			verdict.add(u.probe(ctx, e) == nil, h)
			if ctx.Err() != nil {
				return
			}
			e.unwell.Store(verdict.unwell)
		}
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			e.pool.Sweep(now)
		}
	}
}

// healthVerdict counts answers of one kind in a row.
type healthVerdict struct {
	unwell bool
	streak int // of answers that speak against unwell as it is
}

func (v *healthVerdict) add(good bool, h *HealthCheck) {
	if good != v.unwell {
		v.streak = 0
		return
	}
	need := h.Unhealthy
	if good {
		need = h.Healthy
	}
	if v.streak++; v.streak >= need {
		v.unwell, v.streak = !good, 0
	}
}

// probe asks over a connection of its own, so that a service which takes no new
// connections is found out.
func (u *Upstreams) probe(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Health.Timeout)
	defer cancel()
	if e.h2 {
		return u.probe2(ctx, e)
	}
	c, err := e.pool.Get(ctx, true)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, c.Interrupt)()
	head := "GET " + e.base + u.cfg.Health.Path + " HTTP/1.1\r\nHost: " + e.host + "\r\nUser-Agent: gatehouse-health\r\nConnection: close\r\n\r\n"
	if _, err := c.Send([]byte(head), u.cfg.Health.Timeout); err != nil {
		return err
	}
	for {
		r, err := c.ReadHead(ctx, http.MethodGet)
		if err != nil {
			return err
		}
		if r.Status >= 200 {
			return wellOr(r.Status)
		}
	}
}

func (u *Upstreams) probe2(ctx context.Context, e *endpoint) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url2(e.base+u.cfg.Health.Path, ""), nil)
	if err != nil {
		return err
	}
	res, err := e.over2.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return errors.Join(err, res.Body.Close(), wellOr(res.StatusCode))
}

func wellOr(status int) error {
	if status/100 != 2 {
		return fmt.Errorf("status %d", status)
	}
	return nil
}
