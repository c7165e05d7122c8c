package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// introduce tells the guard the APIs of s, and the routes of s what it calls them.
func (g *Gateway) introduce(s *Snapshot) {
	if g.Guard == nil || s == nil {
		return
	}
	rooms := map[string]func() float64{}
	for _, r := range s.Routes {
		rooms[r.Op.Op().API] = nil
	}
	for _, h := range s.held {
		rooms[h.API] = h.Pressure
	}
	services := g.Guard.Serve(rooms)
	for _, r := range s.Routes {
		if to := services[r.Op.Op().API]; r.guarded != to { // the same snapshot may be at work
			r.guarded = to
		}
	}
}

// guarded is the API x asks for; nil: none.
func (x *exchange) guarded() *ddos.Service {
	if x.route == nil {
		return nil
	}
	return x.route.guarded
}

// guard asks what stands about the caller's address: after the operation has been
// looked for, which costs little and tells where credentials would be, and before
// anything else is done.
func (g *Gateway) guard(x *exchange) error {
	if g.Guard == nil {
		return nil
	}
	x.verdict = g.Guard.AdmitTo(x.guarded(), x.facts.Address, x.start)
	if x.verdict.Step >= ddos.Watch {
		return nil
	}
	if x.verdict.Report {
		x.event.Reported = append(x.event.Reported, gatehouse.FieldError{
			In: "address", Name: x.event.Address, Rule: x.verdict.Step.String(), Detail: "the guard would have done this",
		})
	}
	x.claims = x.claimsSomeone()
	return g.judge(x)
}

// guardCaller asks again about a caller whose credentials, now that they have been
// looked at, prove nobody: what an operation for anyone ignores must not be a way
// around the guard. A service inside may judge credentials itself, and later.
func (g *Gateway) guardCaller(x *exchange) error {
	if !x.claims || g.Guard == nil {
		return nil
	}
	if !x.who.Anonymous() {
		g.Guard.Proven(x.verdict)
		return nil
	}
	if x.route.Service != nil && x.route.Raw {
		return nil
	}
	x.claims = false
	return g.judge(x)
}

func (g *Gateway) judge(x *exchange) error {
	if x.verdict.Step == ddos.Challenge && x.route != nil && x.route.Service != nil && !wantsPage(x.r) {
		return nil // tokens and keys of the house are fetched by programs, which others wait for
	}
	p := g.Guard.Judge(x.verdict, &ddos.Caller{Address: x.facts.Address, Claims: x.claims, Pass: passOf(x.r), Now: x.start})
	if p == nil {
		return nil
	}
	if x.verdict.Step == ddos.Ban && isPeer(x.r, x.facts.Address) {
		x.w.Header()["Connection"] = []string{"close"} // the next one is turned away at the door; of HTTP/2, too, whose connection this ends
	}
	if p.Reason == reasonChallenge {
		x.challenge = g.Guard.Challenge(x.facts.Address, x.verdict, x.start)
	}
	return p
}

const reasonChallenge = "challenge"

// isPeer reports whether the connection is the caller's own, and not one on which a
// proxy brings many.
func isPeer(r *http.Request, caller netip.Addr) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && ap.Addr().Unmap() == caller.Unmap()
}

// floodTimes is how many requests a connection that was closed for its frames stands
// for: it took back hundreds, each of which cost a part of one.
const floodTimes = 200

// claimsSomeone reports whether the request carries what could prove somebody.
func (x *exchange) claimsSomeone() bool {
	h := x.r.Header
	if h["Authorization"] != nil || x.r.TLS != nil && len(x.r.TLS.PeerCertificates) > 0 {
		return true
	}
	if x.route == nil {
		return false
	}
	for _, name := range x.route.Accept.CredentialHeaders() {
		if h[name] != nil {
			return true
		}
	}
	return false
}

// wantsPage reports whether a browser asks for something to show.
func wantsPage(r *http.Request) bool {
	return slices.ContainsFunc(r.Header["Accept"], func(v string) bool { return strings.Contains(v, "text/html") })
}

// passOf is the solved challenge a request brings along.
func passOf(r *http.Request) string {
	if v := r.Header[ddos.HeaderPass]; len(v) == 1 {
		return v[0]
	}
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if pass, ours := passIn(strings.Trim(pair, " ")); ours {
				return pass
			}
		}
	}
	return ""
}

// passIn gives the pass in one pair of a Cookie field, if it is that cookie.
func passIn(pair string) (pass string, ours bool) {
	name, value, _ := strings.Cut(pair, "=")
	return value, strings.TrimPrefix(name, "__Host-") == ddos.CookiePass
}

// withoutPass takes our own cookie out of what a service gets to see.
func withoutPass(cookie string) string {
	if !strings.Contains(cookie, ddos.CookiePass) {
		return cookie
	}
	var kept []string
	for pair := range strings.SplitSeq(cookie, ";") {
		pair = strings.Trim(pair, " ")
		if _, ours := passIn(pair); !ours {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "; ")
}

// tellChallenge gives the fields of an answer with a challenge, and the page that a
// browser gets in place of a problem; nil where a program asks.
func (x *exchange) tellChallenge(decision string) (page []byte, own http.Header) {
	own = http.Header{ddos.HeaderChallenge: {x.challenge}}
	if !wantsPage(x.r) {
		return nil, own
	}
	page, policy := ddos.ChallengePage(ddos.PageOf{
		Challenge: x.challenge, Secure: x.proto == "https", Repeat: x.r.Method == http.MethodGet || x.r.Method == http.MethodHead, Decision: decision,
	})
	if page == nil {
		return nil, own
	}
	own["Content-Type"] = []string{"text/html; charset=utf-8"}
	own["Content-Security-Policy"] = []string{policy}
	own["X-Frame-Options"] = []string{"DENY"}
	return page, own
}

// guardObserve tells the guard what a request came to.
func (g *Gateway) guardObserve(x *exchange, refused bool) {
	if g.Guard == nil || x.direct != nil { // which came from a place that is the edge's
		return
	}
	g.Guard.Observe(x.facts.Address, ddos.Outcome{
		For: x.guarded(), Proven: !x.who.Anonymous(), Refused: refused || faulty(x.event.Status), Cost: x.found.Cost, Shed: x.event.Reason == "overloaded",
	}, x.start)
}

// faulty reports whether a status says that the caller should not have asked so.
func faulty(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusTooManyRequests:
		return true
	}
	return false
}

// Refused counts a request that never became one against who sent it, and records
// it. What a trusted hop sent is nobody's in particular, and neither is a connection
// which a proxy of ours did not introduce.
func (e *Entry) Refused(f http1.Refusal) string {
	if ap, err := netip.ParseAddrPort(f.Address); err == nil && e.g.Guard != nil && !e.Trusts(ap.Addr()) && f.Problem.Reason != "bad_proxy_header" {
		if errors.Is(f.Problem.Err, http1.ErrFull) {
			e.g.Guard.NoRoom()
		}
		o := ddos.Outcome{Refused: true}
		if f.Problem.Reason == "http2_flood" {
			o.Times = floodTimes
		}
		e.g.Guard.Observe(ap.Addr(), o, time.Now())
	}
	return e.g.Refused(f)
}

// Refuse is asked about each connection to the listener, which speaks TLS or not.
func (e *Entry) Refuse(tls bool) func(netip.Addr) bool {
	if e.g.Guard == nil {
		return nil
	}
	return func(a netip.Addr) bool { return !e.Trusts(a) && !e.g.Guard.Arrive(a, tls, time.Now()) }
}
