package fleet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

// A Folder is where a node has pushed configs as files: each in a folder of its own
// that appears whole or not at all, and a link to the one at work.
type Folder string

const unfinished = ".new-"

// nameOf is the folder of a revision below f.
func nameOf(r *Revision) string { return fmt.Sprintf("%d-%.16s", r.Number, r.Digest) }

// Put writes the files of r, unless they are there as they were pushed, and returns
// their folder.
func (f Folder) Put(r *Revision) (string, error) {
	if err := r.whole(); err != nil {
		return "", err
	}
	dir := filepath.Join(string(f), nameOf(r))
	if same(dir, r) {
		return dir, nil
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	fresh := filepath.Join(string(f), unfinished+rand.Text())
	err := write(fresh, r)
	if err == nil {
		err = os.Rename(fresh, dir)
		if errors.Is(err, fs.ErrExist) { // somebody has changed it here
			if err = os.Rename(dir, filepath.Join(string(f), unfinished+rand.Text())); err == nil {
				err = os.Rename(fresh, dir)
			}
		}
	}
	if err == nil {
		err = syncFolder(string(f))
	}
	if err != nil {
		return "", fmt.Errorf("fleet: the config from the database: %w", errors.Join(err, os.RemoveAll(fresh)))
	}
	return dir, nil
}

// same reports whether dir holds the files of r and no other ones.
func same(dir string, r *Revision) bool {
	left := len(r.Files)
	want := map[string]string{}
	for _, f := range r.Files {
		want[f.Name] = f.Text
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, known := want[filepath.ToSlash(name)]
		info, err := e.Info()
		if err != nil || !known || !info.Mode().IsRegular() || info.Size() != int64(len(text)) {
			return errors.Join(err, ErrForged)
		}
		b, err := os.ReadFile(path) //nolint:gosec // it is compared and nothing else, in a folder of our own
		if err != nil || string(b) != text {
			return errors.Join(err, ErrForged)
		}
		left--
		return nil
	})
	return err == nil && left == 0
}

func write(dir string, r *Revision) error {
	folders := map[string]bool{dir: true}
	for _, f := range r.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		for at := filepath.Dir(path); len(at) >= len(dir); at = filepath.Dir(at) {
			folders[at] = true
		}
		if err := writeFile(path, f.Text); err != nil {
			return err
		}
	}
	for at := range folders {
		if err := syncFolder(at); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path, text string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	return file.Sync()
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Keep notes that r is at work, and removes all others: it is what the node starts
// with when it can take no newer one.
func (f Folder) Keep(r *Revision) error {
	link, fresh := filepath.Join(string(f), config.PushedTaken), filepath.Join(string(f), unfinished+rand.Text())
	err := os.Symlink(nameOf(r), fresh)
	if err == nil {
		err = os.Rename(fresh, link)
	}
	if err == nil {
		err = syncFolder(string(f))
	}
	if err != nil {
		return fmt.Errorf("fleet: the config at work could not be noted: %w", err)
	}
	all, err := os.ReadDir(string(f))
	for _, e := range all {
		if e.Name() != config.PushedTaken && e.Name() != nameOf(r) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(string(f), e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("fleet: older configs: %w", err)
	}
	return nil
}

// Taken gives the folder and the number of what was at work last; "" if nothing was.
func (f Folder) Taken() (dir string, number int64, err error) {
	name, err := os.Readlink(filepath.Join(string(f), config.PushedTaken))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("fleet: %w", err)
	}
	text, _, _ := strings.Cut(name, "-")
	if number, err = strconv.ParseInt(text, 10, 64); err != nil || !filepath.IsLocal(name) {
		return "", 0, fmt.Errorf("fleet: %s names no revision of the config; remove it", filepath.Join(string(f), config.PushedTaken))
	}
	return filepath.Join(string(f), name), number, nil
}
