package validate

import (
	"bytes"
	"strings"
)

const leakCard = "card_number"

// findCard finds the number of a payment card: of a length and with the first
// digits that issuers use, its check digit right, written without separators or
// in the groups cards show, and not a part of a longer number. One of ten long
// numbers has a right check digit by chance, so names that say that it is
// something else, and bare JSON numbers that nothing says to be a card, do not
// count.
func findCard(b []byte, isJSON bool) (from, to int, ok bool) {
	// Of two neighbours inside a number one at least is a digit, so that every
	// eighth place tells.
	for i := 0; i < len(b); i += 8 {
		if !digit(b[i]) && (i+1 >= len(b) || !digit(b[i+1])) {
			continue
		}
		at := i
		if !digit(b[at]) {
			at++
		}
		start := at
		for start > 0 && (digit(b[start-1]) || separates(b, start-1)) {
			start--
		}
		end := at + 1
		for end < len(b) && (digit(b[end]) || separates(b, end)) {
			end++
		}
		if end-start >= 14 {
			if from, to, ok := cardIn(b, start, end, isJSON); ok {
				return from, to, true
			}
		}
		i = max(i, end&^7)
	}
	return 0, 0, false
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// separates reports a single space or hyphen between two digits.
func separates(b []byte, i int) bool {
	return (b[i] == ' ' || b[i] == '-') && i > 0 && i+1 < len(b) && digit(b[i-1]) && digit(b[i+1])
}

// cardIn looks for a card in a run of digits and separators.
func cardIn(b []byte, start, end int, isJSON bool) (from, to int, ok bool) {
	if start > 0 && (wordByte(b[start-1]) || bytes.IndexByte([]byte(".-+%$#@"), b[start-1]) >= 0) ||
		end < len(b) && (wordByte(b[end]) || b[end] == '%' || b[end] == '.' && end+1 < len(b) && wordByte(b[end+1])) {
		return 0, 0, false
	}
	type group struct{ from, to int }
	var space [64]group
	groups := space[:0]
	for i := start; i < end && len(groups) < len(space); {
		k := i
		for k < end && digit(b[k]) {
			k++
		}
		groups = append(groups, group{i, k})
		i = k + 1
	}
	size := func(i int) int {
		if i < 0 || i >= len(groups) {
			return 0
		}
		return groups[i].to - groups[i].from
	}
	joint := func(i int) byte { // what stands behind group i
		if i < 0 || i+1 >= len(groups) {
			return 0
		}
		return b[groups[i].to]
	}
	for i := range groups {
		if n := size(i); n >= 14 && n <= 16 && joint(i) != '-' && joint(i-1) != '-' {
			if card(b[groups[i].from:groups[i].to]) && named(b, groups[i].from, groups[i].to, isJSON) {
				return groups[i].from, groups[i].to, true
			}
			continue
		}
		var last int
		switch {
		case size(i) == 4 && size(i+1) == 4 && size(i+2) == 4 && size(i+3) == 4:
			last = i + 3
		case size(i) == 4 && size(i+1) == 6 && (size(i+2) == 5 || size(i+2) == 4):
			last = i + 2
		default:
			continue
		}
		sep, same := joint(i), true
		for k := i; k < last; k++ {
			same = same && joint(k) == sep
		}
		// In a longer list of groups any four of them could be meant.
		if !same || joint(i-1) == sep && size(i-1) >= 4 || joint(last) == sep && size(last+1) >= 4 {
			continue
		}
		if card(b[groups[i].from:groups[last].to]) {
			return groups[i].from, groups[last].to, true
		}
	}
	return 0, 0, false
}

// card checks length, issuer and check digit (ISO/IEC 7812-1) of a number that
// may have separators.
func card(b []byte) bool {
	var d [16]byte
	n := 0
	for _, c := range b {
		if !digit(c) {
			continue
		}
		if n == len(d) {
			return false
		}
		d[n] = c - '0'
		n++
	}
	two := int(d[0])*10 + int(d[1])
	four := two*100 + int(d[2])*10 + int(d[3])
	switch n {
	case 14: // Diners Club
		if two != 36 && two != 38 && two != 39 && (four < 3000 || four > 3059) {
			return false
		}
	case 15: // American Express
		if two != 34 && two != 37 {
			return false
		}
	case 16: // Visa, Mastercard, Discover, JCB, UnionPay
		if d[0] != 4 && (two < 51 || two > 55) && (four < 2221 || four > 2720) &&
			four != 6011 && two != 65 && (four < 6440 || four > 6499) && (four < 3528 || four > 3589) && two != 62 {
			return false
		}
	default:
		return false
	}
	sum := 0
	for i := range n {
		x := int(d[n-1-i])
		if i%2 == 1 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	return sum%10 == 0
}

// named judges a number without groups by what stands around it.
func named(b []byte, from, to int, isJSON bool) bool {
	if !isJSON {
		return from == 0 || b[from-1] != '/' && b[from-1] != '=' && b[from-1] != ':'
	}
	quoted := from > 0 && b[from-1] == '"' && to < len(b) && b[to] == '"'
	if !quoted && from > 0 && b[from-1] != ' ' && b[from-1] != ':' && b[from-1] != ',' && b[from-1] != '[' && b[from-1] != '\n' {
		return b[from-1] != '/' && b[from-1] != '=' // inside a longer text
	}
	at := from - 1
	if quoted {
		at--
	}
	for at >= 0 && (b[at] == ' ' || b[at] == '\n' || b[at] == '\t' || b[at] == '\r') {
		at--
	}
	if at < 0 || b[at] != ':' {
		// In a list, or in the middle of a sentence, which ends at some quote.
		return quoted || at >= 0 && b[at] != ',' && b[at] != '['
	}
	end := bytes.LastIndexByte(b[:at], '"')
	if end < 0 {
		return quoted
	}
	begin := bytes.LastIndexByte(b[max(0, end-64):end], '"')
	if begin < 0 {
		return quoted
	}
	name := string(b[max(0, end-64)+begin+1 : end])
	lower := strings.ToLower(name)
	if !quoted {
		return strings.Contains(lower, "card") || strings.Contains(lower, "pan") || strings.Contains(lower, "credit")
	}
	if lower == "id" || strings.HasSuffix(lower, "_id") || strings.HasSuffix(name, "Id") || strings.HasSuffix(name, "ID") || strings.HasSuffix(lower, "-id") {
		return false
	}
	for _, other := range [...]string{"time", "date", "phone", "tel", "imei", "hash", "nonce", "version", "sequence", "cursor", "etag", "trace", "request", "tracking", "serial"} {
		if strings.Contains(lower, other) {
			return false
		}
	}
	return true
}
