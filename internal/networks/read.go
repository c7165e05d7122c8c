package networks

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// mostBytes bounds a file.
const mostBytes = 1 << 30

// open opens a regular file: never a device or a pipe, which could keep us forever.
func open(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("networks: %s is not a regular file", name)
	}
	if info.Size() > mostBytes {
		return nil, fmt.Errorf("networks: %s is larger than 1 GiB", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	return f, nil
}

func readAll(name string) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, mostBytes))
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	return b, nil
}

// readList reads the prefixes of a file and writes what it read to sum.
func readList(name string, sum io.Writer) ([]netip.Prefix, error) {
	b, err := readAll(name)
	if err != nil {
		return nil, err
	}
	_, _ = sum.Write(b)
	return parseList(name, b)
}

// parseList reads a list: a prefix or an address on each line, # begins a comment.
// Errors call it name.
func parseList(name string, b []byte) ([]netip.Prefix, error) {
	var out []netip.Prefix
	n := 0
	for line := range bytes.Lines(b) {
		n++
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if len(out) >= mostPrefixes {
			return nil, fmt.Errorf("%s:%d: more than %d prefixes", name, n, mostPrefixes)
		}
		out = append(out, p)
	}
	return out, nil
}

// parsePrefix reads 192.0.2.0/24, 2001:db8::/32 or an address alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.IndexByte(s, '/') < 0 {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s is not a network like 192.0.2.0/24 or 2001:db8::/32", quoted(s))
		}
		return plain(netip.PrefixFrom(a, a.BitLen()))
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is not a network like 192.0.2.0/24 or 2001:db8::/32", quoted(s))
	}
	return plain(p)
}

func quoted(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strconv.Quote(s)
}

// readTable reads the file of one kind.
func (b *builder) readTable(name string, k kind, sum io.Writer) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return b.readCSV(name, io.TeeReader(io.LimitReader(f, mostBytes), sum), k)
}

// readCSV reads lines "prefix,value" or "first,last,value"; what is behind is not
// read, and neither is a first line that names the columns.
func (b *builder) readCSV(name string, in io.Reader, k kind) error {
	r := csv.NewReader(in)
	r.ReuseRecord, r.FieldsPerRecord, r.Comment = true, -1, '#'
	for first := true; ; first = false {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if p, ok := errors.AsType[*csv.ParseError](err); ok {
				return fmt.Errorf("%s:%d: %w", name, p.Line, p.Err)
			}
			return fmt.Errorf("networks: %s: %w", name, err)
		}
		if first && headline(rec[0]) {
			continue
		}
		if err := b.line(rec, k); err != nil {
			line, _ := r.FieldPos(0)
			return fmt.Errorf("%s:%d: %w", name, line, err)
		}
	}
}

// headline reports whether a line's first field can only be the name of a column.
func headline(s string) bool {
	s = strings.TrimPrefix(s, "\ufeff")
	return s != "" && !strings.ContainsAny(s, ".:/") && (s[0] < '0' || s[0] > '9')
}

func (b *builder) line(rec []string, k kind) error {
	if len(rec) < 2 {
		return errors.New(`want "prefix,value" or "first,last,value"`)
	}
	start := strings.TrimPrefix(rec[0], "\ufeff")
	if strings.IndexByte(start, '/') < 0 && len(rec) > 2 && strings.ContainsAny(rec[1], ".:") {
		value, err := k.value(rec[2])
		if err != nil {
			return err
		}
		first, err1 := netip.ParseAddr(start)
		last, err2 := netip.ParseAddr(rec[1])
		if err1 != nil || err2 != nil {
			return fmt.Errorf("%s to %s is not a range of addresses", quoted(start), quoted(rec[1]))
		}
		return b.addRange(first, last, k, value)
	}
	value, err := k.value(rec[1])
	if err != nil {
		return err
	}
	p, err := parsePrefix(start)
	if err != nil {
		return err
	}
	return b.add(p, k, value)
}

// value reads the field behind a prefix; 0 is "not known".
func (k kind) value(s string) (uint32, error) {
	if k == kindASN {
		digits := s
		if len(s) > 2 && strings.EqualFold(s[:2], "as") {
			digits = s[2:]
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s is not the number of an autonomous system like 64500 or AS64500", quoted(s))
		}
		return uint32(n), nil
	}
	if s == "" || s == "-" || s == "None" || strings.EqualFold(s, "zz") {
		return 0, nil
	}
	c := strings.ToUpper(s)
	if len(c) != 2 || c[0] < 'A' || c[0] > 'Z' || c[1] < 'A' || c[1] > 'Z' {
		return 0, fmt.Errorf("%s is not a country of two letters (ISO 3166-1 alpha-2)", quoted(s))
	}
	return uint32(c[0])<<8 | uint32(c[1]), nil
}

// addRange adds the prefixes that make up first to last.
func (b *builder) addRange(first, last netip.Addr, k kind, value uint32) error {
	if first.Zone() != "" || last.Zone() != "" || first.BitLen() != last.BitLen() || last.Less(first) {
		return fmt.Errorf("%s to %s is not a range of addresses", first, last)
	}
	for {
		// The longest step that begins here and does not pass the end.
		bits := first.BitLen()
		for bits > 0 {
			p := netip.PrefixFrom(first, bits-1)
			if p.Masked().Addr() != first || last.Less(lastOf(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(first, bits)
		whole, err := plain(p)
		if err != nil {
			return err
		}
		if err := b.add(whole, k, value); err != nil {
			return err
		}
		end := lastOf(p)
		if end == last {
			return nil
		}
		first = end.Next()
	}
}

// lastOf is the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for n := p.Bits(); n < 8*len(a); n++ {
		a[n/8] |= 0x80 >> (n % 8)
	}
	out, _ := netip.AddrFromSlice(a)
	return out
}
