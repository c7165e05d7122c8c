package gatehouse_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// What is said of one node holds for two over PostgreSQL and Redis, when each call
// goes to the other one than the call before.
func TestPracticesOfAFleet(t *testing.T) {
	_, postgres := storetest.Postgres(t)
	redis, _ := storetest.Redis(t)
	runScriptsOn(t, testscript.Params{Files: []string{"practices/09-rate-limiting.txtar", "practices/10-ddos-protection.txtar"}}, &engines{postgres, redis})
}

// engines are what fleets share. Each script has a database and a prefix of its own.
type engines struct {
	postgres *storetest.PostgresServer
	redis    string
}

// A fleet is what a script's two nodes have in common, and the second of them.
type fleet struct {
	dir    string
	first  map[string]string // of what a script says: what the second node has in its place
	common string            // lines of both configs
	last   string            // config of the script, as it was
	odd    bool

	second *exec.Cmd
	done   chan error
}

// fleet prepares one for a script.
func (on *engines) fleet(e *testscript.Env, ports []string) (*fleet, error) {
	f := &fleet{dir: e.WorkDir, first: map[string]string{ports[1]: ports[4], ports[2]: ports[5], ports[3]: ports[6]}}
	name := "script_" + strings.ReplaceAll(filepath.Base(e.WorkDir), "-", "_")
	database, err := on.postgres.Database(context.Background(), name)
	if err != nil {
		return nil, err
	}
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	for file, text := range map[string]string{
		"fleet/database": database, "fleet/shared": on.redis, "fleet/key": strings.Repeat("a key of the house ", 3),
		// A decision is explained by the node that made it.
		"fleet/gatehouse": fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = explain ]; then %[1]s \"$@\" 2>/dev/null || exec %[1]s --config second.yaml \"$@\"; else exec %[1]s \"$@\"; fi\n", filepath.Join(bin, "gatehouse")),
	} {
		name := filepath.Join(f.dir, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil { // one of them is a program
			return nil, err
		}
	}
	f.common = "database: {url: \"${file:./fleet/database}\"}\nshared: {url: \"${file:./fleet/shared}\", prefix: \"" + name + ":\"}\nfleet: {key: \"${file:./fleet/key}\"}\n"
	e.Setenv("PLAIN_OTHER", "http://127.0.0.1:"+ports[5])
	e.Setenv("PATH", filepath.Join(f.dir, "fleet")+string(os.PathListSeparator)+e.Getenv("PATH"))
	return f, nil
}

// follow makes both nodes' configs of the one the script has written.
func (f *fleet) follow(ts *testscript.TestScript) {
	text := ts.ReadFile("gatehouse.yaml")
	if text == f.last {
		return
	}
	if !strings.Contains(text, f.common) {
		text += "\n" + f.common
	}
	f.last = text
	write := func(name, text string) {
		ts.Check(os.WriteFile(ts.MkAbs(name+".new"), []byte(text), 0o600))
		ts.Check(os.Rename(ts.MkAbs(name+".new"), ts.MkAbs(name)))
	}
	write("gatehouse.yaml", text)
	for first, second := range f.first {
		text = strings.ReplaceAll(text, ":"+first, ":"+second)
	}
	write("second.yaml", text+"data: ./data2\n")
}

// start starts the second node.
func (f *fleet) start(ts *testscript.TestScript, w *world) {
	f.follow(ts)
	admin := ts.Getenv("ADMIN")
	f.second, f.done = startNode(ts, false, w, f.other(admin), []string{"serve", "--config", "second.yaml", "--node", "n2"})
}

// other is the address of the second node that goes with one of the first.
func (f *fleet) other(address string) string {
	for first, second := range f.first {
		if strings.HasSuffix(address, ":"+first) {
			return strings.TrimSuffix(address, first) + second
		}
	}
	return address
}

// next makes it the other node's turn.
func (f *fleet) next() { f.odd = !f.odd }

// at gives the address of the node whose turn it is, and its data folder.
func (f *fleet) at(ts *testscript.TestScript, address string) (at, data string) {
	f.follow(ts)
	if f.odd {
		return address, "data"
	}
	return f.other(address), "data2"
}

// kill ends the second node.
func (f *fleet) kill() {
	if f.second != nil {
		_ = f.second.Process.Kill()
		<-f.done
		f.second = nil
	}
}
