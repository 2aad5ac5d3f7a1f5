package pipelines

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/stages"
)

// A StepTime is what a step over a link is to take, from measurements of this machine, this pipeline and the bus.
type StepTime struct {
	Workers int     `json:"workers"` // each with a core of its own
	Rate    float64 `json:"flops_per_s"`
	Latency float64 `json:"latency_seconds"` // of a message
	Bytes   float64 `json:"bytes_per_s"`     // of the bus
	Sent    float64 `json:"link_bytes_per_step"`

	Compute float64 `json:"compute_seconds"` // forward, loss and backward of the parts, as far as they are not beside each other
	Wire    float64 `json:"wire_seconds"`    // making frames, sending and reading them, weights once and all parts
	Rest    float64 `json:"rest_seconds"`    // gather, reduction, update
	Step    float64 `json:"step_seconds"`    // of all; part of the wire goes on beside the computation where there are several parts

	Batch int     `json:"batch"`                // examples a step
	Even  float64 `json:"even_batch,omitempty"` // the batch at which a step takes twice as long as on so many lanes of one process: the wire decides below. 0: at each size
}

// PredictStep is Plan.Predict for what the options name, o.Link being the link. Even is measured anew near where it seems to be.
func PredictStep(ctx context.Context, o Options) (StepTime, error) {
	p, dir, err := Prepare(o)
	if err != nil {
		return StepTime{}, err
	}
	base := p.Base()
	m, pr, err := p.predict(ctx, dir, base, o.Link)
	if err != nil {
		return pr, err
	}
	// A small batch is not computed at the rate of a large one, and what is left when a step in one process is taken from one over a link varies: the median of
	// three measurements near.
	near, batch := []float64{pr.Even}, m.batch
	for range 3 {
		parts := float64(p.Pipe.Parts)
		b := min(max(math.Ceil(pr.Even/parts-0.5), 1)*parts, 4*float64(pr.Batch))
		if pr.Even == 0 {
			break
		}
		if math.Abs(math.Log(b/batch)) > math.Log(1.6) {
			near = near[:0] // they were far
		} else {
			b = batch
		}
		q, at := p, dir
		if b != m.batch {
			so := o
			if so.Sets = p.withBatch(o.Sets, int(b)); so.Sets == nil {
				break
			}
			if q, at, err = Prepare(so); err != nil {
				break // there are not as many examples, or no memory for them
			}
		}
		_, got, err := q.predict(ctx, at, base, o.Link)
		if err != nil {
			return pr, err
		}
		near = append(near, got.Even)
		slices.Sort(near)
		batch, pr.Even = b, near[len(near)/2]
	}
	return pr, nil
}

// withBatch are the settings that make a step's batch another, or nil.
func (p *Plan) withBatch(sets []string, batch int) []string {
	for _, n := range p.Nodes {
		if v := reflect.Indirect(reflect.ValueOf(n.Cfg)); n.Def.Room == stages.Gather && v.Kind() == reflect.Struct && v.FieldByName("Batch").IsValid() {
			return append(slices.Clone(sets), fmt.Sprintf("stages.%s.batch=%d", n.Def.Name, batch))
		}
	}
	return nil
}

// Predict measures and predicts. It takes some seconds, or a few steps where they are long.
//
// Of P parts on N workers with compute time c each, w for the weights and x for a part there and its result back, a step takes
// rest + w + x + max(ceil(P/N)·c, c + (P-1)·x): either the workers or the wire are never idle between the first part and the last result. It takes no less than
// all that is to be computed on the CPUs of this machine. rest, and how w and x share the wire, are measured without the pool; c, and how long the wire takes
// in all, by steps with one worker: threads that wake each other, and a broker on the same CPUs, are in it.
//
// `go run ./bench -works L` and BenchmarkStepOverALink print measured over predicted.
func (p *Plan) Predict(ctx context.Context, dir string, l *Link) (StepTime, error) {
	_, pr, err := p.predict(ctx, dir, p.Base(), l)
	return pr, err
}

// timing is what a step over a link is made of, in seconds: c for a part's computation, w for the weights over the wire, x for a part and its result, of which
// in grows with the batch.
type timing struct{ parts, workers, batch, c, w, x, in, rest float64 }

// at is how long a step with that batch takes, and how long with as many lanes in one process.
func (t timing) at(batch float64) (step, local float64) {
	grown := batch / t.batch
	c, x := t.c*grown, t.x+t.in*(grown-1)
	rounds := math.Ceil(t.parts / t.workers)
	step = max(t.rest+t.w+x+max(rounds*c, c+(t.parts-1)*x), (t.rest+t.w+t.parts*(x+c))/float64(runtime.NumCPU()))
	return step, rounds*c + t.rest
}

// even is the batch at which a step takes twice as long as in one process, 0 where none does.
func (t timing) even() float64 {
	lo, hi := -20.0, 60.0 // powers of two
	wire := func(b float64) bool {
		step, local := t.at(math.Exp2(b))
		return step > 2*local
	}
	if wire(hi) {
		return 0
	}
	for range 60 {
		if mid := (lo + hi) / 2; wire(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return math.Exp2(hi)
}

// predict is Predict with subjects below base.
func (p *Plan) predict(ctx context.Context, dir, base string, l *Link) (t timing, pr StepTime, err error) {
	pr = StepTime{Workers: max(l.Local, 1)}
	if p.Data != nil && p.Data.Live != nil {
		return t, pr, Place{File: p.Pipe.File}.finding("examples come from a link: how long a step waits for them can't be measured ahead", "measure a file with the same model and data of its own")
	}
	took, rest, err := p.rehearse(ctx, dir)
	if err != nil {
		return t, pr, err
	}
	parts := float64(p.Pipe.Parts)
	mid := func(f func(pool.Took) float64) float64 {
		var vs []float64
		for _, t := range took {
			vs = append(vs, f(t))
		}
		slices.Sort(vs)
		return vs[len(vs)/2]
	}
	wBytes := mid(func(t pool.Took) float64 { return float64(t.WeightsBytes) })
	inBytes := mid(func(t pool.Took) float64 { return float64(t.WorkBytes) }) / parts
	outBytes := mid(func(t pool.Took) float64 { return float64(t.ResultBytes) }) / parts
	big := max(wBytes, inBytes, outBytes, 64<<10)
	ts, err := pool.MeasureBus(l.Bus, base, 0, int(wBytes), int(inBytes), int(outBytes), int(big))
	if err != nil {
		return t, pr, err
	}
	over := func(i int) float64 { return ts[i].Seconds() }
	pr.Latency, pr.Bytes = over(0), big/max(over(4)-over(0), 1e-9)
	w := over(1) + mid(func(t pool.Took) float64 { return t.Weights.Seconds() })
	in := mid(func(t pool.Took) float64 { return t.Work.Seconds() }) / parts
	x := over(2) + over(3) + in + mid(func(t pool.Took) float64 { return t.Result.Seconds() })/parts
	in += inBytes / pr.Bytes // of the wire, the examples alone grow with the batch
	one, c, err := p.withOne(ctx, dir, base, l)
	if err != nil {
		return t, pr, err
	}
	k := (one - rest - parts*c) / (w + x)
	if c < k*x {
		k = (one - rest - c) / (w + parts*x)
	}
	if k > 0.5 { // less would be an accident: the wire can't be that much quicker than alone
		w, x, in = k*w, k*x, k*in
	}

	pr.Batch = p.examples()
	t = timing{parts, float64(pr.Workers), float64(max(pr.Batch, 1)), c, w, x, in, rest}
	pr.Rate = float64(p.partFlops()) / c
	pr.Sent = wBytes + parts*(inBytes+outBytes)
	pr.Compute, pr.Wire, pr.Rest = math.Ceil(parts/t.workers)*c, w+parts*x, rest
	pr.Step, _ = t.at(t.batch)
	if pr.Batch > 0 {
		pr.Even = t.even()
	}
	return t, pr, nil
}

// stopwatch is a worker that tells how long its parts took.
type stopwatch struct {
	*exec.Worker
	mu   sync.Mutex
	took []float64
}

func (s *stopwatch) Compute(ctx context.Context) error {
	begin := time.Now()
	err := s.Worker.Compute(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, time.Since(begin).Seconds())
	return err
}

// later is the median of all but the first third: until then a worker joins and buffers are made.
func later(took []float64) float64 {
	took = slices.Clone(took[min(len(took)/3, len(took)-1):])
	slices.Sort(took)
	return took[len(took)/2]
}

// withOne is what a step over the link takes with one worker in this process, on copies of the plan, with subjects below base, and what a part takes to
// compute meanwhile.
func (p *Plan) withOne(ctx context.Context, dir, base string, l *Link) (seconds, part float64, err error) {
	quiet := &Link{Bus: l.Bus, Log: zerolog.Nop(), Times: l.Times}
	base += ".measure." + pool.NewRunID().String()
	options := func(p *Plan) (pool.Options, error) {
		o, err := p.poolOptions(quiet)
		o.Base = base
		return o, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var ended error
	defer func() {
		cancel()
		wg.Wait()
		err = errors.Join(ended, err)
	}()
	far, err := NewPlan(p.Pipe, dir, p.Data)
	if err != nil {
		return 0, 0, err
	}
	fo, err := options(far)
	if err != nil {
		return 0, 0, err
	}
	w, err := exec.NewWorker(far.Program(func() {}))
	if err != nil {
		return 0, 0, err
	}
	clock := &stopwatch{Worker: w}
	wg.Go(func() {
		_, err := pool.NewWorker(fo, clock).Run(ctx, false)
		ended = errors.Join(err, w.Close())
	})
	plan, err := NewPlan(p.Pipe, dir, p.Data)
	if err != nil {
		return 0, 0, err
	}
	o, err := options(plan)
	if err != nil {
		return 0, 0, err
	}
	o.Run, o.Epoch = pool.NewRunID(), 1
	c, err := pool.NewCoordinator(o)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	pl := plan.Lanes.placement()
	pl.Remote = c
	e, err := exec.New(plan.Program(func() {}), pl)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	defer context.AfterFunc(ctx, e.Stop)()
	const long, least, most = 700 * time.Millisecond, 6, 2000
	var took []float64
	begin := time.Now()
	last := begin
	if err := e.Run(ctx, p.Steps, 1, func(exec.Outcome) {
		now := time.Now()
		took = append(took, now.Sub(last).Seconds())
		if last = now; len(took) >= least && now.Sub(begin) >= long || len(took) >= most {
			e.Stop()
		}
	}); err != nil {
		return 0, 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	clock.mu.Lock()
	defer clock.mu.Unlock()
	return later(took), later(clock.took), nil
}

// partFlops is the arithmetic of a part where a worker does it.
func (p *Plan) partFlops() (n int64) {
	for _, node := range p.Nodes {
		if r := node.Def.Room; node.Twin != nil || r == stages.Compute || r == stages.Loss {
			n += node.Flops
		}
	}
	return n
}

// examples is the number of examples in a step.
func (p *Plan) examples() int {
	for _, n := range p.Nodes {
		if n.Def.Room == stages.Gather && len(n.Bound.Out) > 0 && n.Bound.Out[0].Dims.Rank > 0 {
			return n.Bound.Out[0].Dims.Dims[0] * p.Pipe.Parts
		}
	}
	return 0
}

// rehearse takes some steps as over a link, without a bus, on a copy of the plan. rest is what a step takes beside its parts.
func (p *Plan) rehearse(ctx context.Context, dir string) (took []pool.Took, rest float64, err error) {
	var cuts [2]*pool.Cut
	var plans [2]*Plan
	for i := range plans {
		if plans[i], err = NewPlan(p.Pipe, dir, p.Data); err != nil {
			return nil, 0, err
		}
		if cuts[i], err = plans[i].Cut(); err != nil {
			return nil, 0, err
		}
	}
	w, err := exec.NewWorker(plans[1].Program(func() {}))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	r := pool.NewRehearsal(cuts[0], cuts[1], w)
	pl := plans[0].Lanes.placement()
	pl.Remote = r
	e, err := exec.New(plans[0].Program(func() {}), pl)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	defer context.AfterFunc(ctx, e.Stop)()
	const long, least, most = 700 * time.Millisecond, 6, 2000
	var ends []time.Time
	begin := time.Now()
	if err := e.Run(ctx, p.Steps, 1, func(exec.Outcome) {
		now := time.Now()
		if ends = append(ends, now); len(ends) >= least && now.Sub(begin) >= long || len(ends) >= most {
			e.Stop()
		}
	}); err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	took = r.Steps()
	if len(took) < 3 {
		return nil, 0, stages.Finding{File: p.Pipe.File, Msg: "the run is too short to measure a step", Fix: "run.steps: 4 or more"}
	}
	var rests []float64
	for i := 1; i < min(len(ends), len(took)); i++ {
		t := took[i]
		rests = append(rests, (ends[i].Sub(ends[i-1]) - t.Compute - t.Weights - t.Work - t.Result).Seconds())
	}
	slices.Sort(rests)
	return took[1:], max(rests[len(rests)/2], 0), nil
}
