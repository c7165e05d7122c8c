package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// member is a site of a node of a fleet, whose database is the file at path.
func member(t *testing.T, path string) *site {
	t.Helper()
	s := fleetSite(t, path)
	s.write("gatehouse.yaml", s.config("\noauth: {issuer: \"https://localhost\"}\nfleet: {key: \"${file:fleet.key}\"}\n"))
	return s
}

// fleetSite has the key of a fleet and its database, and no config yet.
func fleetSite(t *testing.T, path string) *site {
	t.Helper()
	s := newSite(t, nil)
	s.write("fleet.key", strings.Repeat("not very random ", 4))
	if err := os.MkdirAll(filepath.Join(s.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(s.dir, "data", "gatehouse.db")); err != nil {
		t.Fatal(err)
	}
	return s
}

// named runs as a node of that name; m nil: of its own.
func named(name string, m *store.SharedMemory) func(*server.Options) {
	return func(o *server.Options) { o.Node = name; o.Share(m) }
}

func TestASecondNodeWithoutASharedEngineDoesNotStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	a := member(t, path)
	a.run(a.path(), named("a", nil))
	b := member(t, path)
	err := server.Run(t.Context(), server.Options{
		Config: b.path(), Node: "b", Log: slog.New(slog.DiscardHandler), Ready: func([]server.Bound) { t.Error("it serves") },
	})
	if err == nil || !strings.Contains(err.Error(), "`shared`") || !strings.Contains(err.Error(), fleet.ErrTaken.Error()) {
		t.Errorf("got %v", err)
	}
}

// The engine was away when they started, so it has told nobody of the others; the
// database has.
func TestAFleetStartedWithoutItsEngineDividesALimit(t *testing.T) {
	engine, path := &store.SharedMemory{}, filepath.Join(t.TempDir(), "house.db")
	engine.Break(errors.New("pulled the plug"))
	nodes := make([]*running, 2)
	for i := range nodes {
		s := member(t, path)
		text, err := os.ReadFile(s.path())
		if err != nil {
			t.Fatal(err)
		}
		s.write("gatehouse.yaml", strings.Replace(string(text), "health: {public: true}", "health: {public: true, limits: [{id: few, per: all, rate: 20/h}]}", 1))
		nodes[i] = s.run(s.path(), named(string(rune('a'+i)), engine))
	}
	until(t, "each node to know the other", 10*time.Second, func() bool {
		for _, n := range nodes {
			if status, _, body := fetch(t, "http://"+n.admin+"/metrics"); status != 200 || !strings.Contains(body, "\ngatehouse_nodes 2\n") {
				return false
			}
		}
		return true
	})
	got := 0
	for _, n := range nodes {
		for range 20 {
			if status, _, _ := fetch(t, n.url+"/health"); status == 200 {
				got++
			}
		}
	}
	if got != 20 {
		t.Errorf("%d of 20 are let through", got)
	}
}

func TestTwoNodesAreOneHouse(t *testing.T) {
	engine := &store.SharedMemory{}
	path := filepath.Join(t.TempDir(), "house.db")
	sa, sb := member(t, path), member(t, path)
	a, b := sa.run(sa.path(), named("a", engine)), sb.run(sb.path(), named("b", engine))
	ctx := t.Context()
	office := must[*server.Office](t)(server.OpenOffice(ctx, sa.path()))
	defer office.Close()
	secret, _, err := office.OAuth.CreateClient(ctx, "test", "robot", oauth.Metadata{GrantTypes: []string{"client_credentials"}, Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	becomes := func(what string, status int, ask func() int) {
		t.Helper()
		begun := time.Now()
		until(t, what, time.Second, func() bool { return ask() == status })
		t.Logf("%s: %d after %v", what, status, time.Since(begun).Round(time.Millisecond))
	}
	until(t, "b knows the client", 2*time.Second, func() bool { return b.robot(secret.Reveal(), "") != "" })

	// Keys: what one node signs the other takes at once, also after a rotation.
	for range 2 {
		for _, pair := range [][2]*running{{a, b}, {b, a}} {
			tok := pair[0].robot(secret.Reveal(), "")
			if got := pair[1].orders("Bearer "+tok, ""); got != 200 {
				t.Fatalf("a token of the other node: %d", got)
			}
		}
		if err := office.RotateSigningKeys(ctx, "os:me"); err != nil {
			t.Fatal(err)
		}
	}

	// Proofs: used at one node, used at all.
	bound := a.robot(secret.Reveal(), proofOf(t, key, "POST", "https://localhost/token", ""))
	proof := proofOf(t, key, "GET", "http://localhost/orders", bound)
	if got := a.orders("DPoP "+bound, proof); got != 200 {
		t.Fatalf("a proof: %d", got)
	}
	for _, r := range []*running{b, a} {
		if got := r.orders("DPoP "+bound, proof); got != 401 {
			t.Errorf("the proof again at node %s: %d", r.health().Node, got)
		}
	}

	// The engine is away: no proof is taken anywhere, everything else works.
	plain := "Bearer " + a.robot(secret.Reveal(), "")
	fresh := func() string { return proofOf(t, key, "GET", "http://localhost/orders", bound) }
	engine.Break(errors.New("no route"))
	if got := a.orders("DPoP "+bound, fresh()); got != 503 {
		t.Errorf("a proof while the engine is away: %d", got)
	}
	if got := a.robot(secret.Reveal(), proofOf(t, key, "POST", "https://localhost/token", "")); got != "" {
		t.Error("the token endpoint takes a proof while the engine is away")
	}
	if got := b.orders(plain, ""); got != 200 {
		t.Errorf("a token without proof while the engine is away: %d", got)
	}
	engine.Break(nil)
	if got := b.orders("DPoP "+bound, fresh()); got != 200 {
		t.Errorf("a proof after the outage: %d", got)
	}

	// Revocations and keys of APIs.
	ring := must[*server.KeyRing](t)(server.OpenKeyRing(ctx, sb.path()))
	defer ring.Close()
	apiKey, made, err := ring.Create(ctx, "test", authn.NewKey{Owner: "me", Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	withKey := func() int {
		status, _, _ := fetch(t, a.url+"/orders", "X-API-Key", apiKey.Reveal())
		return status
	}
	becomes("an API key of b at a", 200, withKey)
	if err := ring.Revoke(ctx, "test", made.ID); err != nil {
		t.Fatal(err)
	}
	becomes("it was revoked at b", 401, withKey)
	tok := a.robot(secret.Reveal(), "")
	if err := office.Revoke(ctx, "test", "client", "robot"); err != nil {
		t.Fatal(err)
	}
	becomes("a token revoked at a", 401, func() int { return b.orders("Bearer "+tok, "") })

	// Who they are.
	until(t, "both nodes are seen, one of them leads", 10*time.Second, func() bool {
		nodes, err := server.FleetNodes(ctx, sb.path())
		if err != nil {
			t.Fatal(err)
		}
		leaders := 0
		for _, n := range nodes {
			if n.Leads {
				leaders++
			}
		}
		return len(nodes) == 2 && leaders == 1 && nodes[0].Alive && nodes[1].Alive && nodes[0].Version == "v0"
	})
}

// robot gets a token for the orders as the client of that name, "" when refused.
func (r *running) robot(secret, proof string) string {
	r.t.Helper()
	q := must[*http.Request](r.t)(http.NewRequestWithContext(r.t.Context(), "POST", r.url+"/token",
		strings.NewReader("grant_type=client_credentials&resource="+url.QueryEscape("https://localhost/"))))
	q.Host = "localhost"
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.SetBasicAuth("robot", secret)
	if proof != "" {
		q.Header.Set("DPoP", proof)
	}
	res := must[*http.Response](r.t)(http.DefaultTransport.RoundTrip(q))
	defer res.Body.Close()
	var a struct {
		Token string `json:"access_token"`
	}
	b := must[[]byte](r.t)(io.ReadAll(res.Body))
	if err := json.Unmarshal(b, &a); err != nil {
		r.t.Fatalf("%d %s", res.StatusCode, b)
	}
	return a.Token
}

// orders asks for the orders and returns the status.
func (r *running) orders(authorization, proof string) int {
	r.t.Helper()
	q := must[*http.Request](r.t)(http.NewRequestWithContext(r.t.Context(), "GET", r.url+"/orders", http.NoBody))
	q.Host = "localhost"
	q.Header.Set("Authorization", authorization)
	if proof != "" {
		q.Header.Set("DPoP", proof)
	}
	res := must[*http.Response](r.t)(http.DefaultTransport.RoundTrip(q))
	defer res.Body.Close()
	return res.StatusCode
}

// proofOf is a DPoP proof (RFC 9449 §4.2).
func proofOf(t *testing.T, key *ecdsa.PrivateKey, method, target, accessToken string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	public := must[[]byte](t)(key.PublicKey.Bytes())
	header := must[string](t)(jsonOf(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]string{
		"kty": "EC", "crv": "P-256", "x": b64(public[1:33]), "y": b64(public[33:]),
	}}))
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims["ath"] = b64(sum[:])
	}
	text := b64([]byte(header)) + "." + b64([]byte(must[string](t)(jsonOf(claims))))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + b64(sig[:])
}
