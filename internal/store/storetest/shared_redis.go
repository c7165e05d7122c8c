package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A RedisServer is one server that a test has started and may ill-treat.
type RedisServer struct {
	Address string // 127.0.0.1:port

	t    testing.TB
	path string
	args []string
	mu   sync.Mutex
	cmd  *osexec.Cmd
	done chan struct{}
}

// Redis starts a server of one's own on a free loopback port, which ends with the
// test, and gives the url for the config. Its data is in memory only: it is lost by
// Kill. The test is skipped where redis-server is not installed.
func Redis(t testing.TB, args ...string) (url string, server *RedisServer) {
	t.Helper()
	server = redis(t, "redis-server", append([]string{"--save", "", "--appendonly", "no"}, args...)...)
	return "redis://" + server.Address, server
}

// RedisCluster starts a Cluster of three masters.
func RedisCluster(t testing.TB) (url string, servers []*RedisServer) {
	t.Helper()
	var hosts []string
	for range 3 {
		s := redis(t, "redis-server", "--save", "", "--appendonly", "no", "--cluster-enabled", "yes", "--cluster-config-file", filepath.Join(t.TempDir(), "nodes.conf"),
			"--cluster-port", FreePort(t), "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
		servers, hosts = append(servers, s), append(hosts, s.Address)
	}
	for i, s := range servers {
		s.Command("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*16384/3), strconv.Itoa((i+1)*16384/3-1))
		s.Command("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, s := range servers[1:] {
		host, port, _ := net.SplitHostPort(servers[0].Address)
		s.Command("CLUSTER", "MEET", host, port, servers[0].flag("--cluster-port"))
	}
	for _, s := range servers {
		Within(t, 20*time.Second, "the Cluster is whole", func() bool {
			info := s.Command("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_ok:16384")
		})
	}
	return "redis://" + strings.Join(hosts, ","), servers
}

// RedisSentinel starts a master, a replica and a Sentinel that watches them.
func RedisSentinel(t testing.TB) (url string, master, replica, sentinel *RedisServer) {
	t.Helper()
	_, master = Redis(t)
	host, port, _ := net.SplitHostPort(master.Address)
	_, replica = Redis(t, "--replicaof", host+" "+port)
	Within(t, 20*time.Second, "the replica follows", func() bool {
		return strings.Contains(replica.Command("INFO", "replication"), "master_link_status:up")
	})
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	conf := fmt.Sprintf("sentinel monitor house %s %s 1\nsentinel down-after-milliseconds house 500\nsentinel failover-timeout house 3000\n", host, port)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel = redis(t, "redis-sentinel", file)
	Within(t, 20*time.Second, "the Sentinel knows both", func() bool {
		return strings.Contains(sentinel.Command("SENTINEL", "MASTER", "house"), "num-slaves\r\n$1\r\n1")
	})
	return "redis-sentinel://" + sentinel.Address + "/house", master, replica, sentinel
}

func redis(t testing.TB, program string, args ...string) *RedisServer {
	t.Helper()
	path, err := osexec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (apt-get install %s): the tests against it are left out", program, program)
	}
	s := &RedisServer{t: t, path: path}
	dir, fixed := t.TempDir(), args
	if len(args) > 0 && strings.HasSuffix(args[0], ".conf") {
		s.args, fixed = args[:1], args[1:]
	}
	port := FreePort(t)
	s.Address = net.JoinHostPort("127.0.0.1", port)
	s.args = append(append(s.args, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no", "--loglevel", "warning"), fixed...)
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// FreePort is a loopback port that nobody listened at just now.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := freePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, l.Close()
}

func (s *RedisServer) flag(name string) string {
	for i, a := range s.args[:len(s.args)-1] {
		if a == name {
			return s.args[i+1]
		}
	}
	return ""
}

// Kill ends the server with SIGKILL. A second call does nothing.
func (s *RedisServer) Kill() {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.cmd = nil
	s.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		<-done
	}
}

// Restart starts the server, again at the same address when it was killed, and waits
// until it answers.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Kill()
	for range 3 {
		var said strings.Builder
		cmd := osexec.Command(s.path, s.args...) //nolint:gosec,noctx // it outlives the context of a test, for the cleanup of others
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(done)
		}()
		s.mu.Lock()
		s.cmd, s.done = cmd, done
		s.mu.Unlock()
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if answer, err := s.say("PING"); err == nil && strings.HasPrefix(answer, "+PONG") || strings.HasPrefix(answer, "-NOAUTH") {
				return
			}
			select {
			case <-done:
				end = time.Now()
			case <-time.After(5 * time.Millisecond):
			}
		}
		s.Kill()
		s.t.Logf("%s does not start: %s", s.path, said.String())
	}
	s.t.Fatalf("%s does not start", s.path)
}

// Stop lets the server hang (SIGSTOP), until Cont.
func (s *RedisServer) Stop() { s.signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *RedisServer) Cont() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatal("the server is not running")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Command asks the server something and gives its answer as it comes.
func (s *RedisServer) Command(words ...string) string {
	s.t.Helper()
	answer, err := s.say(words...)
	if err != nil {
		s.t.Fatal(err)
	}
	if strings.HasPrefix(answer, "-") {
		s.t.Fatalf("%v: %s", words, answer)
	}
	return answer
}

func (s *RedisServer) say(words ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Address, time.Second) //nolint:noctx // bounded
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		return "", err
	}
	var answer strings.Builder
	return readAnswer(bufio.NewReader(c), &answer)
}

// readAnswer reads one value of RESP 2, with all that is in it, as it stands there.
func readAnswer(r *bufio.Reader, to *strings.Builder) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	to.WriteString(line)
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$':
		if n >= 0 {
			_, err = io.CopyN(to, r, int64(n)+2)
		}
	case '*':
		for range max(0, n) {
			if _, err = readAnswer(r, to); err != nil {
				break
			}
		}
	}
	return to.String(), err
}
