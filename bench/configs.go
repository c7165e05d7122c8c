package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// nginxHead begins both configs: the service's with one worker, the proxy's with two.
const nginxHead = `worker_processes %[2]d; worker_rlimit_nofile 20000; daemon off; pid %[1]s/%[3]s.pid; error_log %[1]s/%[3]s.err;
events { worker_connections 16384; }
http {
	access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 32m;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
`

// serviceConf is the service behind all: one worker that answers 802 bytes, has
// files, and reads what is sent to it before it answers.
func serviceConf(dir string, port int) string {
	answer := `{"id":"9b2f","name":"Ada Lovelace","email":"ada@example.org","roles":["reader","editor"],"note":"`
	answer += strings.Repeat("x", 802-len(answer)-2) + `"}`
	return fmt.Sprintf(nginxHead+`	default_type application/json;
	upstream itself { server 127.0.0.1:%[4]d; keepalive 64; keepalive_requests 100000000; }
	server {
		listen 127.0.0.1:%[4]d;
		sendfile on; tcp_nopush on; open_file_cache max=10;
		location / { return 200 '%[5]s'; }
		location /v1/files/ {
			default_type application/octet-stream;
			root %[1]s;
			if ($request_method = POST) { rewrite ^ /received last; }
		}
		location /received { # nginx reads a body only to pass it on: here to itself, without it
			client_body_buffer_size 11m; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header Connection "";
			proxy_http_version 1.1; proxy_method GET; proxy_pass http://itself/;
		}
	}
}
`, dir, 1, "up", port, answer)
}

func nginxConf(s *stage, plain, secure int) string {
	return fmt.Sprintf(nginxHead+`	upstream u { server 127.0.0.1:%[4]d; keepalive 512; keepalive_requests 100000000; }
	server {
		listen 127.0.0.1:%[5]d;
		listen 127.0.0.1:%[6]d ssl;
		ssl_certificate %[7]s; ssl_certificate_key %[8]s; ssl_protocols TLSv1.3;
		location / {
			proxy_pass http://u; proxy_http_version 1.1;
			proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 8 32k; proxy_busy_buffers_size 64k; # no files, large reads
			proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
		}
	}
}
`, s.dir, 2, "px", s.service, plain, secure, s.cert, s.key)
}

func haproxyConf(s *stage, plain, secure int) string {
	return fmt.Sprintf(`global
 nbthread 2
 no strict-limits
 maxconn 12000
defaults
 mode http
 timeout client 600s
 timeout server 60s
 timeout connect 5s
 option http-keep-alive
 http-reuse always
frontend f
 maxconn 12000
 bind 127.0.0.1:%d backlog 4096
 bind 127.0.0.1:%d backlog 4096 ssl crt %s/both.pem ssl-min-ver TLSv1.3 alpn http/1.1
 option forwardfor
 default_backend b
backend b
 server s 127.0.0.1:%d pool-max-conn 1024
`, plain, secure, s.dir, s.service)
}

func caddyConf(s *stage, plain, secure int) string {
	return fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
	default_sni localhost
	servers {
		protocols h1 h2
		timeouts {
			idle 10m
		}
	}
}
http://:%[1]d {
	bind 127.0.0.1
	reverse_proxy 127.0.0.1:%[3]d
}
https://:%[2]d {
	bind 127.0.0.1
	tls %[4]s %[5]s {
		protocols tls1.3
	}
	reverse_proxy 127.0.0.1:%[3]d
}
`, plain, secure, s.service, s.cert, s.key)
}

// traefikConf is both of Traefik's files in one: it reads itself for the routes.
func traefikConf(s *stage, plain, secure int) string {
	return fmt.Sprintf(`global: {checkNewVersion: false, sendAnonymousUsage: false}
log: {level: ERROR}
entryPoints:
  web: {address: "127.0.0.1:%[1]d", transport: {keepAliveMaxRequests: 0, respondingTimeouts: {idleTimeout: 10m}}}
  websecure: {address: "127.0.0.1:%[2]d", transport: {keepAliveMaxRequests: 0, respondingTimeouts: {idleTimeout: 10m}}}
providers: {file: {filename: %[6]s/traefik.yaml, watch: false}}
http:
  routers:
    plain: {rule: "PathPrefix(`+"`/`"+`)", service: u, entryPoints: [web]}
    secure: {rule: "PathPrefix(`+"`/`"+`)", service: u, entryPoints: [websecure], tls: {options: modern}}
  services: {u: {loadBalancer: {passHostHeader: true, servers: [{url: "http://127.0.0.1:%[3]d"}]}}}
tls:
  options: {modern: {minVersion: VersionTLS13}}
  certificates: [{certFile: %[4]s, keyFile: %[5]s}]
  stores: {default: {defaultCertificate: {certFile: %[4]s, keyFile: %[5]s}}}
`, plain, secure, s.service, s.cert, s.key, s.dir)
}

// krakendConf has the endpoints of the tables passed on as they are; it listens
// either with TLS or without, so it is not in the tables of TLS.
func krakendConf(s *stage, plain, _ int) string {
	var endpoints []string
	for _, e := range []struct{ method, path string }{{"GET", "/v1/customers/{a}"}, {"POST", "/v1/customers/{a}"}, {"GET", "/v1/files/{a}"}, {"POST", "/v1/files/{a}"}} {
		endpoints = append(endpoints, fmt.Sprintf(`{"endpoint":%[1]q,"method":%[2]q,"output_encoding":"no-op","input_headers":["*"],"input_query_strings":["*"],`+
			`"backend":[{"url_pattern":%[1]q,"method":%[2]q,"encoding":"no-op","host":["http://127.0.0.1:%[3]d"]}]}`, e.path, e.method, s.service))
	}
	return fmt.Sprintf(`{"version":3,"listen_ip":"127.0.0.1","port":%d,"timeout":"30s","idle_timeout":"10m","max_idle_connections_per_host":512,"endpoints":[%s]}`,
		plain, strings.Join(endpoints, ","))
}

const postLua = `wrk.method="POST"
wrk.body='{"id":"9b2f","name":"Ada Lovelace","email":"ada@example.org","roles":["reader","editor"],"address":{"street":"12 St James Square","city":"London","zip":"SW1Y 4JH","country":"GB"},"orders":[{"id":1001,"total":"12.50","currency":"GBP","items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}]},{"id":1002,"total":"99.00","currency":"GBP","items":[{"sku":"C-3","qty":5}]}],"preferences":{"newsletter":true,"theme":"dark","language":"en-GB"},"created_at":"2024-01-01T00:00:00Z"}'
wrk.headers["Content-Type"]="application/json"
`

// The Gatehouses that are compared.
const (
	full   = "full"   // every check
	quiet  = "quiet"  // without rules for content
	public = "public" // an operation for anyone
)

// A house is a Gatehouse to be furnished.
type house struct {
	home              string
	kind              string
	plain, tls, admin int // ports
	service           int
	cert, key         string
	idle              time.Duration // until a silent caller is let go
	extra             string        // more settings of the API, indented by four
	limits            string        // of the listeners; "": none that a load could meet
	each              string        // rate of one address; "": more than a load asks for
	top               string        // more settings of the house
}

// furnish writes what a Gatehouse needs into its home and returns a token it takes.
func (h *house) furnish() (string, error) {
	if err := os.MkdirAll(h.home, 0o700); err != nil {
		return "", err
	}
	signer, err := token.NewSigner(token.ES256)
	if err != nil {
		return "", err
	}
	now := time.Now()
	raw, err := signer.AccessToken(&token.AccessToken{
		Issuer: "https://issuer.bench", Subject: "42", Audience: "customers", ClientID: "bench", Scopes: []string{"customers:read", "customers:write"},
		Roles: []string{"support"}, Tenant: strings.Repeat("t", 120), IssuedAt: now, Expires: now.Add(12 * time.Hour),
	})
	if err != nil {
		return "", err
	}
	access, security := "{grant: customers:use, own: {path.customerId: claims.sub}, require: {limit: 'query.limit <= 50'}}", "[{oauth2: [customers:read]}]"
	bodyAccess, anyAccess := "{grant: customers:use, require: {country: 'body.address.country != \"XX\"'}}", "{grant: customers:use}"
	guardrails := "guardrails:\n  - {id: tenant, deny: 'principal.tenant == \"suspended\"', because: Suspended}\n"
	if h.kind == public {
		access, bodyAccess, anyAccess, security, guardrails = "{public: true}", "{public: true}", "{public: true}", "[]", ""
	}
	limits, each := cmp.Or(h.limits, "{connections: 20000, connections_per_address: 20000}"), cmp.Or(h.each, "rate: 1000000/s, burst: 1000000")
	config := fmt.Sprintf(`gatehouse: 1
data: ./data
events: {rotate: 16MiB, keep: 4}
listeners:
  - {address: "127.0.0.1:%[1]d", plaintext: a benchmark on loopback, timeouts: {idle: %[5]s}, limits: %[14]s}
  - {address: "127.0.0.1:%[2]d", tls: {certificate: %[6]q, key: %[7]q}, timeouts: {idle: %[5]s}, limits: %[14]s}
admin: {address: "127.0.0.1:%[3]d"}
issuers:
  bench: {issuer: https://issuer.bench, audience: customers, jwks: ./jwks.json, claims: {tenant: string}, tenant: tenant}
roles: {support: [customers:use]}
%[8]sapis:
  customers:
    openapi: ./openapi.yaml
    upstreams: ["http://127.0.0.1:%[4]d"]
    limits:
      - {id: address, per: address, %[15]s}
      - {id: user, per: principal, rate: 1000000/s, burst: 1000000}
%[9]s    operations:
      getCustomer: %[10]s
      updateCustomer: %[11]s
      getFile: %[12]s
      putFile: {%[13]s, max_body: 16MiB}
      search: %[12]s
      limited: {%[13]s, limits: [{id: few, per: principal, rate: 1/s}]}
      socket: {%[13]s, upgrade: websocket}
`, h.plain, h.tls, h.admin, h.service, h.idle, h.cert, h.key, guardrails, h.extra, access, bodyAccess, anyAccess, strings.Trim(anyAccess, "{}"), limits, each) + h.top
	if h.kind == quiet {
		config += "waf: {mode: \"off\", leaks: \"off\"}\n"
	}
	return raw, errors.Join(write(h.home, "gatehouse.yaml", config), write(h.home, "jwks.json", string(signer.JWKS())),
		write(h.home, "openapi.yaml", strings.ReplaceAll(openapi, "SECURITY", security)))
}

const openapi = `openapi: 3.1.0
info: {title: customers, version: "1"}
security: SECURITY
components:
  securitySchemes:
    oauth2: {type: oauth2, flows: {clientCredentials: {tokenUrl: https://issuer.bench/token, scopes: {customers:read: r}}}}
paths:
  /v1/customers/{customerId}:
    parameters:
      - {name: customerId, in: path, required: true, schema: {type: string, pattern: "^[0-9]{1,12}$"}}
      - {name: fields, in: query, explode: false, schema: {type: array, maxItems: 10, items: {type: string, pattern: "^[a-z_]{1,20}$"}}}
      - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
      - {name: X-Request-Id, in: header, schema: {type: string, pattern: "^[0-9a-f]{32}$"}}
    get:
      operationId: getCustomer
      responses: {"200": {description: ok}}
    post:
      operationId: updateCustomer
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              required: [id, name, email]
              properties:
                id: {type: string, maxLength: 32}
                name: {type: string, maxLength: 100}
                email: {type: string, format: email}
                roles: {type: array, items: {enum: [reader, editor, admin]}}
                address:
                  type: object
                  additionalProperties: false
                  properties: {street: {type: string, maxLength: 100}, city: {type: string, maxLength: 60}, zip: {type: string, maxLength: 12}, country: {type: string, pattern: "^[A-Z]{2}$"}}
                orders:
                  type: array
                  maxItems: 50
                  items:
                    type: object
                    additionalProperties: false
                    properties:
                      id: {type: integer}
                      total: {type: string, pattern: "^[0-9]+\\.[0-9]{2}$"}
                      currency: {enum: [GBP, EUR, USD]}
                      items: {type: array, items: {type: object, additionalProperties: false, properties: {sku: {type: string, maxLength: 20}, qty: {type: integer, minimum: 1}}}}
                preferences: {type: object, additionalProperties: false, properties: {newsletter: {type: boolean}, theme: {enum: [dark, light]}, language: {type: string, pattern: "^[a-z]{2}-[A-Z]{2}$"}}}
                created_at: {type: string, format: date-time}
      responses: {"200": {description: ok}}
  /v1/files/{name}:
    parameters:
      - {name: name, in: path, required: true, schema: {type: string, pattern: "^[a-z0-9]{1,20}$"}}
    get:
      operationId: getFile
      responses: {"200": {description: ok}}
    post:
      operationId: putFile
      requestBody: {required: true, content: {application/octet-stream: {}}}
      responses: {"200": {description: ok}}
  /v1/search:
    get:
      operationId: search
      parameters:
        - {name: q, in: query, required: true, schema: {type: string, maxLength: 200}}
      responses: {"200": {description: ok}}
  /v1/limited:
    get: {operationId: limited, responses: {"200": {description: ok}}}
  /v1/socket:
    get: {operationId: socket, responses: {"101": {description: ok}}}
`
