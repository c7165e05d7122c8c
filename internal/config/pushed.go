package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Names of what a node has taken from the database of its fleet, below its data folder.
const (
	PushedMain  = "gatehouse.yaml" // the main file of a config, whatever it was called where it was pushed
	PushedTaken = "taken"          // a link to the folder of the config at work
)

// PushedFolder is where a node has the configs of its fleet as files.
func (f *File) PushedFolder() string { return filepath.Join(f.Data.Value, "config") }

// Pushed reports whether the file is only a node's own part: the rest is in the
// database, pushed for all nodes.
func (f *File) Pushed() bool { return f.Fleet != nil && f.Fleet.Config == "database" }

// ownKeys are the settings that are each node's own where the config is pushed.
func ownKeys() []string {
	return []string{"data", "database", "shared", "fleet", "admin", "listeners", "events"}
}

// LoadOwn reads a file without what was pushed: where [File.Pushed] says that there
// is something, only the settings that are each node's own. Else it is [Load].
func LoadOwn(path string) (*File, error) {
	abs, b, err := readMain(path)
	if err != nil {
		return nil, err
	}
	return load(path, filepath.Dir(abs), abs, b, disk{real: true}, nil)
}

// LoadPushed reads the file at path as a node does that has taken it: its own
// settings are those of own. What stays at each node must be named absolutely:
// secrets, keys, certificates, folders.
func LoadPushed(path string, own *File) (*File, error) {
	abs, b, err := readMain(path)
	if err != nil {
		return nil, err
	}
	return load(path, filepath.Dir(abs), abs, b, disk{real: true}, own)
}

// loadTaken reads the config that the node of own has at work.
func loadTaken(own *File) (*File, error) {
	taken := filepath.Join(own.PushedFolder(), PushedTaken)
	dir, err := filepath.EvalSymlinks(taken) // its own name: taken is another folder after the next push
	if err != nil {
		return nil, Errorf(own.Fleet.Place, "fleet: config: no config of the database is at work here yet; push one with 'gatehouse fleet push FILE', then start this node (%v)", err)
	}
	return LoadPushed(filepath.Join(dir, PushedMain), own)
}

// ownOnly refuses in a node's own file what its fleet's config has: it would be of
// no effect, and look as if it were.
func (d *decoder) ownOnly(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key := root.Content[i]; key.Value != "gatehouse" && !slices.Contains(ownKeys(), key.Value) {
			d.errorf(key, "%s is in the config that is pushed to the database (fleet.config); this file has a node's own settings alone: %s", key.Value, strings.Join(ownKeys(), ", "))
		}
	}
}

// withoutOwn is root without the settings that each node has of its own.
func withoutOwn(root *yaml.Node) *yaml.Node {
	rest := *root
	rest.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		if !slices.Contains(ownKeys(), root.Content[i].Value) {
			rest.Content = append(rest.Content, root.Content[i], root.Content[i+1])
		}
	}
	return &rest
}

// takeOwn gives f the settings of a node's own file.
func (f *File) takeOwn(own *File) {
	to, from := reflect.ValueOf(f).Elem(), reflect.ValueOf(own).Elem()
	for i := range to.NumField() {
		if slices.Contains(ownKeys(), to.Type().Field(i).Tag.Get("yaml")) {
			to.Field(i).Set(from.Field(i))
		}
	}
	f.Listeners = slices.Clone(f.Listeners) // which check completes
	f.own = own.Digest
}

// carry notes the keys of issuers among the files that are pushed.
func (f *File) carry(dir string) {
	for _, i := range f.Issuers {
		if file := i.JWKS.Value; file != "" && !strings.Contains(file, "://") && !filepath.IsAbs(file) {
			f.Carried = append(f.Carried, filepath.Join(dir, file))
		}
	}
	slices.Sort(f.Carried)
	f.Carried = slices.Compact(f.Carried)
}

// stays refuses a relative path where files stay at each node.
func (d *decoder) stays(n *yaml.Node, at spot, what string) {
	d.errorf(n, "%s: %s stays at each node, so that its path must be absolute in a config that is pushed to the database", at, what)
}

func readMain(path string) (abs string, b []byte, err error) {
	if abs, err = filepath.Abs(path); err != nil {
		return "", nil, fmt.Errorf("config: %w", err)
	}
	if b, err = readFile(abs, maxBytes); err != nil {
		return "", nil, fmt.Errorf("cannot read the config: %w", err)
	}
	return abs, b, nil
}
