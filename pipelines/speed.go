package pipelines

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"vtpu/smtpool"
	"vtpu/smtpool/probe"
	"vtpu/smtpool/ruler"
	"vtpu/stages"
	"vtpu/stages/weights"
)

// Peak is what the machine can do on so many lanes, measured.
type Peak struct {
	Lanes  int     `json:"lanes"`
	GFlops float64 `json:"gflops"`            // independent float32 FMAs in registers; 0 where there is no loop for this CPU
	GBytes float64 `json:"gbytes_per_s"`      // a copy between two arrays that no cache holds: bytes read and bytes written
	Line   float64 `json:"line_ns"`           // a cache line from the first lane to the second; 0 on one lane
	Why    string  `json:"why_not,omitempty"` // why GFlops is 0
}

// Speed is a work on some lanes.
type Speed struct {
	Work    string  `json:"work"`
	Lanes   string  `json:"lanes"`
	Threads int     `json:"threads"`
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds_per_step"` // median
	Low     float64 `json:"fastest"`
	High    float64 `json:"slowest"`
	GFlops  float64 `json:"gflops"`        // arithmetic of a step on average (MeanFlops) by the median
	OfPeak  float64 `json:"share_of_fma"`  // of Peak.GFlops on as many lanes; 0 where that is unknown
	GBytes  float64 `json:"gbytes_per_s"`  // Traffic by the median
	OfMem   float64 `json:"share_of_copy"` // of Peak.GBytes; above 1 where a cache holds what a step touches
	Line    float64 `json:"line_ns"`       // LineNS in these rounds, median; 0 on one lane
}

// peakLanes makes n lanes, on CPUs of their own where there are as many, and what runs a function on all of them at once.
func peakLanes(n int) (all func(f func(i int)), done func()) {
	cpus := smtpool.CPUs()
	lanes := make([]*smtpool.Lane, n)
	for i := range lanes {
		cpu := -1
		if n <= len(cpus) {
			cpu = cpus[i].ID
		}
		lanes[i] = smtpool.NewLane(cpu, 0)
	}
	all = func(f func(i int)) {
		for i, l := range lanes {
			l.Go(func() { f(i) })
		}
		for _, l := range lanes {
			l.Wait()
		}
	}
	return all, func() {
		for _, l := range lanes {
			l.Close()
		}
	}
}

// LineNS is how long a cache line takes from the first CPU to the second, in nanoseconds, or 0 where there is no second one. A hypervisor moves its CPUs: two that share
// a third-level cache now may be a socket's width apart a minute later, and work that two lanes share takes longer there.
func LineNS() float64 {
	cpus := smtpool.CPUs()
	if len(cpus) < 2 {
		return 0
	}
	a, b := smtpool.NewLane(cpus[0].ID, 0), smtpool.NewLane(cpus[1].ID, 0)
	defer a.Close()
	defer b.Close()
	return probe.OneWay(a, b, 9).Median
}

// MeasureFMA is Peak.GFlops on n lanes; the error says why it can't be measured.
func MeasureFMA(n int) (gflops float64, err error) {
	flops := 2.0
	r, err := fmaRuler(&flops)
	if err != nil {
		return 0, err
	}
	all, done := peakLanes(n)
	defer done()
	rate := make([]float64, n)
	best := 0.0
	for range 5 { // the best of five: a peak is what nothing disturbs
		all(func(i int) {
			units := 0
			start := time.Now()
			for time.Since(start) < 20*time.Millisecond {
				units += r[i%len(r)].Block()
			}
			rate[i] = float64(units) / time.Since(start).Seconds()
		})
		sum := 0.0
		for _, v := range rate {
			sum += v
		}
		best = max(best, sum)
	}
	return best * flops / 1e9, nil
}

// MeasurePeak runs the loops on n lanes at once.
func MeasurePeak(n int) Peak {
	p := Peak{Lanes: n}
	var err error
	if p.GFlops, err = MeasureFMA(n); err != nil {
		p.Why = err.Error()
	}
	if n > 1 {
		p.Line = LineNS()
	}
	all, done := peakLanes(n)
	defer done()
	const words = 16 << 20 // 64 MB for each array of each lane
	from, to := make([][]float32, n), make([][]float32, n)
	all(func(i int) {
		from[i], to[i] = make([]float32, words), make([]float32, words)
		for k := range words {
			from[i][k], to[i][k] = 1, 1
		}
	})
	for range 5 {
		start := time.Now()
		all(func(i int) { copy(to[i], from[i]) })
		p.GBytes = max(p.GBytes, float64(n)*2*4*words/time.Since(start).Seconds()/1e9)
	}
	return p
}

// fmaRuler makes an instance of the widest FMA loop for each of 64 lanes at most; flops is multiplied by the numbers in a register.
func fmaRuler(flops *float64) ([]*ruler.Instance, error) {
	has := smtpool.Discover().Has
	var errs []error
	for _, k := range []struct {
		name string
		n    float64
	}{{"fma512", 16}, {"fma256", 8}} {
		r, _ := ruler.Find(k.name)
		var is []*ruler.Instance
		for i := range min(64, runtime.NumCPU()) {
			in, err := ruler.New(r, nil, uint64(i), has)
			if err != nil {
				errs = append(errs, err)
				break
			}
			is = append(is, in)
		}
		if len(is) > 0 {
			*flops *= k.n
			return is, nil
		}
	}
	return nil, errors.Join(errs...)
}

// Traffic is what a step reads and writes if no cache keeps anything from one stage to the next, in bytes: weights in the forward and the backward half, their
// gradients written, summed over the parts and read, weights and optimizer state read and written; activations and their gradients written once and read once. Of
// a table with a sparse gradient only the rows of a step count.
func (p *Plan) Traffic() int64 {
	var n int64
	for _, w := range p.Store.All(weights.Weight) {
		n += 4 * int64(w.T.Len()) * (2*int64(p.Pipe.Parts) + 2)
	}
	for _, w := range p.Store.All(weights.State) {
		n += 4 * int64(w.T.Len()) * 2
	}
	seen := map[string]bool{}
	for _, node := range p.Nodes {
		for _, b := range node.Env.Params {
			if b.Sparse && !seen[b.Name] && b.HasGrad {
				seen[b.Name] = true
				n -= 4 * int64(b.T.Len()) * (2*int64(p.Pipe.Parts) + 2)
				n += 2 * 4 * int64(p.Layout.Info(b.Grad).Shape.Len()) // read by gather, read and written by the update with the body below
			}
		}
	}
	return n + int64(p.Pipe.Parts)*2*(p.Layout.BodyTensors()+p.Layout.DataBytes())
}

// MeasureSpeed runs a work on the lanes that make sense with up to max threads and tells of each.
func MeasureSpeed(ctx context.Context, file string, sets []string, peaks []Peak, rounds int, long time.Duration, tell func(Speed)) error {
	plan, _, err := Prepare(Options{File: file, Sets: sets, Steps: 1 << 40, LookAhead: -1})
	if err != nil {
		return err
	}
	big := plan.Flops() >= laneFlops
	for _, pk := range peaks {
		if pk.Lanes > 1 && !big {
			break
		}
		places := [][2]int{{pk.Lanes, 0}}
		if plan.Pipe.Parts > 1 { // one part is shared by all lanes
			places[0][0] = min(pk.Lanes, plan.Pipe.Parts)
		}
		if d := pk.Lanes - 1; d > 0 && d <= plan.Pipe.Parts {
			places = append(places, [2]int{d, 1})
		}
		for _, ds := range places {
			if ds[0]+ds[1] != pk.Lanes {
				continue
			}
			var ts, lines []float64
			for range rounds {
				if pk.Lanes > 1 {
					lines = append(lines, LineNS())
				}
				t, err := plan.try(ctx, ds[0], ds[1], plan.Pipe.Place.LookAhead, long)
				if err != nil {
					return err
				}
				ts = append(ts, t)
			}
			slices.Sort(ts)
			s := Speed{Work: plan.Pipe.Name, Lanes: Lanes{D: ds[0], S: ds[1]}.String(), Threads: pk.Lanes, Rounds: rounds, Seconds: ts[len(ts)/2], Low: ts[0], High: ts[len(ts)-1]}
			s.GFlops = plan.MeanFlops() / s.Seconds / 1e9
			s.GBytes = float64(plan.Traffic()) / s.Seconds / 1e9
			if pk.GFlops > 0 {
				s.OfPeak = s.GFlops / pk.GFlops
			}
			s.OfMem = s.GBytes / pk.GBytes
			if slices.Sort(lines); len(lines) > 0 {
				s.Line = lines[len(lines)/2]
			}
			tell(s)
		}
	}
	return nil
}

// CheckWork says whether there is a work of that name.
func CheckWork(name string) error {
	if !slices.Contains(WorkNames(), name) {
		return stages.Finding{File: "--works " + name, Msg: "there is no such work", Fix: suggest(name, WorkNames())}
	}
	return nil
}
