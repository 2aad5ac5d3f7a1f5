package smtpool

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestLaneRunsWhereItShould(t *testing.T) {
	cpus := CPUs()
	for _, c := range cpus[:min(2, len(cpus))] {
		l := NewLane(c.ID, 10)
		if l.Pinned() != nil {
			l.Close()
			t.Skip("SKIP: this system does not pin threads:", l.Pinned())
		}
		at := -1
		d := l.Do(func() { at = CurrentCPU() })
		if at != c.ID || d.From != c.ID || d.Moved() || !d.Known {
			t.Errorf("lane on CPU %d ran on %d, %+v", c.ID, at, d)
		}
		if d := l.Do(func() { time.Sleep(2 * time.Millisecond) }); d.Voluntary == 0 {
			t.Errorf("a lane that slept was not noticed: %+v", d)
		}
		l.Close()
	}
}

func TestLaneWithoutCPU(t *testing.T) {
	for _, cpu := range []int{-1, 1 << 9} {
		l := NewLane(cpu, 0)
		ran := false
		l.Do(func() { ran = true })
		if l.Pinned() == nil || !ran {
			t.Errorf("CPU %d: pinned %v, ran %v", cpu, l.Pinned(), ran)
		}
		l.Close()
	}
}

// A lane that shares its CPU with a busy one is descheduled, and says so.
func TestDescheduledLaneIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes 0.2 s of a CPU")
	}
	cpu := CPUs()[0].ID
	a, b := NewLane(cpu, 0), NewLane(cpu, 0)
	defer a.Close()
	defer b.Close()
	if a.Pinned() != nil || !StartWatch().Stop().Known {
		t.Skip("SKIP: this system does not pin threads or tells nothing of them")
	}
	var stop atomic.Bool
	b.Go(func() {
		for !stop.Load() {
		}
	})
	seen := Disturbance{}
	for range 50 { // the kernel switches after a few ms
		seen = a.Do(func() {
			for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
			}
		})
		if seen.Involuntary > 0 {
			break
		}
	}
	stop.Store(true)
	b.Wait()
	if seen.Clean() {
		t.Errorf("a second of two busy lanes on one CPU, and nothing was noticed: %+v", seen)
	}
}

func TestGate(t *testing.T) {
	for _, looks := range []int{0, 1, 1000} {
		g, back := NewGate(looks), NewGate(looks)
		n := 0
		go func() {
			for range 2000 {
				g.Pass()
				n++
				back.Open()
			}
		}()
		for i := range 2000 {
			if i%500 == 0 {
				time.Sleep(time.Millisecond) // the other side parks
			}
			g.Open()
			back.Pass()
			if n != i+1 {
				t.Fatalf("looks %d: %d passed after %d opened", looks, n, i+1)
			}
			if i%100 == 0 {
				runtime.Gosched()
			}
		}
	}
}

func TestPairsOfLanes(t *testing.T) {
	top := Read(recorded(t, "intel-smt2"), nil, 1) // CPUs that this machine may lack: those lanes run unpinned
	ps := top.NewPairs(2, 0)
	if len(ps) != 2 || ps[0].D.CPU() != 0 || ps[0].S.CPU() != 4 || ps[1].D.CPU() != 1 || ps[1].S.CPU() != 5 {
		t.Errorf("%+v", ps)
	}
	for _, p := range ps {
		p.Close()
	}
	if ps := Read(recorded(t, "vm"), nil, 1).NewPairs(0, 0); ps != nil {
		t.Errorf("pairs without siblings: %v", ps)
	}
}
