package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", with which databases are made
)

// A PostgresServer is a PostgreSQL server of a test's own, in a folder that goes
// away with the test's process.
type PostgresServer struct {
	bin, dir, port, password string
	as                       *syscall.SysProcAttr
	owner                    [2]int // uid, gid; -1: our own
	at                       *exec.Cmd
	gone                     chan struct{}  // closed when at has ended
	life                     io.WriteCloser // closed with this process: then all of it goes
}

const (
	startWait = 30 * time.Second
	pgUser    = "gatehouse"
)

// Postgres starts a server and makes a database in it: its URL, and the server to
// kill, stop, continue and restart. The test is skipped where the machine has no
// PostgreSQL. It ends with the test.
func Postgres(t testing.TB) (url string, server *PostgresServer) {
	t.Helper()
	s, err := startPostgres(t.Context())
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("PostgreSQL is not installed (apt-get install postgresql): this test is LEFT OUT")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	url, err = s.Database(t.Context(), "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	return url, s
}

// findPostgres gives the folder with initdb and postgres, the newest where there are several.
func findPostgres() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.Sort(found)
	for _, dir := range slices.Backward(found) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	path, err := exec.LookPath("initdb")
	return filepath.Dir(path), err
}

func startPostgres(ctx context.Context) (s *PostgresServer, err error) {
	s = &PostgresServer{password: rand.Text(), owner: [2]int{-1, -1}}
	if s.bin, err = findPostgres(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "gatehouse-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	s.as = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 { // it does not work for root
		if err := s.become("postgres", "nobody"); err != nil {
			return nil, err
		}
	}
	words := filepath.Join(s.dir, "password")
	if err := errors.Join(os.WriteFile(words, []byte(s.password), 0o600), os.Chown(words, s.owner[0], s.owner[1]), os.Chown(s.dir, s.owner[0], s.owner[1])); err != nil {
		return nil, err
	}
	// As on many machines: names are sorted by a language's rules, not by bytes.
	out, err := s.command(ctx, "initdb", "-D", s.data(), "-U", pgUser, "--pwfile", words, "--auth", "scram-sha-256", "--encoding", "UTF8",
		"--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.port, err = freePort(ctx); err != nil {
		return nil, err
	}
	if err := s.reap(); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// become takes the first of these users that there is.
func (s *PostgresServer) become(names ...string) error {
	var err error
	for _, name := range names {
		var u *user.User
		if u, err = user.Lookup(name); err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return err
		}
		s.owner = [2]int{uid, gid}
		s.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return nil
	}
	return err
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(s.bin, name), args...) //nolint:gosec // a test's own
	as := *s.as
	cmd.SysProcAttr, cmd.Dir = &as, s.dir
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	return cmd
}

// reap starts what ends the server and removes its folder when this process is
// gone, however it went.
func (s *PostgresServer) reap() error {
	cmd := exec.Command("sh", "-c", `read _; kill -9 $(head -1 "$1/data/postmaster.pid"); rm -rf "$1"`, "sh", s.dir) //nolint:gosec,noctx // a folder of this test's, and it outlives every context
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if s.life, err = cmd.StdinPipe(); err != nil {
		return err
	}
	return cmd.Start()
}

// start waits until the server takes connections.
func (s *PostgresServer) start(ctx context.Context) error {
	deadline := time.Now().Add(startWait)
	for {
		log, err := os.Create(filepath.Join(s.dir, "log")) // no pipe: processes that outlive the first one would keep it open
		if err != nil {
			return err
		}
		// What is written survives the death of the server without fsync, if not the machine's.
		cmd := s.command(ctx, "postgres", "-D", s.data(), "-p", s.port, "-k", s.dir, "-h", "127.0.0.1", "-F",
			"-c", "autovacuum=off", "-c", "max_connections=200", "-c", "shared_buffers=16MB", "-c", "log_min_messages=fatal")
		cmd.Stderr = log
		if err := errors.Join(cmd.Start(), log.Close()); err != nil {
			return err
		}
		gone := make(chan struct{})
		go func() { _ = cmd.Wait(); close(gone) }()
		s.at, s.gone = cmd, gone
		for ended := false; !ended; {
			if err := s.ping(ctx); err == nil {
				return nil
			} else if time.Now().After(deadline) {
				return fmt.Errorf("the server does not answer: %w: %s", err, s.log())
			}
			select {
			case <-gone: // one that was killed leaves processes which must be gone first
				ended = true
				if said := s.log(); !strings.Contains(said, "shared memory") && !strings.Contains(said, "postmaster.pid") {
					return fmt.Errorf("the server has ended: %s", said)
				}
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

func (s *PostgresServer) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *PostgresServer) ping(ctx context.Context) (err error) {
	return s.admin(ctx, `SELECT 1`)
}

func (s *PostgresServer) admin(ctx context.Context, statement string) (err error) {
	db, err := sql.Open("pgx", s.url("postgres")+"&connect_timeout=2")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (s *PostgresServer) url(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%s/%s?sslmode=disable", pgUser, s.password, s.port, database)
}

// Address is where the server listens.
func (s *PostgresServer) Address() string { return "127.0.0.1:" + s.port }

// Database makes a database of this name (letters, digits, _) and gives its URL.
// One that is there is taken as it is.
func (s *PostgresServer) Database(ctx context.Context, name string) (url string, err error) {
	err = s.admin(ctx, `CREATE DATABASE "`+name+`"`)
	if err != nil && !strings.Contains(err.Error(), "42P04") {
		return "", err
	}
	return s.url(name), nil
}

// Kill ends the server with SIGKILL: nothing is written any more.
func (s *PostgresServer) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.gone
}

// Stop makes every process of the server hang, until [PostgresServer.Cont].
func (s *PostgresServer) Stop() { s.signal(syscall.SIGSTOP) }

// Cont lets a server that hangs go on.
func (s *PostgresServer) Cont() { s.signal(syscall.SIGCONT) }

// Restart starts the server after [PostgresServer.Kill]; one that runs is asked to end first.
func (s *PostgresServer) Restart(t testing.TB) {
	t.Helper()
	_ = s.at.Process.Signal(syscall.SIGINT)
	<-s.gone
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// signal is for the first process and its children.
func (s *PostgresServer) signal(what syscall.Signal) {
	pids := []int{s.at.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(s.at.Process.Pid) {
			pid, _, _ := strings.Cut(string(text), " ")
			if n, err := strconv.Atoi(pid); err == nil {
				pids = append(pids, n)
			}
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, what)
	}
}

func (s *PostgresServer) remove() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
	_ = s.life.Close()
}

// HasPostgres reports whether the machine has it, so that [Postgres] skips nothing.
func HasPostgres() bool {
	_, err := findPostgres()
	return err == nil
}
