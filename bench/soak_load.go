package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soakMost is how many requests are under way at most.
const soakMost = 512

// A soakKind is one thing that callers do.
type soakKind struct {
	name   string
	weight int // of a thousand
	do     func(ctx context.Context) (status int, err error)
	want   []int // what it may be answered; 0: an error, such as a broken answer

	mu                      sync.Mutex
	sent, good, away, wrong int
	first                   string // that was wrong
}

// A soakLoad is all of it.
type soakLoad struct {
	house   *house
	service *soakService
	token   string
	kinds   []*soakKind
	plain   *http.Client // HTTP/1.1
	tls     *http.Client // HTTP/1.1 over TLS
	two     *http.Client // HTTP/2
	admin   *http.Client
	raw     *tls.Config
	begun   time.Time
	reloads atomic.Int64
	skipped atomic.Int64
}

func newSoakLoad(s *stage, h *house, service *soakService, token string) *soakLoad {
	client := func(two bool) *http.Client {
		conf := s.tls()
		conf.NextProtos = nil
		var protocols http.Protocols
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		return &http.Client{
			Transport: &http.Transport{TLSClientConfig: conf, Protocols: &protocols, MaxIdleConnsPerHost: 64, IdleConnTimeout: 8 * time.Second, DisableCompression: true},
			Timeout:   30 * time.Second,
		}
	}
	l := &soakLoad{house: h, service: service, token: token, plain: client(false), tls: client(false), two: client(true), admin: client(false), raw: s.tls(), begun: time.Now()}
	l.kinds = l.all()
	return l
}

func (l *soakLoad) close() {
	for _, c := range []*http.Client{l.plain, l.tls, l.two, l.admin} {
		c.CloseIdleConnections()
	}
}

// all is the mixture. Weights add up to a thousand.
func (l *soakLoad) all() []*soakKind {
	_, body, _ := strings.Cut(postLua, "wrk.body='")
	body, _, _ = strings.Cut(body, "'")
	const customer = "/v1/customers/42?fields=name,email&limit=20"
	bearer := "Bearer " + l.token
	plain, secure := fmt.Sprintf("http://localhost:%d", l.house.plain), fmt.Sprintf("https://localhost:%d", l.house.tls)
	ask := func(c *http.Client, method, url, credential, kind string, body func() io.Reader, size int) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			return l.ask(ctx, c, method, url, credential, kind, body(), size)
		}
	}
	none := func() io.Reader { return http.NoBody }
	text := func(t string) func() io.Reader { return func() io.Reader { return strings.NewReader(t) } }
	chunked := func(t string) func() io.Reader {
		return func() io.Reader { return io.MultiReader(strings.NewReader(t)) } // of a length net/http cannot know
	}
	get := func(c *http.Client, url string, size int) func(context.Context) (int, error) {
		return ask(c, http.MethodGet, url, bearer, "", none, size)
	}
	send := func(c *http.Client, url, kind string, body func() io.Reader) func(context.Context) (int, error) {
		return ask(c, http.MethodPost, url, bearer, kind, body, -1)
	}
	const json, octets = "application/json", "application/octet-stream"
	ok, no := []int{200}, func(n ...int) []int { return n }
	head := "Host: localhost\r\nAuthorization: " + bearer + "\r\n"
	large := strings.Repeat("a", 1<<20)
	return []*soakKind{
		{name: "GET, HTTP/1.1", weight: 240, want: ok, do: get(l.plain, plain+customer, -1)},
		{name: "GET, HTTP/1.1 over TLS", weight: 120, want: ok, do: get(l.tls, secure+customer, -1)},
		{name: "GET, HTTP/2", weight: 120, want: ok, do: get(l.two, secure+customer, -1)},
		{name: "POST of JSON, HTTP/1.1", weight: 80, want: ok, do: send(l.plain, plain+"/v1/customers/42", json, text(body))},
		{name: "POST of JSON, chunked, over TLS", weight: 50, want: ok, do: send(l.tls, secure+"/v1/customers/42", json, chunked(body))},
		{name: "POST of JSON, HTTP/2", weight: 50, want: ok, do: send(l.two, secure+"/v1/customers/42", json, text(body))},
		{name: "a search", weight: 30, want: ok, do: get(l.plain, plain+"/v1/search?q=red%20shoes%20size%2042", -1)},
		{name: "SQL in a search", weight: 20, want: no(403), do: get(l.plain, plain+"/v1/search?q=1%27%20OR%20%271%27%3D%271%27%20UNION%20SELECT%20password%20FROM%20users--", -1)},
		{name: "a script in a search, HTTP/2", weight: 20, want: no(403), do: get(l.two, secure+"/v1/search?q=%3Cscript%3Ealert(document.cookie)%3C%2Fscript%3E", -1)},
		{name: "without a token", weight: 30, want: no(401), do: ask(l.plain, http.MethodGet, plain+customer, "", "", none, -1)},
		{name: "with a forged token", weight: 30, want: no(401), do: ask(l.tls, http.MethodGet, secure+customer, bearer[:len(bearer)-8]+"AAAAAAAA", "", none, -1)},
		{name: "another's customer", weight: 30, want: no(403), do: get(l.plain, plain+"/v1/customers/43?limit=20", -1)},
		{name: "a parameter too large", weight: 20, want: no(422), do: get(l.plain, plain+"/v1/customers/42?limit=1000", -1)},
		{name: "an unknown path, HTTP/2", weight: 10, want: no(404), do: get(l.two, secure+"/v1/nothing", -1)},
		{name: "a body that breaks the schema", weight: 20, want: no(422), do: send(l.plain, plain+"/v1/customers/42", json, text(`{"id":1,"surprise":true}`))},
		{name: "more often than the limit allows", weight: 20, want: no(200, 429), do: get(l.plain, plain+"/v1/limited", -1)},
		{name: "download of 100 KB", weight: 20, want: ok, do: get(l.plain, plain+"/v1/files/n100000", 100000)},
		{name: "download of 1 MB over TLS", weight: 4, want: ok, do: get(l.tls, secure+"/v1/files/n1048576", 1<<20)},
		{name: "download of 300 KB, chunked, HTTP/2", weight: 6, want: ok, do: get(l.two, secure+"/v1/files/c300000", 300000)},
		{name: "download of 100 KB, slow service", weight: 4, want: ok, do: get(l.plain, plain+"/v1/files/s100000", 100000)},
		{name: "upload of 100 KB, chunked", weight: 10, want: ok, do: send(l.plain, plain+"/v1/files/a", octets, chunked(large[:100000]))},
		{name: "upload of 1 MB over TLS", weight: 4, want: ok, do: send(l.tls, secure+"/v1/files/a", octets, text(large))},
		{name: "upload of 300 KB, HTTP/2", weight: 5, want: ok, do: send(l.two, secure+"/v1/files/a", octets, text(large[:300000]))},
		{name: "an answer that breaks off, length told", weight: 4, want: no(0, 502), do: get(l.plain, plain+"/v1/files/b200000", 200000)},
		{name: "an answer that breaks off, chunked", weight: 4, want: no(0, 502), do: get(l.tls, secure+"/v1/files/d200000", 200000)},
		{name: "an answer that breaks off, HTTP/2", weight: 4, want: no(0, 502), do: get(l.two, secure+"/v1/files/d200000", 200000)},
		{name: "a caller that leaves in the answer", weight: 6, want: ok, do: l.leaver("GET /v1/files/n1048576 HTTP/1.1\r\n" + head + "\r\n")},
		{name: "a caller that leaves before the answer", weight: 6, want: no(0), do: l.sender(0, "GET /v1/files/s100000 HTTP/1.1\r\n"+head+"\r\n")},
		{name: "a caller that leaves in the body", weight: 6, want: no(0), do: l.sender(0, "POST /v1/files/a HTTP/1.1\r\n"+head+"Content-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\n"+large[:5000])},
		{name: "a slow caller", weight: 2, want: ok, do: l.sender(1, slices.Collect(soakPieces("GET "+customer+" HTTP/1.1\r\n"+head+"\r\n", 10))...)},
		{name: "a caller too slow with the head", weight: 1, want: no(0, 408), do: l.sender(1, "GET "+customer+" HTTP/1.1\r\nHost: loc")},
		{name: "a head with two lengths", weight: 6, want: no(400), do: l.sender(1, "POST "+customer+" HTTP/1.1\r\n"+head+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx")},
		{name: "four requests at once on a connection", weight: 10, want: ok, do: l.sender(4, strings.Repeat("GET "+customer+" HTTP/1.1\r\n"+head+"\r\n", 4))},
		{name: "HTTP/1.0", weight: 6, want: ok, do: l.sender(1, "GET "+customer+" HTTP/1.0\r\n"+head+"\r\n")},
		{name: "a WebSocket", weight: 2, want: no(101), do: l.sender(1, "GET /v1/socket HTTP/1.1\r\n"+head+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+soakKey+"\r\n\r\n")},
	}
}

// soakPieces is a text in n pieces.
func soakPieces(t string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(t[len(t)*i/n : len(t)*(i+1)/n]) {
				return
			}
		}
	}
}

// ask sends one request and reads the whole answer, which must be size bytes unless
// that is -1. Fewer, without an error, would be a broken answer that looks whole.
func (l *soakLoad) ask(ctx context.Context, c *http.Client, method, url, credential, kind string, body io.Reader, size int) (int, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, err
	}
	if credential != "" {
		r.Header.Set("Authorization", credential)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	var said []byte
	if resp.StatusCode >= 400 {
		said, _ = io.ReadAll(io.LimitReader(resp.Body, 1000)) // shown when it was not expected
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK && size >= 0 && n != int64(size) {
		return -1, fmt.Errorf("%d of %d bytes, and no error: a broken answer that looks whole", n, size)
	}
	if len(said) > 0 {
		err = errors.New(string(said))
	}
	return resp.StatusCode, err
}

func (l *soakLoad) dial(ctx context.Context) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(l.house.plain))
	if err == nil {
		err = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return c, err
}

// sender writes pieces with pauses between them, reads some answers, and leaves.
func (l *soakLoad) sender(answers int, pieces ...string) func(context.Context) (int, error) {
	return func(ctx context.Context) (status int, err error) {
		c, err := l.dial(ctx)
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close() }()
		for i, p := range pieces {
			if i > 0 {
				if err := wait(ctx, 150*time.Millisecond); err != nil {
					return 0, err
				}
			}
			if _, err := io.WriteString(c, p); err != nil {
				return 0, err
			}
		}
		if answers == 0 {
			return 0, wait(ctx, 20*time.Millisecond)
		}
		in := bufio.NewReader(c)
		for range answers {
			s, err := readAnswer(c, in)
			if err != nil {
				return 0, err
			}
			if status == 0 || s != http.StatusOK {
				status = s
			}
		}
		return status, nil
	}
}

// leaver reads the head and a little, and leaves.
func (l *soakLoad) leaver(request string) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		c, err := l.dial(ctx)
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, request); err != nil {
			return 0, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0, err
		}
		_, err = io.CopyN(io.Discard, resp.Body, 1000)
		return resp.StatusCode, errors.Join(err, resp.Body.Close())
	}
}

// one does k once and notes what came of it.
func (l *soakLoad) one(ctx context.Context, k *soakKind) {
	start := time.Now()
	status, err := k.do(ctx)
	if ctx.Err() != nil {
		return
	}
	good := slices.Contains(k.want, status)
	away := !good && status != -1 && (status == 0 || status >= 500) && l.service.away(start)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sent++
	switch {
	case good:
		k.good++
	case away:
		k.away++
	default:
		k.wrong++
		if k.first == "" {
			k.first = fmt.Sprintf("after %s: status %d, %v", time.Since(l.begun).Round(time.Second), status, err)
		}
	}
}

// once does each kind once, so that a mistake of the mixture ends the run at once.
func (l *soakLoad) once(ctx context.Context) error {
	var all sync.WaitGroup
	for _, k := range l.kinds {
		all.Go(func() { l.one(ctx, k) })
	}
	all.Wait()
	var errs []error
	for _, k := range l.kinds {
		if k.wrong > 0 {
			errs = append(errs, fmt.Errorf("%s: %s, want %v", k.name, k.first, k.want))
		}
	}
	return errors.Join(errs...)
}

// run sends rate requests a second, of all kinds mixed, until ctx ends, and waits
// for those under way.
func (l *soakLoad) run(ctx context.Context, rate int) {
	var order []*soakKind
	for _, k := range l.kinds {
		order = append(order, slices.Repeat([]*soakKind{k}, k.weight)...)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] }) //nolint:gosec // the same mixture each time
	slots := make(chan struct{}, soakMost)
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start, next := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(start).Seconds() * float64(rate)); next < due; next++ {
			select {
			case slots <- struct{}{}:
				k := order[next%len(order)]
				all.Go(func() { defer func() { <-slots }(); l.one(ctx, k) })
			default:
				l.skipped.Add(1)
			}
		}
	}
}

// counts are what has come of all so far.
func (l *soakLoad) counts() (sent, good, away, wrong int) {
	for _, k := range l.kinds {
		k.mu.Lock()
		sent, good, away, wrong = sent+k.sent, good+k.good, away+k.away, wrong+k.wrong
		k.mu.Unlock()
	}
	return sent, good, away, wrong
}

// calm lets go of all connections and waits until the gateway has done the same
// with those to the service.
func (l *soakLoad) calm(ctx context.Context) error {
	l.close()
	return wait(ctx, 9*time.Second)
}
