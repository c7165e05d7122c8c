package cost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sampleConfig is what is measured where no config is named: everything a busy
// API has, on two operations, and what refusals need.
const sampleConfig = `gatehouse: 1
issuers:
  sample: {issuer: https://issuer.sample, audience: customers, jwks: ./none.json, claims: {tenant: string}, tenant: tenant}
roles: {support: [customers:use], visitor: [customers:look]}
apis:
  customers:
    openapi: ./openapi.yaml
    upstreams: ["http://127.0.0.1:9"]
    limits:
      - {id: address, per: address, rate: 1000000/s, burst: 1000000}
      - {id: user, per: principal, rate: 1000000/s, burst: 1000000}
    operations:
      getCustomer:
        grant: customers:use
        own: {path.customerId: claims.sub}
        require: {few: 'query.limit <= 50'}
        deny: {suspended: 'principal.tenant == "suspended"'}
      updateCustomer:
        grant: customers:use
        own: {path.customerId: claims.sub}
        require: {country: 'body.address.country != "XX"'}
        deny: {suspended: 'principal.tenant == "suspended"'}
      getShop: {public: true}
      getRare: {public: true, limits: [{id: rare, per: address, rate: 1/h, burst: 1}]}
`

const sampleDocument = `openapi: 3.1.0
info: {title: customers, version: "1"}
security: [{oauth2: [customers:read]}]
components:
  securitySchemes:
    oauth2: {type: oauth2, flows: {clientCredentials: {tokenUrl: https://issuer.sample/token, scopes: {customers:read: r}}}}
  parameters:
    id: {name: customerId, in: path, required: true, schema: {type: string, pattern: "^[0-9]{1,12}$"}}
    fields: {name: fields, in: query, explode: false, schema: {type: array, maxItems: 10, items: {type: string, pattern: "^[a-z_]{1,20}$"}}}
    limit: {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
    request: {name: X-Request-Id, in: header, schema: {type: string, pattern: "^[0-9a-f]{32}$"}}
paths:
  /v1/shops/{customerId}:
    parameters: [{$ref: "#/components/parameters/id"}, {$ref: "#/components/parameters/fields"}, {$ref: "#/components/parameters/limit"}, {$ref: "#/components/parameters/request"}]
    get: {operationId: getShop, security: [], responses: {"200": {description: ok}}}
  /v1/rare:
    parameters: [{$ref: "#/components/parameters/request"}]
    get: {operationId: getRare, security: [], responses: {"200": {description: ok}}}
  /v1/customers/{customerId}:
    parameters: [{$ref: "#/components/parameters/id"}, {$ref: "#/components/parameters/fields"}, {$ref: "#/components/parameters/limit"}, {$ref: "#/components/parameters/request"}]
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
`

const (
	sampleBody   = `{"id":"9b2f","name":"Ada Lovelace","email":"ada@example.org","roles":["reader","editor"],"address":{"street":"12 St James Square","city":"London","zip":"SW1Y 4JH","country":"GB"},"orders":[{"id":1001,"total":"12.50","currency":"GBP","items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}]},{"id":1002,"total":"99.00","currency":"GBP","items":[{"sku":"C-3","qty":5}]}],"preferences":{"newsletter":true,"theme":"dark","language":"en-GB"},"created_at":"2024-01-01T00:00:00Z"}`
	sampleQuery  = "?fields=name,email&limit=20"
	sampleAttack = "Ada' UNION SELECT card_number FROM payments -- "
)

// writeSample puts the sample into dir and gives its config.
func writeSample(dir string) (string, error) {
	for name, text := range map[string]string{"gatehouse.yaml": sampleConfig, "openapi.yaml": sampleDocument} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "gatehouse.yaml"), nil
}

// sampleLines are the sample's requests, whole ones first.
func sampleLines(g *rig) ([]*line, error) {
	may, err := g.token(&identity{subject: "42", roles: []string{"support"}, scopes: []string{"customers:read"}, tenant: strings.Repeat("t", 120)})
	if err != nil {
		return nil, err
	}
	visitor, err := g.token(&identity{subject: "42", roles: []string{"visitor"}, scopes: []string{"customers:read"}, tenant: strings.Repeat("t", 120)})
	if err != nil {
		return nil, err
	}
	const target = "/v1/customers/42" + sampleQuery
	at := func(id, name, method, target, token, body string, status int) *line {
		h := "Host: api.sample\r\n"
		if token != "" {
			h += "Authorization: Bearer " + token + "\r\n"
		}
		h += "Accept: application/json\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0\r\nX-Request-Id: 0123456789abcdef0123456789abcdef\r\n"
		if body != "" {
			h += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
		}
		return &line{id: id, name: name, method: method, status: status, request: fmt.Appendf(nil, "%s %s HTTP/1.1\r\n%s\r\n%s", method, target, h, body)}
	}
	get := at("get", "GET, everything on", "GET", target, may, "", 200)
	post := at("post", fmt.Sprintf("POST %d B of JSON, everything on", len(sampleBody)), "POST", target, may, sampleBody, 200)
	get.broken, post.broken = true, true
	return []*line{
		at("public", "GET, a public operation", "GET", "/v1/shops/42"+sampleQuery, "", "", 200), get, post,
		at("refused-401", "refused: nobody (401)", "GET", target, "", "", 401),
		at("refused-403", "refused: not allowed (403)", "GET", target, visitor, "", 403),
		at("refused-400", "refused: half a JSON body (400)", "POST", target, may, sampleBody[:200], 400),
		at("refused-422", "refused: a parameter (422)", "GET", "/v1/customers/42?limit=5000", may, "", 422),
		at("refused-429", "refused: too often (429)", "GET", "/v1/rare", "", "", 429),
		at("refused-attack", "refused: SQL injection (403)", "POST", target, may, strings.Replace(sampleBody, "Ada Lovelace", sampleAttack, 1), 403),
	}, nil
}
