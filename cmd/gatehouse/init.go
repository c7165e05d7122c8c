package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// plainWord is what can be pasted into a shell, whoever wrote the document.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._/-]*$`)

type initCmd struct {
	OpenAPI  string `arg:"" name:"openapi" help:"Your API's OpenAPI 3.0 or 3.1 file."`
	Upstream string `required:"" placeholder:"URL" help:"Where the service is, like http://127.0.0.1:8080."`
	Force    bool   `help:"Replace a config that is there."`
}

func (initCmd) Help() string {
	return "Writes a commented gatehouse.yaml that passes 'gatehouse check' and lets nobody in without a credential, and beside it the JSON Schema for editors.\n\nExample:\n  gatehouse init openapi.yaml --upstream http://127.0.0.1:8080"
}

// Run writes the config and checks it.
func (c *initCmd) Run(cli *cli, std *stdio) error {
	doc, err := validate.LoadFile(c.OpenAPI, validate.Options{API: "api"})
	if errors.Is(err, fs.ErrNotExist) {
		return &hintError{err, "init needs the OpenAPI file of your API, YAML or JSON"}
	}
	unchecked := false
	if err != nil { // for its patterns alone a document is not turned away: the config says that they are skipped
		doc, unchecked = loadUnchecked(c.OpenAPI)
	}
	if doc == nil {
		return err
	}
	dir := filepath.Dir(cli.Config)
	spec, err := relative(dir, c.OpenAPI)
	if err != nil {
		return err
	}
	in := config.Initial{Title: doc.Title(), OpenAPI: spec, Upstream: c.Upstream, Unchecked: unchecked}
	seen := map[string]bool{}
	for _, checks := range doc.Operations() {
		op := checks.Op()
		o := config.InitialOperation{ID: op.ID, Method: op.Method, Path: op.Path}
		open := len(op.Security) == 0
		for _, r := range op.Security {
			open = open || len(r) == 0
			for _, use := range r {
				if !seen[use.Scheme] {
					seen[use.Scheme] = true
					in.Schemes = append(in.Schemes, config.InitialScheme{Name: use.Scheme, Kind: use.Kind})
				}
				for _, s := range use.Scopes {
					if !slices.Contains(o.Scopes, s) {
						o.Scopes = append(o.Scopes, s)
					}
				}
			}
		}
		o.Secured = !open
		in.Operations = append(in.Operations, o)
	}
	text, err := config.Init(in)
	if err != nil {
		return err
	}
	if err := writeNew(cli.Config, []byte(text), c.Force); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "gatehouse.schema.json"), config.Schema(), 0o644); err != nil { //nolint:gosec // a schema is for everyone
		return err
	}
	p, err := plan.Compile(cli.Config)
	if err != nil {
		return fmt.Errorf("%s was written, and needs your hand:\n%w", cli.Config, err)
	}
	say(std.out, "%s: %d operations, %d warnings\n", cli.Config, len(p.Snapshot.Routes), len(p.Warnings))
	say(std.out, "next:\n  gatehouse check           every warning with its place\n  gatehouse access-matrix   who may call what\n  gatehouse serve\n")
	role := "admin"
	if p.File.Roles["reader"] != nil {
		role = "reader"
	}
	for _, o := range in.Operations { // what the document asks for has to be in the key, too
		if o.Method != http.MethodGet || len(o.Scopes) == 0 {
			continue
		}
		if !slices.ContainsFunc(o.Scopes, func(s string) bool { return !plainWord.MatchString(s) }) {
			role += " --scope " + strings.Join(o.Scopes, " --scope ")
		}
		break
	}
	say(std.out, "  gatehouse keys create --owner me --role %s   then: curl -H 'X-API-Key: …'\n", role)
	return nil
}

// loadUnchecked reads a document without the patterns that cannot be checked; nil
// when it has other faults.
func loadUnchecked(name string) (*validate.Document, bool) {
	doc, err := validate.LoadFile(name, validate.Options{API: "api", SkipUnsupportedPatterns: true})
	return doc, err == nil
}

func relative(dir, name string) (string, error) {
	from, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	to, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(from, to)
	if err != nil {
		return to, nil //nolint:nilerr // no way from here to there: the absolute path does
	}
	if rel = filepath.ToSlash(rel); !strings.HasPrefix(rel, "../") {
		rel = "./" + rel
	}
	return rel, nil
}

func writeNew(name string, b []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &hintError{fmt.Errorf("%s is there already", name), "choose another name with --config, or replace it with --force"}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
