// Package probe measures whether two logical CPUs are hyperthreads of one core. What the system says is a claim: hypervisors hide and invent
// topology.
//
// Two measurements. A cache line that two pinned threads hand to and fro: hyperthreads share the level 1 cache (5-14 ns one way), cores do not (15 ns
// and more). A loop that saturates the multipliers of a core (port 1 of Intel's cores): two hyperthreads share them, so that the pair does about 1.0 times
// what one thread does alone; two cores do 2.0 times.
package probe

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"vtpu/smtpool"
	"vtpu/smtpool/measure"
	"vtpu/smtpool/ruler"
)

// A Verdict is what a probe answers.
type Verdict string

// The verdicts.
const (
	Yes        Verdict = "yes"         // hyperthreads of one core
	No         Verdict = "no"          // two cores
	CannotTell Verdict = "cannot tell" // the figures contradict each other, or something disturbed them
)

// Latency is the distribution of the one-way latency of a cache line, in nanoseconds.
type Latency struct {
	Min    float64 `json:"min"`
	P10    float64 `json:"p10"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	Max    float64 `json:"max"`
	N      int     `json:"n"` // samples, each of many round trips
	Lost   int     `json:"lost"`
}

// A Result is a verdict with its figures.
type Result struct {
	A         int             `json:"a"` // logical CPUs
	B         int             `json:"b"`
	Verdict   Verdict         `json:"verdict"`
	Why       string          `json:"why"`
	OneWayNS  Latency         `json:"one_way_ns"`
	Alone     [2]float64      `json:"alone_per_ns"`    // multiplications a nanosecond of each CPU alone; 0 without rulers
	Together  [2]float64      `json:"together_per_ns"` // both at the same time
	PairRatio measure.Figure  `json:"pair_ratio"`      // together / the mean of alone: 1 on siblings, 2 on two cores
	Claimed   bool            `json:"claimed"`         // the system names them as siblings
	Ruler     bool            `json:"ruler"`           // the one-port ruler was measured
	Quality   measure.Quality `json:"quality"`
	Samples   []float64       `json:"-"` // one-way latencies in order, for the picture
}

// Limits between the answers.
const (
	siblingNS    = 15   // one way: at most this on siblings
	lineNS       = 2000 // one way: no cache line takes so long, but a change of threads on one CPU does
	siblingRatio = 1.25 // the pair does at most this much on one core's multipliers
	coreRatio    = 1.7  // and at least this much on two cores: no core can do that with one
)

// Decide answers from the figures alone.
func Decide(r *Result) {
	lat := r.OneWayNS
	switch {
	case !r.Quality.Pinned:
		r.set(CannotTell, "the threads could not be bound to their CPUs")
	case lat.N == 0:
		r.set(CannotTell, "the cache line did not come back in time: the two share a CPU's time, or another program runs there")
	case lat.Median > lineNS: // in turns, each of them multiplies as fast as alone
		r.set(CannotTell, "a line takes %.0f µs one way, longer than between any two cores: the two share a CPU's time, or other programs run there", lat.Median/1e3)
	case !r.Ruler && lat.Median <= siblingNS:
		r.set(CannotTell, "a line takes %.1f ns one way, as between siblings, but there is no one-port ruler for this CPU to confirm it", lat.Median)
	case !r.Ruler && lat.Median > 2*siblingNS:
		r.set(No, "a line takes %.1f ns one way, more than between siblings (at most %d); there is no one-port ruler for this CPU", lat.Median, siblingNS)
	case !r.Ruler:
		r.set(CannotTell, "a line takes %.1f ns one way, and there is no one-port ruler for this CPU", lat.Median)
	case r.PairRatio.Lo >= coreRatio && lat.P10 > siblingNS:
		r.set(No, "the pair multiplies %.2f times as much as one thread alone, which one core can't, and a line takes %.1f ns one way", r.PairRatio.Median, lat.Median)
	case r.PairRatio.Lo >= coreRatio:
		r.set(No, "the pair multiplies %.2f times as much as one thread alone, which one core can't (a line takes %.1f ns one way, short for two cores)",
			r.PairRatio.Median, lat.Median)
	case !r.Quality.Clean():
		r.set(CannotTell, "the pair multiplies %.2f times as much as one thread alone, but the threads were disturbed (%v)", r.PairRatio.Median, r.Quality)
	case r.PairRatio.Hi <= siblingRatio && lat.Median <= siblingNS:
		r.set(Yes, "the pair multiplies %.2f times as much as one thread alone, so they share a multiplier, and a line takes %.1f ns one way", r.PairRatio.Median, lat.Median)
	case r.PairRatio.Hi <= siblingRatio:
		r.set(CannotTell, "the pair multiplies %.2f times as much as one thread alone, as siblings do, but a line takes %.1f ns one way: "+
			"a hypervisor may give both the same time", r.PairRatio.Median, lat.Median)
	default:
		r.set(CannotTell, "the pair multiplies %.2f times as much as one thread alone: neither 1 (siblings) nor 2 (two cores)", r.PairRatio.Median)
	}
}

func (r *Result) set(v Verdict, format string, args ...any) {
	r.Verdict, r.Why = v, fmt.Sprintf(format, args...)
	if r.Claimed && v == No {
		r.Why += "; the system names them as siblings, and is wrong"
	}
	if !r.Claimed && v == Yes {
		r.Why += "; the system does not name them as siblings"
	}
}

// Lanes probes two lanes with so many repetitions; 30 take about a quarter of a second. has tells the CPU's features.
func Lanes(a, b *smtpool.Lane, reps int, has func(string) bool) Result {
	r := Result{A: a.CPU(), B: b.CPU()}
	pinned := a.Pinned() == nil && b.Pinned() == nil
	r.Samples, r.OneWayNS = oneWay(a, b, 8*reps)
	mul, _ := ruler.Find("p1")
	ia, err1 := ruler.New(mul, nil, 1, has)
	ib, err2 := ruler.New(mul, nil, 2, has)
	r.Quality = measure.Quality{Pinned: pinned}
	if r.Ruler = err1 == nil && err2 == nil; r.Ruler {
		rates, q := measure.Alternate([]*smtpool.Lane{a, b}, []measure.Case{
			{Name: "a", Loops: []measure.Loop{ia.Block, nil}}, {Name: "b", Loops: []measure.Loop{nil, ib.Block}}, {Name: "pair", Loops: []measure.Loop{ia.Block, ib.Block}},
		}, reps, 2*time.Millisecond)
		r.Quality = q
		var ratio []float64
		for i := range rates[2] {
			ratio = append(ratio, 2*(rates[2][i][0]+rates[2][i][1])/(rates[0][i][0]+rates[1][i][1]))
		}
		r.PairRatio = measure.Of(ratio)
		med := func(c, lane int) float64 { return measure.Of(measure.Column(rates[c], lane)).Median / 1e9 }
		r.Alone, r.Together = [2]float64{med(0, 0), med(1, 1)}, [2]float64{med(2, 0), med(2, 1)}
	}
	Decide(&r)
	return r
}

// OneWay is how long a cache line takes from one lane to the other; some microseconds a sample. N is 0 where every sample was lost.
func OneWay(a, b *smtpool.Lane, samples int) Latency {
	_, l := oneWay(a, b, samples)
	return l
}

func oneWay(a, b *smtpool.Lane, samples int) ([]float64, Latency) {
	ns, lost := pingPong(a, b, samples)
	l := latency(ns)
	l.Lost = lost
	return ns, l
}

// CPUs probes two logical CPUs of a topology.
func CPUs(t *smtpool.Topology, a, b int, reps int) Result {
	la, lb := smtpool.NewLane(a, smtpool.LaneLooks), smtpool.NewLane(b, smtpool.LaneLooks)
	defer la.Close()
	defer lb.Close()
	r := Lanes(la, lb, reps, t.Has)
	for _, c := range t.CPUs {
		if c.ID == a && slices.Contains(c.Siblings, b) {
			r.Claimed = true
		}
	}
	Decide(&r)
	return r
}

// Candidates lists the pairs of CPUs that are worth a probe: all that the system names, then, where it names none, up to limit pairs of neighbours
// and of CPUs half the machine apart, which is how systems number hyperthreads.
func Candidates(t *smtpool.Topology, limit int) [][2]int {
	if p := t.Pairs(); len(p) > 0 {
		return p[:min(limit, len(p))]
	}
	var out [][2]int
	add := func(i, j int) {
		if j < len(t.CPUs) && i < j && len(out) < limit {
			if p := [2]int{t.CPUs[i].ID, t.CPUs[j].ID}; !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	n := len(t.CPUs)
	add(0, 1)
	add(0, n/2)
	for i := 2; i+1 < n; i += 2 {
		add(i, i+1)
	}
	for i := 1; i < n/2; i++ {
		add(i, i+n/2)
	}
	return out
}

const (
	trips    = 64                    // round trips of a sample
	patience = 20 * time.Millisecond // for a sample; a good one takes some microseconds
)

// ball is the cache line that goes to and fro, with nothing else near it.
type ball struct {
	_ [128]byte
	n atomic.Uint64
	_ [120]byte
}

// pingPong returns one-way latencies in nanoseconds and the number of samples that were given up.
func pingPong(a, b *smtpool.Lane, samples int) (ns []float64, lost int) {
	for range samples {
		var x ball
		// await spins until the ball has the value v; it gives up when patience ends.
		await := func(v uint64, end time.Time) bool {
			for i := 1; ; i++ {
				if x.n.Load() == v {
					return true
				}
				if i&0xffff == 0 && time.Now().After(end) {
					return false
				}
			}
		}
		var took time.Duration
		ok := true
		end := time.Now().Add(patience)
		b.Go(func() {
			for t := range uint64(trips) {
				if !await(2*t+1, end) {
					return
				}
				x.n.Store(2*t + 2)
			}
		})
		a.Do(func() {
			var begin time.Time
			for t := range uint64(trips) {
				if t == trips/4 { // both are awake by now
					begin = time.Now()
				}
				x.n.Store(2*t + 1)
				if !await(2*t+2, end) {
					ok = false
					return
				}
			}
			took = time.Since(begin)
		})
		b.Wait()
		if !ok {
			if lost++; lost > 8 && len(ns) == 0 {
				return nil, lost
			}
			continue
		}
		ns = append(ns, float64(took.Nanoseconds())/(2*(trips-trips/4)))
	}
	return ns, lost
}

func latency(ns []float64) Latency {
	if len(ns) == 0 {
		return Latency{}
	}
	s := slices.Sorted(slices.Values(ns))
	return Latency{Min: s[0], P10: measure.Quantile(s, 0.1), Median: measure.Quantile(s, 0.5), P90: measure.Quantile(s, 0.9), Max: s[len(s)-1], N: len(s)}
}
