package validate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pb33f/go-yaml"
	"github.com/pb33f/libopenapi"
	"github.com/pb33f/libopenapi/datamodel"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// DefaultMaxBody is the size of a request body when the settings name none.
const DefaultMaxBody = 1 << 20

// A Mode is what happens to an answer that is not what the document says.
type Mode uint8

// The modes.
const (
	Off     Mode = iota // answers are not looked at
	Report              // written down
	Enforce             // withheld: the caller gets 502 bad_response
)

// Settings are how strictly operations are checked. The zero Settings are the
// strict ones, with answers unchecked.
type Settings struct {
	MaxBody          int64 // bytes of a request body; 0: [DefaultMaxBody]; below 0: no body at all
	DropUnknownQuery bool  // leave undeclared query parameters out instead of refusing the request
	Responses        Mode

	Decompress bool     // take request bodies in gzip, which go on without; otherwise 415
	Upload     Upload   // multipart/form-data
	GRPC       GRPC     // application/grpc and what it has behind a +
	GraphQL    *GraphQL // the operation is a GraphQL endpoint; nil: it is not

	Rules          Mode        // the WAF's rules about requests
	AnswerRules    Mode        // and about answers
	Leaks          Mode        // what answers must not tell: stack traces, card numbers, keys
	LeakOptions    LeakOptions // which leak rules, and how far they look
	Deeper         Mode        // free text that is decoded, and the rules asked again
	PassOverBudget bool        // a request whose content is not looked through passes, and its event says so
	Exclude        []Exclusion // values that rules do not look at
}

// An Exclusion keeps rules from looking at a value, or from running at all.
type Exclusion struct {
	Rules     []string // ids ("942100"), ranges ("942000-942999") and tags ("attack-sqli")
	Parameter string   // "query.q", "header.Referer", "body.q" of a form, "body/items/*/note" of JSON; "": the rules do not run
}

// Options say how a document is compiled.
type Options struct {
	API                     string              // name of the API, for its operations
	Base                    string              // path in front of every template; "": the path of the first server
	Settings                Settings            // of every operation
	Operations              map[string]Settings // of single ones, by id, instead; ids the document lacks are for the caller to find
	WAF                     *WAF                // the rules Settings speak of; nil: there are none
	SkipUnsupportedPatterns bool                // warn of a pattern RE2 cannot run (lookaround, back reference) instead of refusing the document
}

// A Document is one OpenAPI document, compiled. It is immutable.
type Document struct {
	title, version string
	servers        []string
	base           string
	operations     []*Operation
	warnings       []Warning
	files          []string
	digest         string
}

// A Warning is something in the document that is enforced less, or otherwise,
// than its author may think.
type Warning struct {
	Place string // file:line:column
	Text  string
}

func (w Warning) String() string { return w.Place + ": " + w.Text }

// Title is the document's info.title.
func (d *Document) Title() string { return d.title }

// Version is the document's info.version.
func (d *Document) Version() string { return d.version }

// Servers lists the URLs of the document's servers, variables filled in.
func (d *Document) Servers() []string { return slices.Clone(d.servers) }

// Base is the path in front of every template, without a slash at its end.
func (d *Document) Base() string { return d.base }

// Operations lists the operations in the order of the document. The index of one
// is a good route for a [Router].
func (d *Document) Operations() []*Operation { return slices.Clone(d.operations) }

// Warnings lists what is not enforced as written.
func (d *Document) Warnings() []Warning { return slices.Clone(d.warnings) }

// Files lists the files that were read, relative to the folder of the first.
func (d *Document) Files() []string { return slices.Clone(d.files) }

// Digest is the SHA-256 over names and content of all files, in hex.
func (d *Document) Digest() string { return d.digest }

// LoadFile is [Load] of a file on disk. Files the document refers to must lie in
// its folder or below; symbolic links out of it are not followed.
func LoadFile(name string, o Options) (*Document, error) {
	dir, base := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("openapi document: %w", err)
	}
	defer func() { _ = root.Close() }()
	return load(root.FS(), base, filepath.ToSlash(filepath.Clean(dir)), o)
}

// Load reads the OpenAPI 3.0, 3.1 or 3.2 document name of fsys, JSON or YAML, and
// compiles it. References may name files of fsys, never another host. The error
// joins every fault that was found, each with file, line and column.
func Load(fsys fs.FS, name string, o Options) (*Document, error) {
	return load(fsys, name, "", o)
}

func load(fsys fs.FS, name, prefix string, o Options) (*Document, error) {
	if prefix == "." {
		prefix = ""
	}
	l := &loader{options: &o, doc: new(Document), scratch: new(sync.Pool), params: map[string]*param{}, ids: map[string]string{}}
	sum := sha256.New()
	l.files = &files{
		fsys: fsys, prefix: prefix, byName: map[string]*file{},
		parse: l.parse, add: l.addResource,
		seen: func(name string, data []byte) { l.record(sum, name, data) },
	}
	if err := l.load(path.Clean(name)); err != nil {
		return nil, err
	}
	l.doc.digest = hex.EncodeToString(sum.Sum(nil))
	return l.doc, nil
}

// A loader compiles one document.
type loader struct {
	options   *Options
	doc       *Document
	files     *files
	root      at
	dialect   jsonschema.Dialect
	library   libopenapi.Document
	requests  *schemas
	responses *schemas
	scratch   *sync.Pool
	params    map[string]*param              // by location; nil for headers OpenAPI ignores
	schemes   map[string]gatehouse.SchemeUse // by name, without scopes
	ids       map[string]string              // place by operationId
	faults    []error
}

func (l *loader) record(sum hash.Hash, name string, data []byte) {
	l.doc.files = append(l.doc.files, name)
	_, _ = fmt.Fprintf(sum, "%s\x00%d\x00", name, len(data))
	sum.Write(data)
}

func (l *loader) warn(a at, format string, args ...any) {
	w := Warning{Place: a.where(), Text: fmt.Sprintf(format, args...)}
	if !slices.Contains(l.doc.warnings[max(0, len(l.doc.warnings)-8):], w) {
		l.doc.warnings = append(l.doc.warnings, w)
	}
}

// parse reads one file. The first is the OpenAPI document itself, which the
// library recognises and versions; the others are fragments.
func (l *loader) parse(name string, data []byte) (*yaml.Node, error) {
	if l.library != nil {
		var n yaml.Node
		if err := yaml.Unmarshal(data, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
			return nil, fmt.Errorf("%s: empty", name)
		}
		return n.Content[0], nil
	}
	library, err := libopenapi.NewDocumentWithConfiguration(data, &datamodel.DocumentConfiguration{
		SkipExternalRefResolution: true, SkipCircularReferenceCheck: true, SkipJSONConversion: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.library = library
	version := library.GetVersion()
	switch {
	case strings.HasPrefix(version, "3.0."):
		l.dialect = jsonschema.OpenAPI30
	case strings.HasPrefix(version, "3.1."), strings.HasPrefix(version, "3.2."):
		l.dialect = jsonschema.Draft202012
	default:
		return nil, fmt.Errorf("%s: OpenAPI version %q; expected 3.0, 3.1 or 3.2 (convert Swagger 2 documents first)", name, version)
	}
	if l.requests, err = newSchemas(l.dialect, jsonschema.Request, l.options, l.placed); err != nil {
		return nil, err
	}
	if l.responses, err = newSchemas(l.dialect, jsonschema.Response, l.options, l.placed); err != nil {
		return nil, err
	}
	root := library.GetSpecInfo().RootNode
	if root == nil || len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: expected an object", name)
	}
	return root.Content[0], nil
}

// addResource gives a file to the schema compilers and reads the files its
// schemas refer to.
func (l *loader) addResource(f *file, value any) error {
	if err := errors.Join(l.requests.compiler.AddResource(f.uri(), value), l.responses.compiler.AddResource(f.uri(), value)); err != nil {
		return fmt.Errorf("%s: %w", f.show, err)
	}
	return l.openRefs(f, value, map[string]bool{})
}

// openRefs reads the files beside the document that its $ref name. References
// to other hosts are left to whoever follows them, who refuses.
func (l *loader) openRefs(f *file, value any, seen map[string]bool) error {
	switch v := value.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && !strings.HasPrefix(ref, "#") && !seen[ref] {
			seen[ref] = true
			target, _, _ := strings.Cut(ref, "#")
			u, err := url.Parse(target)
			if err == nil && !u.IsAbs() && u.Host == "" && !strings.HasPrefix(u.Path, "/") {
				name := path.Join(path.Dir(f.name), u.Path)
				if fs.ValidPath(name) {
					if _, err := l.files.open(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
						return fmt.Errorf("%s: $ref %q: %w", f.show, ref, err)
					}
				}
			}
		}
		for key, member := range v {
			switch key {
			case "example", "examples", "default", "enum", "const":
				continue // data, in which "$ref" means nothing
			}
			if err := l.openRefs(f, member, seen); err != nil {
				return err
			}
		}
	case []any:
		for _, member := range v {
			if err := l.openRefs(f, member, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) load(name string) error {
	f, err := l.files.open(name)
	if err != nil {
		return err
	}
	l.root = at{f: f, n: f.root}
	l.doc.title = l.root.get("info").get("title").str()
	l.doc.version = l.root.get("info").get("version").str()
	if err := l.loadServers(); err != nil {
		return err
	}
	if err := l.loadSchemes(); err != nil {
		return err
	}
	if !l.root.get("paths").ok() {
		l.warn(l.root, "the document has no paths: nothing can be called")
	}
	err = l.root.get("paths").each(func(template string, item at) error {
		if strings.HasPrefix(template, "/") {
			l.pathItem(template, item)
		} else if !strings.HasPrefix(template, "x-") {
			l.faults = append(l.faults, item.fault("path %q must start with '/'", template))
		}
		return nil
	})
	l.faults = append(l.faults, err)
	l.findOverlaps()
	l.schemaWarnings()
	if err := errors.Join(l.faults...); err != nil {
		return err
	}
	// The library looks at the whole document, the parts no operation uses, too.
	// It cannot follow references into the files that only we may open.
	if len(l.files.order) > 1 {
		return nil
	}
	if _, err := l.library.BuildV3Model(); err != nil {
		return fmt.Errorf("%s: %w", f.show, err)
	}
	return nil
}

// schemaWarnings takes over what the compilers warned of, with file and line in
// front instead of URI and pointer.
func (l *loader) schemaWarnings() {
	seen := map[string]bool{}
	for _, s := range []*schemas{l.requests, l.responses} {
		for _, text := range s.compiler.Warnings() {
			if !seen[text] {
				seen[text] = true
				l.doc.warnings = append(l.doc.warnings, l.placed(text))
			}
		}
	}
}

// placed turns "openapi:///orders.yaml#/components/…: text" into a [Warning].
func (l *loader) placed(text string) Warning {
	place := l.root.where()
	if at := strings.Index(text, baseURI); at >= 0 {
		uri, rest, ok := strings.Cut(text[at:], ": ")
		target, fragment, _ := strings.Cut(strings.TrimPrefix(uri, baseURI), "#")
		name, err := url.PathUnescape(target)
		if f := l.files.byName[name]; ok && err == nil && f != nil {
			return Warning{Place: nearest(f, fragment).where(), Text: "schema " + fragment + ": " + rest}
		}
	}
	return Warning{Place: place, Text: text}
}

// nearest is the node a JSON Pointer names, or the last on the way that exists.
func nearest(f *file, pointer string) at {
	a := at{f: f, n: f.root}
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		next := a.token(token)
		if !next.ok() {
			break
		}
		a = next
	}
	return a
}

// findOverlaps warns of templates OpenAPI calls ambiguous and refuses equal ones.
func (l *loader) findOverlaps() {
	var r Router
	for i, o := range l.doc.operations {
		if err := r.Add("", o.op.Method, o.op.Path, i); err != nil {
			if c, ok := errors.AsType[*Conflict](err); ok {
				err = fmt.Errorf("%w (the other is at %s)", err, l.doc.operations[c.First].place)
			}
			l.faults = append(l.faults, fmt.Errorf("%s: %w", o.place, err))
		}
	}
	for _, c := range r.Overlaps() {
		l.doc.warnings = append(l.doc.warnings, Warning{
			Place: l.doc.operations[c.First].place,
			Text: fmt.Sprintf("%s and %s (%s) match the same paths; %s is served there",
				c.FirstPath, c.SecondPath, l.doc.operations[c.Second].place, c.FirstPath),
		})
	}
}

// loadServers reads the base path: that of the first server, since what callers
// ask the gateway for is what they would ask the service for.
func (l *loader) loadServers() error {
	for _, s := range l.root.get("servers").items() {
		raw := s.get("url").str()
		err := s.get("variables").each(func(name string, v at) error {
			raw = strings.ReplaceAll(raw, "{"+name+"}", v.get("default").str())
			return nil
		})
		if err != nil {
			return err
		}
		l.doc.servers = append(l.doc.servers, raw)
	}
	base := l.options.Base
	if base == "" && len(l.doc.servers) > 0 {
		u, err := url.Parse(l.doc.servers[0])
		if err != nil {
			return l.root.get("servers").fault("server URL %q: cannot be read", l.doc.servers[0])
		}
		base = u.EscapedPath()
	}
	base = strings.TrimRight(base, "/")
	if base != "" && CheckPath(base) != nil {
		return l.root.fault("base path %q: no request can reach it", base)
	}
	// One spelling: what is forwarded is written from it, and cut by its length.
	for segment := range strings.SplitSeq(strings.TrimPrefix(base, "/"), "/") {
		if base != "" {
			l.doc.base = string(appendSegment([]byte(l.doc.base+"/"), decodeSegment(segment)))
		}
	}
	return nil
}

func (l *loader) loadSchemes() error {
	l.schemes = map[string]gatehouse.SchemeUse{}
	return l.root.get("components").get("securitySchemes").each(func(name string, s at) error {
		s, err := l.files.deref(s)
		if err != nil {
			return err
		}
		kind := s.get("type").str()
		switch kind {
		case "http":
			kind += ":" + strings.ToLower(s.get("scheme").str())
		case "oauth2", "openIdConnect", "apiKey", "mutualTLS":
		default:
			return s.fault("security scheme %q has type %q; expected oauth2, openIdConnect, http, apiKey or mutualTLS", name, kind)
		}
		use := gatehouse.SchemeUse{Scheme: name, Kind: kind}
		if kind == "apiKey" {
			if in := s.get("in").str(); in == "header" {
				use.Header = s.get("name").str()
			} else {
				l.warn(s, "security scheme %q wants API keys in the %s, where they end up in logs or are sent by other sites' pages; they are taken in a header only", name, in)
			}
		}
		l.schemes[name] = use
		return nil
	})
}
