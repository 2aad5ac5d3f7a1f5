package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
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
	{"W4", "GPT of 0.8 M weights on characters, AdamW", twoLanes, []rival{{"torch", 4}}},
	{"W5", "microgpt, 4192 weights, one name a step, Adam", oneLane, []rival{{"c", 2}, {"torch", 80}, {"python", 10000}}},
	{"W6", "DLRM, 26 tables of 1,000,000 x 16, batch 128, SGD", []string{"d=1,s=0", "d=2,s=0"}, []rival{{"torch-sparse", 5}}},
	{"W7", "MLP 784-128-10, batch 64, SGD", twoLanes, []rival{{"numpy", 0}, {"torch", 4}}},
	{"W8", "GPT-2 124M, batch 4 of 64 tokens, AdamW", []string{"d=1,s=0", "d=2,s=0"}, []rival{{"torch", 3}}},
}

// forever is a number of steps that no measurement reaches: schedules stay at their beginning.
const forever = 1 << 40

// own is vTPU in this process.
type own struct {
	engine *exec.Engine
	bytes  int64 // planned: weights, state and messages
}

// openOwn makes the engine of a pipeline file. sets are assignments as of vtpu run --set.
func openOwn(file, lanes string, sets []string) (*own, error) {
	runtime.GC() // the engine before may have been large
	p, _, err := pipelines.Prepare(pipelines.Options{File: file, Sets: sets, Lanes: lanes, Steps: forever, LookAhead: -1})
	if err != nil {
		return nil, err
	}
	e, err := exec.New(p.Program(nil), p.Placement())
	if err != nil {
		return nil, err
	}
	store, messages := p.Bytes()
	return &own{e, store + messages}, nil
}

func (o *own) run(steps int64) (seconds, loss float64, err error) {
	start := time.Now()
	err = o.engine.Run(context.Background(), o.engine.Version()+steps, forever, func(r exec.Outcome) { loss = r.Loss })
	return time.Since(start).Seconds(), loss, err
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
		vs = append(vs, variant{lanes, func() (side, error) { return openOwn(w.file(root), lanes, sets) }})
	}
	return vs
}

// usesText says whether a text may take the place of the work's own.
func (w work) usesText() bool { return w.id == "W4" || w.id == "W8" }
