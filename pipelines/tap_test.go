package pipelines_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/stages/wire"
)

const tapText = "parts: 2\ndata: {source: synthetic, task: clusters, rows: 30, features: 4, classes: 3}\nstages:\n  - batches: {batch: 7}\n" +
	"  - dense: {units: 5, act: tanh, out: hidden}\n  - dense: {units: 3}\n  - softmax_xent: {}\n  - sgd: {lr: 0.1}\n"

// TestTap records edges beside the inputs: the same numbers, of every part, and not one bit of the run is another.
func TestTap(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "p.yaml")
	write := func(more string) {
		if err := os.WriteFile(file, []byte(tapText+more+"run: {steps: 12}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	want := train(t, pipelines.Options{File: file, LookAhead: -1})
	write("  - tap: {in: [x, y, hidden], every: 3, gradients: true}\n  - tap: {name: other, in: x}\n  - commit: {record: inputs}\n")
	run := filepath.Join(dir, "run")
	o := pipelines.Options{File: file, LookAhead: 2, Lanes: "d=2,s=1", Out: run, StopAfter: 7}
	train(t, o)
	o.Resume, o.StopAfter = true, 0
	if got := train(t, o); bits(got) != bits(want) {
		t.Errorf("tapped: %s, want %s", bits(got), bits(want))
	}
	type key struct {
		step int64
		part int32
	}
	inputs := map[key][]float32{}
	frames := func(name string, f func(fr *wire.Frame)) {
		t.Helper()
		if err := pipelines.Frames(filepath.Join(run, name), 0, math.MaxInt64, func(_ string, _ int64, fr *wire.Frame) error {
			if fr.Kind == wire.Edge || fr.Kind == wire.Inputs {
				f(fr)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	frames(pipelines.StreamDir, func(fr *wire.Frame) { inputs[key{fr.Step, fr.Part}] = slices.Clone(fr.Tensors[0].F32) })
	n, m := 0, 0
	frames("tap", func(fr *wire.Frame) {
		var names []string
		for _, x := range fr.Tensors {
			names = append(names, x.Name)
		}
		if got := strings.Join(names, " "); got != "x y hidden d hidden" || fr.Name != "tap" || fr.Step%3 != 0 {
			t.Errorf("step %d: %s holds %s", fr.Step, fr.Name, got)
		}
		if !slices.Equal(fr.Tensors[0].F32, inputs[key{fr.Step, fr.Part}]) {
			t.Errorf("step %d, part %d: x is not the input", fr.Step, fr.Part)
		}
		if !slices.ContainsFunc(fr.Tensors[3].F32, func(v float32) bool { return v != 0 }) {
			t.Errorf("step %d: the gradient is zero", fr.Step)
		}
		n++
	})
	frames("other", func(*wire.Frame) { m++ })
	if n != 8 || m != 24 || len(inputs) != 24 {
		t.Errorf("%d frames of one tap, %d of the other, %d of inputs", n, m, len(inputs))
	}
}

// TestRetention bounds the stream: what is left of it is replayed from a checkpoint.
func TestRetention(t *testing.T) {
	dir := t.TempDir()
	file, run := filepath.Join(dir, "p.yaml"), filepath.Join(dir, "run")
	text := strings.ReplaceAll(strings.ReplaceAll(tapText, "units: 5", "units: 3000"), "features: 4", "features: 40") +
		"  - commit: {record: gradients, segment_mib: 1, keep_mib: 3}\nrun: {steps: 20, checkpoint_every: 2}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := train(t, pipelines.Options{File: file, LookAhead: -1, Out: run})
	size := int64(0)
	names, err := filepath.Glob(filepath.Join(run, pipelines.StreamDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		st, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 4<<20 || len(names) < 2 {
		t.Errorf("%d bytes in %d files", size, len(names))
	}
	if d := replayed(t, pipelines.ReplayOptions{Dir: run, From: -1}, want); d.From == 0 {
		t.Errorf("started after step %d, of which nothing is left", d.From)
	}
	if _, err := pipelines.Replay(context.Background(), pipelines.ReplayOptions{Dir: run, From: 4}); err == nil {
		t.Error("a replay from a step that is not in the stream any more")
	}
}
