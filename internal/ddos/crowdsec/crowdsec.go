package crowdsec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	mostDecisions = 200_000
	mostAnswer    = 64 << 20
	mostAlerts    = 200 // in one call

	// Origin marks decisions of ours, which are not taken back from there.
	Origin = "gatehouse"
)

// A Config says where the LAPI is. URL, Key and HTTP are required.
type Config struct {
	URL      string           // like http://127.0.0.1:8080
	Key      gatehouse.Secret // of a bouncer: cscli bouncers add gatehouse
	Machine  string           // that hands in alerts: cscli machines add; "": none
	Password gatehouse.Secret // of the machine
	HTTP     *http.Client     // that may call URL
}

// A Decision is about a network.
type Decision struct {
	Prefix    netip.Prefix
	Until     time.Time
	Challenge bool // asked for a captcha, and not shut out
	Scenario  string
}

// A Client follows the decisions of one LAPI.
type Client struct {
	cfg  Config
	host string

	mu      sync.Mutex
	all     map[key]Decision
	started bool // the whole list has been read
	token   string
	expires time.Time
}

type key struct {
	prefix    netip.Prefix
	challenge bool
}

// New checks cfg.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("crowdsec: the URL is not like http://127.0.0.1:8080")
	}
	if cfg.HTTP == nil || cfg.Key.Reveal() == "" {
		return nil, errors.New("crowdsec: a client and the key of a bouncer are required")
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	return &Client{cfg: cfg, host: u.Host, all: map[key]Decision{}}, nil
}

// Decisions asks for what is new and gives all that stand.
func (c *Client) Decisions(ctx context.Context) ([]Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := "/v1/decisions/stream"
	if !c.started {
		path += "?startup=true"
	}
	status, body, err := c.call(ctx, http.MethodGet, path, nil, "X-Api-Key", c.cfg.Key.Reveal())
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, c.refusal(status, "the stream of decisions")
	}
	now := time.Now()
	fresh, gone, err := ParseStream(body, now)
	if err != nil {
		return nil, err
	}
	if !c.started {
		clear(c.all)
	}
	for _, d := range gone {
		delete(c.all, key{d.Prefix, d.Challenge})
	}
	for _, d := range fresh {
		k := key{d.Prefix, d.Challenge}
		if old, has := c.all[k]; len(c.all) < mostDecisions && !has || has && old.Until.Before(d.Until) {
			c.all[k] = d
		}
	}
	c.started = true
	maps.DeleteFunc(c.all, func(_ key, d Decision) bool { return !now.Before(d.Until) })
	return slices.Collect(maps.Values(c.all)), nil
}

// Again has the next Decisions read the whole list: answers may have been missed.
func (c *Client) Again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = false
}

type wireDecision struct {
	Duration string `json:"duration"`
	Origin   string `json:"origin"`
	Scenario string `json:"scenario"`
	Scope    string `json:"scope"`
	Type     string `json:"type"`
	Value    string `json:"value"`
}

// ParseStream reads an answer of /v1/decisions/stream. Decisions about countries,
// autonomous systems and users are left out, and so are our own; what cannot be read
// is an error: half a list must not pass for a whole one.
func ParseStream(body []byte, now time.Time) (fresh, gone []Decision, err error) {
	var in struct {
		New     []wireDecision `json:"new"`
		Deleted []wireDecision `json:"deleted"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, nil, fmt.Errorf("crowdsec: the stream of decisions: %w", err)
	}
	if fresh, err = readDecisions(in.New, now); err != nil {
		return nil, nil, err
	}
	gone, err = readDecisions(in.Deleted, now)
	return fresh, gone, err
}

func readDecisions(in []wireDecision, now time.Time) (out []Decision, err error) {
	for i := range in {
		w := &in[i]
		if scope := strings.ToLower(w.Scope); scope != "ip" && scope != "range" || w.Origin == Origin {
			continue
		}
		p, err := netip.ParsePrefix(w.Value)
		if err != nil {
			a, err := netip.ParseAddr(w.Value)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("crowdsec: decision %d is about %.64q, which is no network", i, w.Value)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		life, err := time.ParseDuration(w.Duration)
		if err != nil {
			return nil, fmt.Errorf("crowdsec: decision %d lasts %.64q, which is no duration", i, w.Duration)
		}
		out = append(out, Decision{p.Masked(), now.Add(life), w.Type == "captcha", w.Scenario})
	}
	return out, nil
}

type wireAlert struct {
	Capacity        int32          `json:"capacity"`
	Decisions       []wireDecision `json:"decisions"`
	Events          []struct{}     `json:"events"`
	EventsCount     int32          `json:"events_count"`
	LeakSpeed       string         `json:"leakspeed"`
	Message         string         `json:"message"`
	Scenario        string         `json:"scenario"`
	ScenarioHash    string         `json:"scenario_hash"`
	ScenarioVersion string         `json:"scenario_version"`
	Simulated       bool           `json:"simulated"`
	Source          wireSource     `json:"source"`
	StartAt         string         `json:"start_at"`
	StopAt          string         `json:"stop_at"`
}

type wireSource struct {
	Scope string `json:"scope"`
	Value string `json:"value"`
	IP    string `json:"ip,omitempty"`
	Range string `json:"range,omitempty"`
}

// Alert hands decisions of ours in, for the other bouncers of the LAPI. Without a
// machine in the config it does nothing.
func (c *Client) Alert(ctx context.Context, list []Decision) error {
	if c.cfg.Machine == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(list) > 0 {
		n := min(len(list), mostAlerts)
		if err := c.alert(ctx, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (c *Client) alert(ctx context.Context, list []Decision) error {
	now := time.Now()
	if now.After(c.expires) {
		if err := c.login(ctx, now); err != nil {
			return err
		}
	}
	var out []wireAlert
	for i := range list {
		d := &list[i]
		source := wireSource{Scope: "Range", Value: d.Prefix.String(), Range: d.Prefix.String()}
		if d.Prefix.IsSingleIP() {
			source = wireSource{Scope: "Ip", Value: d.Prefix.Addr().String(), IP: d.Prefix.Addr().String()}
		}
		at := now.UTC().Format(time.RFC3339)
		out = append(out, wireAlert{
			Events: []struct{}{}, EventsCount: 1, LeakSpeed: "0", Message: d.Prefix.String() + ": " + d.Scenario,
			Scenario: d.Scenario, Source: source, StartAt: at, StopAt: at,
			Decisions: []wireDecision{{
				Duration: d.Until.Sub(now).Round(time.Second).String(), Origin: Origin, Scenario: d.Scenario, Scope: source.Scope, Type: "ban", Value: source.Value,
			}},
		})
	}
	body, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("crowdsec: %w", err)
	}
	status, _, err := c.call(ctx, http.MethodPost, "/v1/alerts", body, "Authorization", "Bearer "+c.token)
	if err != nil {
		return err
	}
	if status != http.StatusCreated {
		c.expires = time.Time{} // a new login may help
		return c.refusal(status, "alerts")
	}
	return nil
}

func (c *Client) login(ctx context.Context, now time.Time) error {
	body, err := json.Marshal(map[string]any{"machine_id": c.cfg.Machine, "password": c.cfg.Password.Reveal(), "scenarios": []string{}})
	if err != nil {
		return fmt.Errorf("crowdsec: %w", err)
	}
	status, answer, err := c.call(ctx, http.MethodPost, "/v1/watchers/login", body, "", "")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return c.refusal(status, "the login of the machine")
	}
	var in struct {
		Token  string    `json:"token"`
		Expire time.Time `json:"expire"`
	}
	if err := json.Unmarshal(answer, &in); err != nil || in.Token == "" {
		return fmt.Errorf("crowdsec: %s: the answer to the login has no token", c.host)
	}
	c.token, c.expires = in.Token, in.Expire.Add(-time.Minute)
	if c.expires.Before(now) {
		c.expires = now.Add(time.Minute)
	}
	return nil
}

func (c *Client) refusal(status int, what string) error {
	hint := ""
	switch status {
	case http.StatusForbidden, http.StatusUnauthorized:
		hint = "; is the key one of 'cscli bouncers add', and the machine one of 'cscli machines add'?"
	}
	return fmt.Errorf("crowdsec: %s answers %d to %s%s", c.host, status, what, hint)
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, header, value string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.cfg.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("crowdsec: %s: not a request", c.host)
	}
	req.Header.Set("User-Agent", "gatehouse/1")
	req.Header.Set("Accept", "application/json")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	res, err := c.cfg.HTTP.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return 0, nil, fmt.Errorf("crowdsec: %s: %w", c.host, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(res.Body, mostAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("crowdsec: %s: %w", c.host, err)
	}
	if len(answer) > mostAnswer {
		return 0, nil, fmt.Errorf("crowdsec: %s: the answer is too long", c.host)
	}
	return res.StatusCode, answer, nil
}
