package demo

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// login signs a customer in.
//
// INTENTIONALLY VULNERABLE: a password may also be an operator, as document
// databases take them ({"$ne": ""}); guessing is not slowed down; the session is
// the customer's name in Base64, which anybody can make; its cookie is for every
// site and every script.
func (a *API) login(w http.ResponseWriter, r *http.Request) error {
	in, err := fields(r)
	if err != nil {
		return err
	}
	all, err := a.rows(r.Context(), "SELECT * FROM customers ORDER BY id")
	if err != nil {
		return err
	}
	for _, c := range all {
		if !matches(c["email"], in["email"]) || !matches(c["password_hash"], hashed(in["password"])) {
			continue
		}
		id, _ := c["id"].(string)
		w.Header().Set("Set-Cookie", "session="+base64.RawURLEncoding.EncodeToString([]byte(id))+"; Path=/")
		answer(w, http.StatusOK, map[string]any{"customer": id})
		return nil
	}
	answer(w, http.StatusForbidden, map[string]any{"error": "the password is wrong"})
	return nil
}

// hashed is the hash of a password, and any other thing as it is.
func hashed(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// matches compares as a document database does: with a value, or with operators.
func matches(have, want any) bool {
	ops, ok := want.(map[string]any)
	if !ok {
		return have == want
	}
	for op, v := range ops {
		text, _ := have.(string)
		arg, _ := v.(string)
		switch op {
		case "$eq":
			ok = have == v
		case "$ne":
			ok = have != v
		case "$gt":
			ok = text > arg
		case "$regex":
			ok = strings.Contains(text, strings.Trim(arg, "^.*$"))
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return true
}

// fields reads a body as JSON, whatever it is declared to be, or as a form.
func fields(r *http.Request) (map[string]any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	in := map[string]any{}
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(b))
		for k := range form {
			in[k] = form.Get(k)
		}
		return in, err
	}
	return in, json.Unmarshal(b, &in)
}

// signedIn is the customer whose name is in the cookie.
func signedIn(r *http.Request) string {
	c, err := r.Cookie("session")
	if err != nil {
		return ""
	}
	id, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return ""
	}
	return string(id)
}

// me shows who is signed in.
//
// INTENTIONALLY VULNERABLE: the cookie is believed; pages of every origin may
// read the answer, with the reader's cookie.
func (a *API) me(w http.ResponseWriter, r *http.Request) error {
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	c, err := a.row(r.Context(), "SELECT * FROM customers WHERE id = $1", signedIn(r))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, c)
	return nil
}

// changeEmail changes the address of who is signed in.
//
// INTENTIONALLY VULNERABLE: cross-site request forgery. A cookie is all it asks
// for, and a form of any site is as good as a page of its own.
func (a *API) changeEmail(w http.ResponseWriter, r *http.Request) error {
	in, err := fields(r)
	if err != nil {
		return err
	}
	id := signedIn(r)
	if err := a.exec(r.Context(), "UPDATE customers SET email = $1 WHERE id = $2", in["email"], id); err != nil {
		return err
	}
	return a.me(w, r)
}
