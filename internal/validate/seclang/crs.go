package seclang

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
)

// A Source is one file of SecLang.
type Source struct {
	Name string // for errors
	Text []byte
	Data func(file string) ([]byte, error) // reads the files of operators like pmFromFile; nil: there are none
}

// Setup is what crs-setup.conf says to the Core Rule Set: the variables TX:…
// that its rules ask for. A zero value leaves the default of CRS.
type Setup struct {
	Paranoia int // blocking_paranoia_level, 1 to 4
	Detect   int // detection_paranoia_level; 0: Paranoia
	Inbound  int // inbound_anomaly_score_threshold
	Outbound int // outbound_anomaly_score_threshold

	Methods      []string // allowed_methods: "GET", "POST"
	ContentTypes []string // allowed_request_content_type: "application/json"

	Set map[string]string // any other, by its name without "tx.": "max_num_args": "255"
}

const crsFolder = "@owasp_crs"

// setupID is the id of the action that makes the settings. It is not of the range
// 900000 to 900999, so that a user's own crs-setup.conf can be read beside it.
const setupID = 9900990

// CRS returns the Core Rule Set 4.25.0 as files to parse: the settings first,
// then the rules in their order. Own files with settings go behind the first,
// own rules behind the last.
func CRS(setup Setup) ([]Source, error) {
	text, err := setup.text()
	if err != nil {
		return nil, err
	}
	sources := []Source{{Name: "crs-setup.conf", Text: text}}
	files, err := fs.ReadDir(coreruleset.FS, crsFolder)
	if err != nil {
		return nil, fmt.Errorf("core rule set: %w", err)
	}
	for _, f := range files { // sorted by name, which is the order they run in
		if !strings.HasSuffix(f.Name(), ".conf") {
			continue
		}
		b, err := crsFile(f.Name())
		if err != nil {
			return nil, fmt.Errorf("core rule set: %w", err)
		}
		sources = append(sources, Source{Name: f.Name(), Text: withAttributes(b), Data: crsFile})
	}
	return sources, nil
}

func crsFile(name string) ([]byte, error) {
	return fs.ReadFile(coreruleset.FS, crsFolder+"/"+name)
}

// withAttributes carries the fix of GHSA-6jp8-c2w2-x7wr, which 4.25.0 lacks: what
// looks at the text of XML elements looks at the values of attributes, too. Else
// an attack moves into an attribute and nobody looks at it.
func withAttributes(conf []byte) []byte {
	conf = bytes.ReplaceAll(conf, []byte("|XML://@*"), nil)
	return bytes.ReplaceAll(conf, []byte("XML:/*"), []byte("XML:/*|XML://@*"))
}

func (s Setup) text() ([]byte, error) {
	set := map[string]string{"crs_setup_version": "4250"}
	number := func(name string, n int) {
		if n > 0 {
			set[name] = fmt.Sprint(n)
		}
	}
	number("blocking_paranoia_level", s.Paranoia)
	number("detection_paranoia_level", s.Detect)
	number("inbound_anomaly_score_threshold", s.Inbound)
	number("outbound_anomaly_score_threshold", s.Outbound)
	if s.Methods != nil {
		set["allowed_methods"] = strings.Join(s.Methods, " ")
	}
	if s.ContentTypes != nil {
		types := make([]string, len(s.ContentTypes))
		for i, t := range s.ContentTypes {
			types[i] = "|" + t + "|"
		}
		set["allowed_request_content_type"] = strings.Join(types, " ")
	}
	maps.Copy(set, s.Set)

	var b bytes.Buffer
	// Of CRS's own crs-setup.conf are phases 1 and 2; ModSecurity reports matches in
	// the others without being told, Coraza does not.
	for phase := 1; phase <= 5; phase++ {
		fmt.Fprintf(&b, "SecDefaultAction \"phase:%d,log,auditlog,pass\"\n", phase)
	}
	fmt.Fprintf(&b, "SecAction \"id:%d,phase:1,pass,t:none,nolog,tag:'OWASP_CRS'", setupID)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		// The words come from documents and settings: none of them writes a rule.
		if value := set[name]; strings.ContainsFunc(name+value, unsafeInSetup) || strings.ContainsAny(name, "=. ") {
			return nil, fmt.Errorf("core rule set: setting %q = %q: quotes, backslashes, %% and control characters can not be part of it", name, value)
		}
		fmt.Fprintf(&b, ",\\\n    setvar:'tx.%s=%s'", name, set[name])
	}
	b.WriteString("\"\n")
	return b.Bytes(), nil
}

func unsafeInSetup(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("'\"\\%`", r) }
