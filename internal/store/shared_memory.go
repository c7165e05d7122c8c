package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxKept bounds what a memory keeps of each kind; what is beyond is refused, so
// that nobody is forgotten early.
const maxKept = 1 << 20

// A SharedMemory is an engine in the memory of this process: all there is for one
// node, and a fleet of several handles in tests. Its zero value is ready.
type SharedMemory struct {
	mu       sync.Mutex
	began    time.Time // its clock does not jump when the machine's is set
	fault    error
	marks    aging[markID]
	arrivals aging[[16]byte] // theoretical arrival times
	leases   map[string]memoryLease
	pulses   map[string]pulse
	boxes    map[string][]*mailbox
}

type memoryLease struct {
	holder string
	until  int64
	fence  int64
}

// Break makes every call fail with err, as if the engine were away, until Break(nil).
func (m *SharedMemory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrAway, err)
	}
	back := m.fault != nil && err == nil
	m.fault = err
	if back {
		for _, boxes := range m.boxes {
			for _, b := range boxes {
				b.gap()
			}
		}
	}
}

// enter locks the memory and tells the time there, in microseconds.
func (m *SharedMemory) enter() (now int64, err error) {
	m.mu.Lock()
	if m.began.IsZero() {
		m.began = time.Now()
	}
	return m.began.Add(time.Since(m.began)).UnixMicro(), m.fault
}

func (m *SharedMemory) once(_ context.Context, _ string, id markID, ttl time.Duration) (bool, error) {
	now, err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return false, err
	}
	if until, ok := m.marks.of[id]; ok && until > now {
		return false, nil
	}
	return true, m.marks.set(id, now+micros(int64(ttl)), now)
}

func (m *SharedMemory) take(_ context.Context, asks []Ask, out []Grant) error {
	now, err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	for i := range asks {
		a := &asks[i]
		grant, backlog := a.advance(m.arrivals.of[a.Key] - now)
		if backlog == 0 {
			delete(m.arrivals.of, a.Key)
		} else if err := m.arrivals.set(a.Key, now+backlog, now); err != nil {
			grant = Grant{Err: err}
		}
		out[i] = grant
	}
	return nil
}

func (m *SharedMemory) lead(_ context.Context, name, holder string, ttl time.Duration) (bool, int64, error) {
	now, err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return false, 0, err
	}
	l := m.leases[name]
	ours := l.holder == holder && l.until > now
	switch {
	case ttl == 0 && ours:
		l.until = 0
	case ttl == 0, !ours && l.until > now:
		return false, 0, nil
	case !ours:
		l.holder, l.fence = holder, max(l.fence+1, now)
		fallthrough
	default:
		l.until = now + micros(int64(ttl))
	}
	if m.leases == nil {
		m.leases = map[string]memoryLease{}
	}
	m.leases[name] = l // names are the program's own: few
	return ttl > 0, l.fence, nil
}

func (m *SharedMemory) publish(_ context.Context, topic string, message []byte) error {
	_, err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, b := range m.boxes[topic] {
		b.put(message)
	}
	return nil
}

func (m *SharedMemory) listen(ctx context.Context, topic string, to *mailbox) error {
	_, err := m.enter()
	if err == nil {
		if m.boxes == nil {
			m.boxes = map[string][]*mailbox{}
		}
		m.boxes[topic] = append(m.boxes[topic], to)
		to.gap()
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	<-ctx.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boxes[topic] = slices.DeleteFunc(m.boxes[topic], func(b *mailbox) bool { return b == to })
	return ctx.Err()
}

func (m *SharedMemory) beat(_ context.Context, id string, up time.Duration, about []byte) ([]pulse, error) {
	now, err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if about == nil {
		delete(m.pulses, id)
		return nil, nil
	}
	if m.pulses == nil {
		m.pulses = map[string]pulse{}
	}
	m.pulses[id] = pulse{id, now - micros(int64(up)), now, about}
	var out []pulse
	for id, p := range m.pulses {
		if p.seen < now-micros(int64(nodeLife)) {
			delete(m.pulses, id)
			continue
		}
		out = append(out, p)
	}
	return out, nil
}

func (m *SharedMemory) err() error {
	_, err := m.enter()
	defer m.mu.Unlock()
	return err
}

func (m *SharedMemory) close() error { return nil }

// aging keeps moments by key until they have passed. What has passed is swept out
// when as much has come as had stayed, so that a sweep costs each entry little.
type aging[K comparable] struct {
	of    map[K]int64
	sweep int   // at so many entries
	swept int64 // last, in microseconds
}

func (a *aging[K]) set(key K, until, now int64) error {
	if a.of == nil {
		a.of, a.sweep = map[K]int64{}, 1024
	}
	if _, known := a.of[key]; !known && len(a.of) >= a.sweep {
		if len(a.of) < maxKept || now-a.swept > int64(time.Second/time.Microsecond) {
			a.swept = now
			for k, t := range a.of {
				if t <= now {
					delete(a.of, k)
				}
			}
			a.sweep = min(max(1024, 2*len(a.of)), maxKept)
		}
		if len(a.of) >= a.sweep {
			return fmt.Errorf("%w: its memory is full (%d entries)", ErrAway, maxKept)
		}
	}
	a.of[key] = until
	return nil
}
