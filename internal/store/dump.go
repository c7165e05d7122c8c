package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	dumpFormat  = "gatehouse-database"
	dumpVersion = 1
	dumpLine    = 64 << 20 // bytes of the longest line
)

var (
	// ErrDump tells that a file is no backup, or not as it was written.
	ErrDump = errors.New("the backup can not be used")
	// ErrTaken tells that something stands in the way, which is not written over.
	ErrTaken = errors.New("it is there and is no backup of Gatehouse; nothing was written")
)

// A DumpHeader is the first line of a backup, a JSON object. Then comes each table,
// after those it refers to: a line with the [Table], a line for each row, the JSON
// array of its values (string, number, null), and {"rows": how many}. The last line
// is {"sha256": hex of all bytes before it, "rows": of all tables}.
type DumpHeader struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Made    time.Time `json:"made"`
	By      string    `json:"by"`     // version of Gatehouse
	Engine  string    `json:"engine"` // it comes from
	Rooms   []RoomLog `json:"rooms"`
}

// A RoomLog is what was migrated of a room, in its order.
type RoomLog struct {
	Room       string    `json:"room"`
	Migrations []Applied `json:"migrations"`
}

// Applied is a migration that was.
type Applied struct {
	Version  int    `json:"version"`
	Name     string `json:"name"`
	SHA256   string `json:"sha256"`
	Additive bool   `json:"additive"`
	Applied  int64  `json:"applied"` // Unix ms
}

type dumpEnd struct {
	Rows   *int64 `json:"rows"`
	SHA256 string `json:"sha256,omitempty"`
}

// Dump writes all that db holds at one moment to w, while others work with it, and
// says what it wrote. By is the version of who does.
func (db *DB) Dump(ctx context.Context, w io.Writer, by string, tell Progress) (sums []TableSum, err error) {
	ctx, beat, stop := patient(ctx, stall)
	defer stop()
	err = transact(ctx, db.reader, db.reading(), func(tx *sql.Tx) error {
		sums, err = db.dump(ctx, tx, w, by, &tally{tell: tell, beat: beat})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: backup: %w", err)
	}
	return sums, nil
}

func (db *DB) dump(ctx context.Context, tx *sql.Tx, w io.Writer, by string, through *tally) ([]TableSum, error) {
	tables, err := db.own(ctx, tx)
	if err != nil {
		return nil, err
	}
	head := DumpHeader{Format: dumpFormat, Version: dumpVersion, Made: time.Now().UTC(), By: by}
	if head.Rooms, err = db.rooms(ctx, tx); err != nil {
		return nil, err
	}
	if head.Engine, err = db.about(ctx, tx); err != nil {
		return nil, err
	}
	d := &dumpWriter{to: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	if err := d.line(head); err != nil {
		return nil, err
	}
	through.next = d
	if err := feed(ctx, tx, tables, through); err != nil {
		return nil, err
	}
	total := through.total()
	if err := d.line(dumpEnd{&total, hex.EncodeToString(d.sum.Sum(nil))}); err != nil {
		return nil, err
	}
	return through.sums, d.to.Flush()
}

// Backup writes the dump to a file of mode 0600, which is there whole or not at all.
// One that is there already must be a backup, too.
func (db *DB) Backup(ctx context.Context, path, by string, tell Progress) (sums []TableSum, err error) {
	err = writeDump(path, func(w io.Writer) (err error) {
		sums, err = db.Dump(ctx, w, by, tell)
		return err
	})
	return sums, err
}

func writeDump(path string, write func(io.Writer) error) (err error) {
	if old, err := os.Open(path); err == nil {
		head := make([]byte, len(`{"format":"`+dumpFormat+`"`))
		_, _ = io.ReadFull(old, head)
		if err := old.Close(); err != nil {
			return err
		}
		if string(head) != `{"format":"`+dumpFormat+`"` {
			return fmt.Errorf("%s: %w", path, ErrTaken)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

type dumpWriter struct {
	to   *bufio.Writer
	sum  hash.Hash
	text bytes.Buffer
	rows int64
}

func (d *dumpWriter) line(v any) error {
	d.text.Reset()
	e := json.NewEncoder(&d.text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	if d.text.Len() > dumpLine {
		return fmt.Errorf("a row of %d bytes is longer than a backup can hold", d.text.Len())
	}
	d.sum.Write(d.text.Bytes())
	_, err := d.to.Write(d.text.Bytes())
	return err
}

func (d *dumpWriter) table(t Table) error {
	d.rows = 0
	return d.line(t)
}

func (d *dumpWriter) row(values []any) error {
	d.rows++
	return d.line(values)
}

func (d *dumpWriter) end() error { return d.line(dumpEnd{Rows: &d.rows}) }

// A DumpFile is a backup that was read from its first byte to its last and is as it
// was written. The digest is against accidents: who can write the file can forge it.
type DumpFile struct {
	DumpHeader
	Tables []TableSum
	SHA256 string // of the last line

	name string
	file *os.File
}

// OpenDump reads a backup and verifies all of it. Close it.
func OpenDump(ctx context.Context, path string, tell Progress) (*DumpFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &DumpFile{name: path, file: f}
	seen := &tally{tell: tell}
	if err := d.read(ctx, seen); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.Tables = seen.sums
	return d, nil
}

// Close closes the file.
func (d *DumpFile) Close() error { return d.file.Close() }

// read sends the rows to a sink, from the beginning. It fails when the bytes are not
// those that were written, or not those of the last time.
func (d *DumpFile) read(ctx context.Context, to sink) error {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := &dumpReader{from: bufio.NewReaderSize(d.file, 1<<16), sum: sha256.New()}
	err := d.parse(ctx, r, to)
	if err != nil && !r.outside {
		return fmt.Errorf("%s, line %d: %w: %w", d.name, r.lines, ErrDump, err)
	}
	return err
}

func (d *DumpFile) parse(ctx context.Context, r *dumpReader, to sink) error {
	var head DumpHeader
	line, err := r.line()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &head); err != nil || head.Format != dumpFormat {
		return errors.New("it is no backup of Gatehouse")
	}
	if head.Version != dumpVersion {
		return fmt.Errorf("it is in format %d, and this Gatehouse reads %d: %w", head.Version, dumpVersion, ErrNewer)
	}
	total := int64(0)
	for {
		before := hex.EncodeToString(r.sum.Sum(nil))
		if line, err = r.line(); err != nil {
			return err
		}
		var next struct {
			Table
			dumpEnd
		}
		if err := strict(line, &next); err != nil {
			return err
		}
		if next.Table.Name != "" {
			n, err := r.table(ctx, next.Table, to)
			if err != nil {
				return err
			}
			total += n
			continue
		}
		switch rest, err := r.from.ReadByte(); {
		case next.SHA256 != before || next.Rows == nil || *next.Rows != total:
			return errors.New("its bytes are not those that were written: the digest differs")
		case err == nil:
			return fmt.Errorf("there is more (%q) behind its end", rest)
		case !errors.Is(err, io.EOF):
			return err
		case d.SHA256 != "" && d.SHA256 != before:
			return errors.New("it was changed while it was read")
		}
		d.DumpHeader, d.SHA256 = head, before
		return nil
	}
}

type dumpReader struct {
	from    *bufio.Reader
	sum     hash.Hash
	lines   int
	outside bool // the error is not the file's
	buffer  []byte
}

// line is the next one, with its end.
func (r *dumpReader) line() ([]byte, error) {
	r.lines++
	r.buffer = r.buffer[:0]
	for {
		part, err := r.from.ReadSlice('\n')
		r.buffer = append(r.buffer, part...)
		switch {
		case len(r.buffer) > dumpLine:
			return nil, errors.New("the line is too long")
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, errors.New("it ends too early: it was cut off")
		case err != nil:
			r.outside = true
			return nil, err
		default:
			r.sum.Write(r.buffer)
			return r.buffer, nil
		}
	}
}

func (r *dumpReader) table(ctx context.Context, t Table, to sink) (n int64, err error) {
	if !plainName.MatchString(t.Name) || len(t.Columns) == 0 {
		return 0, errors.New("a table without name or columns")
	}
	for _, c := range t.Columns {
		if !plainName.MatchString(c.Name) || c.Type != columnText && c.Type != columnInteger {
			return 0, fmt.Errorf("table %s has an impossible column", t.Name)
		}
	}
	give := func(err error) error {
		r.outside = r.outside || err != nil
		return err
	}
	if err := give(to.table(t)); err != nil {
		return 0, err
	}
	var raw []json.RawMessage
	values := make([]any, len(t.Columns))
	for ; ; n++ {
		line, err := r.line()
		if err != nil {
			return 0, err
		}
		if line[0] != '[' {
			var end dumpEnd
			if err := strict(line, &end); err != nil {
				return 0, err
			}
			if end.Rows == nil || *end.Rows != n || end.SHA256 != "" {
				return 0, fmt.Errorf("table %s has not as many rows as it says", t.Name)
			}
			return n, give(to.end())
		}
		raw = raw[:0]
		if err := json.Unmarshal(line, &raw); err != nil || len(raw) != len(values) {
			return 0, fmt.Errorf("what is no row of table %s", t.Name)
		}
		for i, c := range t.Columns {
			if values[i], err = c.value(raw[i]); err != nil {
				return 0, fmt.Errorf("table %s: %w", t.Name, err)
			}
		}
		if err := give(errors.Join(ctx.Err(), to.row(values))); err != nil {
			return 0, err
		}
	}
}

func (c Column) value(raw json.RawMessage) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if c.Type == columnInteger {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("column %s: what is no integer", c.Name)
		}
		return n, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("column %s: what is no text", c.Name)
	}
	if err := checkText(s); err != nil {
		return nil, fmt.Errorf("column %s: %w", c.Name, err)
	}
	return s, nil
}

func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("what belongs to no backup")
	}
	return nil
}
