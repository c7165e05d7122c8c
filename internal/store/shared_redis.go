package store

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	keysInScript = 128              // a server does nothing else while a script runs
	renewAfter   = 10 * time.Second // without an answer: the topology may be another one
)

// servers is the engine on Valkey or Redis: one server, a set with Sentinels, or a
// Cluster.
type servers struct {
	breakers

	at      *sharedAddress
	prefix  string
	timeout time.Duration
	log     *slog.Logger
	option  rueidis.ClientOption
	scripts map[string]string // text: its SHA-1, by which servers know it
	ctx     context.Context   //nolint:containedctx // the life of its connections
	stop    context.CancelFunc
	workers sync.WaitGroup
	client  atomic.Pointer[rueidis.Client]
	heard   atomic.Int64 // when a server last answered, Unix ns
	renewed chan error   // of the first attempt to connect
}

func openServers(ctx context.Context, cfg SharedConfig) (*servers, error) {
	at, err := parseSharedURL(cfg.URL.Reveal(), cfg.CA)
	if err != nil {
		return nil, err
	}
	r := &servers{at: at, prefix: cfg.Prefix, timeout: cfg.Timeout, log: cfg.Log, scripts: map[string]string{}, renewed: make(chan error, 1)}
	r.gap = cfg.Timeout
	for _, text := range []string{takeScript, leadScript, beatScript} {
		r.scripts[text] = scriptName(text)
	}
	dialer := net.Dialer{Timeout: 4 * cfg.Timeout, KeepAlive: time.Second}
	r.option = rueidis.ClientOption{
		InitAddress: at.hosts, Username: at.user, Password: at.password, SelectDB: at.db,
		TLSConfig: at.tls, Dialer: dialer, DialCtxFn: at.dial, ConnWriteTimeout: 4 * cfg.Timeout,
		ClientName: "gatehouse", ClientSetInfo: rueidis.DisableClientSetInfo,
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
		DisableRetry: true, // a mark set by a call whose answer was lost would refuse its own repetition
		DisableCache: true,
		Sentinel: rueidis.SentinelOption{
			MasterSet: at.master, Username: at.sentinelUser, Password: at.sentinelPassword,
			Dialer: dialer, TLSConfig: at.tls, TopologyRefreshInterval: 5 * time.Second,
		},
		ClusterOption:     rueidis.ClusterOption{ShardsRefreshInterval: 5 * time.Second, MaxMovedRedirections: 8},
		ForceSingleClient: at.unix,
	}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.workers.Go(r.connect)
	select {
	case err = <-r.renewed:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(8 * cfg.Timeout):
	}
	if err != nil && (ctx.Err() != nil || refuses(err)) {
		return nil, errors.Join(errors.New("store: shared: "+at.clean(err.Error())), r.close())
	}
	return r, nil
}

// refuses: waiting would not help.
func refuses(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	text := err.Error()
	return slices.ContainsFunc([]string{"NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH"}, func(s string) bool { return strings.HasPrefix(text, s) })
}

// connect makes the client, and another one when no server has answered for long:
// nobody has to restart anything because the servers have moved.
func (r *servers) connect() {
	first := true
	for pause := r.timeout; ; {
		silent := time.Since(time.Unix(0, r.heard.Load())) > renewAfter
		if r.client.Load() == nil || r.err() != nil && silent {
			made, err := rueidis.NewClient(r.option)
			switch {
			case err != nil:
				pause = min(2*pause, 2*time.Second)
				why := r.told(err)
				r.last.Store(&why)
			case r.ctx.Err() != nil:
				made.Close()
			default:
				pause = r.timeout
				r.heard.Store(time.Now().UnixNano())
				if old := r.client.Swap(&made); old != nil {
					r.workers.Go((*old).Close)
				}
				r.evicts(made)
			}
			if first {
				r.renewed <- err
				first = false
			}
		}
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// evicts warns when the server may forget what is not over: a used code could be
// used again.
func (r *servers) evicts(c rueidis.Client) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	info, err := c.Do(ctx, c.B().Info().Section("memory").Build()).ToString()
	if err != nil {
		return // a right that it need not give
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); ok && policy != "noeviction" && !strings.Contains(info, "maxmemory:0\r\n") {
			r.log.Warn("the shared engine may forget marks and limits when its memory is full; set maxmemory-policy noeviction", slog.String("policy", policy))
		}
	}
}

// told is an error of the library or a server, without secrets.
func (r *servers) told(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return fmt.Errorf("%w: %s", ErrAway, r.at.clean(err.Error()))
}

// err is why a part, or all of it, is away.
func (r *servers) err() error {
	if r.client.Load() != nil {
		return r.breakers.err()
	}
	if last := r.last.Load(); last != nil {
		return *last
	}
	return fmt.Errorf("%w: not connected yet", ErrAway)
}

// A question is one command and the part that is to answer it.
type question struct {
	part    int
	command rueidis.Completed
}

// ask sends questions together. The answers are complete when ctx ends: what is
// missing then has an error, whatever the library is waiting for.
func (r *servers) ask(ctx context.Context, questions func(rueidis.Builder) []question) ([]rueidis.RedisResult, []error) {
	held := r.client.Load()
	if held == nil {
		return nil, []error{r.err()}
	}
	client := *held
	all := questions(client.B())
	errs := make([]error, len(all))
	sent, index := make([]rueidis.Completed, 0, len(all)), make([]int, 0, len(all))
	for i, q := range all {
		if errs[i] = r.allow(q.part); errs[i] == nil {
			sent, index = append(sent, q.command), append(index, i)
		}
	}
	results := make([]rueidis.RedisResult, len(all))
	if len(sent) == 0 {
		return results, errs
	}
	answered := make(chan []rueidis.RedisResult, 1)
	go func() { answered <- client.DoMulti(ctx, sent...) }()
	var got []rueidis.RedisResult
	select {
	case got = <-answered:
	case <-ctx.Done():
	}
	for n, i := range index {
		if got == nil {
			errs[i] = fmt.Errorf("%w: no answer within %s", ErrAway, r.timeout)
			if cause := context.Cause(ctx); !errors.Is(cause, ErrAway) {
				errs[i] = fmt.Errorf("store: shared: %w", cause)
			}
		} else if err := got[n].Error(); err != nil && !rueidis.IsRedisNil(err) {
			errs[i] = err // NOSCRIPT is looked for by ask's callers
			if re, ok := rueidis.IsRedisErr(err); !ok || !re.IsNoScript() {
				errs[i] = r.told(err)
			}
		} else {
			results[i] = got[n]
		}
		if errs[i] == nil || isNoScript(errs[i]) {
			r.heard.Store(time.Now().UnixNano())
			r.done(ctx, all[i].part, nil)
		} else {
			r.done(ctx, all[i].part, errs[i])
		}
	}
	return results, errs
}

func isNoScript(err error) bool {
	re, ok := rueidis.IsRedisErr(err)
	return ok && re.IsNoScript()
}

// A call is one run of a script.
type call struct {
	part int
	keys []string
	args []string
}

// run runs a script for each call, by its digest, and by its text where a server
// does not have it yet.
func (r *servers) run(ctx context.Context, script string, calls []call) ([]rueidis.RedisResult, []error) {
	results, errs := r.ask(ctx, func(b rueidis.Builder) []question {
		out := make([]question, len(calls))
		for i, c := range calls {
			out[i] = question{c.part, b.Evalsha().Sha1(r.scripts[script]).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()}
		}
		return out
	})
	var again []int
	for i, err := range errs {
		if err != nil && isNoScript(err) {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return results, errs
	}
	results2, errs2 := r.ask(ctx, func(b rueidis.Builder) []question {
		out := make([]question, len(again))
		for n, i := range again {
			c := calls[i]
			out[n] = question{c.part, b.Eval().Script(script).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()}
		}
		return out
	})
	if len(results2) == 0 { // no client any more
		return results2, errs2
	}
	for n, i := range again {
		results[i], errs[i] = results2[n], errs2[n]
	}
	return results, errs
}

// one is run for a single call.
func (r *servers) one(ctx context.Context, script string, c call) (rueidis.RedisResult, error) {
	results, errs := r.run(ctx, script, []call{c})
	if errs[0] != nil {
		return rueidis.RedisResult{}, errs[0]
	}
	return results[0], nil
}

func (r *servers) clustered() bool {
	c := r.client.Load()
	return c != nil && (*c).Mode() == rueidis.ClientModeCluster
}

// part is the breaker for keys of a tag.
func (r *servers) part(tag byte) int {
	if r.clustered() {
		return int(tag)
	}
	return 0
}

// named gives the key of something that the program names.
func (r *servers) named(kind, name string) (string, int) {
	sum := sha256.Sum256([]byte(name))
	return hexKey(r.prefix, kind, [16]byte(sum[:16])), r.part(sum[0])
}

func (r *servers) once(ctx context.Context, space string, id markID, ttl time.Duration) (bool, error) {
	key := hexKey(r.prefix, "once:"+space+":", id)
	results, errs := r.ask(ctx, func(b rueidis.Builder) []question {
		return []question{{r.part(id[0]), b.Set().Key(key).Value("1").Nx().PxMilliseconds(millis(ttl)).Build()}}
	})
	if errs[0] != nil {
		return false, errs[0]
	}
	answer, err := results[0].ToString()
	if rueidis.IsRedisNil(err) {
		return false, nil // it was there
	}
	if err != nil || answer != "OK" {
		return false, fmt.Errorf("%w: an answer that is none", ErrAway)
	}
	return true, nil
}

func (r *servers) take(ctx context.Context, asks []Ask, out []Grant) error {
	calls, index := r.group(asks)
	results, errs := r.run(ctx, takeScript, calls)
	if len(results) == 0 {
		return errs[0]
	}
	failed := 0
	for n, at := range index {
		numbers, err := []int64(nil), errs[n]
		if err == nil {
			if numbers, err = results[n].AsIntSlice(); err != nil || len(numbers) != 4*len(at) {
				err = fmt.Errorf("%w: an answer that is none", ErrAway)
			}
		}
		if err != nil {
			failed++
			for _, i := range at {
				out[i] = Grant{Err: err}
			}
			continue
		}
		for k, i := range at {
			out[i] = asks[i].granted(numbers[4*k : 4*k+4])
		}
	}
	if failed == len(index) {
		return out[0].Err
	}
	return nil
}

// granted reads what the script gave for a. Numbers that it cannot have come to are no
// grant: whoever else writes to the engine may have put there what is no number.
func (a *Ask) granted(v []int64) Grant {
	const most = 4 * int64(maxSchedule/time.Microsecond)
	if v[0] < 0 || v[0] > a.Want || v[1] < 0 || v[1] > a.Burst || min(v[2], v[3]) < 0 || max(v[2], v[3]) > most {
		return Grant{Err: fmt.Errorf("%w: an answer that is none", ErrAway)}
	}
	return Grant{Tokens: v[0], Left: v[1], Retry: time.Duration(v[2]) * time.Microsecond, Reset: time.Duration(v[3]) * time.Microsecond}
}

// group makes the fewest calls of asks: of one tag in a Cluster, where the keys of
// others are elsewhere.
func (r *servers) group(asks []Ask) (calls []call, index [][]int) {
	var of [256][]int
	if r.clustered() {
		for i := range asks {
			of[asks[i].Key[0]] = append(of[asks[i].Key[0]], i)
		}
	} else {
		of[0] = make([]int, len(asks))
		for i := range asks {
			of[0][i] = i
		}
	}
	for tag, all := range of {
		for some := range slices.Chunk(all, keysInScript) {
			c := call{part: tag, keys: make([]string, 0, len(some)), args: make([]string, 0, 8*len(some))}
			for _, i := range some {
				a := &asks[i]
				whole := "0"
				if a.Whole {
					whole = "1"
				}
				c.keys = append(c.keys, hexKey(r.prefix, "rate:", a.Key))
				c.args = append(c.args, number(int64(a.Interval)), number(a.Burst), number(min(a.Want, a.Burst+1)), whole,
					number(min(a.Back, a.Burst)), number(int64(a.Held/time.Microsecond)), number(min(a.Spent, 2*a.Burst)), number(int64(a.Ahead/time.Microsecond)))
			}
			calls, index = append(calls, c), append(index, some)
		}
	}
	return calls, index
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func (r *servers) lead(ctx context.Context, name, holder string, ttl time.Duration) (bool, int64, error) {
	key, part := r.named("lead:", name)
	result, err := r.one(ctx, leadScript, call{part, []string{key}, []string{holder, number(micros(int64(ttl)))}})
	if err != nil {
		return false, 0, err
	}
	v, err := result.AsIntSlice()
	if err != nil || len(v) != 2 {
		return false, 0, fmt.Errorf("%w: an answer that is none", ErrAway)
	}
	return v[0] == 1, v[1], nil
}

func (r *servers) beat(ctx context.Context, id string, up time.Duration, about []byte) ([]pulse, error) {
	key, part := r.named("nodes:", "nodes")
	args := []string{id}
	if about != nil {
		args = append(args, number(micros(int64(up))), string(about), number(micros(int64(nodeLife))))
	}
	result, err := r.one(ctx, beatScript, call{part, []string{key}, args})
	if err != nil {
		return nil, err
	}
	list, err := result.AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("%w: an answer that is none", ErrAway)
	}
	var out []pulse
	for pair := range slices.Chunk(list, 2) {
		fields := strings.SplitN(pair[len(pair)-1], " ", 3)
		if len(fields) != 3 {
			continue
		}
		started, e1 := strconv.ParseInt(fields[0], 10, 64)
		seen, e2 := strconv.ParseInt(fields[1], 10, 64)
		if e1 == nil && e2 == nil {
			out = append(out, pulse{pair[0], started, seen, []byte(fields[2])})
		}
	}
	return out, nil
}

// publish asks any server of a Cluster, and another one when that does not answer: a
// message may arrive twice.
func (r *servers) publish(ctx context.Context, topic string, message []byte) (err error) {
	part, tries := 0, 1
	if r.clustered() {
		part, tries = anyPart, 3
	}
	for range tries {
		some, cancel := context.WithTimeoutCause(ctx, r.timeout/time.Duration(tries), ErrAway)
		_, errs := r.ask(some, func(b rueidis.Builder) []question {
			return []question{{part, b.Publish().Channel(r.prefix + "topic:" + topic).Message(rueidis.BinaryString(message)).Build()}}
		})
		cancel()
		if err = errs[0]; err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (r *servers) listen(ctx context.Context, topic string, to *mailbox) error {
	client := r.client.Load()
	if client == nil {
		return ErrAway
	}
	ctx = rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" { // from now on all messages come
			to.gap()
		}
	})
	subscribe := (*client).B().Subscribe().Channel(r.prefix + "topic:" + topic).Build()
	return (*client).Receive(ctx, subscribe, func(m rueidis.PubSubMessage) { to.put([]byte(m.Message)) })
}

func (r *servers) close() error {
	r.stop()
	r.workers.Wait()
	if c := r.client.Swap(nil); c != nil {
		(*c).Close()
	}
	return nil
}
