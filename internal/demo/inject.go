package demo

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// searchOrders finds orders by any words, which no pattern can describe.
//
// INTENTIONALLY VULNERABLE: SQL injection in text.
func (a *API) searchOrders(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	orders, err := a.rows(r.Context(), "SELECT id, customer_id, item, quantity, total, status, note, created_at FROM orders WHERE item LIKE '%"+in.Text+"%' ORDER BY created_at LIMIT 100")
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"orders": orders, "count": len(orders)})
	return nil
}

// label prints a label.
//
// INTENTIONALLY VULNERABLE: command injection, by the text and by a header. The
// shell is that of [API.ping].
func (a *API) label(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	out, err := shell(ctx, "echo on "+r.Header.Get("X-Printer")+" print "+in.Text)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	answer(w, http.StatusOK, map[string]any{"output": string(out)})
	return nil
}

// letter fills in a letter to a customer.
//
// INTENTIONALLY VULNERABLE: template injection. The caller writes the template,
// and it can see every column of every customer, and compute.
func (a *API) letter(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Customer string `json:"customer"`
		Text     string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	c, err := a.row(r.Context(), "SELECT * FROM customers WHERE id = $1", in.Customer)
	if err != nil {
		return err
	}
	all, err := a.rows(r.Context(), "SELECT * FROM customers ORDER BY id")
	if err != nil {
		return err
	}
	c["all"] = all
	t, err := template.New("letter").Option("missingkey=zero").Funcs(template.FuncMap{
		"name": func() any { return c["name"] },
		"mul":  func(x, y int) int { return x * y },
	}).Parse(in.Text)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := t.Execute(&b, c); err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"letter": b.String()})
	return nil
}

// document shows a file that is for everybody.
//
// INTENTIONALLY VULNERABLE: path traversal, up to the folder files, which is all
// that the root lets it see.
func (a *API) document(w http.ResponseWriter, r *http.Request) error {
	name, err := url.PathUnescape(r.URL.Query().Get("file")) // once more: the framework did it already
	if err != nil {
		name = r.URL.Query().Get("file")
	}
	b, err := fs.ReadFile(a.files.FS(), strings.TrimPrefix(path.Join("/public", strings.ReplaceAll(name, `\`, "/")), "/"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(b)
	return nil
}

// redirect sends the caller on.
//
// INTENTIONALLY VULNERABLE: the answer's head is written by hand, so that a line
// break in the target makes headers of the caller's (response splitting).
func (a *API) redirect(w http.ResponseWriter, r *http.Request) error {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 303 See Other\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /orders/"+r.URL.Query().Get("to")+"\r\n\r\n")
	return nil
}

// directory looks customers up, as one would in an LDAP directory.
//
// INTENTIONALLY VULNERABLE: LDAP injection. A filter from strings; like some
// servers it takes the first complete filter and leaves the rest.
func (a *API) directory(w http.ResponseWriter, r *http.Request) error {
	all, err := a.rows(r.Context(), "SELECT * FROM customers ORDER BY id")
	if err != nil {
		return err
	}
	filter := "(&(name=" + r.URL.Query().Get("name") + "*)(role=customer))"
	people := []map[string]any{}
	for _, c := range all {
		if ok, _ := holds(filter, c); ok {
			people = append(people, map[string]any{"id": c["id"], "name": c["name"]})
		}
	}
	answer(w, http.StatusOK, map[string]any{"people": people})
	return nil
}

// holds evaluates the filter that s begins with (RFC 4515), and gives what is
// behind it. A filter that does not end is false.
func holds(s string, entry map[string]any) (ok bool, rest string) {
	if len(s) < 2 || s[0] != '(' {
		return false, ""
	}
	if op := s[1]; op == '&' || op == '|' || op == '!' {
		ok, rest = op != '|', s[2:]
		for strings.HasPrefix(rest, "(") {
			var one bool
			one, rest = holds(rest, entry)
			switch op {
			case '&':
				ok = ok && one
			case '|':
				ok = ok || one
			case '!':
				ok = !one
			}
		}
		return ok, strings.TrimPrefix(rest, ")")
	}
	test, rest, closed := strings.Cut(s[1:], ")")
	name, value, _ := strings.Cut(test, "=")
	have, known := entry[name].(string)
	parts := strings.Split(value, "*")
	at := 0
	for n, p := range parts {
		i := strings.Index(have[at:], p)
		if i < 0 || n == 0 && i > 0 {
			return false, rest
		}
		at += i + len(p)
	}
	return closed && known && (len(parts) > 1 || at == len(have)), rest
}

var entity = regexp.MustCompile(`<!ENTITY\s+(\w+)\s+(SYSTEM\s+)?["']([^"']*)["']\s*>`)

// importOrder takes an order as XML.
//
// INTENTIONALLY VULNERABLE: external entities (XXE), up to the folder files.
func (a *API) importOrder(w http.ResponseWriter, r *http.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	entities := map[string]string{}
	for _, m := range entity.FindAllStringSubmatch(string(b), -1) {
		if entities[m[1]] = m[3]; m[2] == "" {
			continue
		}
		text, err := fs.ReadFile(a.files.FS(), path.Clean(strings.TrimLeft(strings.TrimPrefix(m[3], "file:"), "/")))
		if err != nil {
			return err
		}
		entities[m[1]] = string(text)
	}
	var in struct {
		Item string `xml:"item"`
		Note string `xml:"note"`
	}
	d := xml.NewDecoder(strings.NewReader(string(b)))
	d.Entity = entities
	if err := d.Decode(&in); err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"item": in.Item, "note": in.Note})
	return nil
}
