package identity

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	longestPassword = 256  // characters
	longestBytes    = 2048 // of what is looked at when somebody signs in
)

// spelled is the one spelling of a password: NFC, with plain spaces (RFC 8265 §4.2).
func spelled(password string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Zs, r) {
			return ' '
		}
		return r
	}, norm.NFC.String(password))
}

// checkPassword applies the rules of OWASP and NIST SP 800-63B-4 §3.1.1.2 to a
// spelled password: long, not known to attackers, nothing of the user's or ours in
// it. What it is composed of does not matter. The error is [ErrPassword] with the
// rule in words; another one means that the rules could not be applied.
func (d *Directory) checkPassword(password string, u *User, second bool) error {
	shortest := d.cfg.MinPassword
	if second {
		shortest = d.cfg.MinPasswordSecond
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrPassword}, args...)...)
	}
	folded := strings.ToLower(password)
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password) || strings.ContainsFunc(password, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) || r == utf8.RuneError
	}):
		return refuse("it has characters that are not printable")
	case n < shortest:
		return refuse("it has %d characters and needs at least %d", n, shortest)
	case n > longestPassword:
		return refuse("it has %d characters, %d are the most", n, longestPassword)
	case repeats(folded):
		return refuse("it repeats itself")
	case ascends(folded):
		return refuse("it is a sequence")
	case isCommon(folded) || isCommon(core(folded)):
		return refuse("it is a common one, or a common one with something at its ends")
	}
	for _, word := range d.personal(u) {
		if strings.Contains(folded, word) {
			return refuse("it contains your name, your address or the name of this service")
		}
	}
	known, err := d.breached.has(password)
	if err != nil {
		return err
	}
	if known {
		return refuse("it is known from a leak")
	}
	return nil
}

// personal is what everybody would try first for u, in lower case. Short words are
// part of too many others.
func (d *Directory) personal(u *User) (words []string) {
	local, _, _ := strings.Cut(u.Email, "@")
	name, _, _ := strings.Cut(u.Name, "@")
	candidates := []string{"gatehouse", u.Name, name, u.Email, local, d.host}
	if issuer, err := url.Parse(d.cfg.Issuer); err == nil && !isLoopback(issuer.Hostname()) {
		if labels := strings.Split(issuer.Hostname(), "."); len(labels) > 1 {
			candidates = append(candidates, labels[len(labels)-2]) // example of id.example.com
		}
	}
	for _, c := range candidates {
		if utf8.RuneCountInString(c) >= 4 {
			words = append(words, strings.ToLower(c))
		}
	}
	return words
}

// core is what is left without the digits and marks that people put at the ends of
// a word when a rule asks them to.
func core(password string) string {
	c := strings.TrimFunc(password, func(r rune) bool { return !unicode.IsLetter(r) })
	if utf8.RuneCountInString(c) < 4 {
		return ""
	}
	return c
}

// repeats reports whether s is one part over and over: it is found in itself then.
func repeats(s string) bool {
	return len(s) > 1 && strings.Contains((s + s)[1:2*len(s)-1], s)
}

// ascends reports whether each character is the next one, or the one before: 1 comes
// after 0 and after 9.
func ascends(s string) bool {
	runes := []rune(s)
	if len(runes) < 3 {
		return false
	}
	step := func(a, b rune) rune {
		switch {
		case a == '9' && b == '0':
			return 1
		case a == '0' && b == '9':
			return -1
		}
		return b - a
	}
	first := step(runes[0], runes[1])
	if first != 1 && first != -1 {
		return false
	}
	for i := range len(runes) - 1 {
		if step(runes[i], runes[i+1]) != first {
			return false
		}
	}
	return true
}
