package token

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Keeper keeps documents of private keys, each under a name like
// "oauth-keys/es256.jwks": [Files] in a folder, or all nodes of a fleet in their
// database. Every method answers in bounded time.
type Keeper interface {
	// Load gives the document, [fs.ErrNotExist] when there is none.
	Load(name string) (Document, error)
	// Swap puts text there if the document's revision still is the one given, ""
	// when there must be none yet, and reports whether it did: of two who swap the
	// same revision, one does. What it reports is on disk.
	Swap(name, revision string, text []byte) (bool, error)
	// Stamp differs from the one before whenever the document may have changed. It
	// is asked a few times a second.
	Stamp(name string) (string, error)
}

// A Document is what a [Keeper] has under a name.
type Document struct {
	Text     []byte // JSON with private keys
	Revision string // of the text; never ""
	Place    string // where it is, for errors
}

// swaps bounds how often a change is tried that others are faster with.
const swaps = 16

// kept is the place of one document; the zero kept is memory.
type kept struct {
	keeper Keeper
	name   string
}

// store puts keys there as a document. It takes what json makes of them.
func (k kept) store(revision string, keys any) (bool, error) {
	b, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return false, err
	}
	return k.keeper.Swap(k.name, revision, append(b, '\n'))
}

// open loads the document, or has it made. Of those that open at once all end up
// with the same.
func (k kept) open(load func(Document) error, fresh func() (keys any, err error)) error {
	for range swaps {
		doc, err := k.keeper.Load(k.name)
		if err == nil {
			return load(doc)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		keys, err := fresh()
		if err != nil {
			return err
		}
		if _, err := k.store("", keys); err != nil {
			return err
		}
	}
	return errContended
}

// change puts there what f makes of the document, nil leaves it, and reports whether
// it did. When somebody else was faster, f is asked again, with theirs: what another
// process wrote must not be overwritten unread.
func (k kept) change(f func(Document) (keys any, err error)) (bool, error) {
	for range swaps {
		doc, err := k.keeper.Load(k.name)
		if err != nil {
			return false, err
		}
		keys, err := f(doc)
		if err != nil || keys == nil {
			return false, err
		}
		if swapped, err := k.store(doc.Revision, keys); err != nil || swapped {
			return swapped, err
		}
	}
	return false, errContended
}

// errContended means that somebody changes the keys all the time.
var errContended = errors.New("others change the keys faster than this process can")

// Files is a folder of key documents: one file each, of mode 0600 in folders of
// mode 0700. A file that others may read is refused. Processes on one machine
// share it: a lock on the folder orders their changes, and a crash at any moment
// leaves the old file or the new one.
type Files string

// Load is of [Keeper].
func (f Files) Load(name string) (Document, error) {
	path := f.path(name)
	sweep(path)
	b, err := readPrivate(path)
	if err != nil {
		return Document{}, err
	}
	return Document{b, revisionOf(b), path}, nil
}

// Swap is of [Keeper].
func (f Files) Swap(name, revision string, text []byte) (bool, error) {
	path := f.path(name)
	if revision == "" {
		err := saveKeys(path, text, os.Link) // unlike a rename, a link never replaces
		if errors.Is(err, fs.ErrExist) {
			return false, nil
		}
		return err == nil, err
	}
	unlock, err := lockKeys(path)
	if err != nil {
		return false, err
	}
	defer unlock()
	old, err := readPrivate(path)
	if err != nil {
		return false, err
	}
	if revisionOf(old) != revision {
		return false, nil
	}
	err = saveKeys(path, text, os.Rename)
	return err == nil, err
}

// Stamp is of [Keeper].
func (f Files) Stamp(name string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(f.path(name), &s); err != nil {
		return "", &fs.PathError{Op: "stat", Path: f.path(name), Err: err}
	}
	return fmt.Sprint(s.Dev, s.Ino, s.Mtim.Nano(), s.Size), nil
}

func (f Files) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

func revisionOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// lockKeys keeps other processes from changing the key files beside path until
// unlock is called, or this process ends.
func lockKeys(path string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		_ = dir.Close()
		return nil, err
	}
	return func() { _ = dir.Close() }, nil
}

// sweep removes what a process killed while saving has left: those files hold
// private keys. One that is young may be somebody's who is saving right now.
func sweep(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), tempName(path)))
	for _, name := range left {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(name)
		}
	}
}

// tempName is the pattern of the files that saveKeys writes first.
func tempName(path string) string { return filepath.Base(path) + ".*.tmp" }

// readPrivate reads a file of private keys.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %v); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return os.ReadFile(path)
}

// saveKeys writes text beside path, forces it to disk, and lets publish put it
// there in one step: a crash at any moment leaves the old file or the new one.
func saveKeys(path string, text []byte, publish func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempName(path)) // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
