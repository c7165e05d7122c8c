package plan_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gatehouse-api/gatehouse/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// folder writes the files of an archive, and the shared documents, to disk.
func folder(t testing.TB, files ...txtar.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"orders.yaml", "other.yaml"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, string(b))
	}
	for _, f := range files {
		write(t, dir, f.Name, string(f.Data))
	}
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func compile(t testing.TB, dir string) *plan.Plan {
	t.Helper()
	p, err := plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWhatIsSaid holds what is said about a config to the letter: every error
// and warning names its place, since somebody has to go there.
func TestWhatIsSaid(t *testing.T) {
	names, err := filepath.Glob("testdata/*_*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, said := archive.Files, ""
			if last := files[len(files)-1]; last.Name == "said" {
				files, said = files[:len(files)-1], string(last.Data)
			}
			dir := folder(t, files...)
			p, err := plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
			var got strings.Builder
			if strings.HasPrefix(filepath.Base(name), "busted") {
				if err == nil || p != nil {
					t.Fatal("it compiles")
				}
				got.WriteString(err.Error() + "\n")
			} else {
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range p.Warnings {
					got.WriteString(w.Place + ": " + w.Rule + ": " + w.Text + "\n")
				}
			}
			text := strings.ReplaceAll(got.String(), dir+string(filepath.Separator), "")
			if *update {
				archive.Files = append(files, txtar.File{Name: "said", Data: []byte(text)})
				if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if text != said {
				t.Errorf("said\n%s\nwant\n%s", text, said)
			}
			for line := range strings.Lines(text) {
				if !strings.Contains(line, ".yaml:") {
					t.Errorf("names no place: %s", line)
				}
			}
		})
	}
}
