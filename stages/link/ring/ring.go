// Package ring joins two lanes of one process: a bounded queue with one producer and one consumer. Its capacity is the credit: a full
// ring holds the producer back.
package ring

import (
	"math/bits"
	"sync/atomic"

	"vtpu/smtpool"
)

// pauses is how often PAUSE is executed between two looks at the other side.
const pauses = 4

// line keeps what two lanes write apart. 128 bytes: CPUs prefetch cache lines in pairs.
type line [128]byte

// A Ring is a queue from exactly one producing goroutine to exactly one consuming goroutine. Both wait by looking spin times and then
// parking, so that a lane that has nothing to do gives its CPU away.
type Ring[T any] struct {
	buf  []T
	mask uint64
	spin int

	_      line
	tail   atomic.Uint64 // items pushed; written by the producer
	headC  uint64        // the producer's last view of head
	_      line
	head   atomic.Uint64 // items popped; written by the consumer
	tailC  uint64        // the consumer's last view of tail
	_      line
	closed atomic.Bool
	in     parker // producer waits for room
	out    parker // consumer waits for items
}

// A parker lets one goroutine sleep until another wakes it.
type parker struct {
	asleep atomic.Bool
	wake   chan struct{}
}

// New makes a ring of at least n items (the next power of two). spin is the number of looks before a waiting side parks; use 0 where
// the two sides may share a CPU.
func New[T any](n, spin int) *Ring[T] {
	if n < 1 {
		n = 1
	}
	size := 1 << bits.Len(uint(n-1))
	r := &Ring[T]{buf: make([]T, size), mask: uint64(size - 1), spin: spin}
	r.in.wake = make(chan struct{}, 1)
	r.out.wake = make(chan struct{}, 1)
	return r
}

// Push appends v and waits while the ring is full. It reports false, without taking v, when the ring is closed.
func (r *Ring[T]) Push(v T) bool {
	t := r.tail.Load()
	if t-r.headC > r.mask && !r.room(t) {
		return false
	}
	if r.closed.Load() {
		return false
	}
	r.buf[t&r.mask] = v
	r.tail.Store(t + 1)
	r.out.rouse()
	return true
}

// room waits until item t has a place.
func (r *Ring[T]) room(t uint64) bool {
	for i := 0; ; i++ {
		if r.headC = r.head.Load(); t-r.headC <= r.mask {
			return true
		}
		if r.closed.Load() {
			return false
		}
		if i < r.spin {
			smtpool.Pause(pauses)
			continue
		}
		r.in.asleep.Store(true)
		if t-r.head.Load() <= r.mask || r.closed.Load() {
			r.in.rise()
			continue
		}
		<-r.in.wake
		i = 0
	}
}

// Pop takes the oldest item and waits while the ring is empty. It reports false when the ring is closed and empty.
func (r *Ring[T]) Pop() (v T, ok bool) {
	h := r.head.Load()
	if h == r.tailC && !r.item(h) {
		return v, false
	}
	return r.take(h), true
}

// TryPop is Pop without waiting: false also where the ring is empty.
func (r *Ring[T]) TryPop() (v T, ok bool) {
	h := r.head.Load()
	if h == r.tailC {
		if r.tailC = r.tail.Load(); h == r.tailC {
			return v, false
		}
	}
	return r.take(h), true
}

func (r *Ring[T]) take(h uint64) T {
	var zero T
	at := &r.buf[h&r.mask]
	v := *at
	*at = zero // the ring must not keep alive what it has handed over
	r.head.Store(h + 1)
	r.in.rouse()
	return v
}

// item waits until item h is there.
func (r *Ring[T]) item(h uint64) bool {
	for i := 0; ; i++ {
		if r.tailC = r.tail.Load(); h != r.tailC {
			return true
		}
		if r.closed.Load() {
			r.tailC = r.tail.Load() // an item pushed just before the close counts
			return h != r.tailC
		}
		if i < r.spin {
			smtpool.Pause(pauses)
			continue
		}
		r.out.asleep.Store(true)
		if h != r.tail.Load() || r.closed.Load() {
			r.out.rise()
			continue
		}
		<-r.out.wake
		i = 0
	}
}

// Close ends the ring: producers are refused, the consumer gets what is left. Any goroutine may call it, also twice.
func (r *Ring[T]) Close() {
	r.closed.Store(true)
	r.in.rouse()
	r.out.rouse()
}

// Len is the number of items waiting; exact only for the two sides themselves.
func (r *Ring[T]) Len() int { return int(r.tail.Load() - r.head.Load()) }

// rouse wakes the sleeper if there is one. Go's atomics are sequentially consistent: either the sleeper sees the new position after it has
// said that it is asleep, or this sees it asleep.
func (p *parker) rouse() {
	if p.asleep.Load() && p.asleep.CompareAndSwap(true, false) {
		p.wake <- struct{}{}
	}
}

// rise takes back that the caller is asleep. If somebody has seen it already, a wake-up is on its way and is consumed here.
func (p *parker) rise() {
	if !p.asleep.CompareAndSwap(true, false) {
		<-p.wake
	}
}
