package gatehouse_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// A minimal house, to be found where deploy/ says.
const deployDocument = `openapi: 3.1.0
info: {title: T, version: "1"}
paths: {/orders: {get: {operationId: listOrders, responses: {"200": {description: fine}}}}}
`

const deployAPIs = `apis: {orders: {openapi: ./openapi.yaml, upstreams: ["http://127.0.0.1:9"], operations: {listOrders: {closed: true}}}}
`

// deployTree makes an /etc/gatehouse of root's and a data folder of uid's in root.
func deployTree(t *testing.T, root string, uid int) {
	t.Helper()
	ports, release, err := reservePorts(1)
	t.Cleanup(release)
	if err != nil {
		t.Fatal(err)
	}
	text := "gatehouse: 1\ndata: /var/lib/gatehouse\nlisteners: [{address: \"127.0.0.1:0\", tls: {self: [localhost]}}]\nadmin: {address: \"127.0.0.1:" + ports[0] + "\", tls: {self: [localhost]}}\n" + deployAPIs
	for name, body := range map[string]string{"gatehouse.yaml": text, "openapi.yaml": deployDocument} {
		name = filepath.Join(root, "etc/gatehouse", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(root, "var/lib/gatehouse")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, uid, uid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
}

// staticBinary builds the program as the Dockerfile does.
func staticBinary(t *testing.T, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v0", "-o", to, "./cmd/gatehouse")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// An image from scratch has no shell, no user, no /etc/passwd, no /tmp. The last stage
// of the Dockerfile is carried out into an empty folder, and what it starts is started
// there, as its user and in its folder.
func TestTheImageServesFromAnEmptyFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	text, err := os.ReadFile("deploy/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(text), "FROM scratch\n")
	if !ok {
		t.Fatal("the last stage is not from scratch")
	}
	root := t.TempDir()
	for dir := root; dir != "/"; dir = filepath.Dir(dir) { // another user goes through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(dir) == os.TempDir() {
			break
		}
	}
	var user, workdir string
	lists := map[string][]string{}
	for line := range strings.SplitSeq(last, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "USER":
			user = rest
		case "WORKDIR":
			workdir = rest
		case "COPY":
			f := strings.Fields(rest)
			from, to := f[len(f)-2], filepath.Join(root, f[len(f)-1])
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			switch from {
			case "/out/gatehouse":
				staticBinary(t, to)
			case "/out/data", "/etc/ssl/certs/ca-certificates.crt":
			default:
				t.Errorf("%s is copied, which nobody made here", from)
			}
		case "ENTRYPOINT", "CMD", "HEALTHCHECK":
			var list []string
			if err := json.Unmarshal([]byte(rest[strings.Index(rest, "["):]), &list); err != nil {
				t.Fatalf("%s is not in exec form, and there is no shell: %v", word, err)
			}
			lists[word] = list
		case "", "VOLUME", "EXPOSE", "STOPSIGNAL":
		default:
			t.Errorf("unknown: %s", line)
		}
	}
	if user != "65532:65532" {
		t.Fatalf("runs as %q", user)
	}
	deployTree(t, root, 65532)
	start := func(args []string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = workdir, []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: false}}
		return cmd
	}
	var errs bytes.Buffer
	serve := start(append(lists["ENTRYPOINT"], lists["CMD"]...))
	serve.Stderr = &errs
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = serve.Process.Kill(); _ = serve.Wait() }()
	end := time.Now().Add(20 * time.Second)
	for {
		out, err := start(lists["HEALTHCHECK"]).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not healthy: %v\n%s\n%s", err, out, errs.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = serve.Process.Signal(syscall.SIGTERM)
	if err := serve.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, errs.String())
	}
	if b, err := os.ReadFile(filepath.Join(root, "var/lib/gatehouse/events/changes.jsonl")); err != nil || !bytes.Contains(b, []byte("config.take")) {
		t.Errorf("the record of changes: %s %v", b, err)
	}
}

func TestTheUnitIsSoundAndTight(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	text, err := os.ReadFile("deploy/systemd/gatehouse.service")
	if err != nil {
		t.Fatal(err)
	}
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "gatehouse.service")
	text = bytes.ReplaceAll(text, []byte("/usr/local/bin/gatehouse"), []byte(filepath.Join(name, "gatehouse")))
	if err := os.WriteFile(unit, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// 0 is nothing to attack, 100 everything.
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=16", unit).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	line := regexp.MustCompile(`(?m)^ExecStart=\S+ (.*)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("no ExecStart")
	}
	root := t.TempDir()
	deployTree(t, root, os.Getuid())
	args := strings.Fields(strings.ReplaceAll(string(line[1]), "/etc/gatehouse", filepath.Join(root, "etc/gatehouse")))
	args[0] = "check" // the same config, by the same flags
	if out, err := exec.CommandContext(t.Context(), filepath.Join(name, "gatehouse"), args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", args, err, out)
	}
}

// helm is the real one, where tools/test.sh could get it.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	name, err := filepath.Abs(".testdeps/helm/helm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		if name, err = exec.LookPath("helm"); err != nil {
			t.Skip("helm is not installed: make test gets it")
		}
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// manifests are the objects of a rendered chart, by kind.
func manifests(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var m map[string]any
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if kind, ok := m["kind"].(string); ok {
			out[kind] = m
		}
	}
}

func TestTheChartRendersWhatTheGatewayTakes(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	fleet := `replicas: 3
secret: gatehouse
secretKeys: [admin-token, database, shared, house]
config:
  database: {url: "${file:/etc/gatehouse/secrets/database}"}
  shared: {url: "${file:/etc/gatehouse/secrets/shared}"}
  fleet: {key: "${file:/etc/gatehouse/secrets/house}"}
`
	if err := os.WriteFile(values, []byte(fleet), 0o600); err != nil {
		t.Fatal(err)
	}
	render := func(more ...string) (string, error) {
		return helm(t, append([]string{"template", "shop", "deploy/helm/gatehouse", "--kube-version", "1.30.0"}, more...)...)
	}
	if out, err := helm(t, "lint", "deploy/helm/gatehouse", "--strict", "--set", "secret=gatehouse"); err != nil {
		t.Errorf("lint: %v\n%s", err, out)
	}
	for name, args := range map[string][]string{
		"no secret is named":                    {},
		"an unknown value":                      {"--set", "secret=x,replica=3"},
		"several nodes without what they share": {"--set", "secret=x,replicas=3"},
		"several nodes, each with its own keys": {"--set", "secret=x,replicas=3,config.database.url=x,config.shared.url=x"},
	} {
		if out, err := render(args...); err == nil {
			t.Errorf("%s: it renders\n%s", name, out)
		}
	}
	one, err := render("--set", "secret=gatehouse")
	if err != nil {
		t.Fatalf("%v\n%s", err, one)
	}
	many, err := render("--values", values)
	if err != nil {
		t.Fatalf("%v\n%s", err, many)
	}
	got := manifests(t, many)
	var kinds []string
	for kind := range got {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	if want := "ConfigMap NetworkPolicy PodDisruptionBudget Service ServiceAccount StatefulSet"; strings.Join(kinds, " ") != want {
		t.Errorf("%q, want %s", kinds, want)
	}
	if manifests(t, one)["PodDisruptionBudget"] != nil {
		t.Error("a budget for one pod stops every drain of its machine")
	}
	for _, want := range []string{
		"readOnlyRootFilesystem: true", "runAsNonRoot: true", "drop: [ALL]", "allowPrivilegeEscalation: false", "type: RuntimeDefault",
		"automountServiceAccountToken: false", "path: /readyz", "path: /livez", "path: secrets/database",
	} {
		if !strings.Contains(many, want) {
			t.Errorf("%s is missing", want)
		}
	}
	// The config of the chart is one the gateway takes, where the chart puts it.
	for rendered, secrets := range map[string][]string{one: {"admin-token"}, many: {"admin-token", "database", "shared", "house"}} {
		data, _ := manifests(t, rendered)["ConfigMap"]["data"].(map[string]any)
		text, _ := data["gatehouse.yaml"].(string)
		files := map[string]string{"gatehouse.yaml": text + deployAPIs, "openapi.yaml": deployDocument}
		for _, name := range secrets {
			files["secrets/"+name] = "s3cret-of-the-operator, and long enough\n"
		}
		deployCheck(t, files)
	}
}

func TestTheComposeFilesConfigIsOneTheGatewayTakes(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"apis/orders.yaml": strings.ReplaceAll(deployAPIs, "./openapi.yaml", "../openapi.yaml"), "openapi.yaml": deployDocument}
	for _, name := range []string{"setup.sh", "gatehouse.yaml", "compose.yaml"} {
		b, err := os.ReadFile(filepath.Join("deploy/compose", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setup := func() ([]byte, error) {
		return exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "setup.sh")).CombinedOutput()
	}
	if out, err := setup(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := setup(); err == nil {
		t.Errorf("secrets that are there are made anew\n%s", out)
	}
	secrets, err := filepath.Glob(filepath.Join(dir, "secrets/node/*"))
	if err != nil || len(secrets) == 0 {
		t.Fatal(secrets, err)
	}
	for _, name := range secrets { // where compose.yaml puts them
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files["secrets/"+filepath.Base(name)] = string(b)
	}
	if !strings.Contains(files["compose.yaml"], "./secrets/node:/etc/gatehouse/secrets:ro") {
		t.Error("compose.yaml has the secrets elsewhere")
	}
	deployCheck(t, files)
}

// deployCheck has the program check these files, as if their folder were /etc/gatehouse.
func deployCheck(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		if strings.HasSuffix(name, ".yaml") {
			body = strings.NewReplacer("/etc/gatehouse", dir, "/var/lib/gatehouse", dir+"/data").Replace(body)
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(program, "gatehouse"), "check")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s\n%s", err, out, files["gatehouse.yaml"])
	}
}
