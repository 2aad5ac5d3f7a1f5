package lab

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"vtpu/smtpool"
	"vtpu/smtpool/measure"
	"vtpu/smtpool/ports"
	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
)

// ErrOneCPU says that a pair needs two CPUs.
var ErrOneCPU = errors.New("lab: a pair needs two logical CPUs, and this process may use one")

func portsThread(r ruler.Ruler) ports.Thread { return ports.OfRuler(r) }

func (l *Lab) lanes() []*smtpool.Lane { return []*smtpool.Lane{l.D, l.S} }

// A Kept is what two threads keep of their rates beside each other.
type Kept struct {
	Rate     [2]measure.Figure `json:"rate"` // together / alone
	WS       measure.Figure    `json:"ws"`
	Conflict measure.Figure    `json:"conflict"`
}

// kept takes the rates of the cases a alone, b alone, both.
func kept(rates [][][]float64) Kept {
	var ra, rb, ws, cf []float64
	for i := range rates[2] {
		a, b := rates[2][i][0]/rates[0][i][0], rates[2][i][1]/rates[1][i][1]
		w := measure.WeightedSpeedup([]float64{rates[2][i][0], rates[2][i][1]}, []float64{rates[0][i][0], rates[1][i][1]})
		ra, rb, ws, cf = append(ra, a), append(rb, b), append(ws, w), append(cf, measure.Conflict(w))
	}
	return Kept{[2]measure.Figure{measure.Of(ra), measure.Of(rb)}, measure.Of(ws), measure.Of(cf)}
}

// A Step is a way to do a step of work, a block of D and a block of S.
type Step struct {
	Name  string         `json:"name"`
	PerS  measure.Figure `json:"steps_per_s"`
	Naive measure.Figure `json:"over_naive"` // this / one thread naive, of the same repetition
}

// An Alone is what the port model says of one thread that has its core to itself, and what it does.
type Alone struct {
	Cycles    float64 `json:"cycles"`    // of an iteration, measured
	Predicted float64 `json:"predicted"` // 0: no table
	Error     float64 `json:"error"`     // predicted / measured - 1
	Limit     string  `json:"limit,omitempty"`
}

// A PairRow is two workloads on the two lanes.
type PairRow struct {
	Name    string            `json:"name"`
	D       string            `json:"d"`
	S       string            `json:"s"`
	Control bool              `json:"control"` // same kind on both: the negative control
	Kept    Kept              `json:"kept"`
	Model   float64           `json:"model_ws"` // what the port model says of siblings; 0 without a table
	Limit   string            `json:"limit,omitempty"`
	Alone   [2]Alone          `json:"alone"`
	Steps   []Step            `json:"steps,omitempty"`
	Bound   float64           `json:"bound"` // over naive, by the balance of the two stages: (tD + tS) / max(tD, tS)
	Share   float64           `json:"share"` // of the D stage: tD / (tD + tS)
	Counts  [][]smtpool.Count `json:"counts,omitempty"`
	Quality measure.Quality   `json:"quality"`
}

// A Pairs is the result of the workloads.
type Pairs struct {
	Label   string    `json:"label"`
	Bracket Bracket   `json:"probe"`
	Rows    []PairRow `json:"rows"`
	Far     []PairRow `json:"two_cores,omitempty"` // on siblings: the same on two cores, where there are some
	FarCPU  int       `json:"two_cores_cpu"`
	Counter string    `json:"counters"`
}

// PairOptions choose the workloads.
type PairOptions struct {
	N    int     // operations of a body; 0: 250
	D, S float64 // shares of the D lane's program; the S lane's has them swapped; both 0: 80 and 20
	Only bool    // this pair and its controls only
}

// A plan is a row to be measured.
type plan struct {
	name    string
	a, b    *workload.Program
	control bool
	steps   bool
}

// Pairs measures complementary workloads, their negative controls, and for complementary ones the three baselines.
func (l *Lab) Pairs(o PairOptions) (Pairs, error) {
	r := Pairs{Label: l.Label(), FarCPU: -1, Counter: "counted by the PMU"}
	if l.Counter != nil {
		r.Counter = "no counters here (" + l.Counter.Error() + "); see the rulers' losses"
	}
	if l.S == nil {
		return r, ErrOneCPU
	}
	mix := workload.Default
	if o.N > 0 {
		mix.N = o.N
	}
	if o.D > 0 || o.S > 0 {
		mix.D, mix.S = o.D, o.S
	}
	var plans []plan
	d, err := workload.New(mix)
	if err != nil {
		return r, err
	}
	s, err := workload.New(mix.Swap())
	if err != nil {
		return r, err
	}
	plans = append(plans, plan{fmt.Sprintf("%v beside %v", mix, mix.Swap()), d, s, false, true}, plan{"control: twice " + mix.String(), d, d, true, false},
		plan{"control: twice " + mix.Swap().String(), s, s, true, false})
	if !o.Only {
		all := workload.Mix{N: mix.N, D: 1, Seed: 3}
		mem := workload.Mix{N: mix.N, S: 1, Seed: 4}
		pd, err1 := workload.New(all)
		ps, err2 := workload.New(mem)
		chase, err3 := workload.Chains(1, 0)
		if err := errors.Join(err1, err2, err3); err != nil {
			return r, err
		}
		plans = append(plans, plan{"D only beside S only", pd, ps, false, true}, plan{"control: twice D only", pd, pd, true, false},
			plan{"control: twice S only", ps, ps, true, false}, plan{"D only beside one chain of misses", pd, chase, false, true})
	}
	r.Bracket, err = l.bracket(func() error {
		for _, p := range plans {
			row, err := l.pairRow(p, l.lanes())
			if err != nil {
				return err
			}
			r.Rows = append(r.Rows, row)
		}
		return nil
	})
	if err != nil || !l.Siblings() {
		return r, err
	}
	for _, id := range l.Top.Separate() { // two cores, beside the siblings
		if id == l.D.CPU() || id == l.S.CPU() {
			continue
		}
		far := smtpool.NewLane(id, smtpool.LaneLooks)
		defer far.Close()
		r.FarCPU = id
		for _, p := range plans {
			if !p.steps {
				continue
			}
			row, err := l.pairRow(p, []*smtpool.Lane{l.D, far})
			if err != nil {
				return r, err
			}
			r.Far = append(r.Far, row)
		}
		break
	}
	return r, nil
}

func (l *Lab) pairRow(p plan, lanes []*smtpool.Lane) (row PairRow, err error) {
	row = PairRow{Name: p.name, Control: p.control}
	if err := l.stopped(); err != nil {
		return row, err
	}
	a, err := workload.Compile(p.a, l.table(0), l.Top.Has)
	if err != nil {
		return row, err
	}
	defer a.Close()
	b, err := workload.Compile(p.b, l.table(1), l.Top.Has)
	if err != nil {
		return row, err
	}
	defer b.Close()
	row.D, row.S = describe(p.a), describe(p.b)
	cases := []measure.Case{
		{Name: "a", Loops: []measure.Loop{a.Block, nil}}, {Name: "b", Loops: []measure.Loop{nil, b.Block}}, {Name: "pair", Loops: []measure.Loop{a.Block, b.Block}},
	}
	if p.steps { // one step is a block of each
		ap, err := workload.Compile(p.a.WithPrefetch(), l.table(0), l.Top.Has)
		if err != nil {
			return row, err
		}
		defer ap.Close()
		bp, err := workload.Compile(p.b.WithPrefetch(), l.table(1), l.Top.Has)
		if err != nil {
			return row, err
		}
		defer bp.Close()
		na, nb := a.Block(), b.Block()
		both := func(x, y *workload.Loop) measure.Loop {
			return func() int {
				y.Run(nb)
				x.Run(na)
				return 1
			}
		}
		line := &pipe{}
		cases = append(cases, measure.Case{Name: "one thread, naive", Loops: []measure.Loop{both(a, b), nil}},
			measure.Case{Name: "one thread, software prefetch", Loops: []measure.Loop{both(ap, bp), nil}},
			measure.Case{Name: "the pair", Loops: []measure.Loop{line.take(func() { a.Run(na) }), line.give(func() { b.Run(nb) })}})
		rates, q := measure.Alternate(lanes, cases, l.opt.Reps, l.opt.Window)
		row.Kept, row.Quality = kept(rates), q
		for c := 3; c < len(cases); c++ {
			row.Steps = append(row.Steps, Step{cases[c].Name, measure.Of(measure.Column(rates[c], 0)), over(rates[c], rates[3])})
		}
		ta := float64(na) / measure.Of(measure.Column(rates[0], 0)).Median
		tb := float64(nb) / measure.Of(measure.Column(rates[1], 1)).Median
		row.Bound, row.Share = (ta+tb)/max(ta, tb), ta/(ta+tb)
	} else {
		rates, q := measure.Alternate(lanes, cases, l.opt.Reps, l.opt.Window)
		row.Kept, row.Quality = kept(rates), q
	}
	if l.Machine != nil {
		latency, err := l.TableLatency()
		if err != nil {
			return row, err
		}
		ta, tb := l.Machine.OfProgram("a", p.a, a.Vector()), l.Machine.OfProgram("b", p.b, b.Vector())
		m, err := l.Machine.Pair(ta, tb, latency)
		if err != nil {
			return row, err
		}
		row.Model, row.Limit = m.WS, m.Limit
		for i, t := range []ports.Thread{ta, tb} {
			if row.Alone[i], err = l.alone(t, []*workload.Loop{a, b}[i], latency); err != nil {
				return row, err
			}
		}
	}
	if l.Counter == nil {
		row.Counts = l.count(lanes, []measure.Loop{a.Block, b.Block})
	}
	return row, nil
}

// alone compares the model with one thread on the D lane.
func (l *Lab) alone(t ports.Thread, loop *workload.Loop, latency float64) (a Alone, err error) {
	per, _, _, err := l.cycles(l.D, loop.Block)
	if err != nil {
		return a, err
	}
	p, err := l.Machine.Alone(t, latency)
	if err != nil {
		return a, err
	}
	a = Alone{Cycles: 1 / measure.Of(per).Median, Predicted: p.Cycles, Limit: p.Limit}
	a.Error = a.Predicted/a.Cycles - 1
	return a, nil
}

// count runs the pair once more with counters.
func (l *Lab) count(lanes []*smtpool.Lane, loops []measure.Loop) [][]smtpool.Count {
	cs := make([]*smtpool.Counters, len(lanes))
	out := make([][]smtpool.Count, len(lanes))
	for i, lane := range lanes {
		lane.Do(func() { cs[i], _ = smtpool.OpenCounters(smtpool.Events(l.Top)) }) // nil: this lane has none
	}
	measure.Together(lanes, loops, 10*l.opt.Window)
	for i, lane := range lanes {
		if cs[i] != nil {
			lane.Do(func() {
				out[i], _ = cs[i].Read() // a count that can't be read is not shown
				cs[i].Close()
			})
		}
	}
	return out
}

func over(a, b [][]float64) measure.Figure {
	var r []float64
	for i := range a {
		r = append(r, a[i][0]/b[i][0])
	}
	return measure.Of(r)
}

func describe(p *workload.Program) string {
	s := ""
	for k := workload.DAdd; k <= workload.Chase; k++ {
		if n := p.Count(k); n > 0 {
			if s != "" {
				s += ", "
			}
			s += fmt.Sprintf("%d %v", n, k)
		}
	}
	return s
}

// A pipe joins the S lane to the D lane: at most two steps under way. A side that has nothing to do pauses for a moment and returns, so that the
// experiment can end whatever the other side does.
type pipe struct {
	_     [128]byte
	given atomic.Int64
	_     [120]byte
	taken atomic.Int64
	_     [120]byte
}

// A Span is what a lane did at a time, in seconds from the start.
type Span struct {
	Lane  string  `json:"lane"`
	What  string  `json:"what"`
	Begin float64 `json:"begin"`
	End   float64 `json:"end"`
}

const depth = 2

func (p *pipe) give(work func()) measure.Loop {
	return func() int {
		for range 64 {
			if p.given.Load()-p.taken.Load() < depth {
				work()
				p.given.Add(1)
				return 1
			}
			smtpool.Pause(4)
		}
		return 0
	}
}

func (p *pipe) take(work func()) measure.Loop {
	return func() int {
		for range 64 {
			if p.given.Load() > p.taken.Load() {
				work()
				p.taken.Add(1)
				return 1
			}
			smtpool.Pause(4)
		}
		return 0
	}
}

// A Point of the curve: a step is so many misses in k independent chains, and D work that takes as long as the misses do in one chain.
type Point struct {
	Chains int             `json:"chains"`
	Steps  []Step          `json:"steps"`
	Kept   Kept            `json:"kept"`
	Bound  float64         `json:"bound"` // of the pair over naive, by the balance of the two stages
	Tuned  measure.Figure  `json:"pair_over_tuned"`
	Model  float64         `json:"model_ws"`
	Qual   measure.Quality `json:"quality"`
}

// A Curve shows what the second thread gains as the first overlaps more of its misses by itself.
type Curve struct {
	Label    string  `json:"label"`
	Bracket  Bracket `json:"probe"`
	Misses   int     `json:"misses"` // of a step
	DOps     int     `json:"d_ops"`  // of a step
	Points   []Point `json:"points"`
	Timeline []Span  `json:"timeline"` // some steps of the pair with one chain
}

// curveChains are the points of the curve; each divides the misses of a step.
var curveChains = []int{1, 2, 3, 4, 6, 8}

const (
	curveMisses = 48
	dBody       = 480  // D operations of the D loop's body
	fusedMost   = 1920 // D operations of a fused loop's body: more would leave the level 1 instruction cache
)

// Curve measures it.
func (l *Lab) Curve() (Curve, error) {
	r := Curve{Label: l.Label(), Misses: curveMisses}
	if l.S == nil {
		return r, ErrOneCPU
	}
	dp, err := workload.Chains(0, dBody)
	if err != nil {
		return r, err
	}
	d, err := workload.Compile(dp, l.table(0), l.Top.Has)
	if err != nil {
		return r, err
	}
	defer d.Close()
	one, err := workload.Chains(1, 0)
	if err != nil {
		return r, err
	}
	s, err := workload.Compile(one, l.table(1), l.Top.Has)
	if err != nil {
		return r, err
	}
	defer s.Close()
	// D iterations of a step: as long as the misses in one chain.
	rates, _ := measure.Alternate(l.lanes(), []measure.Case{{Name: "d", Loops: []measure.Loop{d.Block, nil}}, {Name: "s", Loops: []measure.Loop{nil, s.Block}}}, 10, l.opt.Window)
	nd := int(math.Round(curveMisses * measure.Of(measure.Column(rates[0], 0)).Median / measure.Of(measure.Column(rates[1], 1)).Median))
	nd = max(1, nd)
	r.DOps = nd * dBody
	r.Bracket, err = l.bracket(func() error {
		for _, k := range curveChains {
			p, err := l.point(k, nd, d)
			if err != nil {
				return err
			}
			r.Points = append(r.Points, p)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Timeline = l.timeline(func() { s.Run(curveMisses) }, func() { d.Run(nd) })
	return r, nil
}

func (l *Lab) point(k, nd int, d *workload.Loop) (p Point, err error) {
	p.Chains = k
	if err := l.stopped(); err != nil {
		return p, err
	}
	sp, err := workload.Chains(k, 0)
	if err != nil {
		return p, err
	}
	s, err := workload.Compile(sp, l.table(1), l.Top.Has)
	if err != nil {
		return p, err
	}
	defer s.Close()
	ns := curveMisses / k
	perS := min(fusedMost, nd*dBody/ns) // D operations after one step of all chains
	fp, err := workload.Chains(k, perS)
	if err != nil {
		return p, err
	}
	f, err := workload.Compile(fp, l.table(1), l.Top.Has)
	if err != nil {
		return p, err
	}
	defer f.Close()
	rest := (nd*dBody - perS*ns) / dBody
	line := &pipe{}
	cases := []measure.Case{
		{Name: "d", Loops: []measure.Loop{func() int { d.Run(nd); return 1 }, nil}},
		{Name: "s", Loops: []measure.Loop{nil, func() int { s.Run(ns); return 1 }}},
		{Name: "both", Loops: []measure.Loop{func() int { d.Run(nd); return 1 }, func() int { s.Run(ns); return 1 }}},
		{Name: "one thread, naive", Loops: []measure.Loop{func() int { s.Run(ns); d.Run(nd); return 1 }, nil}},
		{Name: "one thread, interleaved", Loops: []measure.Loop{func() int {
			f.Run(ns)
			if rest > 0 {
				d.Run(rest)
			}
			return 1
		}, nil}},
		{Name: "the pair", Loops: []measure.Loop{line.take(func() { d.Run(nd) }), line.give(func() { s.Run(ns) })}},
	}
	rates, q := measure.Alternate(l.lanes(), cases, l.opt.Reps, l.opt.Window)
	p.Kept, p.Qual = kept(rates), q
	for c := 3; c < len(cases); c++ {
		p.Steps = append(p.Steps, Step{cases[c].Name, measure.Of(measure.Column(rates[c], 0)), over(rates[c], rates[3])})
	}
	p.Tuned = over(rates[5], rates[4])
	td, ts := 1/measure.Of(measure.Column(rates[0], 0)).Median, 1/measure.Of(measure.Column(rates[1], 1)).Median
	p.Bound = (td + ts) / max(td, ts)
	if l.Machine != nil {
		latency, err := l.TableLatency()
		if err != nil {
			return p, err
		}
		m, err := l.Machine.Pair(l.Machine.OfProgram("d", d.Program, d.Vector()), l.Machine.OfProgram("s", sp, s.Vector()), latency)
		if err != nil {
			return p, err
		}
		p.Model = m.WS
	}
	return p, nil
}

// timeline records some steps of the pair, after some that are not recorded.
func (l *Lab) timeline(give, take func()) []Span {
	const warm, shown = 20, 12
	var given, taken atomic.Int64
	spans := make([][]Span, 2)
	start := time.Now()
	run := func(lane int, name, what string, mine *atomic.Int64, ready func() bool, work func()) func() {
		return func() {
			for i := range warm + shown {
				begin := time.Since(start).Seconds()
				for !ready() { // the other side always gets there: both do the same number of steps
					smtpool.Pause(4)
				}
				at := time.Since(start).Seconds()
				work()
				end := time.Since(start).Seconds()
				mine.Add(1)
				if i >= warm {
					if at-begin > 1e-6 {
						spans[lane] = append(spans[lane], Span{name, "waits", begin, at})
					}
					spans[lane] = append(spans[lane], Span{name, what, at, end})
				}
			}
		}
	}
	l.S.Go(run(1, "S lane", "misses", &given, func() bool { return given.Load()-taken.Load() < depth }, give))
	l.D.Do(run(0, "D lane", "arithmetic", &taken, func() bool { return given.Load() > taken.Load() }, take))
	l.S.Wait()
	return append(spans[0], spans[1]...)
}
