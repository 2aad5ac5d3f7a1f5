// Package lab holds the experiments about hyperthreads: what the rulers measure here and what the port model says of them, pairs of workloads, the curve of
// what a second thread gains as the first overlaps more of its misses. Every experiment is done in alternated repetitions, between two probes, and
// says what disturbed it. Where the two CPUs are not siblings, every result is labelled so.
package lab

import (
	"errors"
	"fmt"
	"time"

	"vtpu/smtpool"
	"vtpu/smtpool/measure"
	"vtpu/smtpool/ports"
	"vtpu/smtpool/probe"
	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
)

// Options say how to measure. The zero value is good.
type Options struct {
	D, S   int           // logical CPUs of the two lanes; -1: choose
	Reps   int           // alternated repetitions; 0: 30
	Window time.Duration // of a measurement; 0: 4 ms
	Memory int           // bytes of the buffer that stands for memory; 0: 256 MiB
	Table  int           // bytes of the table of a workload; 0: 64 MiB

	Stop <-chan struct{} // closed: experiments end after the row in hand, with ErrStopped; nil: never
}

// ErrStopped says that an experiment was ended by Options.Stop.
var ErrStopped = errors.New("lab: stopped")

// NotSMT labels what was not measured on siblings.
const NotSMT = "not an SMT result"

// A Lab is a place to measure: two lanes, and what is known of them.
type Lab struct {
	Top      *smtpool.Topology
	D, S     *smtpool.Lane // S is nil where there is one CPU only
	First    probe.Result  // of the two lanes, when the lab was opened
	Machine  *ports.Machine
	Found    string // how the machine's table was found, or why there is none
	Counter  error  // why there are no hardware counters; nil if there are
	opt      Options
	buf      *ruler.Buffers
	tables   [2]*workload.Table
	latency  float64 // of memory, in cycles; 0: not measured yet
	tableLat float64 // of a workload's table
	clock    float64 // cycles a nanosecond, last seen
}

// Open chooses two CPUs and probes them: the pair that the options name, else the first candidate that turns out to be siblings, else two cores.
func Open(o Options) (*Lab, error) {
	if o.Reps <= 0 {
		o.Reps = 30
	}
	if o.Window <= 0 {
		o.Window = 4 * time.Millisecond
	}
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	if o.Table <= 0 {
		o.Table = 64 << 20
	}
	l := &Lab{Top: smtpool.Discover(), opt: o}
	l.Machine, l.Found = ports.Detect(l.Top)
	if (o.D < 0) != (o.S < 0) || o.D >= 0 && o.D == o.S {
		return nil, fmt.Errorf("lab: CPUs %d and %d: name two different ones, or none", o.D, o.S)
	}
	for _, id := range []int{o.D, o.S} {
		known := id < 0
		for _, c := range l.Top.CPUs {
			known = known || c.ID == id
		}
		if !known {
			return nil, fmt.Errorf("lab: CPU %d is not one that this process may use", id)
		}
	}
	candidates := probe.Candidates(l.Top, 8)
	if o.D >= 0 {
		candidates = [][2]int{{o.D, o.S}}
	}
	for _, c := range candidates {
		r := probe.CPUs(l.Top, c[0], c[1], min(o.Reps, 10))
		if r.Verdict == probe.Yes || l.First.Why == "" || l.First.Verdict == probe.CannotTell && r.Verdict == probe.No {
			l.First = r
		}
		if r.Verdict == probe.Yes {
			break
		}
	}
	if len(candidates) == 0 {
		l.D = smtpool.NewLane(l.Top.CPUs[0].ID, smtpool.LaneLooks)
		l.First = probe.Result{A: l.Top.CPUs[0].ID, B: -1, Verdict: probe.No, Why: "this process may use one logical CPU only"}
	} else {
		l.D, l.S = smtpool.NewLane(l.First.A, smtpool.LaneLooks), smtpool.NewLane(l.First.B, smtpool.LaneLooks)
	}
	l.D.Do(func() { // what a thread of a lane can count
		var c *smtpool.Counters
		if c, l.Counter = smtpool.OpenCounters(smtpool.Events(l.Top)); l.Counter == nil {
			c.Close()
		}
	})
	return l, nil
}

// Close ends the lanes.
func (l *Lab) Close() {
	l.D.Close()
	if l.S != nil {
		l.S.Close()
	}
}

// Siblings is what the first probe said.
func (l *Lab) Siblings() bool { return l.First.Verdict == probe.Yes }

// Label says what results are of.
func (l *Lab) Label() string {
	switch l.First.Verdict {
	case probe.Yes:
		return fmt.Sprintf("SMT result: CPUs %d and %d share a core, as measured", l.First.A, l.First.B)
	case probe.No:
		if l.S == nil {
			return NotSMT + ": one logical CPU"
		}
		return fmt.Sprintf("%s: CPUs %d and %d are two cores, as measured", NotSMT, l.First.A, l.First.B)
	}
	return fmt.Sprintf("%s: whether CPUs %d and %d share a core could not be told", NotSMT, l.First.A, l.First.B)
}

// A Bracket is the probes around an experiment.
type Bracket struct {
	Before probe.Verdict `json:"before"`
	After  probe.Verdict `json:"after"`
	Same   bool          `json:"same"` // the hypervisor moved nothing meanwhile, as far as the two can tell
}

// stopped is checked before each row.
func (l *Lab) stopped() error {
	select {
	case <-l.opt.Stop:
		return ErrStopped
	default:
		return nil
	}
}

// bracket runs an experiment between two short probes.
func (l *Lab) bracket(f func() error) (b Bracket, err error) {
	if l.S == nil {
		return Bracket{probe.No, probe.No, true}, f()
	}
	b.Before = probe.Lanes(l.D, l.S, 8, l.Top.Has).Verdict
	err = f()
	b.After = probe.Lanes(l.D, l.S, 8, l.Top.Has).Verdict
	b.Same = b.Before == l.First.Verdict && b.After == b.Before
	return b, err
}

// buffers makes the memory of the rulers when it is first needed.
func (l *Lab) buffers() *ruler.Buffers {
	if l.buf == nil {
		l.buf = ruler.NewBuffers(l.opt.Memory)
	}
	return l.buf
}

func (l *Lab) table(i int) *workload.Table {
	if l.tables[i] == nil {
		l.tables[i] = workload.NewTable(l.opt.Table, uint64(i+1))
	}
	return l.tables[i]
}

// cycles measures how many cycles a block takes a unit, by turns of a block and of a chain of additions on the same lane: so the clock that is
// measured is the one that the block ran with. It returns units a cycle and units a nanosecond by repetition.
func (l *Lab) cycles(lane *smtpool.Lane, block measure.Loop) (perCycle, perNS []float64, q measure.Quality, err error) {
	chain, _ := ruler.Find("clock")
	var c *ruler.Instance
	if c, err = ruler.New(chain, nil, 1, l.Top.Has); err != nil {
		return nil, nil, q, err
	}
	var ns, cyc float64
	q = measure.Repeat([]*smtpool.Lane{lane}, l.opt.Reps, func(int) bool {
		return lane.Do(func() {
			var ticks, units int
			var tc, tb time.Duration
			for warm := 0; tb < l.opt.Window; warm++ {
				t0 := time.Now()
				n := c.Block()
				t1 := time.Now()
				u := block()
				t2 := time.Now()
				if warm < 3 {
					continue
				}
				ticks, tc = ticks+n, tc+t1.Sub(t0)
				units, tb = units+u, tb+t2.Sub(t1)
			}
			l.clock = float64(ticks) / float64(tc.Nanoseconds())
			ns = float64(units) / float64(tb.Nanoseconds())
			cyc = ns / l.clock
		}).Clean()
	}, func() { perNS, perCycle = append(perNS, ns), append(perCycle, cyc) })
	return perCycle, perNS, q, nil
}

// TableLatency is that of the workloads' table in cycles, which may be another than the buffer's.
func (l *Lab) TableLatency() (float64, error) {
	if l.tableLat > 0 {
		return l.tableLat, nil
	}
	p, err := workload.Chains(1, 0)
	if err != nil {
		return 0, err
	}
	c, err := workload.Compile(p, l.table(0), l.Top.Has)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	per, _, _, err := l.cycles(l.D, c.Block)
	if err != nil {
		return 0, err
	}
	l.tableLat = 1 / measure.Of(per).Median
	return l.tableLat, nil
}

// Latency is that of memory in cycles: one chain of dependent loads through the buffer.
func (l *Lab) Latency() (float64, error) {
	if l.latency > 0 {
		return l.latency, nil
	}
	i, err := ruler.New(ruler.Chase(1), l.buffers(), 1, l.Top.Has)
	if err != nil {
		return 0, err
	}
	per, _, _, err := l.cycles(l.D, i.Block)
	if err != nil {
		return 0, err
	}
	l.latency = 1 / measure.Of(per).Median
	return l.latency, nil
}
