package http1

import "sync"

// bulkSize is of the buffer for long bodies. Larger ones gained nothing.
const bulkSize = 128 << 10

var bulks = sync.Pool{New: func() any { return new([bulkSize]byte) }}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (c *Conn) takeBuffer() {
	if c.pooled == nil {
		c.pooled = buffers.Get().(*[bufferSize]byte)
		c.buf, c.r, c.w = c.pooled[:], 0, 0
	}
}

// takeBulk takes a large buffer for the rest of a long body, of which it then
// needs a fourth of the reads.
func (c *Conn) takeBulk() {
	if c.bulk == nil && c.framing == framedLength && c.left >= 2*bulkSize {
		c.bulk = bulks.Get().(*[bulkSize]byte)
		c.buf, c.r, c.w = c.bulk[:], 0, 0
	}
}

func (c *Conn) giveBuffer() {
	if c.bulk != nil {
		if lentIsPoisoned {
			lentBytes(c.bulk[:])
		} else {
			bulks.Put(c.bulk)
		}
		c.bulk, c.buf = nil, c.pooled[:]
	}
	if c.pooled == nil {
		return
	}
	if lentIsPoisoned {
		lentBytes(c.buf)
		c.resp.Fields, c.trailer = lentFields(c.resp.Fields), lentFields(c.trailer)
	} else {
		buffers.Put(c.pooled)
	}
	c.pooled, c.buf, c.r, c.w = nil, nil, 0, 0
}
