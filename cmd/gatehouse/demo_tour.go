package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// demoIssuer is iss of the demo's tokens: a name nobody can resolve, its keys
// are in a file.
const demoIssuer = "https://issuer.gatehouse.demo"

// demoConfig is the demo's gatehouse.yaml: short, and with one example of each
// thing a first reader looks for.
func demoConfig(address, admin, service, issuer string) string {
	return fmt.Sprintf(`gatehouse: 1
environment: demo
data: ./data
listeners:
  - address: %q
    tls: {self: [localhost, 127.0.0.1, "::1"]}
    client_certificates: {mode: optional, ca: ./data/ca/ca.pem}
admin: {address: %q, api: {base: /gatehouse/v1}}

oauth:
  issuer: %s
  scopes:
    "orders:read": See orders and customers.
  look: {name: Gatehouse demo}
issuers:
  demo:
    issuer: %s
    audience: orders
    jwks: ./issuer/jwks.json
    claims: {roles: [string]}
client_certificates:
  subjects:
    "spiffe://gatehouse.demo/partner": {roles: [reader]}

roles:
  reader: [orders:read]
  customer: [orders:create, customers:read, customers:write, orders:print]
  support: {inherits: [reader], grants: [orders:refund, orders:print, customers:any, customers:read]}
  manager: {inherits: [support], grants: [orders:any, admin:export]}
  operator: {inherits: [reader], grants: [gatehouse.users:read, gatehouse.users:write, gatehouse.clients:read]}
waf: {paranoia: 2, leaks: enforce, deeper: enforce}
guardrails:
  - id: known-roles
    deny: '!principal.anonymous && size(principal.roles) == 0'
    because: A caller without any role of ours has no business here.

apis:
  orders:
    openapi: ./orders.openapi.yaml
    upstreams: [%s]
    responses: report
    limits:
      - {id: burst, per: address, rate: 100/s, burst: 200}
      - {id: user, per: principal, rate: 900/min, burst: 300}
    operations:
      health: {public: true}
      greet: {public: true}
      listOrders: {grant: orders:read}
      orderEvents: {grant: orders:read}
      getOrder: {grant: orders:read}
      createOrder:
        grant: orders:create
        require:
          own-order: body.customer_id == principal.subject || grant("orders:any")
      refundOrder:
        grant: orders:refund
        require:
          amount: body.amount <= 500 || role("manager")
        limits:
          - {id: refunds, per: principal, rate: 5/min}
      getCustomer:
        grant: customers:read
        own: {path.customerId: claims.sub}
        unless: customers:any
        responses: enforce
      updateCustomer: {grant: customers:write, own: {path.customerId: claims.sub}}
      listCustomerOrders: {grant: customers:read, own: {path.customerId: claims.sub}, unless: customers:any}
      pingHost: {closed: true}
      exportAll: {grant: admin:export, responses: enforce}
  shop:
    openapi: ./shop.openapi.yaml
    upstreams: [%s]
    authenticate: {oauth2: demo}
    limits:
      - {id: shop, per: principal, rate: 900/min, burst: 300}
    operations:
      searchOrders: {grant: orders:read}
      importOrder: {grant: orders:create}
      orderReceipt: {grant: orders:print}
      login:
        grant: orders:read
        limits:
          - {id: logins, per: address, rate: 30/min, burst: 10}
      getMe: {grant: customers:read}
      changeEmail: {grant: customers:write}
      findPeople: {grant: orders:read}
      showDocument: {grant: orders:read}
      goTo: {grant: orders:read}
      previewReview: {grant: customers:read}
      printLabel: {grant: orders:print}
      writeLetter: {grant: orders:print}

tests:
  - {name: alice sees her own orders, as: {subject: alice, roles: [customer], scopes: [orders:read]}, call: orders.listCustomerOrders, path: {customerId: alice}, expect: allow}
  - {name: alice does not see bob's orders, as: {subject: alice, roles: [customer], scopes: [orders:read]}, call: orders.listCustomerOrders, path: {customerId: bob}, expect: deny}
  - name: support refunds 500
    as: {subject: sam, roles: [support], scopes: [orders:refund]}
    call: orders.refundOrder
    path: {orderId: ord_1001}
    body: {amount: 500, reason: late}
    expect: allow
  - name: support does not refund 501
    as: {subject: sam, roles: [support], scopes: [orders:refund]}
    call: orders.refundOrder
    path: {orderId: ord_1001}
    body: {amount: 501, reason: late}
    expect: deny
    rule: amount
  - {name: nobody exports, call: orders.exportAll, expect: 401}
`, address, admin, issuer, demoIssuer, service, service)
}

// A tourStep is one thing the tour shows.
type tourStep struct {
	title string
	lines []tourLine
}

// A tourLine is a command that can be pasted, and what comes of it. TestDemoTour
// runs what is printed and holds the answer to what is printed.
type tourLine struct {
	command string
	want    string // the status, then texts the answer has, each after a comma
	note    string
}

// tourSteps are written for the demo's folder as the working folder, which keeps
// them short enough to read.
func tourSteps(gate, bare, admin, program string) []tourStep {
	const (
		asJSON = " -H 'Content-Type: application/json' -d "
		refund = asJSON + `'{"amount":700,"reason":"late"}' `
	)
	ask := "curl --cacert ca.pem "
	as := func(name string) string { return ask + "-H @" + name + ".header" }
	// A program's secret and its token stay in files: a command line is for all to see.
	tokenFor := func(client, more string) string {
		return ask + "-K " + client + ".curl -d grant_type=client_credentials" + more + " " + gate + `/token | sed 's/.*"access_token":"\([^"]*\)".*/Authorization: Bearer \1/' > ` + client + ".header"
	}
	return []tourStep{
		{"Nobody gets in by default", []tourLine{
			{"curl " + bare + "/admin/export", "200, password_hash", "the bare API gives everything away"},
			{ask + gate + "/admin/export", "401, credentials_missing", ""},
		}},
		{"A token with the right scope and role does", []tourLine{
			{as("sam") + " '" + gate + "/orders?status=open&limit=2'", `200, "count":2`, ""},
		}},
		{"SQL injection: the API builds its SQL from strings", []tourLine{
			{"curl '" + bare + "/orders?q=%27%20OR%20%271%27=%271'", `200, "count":8`, "every order there is"},
			{as("sam") + " '" + gate + "/orders?q=%27%20OR%20%271%27=%271'", "422, invalid_query", "the document says what q may look like"},
		}},
		{"Object-level access (OWASP API1): alice asks for bob", []tourLine{
			{"curl " + bare + "/customers/bob", "200, card_number", ""},
			{as("alice") + " " + gate + "/customers/bob", "403, forbidden", ""},
		}},
		{"Mass assignment: alice makes herself an admin", []tourLine{
			{"curl -X PATCH" + asJSON + `'{"role":"admin"}' ` + bare + "/customers/alice", `200, "role":"admin"`, "done"},
			{as("alice") + " -X PATCH" + asJSON + `'{"role":"admin"}' ` + gate + "/customers/alice", "422, invalid_body", "the document has no role to set"},
		}},
		{"Leaks: what the document does not promise is withheld", []tourLine{
			{"curl " + bare + "/customers/alice", "200, password_hash", ""},
			{as("alice") + " " + gate + "/customers/alice", "502, bad_response", "responses: enforce"},
		}},
		{"Cross-site scripting: the API reflects HTML", []tourLine{
			{"curl '" + bare + "/greet?name=%3Cscript%3E'", "200, <script>", ""},
			{ask + "'" + gate + "/greet?name=%3Cscript%3E'", "422, invalid_query", ""},
		}},
		{"A shell-out nobody needs: closed at the gateway", []tourLine{
			{"curl" + asJSON + `'{"host":"x; id"}' ` + bare + "/tools/ping", "200, uid=", ""},
			{as("mia") + asJSON + `'{"host":"x; id"}' ` + gate + "/tools/ping", "404, operation_not_found", ""},
		}},
		{"A rule on the body: support refunds up to 500, a manager more", []tourLine{
			{as("sam") + refund + gate + "/orders/ord_1001/refunds", "403, forbidden", ""},
			{as("mia") + refund + gate + "/orders/ord_1001/refunds", `201, "amount":700`, ""},
		}},
		{"Two readings of one body", []tourLine{
			{as("sam") + asJSON + `'{"amount":5,"amount":9999,"reason":"late"}' ` + gate + "/orders/ord_1001/refunds", "400, duplicate_key", ""},
		}},
		{"An API key, and a client certificate", []tourLine{
			{as("partner") + " '" + gate + "/orders?limit=1'", `200, "count":1`, ""},
			{ask + "--cert partner.pem '" + gate + "/orders?limit=1'", `200, "count":1`, ""},
		}},
		{"Where do tokens come from? Any client finds out from a refusal", []tourLine{
			{ask + "-i " + gate + "/orders", "401, resource_metadata", ""},
			{ask + gate + "/.well-known/oauth-protected-resource", `200, "` + gate + `"]`, "RFC 9728: the authorization servers of this API"},
			{ask + gate + "/.well-known/oauth-authorization-server", `200, "token_endpoint":"` + gate + `/token"`, "RFC 8414"},
		}},
		{"A program gets a token, uses it and gives it back: refused within a second, though it is a JWT", []tourLine{
			{tokenFor("robot", ""), "200", "client credentials"},
			{as("robot") + " '" + gate + "/orders?limit=1'", `200, "count":1`, ""},
			{"sed 's/.* /token=/' robot.header | " + ask + "-K robot.curl -d @- " + gate + "/revoke", "200", ""},
			{"sleep 1; " + as("robot") + " '" + gate + "/orders?limit=1'", "401, token_revoked", ""},
		}},
		{"A device without a keyboard: open the URI it shows, sign in as alice, connect it", []tourLine{
			{ask + "-o device.json -d client_id=television -d 'scope=openid profile orders:read' " + gate + "/device_authorization && cat device.json", `200, "verification_uri_complete":"` + gate + `/device?user_code=`, ""},
			{
				ask + "-d grant_type=urn:ietf:params:oauth:grant-type:device_code -d client_id=television" +
					` -d "device_code=$(sed 's/.*"device_code":"\([^"]*\)".*/\1/' device.json)" ` + gate + "/token",
				"400, authorization_pending", "once alice has said yes: 200 and her tokens",
			},
		}},
		{"The house has an API of its own, behind the same gateway: who is here?", []tourLine{
			{tokenFor("console", " -d resource="+gate+"/gatehouse/v1"), "200", "its role is operator"},
			{as("console") + " " + gate + "/gatehouse/v1/users", `200, "name":"alice"`, ""},
			{program + " users sessions alice", "ID", "the same at the command line: where alice is signed in"},
		}},
		{"A limit: five refunds a minute", []tourLine{
			{
				as("tom") + asJSON + `'{"amount":1,"reason":"late"}' -o /dev/null -w '%{http_code} ' '` + gate + "/orders/ord_100[1-7]/refunds'",
				"201 201 201 201 201 429 429", "",
			},
		}},
		{"Why? Only the operator learns which rule, what it saw and what it needed", []tourLine{
			{
				"curl -s --cacert ca.pem -H @alice.header " + gate + "/customers/bob | " + program + " explain -",
				`refused: forbidden, claims.sub = "alice"`, "",
			},
		}},
		{"Who may do what: every role, every operation", []tourLine{
			{program + " access-matrix", "allow-if", ""},
		}},
		{"What was refused, for the graphs", []tourLine{
			{"curl -s " + admin + "/metrics | grep refused", `reason="credentials_missing"`, ""},
		}},
	}
}

// tour prints what to try. What comes of a line is a comment on a line of its
// own: zsh does not take comments behind a command.
func tour(std stdio, dir, gate, bare, admin string, people []demoPerson) {
	gate = "https://localhost:" + portOf(gate)
	say(std.out, "\n%s\n", paint(std, bold, "Gatehouse demo"))
	say(std.out, "  gateway   %s\n", gate)
	say(std.out, "  bare API  %s, careless on purpose\n", bare)
	say(std.out, "  health    %s/healthz\n", admin)
	say(std.out, "  config    %s\n", filepath.Join(dir, "gatehouse.yaml"))
	for i, u := range demoUsers {
		lead := "          "
		if i == 0 {
			lead = "callers   "
		}
		say(std.out, "  %s%-8s%s\n", lead, u.name, u.about)
	}
	say(std.out, "            %-8s%s\n", "partner", "a company with an API key and a certificate")
	for i, p := range people {
		lead := "          "
		if i == 0 {
			lead = "sign in   "
		}
		say(std.out, "  %s%-8s%s, %s\n", lead, p.name, p.password, p.role)
	}
	say(std.out, "            at %s/account; no browser knows its certificate\n", gate)
	say(std.out, "\nIn another terminal, first:\n  cd %s\n", shellWord(dir))
	for i, step := range tourSteps(gate, bare, admin, program()) {
		say(std.out, "\n%s\n", paint(std, bold, fmt.Sprintf("%d. %s", i+1, step.title)))
		for _, l := range step.lines {
			outcome := "# " + l.want
			if l.note != "" {
				outcome += " (" + l.note + ")"
			}
			say(std.out, "  %s\n  %s\n", l.command, paint(std, dim, outcome))
		}
	}
	say(std.out, "\nAll of it as an attacker would, bare and through the gateway, with a table of what was stopped by what:\n  %s attack\n", program())
	say(std.out, "\nChange the config while it runs: it is checked, tested and taken, or refused here.\nCtrl-C ends it.\n")
}

// program is how a shell calls this program: its name where PATH leads to it,
// and its path elsewhere.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "gatehouse"
	}
	if found, err := exec.LookPath("gatehouse"); err == nil {
		a, errA := os.Stat(self)
		b, errB := os.Stat(found)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return "gatehouse"
		}
	}
	return shellWord(self)
}

// shellWord quotes s for a shell, where it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
