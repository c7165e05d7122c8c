package validate

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A compressed body may unfold to ratioFree bytes whatever its size, and beyond
// that to maxRatio times what was received: ordinary JSON shrinks to a tenth, a
// decompression bomb to a thousandth.
const (
	maxRatio  = 20
	ratioFree = 64 << 10
)

// contentEncoding reports whether the body comes in gzip, which is all there is
// to take, and only where the settings take it.
func (o *Operation) contentEncoding(h http.Header, class mediaKind) (compressed bool, err error) {
	for i, line := range h["Content-Encoding"] {
		switch {
		case strings.EqualFold(line, "identity"):
		case i == 0 && len(h["Content-Encoding"]) == 1 && o.settings.Decompress && class != mediaGRPC && strings.EqualFold(line, "gzip"):
			compressed = true
		case o.settings.Decompress:
			return false, &gatehouse.Problem{
				Kind: gatehouse.UnsupportedMedia, Reason: "unsupported_encoding", Detail: "The body may be compressed by gzip, once, or not at all.",
			}
		default:
			return false, &gatehouse.Problem{
				Kind: gatehouse.UnsupportedMedia, Reason: "unsupported_encoding", Detail: "The body must not be compressed.",
			}
		}
	}
	return compressed, nil
}

// A gunzip reads one gzip member (RFC 1952) and nothing behind it: some readers
// take a second member, others leave it out. It never gives more than limit
// bytes, nor many more than were received.
type gunzip struct {
	in    bufio.Reader
	from  tally
	z     *gzip.Reader
	given int64
	limit int64
	hold  func(n int64) error // nil: nobody asks
	err   error
}

// A tally counts what was received.
type tally struct {
	r io.Reader
	n int64
}

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	return n, err
}

func newGunzip(r io.Reader, limit int64, hold func(n int64) error) *gunzip {
	g := &gunzip{from: tally{r: r}, limit: limit, hold: hold}
	g.in.Reset(&g.from)
	return g
}

// Read ends in a [*gatehouse.Problem] for whatever is wrong with the body.
func (g *gunzip) Read(p []byte) (int, error) {
	if g.err != nil || len(p) == 0 {
		return 0, g.err
	}
	n, err := g.read(p)
	if err != nil {
		g.err = err
	}
	return n, err
}

func (g *gunzip) read(p []byte) (int, error) {
	if g.z == nil {
		if _, err := g.in.Peek(1); errors.Is(err, io.EOF) {
			return 0, io.EOF // no body at all: whether one is needed is judged as of any other
		}
		z, err := gzip.NewReader(&g.in)
		if err != nil {
			return 0, gzipFault(err)
		}
		z.Multistream(false)
		g.z = z
	}
	n, err := g.z.Read(p)
	g.given += int64(n)
	if g.hold != nil {
		if full := g.hold(min(g.given, g.limit)); full != nil {
			return 0, full
		}
	}
	switch {
	case g.given > g.limit:
		return 0, tooLarge(g.limit)
	case g.given > ratioFree && g.given > maxRatio*g.from.n:
		return 0, &gatehouse.Problem{Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: "The body expands too much."}
	case errors.Is(err, io.EOF):
		switch _, behind := g.in.Peek(1); {
		case behind == nil:
			return 0, gzipFault(gzip.ErrHeader)
		case !errors.Is(behind, io.EOF):
			return 0, gzipFault(behind)
		}
		return n, io.EOF
	case err != nil:
		return 0, gzipFault(err)
	}
	return n, nil
}

// gzipFault tells a body that is no gzip from one that did not arrive.
func gzipFault(err error) error {
	if p, ok := errors.AsType[*gatehouse.Problem](err); ok {
		return p
	}
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return malformedBody("gzip", "The body is not one gzip member.")
	}
	return incomplete(err)
}
