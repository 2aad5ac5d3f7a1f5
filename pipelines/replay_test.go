package pipelines_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/presettest"
	"vtpu/stages"
)

// replayed does a recorded run again and wants its bits.
func replayed(t *testing.T, o pipelines.ReplayOptions, want pipelines.Done) pipelines.Replayed {
	t.Helper()
	d, err := pipelines.Replay(context.Background(), o)
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	if d.Weights != want.Weights || d.State != want.State || d.Match == nil || !*d.Match {
		t.Fatalf("replay ends with %s %s, the run with %s %s (match %v)", d.Weights, d.State, want.Weights, want.State, d.Match)
	}
	return d
}

// learns says whether a pipeline has gradients.
func learns(t *testing.T, name string) bool {
	t.Helper()
	p, _, err := pipelines.Prepare(pipelines.Options{File: name, LookAhead: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		if n.Def.Name == "guard" {
			return true
		}
	}
	return false
}

func TestReplayEqualsLive(t *testing.T) {
	presettest.Short(t)
	for _, name := range presets() {
		t.Run(name, func(t *testing.T) {
			if !learns(t, name) {
				t.Skip("SKIP: learns nothing")
			}
			o := pipelines.Options{File: name, Steps: few[name], Sets: fewer[name], LookAhead: -1}
			want := train(t, o)
			for _, what := range []string{"gradients", "inputs"} {
				o.Record, o.Out, o.Lanes = what, filepath.Join(t.TempDir(), "run"), "d=2,s=1"
				if got := train(t, o); bits(got) != bits(want) {
					t.Fatalf("recording %s changes the bits: %s, want %s", what, bits(got), bits(want))
				}
				n := 0
				if what == "gradients" {
					n = 3
				}
				d := replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1, Verify: n}, want)
				if d.LastLoss != want.LastLoss || d.Steps != want.Steps || what == "gradients" && want.Steps > 2 && len(d.Verified) != 3 {
					t.Errorf("%s: %+v, want the loss %v", what, d, want.LastLoss)
				}
			}
		})
	}
}

// TestReplayOfRandomPipelines records random pipelines by step and by part, on random lanes, stopped and resumed, and replays them from the beginning and from a checkpoint.
func TestReplayOfRandomPipelines(t *testing.T) {
	n := 24
	if testing.Short() {
		n = 6
	}
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 101))
		text := random(r) + "  - commit: {record: " + []string{"gradients", "gradients, per: part", "inputs"}[i%3] + ", zstd: " + []string{"true", "false"}[r.IntN(2)] + "}\n"
		file := filepath.Join(t.TempDir(), "random.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if t.Failed() {
					t.Fatalf("pipeline:\n%s", text)
				}
			}()
			want := train(t, pipelines.Options{File: file, LookAhead: -1, Record: "none"})
			o := pipelines.Options{File: file, LookAhead: r.IntN(3), Lanes: placements[r.IntN(len(placements))], Out: filepath.Join(t.TempDir(), "run"), StopAfter: 1 + r.Int64N(want.Steps-1)}
			train(t, o)
			at := o.StopAfter
			o.StopAfter, o.Resume, o.Lanes = 0, true, placements[r.IntN(len(placements))]
			if got := train(t, o); bits(got) != bits(want) {
				t.Fatalf("recorded and resumed: %s, want %s", bits(got), bits(want))
			}
			replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1}, want)
			if d := replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: at}, want); d.From != at {
				t.Errorf("started after step %d, want %d", d.From, at)
			}
			if d, err := pipelines.Replay(context.Background(), pipelines.ReplayOptions{Dir: o.Out, From: -1, To: at}); err != nil || d.Match == nil || !*d.Match {
				t.Errorf("to step %d: %+v %v", at, d, err)
			}
			if i%3 < 2 {
				replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1, Verify: 2}, want)
			}
		}()
	}
}

func TestWhatIf(t *testing.T) {
	o := pipelines.Options{File: "names", Steps: 20, LookAhead: -1, Record: "gradients", Out: filepath.Join(t.TempDir(), "run")}
	want := train(t, o)
	was := kernel.ISA()
	for _, isa := range kernel.ISAs() {
		replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1, ISA: isa, Verify: 2}, want)
	}
	if err := kernel.SetISA(was); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	d0 := replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1, Paced: true}, want)
	if took := time.Since(begin).Seconds(); d0.Recorded > 0 && took < 0.9*19/d0.Recorded {
		t.Errorf("with the pauses of the run it took %.3f s, the run %.3f", took, 19/d0.Recorded)
	}
	d, err := pipelines.Replay(context.Background(), pipelines.ReplayOptions{Dir: o.Out, From: -1, Sets: []string{"stages.adam.lr=0.02"}})
	if err != nil || d.Weights == want.Weights || d.Match != nil || len(d.WhatIf) != 1 || !strings.Contains(d.WhatIfLabel(), "stages.adam.lr=0.02") {
		t.Errorf("%+v %v", d, err)
	}
	same, err := pipelines.Replay(context.Background(), pipelines.ReplayOptions{Dir: o.Out, From: -1, Sets: []string{"stages.adam.lr=0.01"}})
	if err != nil || same.Weights != want.Weights {
		t.Errorf("with the same rate: %+v %v", same, err)
	}
}

// TestAnUpdateOnlyPipeline is a pipeline of a user that applies a recorded stream with another optimizer.
func TestAnUpdateOnlyPipeline(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	text := "seed: 7\ndata: {source: synthetic, task: clusters, rows: 30, features: 4, classes: 3}\nstages:\n  - batches: {batch: 5}\n  - dense: {units: 3}\n  - softmax_xent: {}\n  - sgd: {lr: 0.1}\nrun: {steps: 12}\n"
	file := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := train(t, pipelines.Options{File: file, LookAhead: -1, Record: "gradients", Out: run})
	for lr, same := range map[string]bool{"0.1": true, "0.2": false} {
		apply := filepath.Join(dir, "apply.yaml")
		text := "data: {source: recorded, path: run/stream}\nstages: [replay_stream: {}, sgd: {lr: " + lr + "}]\nrun: {epochs: 1}\n"
		if err := os.WriteFile(apply, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got := train(t, pipelines.Options{File: apply, LookAhead: -1, Out: filepath.Join(dir, "again"+lr)})
		if got.Steps != 12 || (got.Weights == want.Weights) != same || got.LastLoss != want.LastLoss {
			t.Errorf("lr %s: %+v, want %s", lr, got, want.Weights)
		}
	}
	bad := filepath.Join(dir, "bad.yaml")
	for text, want := range map[string]string{
		"data: {source: recorded, path: run/stream}\nparts: 2\nstages: [replay_stream: {}, sgd: {lr: 1}]\nrun: {steps: 3}\n":                        "parts: 1",
		"data: {source: recorded, path: run}\nstages: [replay_stream: {}, sgd: {lr: 1}]\nrun: {steps: 3}\n":                                         "no recorded stream",
		"data: {source: recorded, path: run/stream}\nstages: [batches: {batch: 1}, sgd: {lr: 1}]\nrun: {steps: 3}\n":                                "batches",
		"data: {source: synthetic, task: clusters, rows: 9, features: 4, classes: 3}\nstages: [replay_stream: {}, sgd: {lr: 1}]\nrun: {steps: 3}\n": "source recorded",
	} {
		if err := os.WriteFile(bad, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err := pipelines.Prepare(pipelines.Options{File: bad, LookAhead: -1})
		var f stages.Finding
		var fs stages.Findings
		if !errors.As(err, &f) && !errors.As(err, &fs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestRecordingAllocatesNothing runs steps while they are recorded, sparse gradients too. What remains are the index and the files of new segments.
func TestRecordingAllocatesNothing(t *testing.T) {
	for _, name := range []string{"names", "clicks"} {
		for _, what := range []string{"inputs", "gradients"} {
			p, _, err := pipelines.Prepare(pipelines.Options{File: name, Steps: 100000, LookAhead: -1, Lanes: "d=1,s=0", Record: what})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.StartRecording(nil, t.TempDir()); err != nil {
				t.Fatal(err)
			}
			e, err := exec.New(p.Program(nil), p.Placement())
			if err != nil {
				t.Fatal(err)
			}
			run := func(n int64) {
				if err := e.Run(context.Background(), e.Version()+n, 1<<40, func(exec.Outcome) {}); err != nil {
					t.Fatal(err)
				}
			}
			run(100)
			const n = 200
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			run(n)
			runtime.ReadMemStats(&b)
			if got := float64(b.Mallocs-a.Mallocs) / n; got > 0.2 {
				t.Errorf("%s, %s: %.2f allocations a step", name, what, got)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
