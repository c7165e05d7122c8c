package waf

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
)

// A token costs about a third of a microsecond.
const (
	maxXMLValues = 10_000
	maxXMLTokens = 100_000
)

// readXML adds the character data and the attributes of a document, which need
// not be well-formed. No entity is resolved but the five of XML and those of HTML.
func (f *Facts) readXML(src []byte) error {
	d := xml.NewDecoder(bytes.NewReader(src))
	d.Strict = false
	d.AutoClose = xml.HTMLAutoClose
	d.Entity = xml.HTMLEntity
	values, spans, arena := len(f.Values), len(f.read.spans), len(f.read.arena)
	drop := func(err error) error { // of a document with an error Coraza shows nothing
		f.Values, f.read.spans, f.read.arena = f.Values[:values], f.read.spans[:spans], f.read.arena[:arena]
		return err
	}
	var declared error
	for range maxXMLTokens {
		token, err := d.Token()
		if syntax, ok := errors.AsType[*xml.SyntaxError](err); errors.Is(err, io.EOF) || ok && syntax.Msg == "unexpected EOF" {
			return declared
		}
		if err != nil {
			return drop(err)
		}
		switch t := token.(type) {
		case xml.Directive:
			declared = errors.New("has a document type")
		case xml.StartElement:
			for i := range t.Attr {
				f.addXML(XMLAttr, "//@*", []byte(t.Attr[i].Value))
			}
		case xml.CharData:
			if text := bytes.TrimSpace(t); len(text) > 0 {
				f.addXML(XMLText, "/*", text)
			}
		}
		if len(f.Values)-values > maxXMLValues {
			return errors.New("has too many values")
		}
	}
	return errors.New("has too many elements")
}

func (f *Facts) addXML(in In, name string, text []byte) {
	lo := f.mark()
	f.read.arena = append(f.read.arena, text...)
	f.read.spans = append(f.read.spans, span{value: len(f.Values), nameLo: -1, textLo: lo, textHi: f.mark()})
	f.Values = append(f.Values, Value{In: in, Name: name})
}
