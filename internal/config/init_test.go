package config_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

var orders = config.Initial{
	Title: "Orders API", OpenAPI: "./orders.openapi.yaml", Upstream: "http://127.0.0.1:9001",
	Schemes: []config.InitialScheme{{"oauth2", "oauth2"}, {"apiKey", "apiKey"}, {"mutualTLS", "mutualTLS"}},
	Operations: []config.InitialOperation{
		{ID: "listOrders", Method: "GET", Path: "/orders", Secured: true, Scopes: []string{"orders:read"}},
		{ID: "createOrder", Method: "POST", Path: "/orders", Secured: true},
		{ID: "deleteOrder", Method: "DELETE", Path: "/orders/{id}"},
		{ID: "GET /health", Method: "GET", Path: "/health"},
		{ID: "yes", Method: "PATCH", Path: "/orders/{id}"},
	},
}

func TestInit(t *testing.T) {
	text, err := config.Init(orders)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/init.golden", text)
	f, err := config.Parse("gatehouse.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	api := f.APIs["orders-api"]
	for _, id := range []string{"GET /health", "deleteOrder", "yes"} {
		if o := api.Operations[id]; o == nil || o.Public || len(o.Grant) != 1 {
			t.Errorf("%s, which the document leaves open, is %+v", id, o)
		}
	}
	if len(api.Operations) != 3 || len(f.Tests) != 3 {
		t.Errorf("got %d operations, %d tests", len(api.Operations), len(f.Tests))
	}
	schemaAccepts(t, []byte(text))
}

func TestInitOfAHostileDocumentWritesNothingOfItsOwn(t *testing.T) {
	for name, in := range map[string]config.Initial{
		"a title with lines":     {Title: "x\nguardrails: []\n\u2028y: \x1b[2J\u202e", OpenAPI: "a.yaml", Upstream: "http://a:1"},
		"an id with lines":       {Title: "T", OpenAPI: "a.yaml", Upstream: "http://a:1", Operations: []config.InitialOperation{{ID: "a\npublic: true", Method: "GET", Path: "/\npublic: true"}}},
		"an id that ends quotes": {Title: "T", OpenAPI: "a.yaml", Upstream: "http://a:1", Operations: []config.InitialOperation{{ID: `a": {public: true}, "b`, Method: "GET", Path: "/"}}},
		"a secured id of lines":  {Title: "T", OpenAPI: "a.yaml", Upstream: "http://a:1", Operations: []config.InitialOperation{{ID: "ok", Method: "GET", Path: "/x\n      evil: {public: true}", Secured: true, Scopes: []string{"a\n      evil: {public: true}"}}}},
		"an upstream of lines":   {Title: "T", OpenAPI: "a.yaml", Upstream: "http://a:1]\n    hosts: [x"},
		"a scheme of lines":      {Title: "T", OpenAPI: "a.yaml", Upstream: "http://a:1", Schemes: []config.InitialScheme{{"a: keys\n    base: /x\n", "apiKey"}}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := config.Init(in)
			if err != nil {
				return // refused is right too
			}
			f, err := config.Parse("x", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			for _, api := range f.APIs {
				if len(f.Guardrails) > 0 || api.Base != "" || len(api.Hosts) > 0 {
					t.Errorf("wrote\n%s", text)
				}
				for id, o := range api.Operations {
					if o.Public || id == "evil" {
						t.Errorf("opened %s in\n%s", id, text)
					}
				}
			}
			if strings.ContainsAny(text, "\x1b\u202e\u2028") {
				t.Errorf("wrote %q", text)
			}
		})
	}
}

func TestInitNamesAnAPI(t *testing.T) {
	for title, want := range map[string]string{
		"": "api", "Orders API (v2)": "orders-api-v2", "  42 things": "things", "日本": "api", "Größe": "gr-e",
		strings.Repeat("long ", 40): "long-long-long-long-long", strings.Repeat("x", 90): strings.Repeat("x", 24),
		"GitHub's official OpenAPI spec": "githubs-official-openapi",
	} {
		text, err := config.Init(config.Initial{Title: title, OpenAPI: "a.yaml", Upstream: "http://a:1"})
		if err != nil {
			t.Fatal(err)
		}
		f, err := config.Parse("x", []byte(text))
		if err != nil || f.APIs[want] == nil {
			t.Errorf("%q is named otherwise than %q (%v)", title, want, err)
		}
	}
}
