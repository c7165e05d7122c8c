package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// An Initial is what is known when a first config is written: one OpenAPI document
// and the service behind it.
type Initial struct {
	Title      string // of the document
	OpenAPI    string // its path, relative to where the config will stand
	Upstream   string // URL of the service
	Unchecked  bool   // the document has patterns that cannot be checked
	Schemes    []InitialScheme
	Operations []InitialOperation
}

// An InitialScheme is a security scheme of the document.
type InitialScheme struct {
	Name string
	Kind string // as in gatehouse.SchemeUse
}

// An InitialOperation is an operation of the document.
type InitialOperation struct {
	ID      string   // operationId, or "GET /path"
	Method  string   // upper case
	Path    string   // template
	Secured bool     // the document's security asks for a credential
	Scopes  []string // which it asks for
}

// Init writes a first gatehouse.yaml: it loads as it is and lets nobody in who has
// no credential. What the document secures stays as the document says; what it
// leaves open asks for a grant of the role admin, until the reader decides. The
// error names what in the document cannot be written.
func Init(in Initial) (string, error) {
	name := nameOf(in.Title)
	w := &strings.Builder{}
	fmt.Fprintf(w, `# yaml-language-server: $schema=./gatehouse.schema.json
#
# Gatehouse in front of %s. Written by 'gatehouse init'; now it is yours.
#
#   gatehouse schema > gatehouse.schema.json   completion in your editor
#   gatehouse check                            is it right, does it fit the document
#   gatehouse access-matrix                    who may call what
#   gatehouse serve                            start
#
# Nothing is open: an operation that is not in the document is not found, and one
# in the document needs a credential.
gatehouse: 1

listeners:
  - address: 127.0.0.1:8443
    tls: {self: [localhost, 127.0.0.1]} # a certificate of our own CA; or {certificate: file, key: file}

# Whose tokens are taken. Name your authorization server here, or let this program be
# it, and name it in authenticate below; until then callers use API keys: gatehouse
# keys create
#
# issuers:
#   main: {issuer: "https://auth.example", audience: %s, roles: roles}
# oauth: {issuer: "https://localhost:8443"} # our own; its name in authenticate is gatehouse

# What a role may do. A grant is noun:verb; * stands for any.
roles:
  admin: ["*"]
%s
apis:
  %s:
    openapi: %s
    upstreams: [%s]
`, comment(orElse(in.Title, "your API")), name, readers(name, in.Operations), name, quote(in.OpenAPI), quote(in.Upstream))
	if len(in.Schemes) > 0 {
		w.WriteString("    # Who serves the security schemes of the document: names of issuers, keys or mtls.\n    authenticate:\n")
		for _, s := range in.Schemes {
			hint := " # when issuers are named: [main]; with oauth: gatehouse"
			switch s.Kind {
			case "apiKey":
				hint = ""
			case "mutualTLS":
				hint = " # when the listener has client_certificates: mtls"
			}
			fmt.Fprintf(w, "      %s: keys%s\n", quote(s.Name), hint)
		}
	}
	if in.Unchecked {
		w.WriteString("    unchecked_patterns: skip # the document has some that cannot be checked safely: gatehouse check lists them\n")
	}
	w.WriteString(`    limits:
      - {per: address, rate: 50/s, burst: 100}
      - {per: principal, rate: 600/min, burst: 60}
    # responses: report    # write into the event where answers break the document
`)
	writeOperations(w, name, in.Operations)
	writeTests(w, name, in.Operations)
	text := w.String()
	if _, err := Parse("gatehouse.yaml", []byte(text)); err != nil {
		return "", fmt.Errorf("the document has names or values a config cannot hold: %w", err)
	}
	return text, nil
}

func writeOperations(w *strings.Builder, api string, ops []InitialOperation) {
	open := slices.DeleteFunc(slices.Clone(ops), func(o InitialOperation) bool { return o.Secured })
	if len(open) > 0 {
		w.WriteString(`
    # The document names no security for these, so somebody must decide. As written
    # they ask for a grant. Choose for each: its grant, or {public: true} for anyone,
    # or {closed: true} for no one.
    operations:
`)
		for _, o := range open {
			fmt.Fprintf(w, "      %s: {grant: %s}%s\n", quote(o.ID), grantOf(api, o.Method), where(o))
		}
	} else {
		w.WriteString("    # operations:\n")
	}
	secured := slices.DeleteFunc(slices.Clone(ops), func(o InitialOperation) bool { return !o.Secured })
	if len(secured) == 0 {
		return
	}
	w.WriteString(`
    # The document secures these, and that is enforced. Add what it cannot say:
    #   grant: a role's grant · own: {path.customerId: claims.sub} · require and deny:
    #   {id: CEL expression} · limits · max_body · timeout
    #
`)
	for _, o := range secured {
		scopes := ""
		if len(o.Scopes) > 0 {
			scopes = " asks for " + comment(strings.Join(o.Scopes, " "))
		}
		fmt.Fprintf(w, "    #   %s: {grant: %s}%s%s\n", comment(quote(o.ID)), suggested(api, o), where(o), scopes)
	}
}

// suggested is the scope the document asks for, where that reads as a grant.
func suggested(api string, o InitialOperation) string {
	for _, s := range o.Scopes {
		if formats["grant"].pattern.MatchString(s) {
			return s
		}
	}
	return grantOf(api, o.Method)
}

// where says for which request an operation is, unless its id already does.
func where(o InitialOperation) string {
	if o.ID == o.Method+" "+o.Path {
		return ""
	}
	return " # " + comment(o.Method+" "+o.Path)
}

// writeTests writes what is certain whatever the document says: nobody is nobody.
func writeTests(w *strings.Builder, api string, ops []InitialOperation) {
	if len(ops) == 0 {
		return
	}
	w.WriteString("\n# Questions with their answers: 'gatehouse test' asks them, and so does every reload.\ntests:\n")
	for _, o := range ops[:min(3, len(ops))] {
		fmt.Fprintf(w, "  - {name: %s, call: %s%s, expect: 401}\n",
			quote("nobody without a credential calls "+o.ID), quote(api+"."+o.ID), somewhere(o.Path))
	}
}

var parameter = regexp.MustCompile(`\{([^{}]+)\}`)

// somewhere gives a test values for the parameters of a path. Any do: who is
// calling is asked before what for.
func somewhere(path string) string {
	found := parameter.FindAllStringSubmatch(path, -1)
	if found == nil {
		return ""
	}
	var values []string
	for _, m := range found {
		values = append(values, quote(m[1])+`: "1"`)
	}
	return ", path: {" + strings.Join(values, ", ") + "}"
}

func readers(api string, ops []InitialOperation) string {
	if !slices.ContainsFunc(ops, func(o InitialOperation) bool { return grantOf(api, o.Method) == api+":read" }) {
		return ""
	}
	return "  reader: [" + api + ":read]\n"
}

func grantOf(api, method string) string {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return api + ":read"
	case "DELETE":
		return api + ":delete"
	}
	return api + ":write"
}

// nameOf makes a name of a title: "Orders API (v2)" becomes orders-api-v2. It ends
// after whole words: people will write it often.
func nameOf(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == '\'' || r == '’':
		case r >= 'a' && r <= 'z' || b.Len() > 0 && r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	const limit = 24
	name := strings.Trim(b.String(), "-")
	for len(name) > limit && strings.Contains(name, "-") {
		name = name[:strings.LastIndexByte(name, '-')]
	}
	return orElse(name[:min(len(name), limit)], "api")
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// comment makes s fit into a comment: whoever wrote the document must not write
// the config by a line break in a title.
func comment(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, " ")))
}

var bare = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)

// otherwise are words that older readers of YAML, editors among them, take for booleans.
var otherwise = []string{"y", "n", "yes", "no", "on", "off"}

// quote writes s so that YAML reads exactly s, in a block or a flow.
func quote(s string) string {
	var n yaml.Node
	if bare.MatchString(s) && !slices.Contains(otherwise, strings.ToLower(s)) && yaml.Unmarshal([]byte(s), &n) == nil &&
		len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode && n.Content[0].ShortTag() == "!!str" {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
