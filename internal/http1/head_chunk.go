package http1

// A headChunks follows the chunked coding (RFC 9112 §7.1) over as many reads as
// it takes. It knows no extensions, no trailers, no blanks and no bare LF: each
// of them has been a way to make two parsers lose each other.
type headChunks struct {
	state  headChunkState
	digits uint8 // of the size read so far
	left   int64 // data bytes still due in this chunk
}

type headChunkState uint8

const (
	headChunkSize headChunkState = iota
	headChunkSizeLF
	headChunkData
	headChunkDataCR
	headChunkDataLF
)

// next takes the bytes of b that belong to the body and returns how many those
// are, and headOK if they are as they must be. done says the body has ended. It
// leaves the end of the last chunk alone until it can see all of it.
func (c *headChunks) next(b []byte) (n int, done bool, v headVerdict) {
	for n < len(b) {
		if c.state != headChunkData {
			var m int
			m, done, v = c.frame(b[n:])
			if n += m; done || v != headOK || c.state != headChunkData {
				return n, done, v
			}
			continue
		}
		n += c.take(len(b) - n)
	}
	return n, false, headOK
}

// take counts up to n bytes as data of the chunk under way and returns how many
// of them are.
func (c *headChunks) take(n int) int {
	n = int(min(int64(n), c.left))
	if c.left -= int64(n); c.left == 0 {
		c.state = headChunkDataCR
	}
	return n
}

// frame takes what b begins with of the coding itself, up to the data of the
// next chunk, the body's end or the end of b.
func (c *headChunks) frame(b []byte) (n int, done bool, v headVerdict) {
	for n < len(b) {
		ch := b[n]
		switch c.state {
		case headChunkSize:
			switch {
			case headClass[ch]&headHex != 0:
				// Eight digits are 4 GiB: enough, and far from overflow.
				if c.digits++; c.digits > 8 {
					return n, false, headBadChunk
				}
				c.left = c.left<<4 | int64(headNibble(ch))
			case ch == '\r' && c.digits > 0:
				c.state = headChunkSizeLF
			default:
				return n, false, headBadChunk
			}
		case headChunkSizeLF:
			if ch != '\n' {
				return n, false, headBadChunk
			}
			if c.left == 0 {
				return c.end(b, n)
			}
			c.digits = 0
			c.state = headChunkData
		case headChunkData:
			return n, false, headOK
		case headChunkDataCR:
			if ch != '\r' {
				return n, false, headBadChunk
			}
			c.state = headChunkDataLF
		case headChunkDataLF:
			if ch != '\n' {
				return n, false, headBadChunk
			}
			c.state = headChunkSize
		}
		n++
	}
	return n, false, headOK
}

// end judges the "\n\r\n" at b[n] that ends the last chunk and the body. As
// long as it is incomplete none of it is taken: net/http forgets why reading a
// trailer failed, but not why reading this line did.
func (c *headChunks) end(b []byte, n int) (int, bool, headVerdict) {
	rest := b[n:]
	switch {
	case len(rest) > 1 && headClass[rest[1]]&headToken != 0:
		return n, false, headTrailer
	case len(rest) > 1 && rest[1] != '\r' || len(rest) > 2 && rest[2] != '\n':
		return n, false, headBadChunk
	case len(rest) < 3:
		return n, false, headOK
	}
	return n + 3, true, headOK
}
