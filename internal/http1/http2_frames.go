package http1

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Frame types and flags (RFC 9113 §6).
const (
	http2Data         = 0
	http2Headers      = 1
	http2Reset        = 3
	http2Settings     = 4
	http2Ping         = 6
	http2GoAway       = 7
	http2WindowUpdate = 8
	http2Continuation = 9

	http2EndStream  = 1 // of DATA and HEADERS
	http2Ack        = 1 // of SETTINGS and PING
	http2EndHeaders = 4
	http2Padded     = 8
)

const (
	http2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	http2FrameHead   = 9
	http2Message     = 5        // the least of DATA that may be all somebody has to say
	http2FrameMost   = 16 << 10 // of a frame with its head that fills one TLS record
	http2FirstWindow = 65535    // bytes of DATA before the first WINDOW_UPDATE (RFC 9113 §6.9.2)
	http2WindowSize  = 4        // SETTINGS_INITIAL_WINDOW_SIZE
	http2MaxPieces   = 32       // CONTINUATION frames of one head; a head of 32 KiB needs two
)

// Why a connection was ended.
var (
	errHTTP2Resets   = errors.New("streams reset before they were answered")
	errHTTP2Overhead = errors.New("frames that carry nothing")
	errHTTP2Pieces   = errors.New("a head in too many pieces")
	errHTTP2SlowHead = errors.New("a frame that does not end")
	errHTTP2Starved  = errors.New("answers not taken")
)

// An http2Cursor walks over the frames of one direction as their bytes go by,
// wherever reads and writes cut them.
type http2Cursor struct {
	head [http2FrameHead]byte
	have int // bytes of head seen
	left int // bytes of the payload to come
}

// next moves past the bytes at the start of p that belong to the frame under
// way. With begun, the head of a frame has just become whole.
func (f *http2Cursor) next(p []byte) (rest []byte, begun bool) {
	if f.left > 0 {
		n := min(f.left, len(p))
		f.left -= n
		p = p[n:]
	}
	if len(p) == 0 {
		return nil, false
	}
	n := copy(f.head[f.have:], p)
	if f.have += n; f.have < http2FrameHead {
		return nil, false
	}
	f.have = 0
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	return p[n:], true
}

func (f *http2Cursor) kind() byte  { return f.head[3] }
func (f *http2Cursor) flags() byte { return f.head[4] }
func (f *http2Cursor) stream() uint32 {
	return uint32(f.head[5])&0x7f<<24 | uint32(f.head[6])<<16 | uint32(f.head[7])<<8 | uint32(f.head[8])
}

// between reports that one frame has ended and no other begun.
func (f *http2Cursor) between() bool { return f.left == 0 && f.have == 0 }

// http2Open remembers which streams wait for their answer, a bit for each. A
// stream that has been open for a thousand others shares its bit with one of
// them, which makes the count of resets wrong by one.
type http2Open [16]atomic.Uint64

func (o *http2Open) add(stream uint32) {
	o[stream>>7&15].Or(1 << (stream >> 1 & 63))
}

// remove reports whether stream was there.
func (o *http2Open) remove(stream uint32) bool {
	bit := uint64(1) << (stream >> 1 & 63)
	return o[stream>>7&15].And(^bit)&bit != 0
}

// An http2Budget is what a peer may spend on frames that are of no use. It is
// full at first, useful frames earn, and each second gives a tenth of it back.
// The clock is asked only when it is used up.
type http2Budget struct {
	most int64
	left atomic.Int64

	mu    sync.Mutex
	since time.Time // of the last refill
}

func (b *http2Budget) fill(most int, now time.Time) {
	b.most, b.since = int64(most), now
	b.left.Store(b.most)
}

func (b *http2Budget) earn(n int64) {
	if b.left.Load() < b.most { // mostly it is full
		b.left.Add(n)
	}
}

func (b *http2Budget) spend(n int64) bool {
	return b.left.Add(-n) >= 0 || b.refill()
}

func (b *http2Budget) refill() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	gain := int64(now.Sub(b.since).Seconds() * float64(b.most) / 10)
	if gain > 0 {
		b.since = now
		gain = min(gain, b.most)
	}
	return b.left.Add(gain) >= 0
}

// An http2Watch ends what stands still for longer than after, and at the latest
// half as long again. Telling it that something began or ended costs an atomic
// addition; its timer runs only while there is something to watch, twice in the
// time allowed.
type http2Watch struct {
	turns atomic.Uint64 // odd while something is under way
	armed atomic.Bool
	after time.Duration
	cut   func()

	mu    sync.Mutex // guards these
	timer *time.Timer
	over  bool
	last  uint64 // turns when the timer last ran
	seen  int    // how often it ran while turns was last
}

// turn says that something has begun which had not, or ended which had begun.
func (w *http2Watch) turn() {
	if w.turns.Add(1)&1 == 1 && w.armed.CompareAndSwap(false, true) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = 0
		w.again()
	}
}

// again is called with mu held.
func (w *http2Watch) again() {
	switch {
	case w.over:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.after/2, w.look)
	default:
		w.timer.Reset(w.after / 2)
	}
}

func (w *http2Watch) look() {
	w.mu.Lock()
	turns := w.turns.Load()
	if turns != w.last {
		w.last, w.seen = turns, 0
	}
	w.seen++
	switch {
	case turns&1 == 0:
		w.armed.Store(false)
		// What began since turns was read has not armed the timer.
		if w.turns.Load() != turns && w.armed.CompareAndSwap(false, true) {
			w.again()
		}
	case w.seen > 2: // it lasts since at least two rounds
		w.over = true
		w.mu.Unlock()
		w.cut()
		return
	default:
		w.again()
	}
	w.mu.Unlock()
}

func (w *http2Watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
