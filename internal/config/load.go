package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	maxFiles       = 256
	maxSecretBytes = 64 << 10
)

// Load reads the file at path and all it includes, gives defaults and checks
// what can be checked without another room. The error joins an [*Error] for each
// fault, in the order of the files. Where the config is in a database, it is the one
// that this node has at work.
func Load(path string) (*File, error) {
	f, err := LoadOwn(path)
	if err == nil && f.Pushed() {
		return loadTaken(f)
	}
	return f, err
}

// Parse reads a config from memory, without a look at the disk: include and
// secrets are faults. Errors call it name.
func Parse(name string, b []byte) (*File, error) {
	return load(name, filepath.Dir(name), name, b, disk{}, nil)
}

// part is what an included file may hold.
type part struct {
	APIs  map[string]*API `yaml:"apis" keys:"name" doc:"The APIs, by name."`
	Tests []Test          `yaml:"tests" max:"10000" doc:"What must be allowed and denied."`
}

// load reads a file; own is that of the node which has taken it, nil where it is its own.
func load(name, dir, abs string, b []byte, from disk, own *File) (*File, error) {
	d := &decoder{file: name, dir: dir, disk: from, pushed: own != nil}
	f := &File{Files: []string{abs}}
	digest := sha256.New()
	addDigest(digest, filepath.Base(abs), b)
	root := d.parse(b)
	if root == nil {
		return nil, join(d.errs)
	}
	if own != nil {
		root = withoutOwn(root)
	}
	d.fields(f, root, spot{})
	if own != nil {
		f.takeOwn(own)
	} else if f.Pushed() {
		d.ownOnly(root)
		f.Digest = hex.EncodeToString(digest.Sum(nil))
		f.eventsPath()
		return f, join(append(d.errs, f.checkFleet()...))
	}
	errs := d.errs
	for _, in := range f.Include {
		names, err := from.glob(dir, in.Value)
		if err != nil {
			errs = append(errs, &Error{in.Place, "include: " + err.Error()})
			continue
		}
		for _, included := range names {
			if slices.Contains(f.Files, included) {
				errs = append(errs, &Error{in.Place, fmt.Sprintf("include: %s is included twice", included)})
				continue
			}
			f.Files = append(f.Files, included)
			errs = append(errs, f.include(in, included, d, digest)...)
		}
	}
	if len(errs) == 0 || root.Kind == yaml.MappingNode {
		errs = append(errs, f.check()...)
	}
	if err := join(errs); err != nil {
		return nil, err
	}
	f.Digest, f.behind = hex.EncodeToString(digest.Sum(nil)), f.own+behind(f.OAuth, f.Identity, f.Admin.Token, f.edges())
	if own != nil {
		f.Carried = append(append(f.Carried, abs), d.carried...)
		f.carry(dir)
		f.Files = append(f.Files, own.Files...) // a change of which is one of the config
	}
	return f, nil
}

// include adds the APIs and tests of one more file.
func (f *File) include(in Text, abs string, main *decoder, digest io.Writer) []*Error {
	dir, from := main.dir, main.disk
	if len(f.Files) > maxFiles {
		return []*Error{{in.Place, fmt.Sprintf("include: more than %d files", maxFiles)}}
	}
	b, err := from.read(abs, maxBytes)
	if err != nil {
		return []*Error{{in.Place, "include: " + err.Error()}}
	}
	shown := abs
	carried := main.pushed && !filepath.IsAbs(in.Value)
	if rel, err := filepath.Rel(dir, abs); err == nil && (carried || !main.pushed) {
		shown = filepath.Join(filepath.Dir(in.Place.File), rel)
		addDigest(digest, rel, b)
	} else {
		addDigest(digest, abs, b)
	}
	d := &decoder{file: shown, dir: filepath.Dir(abs), disk: from, pushed: carried}
	root := d.parse(b)
	if root == nil {
		return d.errs
	}
	var p part
	d.fields(&p, root, spot{})
	if carried {
		f.Carried = append(append(f.Carried, abs), d.carried...)
	}
	for _, name := range slices.Sorted(maps.Keys(p.APIs)) {
		if first, ok := f.APIs[name]; ok {
			d.errs = append(d.errs, &Error{p.APIs[name].Place, fmt.Sprintf("apis.%s is already in %s", name, first.Place)})
			continue
		}
		if f.APIs == nil {
			f.APIs = map[string]*API{}
		}
		f.APIs[name] = p.APIs[name]
	}
	f.Tests = append(f.Tests, p.Tests...)
	return d.errs
}

// addDigest writes lengths too, so that no two sets of files look alike.
func addDigest(w io.Writer, name string, b []byte) {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:8], uint64(len(name)))
	binary.BigEndian.PutUint64(n[8:], uint64(len(b)))
	for _, part := range [][]byte{n[:], []byte(name), b} {
		_, _ = w.Write(part) // a hash takes everything
	}
}

// A disk is where includes and secrets are read; the zero disk has nothing.
type disk struct{ real bool }

var errNoDisk = errors.New("not available when a config is read from memory")

func (s disk) read(name string, limit int64) ([]byte, error) {
	if !s.real {
		return nil, errNoDisk
	}
	return readFile(name, limit)
}

func (s disk) secret(name string) (string, error) {
	b, err := s.read(name, maxSecretBytes)
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return value, nil
}

// glob gives the files a line of include names, sorted. One that names nothing
// is a mistake: an API that silently is not there is not what was meant.
func (s disk) glob(dir, pattern string) ([]string, error) {
	if !s.real {
		return nil, errNoDisk
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("%q is no pattern", pattern)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s matches no file", pattern)
	}
	slices.Sort(names)
	return names, nil
}

// readFile reads a regular file of at most limit bytes: never a device or a pipe,
// which could keep us forever.
func readFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", name, Size(limit))
	}
	return b, nil
}
