package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// Caching is how an operation's answers are kept.
type Caching struct {
	cache.Policy

	Shared bool     // what the service says is for everybody (public, s-maxage) is, also where callers have to authenticate
	Vary   []string // request fields the service gets beside Accept and Accept-Encoding, canonical: no others
}

// Passes reports whether a field of callers goes to services at all.
func Passes(name string) bool { return requestFieldStays(name) }

// MaxVary is how many fields Vary may name.
const MaxVary = 32

// What became of a request, in [gatehouse.Event.Cache].
const (
	cacheHit       = "hit"
	cacheMiss      = "miss"
	cacheRefreshed = "refreshed" // the service said that what we have still holds
	cacheStale     = "stale"     // the service failed
	cacheBypass    = "bypass"
)

const headerCacheStatus = "Cache-Status" // RFC 9211

// errKept ends a flight whose answer is not the one to give.
var errKept = errors.New("the answer kept is given")

// fill is one request of a cached operation on its way to the service.
type fill struct {
	in     *cache.Cache
	policy *cache.Policy
	key    cache.Key
	shared int // bytes of the key before who asks; 0: what is for everybody is kept for who asked, too
	since  cache.Mark
	asked  time.Time
	flight *cache.Flight // nil: nobody waits for this one
	keep   bool
	old    *cache.Answer // may stand in, or be confirmed; nil: there is none
	told   bool          // the service was told which answer we have

	give  *cache.Answer // found out: what to give instead of the service's answer
	how   string
	cause error // of a stale answer

	bridged bool // it is given because somebody else is fetching it anew
}

// throughCache answers from what is kept, or asks the service and keeps what it
// says. All checks of the request are behind it: who may not have an answer does not
// get here, whoever asked for it first.
func (x *exchange) throughCache(f *flight) error {
	c, k := x.gate.cache, &x.fill
	now := x.start
	*k = fill{in: c, policy: &x.route.Cache.Policy, keep: x.r.Method == http.MethodGet && !wantsNoStore(x.r.Header)}
	k.key, k.shared = x.cacheKey()
	k.since = c.Since(k.key) // before what is kept is looked at: a change meanwhile undoes both
	defer func() {
		if k.flight != nil { // a check of the answer may have panicked, too
			c.Land(k.key, k.flight, k.since, nil, x.r.Context().Err() != nil)
		}
	}()
	for range 8 {
		k.old = x.lookUp(k)
		if k.old != nil && k.old.Fresh(now) && !k.old.Passes() {
			return x.giveKept(f, k.old, cacheHit)
		}
		if !k.keep || k.flight != nil || k.old != nil && k.old.Passes() && k.old.Fresh(now) {
			break
		}
		flight, leads := c.Join(k.key)
		if leads {
			k.flight = flight // and look once more: the one before may have landed since
			continue
		}
		if k.old != nil && k.old.Bridges(now) { // somebody is asking the service already
			k.bridged = true
			return x.giveKept(f, k.old, cacheStale)
		}
		a, again := c.Await(x.r.Context(), flight, x.patience())
		now = time.Now()
		switch {
		case a != nil && a.Fresh(now):
			return x.giveKept(f, a, cacheHit)
		case a != nil && a.StandsIn(now):
			return x.giveKept(f, a, cacheStale)
		}
		if !again {
			break
		}
	}
	if k.flight == nil { // who waited may have waited for long
		k.since = c.Since(k.key)
		k.old = x.lookUp(k)
	}
	if k.old != nil && k.old.Passes() {
		k.old = nil
	}
	return x.fetch(f)
}

// fetch asks the service.
func (x *exchange) fetch(f *flight) error {
	k := &x.fill
	k.asked = time.Now()
	narrow := len(x.out.Narrow)
	if k.old != nil && k.keep {
		tag, modified := k.old.Validators()
		if tag != "" {
			x.out.Narrow = append(x.out.Narrow, http1.Field{Name: "If-None-Match", Value: tag})
		}
		if modified != "" {
			x.out.Narrow = append(x.out.Narrow, http1.Field{Name: "If-Modified-Since", Value: modified})
		}
		k.told = tag != "" || modified != ""
	}
	f.fill, k.how = k, cacheMiss
	err := x.carry(f)
	if errors.Is(err, errKept) && k.give == nil { // the 304 was about an answer we do not have
		k.old, k.told, x.out.Narrow, f.fill = nil, false, x.out.Narrow[:narrow], k
		err = x.carry(f)
	}
	x.event.Cache = k.how
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errKept):
	case !f.res.Committed && k.standsIn() && failed(err):
		k.give, k.how, k.cause = k.old, cacheStale, err
		k.in.Land(k.key, k.flight, k.since, k.old, false)
	default:
		return err
	}
	if k.cause != nil {
		x.event.Cause = k.cause.Error()
	}
	return x.giveKept(f, k.give, k.how)
}

// failed reports whether the service, and nobody else, is why there is no answer.
func failed(err error) bool {
	switch gatehouse.AsProblem(err).Kind {
	case gatehouse.BadUpstream, gatehouse.UpstreamTimeout, gatehouse.Overloaded:
		return true
	default:
		return false
	}
}

// patience is how long to wait for the answer to somebody else's request.
func (x *exchange) patience() time.Duration {
	if x.out.Timeout > 0 {
		return x.out.Timeout
	}
	return x.route.Upstreams.cfg.Timeout
}

// lookUp gives what is kept for everybody, or else for who asks.
func (x *exchange) lookUp(k *fill) *cache.Answer {
	if k.shared > 0 {
		everybody := k.sharedKey(x.everybody[:0])
		x.everybody = everybody.Bytes
		if a := k.in.Get(everybody); a != nil {
			return a
		}
	}
	return k.in.Get(k.key)
}

// sharedKey is k's with everybody in the place of who asks, in the room of b.
func (k *fill) sharedKey(b []byte) cache.Key {
	if k.shared == 0 {
		return k.key
	}
	return cache.Key{Bytes: append(append(b, k.key.Bytes[:k.shared]...), 's'), Group: k.key.Group}
}

// narrows reports whether the answer to x may be kept or come from the cache, and
// makes the service see of the caller's fields those alone that are in the key: one
// that is not could change what others get (cache poisoning by unkeyed input).
func (x *exchange) narrows() bool {
	c, h := x.route.Cache, x.r.Header
	if c == nil || x.gate == nil || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead || x.body.Stream != nil || len(x.body.Bytes) > 0 {
		return false
	}
	if h["If-Match"] != nil || h["If-Unmodified-Since"] != nil { // the service alone can say (RFC 9111 §4.3.2)
		x.event.Cache = cacheBypass
		return false
	}
	n := x.narrow[:0]
	if v := h["Accept"]; v != nil {
		n = append(n, http1.Field{Name: "Accept", Value: strings.Join(v, ", ")})
	}
	if x.out.CheckResponse == nil { // or it is asked for identity
		n = append(n, http1.Field{Name: "Accept-Encoding", Value: codings(h["Accept-Encoding"])})
	}
	for _, name := range c.Vary {
		if v := h[name]; v != nil {
			n = append(n, http1.Field{Name: name, Value: strings.Join(v, ", ")})
		}
	}
	x.out.Narrow = n
	return true
}

// codings is an Accept-Encoding cut down to what makes a difference, so that the
// many ways browsers write it share an answer.
func codings(values []string) string {
	gzip, br := false, false
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			name, weight, _ := strings.Cut(one, ";")
			if weight = strings.ReplaceAll(weight, " ", ""); weight == "q=0" || strings.HasPrefix(weight, "q=0.0") {
				continue
			}
			switch name = strings.Trim(name, " \t"); {
			case strings.EqualFold(name, "gzip"):
				gzip = true
			case strings.EqualFold(name, "br"):
				br = true
			}
		}
	}
	switch {
	case gzip && br:
		return "gzip, br"
	case gzip:
		return "gzip"
	case br:
		return "br"
	}
	return "identity"
}

// cacheKey writes all a service could tell two requests apart by. shared is 0
// where an answer is never for everybody.
func (x *exchange) cacheKey() (_ cache.Key, shared int) {
	b := x.appendGroup(x.cached[:0])
	group := len(b)
	b = appendPart(b, x.r.Host)
	b = appendPart(b, x.proto)
	b = appendPart(b, x.out.RawQuery)
	for i := range x.out.Narrow {
		b = appendPart(appendPart(b, x.out.Narrow[i].Name), x.out.Narrow[i].Value)
	}
	who := len(b)
	if x.who.Anonymous() {
		b = append(b, 'a')
	} else {
		p := x.who
		b = append(b, 'p')
		for _, s := range [...]string{p.Issuer, p.Subject, p.Client, p.Tenant, string(p.Method), p.KeyID} {
			b = appendPart(b, s)
		}
		b = strconv.AppendInt(b, p.AuthTime.Unix(), 10)
		for _, s := range p.Roles {
			b = appendPart(append(b, 'r'), s)
		}
		for _, s := range p.Scopes {
			b = appendPart(append(b, 's'), s)
		}
		if x.route.Cache.Shared {
			shared = who
		}
	}
	x.cached = b
	return cache.Key{Bytes: b, Group: group}, shared
}

// appendGroup appends what a change of the same URI makes wrong: every answer of
// its path, whatever the query and whoever asked.
func (x *exchange) appendGroup(b []byte) []byte {
	b = appendPart(b, x.snap.Digest)
	b = appendPart(b, x.event.API)
	return append(append(strconv.AppendInt(b, int64(len(x.head.Path)), 10), ':'), x.head.Path...)
}

// appendPart appends s so that no two lists of parts look the same.
func appendPart(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

// wantsNoStore reports whether the caller asks that nothing be kept (RFC 9111
// §5.2.1.5). Its no-cache and max-age are not heard: a stranger does not decide how
// often a service works.
func wantsNoStore(h http.Header) bool {
	for _, v := range h["Cache-Control"] {
		if http1.HasToken(v, "no-store") {
			return true
		}
	}
	return false
}

// giveKept answers with a.
func (x *exchange) giveKept(f *flight, a *cache.Answer, how string) error {
	x.event.Cache = how
	f.u, f.ctx, f.fill = x.route.Upstreams, x.r.Context(), nil
	f.x.CheckResponse, f.x.Watch = nil, nil // it was checked when it came, by this very config
	now := time.Now()
	b := append(x.status[:0], "gatehouse; hit"...)
	switch how {
	case cacheRefreshed:
		b = append(b[:0], "gatehouse; fwd=stale; fwd-status=304"...)
	case cacheStale:
		detail := "; detail=stale-if-error"
		if x.fill.bridged {
			detail = "; detail=stale-while-revalidate"
		}
		b = append(b, detail...)
	}
	b = append(b, "; ttl="...)
	b = strconv.AppendInt(b, int64(a.Left(now)/time.Second), 10)
	end := len(b)
	b = strconv.AppendInt(b, int64(a.Age(now)/time.Second), 10)
	x.status = b
	s := string(b)
	err := f.giveAnswer(a, s[:end], s[end:])
	x.note(&f.res)
	return err
}

// giveAnswer sends an answer that is there whole; status and age are our fields'.
func (f *flight) giveAnswer(kept *cache.Answer, status, age string) error {
	a := answer{status: kept.Status, length: int64(len(kept.Body))}
	fields := f.given[:0]
	body := kept.Body
	if kept.Had(f.x.Request.Header) {
		a.status, a.length, body = http.StatusNotModified, 0, nil
		fields = kept.NotModified(fields)
	} else {
		fields = append(fields, kept.Fields...)
	}
	if f.x.Request.Method == http.MethodHead {
		body = nil
	}
	if age != "" {
		fields = append(fields, http1.Field{Name: "Age", Value: age})
	}
	a.fields = append(fields, http1.Field{Name: headerCacheStatus, Value: status})
	f.given = a.fields
	f.whole.rest = body
	a.body = &f.whole
	return f.answer(a)
}

// answerToKeep is answer for a request of a cached operation. What may be kept is
// read whole before any of it goes on: a caller who reads slowly must not keep those
// waiting who asked the same, and what breaks off is no answer at all.
func (f *flight) answerToKeep(a answer) error {
	k := f.fill
	f.fill = nil
	now := time.Now()
	fields := passingFields(a.fields)
	switch {
	case k.told && a.status == http.StatusNotModified:
		b, keep := k.old.Confirmed(k.policy, fields, k.asked, now)
		if b == nil || !keep {
			k.in.Drop(k.key, k.old)
			k.in.Drop(k.sharedKey(nil), k.old)
		}
		if b == nil {
			return errKept
		}
		// The body was checked when it came; what the 304 says beside it was not.
		if err := f.checkKept(b); err != nil {
			return err
		}
		if keep {
			k.put(b)
		}
		k.give, k.how = b, cacheRefreshed
		return errKept
	case a.status >= 500 && a.status != http.StatusNotImplemented && k.standsIn():
		k.give, k.how, k.cause = k.old, cacheStale, errors.New("the service answered "+strconv.Itoa(a.status))
		k.in.Land(k.key, k.flight, k.since, k.old, false)
		return errKept
	}
	var kept *cache.Answer
	if k.keep && a.length <= k.in.MaxBody() && !slices.ContainsFunc(a.fields, isTrailer) {
		kept = cache.Judge(k.policy, a.status, fields, k.asked, now)
	}
	if kept == nil {
		return f.passOn(k, a, now)
	}
	held, err := k.read(f.ctx, &a)
	whole := errors.Is(err, io.EOF)
	switch {
	case err != nil && !whole:
		return f.problem(err)
	case !whole || int64(len(held)) > k.in.MaxBody() || len(a.body.trailer()) > 0:
		a.body = &resumed{held, err, a.body}
		return f.passOn(k, a, now)
	}
	kept = kept.With(held)
	if f.x.CheckResponse != nil {
		if err := f.checkKept(kept); err != nil {
			return err
		}
		f.x.CheckResponse = nil
	}
	status := "gatehouse; fwd=uri-miss"
	if k.old != nil {
		status = "gatehouse; fwd=stale"
	}
	if k.put(kept) {
		status += "; stored"
	}
	age := ""
	if n := kept.Age(now) / time.Second; n > 0 {
		age = strconv.Itoa(int(n))
	}
	return f.giveAnswer(kept, status, age)
}

// checkKept has an answer that is there whole looked at, as one that comes from the
// service is.
func (f *flight) checkKept(a *cache.Answer) error {
	check, body := f.x.CheckResponse, a.Body
	if check == nil {
		if check = f.x.Watch; check == nil {
			return nil
		}
		body = body[:min(maxWatched, len(body))]
	}
	h := http.Header{}
	for _, n := range slices.Concat(f.own, a.Fields) {
		h[n.Name] = append(h[n.Name], n.Value)
	}
	err := check(a.Status, h, body)
	if f.x.CheckResponse == nil {
		return nil // to watch changes nothing
	}
	return err
}

// passOn gives an answer that is not kept to who asked for it, and to nobody else:
// those who wait go to the service by themselves, and for a while nobody waits for
// the like of it.
func (f *flight) passOn(k *fill, a answer, now time.Time) error {
	if k.keep && a.status < 500 {
		k.in.Pass(k.key, k.since, now)
		k.takeBack()
	}
	k.in.Land(k.key, k.flight, k.since, nil, false)
	a.fields = append(slices.Clone(a.fields), http1.Field{Name: headerCacheStatus, Value: "gatehouse; fwd=uri-miss"})
	return f.answer(a)
}

// put keeps a for everybody or for who asked, and gives it to those who wait.
func (k *fill) put(a *cache.Answer) (stored bool) {
	key := k.key
	if a.Public() {
		key = k.sharedKey(nil)
	} else {
		k.takeBack()
	}
	if stored = k.in.Put(key, k.since, a); !stored {
		a = nil
	}
	k.in.Land(k.key, k.flight, k.since, a, false)
	return stored
}

// takeBack forgets what was for everybody once the service has said something else,
// and not to everybody: else it would stand in for others when the service fails.
func (k *fill) takeBack() {
	if k.shared > 0 && k.old != nil {
		k.in.Drop(k.sharedKey(nil), k.old)
	}
}

func (k *fill) standsIn() bool { return k.old != nil && k.old.StandsIn(time.Now()) }

// read reads the body while it may be kept. Without an error it is too long.
func (k *fill) read(ctx context.Context, a *answer) ([]byte, error) {
	most := k.in.MaxBody()
	held := make([]byte, 0, max(a.length, 512))
	for int64(len(held)) <= most {
		b, err := a.body.next(ctx)
		held = append(held, b...)
		if err != nil {
			return held, err
		}
	}
	return held, nil
}

// resumed is a body of which a part was read already.
type resumed struct {
	held []byte
	err  error // that came with it
	answerBody
}

func (r *resumed) next(ctx context.Context) ([]byte, error) {
	if b := r.held; b != nil {
		r.held = nil
		return b, r.err
	}
	return r.answerBody.next(ctx)
}

func (r *resumed) waiting() bool { return r.held == nil && r.answerBody.waiting() }

// passingFields are those of an answer that go on to callers.
func passingFields(in []http1.Field) []http1.Field {
	var listed []string
	for i := range in {
		if in[i].Name == "Connection" {
			listed = append(listed, in[i].Value)
		}
	}
	out := make([]http1.Field, 0, len(in))
	for i := range in {
		if answerFieldStays(in[i].Name) && !isListed(listed, in[i].Name) {
			out = append(out, in[i])
		}
	}
	return out
}

func isTrailer(f http1.Field) bool { return f.Name == "Trailer" }
