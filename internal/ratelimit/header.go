package ratelimit

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// AppendPolicy appends a limit to the value of a RateLimit-Policy header
// (draft-ietf-httpapi-ratelimit-headers-11 §3): `"per-user";q=100;w=60`. A
// second limit becomes the next member of the list.
func AppendPolicy(dst []byte, l *Limit) []byte {
	dst = appendName(dst, l.name)
	dst = append(dst, ";q="...)
	dst = strconv.AppendInt(dst, l.count, 10)
	dst = append(dst, ";w="...)
	return strconv.AppendInt(dst, seconds(l.window), 10)
}

// AppendResult appends what is left of a limit to the value of a RateLimit
// header (draft §4): `"per-user";r=50;t=30`. t is the time until the whole burst
// is back, or of a refusal the time to wait.
func AppendResult(dst []byte, r Result) []byte {
	if r.Limit == nil {
		return dst
	}
	dst = appendName(dst, r.Limit.name)
	dst = append(dst, ";r="...)
	dst = strconv.AppendInt(dst, r.Remaining, 10)
	dst = append(dst, ";t="...)
	_, _, t := Told(r)
	return strconv.AppendInt(dst, t, 10)
}

// Told is what callers are told of a limit: its quota, what is left of it, and the
// seconds until the whole burst is back, or of a refusal until it is worth trying
// again.
func Told(r Result) (quota, remaining, wait int64) {
	if r.Limit != nil {
		quota = r.Limit.count
	}
	if !r.OK {
		return quota, r.Remaining, seconds(r.RetryAfter)
	}
	return quota, r.Remaining, seconds(r.Reset)
}

// Problem is what a caller that was refused sees: rate_limited (429), of the
// draft's type quota-exceeded. The cause names the limit, for the operator.
func Problem(r Result) *gatehouse.Problem {
	wait := time.Duration(max(1, seconds(r.RetryAfter))) * time.Second
	if r.Unavailable {
		return &gatehouse.Problem{
			Kind: gatehouse.Overloaded, Reason: "limit_unavailable", RetryAfter: wait, Err: fmt.Errorf("limit %s: %w", r.Limit.Name(), errUncounted),
			Detail: "The request cannot be counted now, so it is not carried out.",
		}
	}
	p := &gatehouse.Problem{Kind: gatehouse.RateLimited, Reason: "rate_limited", Detail: "Too many requests.", RetryAfter: wait}
	if l := r.Limit; l != nil {
		what := "Too many requests"
		if l.failures {
			what = "Too many requests that failed"
		}
		p.Detail = fmt.Sprintf("%s: %d in %s are allowed.", what, l.count, time.Duration(l.window))
		if l.quota != nil {
			p.Detail = fmt.Sprintf("The quota is used up: %d a %s are allowed.", l.count, l.quota.unit)
		}
		p.Policies = []string{l.name}
		p.Err = fmt.Errorf("limit %s: %s", l.name, l)
	}
	return p
}

func appendName(dst []byte, name string) []byte {
	if len(dst) > 0 {
		dst = append(dst, ", "...)
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"')
}

// seconds rounds up: who comes back when told must not be refused again.
func seconds(ns int64) int64 { return (ns + int64(time.Second) - 1) / int64(time.Second) }
