package ddos_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

// browserScript is as much of a browser as the page's script asks for.
const browserScript = `
const fs = require("fs"), html = fs.readFileSync(process.argv[2], "utf8");
const element = {}; let cookie = "";
globalThis.document = { getElementById: () => element, get cookie() { return cookie }, set cookie(v) { cookie = v } };
globalThis.sessionStorage = { getItem: () => null, setItem() {} };
globalThis.location = { reload() { console.log(cookie) } };
eval(html.split(/<script[^>]*>/)[1].split("</script>")[0]);
`

func TestThePagesScriptSolvesTheChallenge(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node")
	}
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	g.Configure(ddos.Settings{Difficulty: 12})
	a := netip.MustParseAddr("203.0.113.9")
	page, _ := ddos.ChallengePage(ddos.PageOf{Challenge: g.Challenge(a, ddos.Verdict{}, time.Now()), Secure: true, Repeat: true, Decision: "<b>"})
	if strings.Contains(string(page), "<b>") {
		t.Error("what it shows is not escaped")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"page.html": string(page), "browser.js": browserScript} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), node, filepath.Join(dir, "browser.js"), filepath.Join(dir, "page.html")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cookie, attributes, _ := strings.Cut(strings.TrimSpace(string(out)), "; ")
	pass, ok := strings.CutPrefix(cookie, "__Host-gatehouse-pass=")
	if !ok || !strings.Contains(attributes, "Secure") || !strings.Contains(attributes, "Path=/") {
		t.Errorf("it sets %s", out)
	}
	if err := g.CheckPass(pass, a, time.Now()); err != nil {
		t.Errorf("%s: %v", pass, err)
	}
	if page, _ := ddos.ChallengePage(ddos.PageOf{Challenge: "</script>"}); page != nil {
		t.Error("a page for what is no challenge")
	}
}
