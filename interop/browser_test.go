package interop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"
)

// A browser does the user's part: it follows redirects, keeps cookies and fills in
// the forms of the sign-in pages, until it is sent to an application.
type browser struct {
	http *http.Client
	user string
}

func (g *gate) browser(user string) *browser {
	c := g.http()
	c.Jar, _ = cookiejar.New(nil) // never fails without options
	return &browser{c, user}
}

// A page is where a browser has come to rest.
type page struct {
	URL    string            `json:"url"`
	Status int               `json:"status"` // 0: it was not opened, it is an application's
	Form   map[string]string `json:"form"`   // that was to be posted there (response_mode=form_post)
	Body   string            `json:"body"`
}

// visit goes to address and on until the next stop begins with home, or a page has
// no form left that a user would send.
func (b *browser) visit(address, home string) (*page, error) {
	req, err := http.NewRequest(http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	for range 20 {
		if strings.HasPrefix(req.URL.String(), home) {
			return &page{URL: req.URL.String()}, nil
		}
		req.Header.Set("Accept", "text/html")
		resp, err := b.http.Do(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 == 3 {
			to, err := resp.Location()
			if err != nil {
				return nil, err
			}
			if req, err = http.NewRequest(http.MethodGet, to.String(), http.NoBody); err != nil {
				return nil, err
			}
			continue
		}
		action, values := b.answer(string(body))
		if action == "" {
			return &page{URL: req.URL.String(), Status: resp.StatusCode, Body: string(body)}, nil
		}
		to, err := req.URL.Parse(action)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(to.String(), home) {
			p := &page{URL: to.String(), Form: map[string]string{}}
			for name := range values {
				p.Form[name] = values.Get(name)
			}
			return p, nil
		}
		here := req.URL
		if req, err = http.NewRequest(http.MethodPost, to.String(), strings.NewReader(values.Encode())); err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", here.Scheme+"://"+here.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return nil, fmt.Errorf("no end of redirects and forms at %s", req.URL.Path)
}

// answer fills in the first form of a page that this user can answer; action is ""
// when there is none.
func (b *browser) answer(body string) (action string, values url.Values) {
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return "", nil
	}
	for n := range doc.Descendants() {
		if attribute(n, "role") == "alert" && !has(n, "hidden") {
			return "", nil // what was sent before was refused
		}
	}
	for form := range elements(doc, "form") {
		values := url.Values{}
		buttons := map[string]string{}
		for field := range elements(form, "input", "button") {
			name, value := attribute(field, "name"), attribute(field, "value")
			switch {
			case name == "":
			case field.Data == "button":
				buttons[value] = name
			default:
				values.Set(name, value)
			}
		}
		action := attribute(form, "action")
		switch {
		case !strings.EqualFold(attribute(form, "method"), "post"):
			continue
		case values.Has("password") && b.user != "":
			values.Set("name", b.user)
			values.Set("password", password)
			return action, values
		case buttons["allow"] != "":
			values.Set("decision", "allow")
			return action, values
		case buttons["logout"] != "":
			values.Set("decision", "logout")
			return action, values
		case values.Get("user_code") != "", values.Has("code") && values.Has("iss"), values.Has("error") && values.Has("iss"):
			return action, values
		}
	}
	return "", nil
}

// elements yields the descendants of n with one of names.
func elements(n *html.Node, names ...string) func(func(*html.Node) bool) {
	return func(yield func(*html.Node) bool) {
		for d := range n.Descendants() {
			for _, name := range names {
				if d.Type == html.ElementNode && d.Data == name && !yield(d) {
					return
				}
			}
		}
	}
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// users lends browsers to clients in other processes: GET ?user=…&url=…&home=…
// answers the page where the user's browser has come to rest. A user has one
// browser, and its cookies last.
func (g *gate) users(t *testing.T) string {
	t.Helper()
	var mu sync.Mutex
	all := map[string]*browser{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		q := r.URL.Query()
		b := all[q.Get("user")]
		if b == nil {
			b = g.browser(q.Get("user"))
			all[q.Get("user")] = b
		}
		p, err := b.visit(q.Get("url"), q.Get("home"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(p)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
