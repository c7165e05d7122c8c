package gatehouse_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // RFC 6238 as every authenticator app has it
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/big"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/net/html"
)

// A browser is what a person uses: it keeps cookies as browsers do, follows
// redirects within the site and sends the forms of the page it shows. It runs no
// script, as the pages need none.
type browser struct {
	client  *http.Client
	cookies map[string]string
	headers map[string]string // sent with everything
	at      *url.URL
	forms   []form
}

// A form is one of a page, with what its fields hold.
type form struct {
	action string
	fields url.Values
	names  []string // of everything that can be filled in, buttons too
}

func browserOf(ts *testscript.TestScript, name string) *browser {
	w := worldOf(ts)
	if b := w.browsers[name]; b != nil {
		return b
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ts.ReadFile(filepath.Join("data", "ca", "ca.pem")))) {
		ts.Fatalf("no certificate in ca.pem")
	}
	b := &browser{cookies: map[string]string{}, headers: map[string]string{}, client: &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if w.browsers == nil {
		w.browsers = map[string]*browser{}
	}
	w.browsers[name] = b
	return b
}

// browse is the script command browser: browser alice /account.
func browse(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: browser NAME PATH")
	}
	b := browserOf(ts, args[0])
	ts.Check(b.visit(ts, http.MethodGet, absolute(ts, args[1]), nil, "none"))
}

// submit is the script command submit: submit alice name=alice password=secret. It
// sends the form of the page that has these fields.
func submit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: submit NAME ACTION|FIELD=VALUE…")
	}
	b := browserOf(ts, args[0])
	for _, f := range b.forms {
		fields, ok := f.filled(args[1:])
		if !ok {
			continue
		}
		to, err := b.at.Parse(f.action)
		ts.Check(err)
		ts.Check(b.visit(ts, http.MethodPost, to, fields, "same-origin"))
		return
	}
	ts.Fatalf("the page at %s has no such form: %v", b.at, b.forms)
}

// filled is what f sends once args are filled in; false if it has no such fields.
func (f form) filled(args []string) (url.Values, bool) {
	out := maps.Clone(f.fields)
	for _, a := range args {
		k, v, isField := strings.Cut(a, "=")
		switch {
		case !isField && strings.HasSuffix(f.action, a):
		case isField && slices.Contains(f.names, k):
			out.Set(k, v)
		default:
			return nil, false
		}
	}
	return out, true
}

// forge is what a page of another site makes somebody's browser send. This browser
// is an old one: it knows no SameSite and sends every cookie it has.
func forge(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: forge NAME ORIGIN PATH [FIELD=VALUE…]")
	}
	b := browserOf(ts, args[0])
	fields := url.Values{}
	for _, a := range args[3:] {
		k, v, _ := strings.Cut(a, "=")
		if v == "STOLEN" { // the token of a form of the forger's own browser
			v = browserOf(ts, "mallory").token(ts)
		}
		fields.Add(k, v)
	}
	req, err := http.NewRequest(http.MethodPost, absolute(ts, args[2]).String(), strings.NewReader(fields.Encode()))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	switch args[1] {
	case "-": // a client that says nothing of where it comes from
	case ts.Getenv("GATE"):
		req.Header.Set("Origin", args[1])
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	default:
		req.Header.Set("Origin", args[1])
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	_, answer, err := b.do(req)
	ts.Check(err)
	_, _ = io.WriteString(ts.Stdout(), answer)
}

func (b *browser) token(ts *testscript.TestScript) string {
	for _, f := range b.forms {
		if t := f.fields.Get("csrf"); t != "" {
			return t
		}
	}
	ts.Fatalf("no form with a token")
	return ""
}

// plant copies the cookies of one browser into another: a stolen session, or one
// that is laid ready for its victim.
func plant(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: plant NAME OTHER")
	}
	into, from := browserOf(ts, args[0]), browserOf(ts, args[1])
	maps.Copy(into.cookies, from.cookies)
}

// pretend makes all requests of a browser say something that is not so:
// pretend mallory X-Forwarded-Host evil.example.
func pretend(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: pretend NAME HEADER VALUE")
	}
	browserOf(ts, args[0]).headers[args[1]] = args[2]
}

func absolute(ts *testscript.TestScript, path string) *url.URL {
	base, err := url.Parse(ts.Getenv("GATE"))
	ts.Check(err)
	u, err := base.Parse(path)
	ts.Check(err)
	return u
}

// visit opens a page and prints what came of it: the page, or the redirect that
// leads away from the site.
func (b *browser) visit(ts *testscript.TestScript, method string, to *url.URL, fields url.Values, site string) error {
	for range 20 {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(fields.Encode())
		}
		req, err := http.NewRequest(method, to.String(), body)
		if err != nil {
			return err
		}
		req.Header.Set("Sec-Fetch-Site", site)
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
		}
		resp, answer, err := b.do(req)
		if err != nil {
			return err
		}
		next, leads := resp.Location()
		if leads != nil { // a page
			b.at = to
		}
		if away := leads != nil || next.Host != to.Host; away {
			_, _ = io.WriteString(ts.Stdout(), answer)
			return nil
		}
		to, method, fields = next, http.MethodGet, nil
	}
	return fmt.Errorf("20 redirects")
}

// do sends one request with the cookies; the answer is as curl -i prints it.
func (b *browser) do(req *http.Request) (resp *http.Response, answer string, err error) {
	for k, v := range b.cookies {
		req.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	for k, v := range b.headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/150.0")
	if resp, err = b.client.Do(req); err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", err
	}
	for _, c := range resp.Cookies() {
		// What a browser demands of the prefix (RFC 6265bis §4.1.3.2).
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			return nil, "", fmt.Errorf("a weak cookie: %s", c.Raw)
		}
		delete(b.cookies, c.Name)
		if c.MaxAge >= 0 {
			b.cookies[c.Name] = c.Value
		}
	}
	var head bytes.Buffer
	_, _ = fmt.Fprintf(&head, "HTTP/1.1 %s\n", resp.Status)
	_ = resp.Header.Write(&head)
	answer = strings.ReplaceAll(head.String(), "\r\n", "\n") + "\n" + string(body)
	b.forms = nil
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		b.forms, err = formsOf(body)
	}
	return resp, answer, err
}

// formsOf reads the forms of a page.
func formsOf(page []byte) (forms []form, err error) {
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return nil, err
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		f := form{action: attribute(n, "action"), fields: url.Values{}}
		for in := range n.Descendants() {
			name := attribute(in, "name")
			if in.Type != html.ElementNode || name == "" {
				continue
			}
			f.names = append(f.names, name)
			switch {
			case in.Data == "input" && attribute(in, "type") != "checkbox":
				f.fields.Set(name, attribute(in, "value"))
			case in.Data == "select":
				for o := range in.Descendants() {
					if o.Data == "option" && (!f.fields.Has(name) || hasAttribute(o, "selected")) {
						f.fields.Set(name, attribute(o, "value"))
					}
				}
			}
		}
		forms = append(forms, f)
	}
	return forms, nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttribute(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// authorize is the script command authorize: a client sends somebody's browser to
// the authorization server, with PKCE (RFC 7636). It sets $VERIFIER and $STATE.
func authorize(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: authorize NAME CLIENT [PARAMETER=VALUE…]")
	}
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {args[1]}, "redirect_uri": {"https://app.example/callback"}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for _, a := range args[2:] {
		k, v, _ := strings.Cut(a, "=")
		if q.Del(k); v != "" {
			q.Set(k, v)
		}
	}
	ts.Setenv("VERIFIER", verifier)
	ts.Setenv("STATE", state)
	b := browserOf(ts, args[0])
	ts.Check(b.visit(ts, http.MethodGet, absolute(ts, "/authorize?"+q.Encode()), nil, "cross-site"))
}

// inbox is the script command mail: the newest mail to somebody with that subject.
func inbox(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mail ADDRESS SUBJECT")
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		files, err := filepath.Glob(ts.MkAbs(filepath.Join("data", "outbox", "*.eml")))
		ts.Check(err)
		slices.Reverse(files)
		for _, name := range files {
			f, err := os.Open(name)
			ts.Check(err)
			m, err := mail.ReadMessage(f)
			ts.Check(err)
			if strings.Contains(m.Header.Get("To"), args[0]) && strings.Contains(m.Header.Get("Subject"), args[1]) {
				body := m.Body
				if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
					body = quotedprintable.NewReader(m.Body)
				}
				text, err := io.ReadAll(body)
				ts.Check(err)
				_, _ = fmt.Fprintf(ts.Stdout(), "%v\n\n%s", m.Header, text)
				return
			}
		}
	}
	ts.Fatalf("no mail to %s about %q", args[0], args[1])
}

// totp is the script command totp: it sets $NAME to the code an authenticator app
// shows (RFC 6238), or would show some steps of 30 s from now.
func totp(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: totp NAME SECRET [STEPS]")
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(args[1], " ", ""))
	ts.Check(err)
	step := uint64(time.Now().Unix() / 30)
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		step += uint64(n)
	}
	mac := hmac.New(sha1.New, key)
	for shift := 56; shift >= 0; shift -= 8 {
		_, _ = mac.Write([]byte{byte(step >> shift)})
	}
	sum := mac.Sum(nil)
	n := new(big.Int).SetBytes(sum[sum[19]&15:][:4]).Uint64() & (1<<31 - 1)
	ts.Setenv(args[0], fmt.Sprintf("%06d", n%1_000_000))
}

// secretIsNowhere fails when something secret is in a gateway's log or record.
func (w *world) secretIsNowhere(secret string) error {
	for _, l := range w.logs {
		if bytes.Contains(l.bytes(), []byte(secret)) {
			return fmt.Errorf("a token is in the gateway's log:\n%s", l.bytes())
		}
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "data", "events", "*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte(secret)) {
			return fmt.Errorf("a token is in the record %s", filepath.Base(name))
		}
	}
	return nil
}
