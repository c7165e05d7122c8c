package waf

import "strings"

// What libinjection takes, in nanoseconds, measured on texts made for it.
const (
	sqliStart = 3000 // and a usual text of any length
	sqliToken = 500  // a word: it is looked up, in capitals, alone and with its neighbours
	sqliMark  = 250
	sqliByte  = 300 // of texts that we do not follow
	xssStart  = 500
	xssToken  = 300        // in all five readings of the text
	costEnds  = 50_000_000 // more than any budget: to reckon on would cost, too
)

// cost is small for nearly all texts: libinjection stops where five tokens stand
// that do not fold. What folds for ever, 1+1+1..., it reads to the end, in up to
// five ways.
func (detectSQLi) cost(text string) int64 {
	d := sqli()
	if !d.can(text) {
		return 50 + 4*int64(len(text))
	}
	cost := sqliStart + int64(len(text))/4 + 20*int64(strings.Count(text, "'")+strings.Count(text, `"`))
	add := func(from int, mysql bool) {
		if cost > costEnds {
			return
		}
		c, _ := d.work(text, from, mysql)
		cost += c
	}
	both := strings.Contains(text, "--") || strings.IndexByte(text, '#') >= 0
	add(0, false)
	if both {
		add(0, true)
	}
	if at := stringEnd(text, 0, '\''); at < len(text) {
		add(at, false)
		if both {
			add(at, true)
		}
	}
	if at := stringEnd(text, 0, '"'); at < len(text) {
		add(at, true)
	}
	return cost
}

// work is what it takes to cut the text from the byte from on, and the byte at
// which libinjection has stopped at the latest. MySQL has other comments.
//
// A word that means nothing behind another such word stays a token of its own: to
// fold it away its left neighbour would have to be an operator, a comma or the
// like, and that is a value. So when more such pairs have been read than a
// fingerprint has letters, it has its letters.
func (d *sqliTable) work(text string, from int, mysql bool) (cost int64, stop int) {
	const pairs = 7
	seen, plain := 0, false // plain: the last token is such a word
	giveUp := func(i int) (int64, int) { return cost + sqliByte*int64(len(text)-i), len(text) }
	for i := from; i < len(text); {
		if cost > costEnds {
			return giveUp(i)
		}
		c := text[i]
		if sqliBytes[c] == sqliWord {
			j := i + 1
			for j < len(text) && sqliBytes[text[j]] == sqliWord {
				j++
			}
			cost += sqliToken
			if c == '.' || c >= '0' && c <= '9' {
				cost += int64(sqliMark * (j - i)) // 1.1.1
			}
			if j < len(text) && text[j] == '\'' && (strings.EqualFold(text[i:j], "q") || strings.EqualFold(text[i:j], "nq")) {
				return giveUp(i) // a string with an end of its own choice
			}
			k, ok := d.run(text[i:j])
			alone := ok && k == sqlBareword && (j == len(text) || isOneOf(text[j], spaces))
			cost += int64(sqliMark * strings.Count(text[i:j], "."))
			if alone && plain {
				if seen++; seen == pairs {
					return cost, j
				}
			}
			plain = alone
			i = j
			continue
		}
		if isOneOf(c, spaces) {
			i++
			continue
		}
		plain = false
		cost += sqliMark
		switch rest := text[i:]; {
		case c == '\'', c == '"', c == '`':
			i = stringEnd(text, i+1, c)
		case c == '#' && mysql, strings.HasPrefix(rest, "--") && (!mysql || len(rest) == 2 || isOneOf(rest[2], spaces+"\x00\xa0")):
			line := strings.IndexByte(rest, '\n')
			if line < 0 {
				return cost, len(text)
			}
			i += line
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 || i > 0 && text[i-1] == '|' {
				return giveUp(i)
			}
			i += end + 4
		case c == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return cost, len(text)
			}
			i += end + 1
		case c == '@':
			if i > 0 && text[i-1] == '<' {
				return giveUp(i)
			}
			i++
			if i < len(text) && text[i] == '@' {
				i++
			}
			for i < len(text) && !isOneOf(text[i], " <>:\\?=@!#~+-*/&|^%(),';\t\n\v\f\r'`\"") {
				i++
			}
		case c == '{', c == '}', c == '$' && len(rest) > 1 && (rest[1] == '$' || rest[1]|0x20 >= 'a' && rest[1]|0x20 <= 'z'):
			return giveUp(i)
		default:
			i++
		}
	}
	return cost, len(text)
}

// stringEnd is the place behind the end of a string whose first byte is at from:
// two quotes are one in it, and so is one behind a backslash.
func stringEnd(text string, from int, quote byte) int {
	for i := from; i < len(text); i++ {
		next := strings.IndexByte(text[i:], quote)
		if next < 0 {
			return len(text)
		}
		i += next
		slashes := 0
		for k := i; k > from && text[k-1] == '\\'; k-- {
			slashes++
		}
		switch {
		case slashes%2 == 1:
		case i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return len(text)
}

// cost: each of the marks ends a token, in each of the readings.
func (detectXSS) cost(text string) int64 {
	if !canXSS(text) {
		return 50 + int64(len(text))/4 + 20*int64(strings.Count(text, "="))
	}
	marks := int64(0)
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == '<' || c == '>' || c == '=' || c == '/' || c == '"' || c == '\'' || c == '`' || c == '&' {
			marks++
		}
	}
	return xssStart + marks*xssToken + int64(len(text))
}
