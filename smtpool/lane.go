package smtpool

import (
	"fmt"
	"runtime"
	"slices"
)

// A Lane is a thread bound to one logical CPU. It runs one function after the other; between two of them it spins for a moment, then sleeps.
// A Lane is used by one goroutine.
type Lane struct {
	cpu    int
	pinned error // why it is not bound; nil if it is
	f      func()
	seen   Disturbance
	start  *Gate
	done   *Gate
	ended  chan struct{}
}

// LaneLooks is a good number of looks for a lane that has its CPU to itself: some 20 µs.
const LaneLooks = 512

// NewLane starts a thread on a logical CPU. Where that is not possible, or cpu is below 0, the lane runs anywhere and Pinned says why. Call Close.
func NewLane(cpu, looks int) *Lane {
	l := &Lane{cpu: cpu, start: NewGate(looks), done: NewGate(looks), ended: make(chan struct{})}
	go l.life()
	l.done.Pass()
	return l
}

// life never unlocks the thread: it ends with the goroutine, so that no other goroutine inherits its mask.
func (l *Lane) life() {
	defer close(l.ended)
	runtime.LockOSThread()
	if l.cpu < 0 {
		l.pinned = ErrNoPin
	} else if _, err := pin(l.cpu); err != nil {
		l.pinned = err
	}
	l.done.Open()
	for {
		l.start.Pass()
		if l.f == nil {
			return
		}
		w := StartWatch()
		l.f()
		l.seen = w.Stop()
		l.done.Open()
	}
}

// CPU is the logical CPU that the lane was made for.
func (l *Lane) CPU() int { return l.cpu }

// Pinned is nil if the lane is bound to its CPU, else the reason why it is not.
func (l *Lane) Pinned() error { return l.pinned }

// Go hands f to the lane and returns at once. Wait must be called before the next Go.
func (l *Lane) Go(f func()) {
	l.f = f
	l.start.Open()
}

// Wait waits for the function of the last Go and returns what disturbed the lane while it ran.
func (l *Lane) Wait() Disturbance {
	l.done.Pass()
	return l.seen
}

// Do runs f on the lane and waits.
func (l *Lane) Do(f func()) Disturbance {
	l.Go(f)
	return l.Wait()
}

// Close ends the thread. It must not be called while a function runs.
func (l *Lane) Close() {
	l.f = nil
	l.start.Open()
	<-l.ended
}

// Seats are the logical CPUs of lanes.
type Seats struct {
	D, S   []int
	Paired int    // S lanes on the sibling of their D lane
	Why    string // one sentence
}

// Place chooses CPUs for d compute-bound and s memory-bound lanes. Each D lane gets a core of its own as long as there are some, performance cores
// first; S lane i gets the sibling of D lane i, else a CPU of its own. It reports false where there are fewer CPUs than lanes, or a cgroup's quota is below that
// number: then lanes would spin in each other's time, and nothing should be pinned.
func (t *Topology) Place(d, s int) (Seats, bool) {
	if n := t.Capacity(); d+s > n {
		why := fmt.Sprintf("%d lanes share %d CPUs", d+s, len(t.CPUs))
		if n < len(t.CPUs) {
			why = fmt.Sprintf("%d lanes and %g CPUs' worth of time on %d CPUs", d+s, t.Quota, len(t.CPUs))
		}
		return Seats{Why: why}, false
	}
	order := t.fastFirst()
	taken := map[int]bool{}
	take := func(ok func(CPU) bool) int {
		for _, c := range order {
			if !taken[c.ID] && ok(c) {
				taken[c.ID] = true
				return c.ID
			}
		}
		return -1
	}
	idle := func(c CPU) bool { return !slices.ContainsFunc(c.Siblings, func(id int) bool { return taken[id] }) }
	seat := func() int {
		if cpu := take(idle); cpu >= 0 {
			return cpu
		}
		return take(func(CPU) bool { return true })
	}
	out := Seats{D: make([]int, d), S: make([]int, s)}
	for i := range out.D {
		out.D[i] = seat()
	}
	for i := range out.S {
		out.S[i] = -1
		if i < d {
			beside := out.D[i]
			if cpu := take(func(c CPU) bool { return slices.Contains(c.Siblings, beside) }); cpu >= 0 {
				out.S[i] = cpu
				out.Paired++
			}
		}
	}
	for i := range out.S { // after all pairs: a lane without a partner takes nobody's sibling
		if out.S[i] < 0 {
			out.S[i] = seat()
		}
	}
	out.Why = "lanes on CPUs of their own; the system names no siblings among them"
	if out.Paired > 0 {
		out.Why = fmt.Sprintf("%d S lanes on siblings of D lanes, as the system names them", out.Paired)
	}
	return out, true
}

// A Pair is a D lane and an S lane on the two hyperthreads of one core.
type Pair struct{ D, S *Lane }

// NewPairs starts a pair on each of the first n cores that have two usable hyperthreads; n below 1: on all. It returns no pair where there are no siblings.
func (t *Topology) NewPairs(n, looks int) []Pair {
	cores := t.Pairs()
	if n > 0 && n < len(cores) {
		cores = cores[:n]
	}
	var out []Pair
	for _, c := range cores {
		out = append(out, Pair{D: NewLane(c[0], looks), S: NewLane(c[1], looks)})
	}
	return out
}

// Close ends both lanes.
func (p Pair) Close() {
	p.D.Close()
	p.S.Close()
}
