package validate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// grpcPrefix is the length of what stands before each message: a flag that says
// whether it is compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
const grpcPrefix = 5

// frames passes a gRPC stream on while it follows its messages. A stream that
// goes wrong ends in a [*gatehouse.Problem], so that the service never takes it
// for whole; it may have read the messages before.
type frames struct {
	r      io.Reader
	limits GRPC
	head   [grpcPrefix]byte
	have   int   // bytes of head
	left   int64 // bytes of the message that are still to come
	count  int
	err    error
}

func newFrames(r io.Reader, limits GRPC) *frames {
	limits.MaxMessage = cmp.Or(limits.MaxMessage, 1<<20)
	return &frames{r: r, limits: limits}
}

// Read gives only bytes of messages whose prefix was found in order.
func (f *frames) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.r.Read(p)
	if bad := f.follow(p[:n]); bad != nil {
		f.err = bad
		return 0, bad
	}
	if errors.Is(err, io.EOF) && (f.have > 0 || f.left > 0) {
		err = incomplete(io.ErrUnexpectedEOF)
	}
	f.err = err
	return n, err
}

func (f *frames) follow(b []byte) error {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(int64(len(b)), f.left)
			f.left -= n
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have < grpcPrefix {
			return nil
		}
		f.have = 0
		f.left = int64(binary.BigEndian.Uint32(f.head[1:]))
		if f.count++; f.limits.MaxMessages > 0 && f.count > f.limits.MaxMessages {
			return &gatehouse.Problem{
				Kind: gatehouse.TooLarge, Reason: "body_too_large",
				Detail: fmt.Sprintf("The request may have at most %d messages.", f.limits.MaxMessages),
			}
		}
		switch {
		case f.head[0] > 1:
			return malformedBody("grpc_frame", "A message must begin with the flag 0 or 1.")
		case f.head[0] == 1 && !f.limits.Compressed:
			return &gatehouse.Problem{
				Kind: gatehouse.UnsupportedMedia, Reason: "unsupported_encoding", Detail: "Messages must not be compressed.",
			}
		case f.left > f.limits.MaxMessage:
			return &gatehouse.Problem{
				Kind: gatehouse.TooLarge, Reason: "body_too_large",
				Detail: fmt.Sprintf("A message may have at most %d bytes.", f.limits.MaxMessage),
			}
		}
	}
	return nil
}
