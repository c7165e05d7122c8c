package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// wantsWebSocket reports whether r asks for RFC 6455, the one protocol a caller
// may switch to. Others, like h2c, would carry requests past the checks.
func wantsWebSocket(r *http.Request) bool {
	up := r.Header["Upgrade"]
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) &&
		len(up) == 1 && strings.EqualFold(up[0], "websocket") && isListed(r.Header["Connection"], "upgrade")
}

// join connects the caller with the service that switched protocols, until one
// of them closes or both are silent for too long.
func (f *flight) join(c *http1.Conn, resp *http1.Response) error {
	switched := false
	for _, n := range resp.Fields {
		if n.Name == "Upgrade" {
			switched = strings.EqualFold(n.Value, "websocket")
		}
	}
	if !switched {
		return f.problem(&http1.ResponseError{Fault: "101 to another protocol than websocket"})
	}
	f.res.Status = resp.Status
	caller, rw, err := http.NewResponseController(f.w).Hijack()
	if err != nil {
		return &gatehouse.Problem{Reason: "internal", Err: err}
	}
	defer func() { _ = caller.Close() }()
	f.res.Committed, f.x.begun = true, true
	f.tell()
	head := []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
	for _, own := range fieldsOf(f.w.Header()) {
		head = append(head, own.Name+": "+own.Value+"\r\n"...)
	}
	for _, n := range resp.Fields {
		if answerFieldStays(n.Name) && n.Name != "Date" {
			head = append(head, n.Name+": "+n.Value+"\r\n"...)
		}
	}
	early := make([]byte, rw.Reader.Buffered()) // frames sent before the 101 had come
	if _, err := io.ReadFull(rw.Reader, early); err != nil {
		return callerLeft(err)
	}
	service, late := c.Hijack()
	defer func() { _ = service.Close() }()
	defer context.AfterFunc(f.ctx, func() { _ = caller.Close(); _ = service.Close() })()
	j := junction{idle: f.u.cfg.BodyIdle}
	j.last.Store(time.Now().UnixNano())
	if err := j.write(caller, append(append(head, "\r\n"...), late...)); err != nil {
		return callerLeft(err)
	}
	f.res.Bytes = int64(len(late))
	up := make(chan error, 1)
	go func() {
		err := j.write(service, early)
		if err == nil {
			_, err = j.copy(service, caller)
		}
		up <- err
		_ = service.Close() // whoever ends, ends it for both
		_ = caller.Close()
	}()
	n, err := j.copy(caller, service)
	f.res.Bytes += n
	_ = service.Close()
	_ = caller.Close()
	if errors.Is(errors.Join(err, <-up), http1.ErrTimeout) {
		return &gatehouse.Problem{Kind: gatehouse.UpstreamTimeout, Reason: "upgrade_idle", Detail: "The connection was idle for too long.", Err: err}
	}
	return nil
}

// junction is two connections made one. Each direction may be silent for as
// long as the other is not.
type junction struct {
	idle time.Duration
	last atomic.Int64 // when a byte last went either way, unix nanoseconds
}

func (j *junction) copy(to, from net.Conn) (total int64, err error) {
	buf := buffers2.Get().(*[32 << 10]byte)
	defer buffers2.Put(buf)
	for {
		quiet := time.Duration(time.Now().UnixNano() - j.last.Load())
		if quiet >= j.idle {
			return total, http1.ErrTimeout
		}
		if err := from.SetReadDeadline(time.Now().Add(j.idle - quiet)); err != nil {
			return total, err
		}
		n, err := from.Read(buf[:])
		if n > 0 {
			j.last.Store(time.Now().UnixNano())
			if werr := j.write(to, buf[:n]); werr != nil {
				return total, werr
			}
			total += int64(n)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return total, err
		}
	}
}

func (j *junction) write(to net.Conn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := to.SetWriteDeadline(time.Now().Add(j.idle)); err != nil {
		return err
	}
	_, err := to.Write(b)
	return err
}
