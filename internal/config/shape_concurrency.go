package config

// Concurrency bounds the limit that is found out for one service: of requests that
// wait for the head of its answer.
type Concurrency struct {
	Min     *int  `yaml:"min" min:"1" max:"1000000" doc:"It is never below. Default: 8, or max if that is less."`
	Initial *int  `yaml:"initial" min:"1" max:"1000000" doc:"It begins there, and rises to it by itself. Default: 64, or max if that is less."`
	Max     *int  `yaml:"max" min:"1" max:"1000000" doc:"It is never above. Default: max_in_flight. All three the same: a limit that does not move."`
	Place   Place `yaml:"-"`
}

// concurrency completes u's and checks their order.
func (c *checker) concurrency(u *Upstream, at string) {
	n := &u.Concurrency
	fill := func(p **int, v int) {
		if *p == nil {
			*p = &v
		}
	}
	fill(&n.Max, u.MaxInFlight)
	switch least := min(8, *n.Max); { // what is written moves what is not
	case n.Min == nil && n.Initial != nil:
		fill(&n.Min, min(least, *n.Initial))
	default:
		fill(&n.Min, least)
	}
	fill(&n.Initial, max(*n.Min, min(64, *n.Max)))
	if *n.Min > *n.Initial || *n.Initial > *n.Max || *n.Max > u.MaxInFlight {
		place := n.Place
		if place == (Place{}) {
			place = u.Place
		}
		c.errorf(place, "%s.upstream: concurrency.min %d, initial %d, max %d and max_in_flight %d must be in this order", at, *n.Min, *n.Initial, *n.Max, u.MaxInFlight)
	}
}

// PriorityOf is the priority of one of a's operations; o may be nil.
func (a *API) PriorityOf(o *Operation) string {
	if o != nil && o.Priority != "" {
		return o.Priority
	}
	return a.Priority
}

// HasCritical reports whether an operation of a is critical.
func (a *API) HasCritical() bool {
	for _, o := range a.Operations {
		if !o.Closed && a.PriorityOf(o) == "critical" {
			return true
		}
	}
	return a.Priority == "critical"
}
