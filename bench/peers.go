package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A proxy is one of those compared, listening without and with TLS.
type proxy struct {
	name       string
	plain, tls int // ports
	cmd        *exec.Cmd
	token      string // it takes
	ours       bool
}

// port is where p listens, for callers with TLS or without.
func (p *proxy) port(secure bool) int {
	if secure {
		return p.tls
	}
	return p.plain
}

// url is that of a path at p.
func (p *proxy) url(secure bool, path string) string {
	if secure {
		return fmt.Sprintf("https://localhost:%d%s", p.tls, path)
	}
	return fmt.Sprintf("http://127.0.0.1:%d%s", p.plain, path)
}

// The Gatehouses by their names in the tables.
var houseNames = map[string]string{
	full:   "Gatehouse: JWT, CEL, limits, OpenAPI, event, CRS PL1",
	quiet:  "Gatehouse: JWT, CEL, limits, OpenAPI, event",
	public: "Gatehouse: limits, OpenAPI, event, CRS PL1, public",
}

// serve starts the service behind all proxies: an nginx worker.
func (s *stage) serve(ctx context.Context) error {
	for _, tool := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed (Debian: nginx-light, wrk)", tool)
		}
	}
	s.service = free()
	if err := write(s.dir, "up.conf", serviceConf(s.dir, s.service)); err != nil {
		return err
	}
	if _, err := s.start(ctx, s.service, "nginx", "-e", filepath.Join(s.dir, "up.err"), "-c", filepath.Join(s.dir, "up.conf")); err != nil {
		return fmt.Errorf("the service: %w", err)
	}
	return nil
}

// peers starts the other proxies, those that are there.
func (s *stage) peers(ctx context.Context, out io.Writer) (all []*proxy, err error) {
	crowd := []struct {
		name, bin, file string
		conf            func(s *stage, plain, tls int) string
		args            []string
	}{
		{"nginx, plain proxy", "nginx", "nginx.conf", nginxConf, []string{"-e", filepath.Join(s.dir, "px.err"), "-c"}},
		{"HAProxy, plain proxy", "haproxy", "haproxy.cfg", haproxyConf, []string{"-db", "-f"}},
		{"Caddy, plain proxy", *caddy, "Caddyfile", caddyConf, []string{"run", "--adapter", "caddyfile", "--config"}},
		{"Traefik, plain proxy", *traefik, "traefik.yaml", traefikConf, []string{"--configFile"}},
		{"KrakenD, plain proxy", *krakend, "krakend.json", krakendConf, []string{"run", "-c"}},
	}
	for _, c := range crowd {
		if c.bin == "" {
			continue
		}
		if _, err := exec.LookPath(c.bin); err != nil {
			_, _ = fmt.Fprintf(out, "%s: not installed, left out\n", c.bin)
			continue
		}
		p := &proxy{name: c.name, plain: free(), tls: free(), token: strings.Repeat("x", 640)}
		if err := write(s.dir, c.file, c.conf(s, p.plain, p.tls)); err != nil {
			return nil, err
		}
		if p.cmd, err = s.start(ctx, p.plain, c.bin, append(c.args, filepath.Join(s.dir, c.file))...); err != nil {
			if len(all) == 0 {
				return nil, fmt.Errorf("%s: %w", c.name, err) // what all others are compared with
			}
			_, _ = fmt.Fprintf(out, "%s: left out: %v\n", c.name, err)
			continue
		}
		all = append(all, p)
	}
	return all, nil
}

// house starts a Gatehouse of a kind.
func (s *stage) house(ctx context.Context, kind string) (*proxy, error) {
	h := &house{
		home: filepath.Join(s.dir, kind), kind: kind, plain: free(), tls: free(), admin: free(), service: s.service, cert: s.cert, key: s.key, idle: 10 * time.Minute,
		extra: "    upstream: {max_in_flight: 10000}\n", // by default 1,000 are let through at once, and as many wait: 4,096 callers would be refused
	}
	token, err := h.furnish()
	if err != nil {
		return nil, err
	}
	p := &proxy{name: houseNames[kind], plain: h.plain, tls: h.tls, token: token, ours: true}
	if kind == public {
		p.token = "" // it refuses a credential it cannot read
	}
	if p.cmd, err = s.start(ctx, p.plain, s.gatehouse, "serve", "--config", filepath.Join(h.home, "gatehouse.yaml"), "--log-level", "warn"); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return p, listening(ctx, p.tls)
}

// theatre is a stage with the service, the peers and Gatehouses of some kinds.
func theatre(ctx context.Context, out io.Writer, kinds ...string) (*stage, []*proxy, error) {
	s, err := newStage(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := s.cast(ctx, out, kinds)
	if err != nil {
		_ = s.close() // what went wrong first is what counts
		return nil, nil, err
	}
	return s, all, nil
}

func (s *stage) cast(ctx context.Context, out io.Writer, kinds []string) ([]*proxy, error) {
	conditions(ctx, out)
	if err := s.serve(ctx); err != nil {
		return nil, err
	}
	all, err := s.peers(ctx, out)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		p, err := s.house(ctx, kind)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
