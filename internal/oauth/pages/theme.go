package pages

import (
	"fmt"
	"math"
	"strconv"
)

// Contrast ratios of WCAG 2.2 AA: text (1.4.3), and what is not text (1.4.11).
const contrastText = 4.5

type rgb struct{ r, g, b float64 } // 0 to 1, sRGB

var (
	white     = rgb{1, 1, 1}
	black     = rgb{0, 0, 0}
	lightPage = white
	darkPage  = rgb{0x1c / 255.0, 0x1f / 255.0, 0x26 / 255.0} // --card of the dark style
	houseBlue = rgb{0x1f / 255.0, 0x5f / 255.0, 0xd6 / 255.0}
)

// palette gives the style sheet its colours. Whatever colour the operator likes,
// text stays readable: the label of a button is black or white, whichever
// contrasts more (one of them always does), and links are darkened or lightened
// until they can be read on the page.
func palette(color string) (string, error) {
	accent := houseBlue
	if color != "" {
		var err error
		if accent, err = parseColor(color); err != nil {
			return "", err
		}
	}
	root := func(page, towards rgb) string {
		button := accent
		// A button that cannot be told from the page is none.
		for i := 0; contrast(button, page) < 3 && i < 100; i++ {
			button = mix(button, towards, 0.05)
		}
		label := white
		if contrast(button, black) > contrast(button, white) {
			label = black
		}
		link := button
		for i := 0; contrast(link, page) < contrastText && i < 100; i++ {
			link = mix(link, towards, 0.05)
		}
		return fmt.Sprintf("--accent:%s;--on-accent:%s;--link:%s", button, label, link)
	}
	return fmt.Sprintf(":root{%s}\n@media (prefers-color-scheme:dark){:root{%s}}\n", root(lightPage, black), root(darkPage, white)), nil
}

func parseColor(s string) (rgb, error) {
	if len(s) == 7 && s[0] == '#' {
		if n, err := strconv.ParseUint(s[1:], 16, 24); err == nil {
			return rgb{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}, nil
		}
	}
	return rgb{}, fmt.Errorf("pages: colour %q must have the form #rrggbb", s)
}

func (c rgb) String() string {
	b := func(v float64) int { return int(math.Round(v * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", b(c.r), b(c.g), b(c.b))
}

func mix(c, d rgb, part float64) rgb {
	f := func(a, b float64) float64 { return math.Round((a+(b-a)*part)*255) / 255 } // as it will be written
	return rgb{f(c.r, d.r), f(c.g, d.g), f(c.b, d.b)}
}

// luminance is the relative luminance of WCAG 2.2.
func (c rgb) luminance() float64 {
	f := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*f(c.r) + 0.7152*f(c.g) + 0.0722*f(c.b)
}

// contrast is the contrast ratio of WCAG 2.2, 1 to 21.
func contrast(c, d rgb) float64 {
	x, y := c.luminance(), d.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
