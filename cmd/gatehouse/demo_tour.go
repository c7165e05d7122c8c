package main

import (
	"fmt"
	"path/filepath"
)

// demoIssuer is iss of the demo's tokens: a name nobody can resolve, its keys
// are in a file.
const demoIssuer = "https://issuer.gatehouse.demo"

// demoConfig is the demo's gatehouse.yaml: short, and with one example of each
// thing a first reader looks for.
func demoConfig(address, admin, service string) string {
	return fmt.Sprintf(`gatehouse: 1
environment: demo
data: ./data
listeners:
  - address: %q
    tls: {self: [localhost, 127.0.0.1, "::1"]}
    client_certificates: {mode: optional, ca: ./data/ca/ca.pem}
admin: {address: %q}

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
  customer: [orders:create, customers:read, customers:write]
  support: {inherits: [reader], grants: [orders:refund, customers:any, customers:read]}
  manager: {inherits: [support], grants: [orders:any, admin:export]}
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
      - {id: user, per: principal, rate: 300/min, burst: 60}
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
      getCustomer: {grant: customers:read, own: {path.customerId: claims.sub}, unless: customers:any}
      updateCustomer: {grant: customers:write, own: {path.customerId: claims.sub}}
      listCustomerOrders: {grant: customers:read, own: {path.customerId: claims.sub}, unless: customers:any}
      pingHost: {closed: true}
      exportAll: {grant: admin:export, responses: enforce}

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
`, address, admin, demoIssuer, service)
}

// tour prints what to try. Each pair shows the bare API, then the gateway.
func tour(std stdio, dir, gate, bare, admin string) {
	ca := filepath.Join(dir, "data", "ca", "ca.pem")
	gate = "https://localhost:" + portOf(gate)
	curl := "curl -s --cacert " + ca
	as := func(name string) string { return " -H @" + filepath.Join(dir, name+".header") }
	say(std.out, "\n%s\n", paint(std, bold, "Gatehouse demo"))
	say(std.out, "  the gateway  %s   (trust: --cacert %s)\n", gate, ca)
	say(std.out, "  the bare API %s   (careless on purpose)\n", bare)
	say(std.out, "  health       %s/healthz\n", admin)
	say(std.out, "  everything   %s\n", dir)
	say(std.out, "  callers      ")
	for _, u := range demoUsers {
		say(std.out, "%s (%s)  ", u.name, u.about)
	}
	say(std.out, "\n")
	for i, step := range []struct{ title, bare, gated string }{
		{
			"Nobody gets in; what the document does not name is not there",
			"curl -s " + bare + "/admin/export", curl + " -i " + gate + "/admin/export",
		},
		{"Support reads orders with a token", "", curl + as("sam") + " '" + gate + "/orders?status=open&limit=2'"},
		{
			"SQL injection: the API builds its SQL from strings",
			"curl -s \"" + bare + "/orders?q=%27%20OR%20%271%27=%271\"", curl + as("sam") + " \"" + gate + "/orders?q=%27%20OR%20%271%27=%271\"",
		},
		{
			"Object-level access: alice asks for bob",
			"curl -s " + bare + "/customers/bob", curl + as("alice") + " " + gate + "/customers/bob",
		},
		{
			"Mass assignment: alice makes herself an admin",
			"curl -s -X PATCH -H 'Content-Type: application/json' -d '{\"role\":\"admin\"}' " + bare + "/customers/alice",
			curl + as("alice") + " -X PATCH -H 'Content-Type: application/json' -d '{\"role\":\"admin\"}' " + gate + "/customers/alice",
		},
		{
			"Cross-site scripting: the API reflects HTML",
			"curl -s '" + bare + "/greet?name=%3Cscript%3Ealert(1)%3C/script%3E'", curl + " '" + gate + "/greet?name=%3Cscript%3Ealert(1)%3C/script%3E'",
		},
		{
			"A shell-out nobody needs: closed at the gateway",
			"curl -s -H 'Content-Type: application/json' -d '{\"host\":\"x; id\"}' " + bare + "/tools/ping",
			curl + as("mia") + " -H 'Content-Type: application/json' -d '{\"host\":\"x; id\"}' " + gate + "/tools/ping",
		},
		{
			"A rule on the body: support refunds up to 500, a manager more", "",
			curl + as("sam") + " -H 'Content-Type: application/json' -d '{\"amount\":700,\"reason\":\"late\"}' " + gate + "/orders/ord_1001/refunds\n     " +
				curl + as("mia") + " -H 'Content-Type: application/json' -d '{\"amount\":700,\"reason\":\"late\"}' " + gate + "/orders/ord_1001/refunds",
		},
		{"Two readings of one body: refused", "", curl + as("sam") + " -H 'Content-Type: application/json' -d '{\"amount\":5,\"amount\":9999,\"reason\":\"late\"}' " + gate + "/orders/ord_1001/refunds"},
		{"An API key, and a client certificate", "", curl + as("partner") + " '" + gate + "/orders?limit=1'\n     " + curl + " --cert " + filepath.Join(dir, "partner.pem") + " '" + gate + "/orders?limit=1'"},
		{"A limit: five refunds a minute", "", "for i in 1 2 3 4 5 6 7; do " + curl + as("mia") + " -o /dev/null -w '%{http_code}\\n' -H 'Content-Type: application/json' -d '{\"amount\":1,\"reason\":\"late\"}' " + gate + "/orders/ord_1002/refunds; done"},
		{
			"Why? Every answer names its decision; only the operator sees the reasons", "",
			curl + as("alice") + " " + gate + "/customers/bob | sed 's/.*\"decision\":\"\\([^\"]*\\)\".*/\\1/' | xargs gatehouse explain --config " + filepath.Join(dir, "gatehouse.yaml"),
		},
		{"Who may do what", "", "gatehouse access-matrix --config " + filepath.Join(dir, "gatehouse.yaml")},
	} {
		say(std.out, "\n%s\n", paint(std, bold, fmt.Sprintf("%2d. %s", i+1, step.title)))
		if step.bare != "" {
			say(std.out, "  %s  %s\n", paint(std, red, "bare"), step.bare)
			say(std.out, "  %s  %s\n", paint(std, green, "gate"), step.gated)
		} else {
			say(std.out, "     %s\n", step.gated)
		}
	}
	say(std.out, "\nCtrl-C ends it.\n")
}
