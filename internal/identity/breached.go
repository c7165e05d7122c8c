package identity

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format of the file
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// common is the first 64 bits of the SHA-256 of passwords that leaks are full of,
// sorted: of @zxcvbn-ts/language-common 4.1.3 (MIT), by tools/common.sh. It stays
// where the program is mapped; nothing is read into memory.
//
//go:embed common.bin
var common string

// isCommon looks password, in lower case, up.
func isCommon(password string) bool {
	sum := sha256.Sum256([]byte(password))
	want := string(sum[:8])
	i := sort.Search(len(common)/8, func(i int) bool { return common[8*i:8*i+8] >= want })
	return 8*i < len(common) && common[8*i:8*i+8] == want
}

// breached is the operator's file of SHA-1 sums of breached passwords, ordered by
// them, as the downloader of Have I Been Pwned writes it: a line each, HASH:COUNT.
// Or the sums alone, 20 bytes each. It may have 40 GB; a look-up reads some
// hundred bytes at each of about thirty places.
type breached struct {
	file   *os.File
	size   int64
	binary bool
}

const maxLine = 64 // 40 digits, a colon, the count, the end

// openBreached opens the file called name; none is "", and has nothing in it.
func openBreached(name string) (*breached, error) {
	if name == "" {
		return &breached{}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("identity: breached passwords: %w", err)
	}
	b := &breached{file: f}
	if err := b.look(); err != nil {
		return nil, errors.Join(fmt.Errorf("identity: breached passwords: %s: %w", name, err), f.Close())
	}
	return b, nil
}

// look finds out what the file is. An empty file, or one in another order, would
// let every password pass.
func (b *breached) look() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	b.size = info.Size()
	if !info.Mode().IsRegular() || b.size < sha1.Size {
		return errors.New("not a file of SHA-1 sums: it is empty, or no regular file")
	}
	var head [41]byte
	if _, err := b.file.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = hex.Decode(make([]byte, sha1.Size), head[:40])
	b.binary = err != nil
	if b.binary && b.size%sha1.Size != 0 {
		return errors.New("neither lines of HASH:COUNT nor SHA-1 sums of 20 bytes each")
	}
	const steps = 64
	var last [sha1.Size]byte
	for i := range int64(steps) {
		sum, _, err := b.at(i * (b.size - 1) / steps)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if bytes.Compare(sum[:], last[:]) < 0 {
			return errors.New("it is not ordered by hash: download it in the form \"ordered by hash\", or sort it")
		}
		last = sum
	}
	return nil
}

// has reports whether the file names password. Its error means that nobody knows.
func (b *breached) has(password string) (bool, error) {
	if b == nil || b.file == nil {
		return false, nil
	}
	want := sha1.Sum([]byte(password)) //nolint:gosec // the format of the file
	for low, high := int64(0), b.size; low < high; {
		middle := low + (high-low)/2
		sum, next, err := b.at(middle)
		switch {
		case errors.Is(err, io.EOF):
			high = middle // no record begins behind it
		case err != nil:
			return false, fmt.Errorf("identity: breached passwords: %w", err)
		case sum == want:
			return true, nil
		case bytes.Compare(sum[:], want[:]) < 0:
			low = next
		default:
			high = middle
		}
	}
	return false, nil
}

// at returns the first record that begins at offset or behind it, and where the
// next one may begin; [io.EOF] when there is none.
func (b *breached) at(offset int64) (sum [sha1.Size]byte, next int64, err error) {
	if b.binary {
		begin := (offset + sha1.Size - 1) / sha1.Size * sha1.Size
		n, err := b.file.ReadAt(sum[:], begin)
		if n == len(sum) {
			err = nil
		}
		return sum, begin + sha1.Size, err
	}
	// From the byte before, so that a line beginning at offset is seen to.
	begin := max(offset-1, 0)
	var buf [2 * maxLine]byte
	n, err := b.file.ReadAt(buf[:], begin)
	if err != nil && !errors.Is(err, io.EOF) {
		return sum, 0, err
	}
	text := buf[:n]
	if offset > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 && n == len(buf) {
			return sum, 0, fmt.Errorf("no line ends within %d bytes behind byte %d", len(buf), begin)
		}
		if end < 0 {
			return sum, 0, io.EOF
		}
		begin, text = begin+int64(end)+1, text[end+1:]
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return sum, 0, io.EOF
	}
	if len(text) < 2*sha1.Size {
		return sum, 0, fmt.Errorf("the line at byte %d is cut short", begin)
	}
	if _, err := hex.Decode(sum[:], text[:2*sha1.Size]); err != nil {
		return sum, 0, fmt.Errorf("the line at byte %d does not begin with 40 hexadecimal digits", begin)
	}
	return sum, begin + 2*sha1.Size, nil
}

// Close closes the file.
func (b *breached) Close() error {
	if b == nil || b.file == nil {
		return nil
	}
	return b.file.Close()
}
