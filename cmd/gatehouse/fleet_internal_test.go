package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/fleet"
)

func TestTheStateOfAFleetIsJudged(t *testing.T) {
	node := func(name, config string, change func(*fleet.Node)) fleet.Node {
		n := fleet.Node{Name: name, Alive: true, Facts: fleet.Facts{Config: config}}
		if change != nil {
			change(&n)
		}
		return n
	}
	for _, tt := range []struct {
		name    string
		nodes   []fleet.Node
		trouble string // "": all is well
	}{
		{"two nodes with one config are well", []fleet.Node{node("a", "1", nil), node("b", "1", nil)}, ""},
		{"one that is gone does not count", []fleet.Node{node("a", "1", nil), node("b", "2", func(n *fleet.Node) { n.Alive = false })}, ""},
		{"two configs are not", []fleet.Node{node("a", "1", nil), node("b", "2", nil), node("c", "1", nil)}, "different configs"},
		{"a refused config is not", []fleet.Node{node("a", "1", func(n *fleet.Node) { n.Refused = "line 3" })}, "a has refused a config: line 3"},
		{"an engine that is away is not", []fleet.Node{node("a", "1", func(n *fleet.Node) { n.Engine = "timeout" })}, "cannot ask the shared engine: timeout"},
		{"nobody is not", nil, "no node is alive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := judge(tt.nodes)
			if s.OK != (tt.trouble == "") || !s.OK && (len(s.Trouble) != 1 || !strings.Contains(s.Trouble[0], tt.trouble)) {
				t.Errorf("ok %t, trouble %q", s.OK, s.Trouble)
			}
		})
	}
	if s := judge([]fleet.Node{node("a", "1", nil), node("b", "1", func(n *fleet.Node) { n.Leads = true })}); s.Leader != "b" || !slices.ContainsFunc(s.Nodes, func(n fleet.Node) bool { return n.Leads }) {
		t.Errorf("the leader is %q", s.Leader)
	}
}

func TestARowOfTheDatabaseMovesNoCursor(t *testing.T) {
	const evil = "ann\x1b[1A\x1b[2K\r\u009b2K"
	var out bytes.Buffer
	std := &stdio{out: &out}
	s := judge([]fleet.Node{{Name: evil, Alive: true, Facts: fleet.Facts{Version: evil, Config: evil, Refused: evil + "\nline 3", Engine: evil}}})
	if err := s.print(std); err != nil {
		t.Fatal(err)
	}
	if err := printHistory(std, []fleet.Revision{{Number: 7, Author: evil, Digest: evil, Forged: true}}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r\u009b") || !strings.Contains(out.String(), "! changed in the database") || !strings.Contains(out.String(), "\n  line 3\n") {
		t.Errorf("%q", out.String())
	}
}
