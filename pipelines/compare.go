package pipelines

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/smtpool"
	"vtpu/smtpool/measure"
)

// A Way is a placement of a pipeline that is compared with others.
type Way struct {
	Name     string         `json:"name"`
	Lanes    string         `json:"lanes"`
	Look     int            `json:"look_ahead"`
	Prefetch bool           `json:"prefetch"`       // rows of tables are asked for ahead of their turn
	CPUs     []int          `json:"cpus,omitempty"` // S lanes first; empty: one lane, not pinned
	PerS     measure.Figure `json:"steps_per_s"`
	Naive    measure.Figure `json:"over_naive"` // steps a second over the first way's, of the same repetition
	Tuned    measure.Figure `json:"over_tuned"` // the same over one thread with prefetch
	Picked   bool           `json:"picked"`     // the planner's choice on this machine
	Weights  string         `json:"weights_sha256"`
	State    string         `json:"state_sha256"`
}

// A Comparison is the same training in several ways.
type Comparison struct {
	Pipeline string          `json:"pipeline"`
	Label    string          `json:"label"`
	Steps    int64           `json:"steps"` // that each way did
	Chunk    int64           `json:"chunk"` // steps of a measurement
	Ways     []Way           `json:"ways"`
	Same     bool            `json:"same_bits"` // all ways ended in the same weights and state
	Bytes    int64           `json:"bytes"`     // of weights and state
	S        float64         `json:"s_share"`   // of the time of one thread, in stages that the pair runs on its S lane
	Bound    float64         `json:"bound"`     // over one thread, by the balance of the two lanes: 1 / max(S, 1-S); 0: the shares are not known
	Quality  measure.Quality `json:"quality"`
}

// CompareOptions say what is compared and how.
type CompareOptions struct {
	Options
	Siblings [2]int // D and S lane of the pair, measured siblings; both 0: none are known, the plan places the pair
	Label    string
	Reps     int           // alternated repetitions
	Window   time.Duration // about the length of a measurement
	Limit    time.Duration // no repetition begins after that; 0: none. The figures say how many there were
}

// runner is a way with its engine.
type runner struct {
	way  Way
	plan *Plan
	e    *exec.Engine
}

// chunk runs steps and returns how many there were a second, and whether the way was left alone as far as the calling thread, which is one of its lanes, can tell.
func (r *runner) chunk(ctx context.Context, steps int64) (perS float64, clean bool, err error) {
	was := kernel.SetPrefetch(r.way.Prefetch)
	defer kernel.SetPrefetch(was)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := smtpool.StartWatch()
	begin := time.Now()
	err = r.e.Run(ctx, r.e.Version()+steps, 1<<40, func(exec.Outcome) {})
	took := time.Since(begin)
	seen := w.Stop()
	clean = r.way.Lanes != "d=1,s=0" || seen.Involuntary == 0 || seen.Lost() < 0.02 // a lane that waits for another sleeps, and may move
	return float64(steps) / took.Seconds(), clean, err
}

// Compare trains the pipeline in several ways, in turns: one thread naive (no look-ahead, no prefetch), one thread with software prefetch, an S lane beside a D lane,
// two D lanes. All of them do the same steps, so all must end in the same bits.
func Compare(ctx context.Context, o CompareOptions) (c Comparison, err error) {
	top := smtpool.Discover()
	ways := []Way{
		{Name: "one thread, naive", Lanes: "d=1,s=0"},
		{Name: "one thread, software prefetch", Lanes: "d=1,s=0", Prefetch: true},
	}
	if len(top.CPUs) > 1 {
		ways = append(ways, Way{Name: "the pair: S lane beside D lane", Lanes: "d=1,s=1", Prefetch: true, Look: -1}, Way{Name: "two D lanes on two cores", Lanes: "d=2,s=0", Prefetch: true, Look: -1})
	}
	c = Comparison{Label: o.Label}
	var rs []*runner
	defer func() {
		for _, r := range rs {
			err = errors.Join(err, r.e.Close())
		}
	}()
	for _, w := range ways {
		opt := o.Options
		opt.Lanes, opt.LookAhead, opt.Steps, opt.Out = w.Lanes, w.Look, 1<<40, "none"
		if w.Look < 0 {
			opt.LookAhead = o.LookAhead
		}
		plan, _, err := Prepare(opt)
		if err != nil {
			return c, err
		}
		if w.Lanes == "d=2,s=0" && plan.Lanes.D < 2 {
			continue // the file has one part: a second D lane would have nothing to do
		}
		pl := plan.Placement()
		if w.Lanes == "d=1,s=1" && o.Siblings != [2]int{} {
			pl.CPUs, pl.Spin = []int{o.Siblings[1], o.Siblings[0]}, spinLooks
		}
		w.Look, w.CPUs, w.Picked = pl.LookAhead, pl.CPUs, w.Prefetch && plan.Lanes.String() == plan.picks().String()
		e, err := exec.New(plan.Program(nil), pl)
		if err != nil {
			return c, err
		}
		rs = append(rs, &runner{w, plan, e})
		c.Pipeline = plan.Pipe.Name
		c.Bytes, _ = plan.Bytes()
	}
	do := func(steps int64) (perS []float64, clean bool, err error) {
		clean = true
		for k := range rs {
			i := (k + int(c.Steps/max(1, steps))) % len(rs)
			if perS == nil {
				perS = make([]float64, len(rs))
			}
			var ok bool
			if perS[i], ok, err = rs[i].chunk(ctx, steps); err != nil {
				return nil, false, fmt.Errorf("%s: %w", rs[i].way.Name, err)
			}
			clean = clean && ok
		}
		c.Steps += steps
		return perS, clean, ctx.Err()
	}
	first, _, err := do(128) // warms up, and passes two steps whose stages are timed
	if err != nil {
		return c, err
	}
	c.Chunk = max(1, int64(first[0]*o.Window.Seconds()))
	out := make([][]float64, len(rs))
	naive, tuned := make([][]float64, len(rs)), make([][]float64, len(rs))
	var broken error
	var last []float64
	start, over := time.Now(), false
	c.Quality = measure.Repeat(nil, o.Reps, func(int) bool {
		over = over || o.Limit > 0 && len(naive[0]) > 0 && time.Since(start) > o.Limit
		if broken != nil || over {
			return true
		}
		var clean bool
		last, clean, broken = do(c.Chunk)
		return clean
	}, func() {
		if over {
			return
		}
		for i, v := range last {
			out[i], naive[i], tuned[i] = append(out[i], v), append(naive[i], v/last[0]), append(tuned[i], v/last[1])
		}
	})
	if broken != nil {
		return c, broken
	}
	c.Quality.Repetitions = len(naive[0])
	c.Same = true
	for i, r := range rs {
		r.way.PerS, r.way.Naive, r.way.Tuned = measure.Of(out[i]), measure.Of(naive[i]), measure.Of(tuned[i])
		r.way.Weights, r.way.State = r.plan.Store.Hashes()
		c.Same = c.Same && r.way.Weights == rs[0].way.Weights && r.way.State == rs[0].way.State
		c.Ways = append(c.Ways, r.way)
	}
	c.balance(rs)
	return c, nil
}

// picks is the placement that the planner chooses where it is free to.
func (p *Plan) picks() Lanes {
	was := p.Pipe.Place
	defer func() { p.Pipe.Place = was }()
	p.Pipe.Place.DLanes, p.Pipe.Place.SLanes = AutoInt{Auto: true}, AutoInt{Auto: true}
	return place(p)
}

// balance adds up the measured shares of the stages that the pair runs on its S lane.
func (c *Comparison) balance(rs []*runner) {
	var pair, one *runner
	for _, r := range rs {
		switch r.way.Lanes {
		case "d=1,s=1":
			pair = r
		case "d=1,s=0":
			one = r // the one with prefetch
		}
	}
	if pair == nil || one == nil {
		return
	}
	s, all := 0.0, 0.0
	shares := one.e.Shares()
	for _, n := range pair.plan.Nodes {
		share, ok := shares[n.Name]
		if !ok {
			continue
		}
		all += share
		if pair.plan.LaneOf(n) != "D0" {
			s += share
		}
	}
	if all > 0 {
		c.S = s / all
		c.Bound = 1 / max(c.S, 1-c.S)
	}
}
