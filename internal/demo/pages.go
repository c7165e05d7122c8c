package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// preview shows what a review will look like.
//
// INTENTIONALLY VULNERABLE: cross-site scripting, reflected from two fields and a
// header.
func (a *API) preview(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Title string `json:"title"`
		Text  string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprintf(w, "<!doctype html>\n<h1>%s</h1>\n<p>%s</p>\n<a href=\"%s\">back</a>\n", in.Title, in.Text, r.Header.Get("Referer"))
	return nil
}

// receipt is an order to print.
//
// INTENTIONALLY VULNERABLE: stored cross-site scripting. What the customer wrote
// in the order is markup here, in the browser of whoever packs it.
func (a *API) receipt(w http.ResponseWriter, r *http.Request) error {
	o, err := a.row(r.Context(), "SELECT * FROM orders WHERE id = $1", r.PathValue("orderId"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprintf(w, "<!doctype html>\n<h1>%v</h1>\n<p>%v</p>\n", o["item"], o["note"])
	return nil
}
