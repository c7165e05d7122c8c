package config_test

import (
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

func TestGoodFilesLoad(t *testing.T) {
	names, err := filepath.Glob("testdata/good_*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			f, err := config.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Digest) != 64 || len(f.APIs) == 0 {
				t.Errorf("got %+v", f)
			}
		})
	}
}
