package gatehouse

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

const redacted = "[secret]"

// A Secret holds bytes that must not be printed. Every way fmt, slog and the
// JSON and text encoders look at a value gives "[secret]"; only [Secret.Reveal]
// gives the bytes.
type Secret struct{ b []byte }

// NewSecret keeps s as a Secret.
func NewSecret(s string) Secret { return Secret{[]byte(s)} }

// Reveal returns the secret itself. Each call is a place to review.
func (s Secret) Reveal() string { return string(s.b) }

// Empty reports whether there is nothing to hide.
func (s Secret) Empty() bool { return len(s.b) == 0 }

// Equal compares in constant time. An empty Secret equals nothing, so that a
// setting left out can never be matched by an empty guess.
func (s Secret) Equal(guess string) bool {
	return len(s.b) > 0 && subtle.ConstantTimeCompare(s.b, []byte(guess)) == 1
}

// String redacts.
func (Secret) String() string { return redacted }

// GoString redacts %#v.
func (Secret) GoString() string { return redacted }

// Format redacts every other verb, %x and %s of a wrapping struct included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue redacts for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts for the JSON, YAML and text encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText takes the secret from a decoder.
func (s *Secret) UnmarshalText(b []byte) error {
	s.b = append([]byte(nil), b...)
	return nil
}
