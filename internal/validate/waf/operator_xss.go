package waf

import (
	"strings"

	"github.com/corazawaf/libinjection-go"
)

type detectXSS struct{}

func (detectXSS) match(text string, _ *captures) bool {
	return canXSS(text) && libinjection.IsXSS(text)
}

// canXSS reports whether libinjection could find something: what a tag could
// start with, or the value of an attribute that runs code or names a resource.
// It reads a text as HTML, and as if it stood in an attribute.
func canXSS(text string) bool {
	for at := 0; ; at++ {
		next := strings.IndexByte(text[at:], '<')
		if next < 0 {
			break
		}
		at += next
		if at+1 < len(text) && (isOneOf(text[at+1], "!?/%\x00") || text[at+1]|0x20 >= 'a' && text[at+1]|0x20 <= 'z') {
			return true
		}
	}
	for at := 0; ; at++ {
		next := strings.IndexByte(text[at:], '=')
		if next < 0 {
			return false
		}
		at += next
		if attributeRuns(text[:at]) {
			return true
		}
	}
}

// attributeRuns reports whether text ends with the name of an attribute that
// libinjection looks at. Zero bytes count as nothing there.
func attributeRuns(text string) bool {
	end := len(text)
	for end > 0 && isOneOf(text[end-1], spaces+"\x00") {
		end--
	}
	from := end
	for from > 0 && !isOneOf(text[from-1], spaces+"/=>'\"`") {
		from--
	}
	var name [16]byte // the names below are shorter
	n := 0
	for i := from; i < end && n < len(name); i++ {
		c := text[i]
		if c == 0 {
			continue
		}
		if c >= 'a' && c <= 'z' {
			c &^= 0x20
		}
		name[n] = c
		n++
	}
	if n > 4 && name[0] == 'O' && name[1] == 'N' { // an event
		return true
	}
	switch string(name[:n]) {
	case "ACTION", "ATTRIBUTENAME", "BY", "BACKGROUND", "DATAFORMATAS", "DATASRC", "DYNSRC", "FILTER", "FORMACTION", "FOLDER",
		"FROM", "HANDLER", "HREF", "LOWSRC", "POSTER", "SRC", "STYLE", "TO", "VALUES", "XLINK:HREF", "XMLNS", "XLINK":
		return true
	}
	return false
}
