package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
)

//go:embed assets/style.css assets/passkey.js
var assetFiles embed.FS

const maxLogo = 256 << 10

// An asset is a file whose name has the hash of its content: it never changes,
// so browsers keep it for ever.
type asset struct {
	kind string
	body []byte
}

func (p *Pages) loadAssets() error {
	colors, err := palette(p.cfg.Color)
	if err != nil {
		return err
	}
	p.assets = map[string]asset{}
	style, err := assetFiles.ReadFile("assets/style.css")
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	script, err := assetFiles.ReadFile("assets/passkey.js")
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	p.style = p.addAsset("style", "css", "text/css; charset=utf-8", append([]byte(colors), style...))
	p.script = p.addAsset("passkey", "js", "text/javascript; charset=utf-8", script)
	switch logo := p.cfg.Logo; {
	case len(logo) == 0:
	case len(logo) > maxLogo:
		return fmt.Errorf("pages: the logo has %d bytes, at most %d are taken", len(logo), maxLogo)
	case bytes.HasPrefix(logo, []byte("\x89PNG\r\n\x1a\n")):
		p.logo = p.addAsset("logo", "png", "image/png", logo)
	case bytes.Contains(logo[:min(len(logo), 1024)], []byte("<svg")):
		p.logo = p.addAsset("logo", "svg", "image/svg+xml", logo)
	default:
		return errors.New("pages: the logo must be PNG or SVG")
	}
	return nil
}

func (p *Pages) addAsset(name, ext, kind string, body []byte) string {
	sum := sha256.Sum256(body)
	file := name + "-" + hex.EncodeToString(sum[:8]) + "." + ext
	p.assets[file] = asset{kind: kind, body: body}
	return p.base + "/assets/" + file
}

func (p *Pages) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.PathValue("file")]
	if !ok {
		p.Fail(w, r, notFound())
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// An SVG opened by itself is a document: it gets no script, no plugin, no origin.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	_, _ = w.Write(a.body) // the browser may be gone
}
