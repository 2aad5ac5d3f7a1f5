// Package ring joins two lanes of one process: a bounded queue with one producer and one consumer. Its capacity is the credit: a full
// ring holds the producer back.
package ring

import (
	"math/bits"
	"reflect"
	"sync/atomic"

	"vtpu/smtpool"
)

// A hop costs what the transfers of cache lines between two cores cost, so it is made of as few as possible: an item and the mark that says that it is
// there share a line, what each side writes for itself is in lines of its own, and the producer asks how far the consumer is once a round of the ring.

// hot is how often a waiting side looks before its first PAUSE, which takes as long as a hop on some CPUs.
const hot = 64

// span is the distance of two items in bytes: CPUs prefetch cache lines in pairs.
const span = 128

// line keeps what two lanes write apart.
type line [span]byte

// slot is the place of an item. mark is the number of the item in it, from 1, once it is there.
type slot[T any] struct {
	mark atomic.Uint64
	v    T
}

// A Ring is a queue from exactly one producing goroutine to exactly one consuming goroutine. Both wait by looking spin times and then
// parking, so that a lane that has nothing to do gives its CPU away. A place holds its last item until the next one comes.
type Ring[T any] struct {
	buf  []slot[T]
	step uint64 // slots from one item to the next
	mask uint64
	spin int

	_     line
	tail  uint64 // items pushed; the producer's
	headC uint64 // the producer's last view of head
	_     line
	head  atomic.Uint64 // items popped; written by the consumer
	_     line
	at    uint64 // head as the consumer knows it: it need not look at what the producer reads
	_     line
	// Read by both at every hop, written when somebody goes to sleep or ends the ring.
	closed atomic.Bool
	in     parker // producer waits for room
	out    parker // consumer waits for items
	_      line
}

// A parker lets one goroutine sleep until another wakes it.
type parker struct {
	asleep atomic.Bool
	wake   chan struct{}
}

// New makes a ring of at least n items (the next power of two). spin is the number of looks before a waiting side parks; use 0 where
// the two sides may share a CPU. A ring of eight or more is faster than a shorter one: the two sides meet less often.
func New[T any](n, spin int) *Ring[T] {
	if n < 1 {
		n = 1
	}
	size := 1 << bits.Len(uint(n-1))
	step := max(1, (span-1)/int(reflect.TypeFor[slot[T]]().Size())+1)
	r := &Ring[T]{buf: make([]slot[T], size*step), step: uint64(step), mask: uint64(size - 1), spin: spin}
	r.in.wake = make(chan struct{}, 1)
	r.out.wake = make(chan struct{}, 1)
	return r
}

// place is where item i goes.
func (r *Ring[T]) place(i uint64) *slot[T] { return &r.buf[i&r.mask*r.step] }

// Push appends v and waits while the ring is full. It reports false, without taking v, when the ring is closed.
func (r *Ring[T]) Push(v T) bool {
	t := r.tail
	if t-r.headC > r.mask && !r.room(t) || r.closed.Load() {
		return false
	}
	s := r.place(t)
	s.v = v
	r.tail = t + 1
	s.mark.Store(t + 1)
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
			if i >= hot {
				smtpool.Pause(1)
			}
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
	h := r.at
	s := r.place(h)
	if s.mark.Load() != h+1 && !r.item(s, h+1) {
		return v, false
	}
	return r.take(s, h), true
}

// TryPop is Pop without waiting: false also where the ring is empty.
func (r *Ring[T]) TryPop() (v T, ok bool) {
	h := r.at
	s := r.place(h)
	if s.mark.Load() != h+1 {
		return v, false
	}
	return r.take(s, h), true
}

func (r *Ring[T]) take(s *slot[T], h uint64) T {
	v := s.v
	r.at = h + 1
	r.head.Store(h + 1)
	r.in.rouse()
	return v
}

// item waits until the item with that mark is in its place.
func (r *Ring[T]) item(s *slot[T], mark uint64) bool {
	for i := 0; ; i++ {
		if s.mark.Load() == mark {
			return true
		}
		if r.closed.Load() {
			return s.mark.Load() == mark // an item pushed just before the close counts
		}
		if i < r.spin {
			if i >= hot {
				smtpool.Pause(1)
			}
			continue
		}
		r.out.asleep.Store(true)
		if s.mark.Load() == mark || r.closed.Load() {
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
