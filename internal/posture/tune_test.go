package posture_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/posture"
)

// ordered is a request to POST /orders of a caller, with the rules it met.
func ordered(who string, minute int, matches ...gatehouse.Match) *gatehouse.Event {
	e := &gatehouse.Event{
		Time: time.Date(2026, 11, 1, 12, minute, 0, 0, time.UTC), API: "shop", Operation: "createOrder",
		Address: "192.0.2.7", Subject: who, Issuer: "main", Allow: true, Matches: matches,
	}
	if who == "" {
		e.Issuer = ""
	}
	return e
}

func note(rule, place int) gatehouse.Match {
	return gatehouse.Match{Rule: rule, Text: "SQL Injection", In: "body", Name: fmt.Sprintf("json.items.%d.note", place), Pointer: fmt.Sprintf("/items/%d/note", place), Part: "aa'a"}
}

func TestWhatManyCallersMeetAtOneFieldIsProposed(t *testing.T) {
	var tuner posture.Tuner
	for i := range 60 {
		who := fmt.Sprintf("user%d", i%6)
		if i%2 == 0 {
			tuner.Note(ordered(who, i, note(942100, i%3), note(942190, i%3)))
		} else {
			tuner.Note(ordered(who, i))
		}
	}
	got := tuner.Proposals()
	if len(got) != 1 {
		t.Fatalf("%d proposals, want 1: %+v", len(got), got)
	}
	p := got[0]
	if p.Operation != "shop.createOrder" || p.Parameter != "body/items/*/note" || fmt.Sprint(p.Rules) != "[942100 942190]" {
		t.Errorf("proposed %s %s %v", p.Operation, p.Parameter, p.Rules)
	}
	if p.Requests != 30 || p.Of != 60 || p.Callers != 3 || p.Proven != 3 || p.Doubt != "" {
		t.Errorf("evidence %+v", p)
	}
	if !strings.Contains(p.Config, `parameter: "body/items/*/note"`) || !strings.Contains(p.Config, `rules: ["942100", "942190"]`) || !strings.Contains(p.Risk, "SQL injection") {
		t.Errorf("config %s\nrisk %s", p.Config, p.Risk)
	}
}

func TestWhatIsNotProposed(t *testing.T) {
	for name, test := range map[string]struct {
		feed  func(*posture.Tuner)
		doubt string
	}{
		"what one caller alone meets": {func(tn *posture.Tuner) {
			for i := range 50 {
				tn.Note(ordered("mallory", i, note(942100, 0)))
			}
		}, "only 1 callers"},
		"what is rare": {func(tn *posture.Tuner) {
			for i := range 6 {
				tn.Note(ordered(fmt.Sprint(i), i, note(942100, 0)))
			}
		}, "seen in 6 requests"},
		"what only a scanner meets": {func(tn *posture.Tuner) {
			for i := range 50 {
				for _, rule := range []int{942100, 941100, 932100} {
					tn.Note(ordered("", i, note(rule, 0)))
				}
			}
		}, "several kinds of attack"},
		"what is about the whole request": {func(tn *posture.Tuner) {
			for i := range 50 {
				tn.Note(ordered(fmt.Sprint(i%5), i, gatehouse.Match{Rule: 920350, In: "request", Text: "Host is an IP"}))
			}
		}, "about the whole request"},
	} {
		t.Run(name, func(t *testing.T) {
			var tuner posture.Tuner
			test.feed(&tuner)
			got := tuner.Proposals()
			if len(got) == 0 {
				t.Fatal("nothing is said of it")
			}
			for _, p := range got {
				if p.Config != "" || !strings.Contains(p.Doubt, test.doubt) {
					t.Errorf("doubt %q, config %q; want doubt %q", p.Doubt, p.Config, test.doubt)
				}
			}
		})
	}
}

func TestAScannerAmongUsersIsLeftOutOfTheEvidence(t *testing.T) {
	var tuner posture.Tuner
	for i := range 40 {
		tuner.Note(ordered(fmt.Sprint("user", i%5), i, note(942100, 0)))
	}
	for i := range 50 { // sqlmap: one kind of attack, every request of its, many rules
		tuner.Note(ordered("mallory", i, note(942100, 0), note(942110+i%8*10, 0)))
	}
	p := tuner.Proposals()[0]
	if p.Callers != 5 || p.Requests != 40 || p.LeftOut == 0 {
		t.Errorf("evidence counts the scanner: %+v", p)
	}
}
