package posture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const maxAnswer = 1 << 20

// errBound ends a proof that would ask more of a server than it promised to.
var errBound = fmt.Errorf("the bound of %d requests is reached", maxRequests)

// An answer is what came back, read whole.
type answer struct {
	method, url string
	status      int
	head        http.Header
	body        []byte
	doc         map[string]any // body, when it is an object of JSON
	took        time.Duration
}

func (a *answer) text(name string) string {
	s, _ := a.doc[name].(string)
	return s
}

func (a *answer) says(text string) bool { return bytes.Contains(a.body, []byte(text)) }

// to is where the answer redirects, absolute; nil when it does not.
func (a *answer) to() *url.URL {
	at := a.head.Get("Location")
	if a.status < 300 || a.status > 399 || at == "" {
		return nil
	}
	base, err := url.Parse(a.url)
	if err != nil {
		return nil
	}
	u, err := base.Parse(at)
	if err != nil {
		return &url.URL{Scheme: "unreadable"}
	}
	return u
}

var (
	codeWord       = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,48}$`)
	challengeError = regexp.MustCompile(`error="([a-z_]{1,48})"`)
)

// code is the error the answer names, by whichever of the ways there are.
func (a *answer) code() string {
	code := a.text("error")
	if code == "" {
		code = a.text("reason")
	}
	if to := a.to(); code == "" && to != nil {
		code = to.Query().Get("error")
	}
	if m := challengeError.FindStringSubmatch(a.head.Get("Www-Authenticate")); code == "" && m != nil {
		code = m[1]
	}
	if !codeWord.MatchString(code) {
		return ""
	}
	return code
}

// line is the answer as evidence: no query, no field of a form, no token.
func (a *answer) line() string {
	path := a.url
	if u, err := url.Parse(a.url); err == nil {
		path = u.EscapedPath()
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s → %d %s", a.method, path, a.status, a.code()))
}

// A trial is one probe on its way.
type trial struct {
	*lab

	lines map[string]int // what was asked and answered
	order []string
	wrong []string // what shows that the sentence does not hold
	notes []string // measured figures
	why   string   // it is left out
	limit bool     // the server said 429
}

// wants notes that the sentence does not hold, unless ok. a may be nil.
func (t *trial) wants(ok bool, a *answer, format string, args ...any) bool {
	if ok {
		return true
	}
	text := fmt.Sprintf(format, args...)
	if a != nil {
		text += ": " + a.line()
	}
	if len(t.wrong) < 8 {
		t.wrong = append(t.wrong, text)
	}
	return false
}

func (t *trial) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// leaveOut says why the probe cannot be tried here.
func (t *trial) leaveOut(why string) error {
	t.why = why
	return nil
}

// do sends r and reads the answer. Redirects are answers, too.
func (t *trial) do(r *http.Request) (*answer, error) {
	if t.sent.Add(1) > maxRequests {
		return nil, errBound
	}
	r.Header.Set("User-Agent", "gatehouse-prove")
	began := time.Now()
	res, err := t.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL it names has what evidence must not
		}
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.EscapedPath(), err)
	}
	defer func() { _ = res.Body.Close() }()
	a := &answer{method: r.Method, url: r.URL.String(), status: res.StatusCode, head: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.EscapedPath(), err)
	}
	a.took = time.Since(began)
	_ = json.Unmarshal(a.body, &a.doc) // pages are none
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := a.head.Get("Dpop-Nonce"); n != "" {
		t.nonce = n
	}
	t.limit = t.limit || a.status == http.StatusTooManyRequests
	line := a.line()
	if t.lines[line]++; t.lines[line] == 1 {
		t.order = append(t.order, line)
	}
	return a, nil
}

// get asks for a URL; headers are pairs of name and value.
func (t *trial) get(ctx context.Context, target string, headers ...string) (*answer, error) {
	return t.send(ctx, http.MethodGet, target, nil, headers...)
}

func (t *trial) send(ctx context.Context, method, target string, form url.Values, headers ...string) (*answer, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return t.do(r)
}

// A browser keeps the cookies of the one host it talks to.
type browser struct {
	cookies map[string]*http.Cookie
}

func newBrowser() *browser { return &browser{map[string]*http.Cookie{}} }

func (b *browser) has(session string) bool { return b.cookies[session] != nil }

// visit is send with cookies, and with what browsers say of themselves.
func (t *trial) visit(ctx context.Context, b *browser, method, target string, form url.Values, headers ...string) (*answer, error) {
	if method == http.MethodPost && len(headers) == 0 {
		headers = []string{"Origin", t.origin, "Sec-Fetch-Site", "same-origin"}
	}
	var jar []string
	for _, c := range b.cookies {
		jar = append(jar, c.Name+"="+c.Value)
	}
	if len(jar) > 0 {
		headers = append(headers, "Cookie", strings.Join(jar, "; "))
	}
	a, err := t.send(ctx, method, target, form, headers...)
	if err != nil {
		return nil, err
	}
	for _, c := range (&http.Response{Header: a.head}).Cookies() {
		if b.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return a, nil
}

var (
	formTag   = regexp.MustCompile(`(?s)<form[^>]*\saction="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenTag = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
)

// formOf reads the form of a page that has a field of that name.
func (a *answer) formOf(field string) (action string, fields url.Values) {
	for _, m := range formTag.FindAllStringSubmatch(string(a.body), -1) {
		if !strings.Contains(m[2], `name="`+field+`"`) {
			continue
		}
		fields = url.Values{}
		for _, h := range hiddenTag.FindAllStringSubmatch(m[2], -1) {
			fields.Set(h[1], html.UnescapeString(h[2]))
		}
		base, err := url.Parse(a.url)
		if err != nil {
			return "", nil
		}
		u, err := base.Parse(html.UnescapeString(m[1]))
		if err != nil {
			return "", nil
		}
		return u.String(), fields
	}
	return "", nil
}

// wait lets d pass, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// within asks until is says yes, and returns how long that took; ok is false when
// it never did.
func within(ctx context.Context, limit time.Duration, is func() (bool, error)) (took time.Duration, ok bool, err error) {
	began := time.Now()
	for {
		yes, err := is()
		took = time.Since(began)
		if err != nil || yes {
			return took, yes && err == nil, err
		}
		if took > limit {
			return took, false, nil
		}
		if err := wait(ctx, pollEvery); err != nil {
			return took, false, err
		}
	}
}

func pairs(v url.Values, list []string) url.Values {
	for i := 0; i+1 < len(list); i += 2 {
		if v.Del(list[i]); list[i+1] != "" {
			v.Set(list[i], list[i+1])
		}
	}
	return v
}
