package smtpool_test

import (
	"fmt"

	"vtpu/smtpool"
)

// Two lanes on the hyperthreads of one core where the system names some, else on two cores. What the system names is a claim: package probe measures.
func ExampleTopology_Place() {
	top := smtpool.Discover()
	seats, ok := top.Place(1, 1)
	if !ok { // one CPU, or a cgroup that allows less than two
		seats = smtpool.Seats{D: []int{-1}, S: []int{-1}} // anywhere
	}
	d, s := smtpool.NewLane(seats.D[0], smtpool.LaneLooks), smtpool.NewLane(seats.S[0], smtpool.LaneLooks)
	defer d.Close()
	defer s.Close()
	var product, sum int
	s.Go(func() { // memory-bound work here
		for _, x := range []int{1, 2, 3} {
			sum += x
		}
	})
	d.Go(func() { product = 6 * 7 }) // compute-bound work here
	s.Wait()
	disturbed := d.Wait()
	_ = disturbed.Clean() // whether the lane kept its CPU
	fmt.Println(product, sum)
	// Output: 42 6
}

// A Watch says whether the system took the CPU away while something was measured.
func ExampleStartWatch() {
	l := smtpool.NewLane(smtpool.CPUs()[0].ID, 0)
	defer l.Close()
	seen := l.Do(func() { smtpool.Pause(100) })
	fmt.Println(seen.Moved())
	// Output: false
}
