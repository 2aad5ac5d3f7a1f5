package measure

import (
	"slices"
	"sync/atomic"
	"time"

	"vtpu/smtpool"
)

// A Loop does one block of work, at most some 100 µs, and returns the units done.
type Loop func() int

// A Run is what one loop did in its window.
type Run struct {
	Units   int
	Seconds float64
	Rate    float64 // units a second
	Seen    smtpool.Disturbance
}

// Together runs a loop on each of the lanes at the same time. All of them run for the whole of every window: a lane that is done early goes on
// without counting. Loops of nil leave their lane idle.
func Together(lanes []*smtpool.Lane, loops []Loop, window time.Duration) []Run {
	out := make([]Run, len(lanes))
	n := int32(0)
	for _, l := range loops {
		if l != nil {
			n++
		}
	}
	var ready, done atomic.Int32
	for i, l := range loops {
		if l == nil {
			continue
		}
		lanes[i].Go(func() {
			ready.Add(1)
			for ready.Load() < n { // caches and clocks get warm meanwhile
				l()
			}
			begin := time.Now()
			units := l()
			for time.Since(begin) < window {
				units += l()
			}
			took := time.Since(begin).Seconds()
			done.Add(1)
			for done.Load() < n {
				l()
			}
			out[i] = Run{Units: units, Seconds: took, Rate: float64(units) / took}
		})
	}
	for i, l := range loops {
		if l != nil {
			out[i].Seen = lanes[i].Wait()
		}
	}
	return out
}

// Quality says how undisturbed an experiment was.
type Quality struct {
	Repetitions int     `json:"repetitions"`
	Disturbed   int     `json:"disturbed"`      // repetitions in which a lane lost its CPU or moved
	Stolen      float64 `json:"stolen_seconds"` // time that the hypervisor gave to others, on the CPUs of the lanes; its grain is 10 ms
	Seconds     float64 `json:"seconds"`        // of the whole experiment
	Pinned      bool    `json:"pinned"`
	Steal       bool    `json:"steal_known"`
}

// Clean says that nothing worth mentioning disturbed the experiment.
func (q Quality) Clean() bool {
	return q.Pinned && q.Disturbed*10 <= q.Repetitions && q.Stolen <= 0.01*q.Seconds
}

// A Case is one way to run: a loop for each lane, nil for an idle one.
type Case struct {
	Name  string
	Loops []Loop
}

// Alternate runs all cases in turns, reps times, never two cases at a time, in an order that is turned by one each time. It returns the rate of each
// lane by case and repetition.
func Alternate(lanes []*smtpool.Lane, cases []Case, reps int, window time.Duration) (rates [][][]float64, q Quality) {
	q = Quality{Repetitions: reps, Pinned: true}
	var cpus []int
	for _, l := range lanes {
		cpus = append(cpus, l.CPU())
		q.Pinned = q.Pinned && l.Pinned() == nil
	}
	before, start := smtpool.Steal(), time.Now()
	rates = make([][][]float64, len(cases))
	for r := range reps {
		bad := false
		for k := range cases {
			c := (k + r) % len(cases)
			runs := Together(lanes, cases[c].Loops, window)
			row := make([]float64, len(runs))
			for i := range runs {
				row[i] = runs[i].Rate
				bad = bad || cases[c].Loops[i] != nil && !runs[i].Seen.Clean()
			}
			rates[c] = append(rates[c], row)
		}
		if bad {
			q.Disturbed++
		}
	}
	q.Seconds = time.Since(start).Seconds()
	after := smtpool.Steal()
	q.Steal = len(after) > 0
	for id, s := range after {
		if slices.Contains(cpus, id) {
			q.Stolen += (s - before[id]).Seconds()
		}
	}
	return rates, q
}

// Column takes the rates of one lane out of what Alternate returns for a case.
func Column(rates [][]float64, lane int) []float64 {
	out := make([]float64, len(rates))
	for i := range rates {
		out[i] = rates[i][lane]
	}
	return out
}
