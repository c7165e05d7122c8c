package pages

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the empty border that readers of QR codes want, in modules (ISO/IEC 18004).
const quiet = 4

// A code is a QR code to be drawn as SVG inside the page: an image at a URL would
// have to carry the secret there.
type code struct {
	Size int
	Path string // of an SVG path element, one horizontal run of dark modules after the other
}

func qrCode(text string) (code, error) {
	q, err := qr.Encode(text, qr.M)
	if err != nil {
		return code{}, fmt.Errorf("pages: QR code: %w", err)
	}
	var b strings.Builder
	for y := range q.Size {
		for x := 0; x < q.Size; x++ {
			run := 0
			for x+run < q.Size && q.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
				x += run
			}
		}
	}
	return code{Size: q.Size + 2*quiet, Path: b.String()}, nil
}
