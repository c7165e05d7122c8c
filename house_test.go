package gatehouse_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-api/gatehouse"

// layers is the plan of the house. A room may import only rooms of lower
// layers: never a neighbour on its own floor, never upstairs. A room of the
// plan in docs/architecture.md is added here with its first file.
var layers = [][]string{
	{"."}, // the nouns
	{"internal/config", "internal/store", "internal/token", "internal/http1", "internal/networks"},
	{"internal/auditlog", "internal/demo"},
	{}, // vault
	{"internal/authn", "internal/authz", "internal/ratelimit", "internal/validate", "internal/ddos", "internal/cache", // checks: one question about one request
		"internal/pki", "internal/egress", "internal/identity", "internal/fleet"}, // keepers
	{"internal/gateway", "internal/monitor", "internal/oauth"},
	{"internal/plan"},
	{"internal/posture"},
	{"internal/admin"},
	{"internal/server"},
	{"cmd/gatehouse", "bench"},
}

const (
	maxFile   = 600  // lines of a file that is not a test
	maxServer = 2100 // lines of internal/server: everything homeless drifts there
)

func TestImportsGoDown(t *testing.T) {
	floor := map[string]int{}
	for n, rooms := range layers {
		for _, r := range rooms {
			floor[r] = n
		}
	}
	seen := map[string]bool{}
	eachFile(t, func(room, file string) {
		n, ok := floor[room]
		if !ok {
			t.Errorf("%s: room %q is not on the plan (layers in house_test.go)", file, room)
			return
		}
		seen[room] = true
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, im := range f.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			if room == "." && p != module && strings.Contains(p, ".") {
				t.Errorf("%s imports %s: the nouns import only the standard library", file, p)
			}
			if p != module && !strings.HasPrefix(p, module+"/") {
				continue
			}
			to := roomOf(strings.TrimPrefix(strings.TrimPrefix(p, module), "/"))
			if to == room {
				continue // an inner room of the same house
			}
			if m, ok := floor[to]; !ok || m >= n {
				t.Errorf("%s imports %s: %q (floor %d) may not import %q (floor %d)", file, p, room, n, to, m)
			}
		}
	})
	for r := range floor {
		if !seen[r] {
			t.Errorf("room %q is on the plan but has no files", r)
		}
	}
}

func TestEveryRoomHasOneDoc(t *testing.T) {
	docs := map[string]int{}
	eachFile(t, func(_, file string) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		d := filepath.ToSlash(filepath.Dir(file))
		if f.Doc != nil {
			docs[d]++
		} else {
			docs[d] += 0
		}
	})
	for d, n := range docs {
		if n != 1 {
			t.Errorf("%s: %d package comments, want exactly 1", d, n)
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	serverLines := 0
	eachFile(t, func(room, file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := bytes.Count(b, []byte("\n"))
		if n > maxFile {
			t.Errorf("%s has %d lines, want at most %d: split it by noun", file, n, maxFile)
		}
		if room == "internal/server" {
			serverLines += n
		}
		if regexp.MustCompile(`(?m)^func init\(\)`).Match(b) {
			t.Errorf("%s has an init(): wiring is in internal/server/wire.go", file)
		}
	})
	if serverLines > maxServer {
		t.Errorf("internal/server has %d lines, want at most %d", serverLines, maxServer)
	}
}

// TestReadmeNamesEveryProof holds the README's practice table and the scripts
// together: a row without a script, or a script without a row, is a claim
// without a proof. The first line of each script is the sentence in the table.
func TestReadmeNamesEveryProof(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for _, m := range regexp.MustCompile(`\]\(((?:practices|attacks)/[^)]+\.txtar)\)`).FindAllSubmatch(readme, -1) {
		linked = append(linked, string(m[1]))
	}
	var scripts []string
	for _, dir := range []string{"practices", "attacks"} {
		found, err := filepath.Glob(dir + "/*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, found...)
	}
	for _, s := range scripts {
		if !slices.Contains(linked, s) {
			t.Errorf("README.md does not link %s", s)
		}
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		sentence, ok := strings.CutPrefix(first, "# ")
		if !ok {
			t.Errorf("%s: the first line must be a comment with the sentence it proves", s)
		} else if !bytes.Contains(readme, []byte(sentence)) {
			t.Errorf("README.md does not say what %s proves: %q", s, sentence)
		}
	}
	for _, l := range linked {
		if !slices.Contains(scripts, l) {
			t.Errorf("README.md links %s, which does not exist", l)
		}
	}
}

// TestEveryDependencyHasAReason compares docs/dependencies.md with go.mod.
func TestEveryDependencyHasAReason(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[1], "v") && strings.Contains(f[0], ".") {
			direct[f[0]] = true
			if !bytes.Contains(doc, []byte("`"+f[0]+"`")) {
				t.Errorf("docs/dependencies.md has no reason for %s", f[0])
			}
		}
		if strings.HasPrefix(strings.TrimSpace(line), "replace ") {
			t.Errorf("go.mod replaces a module: %s", line)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllSubmatch(doc, -1) {
		if !direct[string(m[1])] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", m[1])
		}
	}
}

// TestDependenciesStayInTheirRooms compares the last column of
// docs/dependencies.md with what each room imports.
func TestDependenciesStayInTheirRooms(t *testing.T) {
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	stated, seen := map[string]string{}, map[string]map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| ([^|]+) \\|$").FindAllSubmatch(doc, -1) {
		stated[string(m[1])], seen[string(m[1])] = string(m[2]), map[string]bool{}
	}
	eachFile(t, func(room, file string) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, im := range f.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			for mod := range stated {
				if p == mod || strings.HasPrefix(p, mod+"/") {
					seen[mod]["`"+room+"`"] = true
				}
			}
		}
	})
	for mod, rooms := range stated {
		said := strings.Split(rooms, ", ")
		if rooms == "tests" {
			said = nil
		}
		slices.Sort(said)
		if got := slices.Sorted(maps.Keys(seen[mod])); !slices.Equal(got, said) {
			t.Errorf("docs/dependencies.md: %s is imported by %v, not by %v", mod, got, said)
		}
	}
}

// TestEveryReasonIsDocumented finds the reason codes in the code and wants each
// in docs/problems.md: the code is what a caller and an operator look up. And no
// others, which nobody would ever meet.
func TestEveryReasonIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	reason := regexp.MustCompile(`Reason(?::|\s=)\s+"([a-z0-9_]*[a-z0-9])"`)
	var code bytes.Buffer
	eachFile(t, func(_, file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(b)
		for _, m := range reason.FindAllSubmatch(b, -1) {
			if !bytes.Contains(doc, []byte("`"+string(m[1])+"`")) {
				t.Errorf("%s: reason %q is not in docs/problems.md", file, m[1])
			}
		}
	})
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllSubmatch(doc, -1) {
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllSubmatch(row[1], -1) {
			name := string(m[1])
			if where, ok := strings.CutPrefix(name, "invalid_"); ok && where != "" {
				name = "invalid_" // and where the fault is: path, query, header, cookie, body
			}
			if !bytes.Contains(code.Bytes(), []byte(`"`+name+`"`)) {
				t.Errorf("docs/problems.md explains %s, which nothing answers", m[1])
			}
		}
	}
}

// Under the race detector, with which tools/test.sh runs everything, some tests leave
// out what it distorts or makes too slow. Each of them must run without it as well.
func TestWhatIsLeftOutUnderTheRaceDetectorRunsWithoutIt(t *testing.T) {
	runs := []struct{ script, line, dir, name string }{
		{"tools/test.sh", `go test -run '^TestAlloc' `, "internal/", "^TestAlloc"},
		{"tools/test.sh", `go test "$@" ./internal/ddos`, "internal/ddos", ""}, // all of it
		{".ci/run", `go test ./internal/validate/waf -timeout 20m -run 'Sameness|Passes|Detection'`, "internal/validate/waf", "Sameness|Passes|Detection"},
	}
	for _, r := range runs {
		if b, err := os.ReadFile(r.script); err != nil || !bytes.Contains(b, []byte(r.line)) {
			t.Errorf("%s does not run %s %v", r.script, r.line, err)
		}
	}
	raced := regexp.MustCompile(`\b(raceEnabled|underRace|raced)\b`)
	found := 0
	err := fs.WalkDir(os.DirFS("."), "internal", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				branch, ok := n.(*ast.IfStmt)
				if !ok {
					return true
				}
				cond := types.ExprString(branch.Cond)
				if !raced.MatchString(cond) || strings.Contains(cond, "!") || !leavesOut(branch.Body) {
					return true
				}
				found++
				for _, r := range runs {
					if (path.Dir(p) == r.dir || strings.HasSuffix(r.dir, "/")) && regexp.MustCompile(r.name).MatchString(fn.Name.Name) {
						return true
					}
				}
				t.Errorf("%s: %s leaves something out under the race detector, and no script runs it without", p, fn.Name.Name)
				return true
			})
		}
		return nil
	})
	if err != nil || found < 20 {
		t.Errorf("%d found: %v", found, err)
	}
}

// leavesOut reports whether a branch skips a test, or goes past the rest of it.
func leavesOut(branch *ast.BlockStmt) bool {
	return slices.ContainsFunc(branch.List, func(s ast.Stmt) bool {
		switch s := s.(type) {
		case *ast.BranchStmt, *ast.ReturnStmt:
			return true
		case *ast.ExprStmt:
			call, ok := s.X.(*ast.CallExpr)
			return ok && strings.HasPrefix(types.ExprString(call.Fun), "t.Skip")
		}
		return false
	})
}

// roomOf maps a package directory to the room that owns it: internal/x/... belongs to internal/x.
func roomOf(dir string) string {
	if dir == "" || dir == "." {
		return "."
	}
	parts := strings.Split(dir, "/")
	if parts[0] == "verify" {
		return "verify"
	}
	return path.Join(parts[:min(2, len(parts))]...)
}

func eachFile(t *testing.T, do func(room, file string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "tools" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && p != ".") {
			return fs.SkipDir
		}
		if strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") {
			do(roomOf(path.Dir(p)), p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
