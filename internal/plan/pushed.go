package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
)

// Pushed compiles the config at path as a node takes it from the database of its
// fleet, whose own settings are those of own; at is as for [Again].
func Pushed(path string, own *config.File, at *Plan) (*Plan, error) {
	return compile(func() (*config.File, error) { return config.LoadPushed(path, own) }, true, at, nil)
}

// Pack reads the files of a plan that [Pushed] made, as every node is to have them.
// What the config names by an absolute path is not among them.
func (p *Plan) Pack() (*fleet.Revision, error) {
	root := filepath.Dir(p.File.Files[0])
	texts := map[string][]byte{}
	all := slices.Concat(p.File.Carried, p.carried)
	slices.Sort(all)
	for _, path := range slices.Compact(all) {
		name, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s: it is not below %s, the folder of the config: move it there, or give it to each node and name it by an absolute path", path, root)
		}
		if name = filepath.ToSlash(name); path == p.File.Files[0] {
			name = config.PushedMain
		}
		if _, twice := texts[name]; twice {
			return nil, fmt.Errorf("%s: in the database the main file has this name; call it otherwise", path)
		}
		if texts[name], err = readText(path); err != nil {
			return nil, err
		}
	}
	for _, i := range p.File.Issuers {
		if text, ok := texts[filepath.ToSlash(filepath.Clean(i.JWKS.Value))]; ok && privateKeys(text) {
			return nil, config.Errorf(i.JWKS.Place, "issuers: %s has private keys; only public ones are pushed", i.JWKS.Value)
		}
	}
	return fleet.NewRevision(texts)
}

func readText(path string) (b []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	return io.ReadAll(io.LimitReader(file, fleet.MaxFileBytes+1))
}

// privateKeys reports whether a JWK set has a key that must stay where it is (RFC
// 7517 §9.2), or is none.
func privateKeys(text []byte) bool {
	var set struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(text, &set) != nil {
		return true
	}
	return slices.ContainsFunc(set.Keys, func(key map[string]json.RawMessage) bool {
		for name := range key { // encoding/json ignores the case of names elsewhere; so may other readers
			if n := strings.ToLower(name); n == "d" || n == "k" {
				return true
			}
		}
		return false
	})
}

// A Push stores configs for all nodes of a fleet.
type Push struct {
	Own     *config.File   // settings of the node that checks
	Configs *fleet.Configs // where they are stored
	Author  string         // who does it
	Dry     bool           // only check
}

// File checks the config at path as a node takes it, with its own tests, and stores
// it. Stored is false when the newest one has the same files.
func (u *Push) File(ctx context.Context, path string) (r *fleet.Revision, stored bool, err error) {
	return u.push(ctx, func() (*fleet.Revision, *Plan, error) {
		p, err := tested(ctx)(Pushed(path, u.Own, nil)) // where its faults have their places
		if err != nil {
			return nil, nil, err
		}
		r, err := p.Pack()
		return r, p, err
	})
}

// Back stores an older revision anew, checked as any.
func (u *Push) Back(ctx context.Context, number int64) (r *fleet.Revision, stored bool, err error) {
	return u.push(ctx, func() (*fleet.Revision, *Plan, error) {
		r, err := u.Configs.Revision(ctx, number)
		if err == nil {
			r.Origin = number
		}
		return r, nil, err
	})
}

func (u *Push) push(ctx context.Context, what func() (*fleet.Revision, *Plan, error)) (_ *fleet.Revision, stored bool, err error) {
	newest, err := u.newest(ctx) // before anything is read: who is faster meanwhile is seen
	if err != nil {
		return nil, false, err
	}
	r, p, err := what()
	if err != nil {
		return nil, false, err
	}
	// What is stored is what was tested: the very files, where nothing else is beside them.
	dir, err := os.MkdirTemp("", "gatehouse-push-")
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at, err := fleet.Folder(dir).Put(r)
	if err != nil {
		return nil, false, err
	}
	if _, err := tested(ctx)(Pushed(filepath.Join(at, config.PushedMain), u.Own, p)); err != nil {
		return nil, false, err
	}
	if newest.Digest == r.Digest {
		return newest, false, nil
	}
	if u.Dry {
		return r, false, nil
	}
	if err := u.Configs.Push(ctx, newest.Number, u.Author, r); err != nil {
		return nil, false, err
	}
	return r, true, nil
}

// newest is what a push follows. One that was changed in the database counts by its
// number only: a good one shall replace it.
func (u *Push) newest(ctx context.Context) (*fleet.Revision, error) {
	r, err := u.Configs.Newest(ctx)
	switch {
	case errors.Is(err, fleet.ErrNoConfig):
		return &fleet.Revision{}, nil
	case errors.Is(err, fleet.ErrForged), errors.Is(err, fleet.ErrFleetKey):
		all, err := u.Configs.History(ctx)
		if err != nil || len(all) == 0 {
			return nil, errors.Join(err, fleet.ErrPushed)
		}
		return &fleet.Revision{Number: all[0].Number}, nil
	}
	return r, err
}
