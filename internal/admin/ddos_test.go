package admin_test

import "testing"

func TestBansAndTheSwitchByTheAPI(t *testing.T) {
	h := newHouse(t)
	root := as("root")
	h.must(204, root, "POST", "/ddos/bans", `{"network":"203.0.113.77/24","reason":"scraper","life":3600}`)
	if c := h.last(); c.Action != "ddos.ban" || c.Object != "203.0.113.0/24" || c.Actor != "ann@main" {
		t.Errorf("logged: %+v", c)
	}
	h.refused("a network that is none", 422, "object_refused", h.ask(root, "POST", "/ddos/bans", `{"network":"x"}`))
	h.refused("the whole Internet", 422, "object_refused", h.ask(root, "POST", "/ddos/bans", `{"network":"0.0.0.0/0"}`))
	h.must(204, root, "PUT", "/ddos/attack", `{"on":true,"life":60}`)
	got := h.must(200, root, "GET", "/ddos", "").json()
	at, _ := got["attack"].(map[string]any)
	if got["total"] != 1.0 || at["on"] != true || at["by"] != "ann@main" {
		t.Errorf("%v", got)
	}
	h.must(204, root, "PUT", "/ddos/attack", `{"on":false}`)
	if c := h.last(); c.Action != "ddos.attack.off" {
		t.Errorf("logged: %+v", c)
	}
	h.must(204, root, "DELETE", "/ddos/bans?network=203.0.113.0/24", "")
	h.refused("what is not banned", 404, "object_not_found", h.ask(root, "DELETE", "/ddos/bans?network=203.0.113.0/24", ""))
	if got := h.must(200, root, "GET", "/ddos", "").json(); got["total"] != 0.0 {
		t.Errorf("%v", got)
	}
}
