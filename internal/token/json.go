package token

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxDepth  = 16   // of a claim; the deepest seen in the wild (Keycloak's resource_access) is 4
	maxValues = 4096 // JSON values in one document: 8 KB cannot hold many more
	maxNumber = 64   // bytes of a number literal: "1e1000000" is cheap to write and dear to read
)

// strict64 refuses trailing bits that do not matter (RFC 4648 §3.5): with them
// one token has many spellings, and a cache or a revocation list can be dodged.
var strict64 = base64.RawURLEncoding.Strict()

var errBase64 = errors.New("base64url is not canonical")

// decode64 appends the bytes of the base64url text s to dst.
func decode64(dst []byte, s string) ([]byte, error) {
	// The decoder of the standard library skips CR and LF even when it is strict.
	if strings.ContainsAny(s, "\r\n") {
		return nil, errBase64
	}
	dst, err := strict64.AppendDecode(dst, []byte(s))
	if err != nil {
		return nil, errBase64
	}
	return dst, nil
}

// A reader walks one JSON text strictly (RFC 7493): duplicate names at any
// depth, invalid UTF-8, lone surrogates and anything after the value are errors.
type reader struct {
	dec    *jsontext.Decoder
	values int
}

// readObject calls member for each name of the one object that b must be;
// member must read exactly one value.
func readObject(b []byte, member func(r *reader, name string) error) error {
	r := &reader{dec: jsontext.NewDecoder(bytes.NewReader(b))}
	if r.dec.PeekKind() != '{' {
		if _, err := r.dec.ReadToken(); err != nil {
			return fmt.Errorf("not JSON: %w", err)
		}
		return errors.New("not a JSON object")
	}
	if err := r.object(member); err != nil {
		return err
	}
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

func (r *reader) object(member func(r *reader, name string) error) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for {
		t, err := r.dec.ReadToken()
		if err != nil {
			return err
		}
		if t.Kind() == '}' {
			return nil
		}
		if err := member(r, t.String()); err != nil {
			return err
		}
	}
}

// value reads any value: string, bool, nil, int64, float64, []any, map[string]any.
// An integer literal that fits stays an int64, so that two ids above 2^53 differ.
func (r *reader) value() (any, error) {
	if r.values++; r.values > maxValues {
		return nil, fmt.Errorf("more than %d JSON values", maxValues)
	}
	switch r.dec.PeekKind() {
	case '{':
		if r.dec.StackDepth() >= maxDepth {
			return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
		}
		m := make(map[string]any)
		err := r.object(func(r *reader, name string) (err error) {
			m[name], err = r.value()
			return err
		})
		return m, err
	case '[':
		if r.dec.StackDepth() >= maxDepth {
			return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
		}
		if _, err := r.dec.ReadToken(); err != nil {
			return nil, err
		}
		list := []any{}
		for r.dec.PeekKind() != ']' {
			v, err := r.value()
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := r.dec.ReadToken()
		return list, err
	}
	t, err := r.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '"':
		return t.String(), nil
	case 't', 'f':
		return t.Bool(), nil
	case 'n':
		return nil, nil
	case '0':
		return number(t.String())
	}
	return nil, errors.New("not a JSON value")
}

func number(lit string) (any, error) {
	if len(lit) > maxNumber {
		return nil, fmt.Errorf("a number of more than %d digits", maxNumber)
	}
	if !strings.ContainsAny(lit, ".eE") {
		if n, err := strconv.ParseInt(lit, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(lit, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, errors.New("a number out of range")
	}
	return f, nil
}

// text reads a value that must be a string.
func (r *reader) text(name string) (string, error) {
	if r.values++; r.values > maxValues {
		return "", fmt.Errorf("more than %d JSON values", maxValues)
	}
	t, err := r.dec.ReadToken()
	if err != nil {
		return "", err
	}
	if t.Kind() != '"' {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return t.String(), nil
}
