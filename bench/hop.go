package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"vtpu/pipelines/exec"
	"vtpu/smtpool"
	"vtpu/stages"
	"vtpu/stages/link/ring"
	"vtpu/stages/weights"
)

// message is 1 KiB, handed on by pointer.
type message struct{ words [128]uint64 }

// A hop carries a message one way; ends are the two lanes' ends of a pair of queues.
type ends struct {
	push func(*message)
	pop  func() *message
}

// ringEnds are two rings between two lanes that look before they sleep, as the executor makes them.
func ringEnds(spin int) (a, b ends) {
	there, back := ring.New[*message](8, spin), ring.New[*message](8, spin)
	end := func(out, in *ring.Ring[*message]) ends {
		return ends{func(m *message) { out.Push(m) }, func() *message { m, _ := in.Pop(); return m }}
	}
	return end(there, back), end(back, there)
}

// flagEnds do the least that two cores can do: one writes to a cache line and the other waits for it. No message is handed over.
func flagEnds() (a, b ends) {
	var there, back struct {
		_ [128]byte
		n atomic.Uint64
		_ [128]byte
	}
	end := func(out, in *atomic.Uint64) ends {
		m := &message{}
		n, seen := uint64(0), uint64(0)
		return ends{func(*message) { n++; out.Store(n) }, func() *message {
			seen++
			for i := 0; in.Load() != seen; i++ {
				if i >= 64 {
					smtpool.Pause(1)
				}
			}
			return m
		}}
	}
	return end(&there.n, &back.n), end(&back.n, &there.n)
}

// channelEnds are two Go channels. A channel wakes its reader through the system where threads are bound, through Go's scheduler where not.
func channelEnds() (a, b ends) {
	there, back := make(chan *message, 1), make(chan *message, 1)
	end := func(out, in chan *message) ends {
		return ends{func(m *message) { out <- m }, func() *message { return <-in }}
	}
	return end(there, back), end(back, there)
}

// pingPong sends a message there and back n times, between two threads bound to two CPUs if bound, else between two goroutines wherever the scheduler
// puts them. If touched, both sides write to the message, which then changes cores too. It returns the time of one way and the allocations of one way.
func pingPong(a, b ends, n int, cpus []smtpool.CPU, bound, touched bool) (seconds, allocs float64, err error) {
	bind := func(i int) func() {
		if !bound {
			return func() {}
		}
		runtime.LockOSThread()
		unpin, perr := smtpool.Pin(cpus[i].ID)
		if perr != nil {
			return runtime.UnlockOSThread
		}
		return func() { unpin(); runtime.UnlockOSThread() }
	}
	const warm = 1000
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer bind(1)()
		for range warm + n {
			m := b.pop()
			if touched {
				m.words[0]++
			}
			b.push(m)
		}
	}()
	defer bind(0)()
	m := &message{}
	var start time.Time
	var before, after runtime.MemStats
	for i := range warm + n {
		if i == warm {
			runtime.ReadMemStats(&before)
			start = time.Now()
		}
		a.push(m)
		m = a.pop()
		if touched {
			m.words[1]++
		}
	}
	took := time.Since(start).Seconds()
	runtime.ReadMemStats(&after)
	<-done
	if touched && (m.words[0] != warm+uint64(n) || m.words[1] != m.words[0]) {
		return 0, 0, fmt.Errorf("%d hops there and %d back instead of %d", m.words[0], m.words[1], warm+n)
	}
	return took / float64(2*n), float64(after.Mallocs-before.Mallocs) / float64(2*n), nil
}

// relay is a stage that hands its message on.
type relay struct{}

func (relay) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	return out.Send(m)
}

// chainTime is the time of a step of so many fused stages.
func chainTime(count, steps int) (seconds, allocs float64, err error) {
	p := exec.Program{Layout: &stages.Layout{}, Store: weights.NewStore(), Parts: 1}
	for range count {
		p.Gather = append(p.Gather, exec.Node{Name: "relay", New: func(*stages.Team) (stages.Stage, error) { return relay{}, nil }})
	}
	e, err := exec.New(p, exec.Placement{D: 1})
	if err != nil {
		return 0, 0, err
	}
	defer e.Close() // nothing to give back: the stages are not closers
	run := func(n int) error {
		return e.Run(context.Background(), e.Version()+int64(n), forever, func(exec.Outcome) {})
	}
	if err := run(1000); err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err = run(steps)
	took := time.Since(start).Seconds()
	runtime.ReadMemStats(&after)
	return took / float64(steps), float64(after.Mallocs-before.Mallocs) / float64(steps), err
}

// hopRow is one line of row M.
type hopRow struct {
	Hop    string  `json:"hop"`
	Time   spread  `json:"seconds"`
	Allocs float64 `json:"allocations"`
	Must   float64 `json:"must_seconds,omitempty"`
}

// chain is the number of fused stages that are compared with a single one.
const chain = 64

// compareHops measures row M.
func (b *bench) compareHops() ([]hopRow, error) {
	rows := []hopRow{{Hop: "one cache line, nothing else"}, {Hop: "ring", Must: 200e-9}, {Hop: "ring, message written to"},
		{Hop: "Go channel between two threads"}, {Hop: "Go channel between two goroutines"}, {Hop: "fused", Must: 10e-9}}
	times := make([][]float64, len(rows))
	cpus := smtpool.CPUs()
	if len(cpus) < 2 {
		b.tools.missing["hop"] = "two CPUs are needed"
		return nil, nil
	}
	b.say("M")
	const spin = 8192 // as pipelines places lanes
	ringEnds := func() (a, b ends) { return ringEnds(spin) }
	open := []func() (a, b ends){flagEnds, ringEnds, ringEnds, channelEnds, channelEnds}
	for range b.rounds {
		for i := range rows {
			var t, allocs float64
			var err error
			if i < len(open) {
				hops := func(n int) {
					if err == nil {
						x, y := open[i]()
						t, allocs, err = pingPong(x, y, n, cpus, i < len(open)-1, i == 2)
					}
				}
				hops(1000)
				hops(max(1000, int(b.seconds/t/2)))
			} else {
				steps := max(1000, int(b.seconds/float64(chain)/5e-9))
				var one, many float64
				if one, _, err = chainTime(1, steps); err == nil {
					many, allocs, err = chainTime(1+chain, steps)
					t, allocs = (many-one)/chain, allocs/chain
				}
			}
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], t)
			rows[i].Allocs = max(rows[i].Allocs, allocs)
		}
	}
	for i := range rows {
		rows[i].Time = spreadOf(times[i])
	}
	return rows, nil
}
