package validate_test

import (
	"io"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// FuzzQuery holds that what passes is read by net/url as we read it, and that
// what goes on passes again, unchanged.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"", "status=open", "limit=1&gift=true", "tag=a&tag=b", "ids=1,2,3", "ids=1%2C2", "piped=a|b", "spaced=a+b%20c", "filter[city]=x&filter%5Bmax%5D=3",
		"meta[a]=b", "where=%7B%22a%22%3A1%7D", "mixed=none", "flag", "flag=", "limit=1;gift=true", "status=%zz", "status=%c0%ae", "limit=1&limit=2", "=", "&",
	} {
		f.Add(s)
	}
	a := orders(f, validate.Options{})
	op := a.doc.Operations()[0]
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/v1/orders", nil)
		r.URL.RawQuery = query
		var head validate.Head
		values, err := op.Head(r, nil, nil, &head)
		if err != nil {
			return
		}
		theirs, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q passed, net/url refuses it: %v", query, err)
		}
		forwarded, err := url.ParseQuery(string(head.Query))
		if err != nil {
			t.Fatalf("%q goes on as %q, which net/url refuses: %v", query, head.Query, err)
		}
		theirs.Del("where") // JSON is written afresh
		forwarded.Del("where")
		if !reflect.DeepEqual(theirs, forwarded) {
			t.Fatalf("%q goes on as %q: %v became %v", query, head.Query, theirs, forwarded)
		}
		r.URL.RawQuery = string(head.Query)
		var again validate.Head
		values2, err := op.Head(r, nil, nil, &again)
		if err != nil || !reflect.DeepEqual(values, values2) || string(again.Query) != string(head.Query) {
			t.Fatalf("%q goes on as %q, then as %q (%v); values %v, then %v", query, head.Query, again.Query, err, values, values2)
		}
	})
}

// FuzzForm holds the same of form bodies.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"sku=a", "sku=a+b&quantity=2", "sku=a&tag=x&tag=y", "sku=%0A", "sku=%zz", "sku=a&sku=b", "sku", "sku=a&role=1", "&", "sku=%ff"} {
		f.Add(s)
	}
	a := orders(f, validate.Options{})
	op := a.doc.Operations()[1]
	f.Fuzz(func(t *testing.T, form string) {
		read := func(text string) (validate.Body, error) {
			r := httptest.NewRequest("POST", "/v1/orders", io.NopCloser(strings.NewReader(text)))
			r.ContentLength = int64(len(text))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			var b validate.Body
			err := op.Body(r, &b)
			return b, err
		}
		if form == "" {
			return
		}
		b, err := read(form)
		if err != nil {
			return
		}
		theirs, err := url.ParseQuery(form)
		forwarded, err2 := url.ParseQuery(string(b.Bytes))
		if err != nil || err2 != nil || !reflect.DeepEqual(theirs, forwarded) {
			t.Fatalf("%q goes on as %q: %v (%v) became %v (%v)", form, b.Bytes, theirs, err, forwarded, err2)
		}
		again, err := read(string(b.Bytes))
		if err != nil || string(again.Bytes) != string(b.Bytes) {
			t.Fatalf("%q goes on as %q, then as %q (%v)", form, b.Bytes, again.Bytes, err)
		}
	})
}

// FuzzMediaType holds that a content type that is taken has no other reading
// than the declared one.
func FuzzMediaType(f *testing.F) {
	for _, s := range []string{"application/json", "application/json; charset=utf-8", `application/json;charset="utf-8"`, "application/json;charset=utf-8;charset=utf-7", "application/json,text/plain", "APPLICATION/JSON"} {
		f.Add(s)
	}
	a := orders(f, validate.Options{})
	op := a.doc.Operations()[1]
	f.Fuzz(func(t *testing.T, ct string) {
		r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader(small))
		r.Header["Content-Type"] = []string{ct}
		var b validate.Body
		if op.Body(r, &b) != nil {
			return
		}
		low := strings.ToLower(ct)
		if !strings.HasPrefix(strings.Trim(low, " \t"), "application/json") || strings.ContainsAny(ct, "\r\n\x00") {
			t.Fatalf("%q was taken for JSON", ct)
		}
		if strings.Count(low, "charset=") == 1 && strings.Contains(low, "charset=utf-16") {
			t.Fatalf("%q was taken for UTF-8", ct)
		}
	})
}
