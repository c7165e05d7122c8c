package token_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// at is where a keeper has the document whose file is path.
func at(path string) (k token.Files, name string) {
	return token.Files(filepath.Dir(path)), filepath.Base(path)
}

func TestSealedTextOpensForItsPurposeOnlyAndWhole(t *testing.T) {
	s, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal("state", []byte("who and where"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := s.Open("state", sealed); err != nil || string(plain) != "who and where" {
		t.Fatalf("Open = %q, %v", plain, err)
	}
	if again, _ := s.Seal("state", []byte("who and where")); again == sealed {
		t.Error("two seals of one text are equal: the nonce does not change")
	}
	if _, err := s.Open("token", sealed); !errors.Is(err, token.ErrSealed) {
		t.Errorf("for another purpose: %v", err)
	}
	other, _ := token.NewSealer()
	if _, err := other.Open("state", sealed); !errors.Is(err, token.ErrSealed) {
		t.Errorf("by another house: %v", err)
	}
	if _, err := new(token.Sealer).Open("state", sealed); !errors.Is(err, token.ErrSealed) {
		t.Errorf("by nobody: %v", err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(sealed)
	for i := range raw {
		for bit := range 8 {
			b := bytes.Clone(raw)
			b[i] ^= 1 << bit
			if _, err := s.Open("state", base64.RawURLEncoding.EncodeToString(b)); !errors.Is(err, token.ErrSealed) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
		if _, err := s.Open("state", base64.RawURLEncoding.EncodeToString(raw[:i])); !errors.Is(err, token.ErrSealed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestTagsHoldForTheirPurposeAndDataOnly(t *testing.T) {
	s, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	tag, err := s.Sign("refresh", []byte("family 1"))
	if err != nil {
		t.Fatal(err)
	}
	again, _ := s.Sign("refresh", []byte("family 1"))
	if !bytes.Equal(tag, again) {
		t.Error("the same data has another tag")
	}
	if err := s.Verify("refresh", []byte("family 1"), tag); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"other data":    s.Verify("refresh", []byte("family 2"), tag),
		"other purpose": s.Verify("refres", []byte("hfamily 1"), tag),
		"cut":           s.Verify("refresh", []byte("family 1"), tag[:len(tag)-1]),
		"empty":         s.Verify("refresh", []byte("family 1"), nil),
		"nobody's keys": new(token.Sealer).Verify("refresh", []byte("family 1"), tag),
	} {
		if !errors.Is(err, token.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealingKeysRotateAndOldOnesStillOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys", "seal.json")
		s, err := token.OpenSealer(at(path))
		if err != nil {
			t.Fatal(err)
		}
		old, _ := s.Seal("totp", []byte("secret"))
		tag, _ := s.Sign("refresh", []byte("x"))
		if err := s.Rotate(); err != nil {
			t.Fatal(err)
		}
		again, err := token.OpenSealer(at(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []*token.Sealer{s, again} {
			if plain, err := k.Open("totp", old); err != nil || string(plain) != "secret" {
				t.Errorf("sealed before the rotation: %q, %v", plain, err)
			}
			if err := k.Verify("refresh", []byte("x"), tag); err != nil {
				t.Errorf("signed before the rotation: %v", err)
			}
		}
		for _, k := range []*token.Sealer{s, again} {
			if now, _ := k.Sign("refresh", []byte("x")); !bytes.Equal(now, tag) {
				t.Error("the new key seals before other processes can have it")
			}
		}
		time.Sleep(3 * time.Second)
		for _, k := range []*token.Sealer{s, again} {
			if now, _ := k.Sign("refresh", []byte("x")); bytes.Equal(now, tag) {
				t.Error("the old key still signs")
			}
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := token.OpenSealer(at(path)); err == nil {
			t.Error("a key file that others may read is taken")
		}
		if err := os.WriteFile(path, []byte(`{"keys":[{"id":1,"key":"c2hvcnQ="}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := token.OpenSealer(at(path)); err == nil {
			t.Error("a short key is taken")
		}
	})
}
