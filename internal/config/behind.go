package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Behind is what the authorization server's part of the config refers to and the
// [File.Digest], which anybody may see, leaves out: its secrets, and which versions
// of files it names. Two loads with the same Behind mean the same. It must not be
// shown: a short secret could be guessed from it.
func (f *File) Behind() string { return f.behind }

// behind hashes the secrets and the states of the files named within values.
func behind(values ...any) string {
	sum := sha256.New()
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, k := range keys {
				walk(v.MapIndex(k))
			}
		case reflect.Struct:
			switch x := v.Interface().(type) {
			case Secret:
				addDigest(sum, "secret", []byte(x.Reveal()))
			case Path:
				if info, err := os.Stat(x.Value); err == nil && info.Mode().IsRegular() {
					addDigest(sum, x.Value, fmt.Append(nil, info.Size(), info.ModTime().UnixNano()))
				}
			default:
				for i := range v.NumField() {
					if v.Type().Field(i).IsExported() {
						walk(v.Field(i))
					}
				}
			}
		}
	}
	for _, v := range values {
		walk(reflect.ValueOf(v))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
