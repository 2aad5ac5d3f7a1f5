package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A rival is a peer of a work and how many times faster vTPU must be; 0 is no demand.
type rival struct {
	peer string
	must float64
}

// A work is one row of the comparison.
type work struct {
	id, what string
	lanes    []string // placements to try; the last is the likeliest to be the best
	rivals   []rival
}

var (
	oneLane  = []string{"d=1,s=0"}
	twoLanes = []string{"d=1,s=0", "d=2,s=1", "d=2,s=0"}
)

// works are the pipelines of pipelines/works/, each with its peers.
var works = []work{
	{"W1", "one weight, MSE, SGD, batch 1", oneLane, []rival{{"python", 1}, {"numpy", 0}, {"torch", 300}}},
	{"W2", "linear 1024 to 1, batch 32, MSE, SGD", oneLane, []rival{{"numpy", 5}, {"torch", 25}}},
	{"W3", "single-head attention, batch 16 of 64 x 64, MSE, Adam", twoLanes, []rival{{"numpy", 0}, {"torch", 5}}},
	{"W4", "GPT of 0.8 M weights on characters, AdamW", twoLanes, []rival{{"torch", 4}, {"c", 1}, {"c+openblas", 1}}},
	{"W5", "microgpt, 4192 weights, one name a step, Adam", oneLane, []rival{{"c", 2}, {"torch", 80}, {"python", 10000}}},
	{"W6", "DLRM, 26 tables of 1,000,000 x 16, batch 128, SGD", []string{"d=1,s=0", "d=2,s=0"}, []rival{{"torch-sparse", 5}}},
	{"W7", "MLP 784-128-10, batch 64, SGD", twoLanes, []rival{{"numpy", 0}, {"torch", 4}}},
	{"W8", "GPT-2 124M, batch 4 of 64 tokens, AdamW", []string{"d=1,s=0", "d=2,s=0"}, []rival{{"torch", 3}, {"c", 1}, {"c+openblas", 1}}},
}

// forever is a number of steps that no measurement reaches: schedules stay at their beginning. A work whose run has an end is not measured that way: at a
// rate that never goes down softmax becomes so sharp that its small numbers are denormal, which is slow, and which W5 as defined does not meet.
const forever = 1 << 40

// own is vTPU in this process.
type own struct {
	engine *exec.Engine
	store  *weights.Store
	bytes  int64           // planned: weights, state and messages
	flops  float64         // of a step
	steps  int64           // of a run
	begin  []tensor.Tensor // what the store holds at the beginning
	fresh  int64           // steps after which the store holds that again and the steps go on; 0: never
}

// openOwn makes the engine of a pipeline file. sets are assignments as of vtpu run --set.
func openOwn(file, lanes string, sets []string, steps int64) (*own, error) {
	runtime.GC() // the engine before may have been large
	o := &own{steps: steps}
	if steps == 0 {
		o.steps = forever
	}
	p, _, err := pipelines.Prepare(pipelines.Options{File: file, Sets: sets, Lanes: lanes, Steps: o.steps, LookAhead: -1})
	if err != nil {
		return nil, err
	}
	prog := p.Program(nil)
	if o.engine, err = exec.New(prog, p.Placement()); err != nil {
		return nil, err
	}
	o.store = prog.Store
	store, messages := p.Bytes()
	o.bytes, o.flops = store+messages, p.MeanFlops()
	if steps > 0 {
		o.keep()
	}
	return o, nil
}

// keep remembers what the store holds.
func (o *own) keep() {
	for _, e := range o.entries() {
		t := tensor.New(e.T.DType, e.T.Shape)
		copy(t.F32, e.T.F32)
		copy(t.I32, e.T.I32)
		o.begin = append(o.begin, t)
	}
}

func (o *own) entries() []*weights.Param {
	return append(o.store.All(weights.Weight), o.store.All(weights.State)...)
}

// restart begins the run anew.
func (o *own) restart() {
	o.again()
	o.store.SetVersion(0)
	o.engine.Seek()
}

// again makes the store what it was at the beginning.
func (o *own) again() {
	for i, e := range o.entries() {
		copy(e.T.F32, o.begin[i].F32)
		copy(e.T.I32, o.begin[i].I32)
	}
}

func (o *own) run(steps int64) (seconds, loss float64, err error) {
	for steps > 0 {
		if o.engine.Version() == o.steps {
			o.restart()
		}
		n := min(steps, o.steps-o.engine.Version())
		if at := o.engine.Version(); o.fresh > 0 {
			if at%o.fresh == 0 && at > 0 {
				o.again()
				o.engine.Seek()
			}
			n = min(n, o.fresh-at%o.fresh)
		}
		start := time.Now()
		err := o.engine.Run(context.Background(), o.engine.Version()+n, forever, func(r exec.Outcome) { loss = r.Loss })
		seconds += time.Since(start).Seconds()
		if err != nil {
			return seconds, loss, err
		}
		steps -= n
	}
	return seconds, loss, nil
}

func (o *own) close() error {
	err := o.engine.Close()
	o.engine = nil
	return err
}

// file is the pipeline of a work below the repository's root.
func (w work) file(root string) string {
	return filepath.Join(root, "pipelines", "works", fmt.Sprintf("w%s.yaml", w.id[1:]))
}

// variants are vTPU's placements for a work.
func (w work) variants(root string, sets []string) []variant {
	var vs []variant
	for _, lanes := range w.lanes {
		vs = append(vs, variant{lanes, func() (side, error) { return openOwn(w.file(root), lanes, sets, w.steps()) }})
	}
	return vs
}

// most is the number of lanes that the work may use.
func (w work) most() int {
	if slices.Equal(w.lanes, oneLane) {
		return 1
	}
	return 2
}

// usesText says whether a text may take the place of the work's own.
func (w work) usesText() bool { return w.id == "W4" || w.id == "W8" }

// steps is the length of the work's run, which every side begins anew as often as needed, outside of the time; 0 is one run without an end.
func (w work) steps() int64 {
	if w.id == "W5" {
		return 1000
	}
	return 0
}
