package ddos

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"html/template"
	"strconv"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("challenge").Parse(pageText))

// A PageOf is what the page for browsers is made of.
type PageOf struct {
	Challenge string
	Secure    bool   // the browser came by HTTPS
	Repeat    bool   // what it asked for can be asked for again
	Decision  string // id, to be named to the operator
}

// ChallengePage gives the page that solves a challenge in a browser, keeps the pass
// as a cookie and asks again, and the Content-Security-Policy to send with it. It
// needs nothing from elsewhere.
func ChallengePage(of PageOf) (body []byte, policy string) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	nonce := base64.RawURLEncoding.EncodeToString(b[:])
	cookie, attributes := CookiePass, "; Path=/; SameSite=Lax"
	if of.Secure {
		cookie, attributes = "__Host-"+CookiePass, attributes+"; Secure"
	}
	c, err := parseChallenge(of.Challenge, false)
	if err != nil {
		return nil, ""
	}
	attributes += "; Max-Age=" + strconv.FormatInt(c.expires-time.Now().Unix(), 10)
	var out bytes.Buffer
	err = page.Execute(&out, map[string]any{
		"Nonce": nonce, "Challenge": of.Challenge, "Bits": c.bits, "Cookie": cookie, "Attributes": attributes, "Repeat": of.Repeat,
		"Decision": of.Decision,
	})
	if err != nil { // cannot be: the template and its values are ours
		return nil, ""
	}
	return out.Bytes(), "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
