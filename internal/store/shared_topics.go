package store

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// maxWaiting bounds the messages that wait for a subscriber.
const maxWaiting = 256

// Publish sends a message of at most 64 KiB to who subscribes to topic now, on
// every node, this one too. Nobody is waited for.
func (s *Shared) Publish(ctx context.Context, topic string, message []byte) error {
	if err := name("topic", topic); err != nil {
		return err
	}
	if len(message) == 0 || len(message) > maxMessage {
		return fmt.Errorf("store: a message of %d bytes: want 1 to %d", len(message), maxMessage)
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return s.engine.publish(ctx, topic, message)
}

// Subscribe returns at once and calls f for each message from one goroutine until
// ctx ends or s is closed. It calls f(nil) when the subscription begins, and
// whenever messages may have been missed since (the connection was lost, or f was
// too slow): then the truth is read again where it is kept.
func (s *Shared) Subscribe(ctx context.Context, topic string, f func(message []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.ctx, cancel)
	box := &mailbox{wake: make(chan struct{}, 1)}
	s.workers.Go(func() {
		defer unhook()
		defer cancel()
		s.listen(ctx, topic, box)
	})
	s.workers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-box.wake:
			}
			messages, missed := box.empty()
			if missed {
				f(nil)
			}
			for _, m := range messages {
				if ctx.Err() != nil {
					return
				}
				f(m)
			}
		}
	})
}

// listen keeps the box filled.
func (s *Shared) listen(ctx context.Context, topic string, to *mailbox) {
	if err := name("topic", topic); err != nil {
		s.log.Error("a topic that nobody can publish to", slog.Any("error", err))
		return
	}
	for pause := s.timeout / 4; ; pause = min(2*pause, time.Second) {
		start := time.Now()
		_ = s.engine.listen(ctx, topic, to) // why is in Err
		if time.Since(start) > time.Second {
			pause = s.timeout / 4
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// A mailbox keeps the messages of one subscription. Who is slow loses them all and
// is told so: what is worth sending here is kept elsewhere, too.
type mailbox struct {
	mu     sync.Mutex
	list   [][]byte
	missed bool
	wake   chan struct{}
}

func (b *mailbox) put(message []byte) {
	b.mu.Lock()
	if len(b.list) >= maxWaiting {
		b.list, b.missed = nil, true
	} else {
		b.list = append(b.list, slices.Clone(message))
	}
	b.mu.Unlock()
	b.ring()
}

// gap tells that messages may have been missed before now.
func (b *mailbox) gap() {
	b.mu.Lock()
	b.missed = true
	b.mu.Unlock()
	b.ring()
}

func (b *mailbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *mailbox) empty() (list [][]byte, missed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, missed = b.list, b.missed
	b.list, b.missed = nil, false
	return list, missed
}
