package cache

import (
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A Policy is what an operation declares.
type Policy struct {
	TTL          time.Duration // how long an answer is fresh that says nothing about it; 0: it is not kept
	StaleIfError time.Duration // how long after that it may stand in for a service that fails, where the answer itself does not say
	StaleRefresh time.Duration // how long after that it may be given to others while one request fetches it anew, likewise
}

// An Answer is a whole answer of a service. It is read-only.
type Answer struct {
	Status int
	Fields []http1.Field // end to end, as the service said them, without Age and what tells of one request; names canonical
	Body   []byte

	public       bool          // for everybody, whoever asked
	etag         string        // "": none
	lastModified string        // "": none
	modified     time.Time     // lastModified, or date
	received     time.Time     // when it came, or was confirmed
	age          time.Duration // at that time
	life         time.Duration // age up to which it is fresh
	staleError   time.Duration // beyond life
	staleRefresh time.Duration // beyond life
	pass         bool          // there is no answer: requests like it need not wait for one another
}

// Judge reads the head of an answer to GET that was asked for at asked and came at
// now, and gives the [Answer] to keep, which lacks its body. It is nil when the
// answer must not be kept (RFC 9111 §3), or keeping it would be of no use.
func Judge(p *Policy, status int, fields []http1.Field, asked, now time.Time) *Answer {
	c := readControl(fields)
	if c.noStore || c.private || c.vary || c.cookie || c.trailer || c.isStream || !keptStatus(status) {
		return nil
	}
	a := &Answer{
		Status: status, public: c.public || c.sMaxAge >= 0, etag: c.etag, lastModified: c.lastModified, modified: c.modified,
		received: now, age: c.age + max(0, now.Sub(asked)),
	}
	if c.date.IsZero() {
		c.date = now
	} else {
		a.age = max(a.age, now.Sub(c.date)) // apparent_age, RFC 9111 §4.2.3
	}
	if a.modified.IsZero() {
		a.modified = c.date
	}
	switch {
	case c.noCache:
	case c.sMaxAge >= 0:
		a.life = c.sMaxAge
	case c.maxAge >= 0:
		a.life = c.maxAge
	case c.hasExpires:
		a.life = max(0, min(c.expires.Sub(c.date), longest))
	case !c.said && lastingStatus(status):
		a.life = p.TTL
	}
	// s-maxage means proxy-revalidate as well (RFC 9111 §5.2.2.10).
	if !c.noCache && !c.revalidate && c.sMaxAge < 0 {
		a.staleError, a.staleRefresh = p.StaleIfError, p.StaleRefresh
		if c.staleError >= 0 {
			a.staleError = c.staleError
		}
		if c.staleRefresh >= 0 {
			a.staleRefresh = c.staleRefresh
		}
		if !c.said && a.life == 0 { // nothing of it is to be kept, so nothing stands in
			a.staleError, a.staleRefresh = 0, 0
		}
	}
	last := a.life + max(a.staleError, a.staleRefresh)
	if a.age >= last && (a.etag == "" && a.lastModified == "" || !c.said) {
		return nil
	}
	a.Fields = dated(kept(fields), now)
	return a
}

// dated has fields say when the answer came where they do not say when it was made: or
// it would be told as if it were made when it is given (RFC 9110 §6.6.1).
func dated(fields []http1.Field, now time.Time) []http1.Field {
	if has(fields, "Date") {
		return fields
	}
	return append(fields, http1.Field{Name: "Date", Value: now.UTC().Format(http.TimeFormat)})
}

// keptStatus reports whether answers of a status are kept where they say for how
// long. A part (206) is not, nor a refusal, which is one caller's, nor a failure.
func keptStatus(status int) bool {
	switch status {
	case http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return true
	}
	return lastingStatus(status)
}

// lastingStatus reports whether they are kept for the operation's TTL where they
// say nothing. What is not there (404, 410) may be in a moment, and is asked again.
func lastingStatus(status int) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// kept copies fields, so that the text of one does not hold a whole head in memory.
func kept(fields []http1.Field) []http1.Field {
	n := 0
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value)
	}
	var text strings.Builder
	text.Grow(n)
	out := make([]http1.Field, 0, len(fields)+1)
	add := func(s string) string {
		from := text.Len()
		text.WriteString(s)
		return text.String()[from:]
	}
	for i := range fields {
		if f := &fields[i]; !ofOneRequest(f.Name) {
			out = append(out, http1.Field{Name: add(f.Name), Value: add(f.Value)})
		}
	}
	return out
}

// ofOneRequest reports whether a field tells of the request it answered: of
// another one it would be untrue.
func ofOneRequest(name string) bool {
	switch name {
	case "Age", "X-Request-Id", "X-Correlation-Id", "Traceparent", "Tracestate", "Server-Timing":
		return true
	}
	return strings.HasPrefix(name, "Ratelimit") || strings.HasPrefix(name, "X-Ratelimit-")
}

// With gives a with its body, which is not copied.
func (a *Answer) With(body []byte) *Answer {
	b := *a
	b.Body = body
	return &b
}

// Public reports whether the service says that the answer is for everybody, whoever
// asked (RFC 9111 §3.5): public or s-maxage.
func (a *Answer) Public() bool { return a.public }

// Age is how old the answer is (RFC 9111 §4.2.3).
func (a *Answer) Age(now time.Time) time.Duration { return a.age + max(0, now.Sub(a.received)) }

// Left is how long it stays fresh; zero or less when it is stale.
func (a *Answer) Left(now time.Time) time.Duration { return a.life - a.Age(now) }

// Fresh reports whether it may be given without asking the service.
func (a *Answer) Fresh(now time.Time) bool { return a.Left(now) > 0 }

// StandsIn reports whether it may be given because the service fails (RFC 5861 §4).
func (a *Answer) StandsIn(now time.Time) bool { return a.Left(now)+a.staleError > 0 }

// Bridges reports whether it may be given while it is fetched anew (RFC 5861 §3).
func (a *Answer) Bridges(now time.Time) bool { return a.Left(now)+a.staleRefresh > 0 }

// Passes reports whether it is no answer, but the knowledge that there is none to
// be kept.
func (a *Answer) Passes() bool { return a.pass }

// Validators are what to ask the service by whether it has changed (RFC 9111
// §4.3.1): values of If-None-Match and If-Modified-Since; "" for none.
func (a *Answer) Validators() (noneMatch, modifiedSince string) { return a.etag, a.lastModified }

// Had reports whether a request whose fields are h has the answer already (RFC
// 9110 §13.2.2), so that 304 is enough.
func (a *Answer) Had(h http.Header) bool {
	if a.Status != http.StatusOK {
		return false
	}
	if list, ok := h["If-None-Match"]; ok { // If-Modified-Since does not count beside it
		for _, v := range list {
			if listsTag(v, a.etag) {
				return true
			}
		}
		return false
	}
	v := h["If-Modified-Since"]
	if len(v) != 1 || a.lastModified == "" {
		return false
	}
	t, err := http.ParseTime(v[0])
	return err == nil && !a.modified.After(t)
}

// listsTag reports whether list names tag, by weak comparison (RFC 9110 §8.8.3.2).
func listsTag(list, tag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	tag = strings.TrimPrefix(tag, "W/")
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return false
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		one := strings.TrimPrefix(list, "W/")
		if one == "" || one[0] != '"' {
			return false
		}
		end := strings.IndexByte(one[1:], '"')
		if end < 0 {
			return false
		}
		if one[:end+2] == tag {
			return true
		}
		list = one[end+2:]
	}
}

// NotModified are the fields of a 304 (RFC 9110 §15.4.5).
func (a *Answer) NotModified(to []http1.Field) []http1.Field {
	for i := range a.Fields {
		switch a.Fields[i].Name {
		case "Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Last-Modified", "Vary":
			to = append(to, a.Fields[i])
		}
	}
	return to
}

// Confirmed is the answer after the service said, by a 304 with fields, that it
// still holds (RFC 9111 §3.2, §4.3.4). keep reports whether b may be kept, and not
// only given to who asked. nil: the 304 speaks of another answer, which has to be
// asked for whole.
func (a *Answer) Confirmed(p *Policy, fields []http1.Field, asked, now time.Time) (b *Answer, keep bool) {
	merged := make([]http1.Field, 0, len(a.Fields)+len(fields))
	for i := range a.Fields {
		switch name := a.Fields[i].Name; {
		case !replaceable(name):
		case has(fields, name), name == "Date": // of the 304 or, where it does not say, now: else it would be as old as before
			continue
		}
		merged = append(merged, a.Fields[i])
	}
	tag := ""
	for i := range fields {
		if replaceable(fields[i].Name) {
			merged = append(merged, fields[i])
		}
		if fields[i].Name == "Etag" {
			tag = fields[i].Value
		}
	}
	if tag != "" && a.etag != "" && strings.TrimPrefix(tag, "W/") != strings.TrimPrefix(a.etag, "W/") {
		return nil, false
	}
	b = Judge(p, a.Status, merged, asked, now)
	if b == nil {
		return &Answer{Status: a.Status, Fields: dated(kept(merged), now), Body: a.Body, etag: a.etag, lastModified: a.lastModified, modified: a.modified, received: now}, false
	}
	b.Body = a.Body
	return b, true
}

// replaceable reports whether a 304 may change a field. What describes the body
// we hold it may not.
func replaceable(name string) bool {
	switch name {
	case "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Transfer-Encoding", "Connection":
		return false
	}
	return true
}

func has(fields []http1.Field, name string) bool {
	for i := range fields {
		if fields[i].Name == name {
			return true
		}
	}
	return false
}
