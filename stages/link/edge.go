package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The kinds of frames of an edge.
const (
	kEdge Kind = 128 + iota
	kCredit
)

// EdgeOptions are those of both ends of an edge. Run and Epoch are its fence: what belongs to another run or an earlier epoch is passed over.
type EdgeOptions struct {
	Bus     Bus
	Subject string
	Run     [16]byte
	Epoch   uint64 // of two senders the one with the larger epoch counts
	Max     int    // largest message in bytes; 0 is 64 MiB
	Window  int    // messages that may be under way; 0 is 1024
	Bytes   int    // bytes that may be under way, if more than one message; 0 is 16 MiB
	Retry   time.Duration
}

func (o *EdgeOptions) defaults() {
	set := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	set(&o.Max, 64<<20)
	set(&o.Window, 1024)
	set(&o.Bytes, 16<<20)
	if o.Retry <= 0 {
		o.Retry = 250 * time.Millisecond
	}
}

// ErrClosed says that the edge has been closed at this end.
var ErrClosed = errors.New("link: the edge is closed")

// A Sender is the writing end of an edge: messages arrive once each and in order whatever the bus loses, doubles or swaps. What the receiver has not
// taken is credit that is used up: Send waits for it.
type Sender struct {
	o    EdgeOptions
	from uint64
	stop func() error

	mu     sync.Mutex
	moved  sync.Cond
	slots  [][]byte // message s is in slots[s % len], with room for a head
	next   uint64
	acked  uint64
	bytes  int
	lastup time.Time // when acked moved
	wait   time.Duration
	free   [][]byte // buffers that are done with
	msg    uint64
	closed bool
	quit   chan struct{}
	wg     sync.WaitGroup
}

// Buffer is a buffer for Give: HeadSize bytes of room, to which at most n are to be appended.
func (s *Sender) Buffer(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer(n)
}

func (s *Sender) buffer(n int) []byte {
	for i := len(s.free) - 1; i >= 0; i-- {
		if b := s.free[i]; cap(b) >= HeadSize+n {
			s.free[i] = s.free[len(s.free)-1]
			s.free = s.free[:len(s.free)-1]
			return b[:HeadSize]
		}
	}
	if len(s.free) >= len(s.slots) { // all too small
		s.free = s.free[:0]
	}
	return make([]byte, HeadSize, HeadSize+n)
}

// NewSender opens the writing end. from is a number that no other sender on the subject has.
func NewSender(o EdgeOptions, from uint64) (*Sender, error) {
	o.defaults()
	s := &Sender{o: o, from: from, slots: make([][]byte, o.Window), quit: make(chan struct{}), wait: o.Retry}
	s.moved.L = &s.mu
	var err error
	a := &Assembler{Limit: func(k Kind) int {
		if k == kCredit {
			return 1
		}
		return 0
	}}
	if s.stop, err = o.Bus.Subscribe(o.Subject+".credit", func(data []byte) { s.credit(a, data) }); err != nil {
		return nil, err
	}
	s.wg.Go(s.retry)
	return s, nil
}

func (s *Sender) credit(a *Assembler, data []byte) {
	h, _, err := a.Add(data)
	if err != nil || h.Kind != kCredit || h.Run != s.o.Run || h.Epoch != s.o.Epoch || h.From != s.from {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(h.Step)
	if n <= s.acked || n > s.next {
		return
	}
	for ; s.acked < n; s.acked++ {
		b := &s.slots[s.acked%uint64(len(s.slots))]
		s.bytes -= len(*b)
		s.free = append(s.free, *b)
		*b = nil
	}
	s.lastup, s.wait = time.Now(), s.o.Retry
	s.moved.Broadcast()
}

// Send sends a copy of body. It waits for credit until ctx ends.
func (s *Sender) Send(ctx context.Context, body []byte) error {
	return s.Give(ctx, append(s.Buffer(len(body)), body...))
}

// Give sends what has been appended to a buffer of Buffer, which is the sender's from then on. It waits for credit until ctx ends.
func (s *Sender) Give(ctx context.Context, buf []byte) error {
	if len(buf) < HeadSize || len(buf)-HeadSize > s.o.Max {
		return fmt.Errorf("link: a message of %d bytes, at most %d are allowed", len(buf)-HeadSize, s.o.Max)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	full := func() bool {
		return s.next-s.acked >= uint64(len(s.slots)) || s.next > s.acked && s.bytes+len(buf) > s.o.Bytes
	}
	if full() && !s.closed {
		defer context.AfterFunc(ctx, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.moved.Broadcast()
		})()
		for full() && !s.closed && ctx.Err() == nil {
			s.moved.Wait()
		}
	}
	if s.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.slots[s.next%uint64(len(s.slots))] = buf
	if s.next == s.acked {
		s.lastup = time.Now()
	}
	s.bytes += len(buf)
	s.next++
	_ = s.publish(s.next - 1) // where the bus is away or busy it is sent again later
	return nil
}

// publish sends message n. The caller holds mu.
func (s *Sender) publish(n uint64) error {
	s.msg++
	_, err := Send(s.o.Bus, s.o.Subject, &Head{Kind: kEdge, Run: s.o.Run, Epoch: s.o.Epoch, From: s.from, Step: int64(n), Message: s.msg}, s.slots[n%uint64(len(s.slots))])
	return err
}

// retry sends again what has got no answer for a while.
func (s *Sender) retry() {
	tick := time.NewTicker(s.o.Retry / 4)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		if s.next > s.acked && time.Since(s.lastup) > s.wait {
			s.lastup, s.wait = time.Now(), min(2*s.wait, 8*s.o.Retry)
			for n := s.acked; n < s.next; n++ {
				if s.publish(n) != nil {
					break // the bus is away; later
				}
			}
		}
		s.mu.Unlock()
	}
}

// Drain waits until the receiver has taken everything.
func (s *Sender) Drain(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.moved.Broadcast()
	})()
	for s.next > s.acked && !s.closed && ctx.Err() == nil {
		s.moved.Wait()
	}
	if s.next > s.acked && s.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// Close ends the sender; what the receiver has not taken may be lost. Closing twice is fine.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	s.moved.Broadcast()
	s.mu.Unlock()
	s.wg.Wait()
	return s.stop()
}

// A Receiver is the reading end of an edge.
type Receiver struct {
	o    EdgeOptions
	stop func() error
	a    *Assembler

	mu     sync.Mutex
	came   sync.Cond
	from   uint64
	epoch  uint64
	known  bool
	next   uint64 // message that is due
	queue  [][]byte
	head   int
	last   []byte            // given to the caller
	ahead  map[uint64][]byte // came before its turn
	taken  uint64
	told   uint64
	msg    uint64
	cbuf   [HeadSize]byte
	closed bool

	// Refused counts what was not taken: foreign, damaged, stale.
	refused int64
}

// NewReceiver opens the reading end.
func NewReceiver(o EdgeOptions) (*Receiver, error) {
	o.defaults()
	r := &Receiver{o: o, ahead: map[uint64][]byte{}}
	r.came.L = &r.mu
	r.a = &Assembler{Open: 64, Limit: func(k Kind) int {
		if k == kEdge {
			return max(o.Max, 1)
		}
		return 0
	}}
	var err error
	r.stop, err = o.Bus.Subscribe(o.Subject, r.take)
	return r, err
}

func (r *Receiver) take(data []byte) {
	h, body, err := r.a.Add(data)
	if err == nil && body == nil && len(data) > HeadSize {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || body == nil && h.Kind != kEdge || h.Run != r.o.Run || r.known && h.Epoch < r.epoch || r.known && h.Epoch == r.epoch && h.From != r.from {
		r.refused++
		return
	}
	if !r.known || h.Epoch > r.epoch {
		r.known, r.epoch, r.from, r.next, r.taken, r.told = true, h.Epoch, h.From, 0, 0, 0
		r.queue, r.head = r.queue[:0], 0
		clear(r.ahead)
	}
	n := uint64(h.Step)
	if n < r.next || n >= r.taken+uint64(r.o.Window) { // twice, or beyond the credit
		r.tell() // the answer may have been lost
		return
	}
	if n > r.next {
		r.ahead[n] = bytes.Clone(body)
		return
	}
	r.push(body)
	for {
		b, ok := r.ahead[r.next]
		if !ok {
			break
		}
		delete(r.ahead, r.next)
		r.push(b)
	}
	r.came.Signal()
}

func (r *Receiver) push(body []byte) {
	if r.head > 0 && r.head == len(r.queue) {
		r.queue, r.head = r.queue[:0], 0
	}
	r.queue = append(r.queue, body)
	r.next++
}

// tell gives credit: everything before taken is done with. The caller holds mu.
func (r *Receiver) tell() {
	r.told = r.taken
	r.msg++
	// If it is lost the sender sends again, and is told again.
	_, _ = Send(r.o.Bus, r.o.Subject+".credit", &Head{Kind: kCredit, Run: r.o.Run, Epoch: r.epoch, From: r.from, Step: int64(r.taken), Message: r.msg}, r.cbuf[:])
}

// Receive gives the next message, which is valid until the next call.
func (r *Receiver) Receive(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) > r.o.Bus.MaxPayload() { // it was put together from chunks
		r.a.Release(r.last)
	}
	r.last = nil
	if r.head == len(r.queue) && !r.closed {
		if r.told < r.taken {
			r.tell()
		}
		defer context.AfterFunc(ctx, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.came.Broadcast()
		})()
		for r.head == len(r.queue) && !r.closed && ctx.Err() == nil {
			r.came.Wait()
		}
	}
	if r.head == len(r.queue) {
		if r.closed {
			return nil, ErrClosed
		}
		return nil, ctx.Err()
	}
	b := r.queue[r.head]
	r.queue[r.head] = nil
	r.last = b
	r.head++
	r.taken++
	if r.taken-r.told >= uint64(r.o.Window/4) || len(b) > r.o.Bytes/16 {
		r.tell()
	}
	return b, nil
}

// Refused is the number of chunks that were not taken: foreign, damaged or of another run or an earlier epoch.
func (r *Receiver) Refused() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// Close ends the receiver. Closing twice is fine.
func (r *Receiver) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	if r.told < r.taken {
		r.tell()
	}
	r.closed = true
	r.came.Broadcast()
	r.mu.Unlock()
	return r.stop()
}
