package validate

// appendXML writes text as C14N 1.0 does.
func appendXML(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		var as string
		switch c {
		case '&':
			as = "&amp;"
		case '<':
			as = "&lt;"
		case '>':
			as = "&gt;"
		case '\r':
			as = "&#xD;"
		default:
			continue
		}
		dst = append(append(dst, text[from:i]...), as...)
		from = i + 1
	}
	return append(dst, text[from:]...)
}

// appendXMLAttribute writes a value as C14N 1.0 does, and > as in text.
func appendXMLAttribute(dst []byte, value string) []byte {
	from := 0
	for i := range len(value) {
		var as string
		switch value[i] {
		case '&':
			as = "&amp;"
		case '<':
			as = "&lt;"
		case '>':
			as = "&gt;"
		case '"':
			as = "&quot;"
		case '\t':
			as = "&#x9;"
		case '\n':
			as = "&#xA;"
		case '\r':
			as = "&#xD;"
		default:
			continue
		}
		dst = append(append(dst, value[from:i]...), as...)
		from = i + 1
	}
	return append(dst, value[from:]...)
}
