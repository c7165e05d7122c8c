package seclang_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

func crs(t testing.TB, setup seclang.Setup) *seclang.Program {
	t.Helper()
	sources, err := seclang.CRS(setup)
	if err != nil {
		t.Fatal(err)
	}
	p, err := seclang.Parse(sources)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheWholeCoreRuleSetIsRead(t *testing.T) {
	var rules, links, actions, markers int
	for _, item := range crs(t, seclang.Setup{}).Items {
		if item.Rule == nil {
			markers++
			continue
		}
		for _, r := range append([]*seclang.Rule{item.Rule}, item.Rule.Chain...) {
			switch {
			case r.Op.Name == "":
				actions++
			case r.ID == 0:
				links++
			default:
				rules++
			}
		}
	}
	t.Log(rules, links, rules+links, actions, markers)
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		crs(b, seclang.Setup{Paranoia: 4})
	}
}
