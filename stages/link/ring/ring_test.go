package ring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestOrderAndCredit(t *testing.T) {
	for _, spin := range []int{0, 1, 1000} {
		for _, size := range []int{1, 2, 3, 64} {
			t.Run(fmt.Sprintf("spin=%d/size=%d", spin, size), func(t *testing.T) {
				const n = 20000
				r := New[int](size, spin)
				done := make(chan error, 1)
				var pushed atomic.Int64
				go func() {
					for want := range n {
						if got, ok := r.Pop(); !ok || got != want {
							done <- fmt.Errorf("item %d: got %d, %v", want, got, ok)
							return
						}
						if ahead := pushed.Load() - int64(want); ahead > int64(r.mask)+2 {
							done <- fmt.Errorf("%d items in a ring of %d", ahead, r.mask+1)
							return
						}
					}
					_, ok := r.Pop()
					if ok {
						done <- fmt.Errorf("an item after the last")
						return
					}
					done <- nil
				}()
				for i := range n {
					if !r.Push(i) {
						t.Fatal("refused")
					}
					pushed.Store(int64(i) + 1)
					if i%97 == 0 {
						runtime.Gosched()
					}
				}
				r.Close()
				r.Close()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if r.Push(1) {
					t.Error("a closed ring took an item")
				}
			})
		}
	}
}

func TestCloseWakesBothSides(t *testing.T) {
	empty, full := New[int](1, 10), New[int](1, 10)
	full.Push(1)
	done := make(chan bool, 2)
	go func() { _, ok := empty.Pop(); done <- ok }()
	go func() { done <- full.Push(2) }()
	time.Sleep(5 * time.Millisecond) // both are parked now
	empty.Close()
	full.Close()
	for range 2 {
		select {
		case ok := <-done:
			if ok {
				t.Error("a closed ring handed something over")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a side sleeps on after Close")
		}
	}
	if v, ok := full.Pop(); !ok || v != 1 {
		t.Error("what was pushed before Close is lost")
	}
}

func TestTryPop(t *testing.T) {
	r := New[int](4, 0)
	if _, ok := r.TryPop(); ok {
		t.Error("popped from an empty ring")
	}
	r.Push(7)
	if v, ok := r.TryPop(); !ok || v != 7 {
		t.Error("item lost")
	}
}

func TestNoAllocation(t *testing.T) {
	r := New[*int](4, 0)
	x := new(int)
	if n := testing.AllocsPerRun(1000, func() { r.Push(x); r.Pop() }); n != 0 {
		t.Errorf("%v allocations a hop", n)
	}
}
