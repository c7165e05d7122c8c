package validate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// sniffBytes is how much of a file is looked at to find its type. Office
// documents tell theirs within it.
const sniffBytes = 3072

// RefusedExtensions are the extensions of file names that are refused unless
// the settings say otherwise: what a web server or a desktop runs, and what
// changes how a folder is served.
func RefusedExtensions() []string {
	return []string{
		"apk", "app", "application", "appx", "ashx", "asmx", "asp", "aspx", "axd", "bat", "cer", "cfm", "cfml", "cgi", "chm", "cmd", "com",
		"command", "config", "cpl", "dll", "dmg", "ear", "elf", "exe", "fcgi", "hta", "htaccess", "htpasswd", "inf", "ini", "jar", "jnlp",
		"js", "jse", "jsp", "jspf", "jspx", "jsw", "ksh", "lnk", "mjs", "msi", "msp", "pht", "phar", "php", "php3", "php4", "php5", "php7",
		"php8", "phps", "phtml", "pl", "pm", "ps1", "psm1", "py", "pyc", "rb", "reg", "scf", "scr", "sct", "service", "sh", "shtm", "shtml",
		"so", "stm", "svc", "swf", "url", "vb", "vbe", "vbs", "war", "wsc", "wsf", "wsh", "xap", "xhtml",
	}
}

// served are extensions that web servers act on wherever they stand in a name:
// Apache runs photo.php.jpg as PHP.
var served = []string{
	"asp", "aspx", "cfm", "cgi", "fcgi", "htaccess", "jsp", "jspx", "phar", "php", "php3", "php4", "php5", "php7", "php8", "phps", "pht", "phtml", "shtml",
}

// devices are names that Windows takes for devices, whatever their extension.
var devices = []string{
	"aux", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "con", "conin$", "conout$",
	"lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9", "nul", "prn",
}

// checkFileName says why a service must not be given name. It is judged as
// written, and as a reader that undoes percent-encoding would see it.
func checkFileName(name string, refused []string) (detail string) {
	if detail := checkPlainFileName(name, refused); detail != "" {
		return detail
	}
	for range 3 {
		plain := unpercent(name)
		if plain == name {
			return ""
		}
		if detail := checkPlainFileName(plain, refused); detail != "" {
			return detail
		}
		name = plain
	}
	return "The file's name is encoded too often."
}

func checkPlainFileName(name string, refused []string) string {
	switch {
	case len(name) > maxFileName:
		return "The file's name is too long."
	case !plainText(name):
		return "The file's name has characters a name must not have."
	case strings.ContainsAny(name, `/\:"<>|?*`), strings.Contains(name, ".."):
		return "The file's name must not be a path."
	case name == "", name[0] == '.', strings.TrimRight(name, ". ") != name, strings.TrimLeft(name, " ") != name:
		return "The file's name must not begin or end with a dot or space."
	}
	segments := strings.Split(strings.ToLower(name), ".")
	if slices.Contains(devices, strings.TrimRight(segments[0], " ")) {
		return "The file's name is that of a device."
	}
	for i, s := range segments[1:] {
		s = strings.TrimRight(s, " ") // Windows leaves it out
		last := i == len(segments)-2
		if slices.Contains(refused, s) && (last || slices.Contains(served, s)) {
			return "Files with this extension are not taken."
		}
	}
	return ""
}

// unpercent undoes the percent-encoding that is valid.
func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && byteClass[s[i+1]]&byteClass[s[i+2]]&byteHex != 0 {
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// extensions are types that a server or browser takes from a name alone. A file
// with one of these names must be of that type, as the document declares it.
var extensions = map[string]string{
	"avif": "image/avif", "bmp": "image/bmp", "css": "text/css", "csv": "text/csv", "doc": "application/msword",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "gif": "image/gif", "gz": "application/gzip",
	"heic": "image/heic", "htm": "text/html", "html": "text/html", "ico": "image/x-icon", "jpeg": "image/jpeg", "jpg": "image/jpeg",
	"js": "text/javascript", "json": "application/json", "mht": "multipart/related", "mhtml": "multipart/related", "mjs": "text/javascript", "mp3": "audio/mpeg",
	"mp4": "video/mp4", "pdf": "application/pdf", "png": "image/png", "ppt": "application/vnd.ms-powerpoint",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation", "svg": "image/svg+xml", "svgz": "image/svg+xml", "swf": "application/x-shockwave-flash",
	"tif": "image/tiff", "tiff": "image/tiff", "txt": "text/plain", "webm": "video/webm", "webp": "image/webp", "xht": "application/xhtml+xml",
	"xhtml": "application/xhtml+xml", "xls": "application/vnd.ms-excel", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"xml": "application/xml", "xsl": "application/xml", "xslt": "application/xml", "zip": "application/zip",
}

// active are types that a browser runs.
var active = []string{"text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/x-shockwave-flash"}

// fileTypes are the media ranges a file may be of; empty: any.
type fileTypes []media

func (t fileTypes) any() bool {
	if len(t) == 0 {
		return true
	}
	for _, m := range t {
		if m.sub == "*" && m.kind == "*" || m.kind == "application" && m.sub == "octet-stream" {
			return true
		}
	}
	return false
}

func (t fileTypes) has(name string) bool {
	name, _, _ = strings.Cut(name, ";")
	kind, sub, _ := strings.Cut(name, "/")
	m := media{kind: kind, sub: sub}
	return slices.ContainsFunc(t, func(r media) bool { return m.within(r) > 0 || r.kind == kind && sameType(name, r.String()) })
}

// sameType knows the other names of a type, like application/x-gzip.
func sameType(a, b string) bool {
	found := mimetype.Lookup(a)
	return found != nil && found.Is(b)
}

// sniff finds a file's type by its first bytes and says whether a file that
// claims to be of type claimed, "" if it claims nothing, and has that name may
// stand where t is declared. name is the type that goes on.
func (t fileTypes) sniff(head []byte, claimed, file string) (name string, ok bool) {
	const unsaid = "application/octet-stream"
	claimed = strings.ToLower(cmp.Or(claimed, unsaid))
	if t.any() {
		return claimed, true // the document takes bytes of any kind
	}
	if dot := strings.LastIndexByte(file, '.'); dot >= 0 {
		if by, known := extensions[strings.ToLower(file[dot+1:])]; known && !t.has(by) {
			return "", false
		}
	}
	var chain []*mimetype.MIME // what it is, from the most special to the most general, like DOCX and ZIP
	for m := mimetype.Detect(head); m != nil && m.Parent() != nil; m = m.Parent() {
		chain = append(chain, m)
		at, _, _ := strings.Cut(m.String(), ";")
		if slices.Contains(active, at) && !t.has(at) {
			return "", false // where text is declared HTML must not come in
		}
	}
	is := func(name string) bool {
		if slices.ContainsFunc(chain, func(m *mimetype.MIME) bool { return m.Is(name) }) {
			return true
		}
		// Formats without a mark of their own.
		if textual(name) && !slices.Contains(active, name) {
			return slices.ContainsFunc(chain, func(m *mimetype.MIME) bool { return m.Is("text/plain") })
		}
		return len(chain) == 0 && mimetype.Lookup(name) == nil
	}
	if claimed != unsaid {
		return claimed, t.has(claimed) && is(claimed)
	}
	for _, m := range chain {
		if at, _, _ := strings.Cut(m.String(), ";"); t.has(at) {
			return at, true
		}
	}
	for _, r := range t {
		if r.sub != "*" && is(r.String()) {
			return r.String(), true
		}
	}
	return "", false
}

// textual reports types whose files are text without a mark at the beginning.
func textual(name string) bool {
	kind, sub, _ := strings.Cut(name, "/")
	return kind == "text" || strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml") || strings.HasSuffix(sub, "+yaml") ||
		kind == "application" && slices.Contains([]string{"json", "xml", "yaml", "x-yaml", "javascript", "sql", "x-ndjson", "toml"}, sub)
}
