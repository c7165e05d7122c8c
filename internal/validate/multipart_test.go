package validate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"

func media(tb testing.TB, s validate.Settings) *api {
	tb.Helper()
	doc, err := validate.Load(spec("3.1.0",
		"paths:",
		"  /upload:",
		"    post:",
		"      operationId: upload",
		"      requestBody:",
		"        required: true",
		"        content:",
		"          multipart/form-data:",
		"            schema:",
		"              type: object",
		"              additionalProperties: false",
		"              required: [title, photo]",
		"              properties:",
		"                title: {type: string, maxLength: 40}",
		"                count: {type: integer, maximum: 9}",
		"                tags: {type: array, maxItems: 2, items: {type: string}}",
		"                meta: {type: object, additionalProperties: false, required: [a], properties: {a: {type: integer}}}",
		"                items: {type: array, items: {type: object, properties: {n: {type: integer}}}}",
		"                photo: {type: string, format: binary, minLength: 8, maxLength: 3000000}",
		"                papers: {type: array, maxItems: 2, items: {type: string, contentMediaType: 'application/pdf'}}",
		"                raw: {type: string, format: binary}",
		"                note: {type: string}",
		"            encoding:",
		"              photo: {contentType: 'image/png, image/jpeg', headers: {X-Digest: {schema: {type: string, pattern: '^[a-f0-9]{8}$'}}}}",
		"              note: {contentType: 'text/csv'}",
		"  /open:",
		"    post: {operationId: open, requestBody: {content: {multipart/form-data: {}}}}",
		"  /xml:",
		"    post: {operationId: xml, requestBody: {content: {application/xml: {schema: {type: object}}, 'application/soap+xml': {}}}}",
		"  /grpc:",
		"    post: {operationId: grpc, requestBody: {content: {application/grpc: {}}}}",
		"  /json:",
		"    post: {operationId: json, requestBody: {required: true, content: {application/json: {schema: {type: object}}, application/octet-stream: {}}}}",
	), "api.yaml", validate.Options{API: "media", Settings: s})
	if err != nil {
		tb.Fatal(err)
	}
	return route(tb, doc)
}

const asParts = "Content-Type: multipart/form-data; boundary=b"

// parts writes a body with the boundary b. Each part is its lines, an empty one and
// its content, with LF for CRLF in front of the content.
func parts(list ...string) string {
	var b strings.Builder
	for _, p := range list {
		head, content, _ := strings.Cut(p, "\n\n")
		b.WriteString("--b\r\n" + strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + content + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

func field(name, text string) string {
	return "Content-Disposition: form-data; name=\"" + name + "\"\n\n" + text
}

func file(name, file, typed, content string) string {
	return "Content-Disposition: form-data; name=\"" + name + "\"; filename=\"" + file + "\"\nContent-Type: " + typed + "\n\n" + content
}

// A read is one part as Go's reader sees it.
type read struct{ name, file, typed, content string }

func readParts(tb testing.TB, header, body string) []read {
	tb.Helper()
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		tb.Fatal(err)
	}
	var out []read
	for r := multipart.NewReader(strings.NewReader(body), params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatalf("Go cannot read %q: %v", body, err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			tb.Fatal(err)
		}
		_, d, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, read{d["name"], d["filename"], p.Header.Get("Content-Type"), string(b)})
	}
}

func TestMultipartIsWrittenAfresh(t *testing.T) {
	a := media(t, validate.Settings{})
	body := parts(field("title", "A \"b\"\r\nc"), field("count", "7"), field("tags", "x"), field("tags", "y"),
		"content-disposition: FORM-DATA; name=meta; filename=blob\nContent-Type: application/json; charset=utf-8\n\n{ \"a\" : 1 }",
		field("items", `{"n":1}`), field("items", `{"n":2}`),
		"Content-Disposition: form-data; name=\"photo\"; filename=\"süß.png\"\nContent-Type: application/octet-stream\nX-Digest: 0123abcd\nContent-Length: "+fmt.Sprint(len(png))+"\nContent-Transfer-Encoding: binary\n\n"+png,
		file("papers", "a.pdf", "application/pdf", "%PDF-1.7\r\n\r\n--c"), file("papers", "b.pdf", "application/pdf", "%PDF-1.4 --b--"),
		"Content-Disposition: form-data; name=\"note\"\nContent-Type: text/csv\n\na,b")
	_, _, _, got, err := a.call(request(t, "POST /upload", body, asParts))
	if err != nil {
		t.Fatalf("refused: %v %+v", err, gatehouse.AsProblem(err).Fields)
	}
	header := got.Header.Get("Content-Type")
	if got.Stream != nil || header == "multipart/form-data; boundary=b" {
		t.Fatalf("stream %v, type %q", got.Stream, header)
	}
	want := []read{
		{"title", "", "", "A \"b\"\r\nc"},
		{"count", "", "", "7"},
		{"tags", "", "", "x"},
		{"tags", "", "", "y"},
		{"meta", "blob", "application/json", `{"a":1}`},
		{"items", "", "application/json", `{"n":1}`},
		{"items", "", "application/json", `{"n":2}`},
		{"photo", "süß.png", "image/png", png},
		{"papers", "a.pdf", "application/pdf", "%PDF-1.7\r\n\r\n--c"},
		{"papers", "b.pdf", "application/pdf", "%PDF-1.4 --b--"},
		{"note", "", "text/csv", "a,b"},
	}
	if list := readParts(t, header, string(got.Bytes)); !reflect.DeepEqual(list, want) {
		t.Errorf("the service reads\n%q, want\n%q", list, want)
	}
	if !bytes.Contains(got.Bytes, []byte("\r\nX-Digest: 0123abcd\r\n")) || bytes.Contains(got.Bytes, []byte("Transfer-Encoding")) {
		t.Errorf("headers of parts: %q", got.Bytes)
	}
	value, err := got.Value(nil)
	wantValue := map[string]any{
		"title": "A \"b\"\r\nc", "count": int64(7), "tags": []any{"x", "y"}, "meta": map[string]any{"a": int64(1)},
		"items": []any{map[string]any{"n": int64(1)}, map[string]any{"n": int64(2)}}, "note": "a,b",
	}
	if err != nil || !reflect.DeepEqual(value, wantValue) {
		t.Errorf("rules see %#v (%v), want %#v", value, err, wantValue)
	}
}

func TestMultipartRefuses(t *testing.T) {
	title, photo := field("title", "t"), file("photo", "a.png", "image/png", png)
	disposition := func(s string) string { return "Content-Disposition: " + s + "\n\nx" }
	named := func(name string) string { return parts(title, file("photo", name, "image/png", png)) }
	tests := []struct {
		name, body string
		status     int
		rule       string
	}{
		{"text in front of the first boundary", "hello\r\n" + parts(title, photo), 400, "syntax"},
		{"an empty line in front of it", "\r\n" + parts(title, photo), 400, "syntax"},
		{"text behind the last boundary", parts(title, photo) + "x", 400, "syntax"},
		{"a second body behind it", parts(title, photo) + parts(title), 400, "syntax"},
		{"LF for CRLF", strings.ReplaceAll(parts(title, photo), "\r\n", "\n"), 400, "syntax"},
		{"a boundary behind LF", strings.Replace(parts(title, photo), "t\r\n--b", "t\n--b", 1), 400, "syntax"},
		{"a boundary behind CR", strings.Replace(parts(title, photo), "t\r\n--b", "t\r--b", 1), 400, "syntax"},
		{"space behind a boundary", strings.Replace(parts(title, photo), "t\r\n--b\r\n", "t\r\n--b \r\n", 1), 400, "syntax"},
		{"a line that begins like a boundary", parts(field("title", "t\r\n--bc"), photo), 400, "syntax"},
		{"no last boundary", strings.TrimSuffix(parts(title, photo), "--\r\n"), 400, "incomplete"},
		{"half a body", parts(title, photo)[:60], 400, "incomplete"},
		{"a part without headers", "--b\r\n\r\nx\r\n--b--", 400, "syntax"},
		{"headers without an end", "--b\r\n" + strings.Repeat("a: b\r\n", 800), 400, "part_header"},
		{"many headers", parts("A: 1\nB: 1\nC: 1\nD: 1\nE: 1\nF: 1\nG: 1\nH: 1\nContent-Disposition: form-data; name=title\n\nx"), 400, "part_header"},
		{"a folded header", parts("Content-Disposition: form-data;\n name=title\n\nx", photo), 400, "part_header"},
		{"a bare LF in a header", strings.Replace(parts(title, photo), "; name", ";\nname", 1), 400, "part_header"},
		{"a header without a name", parts(": x\nContent-Disposition: form-data; name=title\n\nx", photo), 400, "part_header"},
		{"a space before the colon", parts("Content-Disposition : form-data; name=title\n\nx", photo), 400, "part_header"},
		{"two dispositions", parts("Content-Disposition: form-data; name=title\nContent-disposition: form-data; name=note\n\nx", photo), 400, "part_header"},
		{"no disposition", parts("Content-Type: text/plain\n\nx", photo), 400, "part_header"},
		{"an attachment", parts(disposition("attachment; name=title"), photo), 400, "part_header"},
		{"no name", parts(disposition("form-data"), photo), 400, "part_header"},
		{"an empty name", parts(disposition(`form-data; name=""`), photo), 400, "part_header"},
		{"two names", parts(disposition("form-data; name=title; name=note"), photo), 400, "part_header"},
		{"two file names", parts(title, disposition("form-data; name=photo; filename=a.png; filename=a.php")), 400, "part_header"},
		{"filename*", parts(title, disposition("form-data; name=photo; filename=a.png; filename*=utf-8''a.php")), 400, "part_header"},
		{"name*", parts(disposition("form-data; name*=utf-8''title"), photo), 400, "part_header"},
		{"another parameter", parts(disposition("form-data; name=title; size=1"), photo), 400, "part_header"},
		{"a backslash in a name", parts(title, disposition(`form-data; name="photo"; filename="a\".php"`)), 400, "part_header"},
		{"an open quote", parts(disposition(`form-data; name="title`), photo), 400, "part_header"},
		{"invalid UTF-8 in a name", parts(disposition("form-data; name=\"t\xff\""), photo), 400, "part_header"},
		{"a semicolon at the end", parts(disposition("form-data; name=title;"), photo), 400, "part_header"},
		{"a header that is not declared", parts("Content-Disposition: form-data; name=title\nX-Forwarded-For: 1\n\nx", photo), 400, "part_header"},
		{"a declared header that is wrong", parts(title, "Content-Disposition: form-data; name=photo; filename=a.png\nX-Digest: z\n\n"+png), 422, "pattern"},
		{"Base64", parts("Content-Disposition: form-data; name=title\nContent-Transfer-Encoding: base64\n\neA==", photo), 400, "part_header"},
		{"a length that is wrong", parts("Content-Disposition: form-data; name=title\nContent-Length: 9\n\nx", photo), 400, "part_header"},
		{"utf-7", parts("Content-Disposition: form-data; name=title\nContent-Type: text/plain; charset=utf-7\n\nx", photo), 400, "content_type"},
		{"HTML for text", parts("Content-Disposition: form-data; name=title\nContent-Type: text/html\n\nx", photo), 400, "content_type"},
		{"a nested multipart", parts("Content-Disposition: form-data; name=title\nContent-Type: multipart/mixed; boundary=c\n\n--c--", photo), 400, "content_type"},
		{"text for JSON", parts(title, photo, "Content-Disposition: form-data; name=meta\nContent-Type: text/plain\n\n{}"), 400, "content_type"},
		{"_charset_", parts(field("_charset_", "utf-7"), title, photo), 400, "part_header"},
		{"a field nobody declared", parts(title, photo, field("role", "admin")), 422, "additionalProperties"},
		{"a field twice", parts(title, title, photo), 400, "duplicate"},
		{"a file twice", parts(title, photo, photo), 400, "duplicate"},
		{"a list that is too long", parts(title, photo, field("tags", "x"), field("tags", "y"), field("tags", "z")), 422, "maxItems"},
		{"a list of files that is too long", parts(title, photo, file("papers", "a.pdf", "application/pdf", "%PDF-1.7"), file("papers", "b.pdf", "application/pdf", "%PDF-1.7"), file("papers", "c.pdf", "application/pdf", "%PDF-1.7")), 422, "maxItems"},
		{"a missing field", parts(photo), 422, "required"},
		{"a missing file", parts(title), 422, "required"},
		{"a file that was not chosen", parts(title, file("photo", "", "application/octet-stream", "")), 422, "required"},
		{"a number that is text", parts(title, photo, field("count", "x")), 400, "type"},
		{"a number that is too large", parts(title, photo, field("count", "10")), 422, "maximum"},
		{"a control character", parts(field("title", "a\x00b"), photo), 400, "control_character"},
		{"invalid UTF-8", parts(field("title", "a\xff"), photo), 400, "utf8"},
		{"JSON that is none", parts(title, photo, field("meta", "{")), 400, "syntax"},
		{"JSON with a key twice", parts(title, photo, field("meta", `{"a":1,"a":2}`)), 400, "duplicate_key"},
		{"JSON of another shape", parts(title, photo, field("meta", `{"b":1}`)), 422, "additionalProperties"},
		{"JSON twice", parts(title, photo, field("meta", `{"a":1}`), field("meta", `{"a":1}`)), 400, "duplicate"},
		{"a field where a file belongs", parts(title, field("photo", png)), 400, "file_name"},
		{"a file where a field belongs", parts(file("title", "a.txt", "text/plain", "x"), photo), 400, "file_name"},
		{"a file that is too short", parts(title, file("photo", "a.png", "image/png", png[:7])), 422, ""},
		{"another type than declared", parts(title, file("photo", "a.gif", "image/gif", "GIF89a....")), 422, "file_type"},
		{"another type than it says", parts(title, file("photo", "a.png", "image/png", "GIF89a....")), 422, "file_type"},
		{"one declared type that says it is the other", parts(title, file("photo", "a.png", "image/jpeg", png)), 422, "file_type"},
		{"HTML that says it is PNG", parts(title, file("photo", "a.png", "image/png", "<html><script>alert(1)</script>")), 422, "file_type"},
		{"PNG named .html", parts(title, file("photo", "a.html", "image/png", png)), 422, "file_type"},
		{"a name that is a path", named("../a.png"), 400, "file_name"},
		{"a Windows path", named("c:a.png"), 400, "file_name"},
		{"an encoded path", named("..%2fa.png"), 400, "file_name"},
		{"a path encoded twice", named("%252e%252e%252fa.png"), 400, "file_name"},
		{"a hidden name", named(".htaccess"), 400, "file_name"},
		{"a dot at the end", named("a.php."), 400, "file_name"},
		{"a script", named("a.PHP"), 400, "file_name"},
		{"a script in disguise", named("a.php.png"), 400, "file_name"},
		{"a script cut off by NUL", named("a.php%00.png"), 400, "file_name"},
		{"a program", named("a.exe"), 400, "file_name"},
		{"a device", named("con.png"), 400, "file_name"},
		{"a name that turns round", named("a\u202egnp.exe"), 400, "part_header"},
		{"JSON with a name that is not plain", parts(title, photo, file("meta", "a'b", "application/json", `{"a":1}`)), 400, "file_name"},
		{"a long name", named(strings.Repeat("a", 252) + ".png"), 400, "file_name"},
		{"a quote that readers undo", parts(title, disposition(`form-data; name="photo%22; filename=%22a.php"; filename="a.png"`)), 400, "part_header"},
		{"too many parts", parts(append([]string{title, photo}, strings.Split(strings.Repeat(field("tags", "x")+"\x00", 63), "\x00")[:63]...)...), 400, "too_many"},
		{"a field that is too long", parts(field("title", strings.Repeat("x", 70_000)), photo), 413, "large"},
	}
	a := media(t, validate.Settings{})
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			for _, step := range []int{0, 1} { // in one piece, and byte by byte
				var in io.Reader = strings.NewReader(tt.body)
				if step == 1 {
					in = iotest.OneByteReader(in)
				}
				r := httptest.NewRequest("POST", "/upload", in)
				r.ContentLength = -1
				r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
				_, _, _, body, err := a.call(r)
				if err == nil {
					t.Fatalf("passed as %q", body.Bytes)
				}
				p := gatehouse.AsProblem(err)
				rule := map[string]string{"incomplete_body": "incomplete", "body_too_large": "large"}[p.Reason]
				if len(p.Fields) > 0 {
					rule = p.Fields[0].Rule
				}
				if p.Kind.Status() != tt.status || tt.rule != "" && rule != tt.rule {
					t.Fatalf("got %d %s %+v (%v), want %d %s", p.Kind.Status(), p.Reason, p.Fields, p.Err, tt.status, tt.rule)
				}
			}
		})
	}
}

func TestMultipartOfLargeFilesStreams(t *testing.T) {
	big := png + strings.Repeat("0123456789\r\n--", 60_000) // 840 kB
	photo := file("photo", "a.png", "image/png", big)
	a := media(t, validate.Settings{MaxBody: 4 << 20, Upload: validate.Upload{Memory: 64 << 10, MaxFile: 1 << 20}})
	send := func(body string) (validate.Body, error) {
		_, _, _, got, err := a.call(request(t, "POST /upload", body, asParts))
		return got, err
	}
	t.Run("and arrives as it was", func(t *testing.T) {
		got, err := send(parts(field("title", "t"), photo, file("raw", "b.bin", "application/octet-stream", big)))
		if err != nil || got.Stream == nil || got.Length != -1 || got.Bytes != nil {
			t.Fatalf("stream %v, length %d, %v", got.Stream, got.Length, err)
		}
		b, err := io.ReadAll(iotest.OneByteReader(got.Stream))
		if err != nil {
			t.Fatal(err)
		}
		want := []read{{"title", "", "", "t"}, {"photo", "a.png", "image/png", big}, {"raw", "b.bin", "application/octet-stream", big}}
		if list := readParts(t, got.Header.Get("Content-Type"), string(b)); !reflect.DeepEqual(list, want) {
			t.Errorf("the service reads another form")
		}
		if v, err := got.Value(nil); err != nil || !reflect.DeepEqual(v, map[string]any{"title": "t"}) {
			t.Errorf("rules see %v, %v", v, err)
		}
	})
	t.Run("but wrong fields in front of them are refused before anything goes on", func(t *testing.T) {
		if _, err := send(parts(field("title", "t"), field("count", "10"), photo)); gatehouse.AsProblem(err).Reason != "invalid_body" {
			t.Errorf("got %v", err)
		}
		if _, err := send(parts(photo, field("title", "t"))); gatehouse.AsProblem(err).Reason != "invalid_body" {
			t.Errorf("a field behind them: got %v", err)
		}
	})
	for name, body := range map[string]string{
		"a field nobody judged in time": parts(field("title", "t"), photo, field("count", "1")),
		"an undeclared file":            parts(field("title", "t"), photo, file("virus", "a", "a/b", "x")),
		"a file of the wrong type":      parts(field("title", "t"), photo, file("papers", "a.pdf", "application/pdf", "x")),
		"a script":                      parts(field("title", "t"), photo, file("raw", "a.php", "a/b", "x")),
		"too large a file":              parts(field("title", "t"), photo, file("raw", "a", "a/b", strings.Repeat("x", 1<<20+1))),
		"no end":                        strings.TrimSuffix(parts(field("title", "t"), photo), "--\r\n"),
		"something behind the end":      parts(field("title", "t"), photo) + "x",
		"a name nobody looked at":       parts(field("title", "t"), photo, file("raw", "a' or 1=1.bin", "a/b", "x")),
		"a file twice":                  parts(field("title", "t"), photo, photo),
	} {
		t.Run("and "+name+" behind one cuts the stream off", func(t *testing.T) {
			got, err := send(body)
			if err != nil || got.Stream == nil {
				t.Fatalf("got %v, %v", got.Stream, err)
			}
			b, err := io.ReadAll(got.Stream)
			if p, ok := errors.AsType[*gatehouse.Problem](err); !ok || p.Kind == gatehouse.Internal {
				t.Fatalf("ended in %v", err)
			}
			if _, params, _ := mime.ParseMediaType(got.Header.Get("Content-Type")); bytes.Contains(b, []byte("--"+params["boundary"]+"--")) {
				t.Error("what the service saw looks whole")
			}
			if n, again := got.Stream.Read(make([]byte, 10)); n != 0 || !errors.Is(again, err) {
				t.Errorf("and went on: %d, %v", n, again)
			}
		})
	}
}

func TestMultipartWithoutSchemaTakesFieldsAndFiles(t *testing.T) {
	a := media(t, validate.Settings{})
	_, _, _, got, err := a.call(request(t, "POST /open", parts(field("a", "1"), file("b", "b.dat", "x/y", "\x00\x01")), asParts))
	if err != nil {
		t.Fatal(err)
	}
	want := []read{{"a", "", "", "1"}, {"b", "b.dat", "x/y", "\x00\x01"}}
	if list := readParts(t, got.Header.Get("Content-Type"), string(got.Bytes)); !reflect.DeepEqual(list, want) {
		t.Errorf("got %q", list)
	}
	_, _, _, got, err = a.call(request(t, "POST /open", "--b--", asParts))
	if list := readParts(t, got.Header.Get("Content-Type"), string(got.Bytes)); err != nil || len(list) != 0 {
		t.Errorf("an empty form: %q %v", list, err)
	}
}

// FuzzMultipart holds that Go reads of what goes on what was judged, and that it
// passes again.
func FuzzMultipart(f *testing.F) {
	title, photo := field("title", "t"), file("photo", "a.png", "image/png", png)
	for _, s := range []string{
		parts(title, photo), parts(title, photo, field("meta", `{"a":1}`)), parts(photo, title) + "x", "--b--", "--b\r\n\r\n--b--",
		parts(title, file("raw", "a.txt", "a/b", "\r\n--\r\n-\r\n--c")), parts(title, photo, field("tags", "x"), field("tags", "")),
		parts(field("items", "[{}]"), title, photo), strings.Replace(parts(title, photo), "t\r\n", "", 1),
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	a := media(f, validate.Settings{Upload: validate.Upload{Memory: 200}})
	f.Fuzz(func(t *testing.T, body string, open bool) {
		path := "/upload"
		if open {
			path = "/open"
		}
		send := func(body, header string) (validate.Body, string, error) {
			r := httptest.NewRequest("POST", path, iotest.HalfReader(strings.NewReader(body)))
			r.ContentLength = -1
			r.Header.Set("Content-Type", header)
			_, _, _, got, err := a.call(r)
			text := string(got.Bytes)
			if err == nil && got.Stream != nil {
				var b []byte
				b, err = io.ReadAll(got.Stream)
				text = string(b)
			}
			return got, text, err
		}
		got, text, err := send(body, "multipart/form-data; boundary=b")
		if err != nil || got.Header == nil {
			return
		}
		list := readParts(t, got.Header.Get("Content-Type"), text)
		theirs, err := multipart.NewReader(strings.NewReader(body), "b").ReadForm(1 << 20)
		if err == nil {
			n := 0
			for _, v := range theirs.Value {
				n += len(v)
			}
			for _, v := range theirs.File {
				n += len(v)
			}
			if n != len(list) {
				t.Fatalf("%q has %d parts for Go, and goes on with %d", body, n, len(list))
			}
		}
		again, text2, err := send(text, got.Header.Get("Content-Type"))
		if err != nil {
			t.Fatalf("%q goes on as %q, which is refused: %v", body, text, err)
		}
		if list2 := readParts(t, again.Header.Get("Content-Type"), text2); !reflect.DeepEqual(list, list2) {
			t.Fatalf("%q and then %q", list, list2)
		}
	})
}

func BenchmarkMultipart(b *testing.B) {
	a := media(b, validate.Settings{MaxBody: 8 << 20, Upload: validate.Upload{Memory: 4 << 20}})
	body := parts(field("title", "t"), file("photo", "a.png", "image/png", png+strings.Repeat("0123456789\r\n--", 70_000)))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, _, err := a.call(request(b, "POST /upload", body, asParts)); err != nil {
			b.Fatal(err)
		}
	}
}
