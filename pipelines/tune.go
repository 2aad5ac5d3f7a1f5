package pipelines

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/smtpool"
	"vtpu/stages/disk"
)

// A Trial is one way to run a pipeline on this machine, and how long a step took.
type Trial struct {
	Lanes     string  `json:"lanes"`
	LookAhead int     `json:"look_ahead"`
	Seconds   float64 `json:"seconds_per_step"` // median of the rounds
	Spread    float64 `json:"spread"`           // slowest round less the fastest, as a share of the median

	d, s   int
	rounds []float64
}

// Tuned is tune.json: what was tried and what was chosen. The choice decides when a run ends, never in which bits.
type Tuned struct {
	Trials    []Trial `json:"trials"` // the fastest first
	Lanes     string  `json:"lanes"`
	LookAhead int     `json:"look_ahead"`
}

// TuneFile is the name of Tuned in a run directory.
const TuneFile = "tune.json"

// tuneRounds is how often each placement gets its turn, tuneTime how long a turn takes (two steps at least).
const (
	tuneRounds = 3
	tuneTime   = 100 * time.Millisecond
)

// trials are the placements worth a try: no more lanes than parts or CPUs, steps gathered ahead where something runs beside gather. Lanes share a single part, if
// none of them is an S lane.
func (p *Plan) trials() []Trial {
	avail := min(len(smtpool.CPUs()), runtime.GOMAXPROCS(0))
	looks := []int{0, 1, 2}
	if l := p.Pipe.Place.LookAhead; !slices.Contains(looks, l) {
		looks = append(looks, l)
	}
	var ds []int
	for d := 1; d <= min(p.Pipe.Parts, avail); d++ {
		ds = append(ds, d)
	}
	if p.Pipe.Parts == 1 {
		for d := 2; d < avail; d *= 2 {
			ds = append(ds, d)
		}
		ds = append(ds, avail)
	}
	ds = slices.Compact(ds)
	var ts []Trial
	for _, d := range ds {
		for s := 0; s <= 2 && d+s <= avail; s++ {
			if d > p.Pipe.Parts && s > 0 {
				continue
			}
			for _, look := range looks {
				if s == 0 && (d == 1 || p.Pipe.Parts == 1) && look > 0 {
					continue
				}
				ts = append(ts, Trial{Lanes: Lanes{D: d, S: s}.String(), LookAhead: look, d: d, s: s})
			}
		}
	}
	return ts
}

// Tune measures the placements of a plan and uses it up: its weights are those of some steps further on.
func (p *Plan) Tune(ctx context.Context) (*Tuned, error) {
	ts := p.trials()
	for range tuneRounds { // in turns, so that a slow moment of the machine meets all of them
		for i := range ts {
			sec, err := p.try(ctx, ts[i].d, ts[i].s, ts[i].LookAhead, tuneTime)
			if err != nil {
				return nil, err
			}
			ts[i].rounds = append(ts[i].rounds, sec)
		}
	}
	for i := range ts {
		r := ts[i].rounds
		slices.Sort(r)
		ts[i].Seconds = r[len(r)/2]
		ts[i].Spread = (r[len(r)-1] - r[0]) / ts[i].Seconds
	}
	slices.SortStableFunc(ts, func(a, b Trial) int {
		if a.Seconds < b.Seconds {
			return -1
		}
		return 1
	})
	return &Tuned{Trials: ts, Lanes: ts[0].Lanes, LookAhead: ts[0].LookAhead}, nil
}

// try runs steps on some lanes for about so long and returns the time of one.
func (p *Plan) try(ctx context.Context, d, s, look int, long time.Duration) (seconds float64, err error) {
	was := p.Pipe.Place
	p.Pipe.Place.DLanes, p.Pipe.Place.SLanes, p.Pipe.Place.LookAhead = AutoInt{N: d}, AutoInt{N: s}, look
	lanes := place(p)
	p.Pipe.Place = was
	e, err := exec.New(p.Program(func() {}), lanes.placement())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	run := func(n int64) (float64, error) {
		start := time.Now()
		err := e.Run(ctx, e.Version()+n, 1<<40, func(exec.Outcome) {})
		return time.Since(start).Seconds(), err
	}
	if _, err := run(2); err != nil {
		return 0, err
	}
	one, err := run(2)
	if err != nil {
		return 0, err
	}
	n := max(2, int64(long.Seconds()/(one/2)))
	all, err := run(n)
	return all / float64(n), err
}

// tuned measures, and makes the plan again with the fastest placement.
func tuned(ctx context.Context, plan *Plan, o Options, base string) (*Plan, *Tuned, error) {
	t, err := plan.Tune(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("tune: %w", err)
	}
	plan, err = chosen(plan, o, base, t)
	return plan, t, err
}

// chosen plans anew with a choice.
func chosen(plan *Plan, o Options, base string, t *Tuned) (*Plan, error) {
	o.Lanes, o.LookAhead = t.Lanes, t.LookAhead
	if err := apply(plan.Pipe, o); err != nil {
		return nil, err
	}
	data := plan.Data
	*plan = Plan{Pipe: plan.Pipe} // the weights may be large: let them go before there are others
	return NewPlan(plan.Pipe, base, data)
}

// earlier is the choice that a run to be resumed was begun with, or nil.
func earlier(o Options, plan *Plan) *Tuned {
	name := o.Out
	if name == "" {
		name = choose(plan.Pipe.Name, true)
	}
	var t Tuned
	if rundir.ReadJSON(disk.OS{}, filepath.Join(name, TuneFile), &t) != nil || t.Lanes == "" || t.LookAhead < 0 {
		return nil // begun without, or elsewhere: measure now
	}
	return &t
}

// A TuneWatcher is a Watcher that is also told what was tried and chosen, before the run starts.
type TuneWatcher interface{ Tuned(t *Tuned) }
