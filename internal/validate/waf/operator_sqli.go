package waf

import (
	_ "embed"
	"encoding/binary"
	"strings"
	"sync"

	"github.com/corazawaf/libinjection-go"
)

// libinjection takes 2 µs and some twenty allocations for a short text, whatever
// it is. It cuts a text in up to five tokens, after it has folded what belongs
// together, and looks the letters of their kinds up in a table: "s&1" is a
// string, AND, a number. Most texts hold too few kinds of tokens for any entry of
// that table: a name has barewords only, and no entry is barewords alone. So we
// gather the kinds that a text could give, in any reading, and ask libinjection
// only if some entry needs no others.
//
// The table and the words come from libinjection's source, where a test reads
// them: sqli.bin are 2,048 slots of a hash table of words (16 bits of the hash,
// 16 of kinds), and behind them the sets of kinds of which each entry needs one,
// 32 bits each, that have no other such set in them.
//
//go:embed sqli.bin
var sqliTables []byte

// A kinds is a set of kinds of tokens.
type kinds uint32

// Kinds of tokens, by libinjection's letters. Those up to intoWord are of words.
const (
	sqlBareword   kinds = 1 << iota // n
	sqlNumeral                      // 1
	sqlKeyword                      // k
	sqlTyped                        // t, T
	sqlFunction                     // f
	sqlVariable                     // v
	sqlSymbol                       // o
	sqlLogic                        // &
	sqlExpression                   // E
	sqlUnion                        // U
	sqlGroup                        // B
	sqlCollate                      // A
	sqlIntoWord                     // INTO: a keyword between two values counts only if it is that
	sqlQuoted                       // s
	sqlComment                      // c
	sqlOpening                      // (
	sqlClosing                      // )
	sqlComma                        // ,
	sqlSemicolon                    // ;
	sqlEvil                         // X
	sqlColon                        // :
	sqlSlashed                      // a comment that starts with a slash
	sqlTwoQuoted                    // two quoted strings
)

const sqliLetters = "n1ktfvo&EUBAIsc(),;X:/S" // of the kinds, in order

const (
	sqliSlots = 2048
	sqliQuick = 512 // bytes above which libinjection, which stops after some tokens, is quicker
)

// A sqliTable says which texts libinjection could find something in.
type sqliTable struct {
	slots [sqliSlots]struct{ tag, kinds uint16 }
	needs []kinds
	calm  kinds // no entry needs only these, which most texts have
}

// sqli is read when it is first needed.
var sqli = sync.OnceValue(readSQLi)

func readSQLi() *sqliTable {
	d := new(sqliTable)
	for i := range d.slots {
		d.slots[i].tag = binary.LittleEndian.Uint16(sqliTables[4*i:])
		d.slots[i].kinds = binary.LittleEndian.Uint16(sqliTables[4*i+2:])
	}
	for at := 4 * sqliSlots; at+4 <= len(sqliTables); at += 4 {
		d.needs = append(d.needs, kinds(binary.LittleEndian.Uint32(sqliTables[at:])))
	}
	d.calm = sqlBareword | sqlNumeral | sqlSymbol | sqlComma | sqlSemicolon | sqlColon
	if d.matches(d.calm) {
		d.calm = 0
	}
	return d
}

type detectSQLi struct{}

// match captures the fingerprint: the letters of the first tokens.
func (detectSQLi) match(text string, caps *captures) bool {
	if !sqli().can(text) {
		return false
	}
	found, fingerprint := libinjection.IsSQLi(text)
	if found && caps != nil {
		caps.add(fingerprint)
	}
	return found
}

// can reports whether text could match.
func (d *sqliTable) can(text string) bool {
	if len(text) > sqliQuick {
		return true
	}
	var have kinds
	quotes := 0
	for i := 0; i < len(text); {
		c := text[i]
		i++
		switch sqliBytes[c] {
		case sqliSpace:
		case sqliWord:
			from := i - 1
			for i < len(text) && sqliBytes[text[i]] == sqliWord {
				i++
			}
			k, ok := d.run(text[from:i])
			if !ok {
				return true
			}
			have |= k
		case sqliOperator:
			switch have |= sqlSymbol; c {
			case '&', '|':
				have |= sqlLogic
			case '-':
				if i < len(text) && text[i] == '-' {
					have |= sqlComment
				}
			case '#':
				have |= sqlComment
			case '/':
				if i < len(text) && text[i] == '*' {
					have |= sqlComment | sqlSlashed | sqlEvil
				}
			case ':':
				have |= sqlColon
			case '@':
				have |= sqlVariable
			case '\\':
				have |= sqlNumeral
			}
		case sqliQuote:
			have |= sqlQuoted
			if quotes++; quotes > 1 {
				have |= sqlTwoQuoted
			}
			if i > 1 && isOneOf(text[i-2]|0x20, "xb") { // x'41', b'01'
				have |= sqlNumeral
			}
		case sqliPoint:
			have |= pointKinds(c)
		default:
			return true
		}
	}
	if have&sqlComment != 0 && strings.Contains(text, "sp_password") {
		return true // turns the table's exceptions off
	}
	return have&^d.calm != 0 && d.matches(have)
}

// matches reports whether some entry needs no other kinds than these.
func (d *sqliTable) matches(have kinds) bool {
	for _, need := range d.needs {
		if need&^have == 0 {
			return true
		}
	}
	return false
}

// run is the kinds that a run of word bytes could give: as it is, and in the
// parts that a number at its start and a keyword before a dot leave. ok false: it
// has too many of them.
func (d *sqliTable) run(text string) (k kinds, ok bool) {
	for i := range len(text) {
		// ToUpper makes ASCII of these two letters, ı and ſ.
		if text[i] >= 0x80 && (strings.HasPrefix(text[i:], "\u0131") || strings.HasPrefix(text[i:], "\u017f")) {
			return 0, false
		}
	}
	return d.parts(text, 16)
}

func (d *sqliTable) parts(text string, left int) (k kinds, ok bool) {
	if left == 0 {
		return 0, false
	}
	if c := text[0]; c != '.' && (c < '0' || c > '9') {
		return d.word(text, left)
	}
	k = sqlNumeral | sqlBareword
	for i := 1; i < len(text); i++ { // a number may end before any letter that follows what can be in one
		c, before := text[i], text[i-1]
		if c == '.' || c >= '0' && c <= '9' || nibble(before) > 15 && before != '.' && before|0x20 != 'x' {
			continue
		}
		if left--; left == 0 {
			return 0, false
		}
		sub, ok := d.word(text[i:], left)
		if !ok {
			return 0, false
		}
		k |= sub
	}
	return k, true
}

// word is the kinds of a word and of its parts before dots, as far as those are
// words that mean something.
func (d *sqliTable) word(text string, left int) (k kinds, ok bool) {
	const most = 31 // longer words mean nothing
	k = sqlBareword
	h := uint32(2166136261)
	for i := range len(text) {
		c := text[i]
		if c == '.' && i <= most {
			if known := d.lookup(h); known != 0 && i+1 < len(text) {
				rest, ok := d.parts(text[i:], left-1)
				if !ok {
					return 0, false
				}
				k |= known | rest
			} else {
				k |= known
			}
		}
		if i >= most {
			return k, true
		}
		if c >= 'a' && c <= 'z' {
			c &^= 0x20
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return k | d.lookup(h), true
}

func (d *sqliTable) lookup(h uint32) kinds {
	for i := h % sqliSlots; d.slots[i].kinds != 0; i = (i + 1) % sqliSlots {
		if d.slots[i].tag == uint16(h>>16) {
			return kinds(d.slots[i].kinds)
		}
	}
	return 0
}

// Classes of bytes.
const (
	sqliOther    = iota // we do not follow those
	sqliSpace           // and what stands alone and means nothing
	sqliWord            // of names and numbers
	sqliOperator        // and what may start a comment or a variable
	sqliQuote
	sqliPoint
)

var sqliBytes = sqliClasses()

func sqliClasses() (of [256]uint8) {
	letters := setRange('A', 'Z').or(setRange('a', 'z'))
	for c := range 256 {
		switch b := byte(c); {
		case setOf(" \t\n\v\f\r\x00\xa0]{}?").has(b):
			of[c] = sqliSpace
		case letters.has(b), b >= '0' && b <= '9', b == '_', b == '.', b >= 0x80:
			of[c] = sqliWord
		case setOf(`!%&*+-/<=>^|~#:@\`).has(b):
			of[c] = sqliOperator
		case b == '\'', b == '"':
			of[c] = sqliQuote
		case setOf("(),;[").has(b):
			of[c] = sqliPoint
		}
	}
	return of
}

// pointKinds is what libinjection makes of a byte that is a token by itself.
func pointKinds(c byte) kinds {
	switch c {
	case '(':
		return sqlOpening
	case ')':
		return sqlClosing
	case ',':
		return sqlComma
	case ';':
		return sqlSemicolon
	case '[':
		return sqlBareword
	}
	return 0
}
