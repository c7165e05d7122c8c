package waf

import (
	"crypto/fips140"
	"crypto/md5"  //nolint:depguard,gosec // a rule may ask for it; it protects nothing
	"crypto/sha1" //nolint:gosec // likewise
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
)

// A byteSet is a set of bytes.
type byteSet [4]uint64

func (s byteSet) with(c byte) byteSet {
	s[c>>6] |= 1 << (c & 63)
	return s
}

func (s byteSet) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }

func (s byteSet) meets(t byteSet) bool {
	return s[0]&t[0]|s[1]&t[1]|s[2]&t[2]|s[3]&t[3] != 0
}

func (s byteSet) or(t byteSet) byteSet {
	return byteSet{s[0] | t[0], s[1] | t[1], s[2] | t[2], s[3] | t[3]}
}

func (s byteSet) within(t byteSet) bool {
	return s[0]&^t[0]|s[1]&^t[1]|s[2]&^t[2]|s[3]&^t[3] == 0
}

// bytesOf is the set of bytes that text has.
func bytesOf(text string) (s byteSet) {
	if len(text) <= 512 {
		for i := range len(text) {
			s[text[i]>>6] |= 1 << (text[i] & 63)
		}
		return s
	}
	var seen [256]bool // a store a byte, where it pays to clear and read this
	for i := range len(text) {
		seen[text[i]] = true
	}
	for c := range seen {
		if seen[c] {
			s = s.with(byte(c))
		}
	}
	return s
}

func setOf(bytes string) (s byteSet) {
	for i := range len(bytes) {
		s = s.with(bytes[i])
	}
	return s
}

func setRange(from, to byte) (s byteSet) {
	for c := int(from); c <= int(to); c++ {
		s = s.with(byte(c))
	}
	return s
}

// A transform is a t: action: it changes a value before the operator looks at
// it. All do what Coraza 3.8.1 does, byte for byte. One that fails leaves the
// value as it is.
type transform struct {
	name  string // lower case: two names of one transformation have one here
	apply func(string) string

	// A text with none of these bytes comes out as it went in; so does the empty
	// one, unless fills is set.
	trigger byteSet
	fills   bool

	// Of multiMatch, which asks the operator again after each transformation that
	// says it changed the value. Nil: one whose result differs. Some of Coraza's
	// say it of results that do not, or do not say it of some that do.
	changed func(from, to string) bool
}

// idle reports whether a text of these bytes is left as it is.
func (t *transform) idle(text byteSet) bool { return !t.fills && !t.trigger.meets(text) }

// changes reports whether the transformation says so, see [transform.changed].
func (t *transform) changes(from, to string) bool {
	if t.changed == nil {
		return from != to
	}
	return t.changed(from, to)
}

const spaces = " \t\n\v\f\r" // of C's isspace

// transformOf is the transformation of that name, in any case.
func transformOf(name string) (transform, bool) {
	var (
		all   = setRange(0, 255)
		high  = setRange(0x80, 255)
		upper = setRange('A', 'Z')
		lower = setRange('a', 'z')
		digit = setRange('0', '9')
	)
	t := transform{name: strings.ToLower(name)}
	switch t.name {
	case "none":
		t.apply = func(text string) string { return text }
	case "base64decode":
		t.apply, t.trigger, t.changed = func(text string) string { return decodeBase64(text, false) }, all, always
	case "base64decodeext":
		t.apply, t.trigger, t.changed = func(text string) string { return decodeBase64(text, true) }, all, always
	case "base64encode":
		t.apply, t.trigger, t.changed = func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }, all, always
	case "cmdline":
		t.apply, t.trigger = cmdLine, setOf("\"'\\^ ,;\t\r\n/(").or(upper)
	case "compresswhitespace":
		t.apply, t.trigger = compressWhitespace, setOf(spaces+"\x85\xa0")
	case "cssdecode":
		t.apply, t.trigger, t.changed = cssDecode, setOf(`\`), func(from, _ string) bool { return strings.IndexByte(from, '\\') >= 0 }
	case "escapeseqdecode":
		t.apply, t.trigger = func(text string) string { return decode(text, escapeAt) }, setOf(`\`)
	case "hexdecode":
		// That a text is not hexadecimal is an error: no change.
		t.apply, t.trigger, t.changed = hexDecode, all, func(from, _ string) bool { return allHex(from) }
	case "hexencode":
		t.apply, t.trigger, t.changed = func(text string) string { return hex.EncodeToString([]byte(text)) }, all, always
	case "htmlentitydecode":
		t.apply, t.trigger, t.changed = htmlDecode, setOf("&"), func(from, to string) bool { return len(from) != len(to) }
	case "jsdecode":
		t.apply, t.trigger = func(text string) string { return decode(text, jsAt) }, setOf(`\`)
	case "length":
		t.apply, t.trigger, t.fills, t.changed = func(text string) string { return strconv.Itoa(len(text)) }, all, true, always
	case "lowercase":
		t.apply, t.trigger = lowercase, upper.or(high) // what is not UTF-8 becomes U+FFFD
	case "md5":
		t.apply, t.trigger, t.fills, t.changed = sumMD5, all, true, hashed
	case "normalisepath", "normalizepath":
		t.name, t.apply, t.trigger = "normalizepath", normalizePath, setOf("/.")
	case "normalisepathwin", "normalizepathwin":
		t.name, t.apply, t.trigger = "normalizepathwin", normalizePathWin, setOf(`/\.: `)
	case "removecomments":
		t.apply, t.trigger = removeComments, setOf("/<-#")
	case "removecommentschar":
		t.apply, t.trigger = removeCommentsChar, setOf("/*<-#")
	case "removenulls":
		t.apply, t.trigger = func(text string) string { return strings.ReplaceAll(text, "\x00", "") }, setOf("\x00")
	case "removewhitespace":
		t.apply, t.trigger = removeWhitespace, setOf(spaces).or(high)
		t.changed = func(from, _ string) bool { return strings.IndexFunc(from, unicode.IsSpace) >= 0 }
	case "replacecomments":
		t.apply, t.trigger = replaceComments, setOf("/")
	case "replacenulls":
		t.apply, t.trigger = func(text string) string { return strings.ReplaceAll(text, "\x00", " ") }, setOf("\x00")
	case "sha1":
		t.apply, t.trigger, t.fills, t.changed = sumSHA1, all, true, hashed
	case "trim":
		t.apply, t.trigger = func(text string) string { return strings.Trim(text, spaces) }, setOf(spaces)
	case "trimleft":
		t.apply, t.trigger = func(text string) string { return strings.TrimLeft(text, spaces) }, setOf(spaces)
	case "trimright":
		t.apply, t.trigger = func(text string) string { return strings.TrimRight(text, spaces) }, setOf(spaces)
	case "uppercase":
		t.apply, t.trigger = strings.ToUpper, lower.or(high)
	case "urldecode":
		t.apply, t.trigger = func(text string) string { return decode(text, urlAt) }, setOf("%+")
		t.changed = func(from, _ string) bool { return strings.ContainsAny(from, "%+") }
	case "urldecodeuni":
		t.apply, t.trigger = func(text string) string { return decode(text, urlUniAt) }, setOf("%+")
	case "urlencode":
		plain := upper.or(lower).or(digit).or(setOf("*"))
		t.apply, t.trigger = urlEncode, byteSet{^plain[0], ^plain[1], ^plain[2], ^plain[3]}
	case "utf8tounicode":
		t.apply, t.trigger = utf8ToUnicode, high
	default:
		return transform{}, false
	}
	return t, true
}

func always(_, _ string) bool { return true }

// The hashes are errors, so no change, where only FIPS 140-3's algorithms run.
func hashed(_, _ string) bool { return !fips140.Enabled() }

func sumMD5(text string) string {
	if fips140.Enabled() {
		return text
	}
	sum := md5.Sum([]byte(text)) //nolint:gosec // see the import
	return string(sum[:])
}

func sumSHA1(text string) string {
	if fips140.Enabled() {
		return text
	}
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return string(sum[:])
}
