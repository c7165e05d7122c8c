package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

const (
	maxName  = 128 // bytes
	maxEmail = 254 // RFC 5321 §4.5.3.1.3 without the brackets
)

// canonicalName is the one spelling of a login name: UsernameCaseMapped of RFC
// 8265, or, with an @, an address. Letters of two scripts in one name are refused:
// nobody sees that one of them is a Cyrillic а.
func canonicalName(name string) (string, error) {
	if strings.Contains(name, "@") {
		return canonicalEmail(name)
	}
	if len(name) > maxName {
		return "", fmt.Errorf("%w: a name has at most %d bytes", ErrInvalid, maxName)
	}
	canonical, err := precis.UsernameCaseMapped.String(name)
	again, errAgain := precis.UsernameCaseMapped.String(canonical) // RFC 8264 §7: the rules are not idempotent for every string
	if err != nil || errAgain != nil || again != canonical || len(canonical) > maxName {
		return "", fmt.Errorf("%w: a name has letters, digits and visible marks, and no spaces (RFC 8265)", ErrInvalid)
	}
	if !oneScript(canonical) {
		return "", fmt.Errorf("%w: a name has the letters of one script only", ErrInvalid)
	}
	return canonical, nil
}

// canonicalEmail is the one spelling of an address: all lower-case, the domain in
// ASCII. Local parts are compared without case, as every provider does, and have
// ASCII only: mail to a name with a Turkish ı must never end at the one with an i.
func canonicalEmail(address string) (string, error) {
	refused := fmt.Errorf("%w: an address looks like name@example.com, with at most %d bytes", ErrInvalid, maxEmail)
	local, domain, found := strings.Cut(address, "@")
	if !found || len(address) > 2*maxEmail || !dotAtom(local) {
		return "", refused
	}
	domain, err := idna.Lookup.ToASCII(domain)
	if again, errAgain := idna.Lookup.ToASCII(domain); errAgain != nil || again != domain || !utf8.ValidString(address) {
		return "", refused // the library takes some domains that it does not take from itself
	}
	if err != nil || !strings.Contains(domain, ".") || strings.HasSuffix(domain, ".") || strings.ContainsAny(domain, "_:[]") {
		return "", refused
	}
	canonical := strings.ToLower(local) + "@" + strings.ToLower(domain)
	if len(local) > 64 || len(canonical) > maxEmail {
		return "", refused
	}
	return canonical, nil
}

// dotAtom is the grammar of RFC 5322 §3.2.3: neither quotes nor anything that
// could begin another header or command.
func dotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, c := range []byte(atom) {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
			if !letter && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

// scripts that are written together.
var scripts = [][]string{
	{"Han", "Hiragana", "Katakana"},
	{"Han", "Hangul"},
	{"Han", "Bopomofo"},
}

func oneScript(s string) bool {
	var used []string
	for _, r := range s {
		if r < utf8.RuneSelf {
			if unicode.IsLetter(r) && !slices.Contains(used, "Latin") {
				used = append(used, "Latin")
			}
			continue
		}
		for name, table := range unicode.Scripts {
			if name != "Common" && name != "Inherited" && unicode.Is(table, r) && !slices.Contains(used, name) {
				used = append(used, name)
			}
		}
	}
	return len(used) < 2 || slices.ContainsFunc(scripts, func(together []string) bool {
		return !slices.ContainsFunc(used, func(u string) bool { return !slices.Contains(together, u) })
	})
}

// canonicalTitle is the one spelling of a group's name, which may have spaces.
func canonicalTitle(name string) (string, error) {
	canonical := norm.NFC.String(name)
	if canonical == "" || len(canonical) > 256 || strings.TrimSpace(canonical) != canonical || !printable(canonical) {
		return "", fmt.Errorf("%w: a group's name has 1 to 256 bytes, all of them printable characters", ErrInvalid)
	}
	return canonical, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\uFFFD' })
}

// isWord is the grammar of RFC 6749 §3.3, which roles share with scopes.
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}
