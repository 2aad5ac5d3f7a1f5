package measure

import (
	"fmt"
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
	Repetitions int     `json:"repetitions"`    // that count
	Disturbed   int     `json:"disturbed"`      // of those, the ones in which a lane lost its CPU or moved
	Discarded   int     `json:"discarded"`      // disturbed ones that were done again
	Stolen      float64 `json:"stolen_seconds"` // time that the hypervisor gave to others, on the CPUs of the lanes; its grain is 10 ms
	Seconds     float64 `json:"seconds"`        // of the whole experiment
	Pinned      bool    `json:"pinned"`
	Steal       bool    `json:"steal_known"`
}

// Clean says that nothing worth mentioning disturbed what counts.
func (q Quality) Clean() bool {
	return q.Pinned && q.Disturbed*10 <= q.Repetitions && q.Stolen <= 0.01*q.Seconds
}

// String names what disturbed, for people.
func (q Quality) String() string {
	s := ""
	if !q.Pinned {
		s += ", not pinned"
	}
	if q.Disturbed > 0 {
		s += fmt.Sprintf(", %d of %d repetitions disturbed", q.Disturbed, q.Repetitions)
	}
	if q.Discarded > 0 {
		s += fmt.Sprintf(", %d done again", q.Discarded)
	}
	if q.Stolen > 0 {
		s += fmt.Sprintf(", %.2f s stolen", q.Stolen)
	}
	if s == "" {
		return "undisturbed"
	}
	return s[2:]
}

// Add sums two experiments up.
func (q Quality) Add(o Quality) Quality {
	return Quality{q.Repetitions + o.Repetitions, q.Disturbed + o.Disturbed, q.Discarded + o.Discarded, q.Stolen + o.Stolen, q.Seconds + o.Seconds, q.Pinned && o.Pinned,
		q.Steal && o.Steal}
}

// A Case is one way to run: a loop for each lane, nil for an idle one.
type Case struct {
	Name  string
	Loops []Loop
}

// Repeat calls once so often, and again for repetitions that were disturbed, at most as many times more. once returns false for a disturbed one; keep is called with
// the outcome that counts. The choice is by what the system tells of the threads, never by the figures.
func Repeat(lanes []*smtpool.Lane, reps int, once func(r int) (clean bool), keep func()) (q Quality) {
	q.Pinned = true
	var cpus []int
	for _, l := range lanes {
		if l != nil {
			cpus = append(cpus, l.CPU())
			q.Pinned = q.Pinned && l.Pinned() == nil
		}
	}
	before, start := smtpool.Steal(), time.Now()
	for r := 0; q.Repetitions < reps; r++ {
		clean := once(r)
		if !clean && q.Discarded < reps {
			q.Discarded++
			continue
		}
		if !clean {
			q.Disturbed++
		}
		q.Repetitions++
		keep()
	}
	q.Seconds = time.Since(start).Seconds()
	after := smtpool.Steal()
	q.Steal = len(after) > 0
	for id, s := range after {
		if slices.Contains(cpus, id) {
			q.Stolen += (s - before[id]).Seconds()
		}
	}
	return q
}

// Alternate runs all cases in turns, reps times, never two cases at a time, in an order that is turned by one each time. It returns the rate of each
// lane by case and repetition. Disturbed repetitions are done again, as Repeat does.
func Alternate(lanes []*smtpool.Lane, cases []Case, reps int, window time.Duration) (rates [][][]float64, q Quality) {
	rates = make([][][]float64, len(cases))
	rows := make([][]float64, len(cases))
	q = Repeat(lanes, reps, func(r int) bool {
		clean := true
		for k := range cases {
			c := (k + r) % len(cases)
			runs := Together(lanes, cases[c].Loops, window)
			rows[c] = make([]float64, len(runs))
			for i := range runs {
				rows[c][i] = runs[i].Rate
				clean = clean && (cases[c].Loops[i] == nil || runs[i].Seen.Clean())
			}
		}
		return clean
	}, func() {
		for c := range rates {
			rates[c] = append(rates[c], rows[c])
		}
	})
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
